//! A restore point with a name: what is done next for a `VRCheckpoint`, and what is said of it.
//!
//! Pure. Without `opNumber` the op that is committed when it is first seen is noted, the replica that ships is asked for
//! a checkpoint, and the newest one at or above that op is pinned; with it the newest one at or below. The pin is a name
//! in HEAD of the object store, held as long as the resource exists.
//!
//! Promises: what is pinned is at least as new as the resource, or as old as was asked for; a resource goes only after
//! its pin, unless its cluster is gone, since then nobody knows where the pin is.

use crate::ids::*;
use std::fmt;
use vr_api::VRCheckpointSpec;

/// What is seen of it.
pub(crate) struct Seen<'a> {
    pub(crate) spec: &'a VRCheckpointSpec,
    /// What a checkpoint that is taken must hold at least, if that is on record.
    pub(crate) asked: Option<Op>,
    pub(crate) pinned: bool,
    pub(crate) made: Moment,
    /// The operator's finalizer is there.
    pub(crate) held: bool,
    pub(crate) deleting: bool,
    /// Nothing if there is no such cluster.
    pub(crate) cluster: Option<Cluster>,
}

/// What is seen of its cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cluster {
    /// The newest op that was committed, if a replica that takes part was heard.
    pub(crate) commit: Option<Op>,
    /// The newest op that the object store holds as a checkpoint, as its shipper says.
    pub(crate) stored: Option<Op>,
    pub(crate) paused: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Hold the resource until its pin is gone.
    Hold,
    /// Ask for a checkpoint in the object store.
    Cut,
    /// Pin the newest checkpoint that fits.
    Pin(Fit),
    /// Take the pin away.
    Unpin,
    /// Let the resource go.
    LetGo,
    /// Delete the resource: its time is over.
    Delete,
}

/// Which checkpoint is to be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// At or above an op.
    From(Op),
    /// At or below an op.
    To(Op),
}

impl Fit {
    /// Whether the checkpoint of an op is one.
    pub(crate) fn takes(self, op: u64) -> bool {
        match self {
            Fit::From(from) => op >= from.0,
            Fit::To(to) => op <= to.0,
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fit::From(op) => write!(f, "op {op} or later"),
            Fit::To(op) => write!(f, "op {op} or before"),
        }
    }
}

/// How it is, in one word and for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Says {
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

/// What follows.
pub(crate) struct Next {
    /// What a checkpoint that is taken must hold at least; noted before anything is asked for.
    pub(crate) asked: Option<Op>,
    pub(crate) says: Option<Says>,
    pub(crate) act: Option<Act>,
}

/// Decides.
pub(crate) fn decide(seen: &Seen<'_>, now: Moment) -> Next {
    let say = |reason, text: String| Some(Says { reason, text });
    let asked = seen.asked;
    let act = |act| Next { asked, says: None, act: Some(act) };
    let wait = |reason, text: String| Next { asked, says: say(reason, text), act: None };
    if seen.deleting {
        return match (seen.held, seen.pinned && seen.cluster.is_some()) {
            (false, _) => Next { asked, says: None, act: None },
            (true, true) => act(Act::Unpin),
            (true, false) => act(Act::LetGo),
        };
    }
    let hours = seen.spec.expire_after_hours.map(i64::from);
    if hours.is_some_and(|hours| now.since(seen.made) >= Seconds(hours * 3600)) {
        return act(Act::Delete);
    }
    if seen.pinned {
        return Next { asked, says: None, act: None };
    }
    let name = &seen.spec.cluster_ref.name;
    let Some(cluster) = seen.cluster else {
        return wait("ClusterNotFound", format!("there is no VRCluster {name} in this namespace"));
    };
    if cluster.paused {
        return wait("Taking", format!("spec.paused of VRCluster {name} is set"));
    }
    if !seen.held {
        return act(Act::Hold);
    }
    if let Some(op) = seen.spec.op_number.and_then(|op| u64::try_from(op).ok()) {
        return act(Act::Pin(Fit::To(Op(op))));
    }
    match (asked, cluster.commit, cluster.stored) {
        (None, Some(commit), _) => Next {
            asked: Some(commit),
            says: say("Taking", format!("a checkpoint of op {commit} or later is taken")),
            act: None,
        },
        (None, None, _) | (Some(_), None, None) => wait(
            "Taking",
            format!("no replica of VRCluster {name} answers; `kubectl vr status {name}` tells why"),
        ),
        (Some(asked), _, Some(stored)) if stored >= asked => act(Act::Pin(Fit::From(asked))),
        (Some(_), ..) => act(Act::Cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_api::LocalReference;

    const MADE: Moment = Moment(1_800_000_000);

    fn spec(op: Option<i64>) -> VRCheckpointSpec {
        let cluster_ref = LocalReference { name: "prod".to_owned() };
        VRCheckpointSpec { cluster_ref, op_number: op, expire_after_hours: Some(2) }
    }

    fn look(change: impl FnOnce(&mut Seen<'_>), op: Option<i64>, now: Moment) -> Next {
        let spec = spec(op);
        let cluster = Cluster { commit: Some(Op(100)), stored: Some(Op(90)), paused: false };
        let mut seen = Seen {
            spec: &spec,
            asked: None,
            pinned: false,
            made: MADE,
            held: true,
            deleting: false,
            cluster: Some(cluster),
        };
        change(&mut seen);
        decide(&seen, now)
    }

    #[test]
    fn what_is_committed_now_is_noted_then_taken_then_pinned() {
        let next = look(|_| {}, None, MADE);
        assert_eq!((next.asked, next.act), (Some(Op(100)), None));
        assert_eq!(look(|seen| seen.asked = Some(Op(100)), None, MADE).act, Some(Act::Cut));
        let stored = |seen: &mut Seen<'_>| {
            seen.asked = Some(Op(100));
            seen.cluster.as_mut().expect("it is there").stored = Some(Op(100));
        };
        assert_eq!(look(stored, None, MADE).act, Some(Act::Pin(Fit::From(Op(100)))));
        assert_eq!(look(|seen| seen.pinned = true, None, MADE).act, None);
    }

    #[test]
    fn an_op_that_is_named_is_pinned_at_once() {
        assert_eq!(look(|_| {}, Some(50), MADE).act, Some(Act::Pin(Fit::To(Op(50)))));
        assert_eq!(look(|seen| seen.held = false, Some(50), MADE).act, Some(Act::Hold));
    }

    #[test]
    fn the_pin_goes_before_the_resource() {
        let pinned = |seen: &mut Seen<'_>| (seen.deleting, seen.pinned) = (true, true);
        assert_eq!(look(pinned, None, MADE).act, Some(Act::Unpin));
        assert_eq!(look(|seen| seen.deleting = true, None, MADE).act, Some(Act::LetGo));
        let gone = |seen: &mut Seen<'_>| {
            pinned(seen);
            seen.cluster = None;
        };
        assert_eq!(look(gone, None, MADE).act, Some(Act::LetGo), "nobody knows where the pin is");
        let next = look(|seen| (seen.deleting, seen.held) = (true, false), None, MADE);
        assert_eq!(next.act, None, "somebody else holds it");
    }

    #[test]
    fn its_time_is_over_and_not_before() {
        let pinned = |seen: &mut Seen<'_>| seen.pinned = true;
        assert_eq!(look(pinned, None, MADE + Seconds(7_199)).act, None);
        assert_eq!(look(pinned, None, MADE + Seconds(7_200)).act, Some(Act::Delete));
    }

    #[test]
    fn what_is_awaited_is_said() {
        let reason = |next: Next| next.says.map(|says| (says.reason, says.text)).expect("it says something");
        let (why, text) = reason(look(|seen| seen.cluster = None, None, MADE));
        assert_eq!((why, &*text), ("ClusterNotFound", "there is no VRCluster prod in this namespace"));
        let down = |seen: &mut Seen<'_>| seen.cluster = Some(Cluster::default());
        assert!(reason(look(down, None, MADE)).1.contains("no replica of VRCluster prod answers"));
        let paused = |seen: &mut Seen<'_>| {
            seen.cluster = Some(Cluster { paused: true, ..Cluster::default() });
        };
        assert!(reason(look(paused, None, MADE)).1.contains("spec.paused"));
    }
}
