//! When the drills of a schedule are due.
//!
//! Pure. A drill is named after its schedule and the minute that it is due at, so that two operators who both find it
//! due make one. Of several times that were missed the last one counts. Promises: no time is taken twice, and a drill
//! begins no later than `startingDeadlineSeconds` after its time. Not: that no time is ever left out; what was is said.

use crate::ids::*;
use cronexpr::{Crontab, MakeTimestamp};
use vr_api::{DrillConcurrency, VRDrillScheduleSpec};

/// Times that are looked through for the last one that was missed; of more only those that could still begin are.
const MISSED: usize = 1000;

/// What a schedule says of itself: why, and the same for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Says {
    pub(crate) well: bool,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

/// What follows from a look at a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The drill to be made now: the time that it is for.
    pub(crate) make: Option<Moment>,
    /// Drills to be deleted.
    pub(crate) delete: Vec<String>,
    /// The last time that was taken or left out.
    pub(crate) last: Option<Moment>,
    /// When the next one begins.
    pub(crate) next: Option<Moment>,
    pub(crate) says: Says,
}

/// A drill that this schedule has made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) name: String,
    /// Its result and when it ended, if it has.
    pub(crate) ended: Option<(bool, Moment)>,
}

/// Name of the drill for a time.
pub(crate) fn name(schedule: &str, at: Moment) -> String {
    format!("{schedule}-{}", at.0 / 60)
}

/// Reads the times.
///
/// # Errors
/// What is wrong with them, and what would be right.
pub(crate) fn times(spec: &VRDrillScheduleSpec) -> Result<Crontab, Says> {
    let refused = |reason, text| Says { well: false, reason, text };
    let zone = spec.time_zone.as_deref().unwrap_or("UTC");
    if jiff::tz::TimeZone::get(zone).is_err() {
        let text = format!(
            "spec.timeZone: {zone:?} is no time zone: give an IANA name such as Europe/Berlin or UTC"
        );
        return Err(refused("InvalidTimeZone", text));
    }
    let fields = spec.schedule.split_whitespace().count();
    let invalid = |why: &str| {
        let text = format!(
            "spec.schedule: {:?} is no schedule: {why}. Give minute, hour, day of month, month and day of week, such as \
             `15 3 * * *`",
            spec.schedule
        );
        refused("InvalidSchedule", text)
    };
    if fields != 5 {
        return Err(invalid(&format!("it has {fields} fields and not 5")));
    }
    let times = cronexpr::parse_crontab(&format!("{} {zone}", spec.schedule))
        .map_err(|error| invalid(error.to_string().lines().next_back().unwrap_or_default().trim()))?;
    // The 30th of February.
    match after(&times, Moment(0)) {
        Some(_) => Ok(times),
        None => Err(invalid("no day is ever such")),
    }
}

fn after(times: &Crontab, at: Moment) -> Option<Moment> {
    let next = times.find_next(MakeTimestamp::from_second(at.0).ok()?).ok()?;
    Some(Moment(next.timestamp().as_second()))
}

/// So much later than its time a drill begins: by chance, and the same for whoever computes it.
fn later(spec: &VRDrillScheduleSpec, uid: &str, at: Moment) -> Seconds {
    let most = u64::try_from(spec.jitter_seconds.unwrap_or_default()).unwrap_or_default();
    let hash = blake3::hash(format!("{uid} {}", at.0).as_bytes());
    let drawn = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
    Seconds(i64::try_from(drawn % (most + 1)).unwrap_or_default())
}

/// Decides. `since` is the last time that was taken, or when the schedule was made.
pub(crate) fn decide(
    spec: &VRDrillScheduleSpec,
    uid: &str,
    since: Moment,
    made: &[Made],
    now: Moment,
) -> Due {
    let delete = too_many(spec, made);
    let mut due = Due {
        make: None,
        delete,
        last: None,
        next: None,
        says: Says { well: true, reason: "Scheduled", text: String::new() },
    };
    let times = match times(spec) {
        Ok(times) => times,
        Err(says) => return Due { says, ..due },
    };
    if spec.suspend {
        due.says =
            Says { well: true, reason: "Suspended", text: "spec.suspend is set: no drill begins".to_owned() };
        // What passes meanwhile is not made up for.
        due.last = taken(&times, since, now, Seconds(0)).last().copied();
        return due;
    }
    let patience = Seconds(i64::from(spec.starting_deadline_seconds.unwrap_or(3600)));
    let jitter = i64::from(spec.jitter_seconds.unwrap_or_default());
    let passed = taken(&times, since, now, Seconds(patience.0 + jitter));
    let begins = |at: Moment| at + later(spec, uid, at);
    // Of several the last one; that one may be yet to come by its jitter.
    let (ready, coming): (Vec<Moment>, Vec<Moment>) = passed.into_iter().partition(|at| begins(*at) <= now);
    due.next = coming.first().copied().or_else(|| after(&times, now)).map(begins);
    if let Some(at) = ready.last().copied() {
        due.last = Some(at);
        let running = made.iter().find(|drill| drill.ended.is_none());
        let missed = |text: String| Says { well: false, reason: "Missed", text };
        if now.since(begins(at)) > patience {
            due.says = missed(format!(
                "the drill of {} was left out: it could not begin within {patience} of its time",
                at.text()
            ));
            return due;
        }
        match (running, spec.concurrency_policy.unwrap_or(DrillConcurrency::Forbid)) {
            (Some(drill), DrillConcurrency::Forbid) => {
                due.says =
                    missed(format!("the drill of {} was left out: {} still ran", at.text(), drill.name));
                return due;
            }
            (Some(drill), DrillConcurrency::Replace) => due.delete.push(drill.name.clone()),
            (None, _) => {}
        }
        due.make = Some(at);
    }
    due.says.text =
        due.next.map_or_else(String::new, |next| format!("the next drill begins at {}", next.text()));
    due
}

/// The times after `since` until now; of many the first, and those of the last `horizon`.
fn taken(times: &Crontab, since: Moment, now: Moment, horizon: Seconds) -> Vec<Moment> {
    let mut all = Vec::new();
    let mut at = since;
    while let Some(next) = after(times, at).filter(|next| *next <= now) {
        all.push(next);
        at = next;
        if all.len() == MISSED {
            at = at.max(Moment(now.0 - horizon.0 - 60));
        }
    }
    all
}

/// What is more than is to be kept, the oldest.
fn too_many(spec: &VRDrillScheduleSpec, made: &[Made]) -> Vec<String> {
    let most = |given: Option<i32>| usize::try_from(given.unwrap_or(7)).unwrap_or_default();
    let mut gone = Vec::new();
    for (passed, keep) in [(true, most(spec.passed_history)), (false, most(spec.failed_history))] {
        let mut ended: Vec<(Moment, &str)> = made
            .iter()
            .filter_map(|drill| drill.ended.filter(|e| e.0 == passed).map(|e| (e.1, drill.name.as_str())))
            .collect();
        ended.sort_unstable();
        let more = ended.len().saturating_sub(keep);
        gone.extend(ended[..more].iter().map(|(_, name)| (*name).to_owned()));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(schedule: &str) -> VRDrillScheduleSpec {
        let spec = serde_json::json!({"schedule": schedule, "drill": {"clusterRef": {"name": "prod"}}});
        serde_json::from_value(spec).expect("it is a schedule")
    }

    fn at(text: &str) -> Moment {
        Moment::parse(text).expect("a time")
    }

    fn refused(schedule: &str, zone: Option<&str>) -> String {
        let spec = VRDrillScheduleSpec { time_zone: zone.map(str::to_owned), ..spec(schedule) };
        let due = decide(&spec, "u", Moment(0), &[], Moment(1));
        assert_eq!((due.make, due.last, due.says.well), (None, None, false));
        format!("{}: {}", due.says.reason, due.says.text)
    }

    #[test]
    fn what_is_no_schedule_is_told_so() {
        assert!(
            refused("61 3 * * *", None)
                .starts_with("InvalidSchedule: spec.schedule: \"61 3 * * *\" is no schedule")
        );
        assert!(refused("15 3 * *", None).contains("4 fields and not 5"));
        assert!(refused("15 3 * * * UTC", None).contains("6 fields and not 5"));
        assert!(refused("0 0 30 2 *", None).contains("no day is ever such"));
        let said = refused("15 3 * * *", Some("Europe/Berlim"));
        assert!(
            said.starts_with("InvalidTimeZone: spec.timeZone: \"Europe/Berlim\" is no time zone"),
            "{said}"
        );
        let said = refused("15 3 * * *", Some("UTC 5"));
        assert!(said.starts_with("InvalidTimeZone"), "{said}");
    }

    #[test]
    fn a_time_is_taken_once() {
        let spec = spec("15 3 * * *");
        let made = at("2026-03-01T12:00:00Z");
        let due = decide(&spec, "u", made, &[], at("2026-03-02T03:14:59Z"));
        assert_eq!((due.make, due.next), (None, Some(at("2026-03-02T03:15:00Z"))));
        let due = decide(&spec, "u", made, &[], at("2026-03-02T03:15:00Z"));
        assert_eq!(
            (due.make, due.last),
            (Some(at("2026-03-02T03:15:00Z")), Some(at("2026-03-02T03:15:00Z")))
        );
        assert_eq!(due.next, Some(at("2026-03-03T03:15:00Z")));
        let again = decide(&spec, "u", due.last.expect("it was taken"), &[], at("2026-03-02T03:15:01Z"));
        assert_eq!((again.make, again.last), (None, None));
    }

    /// The night in which the clocks go forward has no 02:30; the drill of that night is not lost, and the next night's
    /// is at its time of the day again.
    #[test]
    fn the_time_zone_counts() {
        let spec = VRDrillScheduleSpec { time_zone: Some("Europe/Berlin".to_owned()), ..spec("30 4 * * *") };
        let due = decide(&spec, "u", at("2026-03-28T12:00:00Z"), &[], at("2026-03-28T12:00:01Z"));
        assert_eq!(due.next, Some(at("2026-03-29T02:30:00Z")), "summer time");
        let due = decide(&spec, "u", at("2026-10-24T12:00:00Z"), &[], at("2026-10-24T12:00:01Z"));
        assert_eq!(due.next, Some(at("2026-10-25T03:30:00Z")), "winter time");
    }

    #[test]
    fn chance_delays_within_bounds_and_for_everybody_alike() {
        let spec = VRDrillScheduleSpec { jitter_seconds: Some(600), ..spec("0 * * * *") };
        let since = at("2026-03-01T00:30:00Z");
        let due = decide(&spec, "u", since, &[], since);
        let begins = due.next.expect("there is a next one");
        assert!(begins >= at("2026-03-01T01:00:00Z") && begins <= at("2026-03-01T01:10:00Z"));
        assert_ne!(
            decide(&spec, "v", since, &[], since).next,
            Some(begins),
            "another schedule, another draw"
        );
        if begins > at("2026-03-01T01:00:00Z") {
            let early = decide(&spec, "u", since, &[], Moment(begins.0 - 1));
            assert_eq!((early.make, early.last, early.next), (None, None, Some(begins)));
        }
        assert_eq!(decide(&spec, "u", since, &[], begins).make, Some(at("2026-03-01T01:00:00Z")));
    }

    #[test]
    fn who_was_away_takes_the_last_one_or_none() {
        let spec = spec("0 * * * *");
        let since = at("2026-03-01T00:30:00Z");
        let due = decide(&spec, "u", since, &[], at("2026-03-01T05:20:00Z"));
        assert_eq!(due.make, Some(at("2026-03-01T05:00:00Z")));
        let spec = VRDrillScheduleSpec { starting_deadline_seconds: Some(600), ..spec };
        let due = decide(&spec, "u", since, &[], at("2026-03-01T05:20:00Z"));
        assert_eq!((due.make, due.last, due.says.reason), (None, Some(at("2026-03-01T05:00:00Z")), "Missed"));
    }

    #[test]
    fn who_was_away_for_years_is_back_at_once() {
        let due = decide(&spec("* * * * *"), "u", Moment(0), &[], at("2026-03-01T05:20:30Z"));
        assert_eq!(due.make, Some(at("2026-03-01T05:20:00Z")));
    }

    #[test]
    fn a_drill_that_still_runs_decides_by_policy() {
        let (since, now) = (at("2026-03-01T00:30:00Z"), at("2026-03-01T01:00:00Z"));
        let running = [Made { name: "prod-1".to_owned(), ended: None }];
        let due = decide(&spec("0 * * * *"), "u", since, &running, now);
        assert_eq!((due.make, due.says.reason, due.last), (None, "Missed", Some(now)));
        let replace =
            VRDrillScheduleSpec { concurrency_policy: Some(DrillConcurrency::Replace), ..spec("0 * * * *") };
        let due = decide(&replace, "u", since, &running, now);
        assert_eq!((due.make, due.delete), (Some(now), vec!["prod-1".to_owned()]));
    }

    #[test]
    fn while_suspended_nothing_begins_and_nothing_is_made_up_for() {
        let spec = VRDrillScheduleSpec { suspend: true, ..spec("0 * * * *") };
        let due = decide(&spec, "u", at("2026-03-01T00:30:00Z"), &[], at("2026-03-01T05:20:00Z"));
        assert_eq!((due.make, due.says.reason), (None, "Suspended"));
        assert_eq!(due.last, Some(at("2026-03-01T05:00:00Z")));
    }

    #[test]
    fn the_oldest_go_and_those_that_failed_are_counted_apart() {
        let spec =
            VRDrillScheduleSpec { passed_history: Some(1), failed_history: Some(0), ..spec("0 0 1 1 *") };
        let made =
            |name: &str, passed, ended| Made { name: name.to_owned(), ended: Some((passed, Moment(ended))) };
        let made = [made("b", true, 2), made("a", true, 1), made("f", false, 3)];
        assert_eq!(decide(&spec, "u", Moment(0), &made, Moment(9)).delete, ["a", "f"]);
    }

    #[test]
    fn a_name_is_a_schedule_and_a_minute() {
        assert_eq!(name("prod-nightly", Moment(1_800_000_060)), "prod-nightly-30000001");
    }
}
