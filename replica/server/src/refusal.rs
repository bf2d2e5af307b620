//! Telling of refused connections in the log without letting whoever is refused fill it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Lines that one port may write at once.
const BURST: u32 = 10;
/// For each of these, one line more.
const PAUSE: Duration = Duration::from_secs(5);

/// The log of what one port refuses: ten lines, then one every five seconds, with how many were left out.
pub(crate) struct Refusals {
    left: Cell<u32>,
    since: Cell<Instant>,
    untold: Cell<u64>,
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals { left: Cell::new(BURST), since: Cell::new(Instant::now()), untold: Cell::new(0) }
    }
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
        let earned = self.since.get().elapsed().as_secs() / PAUSE.as_secs();
        if earned > 0 {
            self.left.set(BURST.min(self.left.get().saturating_add(u32::try_from(earned).unwrap_or(BURST))));
            self.since.set(Instant::now());
        }
        let Some(left) = self.left.get().checked_sub(1) else {
            self.untold.set(self.untold.get() + 1);
            return None;
        };
        self.left.set(left);
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_few_lines() {
        let refusals = Refusals::default();
        let told = (0..1000).filter(|_| refusals.due().is_some()).count();
        assert_eq!(told, BURST as usize);
        refusals.left.set(1);
        assert_eq!(refusals.due(), Some(1000 - u64::from(BURST)), "what was left out is counted");
    }
}
