//! Promises: durable before they are spoken (R1), never taken back, made only by those who may (R4), one vote and one
//! primary per ballot (R8, R11).

use super::{Broken, Check, Epochs, require};
use crate::machine::digest;
use crate::rng::mix;
use std::collections::{BTreeMap, BTreeSet};
use vr_core::{Ballot, Digest, Epoch, Header, Incarnation, Message, ReplicaId, Status, View, VoteRecord};

/// What has been promised, by whom.
#[derive(Debug, Default)]
pub struct Promises {
    durable: BTreeMap<ReplicaId, VoteRecord>,
    votes: BTreeMap<(ReplicaId, Ballot), u64>,
    primaries: BTreeMap<Ballot, (ReplicaId, Incarnation)>,
    /// The highest view that each has asked for, by epoch.
    intents: BTreeMap<(Epoch, ReplicaId), View>,
    /// Views to which a primary has sent everybody.
    handed: BTreeSet<Ballot>,
}

fn header_digest(h: &Header) -> u64 {
    let words = |d: &Digest| digest(&d.0);
    let numbers = [h.op.0, h.ballot.epoch.0, h.ballot.view.0, h.kind as u64, h.time];
    numbers.into_iter().chain([words(&h.body), words(&h.parent)]).fold(0, |sum, n| mix(sum ^ n))
}

impl Promises {
    /// A vote record became durable.
    ///
    /// # Errors
    /// It promises less than the one before, or is older.
    pub fn durable(&mut self, record: &VoteRecord) -> Check {
        if let Some(before) = self.durable.insert(record.replica, *record) {
            require!(
                before.ballot <= record.ballot && before.incarnation <= record.incarnation,
                "promises-never-regress",
                "replica {} replaced the record {before:?} by {record:?}",
                record.replica
            );
        }
        Ok(())
    }

    /// The world made a replica forget its record: what it says from now on is judged by the other oracles.
    pub fn forget(&mut self, replica: ReplicaId) {
        self.durable.remove(&replica);
    }

    /// The ballot that a replica has durably promised.
    #[must_use]
    pub fn of(&self, replica: ReplicaId) -> Ballot {
        self.durable.get(&replica).map_or_else(Ballot::default, |record| record.ballot)
    }

    /// A replica says something in a step that began and ended in these statuses.
    ///
    /// # Errors
    /// It promises what is not durable, votes although it may not, votes differently than before, or in a view that
    /// too few have asked for and no primary has sent it to; or it speaks in an epoch that is not agreed.
    pub fn says(
        &mut self,
        replica: ReplicaId,
        epochs: &Epochs,
        statuses: [Status; 2],
        message: &Message,
    ) -> Check {
        if let Message::StartViewChange { ballot } = message {
            let newest = self.intents.entry((ballot.epoch, replica)).or_default();
            *newest = (*newest).max(ballot.view);
        }
        if let Message::HandOff { ballot, view } = message {
            require!(
                epochs.primary(*ballot) == Some(replica),
                "entered-by-quorum",
                "replica {replica} sends everybody from {ballot} to view {view}, but leads nobody"
            );
            self.handed.insert(Ballot { view: *view, ..*ballot });
        }
        let (ballot, vote) = match message {
            Message::DoViewChange { ballot, .. } | Message::PrepareOk { ballot, .. } => (*ballot, true),
            Message::StartView { ballot, .. } | Message::Prepare { ballot, .. } => (*ballot, false),
            Message::Commit { ballot, .. } | Message::CommitOk { ballot, .. } => (*ballot, false),
            Message::ViewIs { ballot, .. } => (*ballot, false),
            _ => return Ok(()),
        };
        require!(
            ballot <= self.of(replica),
            "durable-before-spoken",
            "replica {replica} spoke in ballot {ballot} while only {} was durable: {message:?}",
            self.of(replica)
        );
        // QuorumLost is a judgement, not a loss of memory: whoever has its memory may go on voting in vain.
        let forbidden = |status| {
            matches!(
                status,
                Status::Recovering
                    | Status::Syncing
                    | Status::Transitioning
                    | Status::Retiring
                    | Status::Halted
            )
        };
        let invisible = statuses.into_iter().all(forbidden);
        require!(
            !(vote && invisible),
            "invisible-never-votes",
            "replica {replica} is {statuses:?} and voted: {message:?}"
        );
        if let Message::DoViewChange { .. } = message {
            let voters = epochs.of(ballot.epoch).ok_or_else(|| {
                let detail = format!("replica {replica} votes in {ballot}, whose epoch nobody agreed on");
                Broken::new("one-configuration-per-epoch", detail)
            })?;
            let wants = |id: &ReplicaId| {
                self.intents.get(&(ballot.epoch, *id)).is_some_and(|view| *view >= ballot.view)
            };
            let intents = voters.voters().filter(wants).count();
            require!(
                intents >= voters.quorum() || self.handed.contains(&ballot),
                "entered-by-quorum",
                "replica {replica} votes in {ballot}, which {intents} have asked for: {:?}",
                self.intents
            );
            // Whoever votes in a view would also go to any before it.
            let newest = self.intents.entry((ballot.epoch, replica)).or_default();
            *newest = (*newest).max(ballot.view);
        }
        if let Message::DoViewChange { last_normal, commit, op, headers, .. } = message {
            let numbers = [last_normal.epoch.0, last_normal.view.0, commit.0, op.0];
            let vote =
                numbers.into_iter().chain(headers.iter().map(header_digest)).fold(0, |sum, n| mix(sum ^ n));
            let before = *self.votes.entry((replica, ballot)).or_insert(vote);
            require!(
                before == vote,
                "one-vote-per-ballot",
                "replica {replica} voted in {ballot} in two ways; the second: {message:?}"
            );
        }
        Ok(())
    }

    /// A replica became the Normal primary of a ballot; `continued` if this start has all of the one before.
    ///
    /// # Errors
    /// Another replica was, or another start of it that may have promised other things.
    pub fn leads(
        &mut self,
        ballot: Ballot,
        replica: ReplicaId,
        incarnation: Incarnation,
        continued: bool,
    ) -> Check {
        let before = *self.primaries.entry(ballot).or_insert((replica, incarnation));
        require!(
            before.0 == replica && (before.1 == incarnation || continued),
            "one-primary-per-ballot",
            "replica {replica} (start {incarnation}) leads {ballot}, which replica {} (start {}) led before",
            before.0,
            before.1
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::{Configuration, Op};

    fn ballot(view: u64) -> Ballot {
        Ballot { epoch: Epoch(1), view: View(view) }
    }
    fn record(view: u64) -> VoteRecord {
        VoteRecord {
            lineage: Default::default(),
            generation: Default::default(),
            ballot: ballot(view),
            replica: ReplicaId(1),
            incarnation: Incarnation(1),
        }
    }
    fn vote(view: u64, op: u64) -> Message {
        let (last_normal, commit) = (ballot(0), Op(0));
        Message::DoViewChange { ballot: ballot(view), last_normal, commit, op: Op(op), headers: Vec::new() }
    }

    #[test]
    fn each_rule_is_told_apart() {
        let mut promises = Promises::default();
        let one = ReplicaId(1);
        assert!(promises.durable(&record(2)).is_ok());
        assert_eq!(
            promises.durable(&record(1)).expect_err("this breaks a rule").oracle,
            "promises-never-regress"
        );
        assert!(promises.durable(&record(2)).is_ok());
        let epochs = Epochs::new(Configuration::bare(Epoch(1), [one]));
        let says = |p: &mut Promises, status, message| p.says(one, &epochs, [status; 2], &message);
        let intent = Message::StartViewChange { ballot: ballot(2) };
        assert!(says(&mut promises, Status::Normal, intent).is_ok());
        assert_eq!(
            says(&mut promises, Status::ViewChange, vote(3, 0)).expect_err("this breaks a rule").oracle,
            "durable-before-spoken"
        );
        assert_eq!(
            says(&mut promises, Status::Recovering, vote(2, 0)).expect_err("this breaks a rule").oracle,
            "invisible-never-votes"
        );
        assert!(says(&mut promises, Status::ViewChange, vote(2, 0)).is_ok());
        assert_eq!(
            says(&mut promises, Status::ViewChange, vote(2, 1)).expect_err("this breaks a rule").oracle,
            "one-vote-per-ballot"
        );
        assert!(promises.leads(ballot(2), one, Incarnation(1), false).is_ok());
        assert!(promises.durable(&record(3)).is_ok());
        let broken = says(&mut promises, Status::ViewChange, vote(3, 0)).expect_err("nobody asked for it");
        assert_eq!(broken.oracle, "entered-by-quorum");
        let sends = Message::HandOff { ballot: ballot(2), view: View(3) };
        assert!(says(&mut promises, Status::Normal, sends).is_ok());
        assert!(says(&mut promises, Status::ViewChange, vote(3, 0)).is_ok());
        assert_eq!(
            says(&mut promises, Status::Transitioning, vote(3, 0)).expect_err("this breaks a rule").oracle,
            "invisible-never-votes"
        );
        let again = promises.leads(ballot(2), one, Incarnation(2), false);
        assert_eq!(again.expect_err("this breaks a rule").oracle, "one-primary-per-ballot");
    }
}
