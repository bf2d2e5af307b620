//! A rehearsal: start, load, wait for a recovery point, write on, disaster, come back, prove.

mod rivals;
mod rot;
mod trouble;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::{JoinSet, spawn_local};

use self::trouble::Trouble;
use super::course::{Course, Step, Stop, errored};
use super::input::Input;
use super::load::{self, CANARY, Writers};
use super::progress::Progress;
use super::promise::{self, Promises};
use super::proof::{self, Findings};
use super::recording;
use super::report::{self, LoadedInput, Report, Revisions, TierBytes};
use super::sabotage;
use super::scenario::{Sabotage, Scenario};
use super::zombie;
use crate::client::Client;
use crate::dev::cluster::Cluster;
use crate::dev::recovery;
use crate::units::show_bytes;
use vr_checkpoint::restore::Target;
use vr_replica::status::RestoredFrom as Loaded;
use vr_replica::tls::Connector;

/// For everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// For one answer. Longer than any view change, shorter than anybody's patience.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeat writers.
const WRITERS: usize = 4;
/// Writes after the disaster, whose revisions must all be new.
const WRITES_AFTER: usize = 64;
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// What is to be rehearsed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The disaster.
    pub scenario: Scenario,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// What is loaded.
    pub input: Input,
    /// How long is written between the recovery point and the disaster.
    pub write_on: Duration,
}

/// Carries a drill out on a cluster that has not been started. The caller stops the cluster.
///
/// Must run inside a `LocalSet`.
pub async fn rehearse(cluster: &mut Cluster, settings: &Settings, progress: &Progress) -> Report {
    let connector = match cluster.connector() {
        Ok(connector) => connector,
        Err(error) => {
            let mut report = report::errored(settings.scenario, settings.sabotage);
            report.reason = Some(error.to_string());
            return report;
        }
    };
    let mut rehearsal = Rehearsal::new(cluster, settings, progress, &connector);
    let stop = rehearsal.run().await.err();
    if rehearsal.course.report.acknowledged_ops == 0 {
        let record = rehearsal.writers.record();
        rehearsal.course.report.acknowledged_ops = record.acknowledged();
        rehearsal.course.report.revision.before = record.highest_revision();
    }
    rehearsal.course.conclude(stop)
}

struct Rehearsal<'a> {
    cluster: &'a mut Cluster,
    settings: &'a Settings,
    course: Course<'a>,
    client: Client,
    writers: Writers,
    background: JoinSet<()>,
    promises: Promises,
    canary: Bytes,
    /// The revision that is to come back, where it is not the newest.
    moment: Option<i64>,
}

impl<'a> Rehearsal<'a> {
    fn new(
        cluster: &'a mut Cluster,
        settings: &'a Settings,
        progress: &'a Progress,
        connector: &Connector,
    ) -> Rehearsal<'a> {
        let description = cluster.description();
        let client = Client::new(&description.endpoints(), CALL_TIMEOUT, connector);
        let admins: Vec<SocketAddr> =
            description.replicas.iter().map(|ports| ports.admin_address()).collect();
        Rehearsal {
            course: Course::new(report::errored(settings.scenario, settings.sabotage), progress),
            settings,
            writers: Writers::new(client.clone()),
            client,
            background: JoinSet::new(),
            promises: Promises::new(settings.scenario, &admins),
            canary: Bytes::from(uuid::Uuid::new_v4().to_string()),
            moment: None,
            cluster,
        }
    }

    async fn run(&mut self) -> Step<()> {
        self.course.begin("start");
        self.start().await?;
        self.course.begin("load");
        self.load().await?;
        self.course.begin("recoveryPoint");
        self.wait_for_recovery_point().await?;
        if let Some(trouble) = Trouble::of(self.settings.scenario) {
            self.go_through(trouble).await?;
        }
        if self.settings.scenario == Scenario::PointInTime {
            self.note_the_moment().await?;
        }
        self.course.begin("writeOn");
        // Not a wait for anything: the length of the story's part in which a loss can arise.
        tokio::time::sleep(self.settings.write_on).await;
        if self.settings.scenario.loses_quorum() {
            self.total_loss().await
        } else {
            self.partial_loss().await
        }
    }

    async fn start(&mut self) -> Step<()> {
        let errored =
            |error: &dyn std::fmt::Display| Stop::Errored(format!("the cluster does not start: {error}"));
        self.cluster.start_object_store().await.map_err(|e| errored(&e))?;
        self.cluster.start_replicas().map_err(|e| errored(&e))?;
        self.cluster.wait_until_ready(PATIENCE).await.map_err(|e| errored(&e))?;
        self.cluster.describe(|description| description.served = true).map_err(|e| errored(&e))
    }

    async fn load(&mut self) -> Step<()> {
        let canary = match self.settings.sabotage {
            Some(Sabotage::StaleCanary) => Bytes::from_static(b"of an earlier drill"),
            _ => self.canary.clone(),
        };
        // A primary that has just begun may still wait for its first reservation.
        let written = self.writers.put_patiently(CANARY, canary, PATIENCE).await;
        written.map_err(|status| Stop::Errored(format!("the first write failed: {}", status.message())))?;
        for number in 0..WRITERS {
            let writers = self.writers.clone();
            self.background
                .spawn_local(async move { writers.heartbeats(&format!("w{number}"), number).await });
        }
        let promises = self.promises.clone();
        spawn_local(async move { promises.watch().await });

        let mut reading = self.settings.input.read().map_err(|e| Stop::Errored(e.to_string()))?;
        let loaded = Cell::new((0, 0));
        let progress = |entries: u64, bytes: u64| {
            let (all, size) = loaded.get();
            loaded.set((all + entries, size + bytes));
            self.course.detail(|| format!("{} entries, {}", all + entries, show_bytes(size + bytes)));
        };
        let outcome = self.writers.load(&mut reading.batches, PATIENCE, &progress).await;
        // What is wrong with the input explains more than what became of its writes.
        let counted = reading.counted().map_err(errored)?;
        outcome.map_err(|status| Stop::Errored(format!("loading the input failed: {}", status.message())))?;
        self.course.report.bytes.loaded = counted.bytes;
        let path = self.settings.input.path().display().to_string();
        self.course.report.input = Some(LoadedInput { path, counted });
        Ok(())
    }

    /// Until a checkpoint on a tier that will survive holds everything that has been loaded.
    async fn wait_for_recovery_point(&mut self) -> Step<()> {
        let commit = self.promises.look().await.iter().map(|status| status.commit).max().unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let statuses = self.promises.look().await;
            let reached = promise::checkpoint_op(&statuses, self.settings.scenario);
            if reached >= commit {
                let total = |tier: &str| {
                    let all = statuses.iter().flat_map(|status| &status.tiers);
                    all.filter(|report| report.tier == tier).map(|report| report.written_bytes).sum()
                };
                self.course.report.bytes.written = ["nvme", "volume", "objectStore"]
                    .map(|tier| TierBytes { tier: tier.to_owned(), bytes: total(tier) })
                    .to_vec();
                return Ok(());
            }
            if Instant::now() >= deadline {
                let errors: Vec<String> =
                    statuses.iter().flat_map(|s| &s.tiers).filter_map(|tier| tier.error.clone()).collect();
                let why =
                    if errors.is_empty() { "no tier reports an error".to_owned() } else { errors.join("; ") };
                return Err(Stop::Failed(
                    "recoveryPoint",
                    format!(
                        "no checkpoint holds op {commit} after {} s (newest: {reached}); {why}",
                        PATIENCE.as_secs()
                    ),
                ));
            }
            self.course.detail(|| format!("op {reached} of {commit}"));
            tokio::time::sleep(POLL).await;
        }
    }

    /// A minority dies; the rest must not notice for longer than a view change, and nothing may be lost.
    async fn partial_loss(&mut self) -> Step<()> {
        let primary = self.cluster.primary().await;
        let primary =
            primary.ok_or_else(|| Stop::Failed("primary", "no replica names a primary".to_owned()))?;
        let victim = match self.settings.scenario {
            Scenario::LosePrimary => primary,
            _ => self.cluster.ids().into_iter().find(|&id| id != primary).unwrap_or(primary),
        };
        self.course.begin("disaster");
        self.promises.end();
        let before = self.writers.record().highest_revision();
        let killed = Instant::now();
        self.cluster.kill(&[victim]).await.map_err(errored)?;

        self.course.begin("firstWrite");
        let after = self.first_write(&Writers::new(self.client.clone()), killed).await?;
        self.course.report.revision = Revisions { before, after: Some(after) };

        if self.settings.scenario == Scenario::LosePrimary {
            self.course.begin("recording");
            let outcome = match self.cluster.primary().await {
                Some(leads) => recording::replay(self.cluster, leads).await,
                None => Err("no replica names a primary".to_owned()),
            };
            let same = outcome.is_ok();
            self.course.check("recordingReplays", same, outcome.unwrap_or_else(|reason| reason));
        }

        self.course.begin("recover");
        self.cluster.start_replica(victim).map_err(errored)?;
        let gone = self.cluster.wait_until_ready(PATIENCE).await;
        let detail = match &gone {
            Ok(gone) if gone.is_empty() => format!("replica {victim} is back"),
            Ok(_) => format!("replica {victim} did not come back: {}", self.end_of_log(victim)),
            Err(error) => error.to_string(),
        };
        self.course.check("replicaRecovers", gone.is_ok_and(|gone| gone.is_empty()), detail);

        self.course.begin("proof");
        self.stop_writers().await;
        self.course.report.acknowledged_ops = self.writers.record().acknowledged();
        let findings = self.read_and_compare(Some(Instant::now())).await?;
        self.check_findings(&findings, killed);
        let (twice, count) = {
            let record = self.writers.record();
            (record.revision_twice(), record.transactions())
        };
        self.check_revisions(twice, count);
        self.check_agreement().await;
        Ok(())
    }

    /// Everybody dies: restore, prove, and see that the old generation stays out.
    async fn total_loss(&mut self) -> Step<()> {
        let ids = self.cluster.ids();
        self.course.begin("disaster");
        let promised = self.promises.end();
        let killed = Instant::now();
        self.writers.stop();
        self.cluster.kill(&ids).await.map_err(errored)?;
        let keepsake =
            zombie::Keepsake::take(self.cluster, self.settings.scenario.loses_disks()).map_err(errored)?;
        if self.settings.scenario.loses_disks() {
            for id in ids {
                self.cluster.wipe_disks(id).map_err(errored)?;
            }
        }
        if let Some(sabotage) = self.settings.sabotage {
            let done = sabotage::carry_out(sabotage, self.cluster).await.map_err(errored)?;
            self.course.detail(|| done);
        }

        if self.settings.scenario == Scenario::CorruptEverythingButOne {
            let spared = self.spared();
            let done = sabotage::spare_only(&spared, self.cluster).await.map_err(errored)?;
            self.course.detail(|| done);
        }

        self.course.begin("restore");
        let (plan, rival) = match self.settings.scenario {
            Scenario::RaceTwoClusters => self.race().await.map(|(plan, rival)| (plan, Some(rival)))?,
            _ => {
                let target = self.moment.map_or(Target::Newest, Target::Revision);
                let plan = recovery::restore(self.cluster, &target).await;
                (plan.map_err(|error| Stop::Failed("restore", format!("{error:#}")))?, None)
            }
        };
        self.course.report.expected_root = Some(plan.root.clone());
        // Before anything serves again on the same ports: a write that is still under way must not get there.
        self.stop_writers().await;
        {
            let record = self.writers.record();
            self.course.report.acknowledged_ops = record.acknowledged();
            self.course.report.revision.before = record.highest_revision();
        }
        self.cluster.start_replicas().map_err(errored)?;
        let gone = self.cluster.wait_until_ready(PATIENCE).await;
        let gone = gone.map_err(|error| Stop::Failed("restore", error.to_string()))?;
        let back = gone.is_empty();
        self.course.check(
            "restore",
            back,
            if back { plan.to_string() } else { format!("replicas {gone:?} did not come back") },
        );
        self.cluster.describe(|d| (d.served, d.restore) = (true, None)).map_err(errored)?;

        self.course.begin("firstWrite");
        let writers = Writers::new(self.client.clone());
        let after = self.first_write(&writers, killed).await?;
        self.course.report.revision.after = Some(after);

        self.course.begin("proof");
        let findings = self.read_and_compare(promised).await?;
        self.check_findings(&findings, killed);
        let handed_out = self.write_after(&writers, after).await?;
        let twice = proof::reused_revision(self.course.report.revision.before, &handed_out)
            .or(self.writers.record().revision_twice());
        self.check_revisions(twice, handed_out.len() as u64);
        self.check_root(&plan).await;
        self.check_agreement().await;

        if self.settings.scenario == Scenario::CorruptEverythingButOne {
            self.course.begin("wholeAgain");
            self.check_tiers_are_whole().await;
        }
        if let Some(rival) = rival {
            self.course.begin("rival");
            self.check_rival(rival).await?;
        }

        self.course.begin("oldGeneration");
        let verdict = keepsake.start_by_hand(self.cluster).await.map_err(errored)?;
        self.course.check("oldGenerationFenced", verdict.fenced, verdict.detail);
        Ok(())
    }

    async fn first_write(&mut self, writers: &Writers, killed: Instant) -> Step<i64> {
        let first = writers.put_until_served("probe/first", PATIENCE).await;
        let revision = first.map_err(|status| {
            Stop::Failed("firstWrite", format!("no write was served: {}", status.message()))
        })?;
        self.course.report.rto_seconds = Some(killed.elapsed().as_secs_f64());
        Ok(revision)
    }

    async fn write_after(&self, writers: &Writers, first: i64) -> Step<Vec<i64>> {
        let mut handed_out = vec![first];
        for number in 0..WRITES_AFTER {
            let key = format!("probe/after/{number}");
            let revision = writers.put_until_served(&key, PATIENCE).await;
            handed_out.push(revision.map_err(|status| {
                Stop::Failed(
                    "writeAfter",
                    format!("a write after the first was not served: {}", status.message()),
                )
            })?);
        }
        Ok(handed_out)
    }

    async fn stop_writers(&mut self) {
        self.writers.stop();
        while self.background.join_next().await.is_some() {}
    }

    async fn read_and_compare(&mut self, promised: Option<Instant>) -> Step<Findings> {
        let read = load::read_all(&self.client, load::PREFIX, PATIENCE).await;
        let (view, canary) = read.map_err(|status| {
            Stop::Failed(
                "acknowledgedWritesPresent",
                format!("the state cannot be read: {}", status.message()),
            )
        })?;
        let found = canary.as_deref().map(String::from_utf8_lossy);
        let expected = String::from_utf8_lossy(&self.canary).into_owned();
        let detail = match &found {
            Some(found) if *found == expected => format!("{expected} is back"),
            Some(found) => {
                format!("found {found:?}, but this drill wrote {expected:?}: the state is a stale one")
            }
            None => format!("{expected:?} is gone"),
        };
        self.course.check("canary", found.is_some_and(|found| found == expected), detail);
        let Some(moment) = self.moment else {
            return Ok(proof::compare(&self.writers.record(), &view, promised));
        };
        // Everything up to there was on a tier; what came after was to be left out, so it is not lost.
        let findings = proof::compare(&self.writers.record().until(moment), &view, Some(Instant::now()));
        let exact = findings.horizon == moment;
        let detail =
            format!("the newest is of revision {}, revision {moment} was asked for", findings.horizon);
        self.course.check("exactMoment", exact, detail);
        Ok(findings)
    }

    /// Chooses the moment that is to come back, and waits until a tier that survives leads there.
    async fn note_the_moment(&mut self) -> Step<()> {
        self.course.begin("moment");
        let moment = self.writers.record().highest_revision();
        let reached = self.wait_for_recovery_point_beyond(moment).await;
        self.moment = Some(moment);
        reached
    }

    /// Until what a surviving tier leads to includes everything that is committed now.
    async fn wait_for_recovery_point_beyond(&mut self, revision: i64) -> Step<()> {
        let statuses = self.promises.look().await;
        let commit = statuses.iter().map(|status| status.commit).max().unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        while promise::recovery_op(&self.promises.look().await, self.settings.scenario) < commit {
            if Instant::now() >= deadline {
                let reason = format!(
                    "no tier leads to revision {revision} (op {commit}) after {} s",
                    PATIENCE.as_secs()
                );
                return Err(Stop::Failed("recoveryPoint", reason));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn check_findings(&mut self, findings: &Findings, killed: Instant) {
        self.course.report.lost_ops = findings.lost;
        self.course.report.rpo_seconds =
            findings.first_lost_at.map_or(0.0, |first| killed.saturating_duration_since(first).as_secs_f64());
        let kept = self.course.report.acknowledged_ops.saturating_sub(findings.lost);
        let all_there = findings.missing.count == 0;
        let there = format!("{kept} writes up to revision {}", findings.horizon);
        let detail =
            if all_there { there } else { format!("{} keys: {}", findings.missing.count, findings.missing) };
        self.course.check("acknowledgedWritesPresent", all_there, detail);

        let none = findings.invented.count == 0;
        let detail = if none { "only what was written".to_owned() } else { findings.invented.to_string() };
        self.course.check("nothingInvented", none, detail);

        let broken = findings.lost_despite_promise;
        let detail = match broken {
            0 => format!("{} lost, none of them was promised to survive", findings.lost),
            broken => {
                format!("{broken} of {} lost writes were below the reported recovery point", findings.lost)
            }
        };
        self.course.check("lossWithinReport", broken == 0, detail);
    }

    fn check_revisions(&mut self, twice: Option<i64>, count: u64) {
        let before = self.course.report.revision.before;
        let detail = match twice {
            None => format!("{count} revisions, none handed out before (highest before: {before})"),
            Some(revision) => format!("revision {revision} was handed out twice (highest before: {before})"),
        };
        self.course.check("noRevisionTwice", twice.is_none(), detail);
    }

    /// What each replica says that it has loaded, against the recovery point that was chosen.
    async fn check_root(&mut self, plan: &recovery::Plan) {
        let loaded = match self.loaded().await {
            Ok(loaded) => loaded,
            Err(reason) => {
                self.course.check("rootIsManifests", false, reason);
                return;
            }
        };
        let other = loaded.iter().find(|(_, from)| !plan.chose(from));
        let detail = match other {
            None => format!("{} at op {}, by all {} replicas", plan.root, plan.checkpoint, loaded.len()),
            Some((id, from)) => format!(
                "replica {id} has loaded {} at op {} (generation {}, log to op {}); chosen was {} at op {} (generation \
                 {}, log to op {})",
                from.root,
                from.checkpoint,
                from.generation,
                from.op,
                plan.root,
                plan.checkpoint,
                plan.generation,
                plan.op
            ),
        };
        let same = other.is_none();
        // Each replica loads from where it is nearest; the fastest says which tier won.
        let told = other.or(loaded.iter().find(|(_, from)| from.tier == plan.tier)).or(loaded.first());
        self.course.report.restored_from = told.map(|(_, from)| report::restored_from(from.clone()));
        self.course.check("rootIsManifests", same, detail);
    }

    /// What every replica says that it has loaded.
    async fn loaded(&self) -> Result<Vec<(u64, Loaded)>, String> {
        let statuses = self.cluster.statuses().await;
        let loaded = self.cluster.ids().into_iter().zip(statuses).map(|(id, status)| {
            let status = status.ok_or_else(|| format!("replica {id} does not say what it has loaded"))?;
            let from = status.restored_from;
            Ok((id, from.ok_or_else(|| format!("replica {id} has loaded no recovery point"))?))
        });
        loaded.collect()
    }

    /// Every replica has the same history: the same hash over all keys and revisions.
    async fn check_agreement(&mut self) {
        let outcome = load::hash_everywhere(&self.client, PATIENCE).await;
        let (agree, detail) = match outcome {
            Ok(hashes) => {
                let same = hashes.windows(2).all(|pair| pair[0] == pair[1]);
                (same, format!("hashes {hashes:08x?}"))
            }
            Err(status) => (false, format!("no hash: {}", status.message())),
        };
        self.course.check("replicasAgree", agree, detail);
    }

    fn end_of_log(&self, id: u64) -> String {
        crate::dev::process::last_lines(&self.cluster.layout().log(id), 3)
    }
}
