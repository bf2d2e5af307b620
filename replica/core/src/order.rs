//! Who leads: the configuration's order read as a function of the view (R8).
//!
//! Pure. The order itself is data that was agreed; nothing here computes one.

use crate::configuration::Configuration;
use crate::ids::{Ballot, ReplicaId, View};

impl Configuration {
    /// The primary of a view: `order[view mod n]`.
    //= R8
    #[must_use]
    pub fn primary(&self, view: View) -> ReplicaId {
        let n = self.order.len() as u64;
        self.order[(view.0 % n) as usize].id
    }

    /// Where a voter stands in the order; `None` for anybody else.
    #[must_use]
    pub fn position(&self, id: ReplicaId) -> Option<usize> {
        self.order.iter().position(|member| member.id == id)
    }

    /// Members that make a quorum.
    #[must_use]
    pub fn quorum(&self) -> usize {
        crate::quorum::majority(self.order.len())
    }

    /// The smallest ballot of this epoch that is at least `least` and whose primary passes; `least` itself when
    /// nobody passes (a view that cannot work is left by its timeout, a view that is never tried is not).
    #[must_use]
    pub fn next_led_by(&self, least: Ballot, passes: impl Fn(ReplicaId) -> bool) -> Ballot {
        (0..self.order.len() as u64)
            .map(|step| Ballot { epoch: least.epoch, view: View(least.view.0 + step) })
            .find(|ballot| passes(self.primary(ballot.view)))
            .unwrap_or(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn three() -> Configuration {
        Configuration::bare(Epoch(0), [7, 3, 5].map(ReplicaId))
    }

    #[test]
    fn views_go_round_the_order() {
        let leaders: Vec<u64> = (0..7).map(|view| three().primary(View(view)).0).collect();
        assert_eq!(leaders, [7, 3, 5, 7, 3, 5, 7]);
        assert_eq!(three().position(ReplicaId(5)), Some(2));
        assert_eq!(three().position(ReplicaId(4)), None);
    }

    #[test]
    fn a_view_whose_primary_cannot_lead_is_skipped() {
        let least = Ballot { epoch: Epoch(0), view: View(4) };
        assert_eq!(three().next_led_by(least, |_| true).view, View(4));
        assert_eq!(three().next_led_by(least, |id| id != ReplicaId(3)).view, View(5));
        assert_eq!(three().next_led_by(least, |id| id == ReplicaId(7)).view, View(6));
        assert_eq!(three().next_led_by(least, |_| false).view, View(4));
    }
}
