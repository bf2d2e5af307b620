//! `vr bench object-store`: what a cluster asks of its object store in an hour, counted, beside the formula that predicts it.
//!
//! In this process, without a cluster: the tier chains of all replicas, one of which ships, against the embedded S3 server,
//! which counts. The log is shipped at the default cadence in real time, and a whole number of shipments is counted; a
//! checkpoint is counted by itself. From both an hour is computed: every shipment asks for the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use vr_checkpoint::Snapshot;
use vr_checkpoint::chain::{Chain, Options, TierOptions};
use vr_checkpoint::format::Committed;
use vr_checkpoint::restore::TierKind;
use vr_checkpoint::s3_server::{Server, Tally};
use vr_checkpoint::store::{ObjectStore, S3Store};
use vr_checkpoint::writer::{Identity, Writer};

use super::checkpoint::{self, LINEAGE};
use crate::dev::layout::Cadences;
use crate::output::{self, Format};
use crate::units::{self, show_bytes};

const HOUR: Duration = Duration::from_secs(3_600);
/// Between two looks of a replica that does not ship.
const OBSERVE: Duration = Duration::from_secs(10);
/// Packs are about so long.
const PACK: u64 = 16 << 20;
/// Beside its packs: index, manifest, HEAD.
const WRITES: u64 = 3;
/// HEAD: read back when it was written, and looked at before a collection.
const READS: u64 = 2;
/// What a collection looks through.
const LISTS: u64 = 1;
/// Of an entry beside key and value: its place in the segment and the request around them.
const ENTRY: usize = 44 + 64;
/// For anything that is waited for, beside the cadence.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// How much is written, and how much of it is counted.
#[derive(Debug, Args)]
pub(super) struct ObjectStoreBench {
    /// Number of keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    keys: u64,

    /// Length of the values, which do not compress
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = units::size)]
    size: usize,

    /// So many of a thousand keys change, at random, between two checkpoints
    #[arg(long, value_name = "PER MILLE", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    changed: u64,

    /// Writes a second
    #[arg(long, value_name = "PER SECOND", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,

    /// Number of replicas, one of which ships
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    replicas: u64,

    /// Between two checkpoints in the object store
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = units::positive_duration)]
    checkpoint_interval: Duration,

    /// Between two shipments of the log
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::positive_duration)]
    log_interval: Duration,

    /// Shipments of the log that are counted
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=360))]
    shipments: u32,

    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    counted_seconds: f64,
    shipments: u32,
    /// One checkpoint, as counted.
    checkpoint: Asked,
    /// In an hour, as counted.
    hour: Asked,
    /// In an hour, by the formula.
    formula: Asked,
}

/// Requests by what they cost, and bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Asked {
    writes: f64,
    lists: f64,
    reads: f64,
    bytes: f64,
}

impl Asked {
    fn times(self, factor: f64) -> Asked {
        let Asked { writes, lists, reads, bytes } = self;
        Asked { writes: writes * factor, lists: lists * factor, reads: reads * factor, bytes: bytes * factor }
    }

    fn and(self, other: Asked) -> Asked {
        Asked {
            writes: self.writes + other.writes,
            lists: self.lists + other.lists,
            reads: self.reads + other.reads,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl From<Tally> for Asked {
    fn from(tally: Tally) -> Asked {
        let Tally { writes, lists, reads, received, deletes: _ } = tally;
        Asked { writes: writes as f64, lists: lists as f64, reads: reads as f64, bytes: received as f64 }
    }
}

impl ObjectStoreBench {
    /// Runs it.
    ///
    /// # Errors
    /// When the server does not start, or does not get what it should.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let report = runtime.block_on(self.measure())?;
        match self.output {
            Format::Json => output::json(&report),
            Format::Table => output::text(report.table()),
        }
    }

    async fn measure(&self) -> anyhow::Result<Report> {
        let dir = tempfile::Builder::new().prefix("vr-bench-").tempdir()?;
        let server = checkpoint::server(&dir.path().join("s3")).await?;
        let mut tree = checkpoint::tree(self.keys, self.size);
        let first = tree.snapshot();
        let log = self.count_log(&server, &first).await?;

        checkpoint::change(&mut tree, 1, self.keys, self.changed, self.size);
        let second = tree.snapshot();
        let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(&checkpoint::place(&server)).await?);
        let identity = Identity { lineage: LINEAGE, generation: 1, replica: 1 };
        let mut writer = Writer::open(store, identity, None, false, 24).await?;
        let before = server.tally();
        writer.checkpoint(&checkpoint::cut(log.last + 1), &second).await?;
        writer.collect(TierKind::ObjectStore.grace()).await?;
        let checkpoint: Asked = server.tally().since(before).into();
        server.stop().await;

        let per_hour = |interval: Duration| HOUR.as_secs_f64() / interval.as_secs_f64();
        let (ships, checkpoints) = (per_hour(self.log_interval), per_hour(self.checkpoint_interval));
        let hour = log.asked.times(ships / f64::from(self.shipments)).and(checkpoint.times(checkpoints));
        Ok(Report {
            counted_seconds: log.seconds,
            shipments: self.shipments,
            checkpoint,
            hour,
            formula: self.formula(ships, checkpoints, Changed::between(&first, &second)),
        })
    }

    /// What is to be expected of an hour with so many shipments of the log and so many checkpoints.
    fn formula(&self, ships: f64, checkpoints: f64, changed: Changed) -> Asked {
        let observers = (self.replicas - 1) as f64 * HOUR.as_secs_f64() / OBSERVE.as_secs_f64();
        let packs = changed.leaves.div_ceil(PACK) + changed.inner.div_ceil(PACK);
        let written = HOUR.as_secs() * self.rate * entry_bytes(self.size) as u64;
        let log = Asked { writes: ships, lists: 0.0, reads: ships + observers, bytes: written as f64 };
        let checkpoint = Asked {
            writes: (packs + WRITES) as f64,
            lists: LISTS as f64,
            reads: READS as f64,
            bytes: (changed.leaves + changed.inner) as f64,
        };
        log.and(checkpoint.times(checkpoints))
    }

    /// A first checkpoint, and a whole number of shipments of the log above it.
    async fn count_log(&self, server: &Server, first: &Snapshot) -> anyhow::Result<Log> {
        let cadence = Cadences::default().object_store;
        let chain = async |replica: u64| -> anyhow::Result<Chain> {
            let store = Arc::new(S3Store::connect(&checkpoint::place(server)).await);
            let tier = TierOptions {
                kind: TierKind::ObjectStore,
                store,
                checkpoint: self.checkpoint_interval,
                log: self.log_interval,
                rate: None,
                keep: cadence.keep.into(),
                grace: TierKind::ObjectStore.grace(),
                may_create: replica == 1,
            };
            let identity = Identity { lineage: LINEAGE, generation: 1, replica };
            Ok(Chain::start(Options { identity, beginning: None, tiers: vec![tier], others: None })?)
        };
        let ships = chain(1).await?;
        ships.ship_to_object_store(true);
        ships.cut(checkpoint::cut(1), first.clone());
        reached(&ships, PATIENCE, |tier| tier.checkpoint_op >= 1).await?;
        let mut others = Vec::new();
        for replica in 2..=self.replicas {
            others.push(chain(replica).await?);
        }

        let mut feed = Feed { began: Instant::now(), op: 1, rate: self.rate, size: self.size };
        let patience = self.log_interval + PATIENCE;
        let mut counted: Option<(Tally, Instant)> = None;
        let mut shipped = 0;
        // The first only says when one ends.
        while counted.is_none() || shipped < self.shipments {
            let standing = ships.recovery_ops().map(|(_, op)| op).max().unwrap_or(0);
            let deadline = Instant::now() + patience;
            while ships.recovery_ops().all(|(_, op)| op <= standing) {
                if Instant::now() > deadline {
                    bail!("no log was shipped within {patience:?}: {:?}", ships.status());
                }
                feed.go_on(&ships);
                tokio::time::sleep(LOOK).await;
            }
            match counted {
                None => counted = Some((server.tally(), Instant::now())),
                Some(_) => shipped += 1,
            }
        }
        let (before, began) = counted.context("counted since the first shipment")?;
        let asked = server.tally().since(before).into();
        let seconds = began.elapsed().as_secs_f64();
        drop(others);
        ships.finish(None).await.map_err(anyhow::Error::msg)?;
        Ok(Log { asked, seconds, last: feed.op })
    }
}

/// What was counted of the log.
struct Log {
    asked: Asked,
    seconds: f64,
    last: u64,
}

/// Committed entries at a steady rate.
struct Feed {
    began: Instant,
    op: u64,
    rate: u64,
    size: usize,
}

impl Feed {
    /// Hands in what should have been committed by now.
    fn go_on(&mut self, chain: &Chain) {
        let due = 1 + (self.began.elapsed().as_secs_f64() * self.rate as f64) as u64;
        while self.op < due {
            self.op += 1;
            let mut body = vec![0; entry_bytes(self.size) - 44];
            checkpoint::noise(self.op, 1, &mut body);
            let (head, body) = (Bytes::new(), Bytes::from(body));
            chain.committed(Committed { op: self.op, time_micros: self.op, digest: [0; 32], head, body });
        }
    }
}

/// Bytes of the log for each write.
fn entry_bytes(value: usize) -> usize {
    ENTRY + checkpoint::key(0).len() + value
}

/// Bytes of pages that only the newer of two states has.
struct Changed {
    leaves: u64,
    inner: u64,
}

impl Changed {
    fn between(old: &Snapshot, new: &Snapshot) -> Changed {
        let (mut before, mut stack) = (HashSet::new(), Vec::from_iter(old.node()));
        while let Some(page) = stack.pop() {
            before.insert(page.id());
            stack.extend(page.children());
        }
        let mut changed = Changed { leaves: 0, inner: 0 };
        stack.extend(new.node());
        while let Some(page) = stack.pop() {
            if !before.contains(&page.id()) {
                let part = if page.is_leaf() { &mut changed.leaves } else { &mut changed.inner };
                *part += page.encoded_len() as u64;
                stack.extend(page.children());
            }
        }
        changed
    }
}

async fn reached(
    chain: &Chain,
    patience: Duration,
    is: impl Fn(&vr_checkpoint::chain::TierStatus) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !chain.status().iter().all(|(_, tier)| is(tier)) {
        if Instant::now() > deadline {
            bail!("the object store has no checkpoint after {patience:?}: {:?}", chain.status());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

impl Report {
    fn table(&self) -> String {
        let mut hour = output::table(["IN AN HOUR", "COUNTED", "FORMULA", "COUNTED / FORMULA"]);
        let row = |name: &str, show: fn(f64) -> String, of: fn(&Asked) -> f64| {
            let (counted, formula) = (of(&self.hour), of(&self.formula));
            [name.to_owned(), show(counted), show(formula), format!("{:.2}", counted / formula)]
        };
        let number = |number: f64| format!("{number:.1}");
        hour.add_row(row("writes (PUT)", number, |asked| asked.writes));
        hour.add_row(row("listings", number, |asked| asked.lists));
        hour.add_row(row("reads (GET, HEAD)", number, |asked| asked.reads));
        hour.add_row(row("bytes written", |bytes| show_bytes(bytes as u64), |asked| asked.bytes));
        let Asked { writes, lists, reads, bytes } = self.checkpoint;
        let how = format!(
            "computed from {} shipments of the log in {:.0} s, and from one checkpoint of {writes} writes, {lists} listings, \
             {reads} reads and {}",
            self.shipments,
            self.counted_seconds,
            show_bytes(bytes as u64)
        );
        format!("{}\n\n{how}", output::trimmed(&hour))
    }
}
