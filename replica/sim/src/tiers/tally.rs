//! What a world of tiers has met, and the story that it tells.

use crate::rng::mix;
use std::collections::BTreeMap;
use std::io::Write;

/// What a sweep must have met to mean anything.
pub(super) const EXPECTED: &[&str] = &[
    "damage.bitFlip",
    "damage.headRot",
    "damage.lost",
    "damage.misdirected",
    "damage.short",
    "disk.lies",
    "disk.vanished",
    "fault.Drop",
    "fault.Fail",
    "fault.Garble",
    "fault.LoseAnswer",
    "fault.NoSpace",
    "fault.Refuse",
    "fault.Shorten",
    "power.Kept",
    "power.Lost",
    "power.Torn",
    "process.ended",
    "race.checkpoint",
    "race.collect",
    "race.log",
    "race.lost",
    "race.reserve",
    "race.scrub",
    "restore.cutShort",
    "restore.nextCandidate",
    "restore.nothingLeft",
    "restore.nvme",
    "restore.objectStore",
    "restore.repairedPages",
    "restore.rollBack",
    "restore.volume",
    "scrub.notRepaired",
    "scrub.repaired",
    "stale.fenced",
    "strike.Fail",
    "strike.FailAfter",
    "strike.NoSpace",
    "strike.Stop",
    "task.checkpoint",
    "task.collect",
    "task.collected",
    "task.contended",
    "task.log",
    "task.reserve",
    "task.scrub",
    "verify.damaged",
    "verify.whole",
];

/// How often what happened.
pub(super) type Tally = BTreeMap<&'static str, u64>;

/// One line for each step: hashed always, printed on request. Names that are random in every run stay out of the hash.
#[derive(Default)]
pub struct Story {
    hash: u64,
    lines: u64,
    printed: Option<Box<dyn Write + Send>>,
}

impl Story {
    /// Told to nobody.
    #[must_use]
    pub fn quiet() -> Story {
        Story::default()
    }

    /// Told to these readers.
    #[must_use]
    pub fn printed(to: Box<dyn Write + Send>) -> Story {
        Story { printed: Some(to), ..Story::default() }
    }

    /// Equal for runs in which the same happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn tell(&mut self, what: &str, more: &str) {
        self.lines += 1;
        self.hash = what.bytes().fold(mix(self.hash), |hash, byte| mix(hash ^ u64::from(byte)));
        if let Some(out) = &mut self.printed {
            // A reader who has gone misses the rest.
            let _ =
                writeln!(out, "{:>4}  {what}{}{more}", self.lines, if more.is_empty() { "" } else { ": " });
        }
    }
}
