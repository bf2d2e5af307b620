//! A pod that does one thing, once and to an end, and a policy that lets it do nothing else.
//!
//! Both belong to the resource that asked for them and go with it. Neither has the label of a cluster: it is no replica.

use super::pod::{given_tolerations, pull_secrets, restricted, restricted_container};
use super::*;
use k8s_openapi::api::core::v1::*;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::Ipv4Addr;
use vr_api::LocalReference;

/// Label: what kind of thing it is.
pub(super) const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Where the pods of EKS get their identity.
pub(super) const POD_IDENTITY: &str = "169.254.170.23/32";
/// Where it tells what it found: the kubelet takes it into the pod's status.
pub(super) const TOLD: &str = "/dev/termination-log";

/// Such a pod.
pub(super) struct Errand<'a> {
    /// Name, labels and owner.
    pub(super) metadata: ObjectMeta,
    pub(super) container: &'static str,
    pub(super) command: Vec<String>,
    /// As whom it goes to the object store.
    pub(super) account: Option<&'a String>,
    pub(super) keys: Option<&'a LocalReference>,
    pub(super) memory: Quantity,
    pub(super) deadline: i32,
    /// A directory of its own.
    pub(super) work: &'static str,
    /// What else it gets to read.
    pub(super) given: Vec<(Volume, VolumeMount)>,
}

/// Where it may go, beside names.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// To the object store.
    ObjectStore,
    /// To the clients' port of the replicas.
    Replicas,
}

/// Name, labels and owner of what is made for a resource beside a cluster.
pub(super) fn owned_by(
    (kind, owner): (&str, &ObjectMeta),
    name: String,
    label: (&str, String),
    part: &str,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: owner.namespace.clone(),
        labels: Some(BTreeMap::from([
            (label.0.to_owned(), label.1),
            (NAME_LABEL.to_owned(), part.to_owned()),
            ("app.kubernetes.io/managed-by".to_owned(), "vr-operator".to_owned()),
        ])),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: kind.to_owned(),
            name: owner.name.clone().unwrap_or_default(),
            uid: owner.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

/// The place of a cluster in the object store, as the tool takes it, and how it gets there.
pub(super) fn place(cluster: &VRCluster, lineage: &str) -> Vec<String> {
    let store = &cluster.spec.storage.object_store;
    let place = url(&store.bucket, store.prefix.as_deref().unwrap_or_default());
    [vec![place, "--lineage".to_owned(), lineage.to_owned()], reach(cluster)].concat()
}

/// A place in a bucket, as the tool takes it.
pub(super) fn url(bucket: &str, prefix: &str) -> String {
    format!("s3://{bucket}/{}", prefix.trim_matches('/')).trim_end_matches('/').to_owned()
}

/// How the tool gets to the object store of a cluster.
pub(super) fn reach(cluster: &VRCluster) -> Vec<String> {
    let store = &cluster.spec.storage.object_store;
    let given = [
        ("--s3-endpoint", &store.endpoint),
        ("--s3-region", &store.region),
        ("--s3-kms-key-id", &store.kms_key_id),
    ];
    let words = given
        .into_iter()
        .flat_map(|(name, value)| value.iter().map(move |value| [name.to_owned(), value.clone()]));
    words.flatten().collect()
}

impl<'a> Errand<'a> {
    /// One that loads from the object store of a cluster what a replica of it would: as one of them, in as much memory.
    pub(super) fn that_loads(
        cluster: &'a VRCluster,
        metadata: ObjectMeta,
        container: &'static str,
        command: Vec<String>,
        deadline: i32,
        work: &'static str,
    ) -> Errand<'a> {
        let store = &cluster.spec.storage.object_store;
        Errand {
            metadata,
            container,
            command,
            account: store.service_account_name.as_ref(),
            keys: store.credentials_secret_ref.as_ref(),
            memory: Quantity(cluster.spec.memory.limit.text()),
            deadline,
            work,
            given: Vec::new(),
        }
    }

    /// The pod, with what a cluster says of nodes, images and taints.
    pub(super) fn pod(self, cluster: &VRCluster) -> Pod {
        let given = cluster.spec.pod_template.as_ref();
        let variable = |name: &str| EnvVar {
            name: name.to_owned(),
            value: Some(self.work.to_owned()),
            ..EnvVar::default()
        };
        let empty_dir = Some(EmptyDirVolumeSource::default());
        let work = mounted(Volume { name: "work".to_owned(), empty_dir, ..Volume::default() }, self.work);
        let (volumes, mounts) = [vec![work], self.given].concat().into_iter().unzip();
        let container = Container {
            name: self.container.to_owned(),
            image: Some(cluster.spec.image.clone()),
            command: Some(self.command),
            env: Some(vec![variable("HOME"), variable("TMPDIR")]),
            env_from: self.keys.map(|secret| {
                vec![EnvFromSource {
                    secret_ref: Some(SecretEnvSource { name: secret.name.clone(), optional: None }),
                    ..EnvFromSource::default()
                }]
            }),
            resources: Some(ResourceRequirements {
                requests: Some(BTreeMap::from([
                    ("cpu".to_owned(), Quantity("100m".to_owned())),
                    ("memory".to_owned(), self.memory.clone()),
                ])),
                limits: Some(BTreeMap::from([("memory".to_owned(), self.memory)])),
                ..ResourceRequirements::default()
            }),
            security_context: Some(restricted_container()),
            volume_mounts: Some(mounts),
            // Where the answer is; what has ended without one is explained by its log.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        };
        let spec = PodSpec {
            service_account_name: self.account.cloned(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(self.deadline.into()),
            termination_grace_period_seconds: Some(5),
            security_context: Some(restricted()),
            affinity: Some(away_from(cluster)),
            node_selector: given.map(|g| g.node_selector.clone()).filter(|selector| !selector.is_empty()),
            tolerations: Some(given_tolerations(cluster).collect()),
            image_pull_secrets: pull_secrets(cluster),
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        };
        Pod { metadata: self.metadata, spec: Some(spec), status: None }
    }
}

/// A volume, and where it is seen.
pub(super) fn mounted(volume: Volume, path: &str) -> (Volume, VolumeMount) {
    let mount =
        VolumeMount { name: volume.name.clone(), mount_path: path.to_owned(), ..VolumeMount::default() };
    (volume, mount)
}

fn replicas(cluster: &VRCluster) -> LabelSelector {
    LabelSelector { match_labels: Some(Naming::of(cluster).selector()), match_expressions: None }
}

/// Where the cluster's replicas are not, if there is such a place.
fn away_from(cluster: &VRCluster) -> Affinity {
    let replicas = PodAffinityTerm {
        label_selector: Some(replicas(cluster)),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                pod_affinity_term: replicas,
                weight: 100,
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Nobody reaches the pod of this label, and it reaches names and what it is for, nothing else.
pub(super) fn closed(
    metadata: ObjectMeta,
    label: (&str, String),
    way: Way,
    cluster: &VRCluster,
) -> NetworkPolicy {
    let port = |protocol: &str, port: i32| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(port)),
        end_port: None,
    };
    let anywhere = |ports: Vec<NetworkPolicyPort>| NetworkPolicyEgressRule { ports: Some(ports), to: None };
    let to = |number: i32, peer: NetworkPolicyPeer| NetworkPolicyEgressRule {
        ports: Some(vec![port("TCP", number)]),
        to: Some(vec![peer]),
    };
    let mut egress = vec![anywhere(vec![port("UDP", 53), port("TCP", 53)])];
    match way {
        Way::ObjectStore => {
            let endpoint = cluster.spec.storage.object_store.endpoint.as_deref();
            let ip_block = Some(IPBlock { cidr: POD_IDENTITY.to_owned(), except: None });
            egress.push(anywhere(vec![port("TCP", port_of(endpoint))]));
            egress.extend(endpoint.and_then(service).map(|space| behind_a_service(space, cluster)));
            egress.push(to(80, NetworkPolicyPeer { ip_block, ..NetworkPolicyPeer::default() }));
        }
        Way::Replicas => {
            let pod_selector = Some(replicas(cluster));
            let peer = NetworkPolicyPeer { pod_selector, ..NetworkPolicyPeer::default() };
            egress.push(to(CLIENT_PORT.into(), peer));
        }
    }
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(label.0.to_owned(), label.1)])),
                match_expressions: None,
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: None,
            egress: Some(egress),
        }),
    }
}

/// To whatever is in the namespace of an object store but replicas. A policy sees the ports of pods, and the endpoint names
/// the one of the Service before them, which may be another.
fn behind_a_service(space: Option<&str>, cluster: &VRCluster) -> NetworkPolicyEgressRule {
    let space = space.unwrap_or_else(|| Naming::of(cluster).namespace());
    let named = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), space.to_owned())]);
    let no_replica = LabelSelectorRequirement {
        key: CLUSTER_LABEL.to_owned(),
        operator: "DoesNotExist".to_owned(),
        values: None,
    };
    let peer = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_labels: Some(named), match_expressions: None }),
        pod_selector: Some(LabelSelector { match_labels: None, match_expressions: Some(vec![no_replica]) }),
        ip_block: None,
    };
    NetworkPolicyEgressRule { ports: None, to: Some(vec![peer]) }
}

/// Scheme and `host:port` of an endpoint.
fn parts_of(endpoint: &str) -> (&str, &str) {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    (scheme, rest.split('/').next().unwrap_or(rest))
}

/// The port of an S3 server; of AWS if there is no endpoint.
fn port_of(endpoint: Option<&str>) -> i32 {
    let Some(endpoint) = endpoint else { return 443 };
    let (scheme, host) = parts_of(endpoint);
    let given = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    given.unwrap_or(if scheme == "http" { 80 } else { 443 })
}

/// Where an endpoint is the name of a Service (`store`, `store.ns`, `store.ns.svc…`): its namespace, and nothing in the
/// place of the cluster's own.
fn service(endpoint: &str) -> Option<Option<&str>> {
    let (_, host) = parts_of(endpoint);
    let name = host.split(':').next().unwrap_or(host);
    if name.is_empty() || name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok() {
        return None;
    }
    let mut labels = name.split('.').skip(1);
    match (labels.next(), labels.next()) {
        (space, None | Some("svc")) => Some(space),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_endpoint() {
        for (endpoint, port) in [
            (None, 443),
            (Some("https://s3.example.com"), 443),
            (Some("http://minio.shop.svc"), 80),
            (Some("http://10.0.0.1:9000/"), 9000),
            (Some("https://[fd00::1]:9000"), 9000),
            (Some("https://[fd00::1]"), 443),
        ] {
            assert_eq!(port_of(endpoint), port, "{endpoint:?}");
        }
    }

    #[test]
    fn the_namespace_of_a_service() {
        for (endpoint, space) in [
            ("http://store", Some(None)),
            ("http://store:9000", Some(None)),
            ("http://store.stores", Some(Some("stores"))),
            ("https://store.stores.svc:443/", Some(Some("stores"))),
            ("http://store.stores.svc.cluster.local", Some(Some("stores"))),
            ("https://s3.example.com", None),
            ("https://s3.eu-central-1.amazonaws.com", None),
            ("http://10.0.0.1:9000", None),
            ("https://[fd00::1]:9000", None),
            ("http://", None),
        ] {
            assert_eq!(service(endpoint), space, "{endpoint}");
        }
    }

    /// The end-to-end scenario `policies` has such a store, in another namespace.
    #[test]
    fn a_store_behind_a_service_is_reached_and_replicas_beside_it_are_not() {
        let text = include_str!("../../../api/examples/vrcluster-complete.yaml");
        let mut cluster: VRCluster = serde_yaml::from_str(text).expect("an example");
        let rules = |endpoint: &str, cluster: &mut VRCluster| {
            cluster.spec.storage.object_store.endpoint = Some(endpoint.to_owned());
            let way = closed(ObjectMeta::default(), ("a", "b".to_owned()), Way::ObjectStore, cluster);
            way.spec.and_then(|spec| spec.egress).expect("rules")
        };
        let whole = |rule: &NetworkPolicyEgressRule| rule.ports.is_none();
        assert!(!rules("https://s3.example.com", &mut cluster).iter().any(whole));
        for (endpoint, space) in [
            ("http://store.stores.svc", "stores"),
            ("http://store", Naming::of(&cluster.clone()).namespace()),
        ] {
            let rules = rules(endpoint, &mut cluster);
            let peers =
                rules.iter().find(|rule| whole(rule)).and_then(|rule| rule.to.clone()).expect("a rule");
            let expected = serde_json::json!([{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
                "podSelector": {"matchExpressions": [{"key": CLUSTER_LABEL, "operator": "DoesNotExist"}]},
            }]);
            assert_eq!(serde_json::to_value(&peers).expect("JSON"), expected, "{endpoint}");
        }
    }
}
