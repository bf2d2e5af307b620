//! Configurations to protobuf and back.

use super::refusal::{Refused, refuse};
use vr_core::{Configuration, Digest, Epoch, Member, ReplicaId};
use vr_proto::control as pb;
use vr_proto::control::refusal::Reason;

/// With its id, so that whoever reads it can name it as the one to be replaced.
pub(super) fn configuration(from: &Configuration) -> pb::Configuration {
    pb::Configuration {
        epoch: from.epoch.0,
        order: from.order.iter().map(member).collect(),
        learners: from.learners.iter().map(member).collect(),
        span_domains: from.span_domains,
        read_lease_micros: from.read_lease,
        id: from.id().0.to_vec().into(),
    }
}

fn member(from: &Member) -> pb::Member {
    pb::Member {
        id: from.id.0,
        domain: from.domain.clone(),
        peer: from.peer.clone(),
        client: from.client.clone(),
    }
}

/// A proposed configuration; its epoch is the one after `now`.
///
/// # Errors
/// A member that nobody could connect to.
pub(super) fn proposed(from: pb::Configuration, now: Epoch) -> Result<Configuration, Refused> {
    let next = Configuration { epoch: Epoch(now.0 + 1), ..known(from)? };
    let mut addresses: Vec<&str> = next.members().map(|m| m.peer.as_str()).collect();
    addresses.sort_unstable();
    if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(refuse(
            Reason::Invalid,
            format!("two members have the peer address {}", pair[0]),
            "give each replica an address of its own; remove a dead replica first if another takes its address",
        ));
    }
    Ok(next)
}

/// A configuration that another replica has.
///
/// # Errors
/// A member that nobody could connect to.
pub(super) fn known(from: pb::Configuration) -> Result<Configuration, Refused> {
    let members = |list: Vec<pb::Member>| list.into_iter().map(checked).collect::<Result<Vec<_>, _>>();
    Ok(Configuration {
        epoch: Epoch(from.epoch),
        order: members(from.order)?,
        learners: members(from.learners)?,
        span_domains: from.span_domains,
        read_lease: from.read_lease_micros,
    })
}

fn checked(from: pb::Member) -> Result<Member, Refused> {
    let port = from.peer.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if from.id == 0 || port.is_none_or(|(host, port)| host.is_empty() || port == 0) {
        return Err(refuse(
            Reason::Invalid,
            format!("replica {}: the peer address `{}` is not host:port", from.id, from.peer),
            "name the address at which the other replicas reach it, and an id of at least 1",
        ));
    }
    Ok(Member { id: ReplicaId(from.id), domain: from.domain, peer: from.peer, client: from.client })
}

/// # Errors
/// It is no id.
pub(super) fn digest(from: &[u8]) -> Result<Digest, Refused> {
    from.try_into().map(Digest).map_err(|_| {
        refuse(
            Reason::Invalid,
            format!("`replaces` has {} bytes, the id of a configuration has 32", from.len()),
            "take the id from the status of the cluster",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> pb::Configuration {
        let member = |id: u64| pb::Member { id, peer: format!("r{id}:2380"), ..pb::Member::default() };
        pb::Configuration { order: [1, 2, 3].map(member).to_vec(), ..pb::Configuration::default() }
    }

    #[test]
    fn it_comes_back_with_the_next_epoch() {
        let next = proposed(three(), Epoch(4)).expect("good");
        assert_eq!(next.epoch, Epoch(5));
        let sent = configuration(&next);
        assert_eq!(digest(&sent.id).expect("an id"), next.id());
        assert_eq!(proposed(sent, Epoch(4)).expect("good"), next);
    }

    #[test]
    fn what_nobody_could_connect_to_is_refused() {
        for peer in ["", "r1", ":1", "r1:x", "r1:0", "r2:2380"] {
            let mut wrong = three();
            wrong.order[0].peer = peer.to_owned();
            let refused = proposed(wrong, Epoch(0)).expect_err(peer);
            assert_eq!(refused.reason(), Reason::Invalid, "{peer}");
        }
        assert!(digest(b"short").is_err());
    }
}
