//! The proof: what the service shows through the client API, held against what the load generator recorded.
//!
//! Pure: it reads nothing by itself, so every way in which a restore can lie has a test here.
//!
//! The *horizon* is the highest revision of the old generation that the restored service still shows. A restored
//! state is a prefix of the history: every write up to the horizon is there, none above it. (A deletion leaves nothing
//! to read a revision from; the load generator deletes only in transactions that also put.) The *promise* is the
//! moment up to which the service had said, before the disaster, that everything is on a tier that will survive.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::record::{Effect, Record, ValueHash};

/// A key as the restored service shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its revision.
    pub mod_revision: i64,
    /// Its value.
    pub value: ValueHash,
}

/// Everything that the restored service shows of the old generation.
pub type View = HashMap<Bytes, Shown>;

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The highest revision shown.
    pub horizon: i64,
    /// Acknowledged writes above the horizon.
    pub lost: u64,
    /// Of these, those that the service had promised to keep.
    pub lost_despite_promise: u64,
    /// The first moment at which a lost write was acknowledged.
    pub first_lost_at: Option<Instant>,
    /// Keys that lack an acknowledged write below the horizon.
    pub missing: Examples,
    /// Keys with something that was never written.
    pub invented: Examples,
}

/// How many, and the first few in words.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// How many.
    pub count: u64,
    /// The first few.
    pub first: Vec<String>,
}

impl Examples {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < 3 {
            self.first.push(example());
        }
    }
}

impl std::fmt::Display for Examples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.first.join("; "))?;
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Compares. `promised` is the moment up to which everything acknowledged was promised to survive.
#[must_use]
pub fn compare(record: &Record, view: &View, promised: Option<Instant>) -> Findings {
    let horizon = view.values().map(|shown| shown.mod_revision).max().unwrap_or(0);
    let mut findings = Findings { horizon, ..Findings::default() };
    for (key, history) in record.keys() {
        let shown = view.get(key);
        for write in history.acknowledged().iter().filter(|write| write.revision > horizon) {
            findings.lost += 1;
            findings.lost_despite_promise += u64::from(promised.is_some_and(|promised| write.at <= promised));
            findings.first_lost_at =
                Some(findings.first_lost_at.map_or(write.at, |first| first.min(write.at)));
        }
        let Some(newest) = history.newest_at(horizon) else { continue };
        // A write of unknown outcome may have come after it.
        let explained = shown.map_or(newest.effect.is_none(), |shown| {
            shown.mod_revision == newest.revision && newest.effect == Some(shown.value)
        }) || explained_by_unknown(history.unknown(), shown, newest.revision);
        if !explained {
            findings.missing.add(|| difference(key, shown, newest.revision, newest.effect));
        }
    }
    for (key, shown) in view {
        if !was_written(record, key, shown) {
            findings.invented.add(|| {
                format!("{} has a value at revision {} that was never written", name(key), shown.mod_revision)
            });
        }
    }
    findings
}

fn explained_by_unknown(unknown: &[Effect], shown: Option<&Shown>, after: i64) -> bool {
    match shown {
        Some(shown) => shown.mod_revision > after && unknown.contains(&Some(shown.value)),
        None => unknown.contains(&None),
    }
}

fn was_written(record: &Record, key: &Bytes, shown: &Shown) -> bool {
    record.history(key).is_some_and(|history| {
        let acknowledged = history.acknowledged().iter();
        acknowledged.clone().any(|w| w.revision == shown.mod_revision && w.effect == Some(shown.value))
            || (history.unknown().contains(&Some(shown.value))
                && acknowledged.clone().all(|w| w.revision != shown.mod_revision))
    })
}

fn difference(key: &[u8], shown: Option<&Shown>, revision: i64, effect: Effect) -> String {
    let expected = match effect {
        Some(_) => format!("its value of revision {revision}"),
        None => format!("its deletion at revision {revision}"),
    };
    match shown {
        None => format!("{} lacks {expected}", name(key)),
        Some(shown) => format!("{} lacks {expected}, shows revision {}", name(key), shown.mod_revision),
    }
}

fn name(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}

/// Whether any revision that the new generation handed out had been handed out before, or twice.
#[must_use]
pub fn reused_revision(before: i64, handed_out: &[i64]) -> Option<i64> {
    let mut seen = HashSet::new();
    handed_out.iter().copied().find(|&revision| revision <= before || !seen.insert(revision))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hash(value: &str) -> ValueHash {
        ValueHash::of(value.as_bytes())
    }

    struct Story {
        record: Record,
        view: View,
        start: Instant,
    }

    impl Story {
        /// Ten keys, `k1` to `k10`, written at revisions 1 to 10, a second apart, and all shown.
        fn new() -> Story {
            let mut story = Story { record: Record::default(), view: View::new(), start: Instant::now() };
            for n in 1..=10 {
                story.put(&format!("k{n}"), "v", n);
                story.show(&format!("k{n}"), "v", n);
            }
            story
        }

        fn put(&mut self, key: &str, value: &str, revision: i64) {
            let at = self.start + Duration::from_secs(revision as u64);
            self.record.acknowledge(key.to_owned().into(), Some(hash(value)), revision, at);
        }

        fn show(&mut self, key: &str, value: &str, mod_revision: i64) {
            self.view.insert(key.to_owned().into(), Shown { mod_revision, value: hash(value) });
        }

        fn hide(&mut self, key: &str) {
            self.view.remove(key.as_bytes());
        }

        fn findings(&self) -> Findings {
            compare(&self.record, &self.view, Some(self.start + Duration::from_millis(7_500)))
        }
    }

    #[test]
    fn everything_is_there() {
        let findings = Story::new().findings();
        assert_eq!((findings.horizon, findings.lost), (10, 0));
        assert_eq!((findings.missing.count, findings.invented.count), (0, 0));
    }

    #[test]
    fn a_lost_tail_is_loss_and_no_gap() {
        let mut story = Story::new();
        for key in ["k8", "k9", "k10"] {
            story.hide(key);
        }
        let findings = story.findings();
        assert_eq!((findings.horizon, findings.lost, findings.lost_despite_promise), (7, 3, 0));
        assert_eq!(findings.first_lost_at, Some(story.start + Duration::from_secs(8)));
        assert_eq!(findings.missing.count, 0);
    }

    #[test]
    fn a_tail_that_was_promised_is_told_apart() {
        let mut story = Story::new();
        for key in ["k6", "k7", "k8", "k9", "k10"] {
            story.hide(key);
        }
        assert_eq!(story.findings().lost_despite_promise, 2);
    }

    #[test]
    fn a_gap_is_found() {
        let mut story = Story::new();
        story.hide("k3");
        let findings = story.findings();
        assert_eq!(findings.missing.count, 1);
        assert_eq!(findings.missing.to_string(), "\"k3\" lacks its value of revision 3");
    }

    #[test]
    fn an_older_value_is_a_gap() {
        let mut story = Story::new();
        story.put("k1", "newer", 5);
        assert_eq!(
            story.findings().missing.to_string(),
            "\"k1\" lacks its value of revision 5, shows revision 1"
        );
    }

    #[test]
    fn a_wrong_value_at_the_right_revision_is_both_missing_and_invented() {
        let mut story = Story::new();
        story.show("k1", "forged", 1);
        let findings = story.findings();
        assert_eq!((findings.missing.count, findings.invented.count), (1, 1));
    }

    #[test]
    fn a_key_that_nobody_wrote_is_invented() {
        let mut story = Story::new();
        story.show("stranger", "v", 4);
        let findings = story.findings();
        assert!(findings.invented.to_string().contains("\"stranger\" has a value at revision 4"));
    }

    #[test]
    fn a_deleted_key_that_is_back_is_found() {
        let mut story = Story::new();
        let at = story.start + Duration::from_secs(9);
        story.record.acknowledge("k1".into(), None, 9, at);
        assert_eq!(
            story.findings().missing.to_string(),
            "\"k1\" lacks its deletion at revision 9, shows revision 1"
        );
        story.hide("k1");
        assert_eq!(story.findings().missing.count, 0);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_there_or_not() {
        let mut story = Story::new();
        story.record.unknown("k1".into(), Some(hash("maybe")));
        story.record.unknown("new".into(), Some(hash("maybe")));
        assert_eq!(story.findings().missing.count, 0);
        story.show("k1", "maybe", 6);
        story.show("new", "maybe", 11);
        let findings = story.findings();
        assert_eq!((findings.missing.count, findings.invented.count), (0, 0));
        // But not below what was acknowledged after it, and with no other value.
        story.put("k1", "later", 7);
        story.show("new", "other", 11);
        let findings = story.findings();
        assert_eq!((findings.missing.count, findings.invented.count), (1, 1));
    }

    #[test]
    fn nothing_at_all_is_total_loss() {
        let mut story = Story::new();
        story.view.clear();
        let findings = story.findings();
        assert_eq!((findings.horizon, findings.lost, findings.lost_despite_promise), (0, 10, 7));
    }

    #[test]
    fn revisions_used_twice_are_named() {
        assert_eq!(reused_revision(10, &[11, 12]), None);
        assert_eq!(reused_revision(10, &[11, 10]), Some(10));
        assert_eq!(reused_revision(10, &[11, 11]), Some(11));
    }

    #[test]
    fn only_the_first_few_examples_are_told() {
        let mut story = Story::new();
        for n in 1..=9 {
            story.hide(&format!("k{n}"));
        }
        assert!(story.findings().missing.to_string().ends_with("; and 6 more"));
    }
}
