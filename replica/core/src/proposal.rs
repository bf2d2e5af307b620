//! A proposed configuration: the body of a [`Kind::Reconfigure`](crate::Kind::Reconfigure) entry, and whether one may
//! follow another.
//!
//! Pure. It promises that what passes [`check`] keeps R15 to R17 and R20 as far as configurations alone can tell.
//! Whether the members are there and ready is the primary's to find out.

use crate::codec::{DecodeError, Reader};
use crate::configuration::{Configuration, MAX_MEMBERS, MAX_READ_LEASE, MAX_TEXT};
use crate::ids::*;
use crate::mutants::{Mutant, on};

/// What a Reconfigure entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Proposal {
    /// The id of the configuration that it replaces.
    pub replaces: Digest,
    /// The highest id ever used in this generation, those of `next` included (R20). In the log, because before the
    /// first reconfiguration no log says who the members are.
    pub highest_id: ReplicaId,
    /// What takes its place.
    pub next: Configuration,
}

impl Proposal {
    /// The body of the entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.replaces.0.to_vec();
        bytes.extend_from_slice(&self.highest_id.0.to_le_bytes());
        self.next.encode_to(&mut bytes);
        bytes
    }

    /// The proposal that [`Proposal::encode`] wrote, if it can be acted on at all.
    ///
    /// # Errors
    /// When the bytes are anything else, or name a configuration that nobody could lead.
    pub fn decode(bytes: &[u8]) -> Result<Proposal, DecodeError> {
        let mut reader = Reader::new("a proposed configuration", bytes);
        let replaces = reader.digest()?;
        let highest_id = ReplicaId(reader.u64()?);
        let next = Configuration::read(&mut reader)?;
        reader.end()?;
        if well_formed(&next).is_err() {
            return Err(DecodeError::Value { what: "a proposed configuration's epoch", value: next.epoch.0 });
        }
        Ok(Proposal { replaces, highest_id, next })
    }
}

/// Why a reconfiguration was not made. Nothing was changed unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// The configuration is no longer the one to be replaced.
    #[error(
        "the configuration to be replaced is not the one in force, which is {now} of epoch {epoch}; look at that one \
         and propose again if the change is still wanted"
    )]
    Stale {
        /// The id of the one in force.
        now: Digest,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Another one is under way. Not the last word: a copy of this one that is held up on its way may still be made.
    #[error("another reconfiguration, to epoch {epoch}, is under way; propose again after it")]
    Pending {
        /// The epoch that it leads to.
        epoch: Epoch,
    },
    /// A member that the next epoch needs has not shown that it is up to date (R17). Not the last word either.
    #[error("replica {id} is not ready: {}; try again when it has caught up", lag_in_words(*lag))]
    NotReady {
        /// Which.
        id: ReplicaId,
        /// How many entries it lacks; `None` if it did not answer.
        lag: Option<u64>,
    },
    /// An id that has been given before (R20).
    #[error("replica id {0} has been used before in this generation; take one above every id used so far")]
    ReusedId(ReplicaId),
    /// The configuration contradicts itself, or cannot follow the one in force.
    #[error("the configuration cannot be used: {0}")]
    Invalid(String),
    /// No primary answered. The reconfiguration may have been made or not: to propose it again is safe.
    #[error("no primary answered in time; look at the configuration in force, and propose again if need be")]
    Unanswered,
}

fn lag_in_words(lag: Option<u64>) -> String {
    lag.map_or_else(|| "it did not answer".to_owned(), |lag| format!("it lacks {lag} entries"))
}

/// Whether `next` may take the place of `current`. `highest` is the highest id ever used in this generation.
///
/// # Errors
/// Why it may not.
pub fn check(
    current: &Configuration,
    highest: ReplicaId,
    replaces: Digest,
    next: &Configuration,
) -> Result<(), Refusal> {
    //= R15
    let now = current.id();
    if replaces != now && !on(Mutant::SwapUnchecked) {
        return Err(Refusal::Stale { now, epoch: current.epoch });
    }
    if next.epoch.0 != current.epoch.0 + 1 {
        return Err(Refusal::Invalid(format!(
            "it is of epoch {}, the epoch after the one in force is {}",
            next.epoch,
            current.epoch.0 + 1
        )));
    }
    well_formed(next).map_err(Refusal::Invalid)?;
    //= R20
    let known = |id: ReplicaId| current.member(id).is_some();
    if let Some(reused) = next.members().find(|member| !known(member.id) && member.id <= highest) {
        return Err(Refusal::ReusedId(reused.id));
    }
    //= R17
    if let Some(stranger) = next.voters().find(|&id| !known(id)) {
        return Err(Refusal::Invalid(format!(
            "replica {stranger} must be a learner before it can be a voter"
        )));
    }
    Ok(())
}

/// Whether a configuration could be in force at all.
///
/// # Errors
/// What is wrong with it, in words.
pub fn well_formed(configuration: &Configuration) -> Result<(), String> {
    if configuration.order.is_empty() {
        return Err("it names no voter".to_owned());
    }
    let mut ids: Vec<ReplicaId> = configuration.members().map(|member| member.id).collect();
    if ids.len() > MAX_MEMBERS {
        return Err(format!("it names {} members, at most {MAX_MEMBERS} are possible", ids.len()));
    }
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("it names replica {} twice", pair[0]));
    }
    for member in configuration.members() {
        let texts = [&member.domain, &member.peer, &member.client];
        if let Some(long) = texts.into_iter().find(|text| text.len() > MAX_TEXT) {
            return Err(format!("replica {}: `{long}` is longer than {MAX_TEXT} bytes", member.id));
        }
    }
    let first = &configuration.order[0].domain;
    if configuration.span_domains && configuration.order.iter().all(|member| member.domain == *first) {
        return Err(format!("a commit must span two failure domains, but all voters are in `{first}`"));
    }
    if configuration.read_lease > MAX_READ_LEASE {
        return Err(format!(
            "a read lease of {} microseconds is too long, as every change of the primary waits for it: at most \
             {MAX_READ_LEASE} are possible",
            configuration.read_lease
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Member;

    fn current() -> Configuration {
        let mut it = Configuration::bare(Epoch(3), [1, 2, 4].map(ReplicaId));
        it.learners.push(Member::bare(ReplicaId(6)));
        it
    }

    fn next() -> Configuration {
        Configuration { epoch: Epoch(4), ..current() }
    }

    fn judged(next: &Configuration) -> Result<(), Refusal> {
        check(&current(), ReplicaId(7), current().id(), next)
    }

    #[test]
    fn orders_removals_promotions_and_learners_pass() {
        let mut changed = next();
        changed.order.rotate_left(1);
        assert_eq!(judged(&changed), Ok(()));
        changed.order.pop();
        assert_eq!(judged(&changed), Ok(()));
        changed.order.append(&mut changed.learners);
        assert_eq!(judged(&changed), Ok(()));
        changed.learners.push(Member::bare(ReplicaId(8)));
        assert_eq!(judged(&changed), Ok(()));
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        assert!(matches!(
            check(&current(), ReplicaId(7), next().id(), &next()),
            Err(Refusal::Stale { epoch: Epoch(3), .. })
        ));
        assert!(matches!(judged(&current()), Err(Refusal::Invalid(_))), "the same epoch");
        let mut reused = next();
        reused.learners.push(Member::bare(ReplicaId(7)));
        assert_eq!(judged(&reused), Err(Refusal::ReusedId(ReplicaId(7))));
        let mut stranger = next();
        stranger.order.push(Member::bare(ReplicaId(8)));
        assert!(matches!(judged(&stranger), Err(Refusal::Invalid(why)) if why.contains("learner")));
        let mut twice = next();
        twice.order.push(Member::bare(ReplicaId(6)));
        assert!(matches!(judged(&twice), Err(Refusal::Invalid(why)) if why.contains("twice")));
        let mut nobody = next();
        nobody.order.clear();
        assert!(matches!(judged(&nobody), Err(Refusal::Invalid(why)) if why.contains("no voter")));
        let mut spanning = next();
        spanning.span_domains = true;
        assert!(matches!(judged(&spanning), Err(Refusal::Invalid(why)) if why.contains("domains")));
        spanning.order[1].domain = "b".to_owned();
        assert_eq!(judged(&spanning), Ok(()));
        let leased = |read_lease| Configuration { read_lease, ..next() };
        assert_eq!(judged(&leased(MAX_READ_LEASE)), Ok(()));
        let refused = judged(&leased(MAX_READ_LEASE + 1));
        assert!(matches!(refused, Err(Refusal::Invalid(why)) if why.contains("read lease")));
        let mut long = next();
        long.order[0].peer = "x".repeat(MAX_TEXT + 1);
        assert!(matches!(judged(&long), Err(Refusal::Invalid(why)) if why.contains("longer")));
    }

    #[test]
    fn an_entrys_body_comes_back_as_it_was() {
        let proposal = Proposal { replaces: current().id(), highest_id: ReplicaId(7), next: next() };
        let bytes = proposal.encode();
        assert_eq!(Proposal::decode(&bytes), Ok(proposal.clone()));
        (0..bytes.len()).for_each(|len| assert!(Proposal::decode(&bytes[..len]).is_err(), "{len}"));
        let nobody = Proposal { next: Configuration::default(), ..proposal };
        assert!(Proposal::decode(&nobody.encode()).is_err());
    }
}
