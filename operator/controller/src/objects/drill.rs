//! The copy that a drill restores: one pod that reads the object store, and a policy that lets it do nothing else.
//!
//! Both belong to the VRDrill and go with it. Neither has the label of a cluster: a copy is no replica of it.

use super::pod::{given_tolerations, pull_secrets, restricted, restricted_container};
use super::*;
use crate::drill::DEADLINE;
use k8s_openapi::api::core::v1::*;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vr_api::VRDrill;

/// Label: which drill.
pub const DRILL_LABEL: &str = "vr-operator.io/drill";
/// The key below which drills leave their canary, in every cluster that is drilled.
pub const CANARY: &str = "vr-operator.io/canary";
/// The container of the copy.
pub const COPY: &str = "copy";
const WORK: &str = "/var/lib/vr/drill";
/// Where the pods of EKS get their identity.
const POD_IDENTITY: &str = "169.254.170.23/32";

/// Name of everything that is made for a drill.
#[must_use]
pub fn copy_name(drill: &VRDrill) -> String {
    format!("{}-drill", drill.metadata.name.as_deref().unwrap_or_default())
}

fn metadata(drill: &VRDrill) -> ObjectMeta {
    let name = drill.metadata.name.clone().unwrap_or_default();
    ObjectMeta {
        name: Some(copy_name(drill)),
        namespace: drill.metadata.namespace.clone(),
        labels: Some(labels(&name)),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "VRDrill".to_owned(),
            name,
            uid: drill.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

fn labels(drill: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (DRILL_LABEL.to_owned(), drill.to_owned()),
        ("app.kubernetes.io/name".to_owned(), "vr-drill".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "vr-operator".to_owned()),
    ])
}

/// The pod. What is to be found is what `status.source` of the drill says.
#[must_use]
pub fn copy(drill: &VRDrill, cluster: &VRCluster) -> Pod {
    let (spec, given) = (&cluster.spec, cluster.spec.pod_template.as_ref());
    let reader = drill.spec.reader.as_ref();
    let store = &spec.storage.object_store;
    let (account, secret) = match reader {
        Some(reader) => (&reader.service_account_name, &reader.credentials_secret_ref),
        None => (&store.service_account_name, &store.credentials_secret_ref),
    };
    let memory = Quantity(drill.spec.memory_limit.as_ref().unwrap_or(&spec.memory.limit).text());
    let variable =
        |name: &str| EnvVar { name: name.to_owned(), value: Some(WORK.to_owned()), ..EnvVar::default() };
    let container = Container {
        name: COPY.to_owned(),
        image: Some(spec.image.clone()),
        command: Some(command(drill, cluster)),
        env: Some(vec![variable("HOME"), variable("TMPDIR")]),
        env_from: secret.as_ref().map(|secret| {
            vec![EnvFromSource {
                secret_ref: Some(SecretEnvSource { name: secret.name.clone(), optional: None }),
                ..EnvFromSource::default()
            }]
        }),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), Quantity("100m".to_owned())),
                ("memory".to_owned(), memory.clone()),
            ])),
            limits: Some(BTreeMap::from([("memory".to_owned(), memory)])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted_container()),
        volume_mounts: Some(vec![VolumeMount {
            name: "work".to_owned(),
            mount_path: WORK.to_owned(),
            ..VolumeMount::default()
        }]),
        // Where the report is; what has ended without one is explained by its log.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    let spec = PodSpec {
        service_account_name: account.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(drill.spec.deadline_seconds.unwrap_or(DEADLINE).into()),
        termination_grace_period_seconds: Some(5),
        security_context: Some(restricted()),
        affinity: Some(away_from(cluster)),
        node_selector: given.map(|g| g.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(given_tolerations(cluster).collect()),
        image_pull_secrets: pull_secrets(cluster),
        containers: vec![container],
        volumes: Some(vec![Volume {
            name: "work".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    };
    Pod { metadata: metadata(drill), spec: Some(spec), status: None }
}

fn command(drill: &VRDrill, cluster: &VRCluster) -> Vec<String> {
    let store = &cluster.spec.storage.object_store;
    let source = drill.status.as_ref().and_then(|status| status.source.clone()).unwrap_or_default();
    let canary = drill.metadata.uid.as_deref().unwrap_or_default();
    let prefix = store.prefix.as_deref().unwrap_or_default().trim_matches('/');
    let place = format!("s3://{}/{prefix}", store.bucket);
    let mut command: Vec<String> = ["vr", "drill", "restore"].map(str::to_owned).to_vec();
    command.push(place.trim_end_matches('/').to_owned());
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.extend([format!("--{name}"), value]);
        }
    };
    flag("lineage", Some(source.lineage));
    flag("s3-endpoint", store.endpoint.clone());
    flag("s3-region", store.region.clone());
    flag("canary", Some(format!("{CANARY}={canary}")));
    flag("source-op", source.op.map(|op| op.to_string()));
    flag("source-time", source.time);
    let objectives = cluster.spec.objectives.as_ref();
    let seconds = |given: Option<i32>| given.map(|seconds| format!("{seconds}s"));
    flag("rpo", seconds(objectives.and_then(|o| o.rpo_seconds)));
    flag("rto", seconds(objectives.and_then(|o| o.rto_seconds)));
    flag("dir", Some(format!("{WORK}/copy")));
    flag("report", Some("/dev/termination-log".to_owned()));
    command
}

/// Where the cluster's replicas are not, if there is such a place.
fn away_from(cluster: &VRCluster) -> Affinity {
    let replicas = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(Naming::of(cluster).selector()),
            match_expressions: None,
        }),
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

/// Nobody reaches the copy, and it reaches names and the port of the object store, nothing else.
#[must_use]
pub fn copy_network_policy(drill: &VRDrill, cluster: &VRCluster) -> NetworkPolicy {
    let port = |protocol: &str, port: i32| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(port)),
        end_port: None,
    };
    let to = |ports: Vec<NetworkPolicyPort>| NetworkPolicyEgressRule { ports: Some(ports), to: None };
    let identity = NetworkPolicyEgressRule {
        ports: Some(vec![port("TCP", 80)]),
        to: Some(vec![NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: POD_IDENTITY.to_owned(), except: None }),
            ..NetworkPolicyPeer::default()
        }]),
    };
    let endpoint = cluster.spec.storage.object_store.endpoint.as_deref();
    NetworkPolicy {
        metadata: metadata(drill),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(
                    DRILL_LABEL.to_owned(),
                    drill.metadata.name.clone().unwrap_or_default(),
                )])),
                match_expressions: None,
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: None,
            egress: Some(vec![
                to(vec![port("UDP", 53), port("TCP", 53)]),
                to(vec![port("TCP", port_of(endpoint))]),
                identity,
            ]),
        }),
    }
}

/// The port of an S3 server; of AWS if there is no endpoint.
fn port_of(endpoint: Option<&str>) -> i32 {
    let Some(endpoint) = endpoint else { return 443 };
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let host = rest.split('/').next().unwrap_or(rest);
    let given = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    given.unwrap_or(if scheme == "http" { 80 } else { 443 })
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
}
