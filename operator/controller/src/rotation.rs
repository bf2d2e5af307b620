//! Another authority takes the place of a cluster's own while everything runs: what is done next.
//!
//! First the new one is trusted beside the old one, by replicas and by whoever reads the bundle of both; then it signs;
//! then the old one goes. Nothing follows from time alone: the new one signs only once every replica that there is has
//! let somebody in whom it has signed, and the old one goes only once each of them shows a certificate of the new one.
//!
//! Pure. Not known here: whether clients have read the bundle. They get the time in which both are trusted.

use crate::ids::*;
use std::fmt;
use vr_api::{ROTATE_AUTHORITY, settle};

/// Before its end an authority is replaced without being asked to.
const AHEAD: Seconds = Seconds(365 * 24 * 3600);
/// So long both are trusted then.
const UNASKED: Seconds = Seconds(7 * 24 * 3600);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is one authority.
    Alone,
    /// Another one is trusted as well, and does not sign before this.
    Beside(Moment),
    /// The other one signs, and the one before is still trusted.
    Signs,
}

/// What is seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) stage: Stage,
    /// When the authority that signs ends.
    pub(crate) ends: Moment,
    /// What the resource asks for.
    pub(crate) asked: Option<&'a str>,
    /// The pods whose replicas do not show yet what the next turn rests on.
    pub(crate) awaited: Vec<String>,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A new authority is made and trusted; it does not sign before this.
    Introduce(Moment),
    /// It does not sign before this, instead of what was said before.
    Settle(Moment),
    /// It signs.
    Sign,
    /// The one before is trusted no more.
    Retire,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Turn::Introduce(until) => {
                write!(
                    f,
                    "a new authority is trusted beside the one before, and signs from {} on",
                    until.text()
                )
            }
            Turn::Settle(until) => write!(f, "the new authority signs from {} on", until.text()),
            Turn::Sign => f.write_str("the new authority signs: every certificate is made anew"),
            Turn::Retire => f.write_str("the authority before is trusted no more"),
        }
    }
}

/// What is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It goes on: what is awaited.
    Underway(String),
    /// What is asked for cannot be.
    Refused(String),
}

/// Decides.
pub(crate) fn next(seen: &Seen<'_>, now: Moment) -> (Option<Turn>, Option<Rotation>) {
    let asked = match seen.asked.map(settle).transpose() {
        Ok(settle) => settle.map(Seconds),
        Err(why) => {
            return (None, Some(Rotation::Refused(format!("annotation {ROTATE_AUTHORITY}: {why}"))));
        }
    };
    let underway = |text: String| Some(Rotation::Underway(format!("the authority is replaced: {text}")));
    let awaited = seen.awaited.join(", ");
    match (seen.stage, asked) {
        (Stage::Alone, Some(settle)) => (Some(Turn::Introduce(now + settle)), None),
        (Stage::Alone, None) if now + AHEAD >= seen.ends => (Some(Turn::Introduce(now + UNASKED)), None),
        (Stage::Alone, None) => (None, None),
        (Stage::Beside(_), Some(settle)) => (Some(Turn::Settle(now + settle)), None),
        (Stage::Beside(_), None) if !seen.awaited.is_empty() => {
            (None, underway(format!("{awaited} do not trust the new one yet")))
        }
        (Stage::Beside(until), None) if now < until => {
            let text = "both are trusted, and the new one signs from";
            (None, underway(format!("{text} {}: by then clients must have the bundle", until.text())))
        }
        (Stage::Beside(_), None) => (Some(Turn::Sign), None),
        (Stage::Signs, _) if !seen.awaited.is_empty() => {
            (None, underway(format!("{awaited} do not show a certificate of the new one yet")))
        }
        (Stage::Signs, _) => (Some(Turn::Retire), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_800_000_000);
    const FAR: Seconds = Seconds(9 * 365 * 24 * 3600);

    fn seen(stage: Stage, asked: Option<&str>, awaited: &[&str]) -> Seen<'static> {
        let asked: Option<&'static str> = asked.map(|text| &*text.to_owned().leak());
        Seen { stage, ends: NOW + FAR, asked, awaited: awaited.iter().map(|pod| (*pod).to_owned()).collect() }
    }

    #[test]
    fn each_turn_has_its_proof() {
        let (past, soon) = (NOW + Seconds(-1), NOW + Seconds(60));
        for (stage, asked, awaited, expected) in [
            (Stage::Alone, None, &[][..], None),
            (Stage::Alone, None, &["a"], None),
            (Stage::Alone, Some("0s"), &["a"], Some(Turn::Introduce(NOW))),
            (Stage::Alone, Some("10m"), &[], Some(Turn::Introduce(NOW + Seconds(600)))),
            // Both: time, and every replica.
            (Stage::Beside(soon), None, &[], None),
            (Stage::Beside(past), None, &["a"], None),
            (Stage::Beside(NOW), None, &[], Some(Turn::Sign)),
            // Asked again, it is the last word that counts.
            (Stage::Beside(soon), Some("0s"), &["a"], Some(Turn::Settle(NOW))),
            (Stage::Signs, None, &["a"], None),
            (Stage::Signs, None, &[], Some(Turn::Retire)),
            // What is asked meanwhile waits for its turn.
            (Stage::Signs, Some("1h"), &["a"], None),
            (Stage::Signs, Some("1h"), &[], Some(Turn::Retire)),
        ] {
            let (turn, says) = next(&seen(stage, asked, awaited), NOW);
            assert_eq!(turn, expected, "{stage:?} {asked:?} {awaited:?}");
            let waits = turn.is_none() && stage != Stage::Alone;
            assert_eq!(matches!(says, Some(Rotation::Underway(_))), waits, "{stage:?}: {says:?}");
        }
    }

    #[test]
    fn a_year_before_its_end_it_is_replaced() {
        let at = |left: i64| {
            let seen = Seen { ends: NOW + Seconds(left), ..seen(Stage::Alone, None, &[]) };
            next(&seen, NOW).0
        };
        assert_eq!(at(AHEAD.0 + 1), None);
        assert_eq!(at(AHEAD.0), Some(Turn::Introduce(NOW + UNASKED)));
        assert_eq!(at(-1), Some(Turn::Introduce(NOW + UNASKED)));
    }

    #[test]
    fn what_is_no_time_is_said_and_nothing_is_done() {
        for text in ["", "now", "31d"] {
            for stage in [Stage::Alone, Stage::Beside(NOW), Stage::Signs] {
                let (turn, says) = next(&seen(stage, Some(text), &[]), NOW);
                let Some(Rotation::Refused(why)) = says else { panic!("{text}: {says:?}") };
                assert!(turn.is_none() && why.contains("give for example 10m or 24h"), "{why}");
            }
        }
    }
}
