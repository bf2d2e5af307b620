//! `vr drill restore`: is what lies in a bucket a database that would come back? A copy of it is restored here, serves,
//! and is looked at.
//!
//! What a restore may need is fetched into an object store of the drill's own, and everything else happens there, by the
//! means of the other drills: choice, fence, replicas, first write, checks. At the end what was fetched is damaged on
//! purpose, which must be noticed.
//!
//! Promises: of the source nothing but `HEAD`, `LIST` and `GET` is asked; nobody but this machine reaches the copy. Not:
//! that the database is restored as fast as here. Fetching is counted into the time, since a restore must fetch, too.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use futures_util::{TryStreamExt, stream};
use tokio::task::LocalSet;
use vr_checkpoint::restore::{Candidate, Target};
use vr_checkpoint::store::{Created, ObjectStore, StoreError, Swapped};
use vr_proto::etcdserverpb::RangeRequest;

use super::course::{Course, Step, Stop, Telling, errored};
use super::load::Writers;
use super::progress::Progress;
use super::report::{self, Outcome, Report};
use super::sabotage;
use super::scenario::Sabotage;
use super::workplace::{self, Workplace};
use crate::checkpoint::Place;
use crate::client::Client;
use crate::dev::cluster::Cluster;
use crate::dev::object_store::ObjectStoreArgs;
use crate::dev::signals::Signals;
use crate::dev::{self, recovery, tiers};
use crate::recovery_point::NotFound;
use crate::units;

/// What is rehearsed, as reports name it.
const SCENARIO: &str = "restore-from-object-store";
/// For a start, a write or a read of the copy.
const PATIENCE: Duration = Duration::from_secs(300);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Objects that are fetched at the same time.
const FETCHES: usize = 8;
/// How often an object is read before it counts as one that cannot be.
const READS: usize = 4;
const AGAIN: Duration = Duration::from_millis(500);
/// The first write of the copy.
const FIRST: &str = "drill/first-write";

/// Restores a copy of what lies in a bucket, on this machine, and proves what it is
///
/// The source is read, never written. Exit status: 0 passed; 1 failed, it would not come back as promised; 2 the drill
/// could not be carried out and says nothing about the data.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    place: Place,

    /// A key that must have this value in the copy; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = canary)]
    canary: Vec<(String, String)>,

    /// The newest op that the source had committed when the drill began: what is above it would be lost
    #[arg(long, value_name = "OP")]
    source_op: Option<u64>,

    /// When that was, for example 2026-11-23T07:00:00Z
    #[arg(long, value_name = "TIME", requires = "source_op")]
    source_time: Option<jiff::Timestamp>,

    /// The drill fails if writes of more time than this would be lost
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "source_time")]
    rpo: Option<Duration>,

    /// The drill fails if the first write is served later than this
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    rto: Option<Duration>,

    /// Replicas of the copy: 1, 3, 5, 7 or 9; each has the whole state in memory
    #[arg(long, value_name = "N", default_value = "1", value_parser = dev::replicas)]
    replicas: u16,

    /// Work in this directory and keep it; it must not hold a cluster [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    telling: Telling,
}

fn canary(typed: &str) -> Result<(String, String), String> {
    match typed.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{typed:?}: give KEY=VALUE")),
    }
}

impl Restore {
    /// Carries it out and tells what was found.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub fn run(self) -> anyhow::Result<std::process::ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = LocalSet::new().block_on(&runtime, self.carry_out());
        self.telling.tell(&report)
    }

    async fn carry_out(&self) -> Report {
        self.try_to().await.unwrap_or_else(|error| Report {
            reason: Some(crate::with_causes(&error)),
            ..Report::of(SCENARIO)
        })
    }

    async fn try_to(&self) -> anyhow::Result<Report> {
        let mut signals = Signals::new()?;
        workplace::sweep().iter().for_each(|told| eprintln!("{told}"));
        let workplace = Workplace::new(self.dir.as_deref())?;
        let layout = workplace.take()?;
        if layout.description()?.is_some() {
            bail!("{} holds a cluster: a drill needs a directory of its own", layout.root().display());
        }
        let own = ObjectStoreArgs::default();
        let description = dev::describe(self.replicas, None, &own, "copy", super::CADENCE, false)?;
        let mut cluster = Cluster::new(layout, description)?;
        let progress = Progress::on_terminal();
        let course = Course::new(Report::of(SCENARIO), &progress);
        let mut trial = Trial { asked: self, cluster: &mut cluster, course };
        let stop = tokio::select! {
            stop = trial.run() => stop.err(),
            () = signals.wait() => Some(Stop::Errored("interrupted".to_owned())),
        };
        let report = trial.course.conclude(stop);
        if report.result != Outcome::Passed {
            super::show_logs(&cluster);
        }
        let ids = cluster.ids();
        // There is nothing to keep: no need to wait for last checkpoints.
        cluster.kill(&ids).await?;
        cluster.stop().await?;
        drop(cluster);
        workplace.leave()?;
        Ok(report)
    }
}

/// A copy, restored and looked at.
struct Trial<'a> {
    asked: &'a Restore,
    cluster: &'a mut Cluster,
    course: Course<'a>,
}

impl Trial<'_> {
    async fn run(&mut self) -> Step<()> {
        let began = Instant::now();
        self.course.begin("resolve");
        let (source, lineage) = self.asked.place.one().await.map_err(errored)?;
        self.cluster.describe(|description| description.lineage = lineage).map_err(errored)?;
        self.cluster.start_object_store().await.map_err(errored)?;

        self.course.begin("fetch");
        let own = tiers::object_store(self.cluster.description()).await.store;
        self.fetch(&*source.store, &*own).await?;

        self.course.begin("restore");
        let plan = self.choose().await?;
        self.cluster.start_replicas().map_err(errored)?;
        let ready = self.cluster.wait_until_ready(PATIENCE).await;
        ready.map_err(|error| Stop::Failed("restore", error.to_string()))?;

        self.course.begin("firstWrite");
        let connector = self.cluster.connector().map_err(errored)?;
        let client = Client::new(&self.cluster.description().endpoints(), CALL_TIMEOUT, &connector);
        let written =
            Writers::new(client.clone()).put_patiently(FIRST, Bytes::from_static(b"1"), PATIENCE).await;
        written.map_err(|status| {
            Stop::Failed("firstWrite", format!("no write was served: {}", status.message()))
        })?;
        let rto = began.elapsed();
        self.course.report.rto_seconds = Some(rto.as_secs_f64());

        self.course.begin("checks");
        self.check_canaries(&client).await?;
        self.check_root(&plan).await;
        self.check_recovery_point(&plan);
        self.check_recovery_time(rto);
        let newest = plan.passed_over.is_empty();
        let detail = if newest {
            "nothing newer had to be passed over".to_owned()
        } else {
            plan.passed_over.join("; ")
        };
        self.course.check("newestIsWhole", newest, detail);

        self.course.begin("selfTest");
        self.test_itself(&client).await
    }

    /// Everything of the lineage. What a collection takes away meanwhile is left out: no restore needs it either.
    async fn fetch(&mut self, source: &dyn ObjectStore, own: &dyn ObjectStore) -> Step<()> {
        // First, so that whatever it leads to is among what is listed next.
        let head = source.head().await.map_err(errored)?;
        let Some((head, _)) = head else {
            let what = format!("{} holds no HEAD: nothing was ever shipped there", source.describe());
            return Err(Stop::Failed("source", what));
        };
        let listed = source.list("").await.map_err(errored)?;
        let total: u64 = listed.iter().map(|object| object.size).sum();
        self.course.detail(|| units::show_bytes(total));
        let listed = listed.into_iter().filter(|object| object.key != "HEAD");
        let unreadable: Vec<String> = stream::iter(listed.map(Ok))
            .map_ok(|object| copied(source, own, object.key))
            .try_buffer_unordered(FETCHES)
            .try_filter_map(|unreadable| async { Ok(unreadable) })
            .try_collect()
            .await?;
        let whole = unreadable.is_empty();
        let detail = if whole {
            units::show_bytes(total)
        } else {
            format!("{} objects cannot be read: {}", unreadable.len(), unreadable.join("; "))
        };
        self.course.check("fetch", whole, detail);
        match own.swap_head(None, head).await.map_err(errored)? {
            Swapped::Yes => Ok(()),
            other => Err(Stop::Errored(format!("HEAD cannot be kept here: {other:?}"))),
        }
    }

    async fn choose(&mut self) -> Step<recovery::Plan> {
        let failed = |error: anyhow::Error| match error.downcast::<NotFound>() {
            Ok(NotFound::Damaged { passed_over, table }) => (passed_over.join("; "), table),
            Ok(other) => (other.to_string(), Vec::new()),
            Err(other) => (crate::with_causes(&other), Vec::new()),
        };
        match recovery::restore(self.cluster, &Target::Newest).await {
            Ok(plan) => {
                self.course.report.candidates = plan.candidates.iter().map(shown).collect();
                self.course.report.expected_root = Some(plan.root.clone());
                self.course.check("restore", true, plan.to_string());
                Ok(plan)
            }
            Err(error) => {
                let (why, table) = failed(error);
                self.course.report.candidates = table.iter().map(shown).collect();
                Err(Stop::Failed("restore", why))
            }
        }
    }

    async fn check_canaries(&mut self, client: &Client) -> Step<()> {
        if self.asked.canary.is_empty() {
            return Ok(());
        }
        let mut wrong = None;
        for (key, value) in &self.asked.canary {
            let found = read(client, key).await?;
            wrong = wrong.or(differs(key, value, found.as_deref()));
        }
        let count = self.asked.canary.len();
        let detail = wrong.clone().unwrap_or_else(|| format!("{count} found, each with its value"));
        self.course.check("canary", wrong.is_none(), detail);
        Ok(())
    }

    /// What the replicas say that they have loaded, against what the manifest names.
    async fn check_root(&mut self, plan: &recovery::Plan) {
        let statuses = self.cluster.statuses().await;
        let loaded: Vec<_> =
            statuses.into_iter().flatten().filter_map(|status| status.restored_from).collect();
        let other = loaded.iter().find(|from| !plan.chose(from));
        let detail = match other.or(loaded.first()) {
            Some(from) => format!("{} at op {} and log through op {}", from.root, from.checkpoint, from.op),
            None => "no replica says what it has loaded".to_owned(),
        };
        let same = !loaded.is_empty() && other.is_none();
        self.course.report.restored_from = loaded.into_iter().next().map(report::restored_from);
        self.course.check("rootIsManifests", same, detail);
    }

    fn check_recovery_point(&mut self, plan: &recovery::Plan) {
        let Some(source) = self.asked.source_op else { return };
        let lost = source.saturating_sub(plan.op);
        self.course.report.rpo_ops = Some(lost);
        let reached = plan.candidates.iter().map(|(candidate, _)| candidate);
        let reached = reached.filter(|c| c.reachable_op >= plan.op).map(|c| c.time_micros).min();
        if let (true, Some(at), Some(micros)) = (lost > 0, self.asked.source_time, reached) {
            let micros = i64::try_from(micros).unwrap_or(i64::MAX);
            self.course.report.rpo_seconds = (at.as_microsecond() - micros).max(0) as f64 / 1e6;
        }
        let seconds = self.course.report.rpo_seconds;
        let within = self.asked.rpo.is_none_or(|most| seconds <= most.as_secs_f64());
        let most = self.asked.rpo.map_or_else(String::new, |most| format!(", at most {most:?} may be"));
        let detail =
            format!("op {} of {source}: {lost} operations of {seconds:.2} s would be lost{most}", plan.op);
        self.course.check("recoveryPoint", within, detail);
    }

    fn check_recovery_time(&mut self, took: Duration) {
        let Some(most) = self.asked.rto else { return };
        let detail = format!("{:.2} s to the first served write, {most:?} allowed", took.as_secs_f64());
        self.course.check("recoveryTime", took <= most, detail);
    }

    /// A drill that cannot fail proves nothing: what it has just found good is made bad, and must be found so.
    async fn test_itself(&mut self, client: &Client) -> Step<()> {
        if let Some((key, value)) = self.asked.canary.first() {
            let found = read(client, key).await?;
            let noticed = differs(key, &format!("not {value}"), found.as_deref());
            let detail = "another value than the one that is there is told apart".to_owned();
            self.course.check("selfTestStaleCanary", noticed.is_some(), detail);
        }
        let ids = self.cluster.ids();
        self.cluster.kill(&ids).await.map_err(errored)?;
        for id in ids {
            self.cluster.wipe_disks(id).map_err(errored)?;
        }
        for (name, broken) in
            [("selfTestFlippedBit", Sabotage::CorruptFrame), ("selfTestMissingPack", Sabotage::MissingPack)]
        {
            let done = sabotage::carry_out(broken, self.cluster).await.map_err(errored)?;
            let outcome = recovery::plan(self.cluster, &Target::Newest).await;
            let detail = match &outcome {
                Err(_) => format!("{done}, and refused"),
                Ok(plan) => format!("{done}, and not noticed: {plan}"),
            };
            self.course.check(name, outcome.is_err(), detail);
        }
        Ok(())
    }
}

fn shown((candidate, verdict): &(Candidate, String)) -> report::Candidate {
    report::Candidate {
        source: format!("generation {}, checkpoint {}", candidate.generation, candidate.checkpoint_op),
        op: candidate.reachable_op,
        time: i64::try_from(candidate.time_micros)
            .ok()
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
            .map(|at| at.to_string()),
        remark: Some(verdict.clone()).filter(|verdict| !verdict.is_empty()),
    }
}

/// Copies one object; why it cannot be read, if so. A restore would have to do without it.
async fn copied(source: &dyn ObjectStore, own: &dyn ObjectStore, key: String) -> Step<Option<String>> {
    let mut why = String::new();
    for _ in 0..READS {
        match source.get(&key).await {
            // A collection has taken it away meanwhile.
            Ok(None) => return Ok(None),
            Ok(Some(body)) => {
                return match own.create(&key, body).await.map_err(errored)? {
                    Created::Yes => Ok(None),
                    other => Err(Stop::Errored(format!("{key} cannot be kept here: {other:?}"))),
                };
            }
            Err(error @ StoreError::Permanent { .. }) => return Err(errored(error)),
            Err(error @ StoreError::Transient { .. }) => why = error.to_string(),
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(Some(why))
}

async fn read(client: &Client, key: &str) -> Step<Option<Vec<u8>>> {
    let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
    let answer = client.kv().range(request).await;
    let answer = answer
        .map_err(|status| Stop::Failed("canary", format!("{key} cannot be read: {}", status.message())))?;
    Ok(answer.into_inner().kvs.into_iter().next().map(|pair| pair.value.to_vec()))
}

/// How a key differs from what it should be, in words; nothing if it does not.
fn differs(key: &str, value: &str, found: Option<&[u8]>) -> Option<String> {
    match found {
        Some(found) if found == value.as_bytes() => None,
        Some(found) => Some(format!(
            "{key} has the value {:?} and not {value:?}: the state is a stale one",
            String::from_utf8_lossy(found)
        )),
        None => Some(format!("{key} is not there: the state is older than that key, or not of this cluster")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_a_key_and_a_value() {
        assert_eq!(canary("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(canary("a="), Ok(("a".to_owned(), String::new())));
        for wrong in ["", "a", "=b"] {
            assert!(canary(wrong).expect_err(wrong).contains("KEY=VALUE"));
        }
    }

    #[test]
    fn a_stale_value_and_none_are_told_apart() {
        assert_eq!(differs("k", "new", Some(b"new")), None);
        assert!(differs("k", "new", Some(b"old")).expect("it is stale").contains("\"old\" and not \"new\""));
        assert!(differs("k", "new", None).expect("it is gone").contains("k is not there"));
    }
}
