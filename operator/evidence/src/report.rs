//! What a drill found out: the same structure whoever ran it, on a laptop or in Kubernetes.

use serde::{Deserialize, Serialize};

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything that was to be proven was proven.
    Passed,
    /// The disaster was rehearsed, and something did not come back as promised.
    Failed,
    /// The drill could not be carried out; it says nothing about the service.
    Errored,
}

impl Outcome {
    /// The exit status that tells it to scripts.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Outcome::Passed => 0,
            Outcome::Failed => 1,
            Outcome::Errored => 2,
        }
    }
}

/// Everything a drill found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// How it ended.
    pub result: Outcome,
    /// Why, when it did not pass.
    pub reason: Option<String>,
    /// What was rehearsed.
    pub scenario: String,
    /// What was broken on purpose.
    pub sabotage: Option<String>,
    /// Writes of keys that were acknowledged before the disaster.
    pub acknowledged_ops: u64,
    /// Of these, those that did not come back.
    pub lost_ops: u64,
    /// From the first lost write's acknowledgement to the disaster; 0 when nothing was lost. Where nobody recorded the
    /// writes, from the time of the recovery point.
    pub rpo_seconds: f64,
    /// The ops that the source had committed and that did not come back, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_ops: Option<u64>,
    /// From the disaster to the first acknowledged write after it.
    pub rto_seconds: Option<f64>,
    /// What took how long, in order.
    pub phases: Vec<Phase>,
    /// The recovery point that the service came back from; none when no restore was needed.
    pub restored_from: Option<RestoredFrom>,
    /// What there was to restore from, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// The root that the manifest of that recovery point names.
    pub expected_root: Option<String>,
    /// Around the disaster.
    pub revision: Revisions,
    /// What was loaded, and what the tiers took.
    pub bytes: Bytes,
    /// What was loaded.
    pub input: Option<LoadedInput>,
    /// What was proven.
    pub checks: Vec<Check>,
}

/// A stretch of the drill.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub millis: u64,
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoredFrom {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// The database.
    pub lineage: String,
    /// The generation that wrote it.
    pub generation: u64,
    /// The op it reaches.
    pub op: u64,
    /// The root that the restored service reports for it.
    pub root: String,
}

/// Revisions around the disaster.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revisions {
    /// The highest one seen before.
    pub before: i64,
    /// Of the first write after.
    pub after: Option<i64>,
}

/// Sizes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bytes {
    /// Keys and values of the input.
    pub loaded: u64,
    /// What each tier reported as written before the disaster, all replicas together.
    pub written: Vec<TierBytes>,
}

/// What one tier took.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierBytes {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// Bytes.
    pub bytes: u64,
}

/// Where the input came from, and how much it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedInput {
    /// Its path.
    pub path: String,
    /// How much.
    #[serde(flatten)]
    pub counted: Counted,
}

/// One thing that was to be proven.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name, the same in every release.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// Entries.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Entries over the request limit.
    pub skipped_too_large: u64,
    /// Files and directories that could not be read.
    pub skipped_unreadable: u64,
}

/// Something to restore from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Where, and which checkpoint.
    pub source: String,
    /// The op that it reaches.
    pub op: u64,
    /// The time of that op.
    pub time: Option<String>,
    /// What became of it.
    pub remark: Option<String>,
}

/// Candidates that a brief report names.
const BRIEF_CANDIDATES: usize = 5;
/// Characters of a text in a brief report; halved until it fits.
const BRIEF_TEXT: usize = 320;

impl Report {
    /// Of a drill that has found out nothing yet.
    #[must_use]
    pub fn of(scenario: &str) -> Report {
        Report {
            result: Outcome::Errored,
            reason: None,
            scenario: scenario.to_owned(),
            sabotage: None,
            acknowledged_ops: 0,
            lost_ops: 0,
            rpo_seconds: 0.0,
            rpo_ops: None,
            rto_seconds: None,
            phases: Vec::new(),
            restored_from: None,
            candidates: Vec::new(),
            expected_root: None,
            revision: Revisions::default(),
            bytes: Bytes::default(),
            input: None,
            checks: Vec::new(),
        }
    }

    /// The same as JSON of at most `limit` bytes: fewer candidates, shorter texts, and how many candidates were left
    /// out. No check and no result is ever left out.
    ///
    /// # Panics
    /// Never with a limit of 4,000 or more: a report without texts is shorter.
    #[must_use]
    pub fn brief(&self, limit: usize) -> String {
        let mut report = self.clone();
        let more = report.candidates.len().saturating_sub(BRIEF_CANDIDATES);
        report.candidates.truncate(BRIEF_CANDIDATES);
        if let Some(last) = report.candidates.last_mut().filter(|_| more > 0) {
            last.remark =
                Some(format!("{} ({more} more)", last.remark.clone().unwrap_or_default()).trim().to_owned());
        }
        let mut longest = BRIEF_TEXT;
        loop {
            let text = serde_json::to_string(&report).expect("plain data is always JSON");
            if text.len() <= limit {
                return text;
            }
            assert!(longest > 0, "a report without texts has {} bytes", text.len());
            longest /= 2;
            let details = report.checks.iter_mut().map(|check| &mut check.detail);
            let remarks = report.candidates.iter_mut().filter_map(|candidate| candidate.remark.as_mut());
            details.chain(remarks).chain(report.reason.as_mut()).for_each(|text| shorten(text, longest));
        }
    }
}

fn shorten(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest.saturating_sub(3)));
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_report_fits_and_leaves_no_check_out() {
        let mut report = Report::of("restore");
        report.reason = Some("\u{e4}\"".repeat(2_000));
        for n in 0..20 {
            let detail = "x\n".repeat(500);
            report.checks.push(Check { name: format!("aRatherLongNameOfACheck{n}"), passed: n != 7, detail });
            let (source, remark) = (format!("s3://bucket/prefix: checkpoint {n}"), Some("y".repeat(400)));
            report.candidates.push(Candidate { source, op: n, time: None, remark });
        }
        let text = report.brief(4_000);
        assert!(text.len() <= 4_000, "{}", text.len());
        let read: Report = serde_json::from_str(&text).expect("it is a report");
        assert_eq!(read.checks.len(), 20);
        assert!(!read.checks[7].passed);
        assert_eq!(read.candidates.len(), 5);
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut report = Report::of("restore");
        report.reason = Some("why".to_owned());
        assert_eq!(report.brief(4_000), serde_json::to_string(&report).expect("plain data is always JSON"));
    }
}
