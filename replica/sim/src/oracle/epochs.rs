//! Epochs: one configuration each, agreed by the log, each in the place of the one it names (R15); nobody acts in one
//! before it has its log (R16), and nobody is let go before it has begun without it (R18).
//!
//! It also knows whose memory the world may take: as long as an epoch's members may be needed, no more of them than
//! that epoch bears.

use super::{Broken, Check, require};
use std::collections::{BTreeMap, BTreeSet};
use vr_core::{Ballot, Configuration, Digest, Entry, Epoch, Kind, Op, Proposal, Refusal, ReplicaId};

#[derive(Debug)]
struct Agreed {
    configuration: Configuration,
    /// The entry that began it.
    op: Op,
    /// Voters that have been Normal in it.
    acted: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Asked {
    replaces: Digest,
    next: Configuration,
    /// Somebody was told that it is not made and never will be.
    refused: bool,
}

/// All configurations, as they were proposed and agreed.
#[derive(Debug)]
pub struct Epochs {
    agreed: BTreeMap<Epoch, Agreed>,
    /// By their mark: a text in the first voter's address, which tells equal proposals apart.
    asked: BTreeMap<String, Asked>,
}

/// What tells one proposal from another that is otherwise equal.
fn mark(of: &Configuration) -> &str {
    &of.order[0].client
}

/// How many of so many voters may be without memory.
fn bears(configuration: &Configuration) -> usize {
    (configuration.order.len() - 1) / 2
}

impl Epochs {
    /// Before the first reconfiguration.
    #[must_use]
    pub fn new(first: Configuration) -> Epochs {
        let epoch = first.epoch;
        let first = Agreed { configuration: first, op: Op(0), acted: BTreeSet::new() };
        Epochs { agreed: BTreeMap::from([(epoch, first)]), asked: BTreeMap::new() }
    }

    fn last(&self) -> &Agreed {
        self.agreed.values().next_back().expect("the first one is always there")
    }

    /// The newest configuration that is agreed.
    #[must_use]
    pub fn newest(&self) -> &Configuration {
        &self.last().configuration
    }

    /// The configuration of an epoch, once it is agreed.
    #[must_use]
    pub fn of(&self, epoch: Epoch) -> Option<&Configuration> {
        self.agreed.get(&epoch).map(|agreed| &agreed.configuration)
    }

    /// Whether any configuration so far has a replica as a voter.
    #[must_use]
    pub fn ever_voted(&self, id: ReplicaId) -> bool {
        self.agreed.values().any(|agreed| agreed.configuration.is_voter(id))
    }

    /// Whether any configuration so far names a replica.
    #[must_use]
    pub fn ever_named(&self, id: ReplicaId) -> bool {
        self.agreed.values().any(|agreed| agreed.configuration.member(id).is_some())
    }

    /// Whether the members of an epoch may still be needed.
    #[must_use]
    pub fn is_in_force(&self, epoch: Epoch) -> bool {
        self.in_force().any(|one| one.epoch == epoch)
    }

    /// Whether all voters of an epoch whose members may still be needed are so.
    #[must_use]
    pub fn all_voters_of_one_in_force(&self, so: impl Fn(ReplicaId) -> bool) -> bool {
        self.in_force().any(|one| one.voters().all(&so))
    }

    /// Who leads a ballot of an agreed epoch.
    #[must_use]
    pub fn primary(&self, ballot: Ballot) -> Option<ReplicaId> {
        let order = &self.of(ballot.epoch)?.order;
        Some(order[(ballot.view.0 % order.len() as u64) as usize].id)
    }

    /// The configurations whose members may be needed: the newest, and those before it until a quorum acts in it.
    fn in_force(&self) -> impl Iterator<Item = &Configuration> {
        let mut begun = false;
        self.agreed.values().rev().map_while(move |agreed| {
            let needed = !begun;
            begun |= agreed.acted.len() >= agreed.configuration.quorum();
            needed.then_some(&agreed.configuration)
        })
    }

    /// Those in force, and those that any moment may bring into force.
    fn possible(&self) -> impl Iterator<Item = &Configuration> {
        let newest = self.newest().id();
        let proposed = self.asked.values().filter(move |asked| asked.replaces == newest && !asked.refused);
        self.in_force().chain(proposed.map(|asked| &asked.next))
    }

    /// Whether more voters are without memory than a configuration in force bears.
    pub fn is_lost(&self, forgetful: impl Fn(ReplicaId) -> bool) -> bool {
        self.in_force().any(|one| one.voters().filter(|&id| forgetful(id)).count() > bears(one))
    }

    /// Whether all configurations that are or may come into force bear the loss of one more memory.
    pub fn bear_the_loss_of(&self, victim: ReplicaId, forgetful: impl Fn(ReplicaId) -> bool) -> bool {
        self.possible().filter(|one| one.is_voter(victim)).all(|one| {
            let others = one.voters().filter(|&id| id != victim && forgetful(id)).count();
            others < bears(one)
        })
    }

    /// Somebody proposes.
    pub fn proposed(&mut self, replaces: Digest, next: &Configuration) {
        let asked = Asked { replaces, next: next.clone(), refused: false };
        self.asked.entry(mark(next).to_owned()).or_insert(asked);
    }

    /// A proposer is told what became of it.
    ///
    /// # Errors
    /// R15: it is told of an epoch that nobody agreed on; or that it was refused for good, and it was made or still
    /// may be.
    pub fn decided(
        &mut self,
        replaces: Digest,
        next: &Configuration,
        outcome: &Result<Epoch, Refusal>,
    ) -> Check {
        let made = self.of(next.epoch) == Some(next);
        let newest = self.newest();
        match outcome {
            Ok(epoch) => require!(
                made && *epoch == next.epoch,
                "made-if-told",
                "somebody was told that epoch {epoch} is {next:?}, which is {:?}",
                self.of(*epoch)
            ),
            Err(Refusal::Stale { .. }) => require!(
                newest.id() != replaces,
                "stale-is-over",
                "a proposal to replace {newest:?} was called stale, but that is in force"
            ),
            Err(Refusal::ReusedId(_) | Refusal::Invalid(_)) => {
                require!(!made, "refused-is-not-made", "{outcome:?} was said of {next:?}");
                if let Some(asked) = self.asked.get_mut(mark(next)) {
                    asked.refused = true;
                }
            }
            // Neither is the last word: a proposal that was held up on its way may still be made.
            Err(Refusal::Pending { .. } | Refusal::NotReady { .. } | Refusal::Unanswered) => {}
        }
        Ok(())
    }

    /// An entry is committed, the first time that anybody says so.
    ///
    /// # Errors
    /// R15: it ends its epoch with something that nobody proposed, that was refused, or that does not take the place of the
    /// configuration in force; or it is of an epoch that has ended.
    pub fn committed(&mut self, entry: &Entry) -> Check {
        let (op, ballot) = (entry.header.op, entry.header.ballot);
        let newest = self.newest();
        require!(
            ballot.epoch == newest.epoch,
            "an-epoch-ends-once",
            "op {op} was committed in {ballot}, while epoch {} is in force",
            newest.epoch
        );
        if entry.header.kind != Kind::Reconfigure {
            return Ok(());
        }
        let malformed = |e| Broken::new("proposals-are-well-formed", format!("op {op}: {e}"));
        let Proposal { replaces, next, .. } = Proposal::decode(&entry.body).map_err(malformed)?;
        require!(
            replaces == newest.id() && next.epoch.0 == newest.epoch.0 + 1,
            "compare-and-swap",
            "op {op} puts {next:?} in the place of {replaces}, but {newest:?} is in force"
        );
        let asked = self.asked.get(mark(&next));
        require!(
            asked.is_some_and(|asked| asked.next == next && asked.replaces == replaces && !asked.refused),
            "refused-is-not-made",
            "op {op} puts {next:?} into force, of which is known: {asked:?}"
        );
        self.agreed.insert(next.epoch, Agreed { configuration: next, op, acted: BTreeSet::new() });
        Ok(())
    }

    /// A replica takes a configuration for the one in force.
    ///
    /// # Errors
    /// R15: it is not the one that was agreed.
    pub fn taken(&self, replica: ReplicaId, configuration: &Configuration) -> Check {
        let agreed = self.of(configuration.epoch);
        require!(
            agreed == Some(configuration),
            "one-configuration-per-epoch",
            "replica {replica} takes {configuration:?} for what {agreed:?} is"
        );
        Ok(())
    }

    /// A replica is Normal in a ballot, with all executed through an op.
    ///
    /// # Errors
    /// R16: it lacks the log through the entry that began the epoch; or it is no member.
    pub fn acts(&mut self, replica: ReplicaId, ballot: Ballot, executed: Op) -> Check {
        let agreed = self.agreed.get_mut(&ballot.epoch);
        let member = agreed.as_ref().is_some_and(|agreed| agreed.configuration.member(replica).is_some());
        require!(member, "members-only", "replica {replica} acts in {ballot}, where it is no member");
        let agreed = agreed.expect("it has members");
        require!(
            executed >= agreed.op,
            "acts-with-its-log",
            "replica {replica} acts in {ballot} with op {executed} executed; epoch {} began at op {}",
            ballot.epoch,
            agreed.op
        );
        if agreed.configuration.is_voter(replica) {
            agreed.acted.insert(replica);
        }
        Ok(())
    }

    /// Whether one that has executed so much has the beginning of this epoch.
    #[must_use]
    pub fn has_begun_with(&self, epoch: Epoch, executed: Op) -> bool {
        self.agreed.get(&epoch).is_some_and(|agreed| executed >= agreed.op)
    }

    /// A replica says that nobody needs it any more, because an epoch has begun without it.
    ///
    /// # Errors
    /// R18: it is a member, or there is no quorum of voters whose promise in that epoch (or a later one) is durable, or
    /// was when they acted there.
    pub fn released(&self, replica: ReplicaId, epoch: Epoch, promise: impl Fn(ReplicaId) -> Ballot) -> Check {
        let agreed = self.of(epoch);
        require!(
            agreed.is_some_and(|one| one.member(replica).is_none()),
            "released-when-begun",
            "replica {replica} calls itself released from epoch {epoch}, which is {agreed:?}"
        );
        let agreed = agreed.expect("it was just looked at");
        // Who acted there and has lost its disk since had promised it all the same.
        let acted = |id| self.agreed.get(&epoch).is_some_and(|one| one.acted.contains(&id));
        let there = agreed.voters().filter(|&id| promise(id).epoch >= epoch || acted(id)).count();
        require!(
            there >= agreed.quorum(),
            "released-when-begun",
            "replica {replica} calls itself released from epoch {epoch}, which {there} voters have begun"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::{Header, Member, View};

    fn first() -> Configuration {
        Configuration::bare(Epoch(0), [1, 2, 3].map(ReplicaId))
    }

    fn second() -> Configuration {
        let mut next = Configuration::bare(Epoch(1), [1, 2, 4].map(ReplicaId));
        next.order[0].client = "mark".to_owned();
        next.learners.push(Member::bare(ReplicaId(5)));
        next
    }

    fn ballot(epoch: u64) -> Ballot {
        Ballot { epoch: Epoch(epoch), view: View(0) }
    }

    fn entry(op: u64, epoch: u64, kind: Kind, body: Vec<u8>) -> Entry {
        let header = Header {
            op: Op(op),
            ballot: ballot(epoch),
            kind,
            time: 0,
            body: Digest::default(),
            parent: Digest::default(),
        };
        Entry { header, body: body.into() }
    }

    fn change(replaces: Digest, next: Configuration) -> Entry {
        let body = Proposal { replaces, highest_id: ReplicaId(9), next }.encode();
        entry(7, 0, Kind::Reconfigure, body)
    }

    fn begun() -> Epochs {
        let mut epochs = Epochs::new(first());
        epochs.proposed(first().id(), &second());
        assert_eq!(epochs.committed(&change(first().id(), second())), Ok(()));
        epochs
    }

    fn name(check: Check) -> &'static str {
        check.expect_err("this breaks a rule").oracle
    }

    #[test]
    fn what_ends_an_epoch_was_proposed_for_it() {
        let mut epochs = Epochs::new(first());
        assert_eq!(name(epochs.committed(&change(first().id(), second()))), "refused-is-not-made");
        epochs.proposed(first().id(), &second());
        assert_eq!(name(epochs.committed(&change(second().id(), second()))), "compare-and-swap");
        assert_eq!(name(epochs.decided(first().id(), &second(), &Ok(Epoch(1)))), "made-if-told");
        let stale = Err(Refusal::Stale { now: first().id(), epoch: Epoch(0) });
        assert_eq!(name(epochs.decided(first().id(), &second(), &stale)), "stale-is-over");
        assert_eq!(epochs.decided(first().id(), &second(), &Err(Refusal::ReusedId(ReplicaId(4)))), Ok(()));
        assert_eq!(name(epochs.committed(&change(first().id(), second()))), "refused-is-not-made");
        let mut epochs = begun();
        assert_eq!(epochs.decided(first().id(), &second(), &Ok(Epoch(1))), Ok(()));
        assert_eq!(
            name(epochs.decided(first().id(), &second(), &Err(Refusal::Invalid(String::new())))),
            "refused-is-not-made"
        );
        assert_eq!(name(epochs.committed(&entry(8, 0, Kind::Requests, vec![]))), "an-epoch-ends-once");
        assert_eq!(epochs.taken(ReplicaId(1), &second()), Ok(()));
        let other = Configuration { epoch: Epoch(1), ..first() };
        assert_eq!(name(epochs.taken(ReplicaId(1), &other)), "one-configuration-per-epoch");
    }

    #[test]
    fn an_epoch_is_entered_with_its_log_and_left_when_it_has_begun() {
        let mut epochs = begun();
        assert_eq!(name(epochs.acts(ReplicaId(3), ballot(1), Op(9))), "members-only");
        assert_eq!(name(epochs.acts(ReplicaId(4), ballot(1), Op(6))), "acts-with-its-log");
        assert_eq!(epochs.acts(ReplicaId(4), ballot(1), Op(7)), Ok(()));
        let promised =
            |by: &'static [u64]| move |id: ReplicaId| if by.contains(&id.0) { ballot(1) } else { ballot(0) };
        let three = ReplicaId(3);
        assert_eq!(name(epochs.released(three, Epoch(1), promised(&[4, 5]))), "released-when-begun");
        assert_eq!(name(epochs.released(ReplicaId(1), Epoch(1), promised(&[2, 4]))), "released-when-begun");
        assert_eq!(epochs.released(three, Epoch(1), promised(&[2, 4])), Ok(()));
        assert_eq!(epochs.released(three, Epoch(1), promised(&[2])), Ok(()), "4 acted, and lost its disk");
    }

    #[test]
    fn memory_is_spared_until_the_next_epoch_has_begun() {
        let mut epochs = begun();
        let forgot = |who: &'static [u64]| move |id: ReplicaId| who.contains(&id.0);
        assert!(epochs.is_lost(forgot(&[2, 3])), "the first epoch may still be needed");
        assert!(!epochs.bear_the_loss_of(ReplicaId(1), forgot(&[3])));
        assert!(epochs.bear_the_loss_of(ReplicaId(5), forgot(&[3])), "it is a learner");
        for id in [1, 4] {
            assert_eq!(epochs.acts(ReplicaId(id), ballot(1), Op(7)), Ok(()));
        }
        assert!(!epochs.is_lost(forgot(&[2, 3])));
        assert!(epochs.bear_the_loss_of(ReplicaId(1), forgot(&[3])));
        let alone = Configuration { epoch: Epoch(2), ..Configuration::bare(Epoch(2), [ReplicaId(1)]) };
        epochs.proposed(second().id(), &alone);
        assert!(!epochs.bear_the_loss_of(ReplicaId(1), forgot(&[])), "it may soon be alone");
    }
}
