//! Latencies counted in buckets, so that a million of them cost a few kilobytes.
//!
//! Promises: every quantile is at most 1/128 (0.8 %) above the recorded value it stands for, never below it; the
//! maximum is exact. Does not keep single values.

use std::time::Duration;

/// Buckets per power of two, as a power of two itself: the error is one part in that many.
const PRECISION: u32 = 7;
const SUB_BUCKETS: u64 = 1 << PRECISION;

/// Counts of latencies by size, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum_micros: u128,
    max_micros: u64,
}

impl Histogram {
    /// Counts one latency. What is shorter than a microsecond counts as 0.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum_micros += u128::from(micros);
        self.max_micros = self.max_micros.max(micros);
    }

    /// How many latencies were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest latency; zero when nothing was counted.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros)
    }

    /// The mean latency; zero when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum_micros / u128::from(self.total.max(1));
        Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The latency that `fraction` (0 to 1) of all are at or below; zero when nothing was counted.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Duration {
        let rank = (self.total as f64 * fraction.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(bucket).min(self.max_micros));
            }
        }
        self.max()
    }
}

/// Values below `2 * SUB_BUCKETS` have a bucket each; above, each power of two is divided into `SUB_BUCKETS`.
fn bucket_of(micros: u64) -> usize {
    let exponent = (u64::BITS - micros.leading_zeros()).saturating_sub(PRECISION + 1);
    let mantissa = micros >> exponent;
    (u64::from(exponent) * SUB_BUCKETS + mantissa) as usize
}

/// The largest value that falls into `bucket`.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB_BUCKETS {
        return bucket;
    }
    let exponent = bucket / SUB_BUCKETS - 1;
    let mantissa = bucket - exponent * SUB_BUCKETS;
    let above = u128::from(mantissa + 1) << exponent;
    u64::try_from(above - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_bound_the_error() {
        let mut previous = 0;
        for micros in (0..100_000).chain((100_000..u64::MAX / 2).step_by(usize::MAX / 4_001)) {
            let bucket = bucket_of(micros);
            assert!(bucket >= previous, "{micros}: a larger value in a lower bucket");
            previous = bucket;
            let upper = upper_bound(bucket);
            assert!(upper >= micros, "{micros}: bound {upper} is below the value");
            assert!(upper - micros <= micros / SUB_BUCKETS, "{micros}: bound {upper} is too far above");
        }
        assert_eq!(upper_bound(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_of_known_values() {
        let mut latencies = Histogram::default();
        for micros in 1..=1_000 {
            latencies.record(Duration::from_micros(micros));
        }
        assert_eq!(latencies.count(), 1_000);
        assert_eq!(latencies.max(), Duration::from_micros(1_000));
        assert_eq!(latencies.mean(), Duration::from_micros(500));
        assert_eq!(latencies.quantile(0.1), Duration::from_micros(100));
        let p99 = latencies.quantile(0.99).as_micros();
        assert!((990..=997).contains(&p99), "{p99}");
        assert_eq!(latencies.quantile(1.0), Duration::from_micros(1_000));
    }

    #[test]
    fn nothing_recorded_is_zero_and_no_panic() {
        let empty = Histogram::default();
        assert_eq!(empty.quantile(0.5), Duration::ZERO);
        assert_eq!(empty.mean(), Duration::ZERO);
    }

    #[test]
    fn one_slow_operation_shows_in_the_tail_only() {
        let mut latencies = Histogram::default();
        for _ in 0..999 {
            latencies.record(Duration::from_millis(1));
        }
        latencies.record(Duration::from_secs(3));
        assert_eq!(latencies.quantile(0.999).as_millis(), 1);
        assert_eq!(latencies.quantile(0.9999), Duration::from_secs(3));
    }
}
