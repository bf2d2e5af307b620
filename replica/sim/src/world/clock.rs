//! A process's two clocks: a monotonic one that drifts, and a wall clock that also jumps. Both may stand still for a
//! while, as those of a machine that is moved do.

use vr_core::Now;

/// Clocks of one machine; they survive the process.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    origin: u64,
    /// Parts per million that it is too fast.
    drift: i64,
    wall: i64,
    /// Time of the world that it has missed.
    missed: u64,
    /// It stands still, or stood still last: from when to when, in times of the world.
    still: (u64, u64),
}

/// Where the simulated world's wall clocks begin: 2026-01-01, in microseconds since the Unix epoch.
const BEGIN: i64 = 1_767_225_600_000_000;
const MILLION: i128 = 1_000_000;

impl Clock {
    pub(super) fn new(origin: u64, drift: i64, skew: i64) -> Clock {
        Clock { origin, drift, wall: BEGIN + skew, missed: 0, still: (0, 0) }
    }

    fn elapsed(&self, time: u64) -> i128 {
        let (from, until) = self.still;
        let missed = self.missed + time.min(until).saturating_sub(from);
        self.counted(time - missed)
    }

    /// What it counts in so much time.
    fn counted(&self, time: u64) -> i128 {
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
        while self.counted(u64::try_from(time).unwrap_or(u64::MAX)) < wanted {
            time += 1;
        }
        let (from, until) = self.still;
        let time = u64::try_from(time).unwrap_or(u64::MAX).saturating_add(self.missed);
        if time > from { time.saturating_add(until - from) } else { time }
    }

    /// It stands still from `time` on until `until`, if it does not already.
    pub(super) fn freeze(&mut self, time: u64, until: u64) {
        if self.still.1 <= time {
            self.missed += self.still.1 - self.still.0;
            self.still = (time, until);
        }
    }

    /// It goes on at `time` at the latest.
    pub(super) fn thaw(&mut self, time: u64) {
        self.still.1 = self.still.1.min(time).max(self.still.0);
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
            let mut clock = Clock::new(77, drift, -5);
            for freeze in [None, Some((1_000, 2_000)), Some((3_000, 900_000)), Some((1_200_000, 1_200_001))] {
                if let Some((from, until)) = freeze {
                    clock.freeze(from, until);
                }
                for mono in [0, 77, 78, 1_000_077, 123_456_789] {
                    let when = clock.when(mono);
                    assert!(clock.at(when).mono >= mono);
                    let earlier = when.checked_sub(1).filter(|time| *time >= clock.still.0);
                    assert!(
                        earlier.is_none_or(|time| clock.at(time).mono < mono),
                        "drift {drift} mono {mono}"
                    );
                }
            }
        }
    }

    #[test]
    fn it_goes_on_from_where_it_stood() {
        let mut clock = Clock::new(0, 0, 0);
        clock.freeze(100, 300);
        clock.freeze(200, 900);
        let shown = |clock: &Clock| [100, 200, 300, 301].map(|time| clock.at(time).mono);
        assert_eq!(shown(&clock), [100, 100, 100, 101]);
        assert_eq!(clock.at(301).wall - clock.at(200).wall, 1);
        assert_eq!((clock.when(100), clock.when(101)), (100, 301));
        clock.freeze(400, 500);
        assert_eq!([400, 500, 501].map(|time| clock.at(time).mono), [200, 200, 201]);
        clock.thaw(450);
        assert_eq!(clock.at(451).mono, 201);
    }
}
