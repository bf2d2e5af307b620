//! What the drills of a cluster prove about it: `DrillPassing`, and whether `Recoverable` may say `Verified`. Pure.
//!
//! A drill that could not be carried out proves nothing, in neither direction: a failure before it stays one, and what an
//! earlier one has proven grows old all the same.

use crate::ids::*;
use crate::report::Fact;
use vr_api::DrillSummary;

/// How long a drill vouches for what the object store holds, where no objective says so.
const VERIFIED: Seconds = Seconds(7 * 24 * 3600);

/// What is known of drills when these have been seen to have ended: `known` may be of resources that are gone.
pub(crate) fn remember(known: Option<&DrillSummary>, ended: &[DrillSummary]) -> Option<DrillSummary> {
    let passed = |drill: &DrillSummary| (drill.result == "Passed").then(|| drill.finished_at.clone());
    let all = || known.into_iter().chain(ended);
    let last_passed_at = all().filter_map(|drill| passed(drill).max(drill.last_passed_at.clone())).max();
    let last = all().max_by_key(|drill| &drill.finished_at)?;
    let proves = all().filter(|drill| drill.result != "Errored").max_by_key(|drill| &drill.finished_at);
    let last = proves.filter(|drill| drill.result == "Failed").unwrap_or(last);
    Some(DrillSummary { last_passed_at, ..last.clone() })
}

/// Whether what a drill has proven holds still, and since when.
pub(crate) fn verified(drill: &DrillSummary, max_age: Option<Seconds>, now: Moment) -> Option<Moment> {
    let passed = Moment::parse(drill.last_passed_at.as_deref()?)?;
    let lately = now.since(passed) <= max_age.unwrap_or(VERIFIED);
    (drill.result != "Failed" && lately).then_some(passed)
}

/// The condition `DrillPassing` of a cluster of that name.
pub(crate) fn passing(
    name: &str,
    drill: Option<&DrillSummary>,
    max_age: Option<Seconds>,
    now: Moment,
) -> Fact {
    let Some(drill) = drill else {
        let says = format!("no drill of {name} has ended yet: apply a VRDrill or a VRDrillSchedule");
        // Whoever has set an objective has promised to somebody that there are drills.
        return match max_age {
            Some(_) => (Some(false), "Overdue", says),
            None => (None, "NeverDrilled", says),
        };
    };
    let (of, at) = (&drill.name, &drill.finished_at);
    let why = drill.reason.as_deref().unwrap_or_default();
    let not_carried_out = format!("drill {of} could not be carried out: {why}");
    match drill.result.as_str() {
        "Failed" => (Some(false), "Failed", format!("drill {of}: {why}")),
        result if max_age.is_some() && verified(drill, max_age, now).is_none() => {
            let last = match &drill.last_passed_at {
                Some(passed) => format!("the last drill that passed ended at {passed}"),
                None => "no drill has passed yet".to_owned(),
            };
            let says = format!("{last}: objectives.drillMaxAgeHours asks for one lately");
            let errored = result == "Errored";
            (Some(false), "Overdue", if errored { format!("{says}; {not_carried_out}") } else { says })
        }
        "Errored" => (None, "Errored", not_carried_out),
        _ => (Some(true), "Passed", format!("drill {of} passed at {at}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Seconds = Seconds(24 * 3600);

    fn at(hour: i64) -> Moment {
        Moment::parse("2026-11-24T00:00:00Z").expect("a time") + Seconds(hour * 3600)
    }

    fn drill(name: &str, result: &str, hour: i64) -> DrillSummary {
        DrillSummary {
            name: name.to_owned(),
            result: result.to_owned(),
            finished_at: at(hour).text(),
            reason: (result != "Passed").then(|| "the bucket is away".to_owned()),
            last_passed_at: None,
        }
    }

    /// After these, in any order and in as many looks as one likes, the result is the same.
    fn after(drills: &[(&str, &str, i64)]) -> Option<DrillSummary> {
        let drills: Vec<_> = drills.iter().map(|(name, result, hour)| drill(name, result, *hour)).collect();
        let at_once = remember(None, &drills);
        let one_by_one = drills.iter().fold(None, |known: Option<DrillSummary>, drill| {
            remember(known.as_ref(), std::slice::from_ref(drill))
        });
        assert_eq!(at_once, one_by_one);
        let backwards: Vec<_> = drills.into_iter().rev().collect();
        assert_eq!(at_once, remember(at_once.as_ref(), &backwards));
        at_once
    }

    fn says(
        drills: &[(&str, &str, i64)],
        max_age: Option<Seconds>,
        hour: i64,
    ) -> (Option<bool>, &'static str) {
        let (truth, reason, _) = passing("prod", after(drills).as_ref(), max_age, at(hour));
        (truth, reason)
    }

    fn vouched(drills: &[(&str, &str, i64)], max_age: Option<Seconds>, hour: i64) -> bool {
        after(drills).is_some_and(|drill| verified(&drill, max_age, at(hour)).is_some())
    }

    #[test]
    fn the_last_drill_decides_and_grows_old() {
        assert_eq!(says(&[], None, 0), (None, "NeverDrilled"));
        assert_eq!(says(&[], Some(DAY), 0), (Some(false), "Overdue"));
        let passed = [("a", "Passed", 0)];
        assert_eq!(says(&passed, Some(DAY), 24), (Some(true), "Passed"));
        assert_eq!(says(&passed, Some(DAY), 25), (Some(false), "Overdue"));
        assert_eq!(says(&passed, None, 1_000), (Some(true), "Passed"));
        assert!(vouched(&passed, None, 168) && !vouched(&passed, None, 169));
        let failed = [("a", "Passed", 0), ("b", "Failed", 1)];
        assert_eq!(says(&failed, None, 2), (Some(false), "Failed"));
        assert!(!vouched(&failed, None, 2));
    }

    #[test]
    fn a_drill_that_was_not_carried_out_hides_nothing_and_proves_nothing() {
        let errored = [("a", "Passed", 0), ("b", "Errored", 20)];
        assert_eq!(says(&errored, Some(DAY), 21), (None, "Errored"));
        assert!(vouched(&errored, Some(DAY), 21), "what a has proven still holds");
        assert_eq!(says(&errored, Some(DAY), 25), (Some(false), "Overdue"));
        assert!(!vouched(&errored, Some(DAY), 25));
        let never = [("a", "Errored", 0)];
        assert_eq!(says(&never, None, 1), (None, "Errored"));
        assert_eq!(says(&never, Some(DAY), 1), (Some(false), "Overdue"));
        let (.., text) = passing("prod", after(&never).as_ref(), Some(DAY), at(1));
        assert!(text.contains("no drill has passed yet") && text.contains("the bucket is away"), "{text}");
        // Failed, and then one that was not carried out: nobody has seen it pass since.
        let after_failure = [("a", "Passed", 0), ("b", "Failed", 1), ("c", "Errored", 2)];
        assert_eq!(says(&after_failure, None, 3), (Some(false), "Failed"));
        assert!(!vouched(&after_failure, None, 3));
    }
}
