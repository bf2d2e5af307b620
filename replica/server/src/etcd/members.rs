//! Changes of the members as etcd's clients ask for them, with etcd's errors; made by the same reconfigurations as
//! everybody's.

use super::convert::status;
use super::ids::peer_url;
use crate::control::{self, NotEdited, Refused};
use crate::node;
use std::time::Duration;
use tonic::{Code, Status};
use vr_core::{Configuration, Member, ReplicaId};
use vr_proto::control as wire;
use vr_proto::control::refusal::Reason;
use vr_proto::etcdserverpb as pb;
use vr_store::StoreError;

/// Between two attempts to make a voter of who was added as one.
const SYNC: Duration = Duration::from_millis(500);
/// After so many it stays a learner, until somebody promotes it.
const ATTEMPTS: usize = 7200;

type Members = Vec<pb::Member>;

/// All members as this replica knows them: voters by preference, then learners.
pub(super) fn list() -> Members {
    node::with(|node| shown(node, node.members()))
}

fn shown(node: &node::Node, configuration: &Configuration) -> Members {
    configuration.members().map(|m| one(node, m, configuration.is_learner(m.id))).collect()
}

fn one(node: &node::Node, member: &Member, is_learner: bool) -> pb::Member {
    // etcd's tools take a member without client URLs as one that has not started yet, and without a name as well.
    let client_ur_ls: Vec<String> =
        Some(member.client.clone()).filter(|url| !url.is_empty()).into_iter().collect();
    pb::Member {
        id: node.ids.member(member.id),
        name: if client_ur_ls.is_empty() { String::new() } else { format!("replica-{}", member.id) },
        peer_ur_ls: vec![peer_url(&member.peer)],
        client_ur_ls,
        is_learner,
    }
}

/// Adds a learner under a new id; with `votes`, it is promoted when it is in sync.
pub(super) async fn add(peer_urls: &[String], votes: bool) -> Result<(pb::Member, Members), Status> {
    let peer = address(peer_urls)?;
    let id = node::with(|node| node.replica().highest_id());
    let learner = |current: &Configuration| {
        if current.members().any(|m| m.peer == peer) {
            return Err(peer_url_exists());
        }
        let id = ReplicaId(id.max(current.highest_id()).0 + 1);
        let mut next = current.clone();
        next.learners.push(Member { peer: peer.clone(), ..Member::bare(id) });
        Ok(next)
    };
    let agreed = edited(learner).await?;
    let added = agreed.learners.last().expect("just added").clone();
    if votes {
        tokio::spawn(promote_when_ready(added.id));
    }
    Ok(node::with(|node| (one(node, &added, true), shown(node, &agreed))))
}

async fn promote_when_ready(id: ReplicaId) {
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(SYNC).await;
        let waits = node::try_with(|node| node.members().is_learner(id)).unwrap_or(false);
        if !waits || edited(|current| promoted(current, id)).await.is_ok() {
            return;
        }
    }
    tracing::warn!(replica = %id, "still not in sync: it stays a learner until it is promoted");
}

fn promoted(current: &Configuration, id: ReplicaId) -> Result<Configuration, Status> {
    let mut next = current.clone();
    match next.learners.iter().position(|m| m.id == id) {
        Some(place) => next.order.push(next.learners.remove(place)),
        None if next.is_voter(id) => return Err(status(StoreError::MemberNotLearner)),
        None => return Err(status(StoreError::MemberNotFound)),
    }
    Ok(next)
}

/// A learner becomes a voter.
pub(super) async fn promote(member: u64) -> Result<Members, Status> {
    let id = known(member)?;
    let agreed = edited(|current| promoted(current, id)).await?;
    Ok(node::with(|node| shown(node, &agreed)))
}

/// A member leaves for good.
pub(super) async fn remove(member: u64) -> Result<Members, Status> {
    let id = known(member)?;
    let without = |current: &Configuration| {
        let mut next = current.clone();
        next.order.retain(|m| m.id != id);
        next.learners.retain(|m| m.id != id);
        match next.order.is_empty() {
            true => Err(status(StoreError::MemberNotEnoughStarted)),
            false if next == *current => Err(status(StoreError::MemberNotFound)),
            false => Ok(next),
        }
    };
    let agreed = edited(without).await?;
    Ok(node::with(|node| shown(node, &agreed)))
}

/// A member's peers reach it elsewhere from now on.
pub(super) async fn update(member: u64, peer_urls: &[String]) -> Result<Members, Status> {
    let peer = address(peer_urls)?;
    let id = known(member)?;
    let moved = |current: &Configuration| {
        if current.members().any(|m| m.id != id && m.peer == peer) {
            return Err(peer_url_exists());
        }
        let mut next = current.clone();
        let found = next.order.iter_mut().chain(&mut next.learners).find(|m| m.id == id);
        found.ok_or_else(|| status(StoreError::MemberNotFound))?.peer.clone_from(&peer);
        Ok(next)
    };
    let agreed = edited(moved).await?;
    Ok(node::with(|node| shown(node, &agreed)))
}

/// Lets another member lead.
pub(super) async fn move_leader(target: u64) -> Result<(), Status> {
    let transferee = || status(StoreError::BadLeaderTransferee);
    let to = known(target).map_err(|_| transferee())?;
    let request = wire::HandOffRequest { fence: None, to: to.0 };
    control::hand_off(request).await.map(drop).map_err(|refused| match refused.reason() {
        Reason::UnknownReplica => transferee(),
        _ => told(&refused),
    })
}

fn known(member: u64) -> Result<ReplicaId, Status> {
    node::with(|node| node.ids.replica(member, node.members()))
        .ok_or_else(|| status(StoreError::MemberNotFound))
}

/// The peer address in etcd's form: one URL with host and port, and no path.
fn address(urls: &[String]) -> Result<String, Status> {
    let bad = || status(StoreError::MemberBadURLs);
    let [url] = urls else { return Err(bad()) };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(bad)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    if host.is_empty() || port == 0 || host.contains('/') {
        return Err(bad());
    }
    Ok(rest.to_owned())
}

async fn edited(
    edit: impl Fn(&Configuration) -> Result<Configuration, Status>,
) -> Result<Configuration, Status> {
    control::edit(wire::Fence::default(), edit).await.map_err(|not| match not {
        NotEdited::Edit(status) => status,
        NotEdited::Refused(refused) => told(&refused),
    })
}

/// A refusal as etcd would say it, where etcd has words for it.
fn told(refused: &Refused) -> Status {
    let etcd = match refused.reason() {
        Reason::NotReady => StoreError::LearnerNotReady,
        Reason::IdReused => StoreError::MemberExist,
        Reason::NoPrimary | Reason::NotServing => StoreError::NoLeader,
        Reason::Timeout => StoreError::Timeout,
        Reason::UnknownReplica => StoreError::MemberNotFound,
        Reason::Fenced => {
            return Status::new(Code::PermissionDenied, format!("etcdserver: {}", refused.message));
        }
        _ => return Status::new(Code::FailedPrecondition, format!("etcdserver: {}", refused.message)),
    };
    status(etcd)
}

fn peer_url_exists() -> Status {
    status(StoreError::PeerURLExist)
}
