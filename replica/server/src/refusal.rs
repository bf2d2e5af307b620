//! Telling of refused connections in the log without letting whoever is refused fill it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two lines of one port.
const PAUSE: Duration = Duration::from_secs(5);

/// The log of what one port refuses: a line every five seconds at most, with how many were left out.
#[derive(Default)]
pub(crate) struct Refusals {
    told: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Refusals {
    /// A connection was refused.
    pub(crate) fn tell(&self, port: &str, from: SocketAddr, reason: &str) {
        if let Some(untold) = self.due() {
            tracing::warn!(port, %from, untold, "connection refused: {reason}");
        }
    }

    /// How many were not told of since the last line; none while it is too early for another.
    pub(crate) fn due(&self) -> Option<u64> {
        if self.told.get().is_some_and(|at| at.elapsed() < PAUSE) {
            self.untold.set(self.untold.get() + 1);
            return None;
        }
        self.told.set(Some(Instant::now()));
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line() {
        let refusals = Refusals::default();
        assert_eq!(refusals.due(), Some(0));
        assert!((0..100).all(|_| refusals.due().is_none()));
        refusals.told.set(None);
        assert_eq!(refusals.due(), Some(100));
    }
}
