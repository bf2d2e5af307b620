//! What can be rehearsed, and what each disaster takes away.

use std::fmt;

/// A disaster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Kill every replica and delete both disk tiers of all: only the object store is left
    #[default]
    LoseAllMemoryAndDisks,
    /// Kill every replica; the disks stay, and the freshest tier wins
    LoseAllMemory,
    /// Kill the primary: another replica takes over, nothing may be lost
    LosePrimary,
    /// Kill a replica that is not the primary: nothing may be lost, nobody may notice
    LoseReplica,
}

/// What is broken on purpose, after the disaster, to see that the drill notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// Flip a bit in every pack of leaves that is left, on every tier
    CorruptFrame,
    /// Delete every pack of leaves that is left, on every tier
    MissingPack,
    /// Leave the canary of an earlier drill in place of this one's
    StaleCanary,
}

impl Scenario {
    /// Whether nobody's memory is left, so that a restore is needed.
    #[must_use]
    pub fn loses_quorum(self) -> bool {
        matches!(self, Scenario::LoseAllMemoryAndDisks | Scenario::LoseAllMemory)
    }

    /// Whether the disk tiers go as well.
    #[must_use]
    pub fn loses_disks(self) -> bool {
        self == Scenario::LoseAllMemoryAndDisks
    }

    /// Whether a tier, by its name in `/status`, is there after the disaster.
    #[must_use]
    pub fn keeps_tier(self, tier: &str) -> bool {
        tier == "objectStore" || !self.loses_disks()
    }
}

fn typed_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|possible| possible.get_name().to_owned()).unwrap_or_default()
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&typed_name(self))
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&typed_name(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_typed() {
        assert_eq!(Scenario::default().to_string(), "lose-all-memory-and-disks");
        assert_eq!(Sabotage::StaleCanary.to_string(), "stale-canary");
    }

    #[test]
    fn only_the_object_store_survives_the_default() {
        assert!(!Scenario::LoseAllMemoryAndDisks.keeps_tier("volume"));
        assert!(Scenario::LoseAllMemoryAndDisks.keeps_tier("objectStore"));
        assert!(Scenario::LoseAllMemory.keeps_tier("nvme"));
    }
}
