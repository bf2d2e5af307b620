//! Which checkpoints stay: so many of the newest, and one of each of so many hours, days and months.

use crate::format::Retained;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// Which checkpoints stay. The newest always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest. The log leads on from these; older ones can be restored as they are.
    pub last: usize,
    /// The newest of each of so many hours in which there is one.
    pub hourly: usize,
    /// The newest of each of so many days (UTC).
    pub daily: usize,
    /// The newest of each of so many months (UTC).
    pub monthly: usize,
}

impl From<usize> for Retention {
    fn from(last: usize) -> Retention {
        Retention { last, hourly: 0, daily: 0, monthly: 0 }
    }
}

impl Retention {
    /// Lets go of those that no rule keeps and nobody has given a name; of those given, oldest first.
    pub(super) fn apply(&self, retained: &mut Vec<Retained>) {
        let rules = [(self.last.max(1), Every::Checkpoint), (self.hourly, Every::Hour)];
        let rules = rules.into_iter().chain([(self.daily, Every::Day), (self.monthly, Every::Month)]);
        let mut kept = BTreeSet::new();
        for (count, every) in rules {
            let mut periods = BTreeSet::new();
            for (place, checkpoint) in retained.iter().enumerate().rev() {
                if periods.len() == count {
                    break;
                }
                if periods.insert(every.period(place, checkpoint.time_micros)) {
                    kept.insert(place);
                }
            }
        }
        let mut place = 0..;
        retained.retain(|checkpoint| {
            place.next().is_some_and(|place| kept.contains(&place)) || !checkpoint.pins.is_empty()
        });
    }

    /// Those of the newest from which the log leads on.
    pub(super) fn with_log<'a>(&self, retained: &'a [Retained]) -> &'a [Retained] {
        &retained[retained.len().saturating_sub(self.last.max(1))..]
    }
}

/// A length of time of which one checkpoint stays.
#[derive(Clone, Copy)]
enum Every {
    Checkpoint,
    Hour,
    Day,
    Month,
}

impl Every {
    /// Which one a time lies in.
    fn period(self, place: usize, micros: u64) -> u64 {
        const HOUR: u64 = 3_600_000_000;
        match self {
            Every::Checkpoint => place as u64,
            Every::Hour => micros / HOUR,
            Every::Day => micros / (24 * HOUR),
            Every::Month => {
                let at = i64::try_from(micros).ok().and_then(|at| jiff::Timestamp::from_microsecond(at).ok());
                let date = at.unwrap_or_default().to_zoned(TimeZone::UTC).date();
                u64::try_from(i64::from(date.year()) * 12 + i64::from(date.month())).unwrap_or(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Retained {
        let time: jiff::Timestamp = time.parse().expect("a time");
        let time_micros = u64::try_from(time.as_microsecond()).expect("after 1970");
        Retained { manifest: time.to_string(), op: time_micros, time_micros, pins: vec![] }
    }

    fn left(rules: Retention, times: &[&str]) -> Vec<String> {
        let mut retained: Vec<Retained> = times.iter().map(|time| at(time)).collect();
        rules.apply(&mut retained);
        // What has been decided does not change by deciding it again.
        let once = retained.clone();
        rules.apply(&mut retained);
        assert_eq!(retained, once);
        retained.into_iter().map(|checkpoint| checkpoint.manifest).collect()
    }

    const TIMES: [&str; 9] = [
        "2025-12-31T23:59:59Z",
        "2026-01-01T00:00:00Z",
        "2026-01-30T10:00:00Z",
        "2026-01-31T10:00:00Z",
        "2026-01-31T10:40:00Z",
        "2026-01-31T12:10:00Z",
        "2026-01-31T12:20:00Z",
        "2026-02-01T00:00:00Z",
        "2026-02-01T00:00:01Z",
    ];

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        let none = Retention { last: 1, hourly: 0, daily: 0, monthly: 0 };
        let pick = |places: &[usize]| places.iter().map(|place| TIMES[*place].to_owned()).collect::<Vec<_>>();
        assert_eq!(left(none, &TIMES), pick(&[8]));
        assert_eq!(left(Retention { last: 0, ..none }, &TIMES), pick(&[8]), "the newest always stays");
        assert_eq!(left(3.into(), &TIMES), pick(&[6, 7, 8]));
        assert_eq!(left(Retention { hourly: 3, ..none }, &TIMES), pick(&[4, 6, 8]));
        assert_eq!(left(Retention { daily: 3, ..none }, &TIMES), pick(&[2, 6, 8]));
        assert_eq!(left(Retention { monthly: 12, ..none }, &TIMES), pick(&[0, 6, 8]));
        let all = Retention { last: 2, hourly: 2, daily: 2, monthly: 3 };
        assert_eq!(left(all, &TIMES), pick(&[0, 6, 7, 8]));
        assert_eq!(left(all, &[]), Vec::<String>::new());
    }

    /// A year of a checkpoint every ten minutes, decided upon each time: what stays is bounded, and reaches back.
    #[test]
    fn what_stays_is_bounded_and_reaches_back() {
        let rules = Retention { last: 3, hourly: 24, daily: 30, monthly: 12 };
        let mut retained = Vec::new();
        let begin = at("2026-01-01T00:00:00Z").time_micros;
        for step in 0..365 * 24 * 6 {
            let time_micros = begin + step * 600_000_000;
            retained.push(Retained { manifest: step.to_string(), op: step, time_micros, pins: vec![] });
            rules.apply(&mut retained);
        }
        assert!(retained.len() <= 3 + 24 + 30 + 12, "{}", retained.len());
        assert!(retained.len() >= 24 + 29 + 10, "{}", retained.len());
        assert_eq!(retained.first().map(|r| r.time_micros), Some(at("2026-01-31T23:50:00Z").time_micros));
        assert_eq!(rules.with_log(&retained).len(), 3);
    }
}
