//! A process's two clocks: a monotonic one that drifts, and a wall clock that also jumps.

use vr_core::Now;

/// Clocks of one machine; they survive the process.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    origin: u64,
    /// Parts per million that it is too fast.
    drift: i64,
    wall: i64,
}

/// Where the simulated world's wall clocks begin: 2026-01-01, in microseconds since the Unix epoch.
const BEGIN: i64 = 1_767_225_600_000_000;
const MILLION: i128 = 1_000_000;

impl Clock {
    pub(super) fn new(origin: u64, drift: i64, skew: i64) -> Clock {
        Clock { origin, drift, wall: BEGIN + skew }
    }

    fn elapsed(&self, time: u64) -> i128 {
        let time = i128::from(time);
        time + time * i128::from(self.drift) / MILLION
    }

    /// What it shows at a time of the world.
    pub(super) fn at(&self, time: u64) -> Now {
        let elapsed = self.elapsed(time);
        Now {
            mono: self.origin + u64::try_from(elapsed).expect("drift is far below one second a second"),
            wall: u64::try_from(i128::from(self.wall) + elapsed).unwrap_or(0),
        }
    }

    /// The first time of the world at which the monotonic clock shows at least `mono`.
    pub(super) fn when(&self, mono: u64) -> u64 {
        let wanted = i128::from(mono.saturating_sub(self.origin));
        let mut time = wanted * MILLION / (MILLION + i128::from(self.drift));
        while self.elapsed(u64::try_from(time).unwrap_or(u64::MAX)) < wanted {
            time += 1;
        }
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// The monotonic clock runs ahead.
    pub(super) fn advance(&mut self, by: u64) {
        self.origin += by;
    }

    /// The wall clock jumps.
    pub(super) fn jump(&mut self, by: i64) {
        self.wall = self.wall.saturating_add(by).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_and_not_by_much() {
        for drift in [-50_000, -1, 0, 3, 50_000] {
            let clock = Clock::new(77, drift, -5);
            for mono in [0, 77, 78, 1_000_077, 123_456_789] {
                let when = clock.when(mono);
                assert!(clock.at(when).mono >= mono);
                assert!(when == 0 || clock.at(when - 1).mono < mono, "drift {drift} mono {mono}");
            }
        }
    }
}
