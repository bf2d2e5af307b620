//! How fast the packs of a checkpoint may follow each other.
//!
//! It bounds the mean over a few packs, not the speed of one: a pack goes as fast as the tier takes it, and the next one
//! waits for the time that both may take. The log never waits for it.

use std::time::{Duration, Instant};

/// Below this a pack would take longer than a request may.
pub const LEAST_RATE: u64 = 1 << 20;

/// The packs of one checkpoint.
pub(super) struct Pace {
    /// Bytes a second, if there is a bound.
    rate: Option<u64>,
    free_at: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>, now: Instant) -> Pace {
        Pace { rate, free_at: now }
    }

    /// How long a pack of so many bytes has to wait that could go `now`.
    fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let begins = self.free_at.max(now);
        self.free_at = begins + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        begins - now
    }

    /// Waits until a pack of so many bytes may go.
    pub(super) async fn wait(&mut self, bytes: u64) {
        let wait = self.take(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_follow_each_other_at_the_rate_and_time_that_was_idle_is_not_made_up_for() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(Some(100), start);
        assert_eq!(pace.take(200, start), Duration::ZERO, "the first goes at once");
        assert_eq!(pace.take(100, start + second), second);
        assert_eq!(pace.take(100, start + second * 2), second);
        assert_eq!(pace.take(100, start + second * 60), Duration::ZERO);
        assert_eq!(pace.take(100, start + second * 60), second, "no burst for the time before");
        let mut free = Pace::new(None, start);
        assert_eq!(
            (free.take(u64::MAX, start), free.take(u64::MAX, start)),
            (Duration::ZERO, Duration::ZERO)
        );
    }
}
