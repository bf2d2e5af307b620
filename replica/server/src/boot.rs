//! How a replica comes to life, and how it leaves: what its disks say of its past, and what that allows.
//!
//! - no vote record and `initial: bootstrap`: the lineage begins; otherwise it is not a replica any more (R6);
//! - no vote record and `initial: join`: it waits until the members know it as a learner;
//! - a clean-stop marker: it remembers everything, from the checkpoint the marker names;
//! - a vote record alone: it has lost its memory; its newest checkpoint is a base and no more (R5);
//! - `restore` and a vote record of an older generation (or none): it begins the new generation from that recovery
//!   point.

use crate::config::{Config, DiskTier, Initial, ObjectStoreTier, Restore};
use crate::export::Contents;
use crate::marker::{self, Marker};
use crate::node::{CutHeader, DiskAsk, Node, PeerDisks, Tiering};
use crate::serve::End;
use crate::status::RestoredFrom;
use crate::{members, node, vote};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use vr_checkpoint::chain::{self, Chain, TierOptions};
use vr_checkpoint::format::{Head, Parent};
use vr_checkpoint::restore::{self, Loaded, Source, TierKind};
use vr_checkpoint::store::{DirStore, ObjectStore, S3Location, S3Store};
use vr_checkpoint::writer::{Beginning, Cut, Identity};
use vr_core::{
    Ballot, Boot, Configuration, CoreState, Digest, Entry, Epoch, Generation, Incarnation, Op, ReplicaId,
    Start, StateMachine, View, VoteRecord,
};
use vr_store::{Revision, Store};
use vr_tree::Snapshot;

/// A replica ready to be made.
pub struct Booted {
    /// For `Replica::new`.
    pub boot: Boot<Store>,
    /// The running tier chain.
    pub tiering: Tiering,
    /// This start.
    pub incarnation: Incarnation,
    /// Roots of cuts, as they are computed.
    pub roots: mpsc::UnboundedReceiver<(Op, Digest)>,
    /// Questions of the tiers to other replicas.
    pub asks: mpsc::Receiver<DiskAsk>,
    /// What was loaded, if a generation begins here from what an older one left.
    pub restored_from: Option<RestoredFrom>,
}

/// What kind of start it is.
enum Past {
    Begins,
    Joins,
    Remembers(Marker, Vec<Entry>),
    Amnesiac,
    Restored(Restore),
}

/// The disks have seen a newer generation than the one that was to start here.
#[derive(Debug, thiserror::Error)]
#[error(
    "{disks} hold generation {found}, the configuration says {configured}: the lineage was restored meanwhile, and this \
     configuration is of the past. Start the newer generation instead; this one must not run again"
)]
pub struct Superseded {
    disks: String,
    found: Generation,
    configured: Generation,
}

/// Reads the disks, loads what there is to load, and writes this start's vote record.
///
/// # Errors
/// Everything that forbids this replica to start, with what to do.
pub async fn boot(config: &Config) -> anyhow::Result<Booted> {
    let disks = config.tiers.disks();
    for disk in &disks {
        let writable = std::fs::create_dir_all(disk).and_then(|()| tempfile_in(disk));
        writable.with_context(|| {
            format!(
                "the tier directory {} cannot be written to: check its owner and free space",
                disk.display()
            )
        })?;
    }
    let (past, before) = past(config, &disks)?;
    // Sessions are told apart by it, and a restored state knows those of the old generation, whose starts a replica on
    // empty disks cannot count.
    let lowest = config.generation.0 << 32;
    let incarnation = match past {
        // Above any start of this id that is not remembered here.
        Past::Joins => Incarnation(lowest.max(wall_micros())),
        _ => Incarnation(before.map_or(0, |vote| vote.incarnation.0).max(lowest) + 1),
    };
    let mut restored_from = None;
    let (start, kind) = match past {
        Past::Begins => {
            tracing::info!(lineage = %config.lineage, "the lineage begins here");
            (complete(Store::new(state_options(config)), Vec::new(), Op(0), Ballot::default()), "bootstrap")
        }
        Past::Joins => (Start::Joining { state: Store::new(state_options(config)) }, "joining"),
        Past::Remembers(marker, tail) => (remembered(config, &marker, tail).await?, "clean stop"),
        Past::Amnesiac => (Start::Amnesiac { state: base(config).await }, "without memory"),
        Past::Restored(ref restore) => {
            let (start, from) = restored(config, restore).await?;
            restored_from = Some(from);
            (start, "restored")
        }
    };
    // In a new generation nobody has promised anything yet.
    let ballot = match (&start, before) {
        (Start::Complete { .. }, Some(vote)) if kind == "restored" && vote.generation < config.generation => {
            Ballot::default()
        }
        (_, Some(vote)) => vote.ballot,
        (_, None) => Ballot::default(),
    };
    let vote = VoteRecord {
        lineage: config.lineage,
        generation: config.generation,
        ballot,
        replica: config.id,
        incarnation,
    };
    // What can be refused is refused while the disks are as they were: a typing error must not cost the memory that a
    // clean stop has left.
    let (others, asks) = PeerDisks::new();
    let chain = chain_options(config, kind == "bootstrap", others).await?;
    // The marker goes first: from here on, a crash is a crash.
    marker::erase(&disks).context("the clean-stop marker cannot be erased")?;
    // The first promise of a replica that joins is not made yet.
    if !matches!(start, Start::Joining { .. }) {
        vote::write(&disks, vote)?;
    }
    let chain = Chain::start(chain)?;
    let (tiering, roots) = Tiering::new(chain)?;
    tracing::info!(incarnation = incarnation.0, %ballot, start = kind, "starting");
    let known = members::read(&disks, config.lineage, config.generation);
    let (configuration, begun) = known.unwrap_or_else(|| (told(config), None));
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let boot = Boot { id: config.id, vote, configuration, begun, start, seed };
    Ok(Booted { boot, tiering, incarnation, roots, asks, restored_from })
}

fn wall_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// The members that the configuration file names: those of a generation's first epoch.
fn told(config: &Config) -> Configuration {
    Configuration { order: config.members.clone(), ..Configuration::default() }
}

fn tempfile_in(disk: &Path) -> std::io::Result<()> {
    let probe = disk.join(".writable");
    std::fs::write(&probe, b"x")?;
    std::fs::remove_file(probe)
}

/// What the disks say.
fn past(config: &Config, disks: &[PathBuf]) -> anyhow::Result<(Past, Option<VoteRecord>)> {
    let named = disks.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(" and ");
    let record = match vote::read(disks)? {
        //= R6
        vote::Found::Empty => None,
        vote::Found::Present(record) => Some(record),
        vote::Found::Unreadable => bail!(
            "the vote record of replica {} on {named} is damaged: what it promised is not known, so it must not come \
             back under this id. Replace it by a new replica id",
            config.id
        ),
    };
    if let Some(vote) = record {
        if vote.lineage != config.lineage {
            bail!(
                "{named} belong to lineage {}, not to {}: give this replica disks of its own, or correct `lineage`",
                vote.lineage,
                config.lineage
            );
        }
        if vote.replica != config.id {
            bail!(
                "{named} belong to replica {}, not to {}: give this replica disks of its own, or correct `replicaId`",
                vote.replica,
                config.id
            );
        }
        if vote.generation > config.generation {
            bail!(Superseded { disks: named, found: vote.generation, configured: config.generation });
        }
    }
    let current = record.filter(|vote| vote.generation == config.generation);
    Ok(match (current, &config.restore) {
        (Some(vote), _) => match disks.iter().find_map(|disk| marker::read(disk)) {
            Some((marker, tail))
                if marker.incarnation == vote.incarnation.0 && marker.generation == config.generation.0 =>
            {
                (Past::Remembers(marker, tail), record)
            }
            _ => (Past::Amnesiac, record),
        },
        (None, Some(restore)) => (Past::Restored(restore.clone()), record),
        (None, None) if record.is_some() => bail!(
            "{named} are of an older generation than {}, and no `restore` says what it begins from: have the restore \
             write this configuration",
            config.generation
        ),
        (None, None) if config.initial == Initial::Bootstrap && !has_run(config, disks) => {
            (Past::Begins, None)
        }
        (None, None) if config.initial == Initial::Join => (Past::Joins, None),
        (None, None) => bail!(
            "replica {} has no vote record on {named}: what it promised is not known, so it must not come back under \
             this id. Replace it by a new replica id; if the lineage has never run, set `initial: bootstrap` and give \
             it empty disks; if this id is a new one, which never ran anywhere, set `initial: join`",
            config.id,
        ),
    })
}

/// Whether a disk holds checkpoints of the lineage: it did not begin just now, whatever the configuration says.
fn has_run(config: &Config, disks: &[PathBuf]) -> bool {
    let lineage = config.lineage.to_string();
    disks.iter().any(|disk| DirStore::holds_head(&tier_directory(disk, &lineage)))
}

/// What every replica must be told alike.
pub(crate) fn state_options(config: &Config) -> vr_store::Options {
    // Nothing may be written before a reservation is durable on the tiers.
    vr_store::Options {
        memory_limit: config.memory_limit,
        first_reservation: Revision(1),
        ..vr_store::Options::default()
    }
}

fn complete(state: Store, log: Vec<Entry>, commit: Op, last_normal: Ballot) -> Start<Store> {
    Start::Complete { state, log, commit, last_normal }
}

/// The state that a clean stop left, exactly.
async fn remembered(config: &Config, marker: &Marker, tail: Vec<Entry>) -> anyhow::Result<Start<Store>> {
    let sources = own_disks(config);
    let inventory = restore::inventory(&sources, &config.lineage.to_string()).await;
    let candidates = inventory.candidates.iter().filter(|c| {
        c.generation == marker.generation && c.checkpoint_op == marker.op && c.root == marker.root
    });
    let mut problem = "no tier has it".to_owned();
    for candidate in candidates {
        match restore::load(candidate, &sources, Some(marker.op)).await {
            Ok(loaded) => {
                let state = Store::from_snapshot(loaded.snapshot, state_options(config))?;
                let last_normal =
                    Ballot { epoch: Epoch(marker.last_normal_epoch), view: View(marker.last_normal_view) };
                return Ok(complete(state, tail, Op(marker.op), last_normal));
            }
            Err(error) => problem = error.to_string(),
        }
    }
    bail!(
        "replica {} was stopped cleanly at op {}, but that checkpoint cannot be loaded: {problem}. Remove the file \
         `clean-stop` from its disks to start it without its memory",
        config.id,
        marker.op
    )
}

/// The newest checkpoint on the own disks, or an empty state: what is fetched from others is then less.
async fn base(config: &Config) -> Store {
    let sources = own_disks(config);
    let inventory = restore::inventory(&sources, &config.lineage.to_string()).await;
    for candidate in inventory.candidates.iter().filter(|c| c.generation == config.generation.0) {
        let loaded = restore::load(candidate, &sources, Some(candidate.checkpoint_op)).await;
        match loaded
            .map_err(anyhow::Error::from)
            .and_then(|l| Ok(Store::from_snapshot(l.snapshot, state_options(config))?))
        {
            Ok(state) => {
                tracing::info!(op = candidate.checkpoint_op, source = candidate.source, "base loaded");
                return state;
            }
            Err(error) => tracing::warn!(%error, "a local checkpoint is of no use"),
        }
    }
    Store::new(state_options(config))
}

/// The newest state of this generation that the own disks lead to, executed to its end: what a replica without memory can
/// still give.
///
/// # Errors
/// What is there and cannot be loaded, or executed.
pub(crate) async fn held(config: &Config) -> anyhow::Result<Option<(Cut, Snapshot)>> {
    let sources = own_disks(config);
    let inventory = restore::inventory(&sources, &config.lineage.to_string()).await;
    let mut problem = None;
    for candidate in inventory.candidates.iter().filter(|c| c.generation == config.generation.0) {
        let loaded = match restore::load(candidate, &sources, None).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "a local checkpoint is of no use");
                problem = problem.or(Some(error));
                continue;
            }
        };
        let contents = Contents::open_as(loaded, state_options(config))?;
        return Ok(Some(contents.into_checkpoint()));
    }
    problem.map_or(Ok(None), |error| Err(error.into()))
}

/// The recovery point that this generation begins from, replayed to its end.
async fn restored(config: &Config, plan: &Restore) -> anyhow::Result<(Start<Store>, RestoredFrom)> {
    let mut sources = own_disks(config);
    for path in &plan.sources {
        sources.push(disk_source(&path.display().to_string(), TierKind::Volume, path, config));
    }
    if let Some(tier) = &config.tiers.object_store {
        let store = Arc::new(S3Store::connect(&location(tier, config)).await);
        sources.push(Source { name: "object store".to_owned(), tier: TierKind::ObjectStore, store });
    }
    let inventory = restore::inventory(&sources, &config.lineage.to_string()).await;
    let wanted = |c: &&restore::Candidate| {
        c.generation == plan.from_generation.0 && c.checkpoint_op == plan.checkpoint.0 && c.root == plan.root
    };
    let mut problems: Vec<String> = inventory
        .findings
        .iter()
        .filter_map(|f| f.problem.as_ref().map(|problem| format!("{}: {problem}", f.source)))
        .collect();
    for candidate in inventory.candidates.iter().filter(wanted) {
        match restore::load(candidate, &sources, Some(plan.to_op.0)).await {
            Ok(loaded) => {
                tracing::info!(
                    source = candidate.source,
                    repaired = loaded.repaired_pages,
                    "checkpoint loaded"
                );
                return replayed(config, plan, candidate, loaded);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    bail!(
        "the recovery point at op {} (checkpoint {}) of generation {} cannot be loaded from any source; {}",
        plan.to_op,
        plan.checkpoint,
        plan.from_generation,
        problems.join("; ")
    )
}

fn replayed(
    config: &Config,
    plan: &Restore,
    candidate: &restore::Candidate,
    loaded: Loaded,
) -> anyhow::Result<(Start<Store>, RestoredFrom)> {
    // Of what is in memory now, not what the plan or a manifest calls it.
    let root = vr_checkpoint::format::hex(&loaded.snapshot.root());
    let mut state = Store::from_snapshot(loaded.snapshot, state_options(config))?;
    let entries: Vec<Entry> =
        loaded.entries.iter().map(|e| Entry::decode(&e.bytes)).collect::<Result<_, _>>()?;
    let core = state.core_state();
    let end = vr_core::replay(&mut state, &core, entries)?;
    if end.op != plan.to_op {
        bail!("the log leads to op {} and not to {}", end.op, plan.to_op);
    }
    // The log above the checkpoint may have reserved more than whoever made the plan could see.
    state.after_restore(Revision(plan.reserved_revision).max(state.reserved()));
    // A generation begins with members of its own; what those before it agreed on is over.
    let core = CoreState { configuration: Configuration::default(), highest_id: ReplicaId(0), ..end.core };
    state.cut(end.op, &core.encode());
    tracing::info!(op = %end.op, replayed = end.entries, revision = %state.revision(), "restored");
    let from = RestoredFrom {
        tier: node::tier_name(candidate.tier).to_owned(),
        lineage: config.lineage.to_string(),
        generation: candidate.generation,
        checkpoint: candidate.checkpoint_op,
        op: end.op.0,
        root,
    };
    Ok((complete(state, Vec::new(), end.op, Ballot::default()), from))
}

/// Where a lineage stands on a disk.
#[must_use]
pub fn tier_directory(path: &Path, lineage: &str) -> PathBuf {
    path.join(lineage)
}

fn disk_source(name: &str, tier: TierKind, path: &Path, config: &Config) -> Source {
    let store = Arc::new(DirStore::read_only(&tier_directory(path, &config.lineage.to_string())));
    Source { name: name.to_owned(), tier, store }
}

fn own_disks(config: &Config) -> Vec<Source> {
    let tiers =
        [("nvme", TierKind::Nvme, &config.tiers.nvme), ("volume", TierKind::Volume, &config.tiers.volume)];
    let source = |(name, kind, tier): (&str, TierKind, &Option<DiskTier>)| {
        tier.as_ref().map(|tier| disk_source(name, kind, &tier.path, config))
    };
    tiers.into_iter().filter_map(source).collect()
}

fn location(tier: &ObjectStoreTier, config: &Config) -> S3Location {
    let prefix = [tier.prefix.as_str(), &config.lineage.to_string()].join("/");
    S3Location {
        endpoint: tier.endpoint.clone(),
        bucket: tier.bucket.clone(),
        prefix: prefix.trim_matches('/').to_owned(),
        region: tier.region.clone(),
        path_style: tier.path_style,
        kms_key: tier.kms_key.clone(),
        keys: None,
    }
}

async fn chain_options(config: &Config, begins: bool, others: PeerDisks) -> anyhow::Result<chain::Options> {
    let lineage = config.lineage.to_string();
    let mut tiers = Vec::new();
    for (kind, tier) in [(TierKind::Nvme, &config.tiers.nvme), (TierKind::Volume, &config.tiers.volume)] {
        if let Some(DiskTier { path, cadence }) = tier {
            let store = Arc::new(DirStore::open(&tier_directory(path, &lineage))?);
            tiers.push(TierOptions {
                kind,
                store,
                checkpoint: cadence.checkpoint,
                log: cadence.log,
                rate: cadence.rate,
                keep: cadence.keep,
                grace: kind.grace(),
                // A new disk is begun whenever it comes; it holds nothing that could be lost.
                may_create: true,
            });
        }
    }
    if let Some(tier) = &config.tiers.object_store {
        let store = Arc::new(S3Store::connect(&location(tier, config)).await);
        probe(&store).await?;
        tiers.push(TierOptions {
            kind: TierKind::ObjectStore,
            store,
            checkpoint: tier.cadence.checkpoint,
            log: tier.cadence.log,
            rate: tier.cadence.rate,
            keep: tier.cadence.keep,
            grace: TierKind::ObjectStore.grace(),
            // A HEAD that vanished from S3 is a finding, never a fresh start; only a bootstrap makes one.
            may_create: begins,
        });
    }
    let beginning = beginning(config, &tiers).await;
    let identity = Identity {
        lineage: vr_checkpoint::writer::Lineage(config.lineage.0),
        generation: config.generation.0,
        replica: config.id.0,
    };
    Ok(chain::Options { identity, beginning, tiers, others: Some(Arc::new(others)) })
}

/// How this generation began: by the restore that is under way, or as the own disks have kept it, which no other restore
/// can write. The object store alone proves nothing: whose generation it holds is the question.
async fn beginning(config: &Config, tiers: &[TierOptions]) -> Option<Beginning> {
    if let Some(restore) = &config.restore {
        let parent =
            Parent { generation: restore.from_generation.0, op: restore.to_op.0, root: restore.root.clone() };
        return Some(Beginning { parent, token: restore.token.clone() });
    }
    for tier in tiers.iter().filter(|tier| tier.kind != TierKind::ObjectStore) {
        let Ok(Some((bytes, _))) = tier.store.head().await else { continue };
        let Ok(head) = Head::parse("HEAD", &bytes) else { continue };
        if head.generation == config.generation.0
            && let Some(parent) = head.parent
        {
            return Some(Beginning { parent, token: head.token });
        }
    }
    None
}

/// A store that ignores conditions, or a bucket that is not there, must not be found out by the first restore. One that
/// cannot be reached now is a tier in trouble: the chain goes on trying.
async fn probe(store: &Arc<S3Store>) -> anyhow::Result<()> {
    use vr_checkpoint::store::StoreError;
    match store.probe().await {
        Ok(()) => Ok(()),
        Err(error @ StoreError::Transient { .. }) => {
            tracing::error!(%error, "the object store is not reached: serving without it, trying on");
            Ok(())
        }
        Err(error) => {
            Err(error).with_context(|| format!("the object store {} cannot be used", store.describe()))
        }
    }
}

/// Leaves a checkpoint of everything this replica has, and the marker that makes its next start remember.
///
/// # Errors
/// A disk does not have the checkpoint: the next start is one without memory.
pub async fn leave(node: Node) -> anyhow::Result<End> {
    let (config, incarnation, mut replica, tiering) = node.into_parts();
    let chain = tiering.into_chain();
    // When all stop at once, the shipper's name is in the air; the primary has everything, and two shippers do no harm.
    if replica.is_primary() {
        chain.ship_to_object_store(true);
    }
    let Some(leaving) = replica.leave() else {
        // Without memory there is nothing to keep.
        chain.finish(None).await.map_err(anyhow::Error::msg)?;
        return Ok(End::WithoutMemory);
    };
    let header =
        CutHeader { op: leaving.op, ballot: leaving.ballot, time: leaving.time, digest: leaving.digest };
    let root = leaving.snapshot.root();
    let cut = node::cut(replica.configuration(), replica.state(), header);
    chain.finish(Some((cut, leaving.snapshot))).await.map_err(anyhow::Error::msg)?;
    let marker = Marker {
        format: marker::FORMAT.to_owned(),
        incarnation: incarnation.0,
        generation: config.generation.0,
        last_normal_epoch: leaving.last_normal.epoch.0,
        last_normal_view: leaving.last_normal.view.0,
        op: leaving.op.0,
        root: vr_checkpoint::format::hex(&root),
    };
    for disk in config.tiers.disks() {
        marker::write(&disk, &marker, &leaving.tail)
            .with_context(|| format!("the clean-stop marker cannot be written to {}", disk.display()))?;
    }
    tracing::info!(op = %leaving.op, "stopped; the next start remembers everything");
    Ok(End::Clean)
}
