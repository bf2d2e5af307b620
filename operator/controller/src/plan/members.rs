//! Who is a member: replacing, growing and shrinking, by one agreed change at a time.
//!
//! Whoever joins does so as a learner under a new id, in a slot of its own, and votes once it is in sync. Whoever is
//! replaced leaves in the same change. No change is made that the voters who take part now could not bear.

use super::Decision;
use crate::evidence::{Look, Standing};
use crate::ids::*;
use crate::snapshot::{Configuration, Member, Said, Trouble};
use crate::step::{Change, Step};
use std::collections::BTreeSet;

/// How many ops a learner may lack when it is proposed as a voter; the replicas look themselves.
const LAG: u64 = 1000;
const PATIENCE: Seconds = Seconds(3600);

/// What the members lack.
#[derive(Debug, PartialEq)]
enum Need<'m> {
    Nothing,
    Replace(&'m Member),
    Grow,
    Shrink(&'m Member),
}

impl Need<'_> {
    fn word(&self) -> &'static str {
        match self {
            Need::Nothing => "Replace",
            Need::Replace(_) => "Replace",
            Need::Grow => "ScaleOut",
            Need::Shrink(_) => "ScaleIn",
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Need::Nothing | Need::Replace(_) => "Replacing",
            Need::Grow => "ScalingOut",
            Need::Shrink(_) => "ScalingIn",
        }
    }

    fn about(&self) -> Option<ReplicaId> {
        match self {
            Need::Replace(member) | Need::Shrink(member) => Some(member.id),
            Need::Nothing | Need::Grow => None,
        }
    }
}

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let Some(configuration) = look.committing() else {
        let configuration = look.configuration()?;
        let silent: Vec<_> = configuration
            .voters
            .iter()
            .filter(|m| !matches!(look.standing(m), Standing::Serving(_)))
            .map(|m| m.id.to_string())
            .collect();
        return Some(Decision::wait(
            "QuorumUnavailable",
            format!(
                "no primary with a quorum is heard; awaited are replicas {}. Nothing is taken away meanwhile",
                silent.join(", ")
            ),
        ));
    };
    let (_, primary) = look.primary()?;
    let need = need(look, configuration);
    if let Some(learner) = configuration.learners.first() {
        return Some(learning(look, configuration, primary, learner, &need));
    }
    let decision = match &need {
        Need::Nothing => return unneeded(look, primary),
        Need::Shrink(member) => reconfigure(need.reason(), configuration, Change::Remove(member.id)),
        Need::Replace(_) | Need::Grow => prepare(look, configuration, primary, &need),
    };
    Some(decision.part_of(need.word(), "Preparing", need.about(), PATIENCE))
}

fn need<'m>(look: &Look<'_>, configuration: &'m Configuration) -> Need<'m> {
    if configuration.voters.len() > look.wanted.replicas {
        return leaver(look, configuration).map_or(Need::Nothing, Need::Shrink);
    }
    if let Some(member) = configuration.voters.iter().find(|m| replaceable(look, m)) {
        return Need::Replace(member);
    }
    if configuration.voters.len() < look.wanted.replicas {
        return Need::Grow;
    }
    Need::Nothing
}

/// Whether a new id is to take a voter's place. Never because of something that would hit the next one just so.
fn replaceable(look: &Look<'_>, member: &Member) -> bool {
    if look.wanted.fenced.contains(&member.id) {
        return true;
    }
    let silence = match look.standing(member) {
        Standing::Gone | Standing::Halted(_) => return look.wanted.replace,
        Standing::Silent(silence) => silence,
        _ => return false,
    };
    let Some(since) = silence.since.filter(|_| look.wanted.replace) else { return false };
    let patience = match silence.trouble {
        Some(Trouble::Image | Trouble::Configuration | Trouble::OutOfMemory) => return false,
        _ if silence.node_gone => look.wanted.failure_detection,
        _ => look.wanted.node_gone,
    };
    look.now.since(since) >= patience
}

/// Who leaves when there are too many: whoever can never come back, then from the zone with most, the primary last.
/// Nobody whom the others cannot do without.
fn leaver<'m>(look: &Look<'_>, configuration: &'m Configuration) -> Option<&'m Member> {
    let leads = look.primary().map(|(m, _)| m.id);
    let crowd = |zone: &Zone| configuration.voters.iter().filter(|m| m.zone == *zone).count();
    let serving = look.serving();
    let serves = |member: &Member| serving.iter().any(|m| m.id == member.id);
    let quorum = (configuration.voters.len() - 1) / 2 + 1;
    let spared = |member: &&Member| serving.len() - usize::from(serves(member)) >= quorum;
    configuration.voters.iter().filter(spared).max_by_key(|m| {
        let over = look.wanted.fenced.contains(&m.id) || look.standing(m) == Standing::Gone;
        (over, crowd(&m.zone), !serves(m), leads != Some(m.id), m.slot)
    })
}

fn learning(
    look: &Look<'_>,
    configuration: &Configuration,
    primary: &Said,
    learner: &Member,
    need: &Need<'_>,
) -> Decision {
    let done = |decision: Decision, step| decision.part_of(need.word(), step, need.about(), PATIENCE);
    let drop = || done(reconfigure(need.reason(), configuration, Change::Remove(learner.id)), "Dropping");
    let instead_of = match need {
        Need::Replace(member) => Some(member.id),
        Need::Grow => None,
        Need::Nothing | Need::Shrink(_) => return drop(),
    };
    match look.standing(learner) {
        Standing::Gone | Standing::Halted(_) => drop(),
        Standing::Silent(silence)
            if silence.since.is_some_and(|t| look.now.since(t) >= look.wanted.node_gone) =>
        {
            drop()
        }
        Standing::Serving(said) | Standing::Busy(said) if said.op.0 + LAG >= primary.commit.0 => done(
            reconfigure(need.reason(), configuration, Change::Promote(learner.id, instead_of)),
            "Promoting",
        ),
        Standing::Serving(said) | Standing::Busy(said) | Standing::Amnesiac(said) => {
            let says =
                format!("replica {} is at op {} of {}: it catches up", learner.id, said.op, primary.commit);
            done(Decision::wait(need.reason(), says), "CatchingUp")
        }
        Standing::Silent(_) | Standing::Idle(_) => {
            let says = format!("replica {} is awaited in slot {}", learner.id, learner.slot);
            done(Decision::wait(need.reason(), says), "Starting")
        }
    }
}

/// A volume, and then a learner on it: by a volume that is there first, its id is known to nobody before it is used.
fn prepare(look: &Look<'_>, configuration: &Configuration, primary: &Said, need: &Need<'_>) -> Decision {
    let next = ReplicaId(primary.highest_id.0 + 1);
    let (Some(pods), Some(volumes), Some(unused)) =
        (look.pods(), look.volumes(), look.unused(next, primary.highest_id))
    else {
        return Decision::wait(need.reason(), "the pods and volumes could not be looked at");
    };
    let taken: BTreeSet<Slot> = configuration.members().map(|m| m.slot).chain(pods.keys().copied()).collect();
    let made = volumes
        .iter()
        .find(|(slot, v)| v.replica == next && look.ours(v) && !v.deleting && !taken.contains(slot));
    if let Some((slot, volume)) = made {
        let member = Member { id: next, slot: *slot, zone: volume.zone.clone() };
        return reconfigure(need.reason(), configuration, Change::Learn(member, unused));
    }
    let stay = configuration.voters.iter().filter(|m| Some(m.id) != need.about());
    let Some(zone) = spread(look, &zones(look), stay) else {
        return Decision::wait(need.reason(), "no node is known to run a replica on");
    };
    let slot = (0..).map(Slot).find(|slot| !taken.contains(slot) && !volumes.contains_key(slot));
    let slot = slot.expect("there are more numbers than slots");
    if look.wanted.volumes.is_none() {
        let member = Member { id: next, slot, zone };
        return reconfigure(need.reason(), configuration, Change::Learn(member, unused));
    }
    let lineage = look.lineage.clone().unwrap_or_default();
    let generation = look.generation;
    Decision::act(need.reason(), Step::MakeVolume { slot, zone, replica: next, generation, lineage })
}

/// A volume that was made for the next replica, which is not needed any more. What names any other id that was never
/// given was not made here, and is left alone.
fn unneeded(look: &Look<'_>, primary: &Said) -> Option<Decision> {
    let pods = look.pods()?;
    let next = ReplicaId(primary.highest_id.0 + 1);
    let (slot, volume) = look
        .volumes()?
        .iter()
        .find(|(slot, v)| look.ours(v) && v.replica == next && !v.deleting && !pods.contains_key(slot))?;
    Some(Decision::act("Tidying", Step::DeleteVolume { slot: *slot, uid: volume.uid.clone() }))
}

fn reconfigure(reason: &'static str, configuration: &Configuration, change: Change) -> Decision {
    Decision::act(reason, Step::Reconfigure { replaces: configuration.id.clone(), change })
}

/// The zones to use.
pub(super) fn zones(look: &Look<'_>) -> BTreeSet<Zone> {
    if !look.wanted.zones.is_empty() {
        return look.wanted.zones.iter().cloned().collect();
    }
    let nodes = look.nodes().into_iter().flat_map(|nodes| nodes.values());
    nodes
        .filter(|n| n.silent_since.is_none() && !n.draining && !n.out_of_service)
        .map(|n| n.zone.clone())
        .collect()
}

/// The zone with the fewest members, among equals the one preferred for the primary.
pub(super) fn spread<'m>(
    look: &Look<'_>,
    zones: &BTreeSet<Zone>,
    members: impl Iterator<Item = &'m Member>,
) -> Option<Zone> {
    let held: Vec<&Zone> = members.map(|m| &m.zone).collect();
    zones
        .iter()
        .min_by_key(|zone| {
            (held.iter().filter(|held| held == &zone).count(), look.wanted.rank(zone), zone.0.clone())
        })
        .cloned()
}
