//! The changes of three members that a search tries, by number.

use super::REPLICAS;
use vr_core::{Configuration, Epoch, ReplicaId};

/// Another order; and of each replica, to let it only learn, to let it vote, to let it go.
pub(super) const CHANGES: u8 = 1 + 3 * REPLICAS as u8;

/// What comes of these members by one change; `None` if that would be no change, or leave no voter.
pub(super) fn changed(members: &Configuration, change: u8) -> Option<Configuration> {
    let mut next = Configuration { epoch: Epoch(members.epoch.0 + 1), ..members.clone() };
    let Some(number) = change.checked_sub(1) else {
        next.order.rotate_left(1);
        return (next.order.len() > 1).then_some(next);
    };
    let id = ReplicaId(u64::from(number / 3) + 1);
    let (votes, learns) = (members.is_voter(id), members.is_learner(id));
    match number % 3 {
        0 if votes => {
            let member = members.member(id).expect("a voter is a member").clone();
            next.order.retain(|voter| voter.id != id);
            next.learners.push(member);
        }
        1 if learns => {
            let member = members.member(id).expect("a learner is a member").clone();
            next.learners.retain(|learner| learner.id != id);
            next.order.push(member);
        }
        2 if votes || learns => {
            next.order.retain(|voter| voter.id != id);
            next.learners.retain(|learner| learner.id != id);
        }
        _ => return None,
    }
    (!next.order.is_empty()).then_some(next)
}

/// As a story tells it.
pub(super) fn name(change: u8) -> String {
    let Some(number) = change.checked_sub(1) else { return "other order".to_owned() };
    let what = ["only learns", "votes", "is let go"][usize::from(number % 3)];
    format!("R{} {what}", number / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_another_configuration_of_the_next_epoch() {
        let ids = |n: u64| (1..=n).map(ReplicaId);
        let three = Configuration::bare(Epoch(4), ids(3));
        let next: Vec<_> = (0..CHANGES).filter_map(|change| changed(&three, change)).collect();
        // Another order, three learners, three that go.
        assert_eq!(next.len(), 7);
        assert!(next.iter().all(|next| next.epoch == Epoch(5)));
        let ids: std::collections::BTreeSet<_> = next.iter().map(|next| next.id().0).collect();
        assert_eq!(ids.len(), 7);
        let learner = changed(&three, 1).expect("the first one only learns");
        assert_eq!(changed(&learner, 2).map(|next| next.order.len()), Some(3));
        assert_eq!(changed(&Configuration::bare(Epoch(0), [ReplicaId(1)]), 3), None, "the last voter stays");
    }
}
