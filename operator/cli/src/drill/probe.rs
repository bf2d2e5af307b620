//! `vr drill probe`: what a client of a running cluster notices of a loss, and whether anything that was acknowledged is
//! missing afterwards.
//!
//! It writes heartbeats through the client API, below a prefix of its own, until it is told to end; then it reads
//! everything, holds it against its own record by the means of the other drills, and deletes it. Somebody else does the
//! harm: the operator in a live VRDrill, a person at a terminal.
//!
//! Promises: nothing but what is below its prefix is touched. Not: that the cluster has suffered any harm; whoever does
//! it knows that.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use tokio::task::{JoinSet, LocalSet};
use tonic::Status;
use vr_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest};
use vr_replica::tls::Connector;

use super::course::{Course, Step, Stop, Telling};
use super::load::{self, Writers};
use super::progress::Progress;
use super::proof::{self, Findings, View};
use super::record::Record;
use super::report::Report;
use crate::client::Client;
use crate::dev::signals::Signals;
use crate::endpoint::Endpoint;
use crate::trust::Trust;
use crate::units;

/// What is rehearsed, as reports name it.
const SCENARIO: &str = "probe";
/// For one answer. Longer than any view change, shorter than anybody's patience.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// For the first answer.
const ANSWERS: Duration = Duration::from_secs(20);
/// For the first write, and for everything after the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Heartbeat writers.
const WRITERS: usize = 4;
/// Between two looks for the key that ends it.
const LOOK: Duration = Duration::from_millis(200);
/// A restore skips more revisions than that, and nothing else skips so many.
const RESTORED: i64 = 1_000_000;
/// Below the prefix: there once the first write is acknowledged.
const BEGUN: &str = "begun";
/// Below the prefix: whoever writes it ends the probe.
const END: &str = "end";

/// Writes to a running cluster until it is told to end, and says what a client noticed and whether anything is lost
///
/// It ends after --for, on Ctrl-C, or when the key PREFIX/end is written. Exit status: 0 passed; 1 failed, something
/// acknowledged is missing; 2 the probe could not be carried out.
#[derive(Debug, Args)]
pub struct Probe {
    /// Where the cluster serves clients; the next one is tried when one does not answer
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<Endpoint>,

    #[command(flatten)]
    trust: Trust,

    /// Write below this prefix, which must be unused; everything below it is deleted at the end
    #[arg(long, value_name = "PREFIX", default_value = "vr-operator.io/probe", value_parser = prefix)]
    prefix: String,

    /// End after so much time [default: when the key PREFIX/end is written]
    #[arg(long = "for", value_name = "DURATION", value_parser = units::positive_duration)]
    lasts: Option<Duration>,

    /// The cluster may be restored meanwhile: what is lost by that is counted and fails nothing but --rpo
    #[arg(long)]
    may_lose: bool,

    /// Fail if writes of more time than this are lost
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "may_lose")]
    rpo: Option<Duration>,

    /// Fail if no write was acknowledged for longer than this
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    rto: Option<Duration>,

    #[command(flatten)]
    telling: Telling,
}

fn prefix(typed: &str) -> Result<String, String> {
    let typed = typed.trim_end_matches('/');
    if typed.is_empty() {
        Err("it would be every key: name a prefix".to_owned())
    } else {
        Ok(format!("{typed}/"))
    }
}

impl Probe {
    /// Carries it out and tells what was found.
    ///
    /// # Errors
    /// When endpoints and certificates do not go together, or the report cannot be written.
    pub fn run(self) -> anyhow::Result<std::process::ExitCode> {
        let connector = self.trust.connector(&self.endpoints)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = LocalSet::new().block_on(&runtime, self.carry_out(&connector));
        self.telling.tell(&report)
    }

    async fn carry_out(&self, connector: &Connector) -> Report {
        let client = Client::new(&self.endpoints, CALL_TIMEOUT, connector);
        let progress = Progress::on_terminal();
        let writers = Writers::below(client.clone(), &self.prefix);
        let course = Course::new(Report::of(SCENARIO), &progress);
        let mut trial = Trial { asked: self, client, writers, course };
        let stop = trial.run().await.err();
        trial.course.conclude(stop)
    }
}

struct Trial<'a> {
    asked: &'a Probe,
    client: Client,
    writers: Writers,
    course: Course<'a>,
}

fn refused(what: &str, status: &Status) -> Stop {
    Stop::Errored(format!("{what}: {}", status.message()))
}

impl Trial<'_> {
    async fn run(&mut self) -> Step<()> {
        let mut signals = Signals::new().map_err(|error| Stop::Errored(error.to_string()))?;
        self.course.begin("begin");
        let found =
            self.read(ANSWERS).await.map_err(|status| refused("the cluster cannot be read", &status))?;
        if !found.is_empty() {
            let what = format!(
                "{} keys are below {} already: name another --prefix",
                found.len(),
                self.asked.prefix
            );
            return Err(Stop::Errored(what));
        }
        let begun = self.writers.put_patiently(&self.key(BEGUN), Bytes::from_static(b"1"), PATIENCE).await;
        begun.map_err(|status| refused("no write was served", &status))?;

        self.course.begin("watch");
        let mut beating = JoinSet::new();
        for number in 0..WRITERS {
            let writers = self.writers.clone();
            beating.spawn_local(async move { writers.heartbeats(&format!("w{number}"), number).await });
        }
        tokio::select! {
            () = self.until_the_end() => {}
            () = signals.wait() => {}
        }
        self.writers.stop();
        while beating.join_next().await.is_some() {}

        self.course.begin("proof");
        let view = self.read(PATIENCE).await.map_err(|status| {
            Stop::Failed("served", format!("the cluster cannot be read any more: {}", status.message()))
        })?;
        self.prove(&view);

        self.course.begin("tidyUp");
        let left =
            self.tidy_up().await.map_err(|status| refused("what was written cannot be deleted", &status))?;
        self.course.check(
            "leavesNothing",
            left == 0,
            format!("{left} keys are left below {}", self.asked.prefix),
        );
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.asked.prefix)
    }

    async fn read(&self, patience: Duration) -> Result<View, Status> {
        load::read_all(&self.client, &self.asked.prefix, patience).await.map(|(view, _)| view)
    }

    async fn until_the_end(&self) {
        let deadline = self.asked.lasts.map(|lasts| Instant::now() + lasts);
        // Of its own, so that it does not lead writers from one endpoint to the next.
        let client = self.client.beginning_at(0);
        loop {
            let range = RangeRequest { key: self.key(END).into(), ..RangeRequest::default() };
            match client.kv().range(range).await {
                Ok(answer) if answer.get_ref().count > 0 => return,
                Ok(_) => {}
                Err(_) => client.go_on(),
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn prove(&mut self, view: &View) {
        let record = self.writers.record().clone();
        let mut view = view.clone();
        // Of whoever ended the probe.
        view.remove(self.key(END).as_bytes());
        let restored = restored_at(&record).filter(|_| self.asked.may_lose);
        let (old, new) = held_against(&record, &view, restored);
        let report = &mut self.course.report;
        report.acknowledged_ops = record.acknowledged();
        report.lost_ops = old.lost;
        report.revision.before = restored.unwrap_or(record.highest_revision());
        report.revision.after = restored.map(|_| record.highest_revision());
        let pause = record.longest_pause();
        report.rto_seconds = pause.map(|(_, pause)| pause.as_secs_f64());
        if let (Some(first), Some((began, _))) = (old.first_lost_at, pause) {
            report.rpo_seconds = began.saturating_duration_since(first).as_secs_f64();
        }
        let (lost, seconds) = (old.lost, report.rpo_seconds);
        let missing = old.missing.count + new.as_ref().map_or(0, |new| new.missing.count + new.lost);
        let all = missing == 0 && (restored.is_some() || lost == 0);
        let detail = match missing {
            0 => format!("{} acknowledged, {lost} lost", record.acknowledged()),
            _ => new
                .iter()
                .map(|new| new.missing.to_string())
                .fold(old.missing.to_string(), |a, b| format!("{a} {b}")),
        };
        self.course.check("acknowledgedWritesPresent", all, detail);
        let invented = old.invented.count + new.as_ref().map_or(0, |new| new.invented.count);
        let detail =
            if invented == 0 { "only what was written".to_owned() } else { old.invented.to_string() };
        self.course.check("nothingInvented", invented == 0, detail);
        let twice = record.revision_twice();
        let detail =
            twice.map_or_else(|| format!("{} revisions", record.transactions()), |r| format!("{r} twice"));
        self.course.check("noRevisionTwice", twice.is_none(), detail);
        if let Some(most) = self.asked.rpo {
            let detail = format!("{lost} writes of {seconds:.2} s lost, {most:?} may be");
            self.course.check("recoveryPoint", seconds <= most.as_secs_f64(), detail);
        }
        if let (Some(most), Some((_, pause))) = (self.asked.rto, pause) {
            let detail =
                format!("no write was acknowledged for {:.2} s, {most:?} allowed", pause.as_secs_f64());
            self.course.check("recoveryTime", pause <= most, detail);
        }
    }

    async fn tidy_up(&self) -> Result<i64, Status> {
        let deadline = Instant::now() + PATIENCE;
        let range_end = load::end_of(&self.asked.prefix);
        let key = Bytes::copy_from_slice(self.asked.prefix.as_bytes());
        loop {
            let delete = DeleteRangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                ..DeleteRangeRequest::default()
            };
            let count = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                count_only: true,
                ..RangeRequest::default()
            };
            let deleted = self.client.kv().delete_range(delete).await;
            match deleted.map(|_| ()) {
                Ok(()) => match self.client.kv().range(count).await {
                    Ok(answer) => return Ok(answer.into_inner().count),
                    Err(status) if Instant::now() >= deadline => return Err(status),
                    Err(_) => {}
                },
                Err(status) if Instant::now() >= deadline => return Err(status),
                Err(_) => {}
            }
            self.client.go_on();
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The highest revision before the cluster was restored, if it was.
fn restored_at(record: &Record) -> Option<i64> {
    let mut revisions: Vec<i64> =
        record.keys().flat_map(|(_, history)| history.acknowledged()).map(|write| write.revision).collect();
    revisions.sort_unstable();
    revisions.windows(2).find(|pair| pair[1] - pair[0] > RESTORED).map(|pair| pair[0])
}

/// What was written before a restore, and what after it, each held against what is there of it.
fn held_against(record: &Record, view: &View, restored: Option<i64>) -> (Findings, Option<Findings>) {
    let Some(revision) = restored else {
        return (proof::compare(record, view, None), None);
    };
    let (old, new): (View, View) = view
        .iter()
        .map(|(key, shown)| (key.clone(), *shown))
        .partition(|(_, shown)| shown.mod_revision <= revision);
    let old = proof::compare(&record.until(revision), &old, None);
    let new = proof::compare(&record.since(revision), &new, None);
    (old, Some(new))
}

#[cfg(test)]
mod tests {
    use super::super::proof::Shown;
    use super::super::record::ValueHash;
    use super::*;

    const AFTER: i64 = 10_000_000;

    /// Keys at these revisions, all acknowledged.
    fn written(revisions: &[i64]) -> (Record, View) {
        let (mut record, mut view) = (Record::default(), View::new());
        let value = ValueHash::of(b"v");
        for &revision in revisions {
            let key = Bytes::from(format!("k{revision}"));
            record.acknowledge(key.clone(), Some(value), revision, Instant::now());
            view.insert(key, Shown { mod_revision: revision, value });
        }
        (record, view)
    }

    #[test]
    fn a_restore_is_told_from_everything_else() {
        assert_eq!(restored_at(&written(&[2, 3, 900]).0), None);
        assert_eq!(restored_at(&written(&[2, 3, AFTER, AFTER + 1]).0), Some(3));
        assert_eq!(restored_at(&Record::default()), None);
    }

    #[test]
    fn what_a_restore_lost_is_counted_and_what_came_later_must_be_there() {
        let (record, mut view) = written(&[2, 3, 4, AFTER, AFTER + 1]);
        view.remove(&b"k4"[..]);
        let (old, new) = held_against(&record, &view, restored_at(&record));
        let new = new.expect("there was a restore");
        assert_eq!((old.lost, old.missing.count, new.lost, new.missing.count), (1, 0, 0, 0));
        view.remove(&b"k10000001"[..]);
        let (_, new) = held_against(&record, &view, restored_at(&record));
        assert_eq!(new.expect("there was a restore").lost, 1);
        view.remove(&b"k2"[..]);
        let (old, _) = held_against(&record, &view, restored_at(&record));
        assert_eq!(old.missing.count, 1, "a gap below what came back is no loss of a tail");
    }

    #[test]
    fn a_prefix_is_none_that_holds_every_key() {
        assert_eq!(prefix("a/b"), Ok("a/b/".to_owned()));
        assert_eq!(prefix("a/b//"), Ok("a/b/".to_owned()));
        assert!(prefix("/").is_err() && prefix("").is_err());
    }
}
