//! Which moment is to come back, and what of an inventory leads there.

use super::{Candidate, Inventory, Loaded};
use crate::format::Names;

/// The moment that is to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// As much as there is.
    #[default]
    Newest,
    /// Exactly through this op.
    Op(u64),
    /// Everything that was proposed until then, microseconds since the Unix epoch by the primaries' clocks.
    Time(u64),
    /// Everything through the last op that left the store at this revision or below.
    Revision(i64),
    /// The checkpoint of this name, as its manifest's file is called, and no log.
    Checkpoint(String),
}

/// Nothing leads to a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is nothing at all.
    #[error("there is no checkpoint in any of the places")]
    Nothing,
    /// It lies before the oldest checkpoint that is retained.
    #[error("{target} lies before the oldest checkpoint that is retained, which is {oldest}")]
    TooOld {
        /// What was asked for.
        target: String,
        /// What there is.
        oldest: String,
    },
    /// It lies beyond what any place has, or where a later generation has left off what followed.
    #[error(
        "{target} lies beyond what was shipped, or was left behind by a restore: the newest that leads on is op {newest}"
    )]
    TooNew {
        /// What was asked for.
        target: String,
        /// The newest op that can be reached.
        newest: u64,
    },
    /// No checkpoint has this name.
    #[error("no checkpoint of the name {0} is retained; vr checkpoint ls shows what is")]
    NoSuchCheckpoint(String),
}

impl Target {
    /// The candidates that lead there, the best first: those with the least log to replay, the faster tier among equals.
    ///
    /// # Errors
    /// None does; says what is the nearest.
    pub fn candidates<'a>(&self, inventory: &'a Inventory) -> Result<Vec<&'a Candidate>, TargetError> {
        let all = &inventory.candidates;
        let newest = all.first().ok_or(TargetError::Nothing)?;
        let before = |candidate: &Candidate| match self {
            Target::Newest | Target::Checkpoint(_) => true,
            Target::Op(op) => candidate.checkpoint_op <= *op,
            Target::Time(micros) => candidate.time_micros <= *micros,
            Target::Revision(revision) => candidate.revision <= *revision,
        };
        if let Target::Checkpoint(name) = self {
            let named: Vec<_> = all.iter().filter(|candidate| candidate.name() == name).collect();
            return match named.is_empty() {
                true => Err(TargetError::NoSuchCheckpoint(name.clone())),
                false => Ok(named),
            };
        }
        let mut leading: Vec<&Candidate> = all.iter().filter(|candidate| before(candidate)).collect();
        if leading.is_empty() {
            let oldest = all.iter().min_by_key(|candidate| (candidate.generation, candidate.checkpoint_op));
            let oldest = oldest.unwrap_or(newest);
            let oldest = match self {
                Target::Time(_) => show_time(oldest.time_micros),
                Target::Revision(_) => format!("revision {}", oldest.revision),
                _ => format!("op {}", oldest.checkpoint_op),
            };
            return Err(TargetError::TooOld { target: self.to_string(), oldest });
        }
        if let Target::Op(op) = self {
            leading.retain(|candidate| candidate.reachable_op >= *op);
            if leading.is_empty() {
                let newest = all.iter().map(|candidate| candidate.reachable_op).max().unwrap_or(0);
                return Err(TargetError::TooNew { target: self.to_string(), newest });
            }
        }
        if *self != Target::Newest {
            leading.sort_by_key(|c| {
                (std::cmp::Reverse((c.generation, c.checkpoint_op)), c.tier, c.source.clone())
            });
        }
        Ok(leading)
    }

    /// How far the log is to be loaded; `None`: as far as it is whole.
    #[must_use]
    pub fn load_to(&self, candidate: &Candidate) -> Option<u64> {
        match self {
            Target::Newest | Target::Time(_) | Target::Revision(_) => None,
            Target::Op(op) => Some(*op),
            Target::Checkpoint(_) => Some(candidate.checkpoint_op),
        }
    }

    /// Where in what was loaded the target lies, unless only execution tells ([`Target::Revision`]).
    #[must_use]
    pub fn op_in(&self, loaded: &Loaded) -> Option<u64> {
        let begins = loaded.manifest.op;
        match self {
            Target::Newest => Some(loaded.entries.last().map_or(begins, |entry| entry.op)),
            Target::Op(op) => Some(*op),
            Target::Checkpoint(_) => Some(begins),
            Target::Time(micros) => {
                let until = loaded.entries.iter().take_while(|entry| entry.time_micros <= *micros);
                Some(until.last().map_or(begins, |entry| entry.op))
            }
            Target::Revision(_) => None,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Newest => f.write_str("the newest"),
            Target::Op(op) => write!(f, "op {op}"),
            Target::Time(micros) => f.write_str(&show_time(*micros)),
            Target::Revision(revision) => write!(f, "revision {revision}"),
            Target::Checkpoint(name) => write!(f, "checkpoint {name}"),
        }
    }
}

fn show_time(micros: u64) -> String {
    let at = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    at.map_or_else(|| format!("{micros} us after the epoch"), |at| at.to_string())
}

impl Candidate {
    /// The checkpoint's name: its manifest's file, without what all of them end with.
    #[must_use]
    pub fn name(&self) -> &str {
        Names::checkpoint(&self.manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TierKind;
    use super::*;

    fn candidate(source: &str, tier: TierKind, op: u64, reachable_op: u64) -> Candidate {
        Candidate {
            source: source.to_owned(),
            tier,
            generation: 1,
            checkpoint_op: op,
            reachable_op,
            time_micros: op * 1_000_000,
            revision: i64::try_from(op).expect("small") * 10,
            root: "00".repeat(32),
            manifest: Names { generation: 1 }.manifest(op, &[0; 32]),
            bytes: 1,
        }
    }

    /// Two tiers; the slower one keeps more.
    fn inventory() -> Inventory {
        let candidates = vec![
            candidate("nvme", TierKind::Nvme, 30, 35),
            candidate("nvme", TierKind::Nvme, 20, 35),
            candidate("s3", TierKind::ObjectStore, 20, 35),
            candidate("s3", TierKind::ObjectStore, 10, 35),
        ];
        Inventory { candidates, ..Inventory::default() }
    }

    fn chosen(target: &Target) -> Vec<(String, u64)> {
        let inventory = inventory();
        let candidates = target.candidates(&inventory).expect("something leads there");
        candidates.into_iter().map(|c| (c.source.clone(), c.checkpoint_op)).collect()
    }

    #[test]
    fn the_nearest_checkpoint_below_is_the_first_choice() {
        let pair = |source: &str, op| (source.to_owned(), op);
        assert_eq!(chosen(&Target::Newest)[0], pair("nvme", 30));
        let of_25 = [pair("nvme", 20), pair("s3", 20), pair("s3", 10)];
        for target in [Target::Op(25), Target::Time(29_999_999), Target::Revision(299)] {
            assert_eq!(chosen(&target), of_25, "{target}");
        }
        assert_eq!(chosen(&Target::Time(u64::MAX))[0], pair("nvme", 30));
        assert_eq!(chosen(&Target::Op(35)).len(), 4);
        let name = inventory().candidates[3].name().to_owned();
        assert_eq!(name, "000000000000000a-0000000000000000");
        assert_eq!(chosen(&Target::Checkpoint(name)), [pair("s3", 10)]);
    }

    #[test]
    fn what_nothing_leads_to_is_said_with_the_nearest() {
        let says = |target: Target, expected: &str| {
            let inventory = inventory();
            let error = target.candidates(&inventory).expect_err("nothing leads there").to_string();
            assert!(error.contains(expected), "{error}");
        };
        says(Target::Op(9), "op 9 lies before the oldest checkpoint that is retained, which is op 10");
        says(Target::Time(1), "which is 1970-01-01T00:00:10Z");
        says(Target::Revision(99), "which is revision 100");
        says(Target::Op(36), "the newest that leads on is op 35");
        says(Target::Checkpoint("x".to_owned()), "no checkpoint of the name x");
        assert_eq!(Target::Newest.candidates(&Inventory::default()), Err(TargetError::Nothing));
    }
}
