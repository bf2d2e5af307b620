//! What a sudden end has cost: what writers were told is written, held against what a recovery point still has.
//!
//! Pure. Each writer numbers its writes and waits for each; a number goes to one of its few keys in turn. What comes back
//! is a prefix of the history: of a writer everything up to some number and nothing above it. What was acknowledged above
//! it is the loss; what lacks below it is no loss but a fault.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

/// Keys of one writer.
pub const SLOTS: u64 = 64;
/// Everything that writers write begins with this.
pub const PREFIX: &str = "drill/kill/";
/// Bytes of a value; the number stands in front.
const VALUE: usize = 256;

/// Key and value of a write.
#[must_use]
pub fn write(writer: usize, number: u64) -> (Bytes, Bytes) {
    let mut value = format!("{number:020} ").into_bytes();
    // What does not compress, as long as it is not looked at for long.
    while value.len() < VALUE {
        let more = blake3::hash(&[number.to_le_bytes(), (value.len() as u64).to_le_bytes()].concat());
        value.extend_from_slice(more.as_bytes());
    }
    value.truncate(VALUE);
    (format!("{PREFIX}{writer:03}/{:03}", number % SLOTS).into(), value.into())
}

/// The numbers that a recovery point shows, by writer and key.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<usize, BTreeMap<u64, u64>>);

impl Shown {
    /// Notes a key of a writer; others are passed over.
    ///
    /// # Errors
    /// No writer writes such a thing.
    pub fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let Some(of) = key.strip_prefix(PREFIX.as_bytes()) else { return Ok(()) };
        let read = || {
            let (writer, slot) = std::str::from_utf8(of).ok()?.split_once('/')?;
            let number = std::str::from_utf8(value.get(..20)?).ok()?.parse().ok()?;
            let (writer, slot) = (writer.parse().ok()?, slot.parse().ok()?);
            let (expected_key, expected) = write(writer, number);
            (expected_key == key && expected == value).then_some((writer, slot, number))
        };
        let (writer, slot, number) = read().ok_or_else(|| {
            format!("{:?} has a value that was never written", String::from_utf8_lossy(key))
        })?;
        self.0.entry(writer).or_default().insert(slot, number);
        Ok(())
    }
}

/// What one writer was told is written: numbers, and when.
pub type Acknowledged = Vec<(u64, Instant)>;

/// What is lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Acknowledged writes that are gone.
    pub writes: u64,
    /// From the first of them to the end.
    pub seconds: f64,
    /// What the service said just before would be lost at most.
    pub reported_seconds: f64,
}

/// Compares. `kept` is the moment up to which the service had said that everything is kept, `began` the one at which the
/// writers began: of what was before, nothing can be lost any more.
///
/// # Errors
/// Something is missing below what is there.
pub fn compare(
    writers: &[Acknowledged],
    shown: &Shown,
    (began, kept, end): (Instant, Option<Instant>, Instant),
) -> Result<Loss, String> {
    let mut loss = Loss::default();
    let mut first_lost: Option<Instant> = None;
    for (writer, acknowledged) in writers.iter().enumerate() {
        let none = BTreeMap::new();
        let slots = shown.0.get(&writer).unwrap_or(&none);
        let newest = slots.values().copied().max().unwrap_or(0);
        for &(number, at) in acknowledged {
            if number > newest {
                loss.writes += 1;
                first_lost = Some(first_lost.map_or(at, |first| first.min(at)));
            } else if number + SLOTS > newest && slots.get(&(number % SLOTS)) != Some(&number) {
                return Err(format!(
                    "writer {writer} was told that {number} is written, {newest} is there and {number} is not"
                ));
            }
        }
    }
    let since = |at: Instant| end.saturating_duration_since(at).as_secs_f64();
    loss.seconds = first_lost.map_or(0.0, since);
    loss.reported_seconds = since(kept.unwrap_or(began));
    Ok(loss)
}

/// Of all ends, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Distribution {
    /// The least.
    pub least: f64,
    /// As many are below as above.
    pub median: f64,
    /// One in ten is above.
    pub p90: f64,
    /// The most.
    pub most: f64,
}

impl Distribution {
    /// Of these; there must be some.
    #[must_use]
    pub fn of(seconds: impl Iterator<Item = f64>) -> Distribution {
        let mut all: Vec<f64> = seconds.collect();
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
        Distribution { least: at(0.0), median: at(0.5), p90: at(0.9), most: at(1.0) }
    }
}

/// Why a loss is more than was promised, if it is.
#[must_use]
pub fn broken(loss: &Loss, limit: Duration) -> Option<String> {
    let Loss { writes, seconds, reported_seconds } = loss;
    if seconds > reported_seconds {
        return Some(format!(
            "{writes} writes of the last {seconds:.3} s are lost, {reported_seconds:.3} s were reported"
        ));
    }
    (*seconds > limit.as_secs_f64()).then(|| {
        format!(
            "{writes} writes of the last {seconds:.3} s are lost, the limit is {:.1} s",
            limit.as_secs_f64()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two writers that have written 1 to 100, one each tenth of a second.
    fn told(start: Instant) -> Vec<Acknowledged> {
        let at = |number: u64| start + Duration::from_millis(number * 100);
        vec![(1..=100).map(|number| (number, at(number))).collect(); 2]
    }

    /// What is there after each writer's first so many.
    fn there(numbers: [u64; 2]) -> Shown {
        let mut shown = Shown::default();
        for (writer, newest) in numbers.into_iter().enumerate() {
            for number in 1..=newest {
                let (key, value) = write(writer, number);
                shown.note(&key, &value).expect("written by this");
            }
        }
        shown
    }

    #[test]
    fn what_was_acknowledged_above_what_is_there_is_lost() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let (told, end) = (told(start), at(10_050));
        let all = compare(&told, &there([100, 100]), (start, Some(at(10_000)), end)).expect("no hole");
        assert_eq!((all.writes, all.seconds), (0, 0.0));
        let some = compare(&told, &there([95, 98]), (start, Some(at(9_000)), end)).expect("no hole");
        assert_eq!((some.writes, some.seconds, some.reported_seconds), (7, 0.45, 1.05));
        assert_eq!(broken(&some, Duration::from_secs(1)), None);
        assert!(
            broken(&some, Duration::from_millis(400)).is_some_and(|why| why.contains("the limit is 0.4 s"))
        );
        let said_less = Loss { reported_seconds: 0.44, ..some };
        assert!(
            broken(&said_less, Duration::from_secs(1))
                .is_some_and(|why| why.contains("0.440 s were reported"))
        );
        let nothing = compare(&told, &Shown::default(), (start, None, end)).expect("no hole");
        assert_eq!((nothing.writes, nothing.reported_seconds), (200, 10.05));
    }

    #[test]
    fn a_hole_is_a_fault_and_no_loss() {
        let start = Instant::now();
        let mut shown = there([100, 100]);
        shown.0.get_mut(&1).expect("there").insert(70 % SLOTS, 6);
        let hole = compare(&told(start), &shown, (start, None, start)).expect_err("70 is missing");
        assert!(hole.contains("writer 1") && hole.contains("70 is not"), "{hole}");
        // What was overwritten since is nobody's business.
        let mut shown = there([100, 100]);
        shown.0.get_mut(&1).expect("there").insert(5, 69);
        compare(&told(start), &shown, (start, None, start)).expect("no hole");
    }

    #[test]
    fn what_nobody_wrote_is_a_fault() {
        let mut shown = Shown::default();
        let (key, value) = write(3, 77);
        shown.note(&key, &value).expect("written by this");
        shown.note(b"something else", b"").expect("not ours");
        assert!(shown.note(&key, &write(3, 78).1).is_err(), "another key's value");
        assert!(shown.note(b"drill/kill/x", b"").is_err());
    }

    #[test]
    fn a_distribution_of_one_is_that_one() {
        let one = Distribution::of([2.0].into_iter());
        assert_eq!((one.least, one.median, one.p90, one.most), (2.0, 2.0, 2.0, 2.0));
        let ten = Distribution::of((0..=10).rev().map(f64::from));
        assert_eq!((ten.least, ten.median, ten.p90, ten.most), (0.0, 5.0, 9.0, 10.0));
    }
}
