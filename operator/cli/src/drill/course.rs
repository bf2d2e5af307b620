//! The course of a drill: its phases, what was checked, what the end of it means, and whom it is told.
//!
//! A step that the service fails ends a drill as Failed, with the reason as a check; a step that this machine or the
//! input fails ends it as Errored. Whatever was found out until then is in the report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::progress::Progress;
use super::report::{self, Check, Outcome, Phase, Report};
use crate::output::{self, Format};

/// A pod's termination message holds 4,096 bytes.
const BRIEF: usize = 4_000;

/// Why a drill ended early.
pub enum Stop {
    /// The service did not do what it promises; the check that says so.
    Failed(&'static str, String),
    /// The drill could not be carried out and says nothing about the service.
    Errored(String),
}

/// A step of a drill.
pub type Step<T> = Result<T, Stop>;

/// This machine, or what was asked for, kept the drill from going on.
pub fn errored(error: impl Into<anyhow::Error>) -> Stop {
    Stop::Errored(crate::with_causes(&error.into()))
}

/// A drill on its way.
pub struct Course<'a> {
    /// What was found out until now.
    pub report: Report,
    progress: &'a Progress,
    phase: Option<(&'static str, Instant)>,
}

impl<'a> Course<'a> {
    /// Fills this report.
    #[must_use]
    pub fn new(report: Report, progress: &'a Progress) -> Course<'a> {
        Course { report, progress, phase: None }
    }

    /// A phase begins; the one before is done.
    pub fn begin(&mut self, name: &'static str) {
        self.end();
        self.progress.phase(name);
        self.phase = Some((name, Instant::now()));
    }

    /// How far the phase is, in words.
    pub fn detail(&self, detail: impl FnOnce() -> String) {
        self.progress.detail(detail);
    }

    /// Notes what was looked at.
    pub fn check(&mut self, name: &str, passed: bool, detail: String) {
        self.report.checks.push(Check { name: name.to_owned(), passed, detail });
    }

    /// The result: Passed if nothing stopped the drill and no check failed.
    #[must_use]
    pub fn conclude(mut self, stop: Option<Stop>) -> Report {
        self.end();
        self.progress.done();
        match stop {
            Some(Stop::Failed(name, reason)) => self.check(name, false, reason),
            Some(Stop::Errored(reason)) => {
                self.report.result = Outcome::Errored;
                self.report.reason = Some(reason);
                return self.report;
            }
            None => {}
        }
        let failed = self.report.checks.iter().filter(|check| !check.passed);
        let failed: Vec<String> = failed.map(|check| format!("{}: {}", check.name, check.detail)).collect();
        self.report.result = if failed.is_empty() { Outcome::Passed } else { Outcome::Failed };
        self.report.reason = (!failed.is_empty()).then(|| failed.join("; "));
        self.report
    }

    fn end(&mut self) {
        if let Some((name, begun)) = self.phase.take() {
            let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.report.phases.push(Phase { name: name.to_owned(), millis });
        }
    }
}

/// Where the report of a drill goes.
#[derive(Debug, Args)]
pub struct Telling {
    /// Write the report into this file as well, as JSON of at most 4000 bytes
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// How to print the report
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Telling {
    /// Writes and prints the report; the exit status says what came of the drill.
    ///
    /// # Errors
    /// When the file cannot be written, or stdout is closed.
    pub fn tell(&self, report: &Report) -> anyhow::Result<ExitCode> {
        if let Some(path) = &self.report {
            std::fs::write(path, report.brief(BRIEF))
                .with_context(|| format!("cannot write the report to {}", path.display()))?;
        }
        match self.output {
            Format::Json => output::json(report)?,
            Format::Table => output::text(report::table(report))?,
        }
        Ok(ExitCode::from(report.result.exit_status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concluded(checks: &[(&str, bool)], stop: Option<Stop>) -> Report {
        let progress = Progress::on_terminal();
        let mut course = Course::new(Report::of("any"), &progress);
        course.begin("only");
        for (name, passed) in checks {
            course.check(name, *passed, format!("detail of {name}"));
        }
        course.conclude(stop)
    }

    #[test]
    fn a_drill_passes_only_if_nothing_stopped_it_and_no_check_failed() {
        let report = concluded(&[("a", true)], None);
        assert_eq!((report.result, report.reason), (Outcome::Passed, None));
        assert_eq!(report.phases.len(), 1);
        let report = concluded(&[("a", true), ("b", false)], None);
        assert_eq!((report.result, report.reason.as_deref()), (Outcome::Failed, Some("b: detail of b")));
    }

    #[test]
    fn a_stop_by_the_service_is_a_failed_check_and_one_by_the_machine_is_none() {
        let report = concluded(&[("a", true)], Some(Stop::Failed("restore", "nothing whole".to_owned())));
        assert_eq!(
            (report.result, report.reason.as_deref()),
            (Outcome::Failed, Some("restore: nothing whole"))
        );
        assert_eq!(report.checks.len(), 2);
        let report = concluded(&[("a", false)], Some(Stop::Errored("no disk".to_owned())));
        assert_eq!((report.result, report.reason.as_deref()), (Outcome::Errored, Some("no disk")));
        assert_eq!(report.checks.len(), 1);
    }
}
