//! How replicas are found: by each other under a name for each slot, by clients under one for all.

use super::*;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A name for each slot. Also of pods that are not ready: they could not become so without being found.
#[must_use]
pub fn peer_service(cluster: &VRCluster) -> Service {
    let naming = Naming::of(cluster);
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        selector: Some(naming.selector()),
        ports: Some(vec![
            port("peer", PEER_PORT),
            port("client", CLIENT_PORT),
            port("control", CONTROL_PORT),
        ]),
        ..ServiceSpec::default()
    };
    Service { metadata: naming.owned(naming.peers()), spec: Some(spec), status: None }
}

/// One name for all that take part. Any replica is a gateway.
#[must_use]
pub fn client_service(cluster: &VRCluster) -> Service {
    let naming = Naming::of(cluster);
    let spec = ServiceSpec {
        selector: Some(naming.selector()),
        ports: Some(vec![port("client", CLIENT_PORT)]),
        ..ServiceSpec::default()
    };
    Service { metadata: naming.owned(naming.name().to_owned()), spec: Some(spec), status: None }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
