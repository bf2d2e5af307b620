//! `vr drill recovery-point`: everything is killed at full load, again and again, and what that has cost is measured.
//!
//! Each round kills every replica by SIGKILL at a random moment. What the disks give back is read from the cluster that
//! was restored from them, through the client API; what the object store alone would have given back is loaded from there
//! beside it. Both are held against what the writers were told, and against what the service had said just before.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use tokio::task::{JoinSet, LocalSet};
use vr_checkpoint::restore::{self, Target};
use vr_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use vr_replica::export::Contents;

use super::loss::{self, Acknowledged, Distribution, Loss, PREFIX, Shown};
use super::progress::Progress;
use super::promise::Promises;
use super::scenario::Scenario;
use super::workplace::{self, Workplace};
use crate::client::Client;
use crate::dev::cluster::Cluster;
use crate::dev::layout::Cadences;
use crate::dev::object_store::ObjectStoreArgs;
use crate::dev::signals::Signals;
use crate::dev::{self, recovery, tiers};
use crate::output::{self, Format};
use crate::recovery_point;
use crate::units;

/// For everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(50);
/// Keys read at once.
const PAGE: i64 = 1_000;
/// A round ends at a moment drawn from so long: longer than any tier takes from one shipment of its log to the next.
const ROUND: Duration = Duration::from_secs(12);

/// Kills everything at full load, again and again, and measures what is lost
///
/// A cluster with the default cadence is written to as fast as it takes it. At a random moment every replica is killed; then
/// what the disks give back, and what the object store alone would have, is compared with what was acknowledged and with
/// what the replicas' status had said just before. Exit status: 0 nothing lost that was not reported, and no more than the
/// limits; 1 something was; 2 it could not be carried out.
#[derive(Debug, Args)]
pub struct RecoveryPoint {
    /// How often everything is killed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    kills: u32,

    /// Clients that write one after the other without a pause
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=999))]
    writers: u16,

    /// The most that may be lost where the disks are left
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = units::duration)]
    disk_limit: Duration,

    /// The most that may be lost where only the object store is left
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = units::duration)]
    object_store_limit: Duration,

    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    passed: bool,
    problems: Vec<String>,
    disks: Lost,
    object_store: Lost,
    kills: Vec<Kill>,
}

/// Of all rounds, in seconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost {
    limit_seconds: f64,
    lost: Distribution,
    reported: Distribution,
}

/// One round.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kill {
    after_seconds: f64,
    acknowledged: u64,
    writes_per_second: f64,
    disks: Loss,
    object_store: Loss,
}

impl RecoveryPoint {
    /// Carries it out and prints the report.
    ///
    /// # Errors
    /// When the report cannot be printed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = match LocalSet::new().block_on(&runtime, self.carry_out()) {
            Ok(report) => report,
            Err(error) => {
                eprintln!("Error: {}", crate::with_causes(&error));
                return Ok(ExitCode::from(2));
            }
        };
        match self.output {
            Format::Json => output::json(&report)?,
            Format::Table => output::text(report.table())?,
        }
        Ok(ExitCode::from(u8::from(!report.passed)))
    }

    async fn carry_out(&self) -> anyhow::Result<Report> {
        let mut signals = Signals::new()?;
        workplace::sweep().iter().for_each(|told| eprintln!("{told}"));
        let workplace = Workplace::new(None)?;
        let (store, cadence) = (ObjectStoreArgs::default(), Cadences::default());
        let description = dev::describe(3, None, &store, "kills", cadence, false)?;
        let mut cluster = Cluster::new(workplace.take()?, description)?;
        let progress = Progress::on_terminal();
        let kills = tokio::select! {
            kills = self.rounds(&mut cluster, &progress) => kills,
            () = signals.wait() => Err(anyhow::anyhow!("interrupted")),
        };
        progress.done();
        let ids = cluster.ids();
        cluster.kill(&ids).await?;
        cluster.stop().await?;
        let (kills, problems) = kills?;
        workplace.leave()?;
        Ok(self.report(kills, problems))
    }

    async fn rounds(
        &self,
        cluster: &mut Cluster,
        progress: &Progress,
    ) -> anyhow::Result<(Vec<Kill>, Vec<String>)> {
        progress.phase("start");
        cluster.start_object_store().await?;
        cluster.start_replicas()?;
        ready(cluster).await?;
        let (mut kills, mut problems) = (Vec::new(), Vec::new());
        let mut next = 1;
        for round in 1..=self.kills {
            progress.phase("write");
            progress.detail(|| format!("round {round} of {}", self.kills));
            let (kill, found) =
                self.round(cluster, &mut next).await.with_context(|| format!("round {round}"))?;
            problems.extend(found.into_iter().map(|problem| format!("round {round}: {problem}")));
            kills.push(kill);
        }
        Ok((kills, problems))
    }

    /// Writes, kills, restores and compares; the kill, and what was not as promised.
    async fn round(&self, cluster: &mut Cluster, next: &mut u64) -> anyhow::Result<(Kill, Vec<String>)> {
        let description = cluster.description();
        let client = Client::new(&description.endpoints(), CALL_TIMEOUT, &cluster.connector()?);
        let admins: Vec<SocketAddr> =
            description.replicas.iter().map(|ports| ports.admin_address()).collect();
        let near = Promises::new(Scenario::LoseAllMemory, &admins);
        let far = Promises::new(Scenario::LoseAllMemoryAndDisks, &admins);
        forget_history(&client).await?;
        until_everything_is_kept(&near).await?;
        until_everything_is_kept(&far).await?;

        let began = Instant::now();
        let load = Load::start(self.writers.into(), &client, *next);
        let mut looks = JoinSet::new();
        for promises in [&near, &far] {
            let promises = promises.clone();
            looks.spawn_local(async move { promises.watch().await });
        }
        let drawn = uuid::Uuid::new_v4().as_u128() % ROUND.as_millis();
        let moment = Duration::from_secs(1) + Duration::from_millis(u64::try_from(drawn)?);
        // Not a wait for anything: the moment is drawn.
        tokio::time::sleep(moment).await;
        let (kept_near, kept_far, end) = (near.end(), far.end(), Instant::now());
        let ids = cluster.ids();
        cluster.kill(&ids).await?;
        let (acknowledged, highest) = load.end().await;
        *next = highest + 1;

        let far_shown = of_object_store(cluster).await?;
        recovery::restore(cluster, &Target::Newest).await?;
        cluster.start_replicas()?;
        ready(cluster).await?;
        let near_shown = of_cluster(&client).await?;

        let mut problems = Vec::new();
        let mut measure = |name: &str, shown: Result<Shown, String>, kept, limit| {
            let loss = shown.and_then(|shown| loss::compare(&acknowledged, &shown, (began, kept, end)));
            let loss = loss.unwrap_or_else(|problem| {
                problems.push(format!("{name}: {problem}"));
                Loss::default()
            });
            problems.extend(loss::broken(&loss, limit).map(|why| format!("{name}: {why}")));
            loss
        };
        let disks = measure("disks", near_shown, kept_near, self.disk_limit);
        let object_store = measure("object store", far_shown, kept_far, self.object_store_limit);
        let written: u64 = acknowledged.iter().map(|writes| writes.len() as u64).sum();
        let after = end.duration_since(began).as_secs_f64();
        let kill = Kill {
            after_seconds: after,
            acknowledged: written,
            writes_per_second: written as f64 / after,
            disks,
            object_store,
        };
        Ok((kill, problems))
    }

    fn report(&self, kills: Vec<Kill>, problems: Vec<String>) -> Report {
        let lost = |limit: Duration, of: fn(&Kill) -> &Loss| Lost {
            limit_seconds: limit.as_secs_f64(),
            lost: Distribution::of(kills.iter().map(|kill| of(kill).seconds)),
            reported: Distribution::of(kills.iter().map(|kill| of(kill).reported_seconds)),
        };
        Report {
            passed: problems.is_empty(),
            problems,
            disks: lost(self.disk_limit, |kill| &kill.disks),
            object_store: lost(self.object_store_limit, |kill| &kill.object_store),
            kills,
        }
    }
}

async fn ready(cluster: &mut Cluster) -> anyhow::Result<()> {
    let gone = cluster.wait_until_ready(PATIENCE).await?;
    if !gone.is_empty() {
        bail!("replicas {gone:?} did not start; their logs are in {}", cluster.layout().root().display());
    }
    cluster.describe(|description| (description.served, description.restore) = (true, None))?;
    Ok(())
}

/// Compacts what earlier rounds have written, so that the state stays small.
async fn forget_history(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let first = PutRequest { key: Bytes::from_static(b"drill/round"), ..PutRequest::default() };
        let compacted = match client.kv().put(first).await {
            Ok(answer) => {
                let revision = answer.into_inner().header.map_or(0, |header| header.revision);
                client.kv().compact(CompactionRequest { revision, physical: false }).await.map(drop)
            }
            Err(status) => Err(status),
        };
        match compacted {
            Ok(()) => return Ok(()),
            Err(status) if Instant::now() >= deadline => bail!("no write is served: {}", status.message()),
            Err(_) => {
                client.go_on();
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// A round begins with nothing that could still be lost.
async fn until_everything_is_kept(promises: &Promises) -> anyhow::Result<()> {
    let (asked, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    loop {
        promises.look().await;
        if promises.kept().is_some_and(|kept| kept >= asked) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the tiers do not have what was written before after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Writers, and what they were told.
struct Load {
    writers: JoinSet<()>,
    stop: Rc<Cell<bool>>,
    told: Vec<Rc<RefCell<Acknowledged>>>,
    highest: Rc<Cell<u64>>,
}

impl Load {
    /// Numbers begin at `next`.
    fn start(count: usize, client: &Client, next: u64) -> Load {
        let mut load = Load {
            writers: JoinSet::new(),
            stop: Rc::default(),
            told: (0..count).map(|_| Rc::default()).collect(),
            highest: Rc::new(Cell::new(next)),
        };
        for (writer, told) in load.told.iter().enumerate() {
            let (client, stop) = (client.beginning_at(writer), Rc::clone(&load.stop));
            let (told, highest) = (Rc::clone(told), Rc::clone(&load.highest));
            load.writers.spawn_local(async move {
                for number in next.. {
                    if stop.get() {
                        return;
                    }
                    highest.set(highest.get().max(number));
                    let (key, value) = loss::write(writer, number);
                    match client.kv().put(PutRequest { key, value, ..PutRequest::default() }).await {
                        Ok(_) => told.borrow_mut().push((number, Instant::now())),
                        Err(_) => {
                            client.go_on();
                            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                        }
                    }
                }
            });
        }
        load
    }

    /// What each was told, and the highest number of any.
    async fn end(mut self) -> (Vec<Acknowledged>, u64) {
        self.stop.set(true);
        while self.writers.join_next().await.is_some() {}
        (self.told.iter().map(|told| told.take()).collect(), self.highest.get())
    }
}

/// What a restore from the object store alone would give.
async fn of_object_store(cluster: &Cluster) -> anyhow::Result<Result<Shown, String>> {
    let description = cluster.description();
    let sources = [tiers::object_store(description).await];
    let inventory = restore::inventory(&sources, &description.lineage.to_string()).await;
    let found = recovery_point::find(&inventory, &sources, &Target::Newest).await?;
    let contents = Contents::open(found.loaded)?;
    let mut shown = Ok(Shown::default());
    contents.for_each(|key, value| {
        if let Ok(all) = &mut shown
            && let Err(problem) = all.note(key, value)
        {
            shown = Err(problem);
        }
        Ok(())
    })?;
    Ok(shown)
}

/// What the cluster shows.
async fn of_cluster(client: &Client) -> anyhow::Result<Result<Shown, String>> {
    let end = Bytes::from_static(b"drill/kill0");
    let (mut shown, mut from) = (Shown::default(), Bytes::from_static(PREFIX.as_bytes()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = RangeRequest {
            key: from.clone(),
            range_end: end.clone(),
            limit: PAGE,
            ..RangeRequest::default()
        };
        let page = match client.kv().range(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if Instant::now() >= deadline => bail!("no read is served: {}", status.message()),
            Err(_) => {
                client.go_on();
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        for kv in &page.kvs {
            if let Err(problem) = shown.note(&kv.key, &kv.value) {
                return Ok(Err(problem));
            }
        }
        match page.kvs.last() {
            Some(last) if page.more => from = [&last.key[..], b"\0"].concat().into(),
            _ => return Ok(Ok(shown)),
        }
    }
}

impl Report {
    fn table(&self) -> String {
        let seconds = |seconds: f64| format!("{seconds:.2}");
        let mut all = output::table(["SECONDS", "LEAST", "MEDIAN", "P90", "MOST", "LIMIT"]);
        for (name, lost) in [("disks", &self.disks), ("object store", &self.object_store)] {
            for (what, of) in [("lost", lost.lost), ("reported", lost.reported)] {
                let limit = if what == "lost" { seconds(lost.limit_seconds) } else { String::new() };
                let [least, median, p90, most] = [of.least, of.median, of.p90, of.most].map(seconds);
                all.add_row([format!("{name}, {what}"), least, median, p90, most, limit]);
            }
        }
        let mut rounds =
            output::table(["KILL", "AFTER", "WRITES/S", "DISKS LOST", "REPORTED", "S3 LOST", "REPORTED"]);
        for (number, kill) in self.kills.iter().enumerate() {
            let (disks, store) = (&kill.disks, &kill.object_store);
            rounds.add_row([
                (number + 1).to_string(),
                format!("{:.1} s", kill.after_seconds),
                format!("{:.0}", kill.writes_per_second),
                format!("{} ({:.2} s)", disks.writes, disks.seconds),
                format!("{:.2} s", disks.reported_seconds),
                format!("{} ({:.2} s)", store.writes, store.seconds),
                format!("{:.2} s", store.reported_seconds),
            ]);
        }
        let verdict = match self.problems.is_empty() {
            true => "passed: no loss was larger than reported, or than its limit".to_owned(),
            false => format!("failed:\n{}", self.problems.join("\n")),
        };
        [output::trimmed(&rounds), output::trimmed(&all), verdict].join("\n\n")
    }
}
