//! How much memory the state may hold on which a tier's next deltas are made: the one that it got last.
//!
//! All tiers together may hold a twentieth of the state beside it, the faster first: where little changes from one checkpoint
//! to the next, deltas save most and that state costs least. What it holds is weighed whenever there is a cut, at least
//! once a minute; between two cuts it is taken to grow with the log. A tier whose state holds too much lets go of it, and
//! ships whole pages once.

use crate::format::Committed;
use std::time::{Duration, Instant};

/// How many deltas may stand between a page and one that is whole.
pub(super) const DELTAS: usize = 4;
/// Of the state's bytes, or so many where the state is small.
const SHARE: (u64, u64) = (20, 16 << 20);
/// From one weighing to the next, if something was written.
const WEIGH: Duration = Duration::from_secs(60);
/// What an entry of the log makes a snapshot hold beside the bytes that it replaces: a copy of a page, and of some above.
const COPIES: u64 = 600;

/// What a committed entry makes a snapshot hold that was taken before.
pub(super) fn held_by(entry: &Committed) -> u64 {
    COPIES + (entry.head.len() + entry.body.len()) as u64
}

/// What is known of the memory that one tier's state holds.
pub(super) struct Base {
    state: u64,
    held: u64,
    written: u64,
    due: Instant,
}

impl Base {
    pub(super) fn new(now: Instant) -> Base {
        Base { state: 0, held: 0, written: 0, due: now + WEIGH }
    }

    /// What it may hold, where faster tiers hold so much already.
    pub(super) fn most(&self, taken: u64) -> u64 {
        let (share, least) = SHARE;
        (self.state / share).max(least).saturating_sub(taken)
    }

    /// It held so much beside a state of so many bytes, when so much was written.
    pub(super) fn weighed(&mut self, held: u64, state: u64, written: u64, now: Instant) {
        (self.state, self.held, self.written) = (state, held, written);
        self.due = now + WEIGH;
    }

    /// About what it holds when so much was written.
    pub(super) fn held(&self, written: u64) -> u64 {
        self.held.saturating_add(written.saturating_sub(self.written))
    }

    /// Whether it was last weighed too long ago.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_log_and_is_set_right_by_a_cut() {
        let now = Instant::now();
        let mut base = Base::new(now);
        assert_eq!((base.most(0), base.most(1 << 20)), (16 << 20, 15 << 20), "little is known yet");
        base.weighed(70, 2_000 << 20, 1_000, now);
        assert_eq!((base.held(1_000), base.held(1_500), base.held(0)), (70, 570, 70));
        assert_eq!((base.most(0), base.most(101 << 20)), (100 << 20, 0));
        assert!(!base.is_due(now + WEIGH / 2) && base.is_due(now + WEIGH));
    }
}
