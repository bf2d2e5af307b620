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
    /// Kill every replica and damage every pack and log segment on every tier but the NVMe of the last replica: what that
    /// one holds comes back, and afterwards every tier becomes whole again
    CorruptEverythingButOne,
    /// Lose everything and restore twice at the same time: exactly one of the two clusters goes on
    RaceTwoClusters,
    /// Fill every disk while writes go on and make room again; then kill every replica: nothing promised is lost
    DiskFull,
    /// Take the object store away while writes go on and bring it back; then lose all memory and disks
    S3Outage,
    /// Make each write to a volume take seconds while writes go on; then kill every replica
    SlowTier,
    /// Kill every replica and go back to a revision of the past: exactly that comes back
    PointInTime,
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
        !matches!(self, Scenario::LosePrimary | Scenario::LoseReplica)
    }

    /// Whether the disk tiers go as well.
    #[must_use]
    pub fn loses_disks(self) -> bool {
        matches!(self, Scenario::LoseAllMemoryAndDisks | Scenario::RaceTwoClusters | Scenario::S3Outage)
    }

    /// Whether a tier, by its name in `/status`, is there after the disaster; `last` says whether it is of the last replica.
    #[must_use]
    pub fn keeps_tier(self, tier: &str, last: bool) -> bool {
        match self {
            Scenario::CorruptEverythingButOne => tier == "nvme" && last,
            _ => tier == "objectStore" || !self.loses_disks(),
        }
    }

    /// Whether the embedded object store is needed, because it is taken away.
    #[must_use]
    pub fn stops_object_store(self) -> bool {
        self == Scenario::S3Outage
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
    fn only_what_survives_is_relied_upon() {
        assert!(!Scenario::LoseAllMemoryAndDisks.keeps_tier("volume", true));
        assert!(Scenario::LoseAllMemoryAndDisks.keeps_tier("objectStore", false));
        assert!(Scenario::LoseAllMemory.keeps_tier("nvme", false));
        let one = Scenario::CorruptEverythingButOne;
        assert!(
            one.keeps_tier("nvme", true)
                && !one.keeps_tier("nvme", false)
                && !one.keeps_tier("objectStore", true)
        );
    }
}
