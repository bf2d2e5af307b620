//! A recording of a replica that was not simulated, told again: the same core, the same store, step by step.

use serde::Serialize;
use std::fmt;
use std::io::Write;
use std::time::Duration;
use vr_recorder::{Recording, Replayed};

/// What telling a recording again came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingReport {
    mode: &'static str,
    seeds: u64,
    /// Steps that were recorded.
    events: u64,
    events_per_second: u64,
    /// The release that recorded them.
    release: String,
    /// The first step that did something else, or what differs at the end.
    violations: Vec<String>,
    counters: Counters,
    /// The root of the state at the end, where it could be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counters {
    /// Cuts whose roots were compared.
    roots: u64,
    /// The newest op that is executed at the end.
    op: u64,
}

impl RecordingReport {
    /// Tells a recording again, each step a line in `trace` where there is one. `clock` is how long it took at the end.
    pub fn of(
        recording: &Recording,
        mut trace: Option<&mut dyn Write>,
        clock: impl Fn() -> Duration,
    ) -> RecordingReport {
        let outcome = recording.replay(|told| {
            if let Some(to) = &mut trace {
                // Whoever closes the pipe has read enough; the verdict is not lost with it.
                let _ = writeln!(to, "{told}");
            }
        });
        let events = recording.len() as u64;
        let mut report = RecordingReport {
            mode: "replay",
            seeds: 0,
            events,
            events_per_second: (events as f64 / clock().as_secs_f64().max(1e-6)) as u64,
            release: recording.release.clone(),
            violations: Vec::new(),
            counters: Counters::default(),
            root: None,
        };
        match outcome {
            Ok(Replayed { roots, op, root, .. }) => {
                report.counters = Counters { roots: roots as u64, op: op.0 };
                report.root = root.map(|root| root.to_string());
            }
            Err(difference) => report.violations.push(difference.to_string()),
        }
        report
    }

    /// Whether everything came to the same.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for RecordingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordingReport { events, events_per_second, release, counters, .. } = self;
        writeln!(f, "replay: {events} recorded steps of release {release}, {events_per_second} steps/s")?;
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        if release != env!("CARGO_PKG_VERSION") && !self.is_good() {
            writeln!(
                f,
                "this is release {}: replay a recording with the build that made it",
                env!("CARGO_PKG_VERSION")
            )?;
        }
        if self.is_good() {
            let Counters { roots, op } = counters;
            match &self.root {
                Some(root) => {
                    writeln!(f, "the same effects, {roots} cuts and, at op {op}, the same state {root}")?
                }
                None => writeln!(
                    f,
                    "the same effects and {roots} cuts; the end, at op {op}, is not compared: a state was on its way in"
                )?,
            }
        }
        write!(f, "{}", if self.is_good() { "good" } else { "NOT good" })
    }
}
