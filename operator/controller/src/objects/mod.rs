//! The objects that a cluster consists of, as values: what is wanted goes in, the object for the API server comes out.
//!
//! One file for each kind. What runs is allowed by the `restricted` profile of pod security, unless people choose a
//! folder of the node as local disk (`storage.nvme.type: HostPath`), which that profile refuses. What people decide
//! is in the [`template`]; a newer operator that writes an object differently restarts nothing by that.

mod configuration;
mod drill;
mod errand;
mod origin;
mod pod;
mod policies;
mod quantity;
mod search;
mod services;
mod template;
mod volume;

pub use configuration::{Restored, configuration};
pub use drill::{CANARY, DRILL, DRILL_LABEL, copy_name, copy_network_policy, drill_pod, probe_prefix};
pub use origin::{COPY, Copied, copy_of_origin, copy_of_origin_name, copy_of_origin_network_policy};
pub use pod::{CONTAINER, PROCESS_FINALIZER, pod};
pub use policies::{disruption_budget, network_policy};
pub use quantity::{NoQuantity, bytes};
pub use search::{RESTORE_LABEL, SEARCH, held, search, search_name, search_network_policy};
pub use services::{client_service, peer_service};
pub use template::template;
pub use volume::volume;

use crate::ids::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use vr_api::{GROUP, VERSION, VRCluster};

/// Port of etcd clients.
pub const CLIENT_PORT: u16 = 2379;
/// Port of peers.
pub const PEER_PORT: u16 = 2380;
/// Port of probes and metrics.
pub const ADMIN_PORT: u16 = 2381;
/// Port of the operator.
pub const CONTROL_PORT: u16 = 2382;

/// Label: which cluster.
pub const CLUSTER_LABEL: &str = "vr-operator.io/cluster";
/// Label: which slot.
pub const SLOT_LABEL: &str = "vr-operator.io/slot";
/// Label: which replica id.
pub const REPLICA_LABEL: &str = "vr-operator.io/replica";
/// Label: which generation.
pub const GENERATION_LABEL: &str = "vr-operator.io/generation";
/// Annotation of a volume: which lineage.
pub const LINEAGE_ANNOTATION: &str = "vr-operator.io/lineage";
/// Annotation of a volume: the zone its slot is pinned to.
pub const ZONE_ANNOTATION: &str = "vr-operator.io/zone";
/// Annotation of a pod: what people decided of it, in short.
pub const TEMPLATE_ANNOTATION: &str = "vr-operator.io/template";
/// Annotation of a pod: the configuration file of its replica, which the pod reads as a file.
pub const CONFIGURATION_ANNOTATION: &str = "vr-operator.io/replica.yaml";

/// A cluster and where it is.
pub struct Naming<'a> {
    cluster: &'a VRCluster,
}

/// Whether clients and peers speak without TLS.
#[must_use]
pub fn speaks_plainly(cluster: &VRCluster) -> bool {
    cluster.spec.unsafe_flags.as_ref().is_some_and(|flags| flags.plaintext)
}

impl<'a> Naming<'a> {
    /// Of this cluster.
    #[must_use]
    pub fn of(cluster: &'a VRCluster) -> Naming<'a> {
        Naming { cluster }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.cluster.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        self.cluster.metadata.namespace.as_deref().unwrap_or("default")
    }

    /// The pod and volume of a slot.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> String {
        format!("{}-{slot}", self.name())
    }

    /// The service by which peers find each other, ready or not.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}-peers", self.name())
    }

    /// Where a slot's pod is reached.
    #[must_use]
    pub fn host(&self, slot: Slot) -> String {
        format!("{}.{}.{}.svc", self.slot(slot), self.peers(), self.namespace())
    }

    /// What peers dial.
    #[must_use]
    pub fn peer_address(&self, slot: Slot) -> String {
        format!("{}:{PEER_PORT}", self.host(slot))
    }

    /// The Secret of the operator's own certificate, where an issuer makes it.
    #[must_use]
    pub fn operator_secret(&self) -> String {
        format!("{}-operator-tls", self.name())
    }

    /// The Secret by whose `ca.crt` clients know the replicas.
    #[must_use]
    pub fn authority_secret(&self) -> String {
        let tls = self.cluster.spec.tls.as_ref();
        match tls.and_then(|tls| tls.secret_ref.as_ref()) {
            Some(given) => given.name.clone(),
            None if tls.is_some_and(|tls| tls.issuer_ref.is_some()) => self.operator_secret(),
            None => vr_api::authority_secret(self.name()),
        }
    }

    /// The slot that a peer address of this cluster names; nothing for one that is not of this cluster.
    #[must_use]
    pub fn slot_of(&self, peer_address: &str) -> Option<Slot> {
        let pod = peer_address.split('.').next()?;
        let slot = pod.strip_prefix(self.name())?.strip_prefix('-')?.parse().ok().map(Slot)?;
        (self.peer_address(slot) == peer_address).then_some(slot)
    }

    /// What clients are told.
    #[must_use]
    pub fn client_url(&self, slot: Slot) -> String {
        let plain = speaks_plainly(self.cluster);
        format!("{}://{}:{CLIENT_PORT}", if plain { "http" } else { "https" }, self.host(slot))
    }

    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(CLUSTER_LABEL.to_owned(), self.name().to_owned())])
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/name".to_owned(), "vr".to_owned());
        labels.insert("app.kubernetes.io/instance".to_owned(), self.name().to_owned());
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "vr-operator".to_owned());
        labels
    }

    /// Name, labels and owner of one of its objects: it goes with the cluster.
    pub(crate) fn owned(&self, name: String) -> ObjectMeta {
        ObjectMeta { owner_references: Some(vec![self.owner()]), ..self.kept(name) }
    }

    /// The same for what outlives the cluster.
    pub(crate) fn kept(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace().to_owned()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "VRCluster".to_owned(),
            name: self.name().to_owned(),
            uid: self.cluster.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}
