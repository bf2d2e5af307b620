//! Configurations to protobuf and back.

use crate::node::Node;
use vr_proto::control as pb;

/// The configuration of the members as this replica knows it.
pub(super) fn configuration(node: &Node) -> pb::Configuration {
    let member = |m: &crate::config::Member| pb::Member {
        id: m.id.0,
        domain: String::new(),
        peer: m.peer.clone(),
        client: m.client.clone(),
    };
    pb::Configuration {
        epoch: node.replica().configuration().epoch.0,
        order: node.config.members.iter().map(member).collect(),
        ..pb::Configuration::default()
    }
}
