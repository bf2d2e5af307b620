//! Where the primary is: off a node that is about to go at once, and back to the zone that people prefer after it has
//! been well for a while. Between two moves by preference as much time passes, so that nothing swings.

use super::Decision;
use crate::evidence::{Look, Standing};
use crate::ids::Moment;
use crate::snapshot::{Configuration, Member, Said};
use crate::step::Step;

/// How many ops whoever takes over may lack.
const LAG: u64 = 1000;

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let configuration = look.committing()?;
    let (leader, primary) = look.primary()?;
    let to = successor(look, configuration, leader, primary)?;
    let hand = |reason| Some(Decision::act(reason, Step::HandOff { to: to.id }));
    if look.node(leader).is_some_and(|node| node.draining) {
        return hand("LeavingNode");
    }
    if look.wanted.rank(&to.zone) >= look.wanted.rank(&leader.zone) || look.tolerance() < 1 {
        return None;
    }
    let well = match look.standing(to) {
        Standing::Serving(said) => {
            said.normal_since.is_some_and(|t| look.now.since(t) >= look.wanted.handback)
        }
        _ => false,
    };
    let since = look.before.primary.as_ref().filter(|p| p.id == leader.id.signed());
    let led = since.and_then(|p| Moment::parse(p.since.as_deref()?));
    let calm = led.is_some_and(|t| look.now.since(t) >= look.wanted.handback);
    if well && calm { hand("MovingPrimary") } else { None }
}

/// Who should lead next, if not whoever does: takes part, has caught up, its node stays; best zone first.
pub(super) fn successor<'m>(
    look: &Look<'_>,
    configuration: &'m Configuration,
    leader: &Member,
    primary: &Said,
) -> Option<&'m Member> {
    let fit = |member: &&Member| {
        let caught_up =
            matches!(look.standing(member), Standing::Serving(said) if said.op.0 + LAG >= primary.commit.0);
        let stays =
            look.node(member).is_some_and(|n| !n.draining && !n.out_of_service && n.silent_since.is_none());
        member.id != leader.id && !look.wanted.fenced.contains(&member.id) && caught_up && stays
    };
    configuration.voters.iter().filter(fit).min_by_key(|m| (look.wanted.rank(&m.zone), m.slot))
}
