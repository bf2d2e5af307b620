//! What commits an entry: within one ballot, its primary and those who acknowledged it there are a majority of the
//! voters, and are in two failure domains where the configuration asks for that (R12).

use super::{Check, Epochs, require};
use std::collections::{BTreeMap, BTreeSet};
use vr_core::{Ballot, Header, Message, Op, ReplicaId};

/// Who has acknowledged how much, by ballot.
#[derive(Debug, Default)]
pub struct Acknowledged {
    through: BTreeMap<Ballot, BTreeMap<ReplicaId, Op>>,
}

impl Acknowledged {
    /// A replica says something.
    pub fn says(&mut self, replica: ReplicaId, message: &Message) {
        if let Message::PrepareOk { ballot, op, .. } = message {
            let through = self.through.entry(*ballot).or_default().entry(replica).or_default();
            *through = (*through).max(*op);
        }
    }

    /// An entry is committed, the first time that anybody says so.
    ///
    /// # Errors
    /// In no ballot of its epoch enough voters have it.
    pub fn committed(&self, epochs: &Epochs, header: &Header) -> Check {
        let Some(voters) = epochs.of(header.ballot.epoch) else { return Ok(()) };
        let none = BTreeMap::new();
        let ballots = self.through.range(header.ballot..).map(|(ballot, through)| (*ballot, through));
        let own = (header.ballot, self.through.get(&header.ballot).unwrap_or(&none));
        let mut in_epoch = ballots.chain([own]).filter(|(ballot, _)| ballot.epoch == header.ballot.epoch);
        let committed = in_epoch.any(|(ballot, through)| {
            let primary = epochs.primary(ballot);
            let has =
                |id: ReplicaId| Some(id) == primary || through.get(&id).is_some_and(|op| *op >= header.op);
            let holders: Vec<_> = voters.order.iter().filter(|voter| has(voter.id)).collect();
            let domains: BTreeSet<_> = holders.iter().map(|voter| &voter.domain).collect();
            holders.len() >= voters.quorum() && (!voters.span_domains || domains.len() > 1)
        });
        require!(
            committed,
            "committed-by-quorum",
            "op {} of {} is committed, acknowledged in no ballot by enough of {:?}: {:?}",
            header.op,
            header.ballot,
            voters.order,
            self.through.range(header.ballot..).collect::<Vec<_>>()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::{Configuration, Digest, Epoch, Kind, View};

    #[test]
    fn a_quorum_is_counted_within_one_ballot_and_spans_domains_where_it_must() {
        let ballot = |view| Ballot { epoch: Epoch(0), view: View(view) };
        let (body, parent) = (Digest::default(), Digest::default());
        let header = Header { op: Op(5), ballot: ballot(0), kind: Kind::Requests, time: 0, body, parent };
        let mut five = Configuration::bare(Epoch(0), [1, 2, 3, 4, 5].map(ReplicaId));
        for (voter, domain) in five.order.iter_mut().zip(["a", "a", "a", "b", "b"]) {
            voter.domain = domain.to_owned();
        }
        let plain = Epochs::new(five.clone());
        let spanning = Epochs::new(Configuration { span_domains: true, ..five });
        let mut acknowledged = Acknowledged::default();
        let mut says = |view, by, op| {
            let message = Message::PrepareOk { ballot: ballot(view), op: Op(op), digest: Digest::default() };
            acknowledged.says(ReplicaId(by), &message);
            let name = |epochs| acknowledged.committed(epochs, &header).err().map(|broken| broken.oracle);
            (name(&plain), name(&spanning))
        };
        let missing = Some("committed-by-quorum");
        assert_eq!(says(0, 2, 5), (missing, missing));
        assert_eq!(says(1, 3, 5), (missing, missing), "of another ballot, whose primary has it as well");
        assert_eq!(says(0, 3, 4), (missing, missing), "not far enough");
        assert_eq!(says(0, 3, 6), (None, missing));
        assert_eq!(says(0, 4, 5), (None, None));
    }
}
