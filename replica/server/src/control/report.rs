//! One replica as a status page wants it: everything it knows of itself and of its peers.

use crate::etcd::ETCD_VERSION;
use crate::node::Node;
use crate::status;
use std::time::Duration;
use vr_core::Ballot;
use vr_proto::control as pb;

/// This thread's replica, now.
pub(super) fn report(node: &Node) -> pb::ReplicaStatus {
    let replica = node.replica();
    let page = status::report(node);
    pb::ReplicaStatus {
        lineage: page.lineage,
        generation: page.generation,
        replica: page.replica_id,
        incarnation: page.incarnation,
        status: page.status,
        ready: page.ready,
        ballot: Some(ballot(replica.ballot())),
        promised: Some(ballot(replica.vote().ballot)),
        primary: page.primary.unwrap_or(0),
        op: page.op,
        commit: page.commit,
        revision: page.revision,
        reserved_revision: node.store().reserved().0,
        configuration: Some(super::convert::configuration(node.members())),
        peers: replica.peers().map(|peer| self::peer(node, &peer)).collect(),
        tiers: page.tiers.into_iter().map(tier).collect(),
        shipper: replica.shipper().map_or(0, |id| id.0),
        amnesiac: replica.is_amnesiac(),
        halted: page.halted.unwrap_or_default(),
        remedy: page.remedy.unwrap_or_default(),
        fence: node.fence.highest(),
        state_bytes: node.store().bytes(),
        process: page.process,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        etcd_version: ETCD_VERSION.to_owned(),
        uptime_ms: millis(node.started().elapsed()),
        highest_id: replica.highest_id().0,
        learner: node.members().is_learner(node.config.id),
    }
}

pub(super) fn ballot(ballot: Ballot) -> pb::Ballot {
    pb::Ballot { epoch: ballot.epoch.0, view: ballot.view.0 }
}

fn peer(node: &Node, peer: &vr_core::PeerStanding) -> pb::Peer {
    let now = node.started().elapsed();
    let ago = |heard| millis(now.saturating_sub(Duration::from_micros(heard)));
    pb::Peer {
        id: peer.id.0,
        incarnation: peer.incarnation.0,
        heard_ms: peer.heard.map(ago),
        round_trip_micros: node.round_trip(peer.id).map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)),
        acknowledged: peer.acknowledged.0,
        amnesiac: peer.amnesiac,
    }
}

fn tier(tier: status::TierReport) -> pb::Tier {
    pb::Tier {
        tier: tier.tier,
        checkpoint_op: tier.checkpoint_op,
        recovery_op: tier.recovery_op,
        lag_seconds: tier.lag_seconds,
        last_success: tier.last_success,
        dirty_bytes: tier.dirty_bytes,
        error: tier.error.unwrap_or_default(),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
