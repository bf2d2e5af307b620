//! The pod of one replica.
//!
//! Its object stays until the operator has seen that its process has ended ([`PROCESS_FINALIZER`]): that a pod is
//! gone is the proof by which its replica id may run again. It tolerates nodes that are silent, since it is the
//! operator who decides what silence means. It is told to be alive by its event loop only, never by a quorum: a
//! partition must not restart everybody.

use super::configuration::{CERTIFICATES, NVME, VOLUME};
use super::*;
use crate::snapshot::Member;
use crate::step::Start;
use k8s_openapi::api::core::v1::*;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vr_api::{MemorySize, NvmeKind, Spread, TolerationOperator};

/// Holds a pod's object until its process is known to have ended.
pub const PROCESS_FINALIZER: &str = "vr-operator.io/process";
/// The container of the replica.
pub const CONTAINER: &str = "replica";
/// The user that a replica runs as.
const USER: i64 = 65532;
/// How long a replica has to hand over and to leave a checkpoint on its disks.
const GRACE_SECONDS: i64 = 120;
/// How long it may take to load its state before it counts as hung: tries of [`PROBE_SECONDS`] each.
const START_TRIES: i32 = 720;
const PROBE_SECONDS: i32 = 5;

/// The pod of a replica that starts so.
///
/// # Errors
/// When `memory.stateLimit` is no amount.
pub fn pod(
    cluster: &VRCluster,
    lineage: &Lineage,
    generation: Generation,
    member: &Member,
    members: &[Member],
    start: &Start,
    restored: Option<&Restored>,
) -> Result<Pod, NoQuantity> {
    let naming = Naming::of(cluster);
    let given = cluster.spec.pod_template.as_ref();
    let mut metadata = naming.owned(naming.slot(member.slot));
    let labels = metadata.labels.get_or_insert_default();
    if let Some(given) = given {
        labels.extend(given.labels.clone());
    }
    labels.insert(SLOT_LABEL.to_owned(), member.slot.to_string());
    labels.insert(REPLICA_LABEL.to_owned(), member.id.to_string());
    labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    let mut annotations = given.map(|given| given.annotations.clone()).unwrap_or_default();
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), template(cluster).0);
    annotations.insert(ZONE_ANNOTATION.to_owned(), member.zone.0.clone());
    annotations.insert(
        CONFIGURATION_ANNOTATION.to_owned(),
        super::configuration(cluster, lineage, generation, member, members, start, restored)?,
    );
    metadata.annotations = Some(annotations);
    metadata.finalizers = Some(vec![PROCESS_FINALIZER.to_owned()]);
    let store = &cluster.spec.storage.object_store;
    let spec = PodSpec {
        hostname: Some(naming.slot(member.slot)),
        subdomain: Some(naming.peers()),
        service_account_name: store.service_account_name.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(restricted()),
        affinity: Some(affinity(cluster, member)),
        node_selector: given.map(|g| g.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(tolerations(cluster)),
        priority_class_name: given.and_then(|g| g.priority_class_name.clone()),
        image_pull_secrets: pull_secrets(cluster),
        containers: vec![container(cluster)],
        volumes: Some(volumes(cluster, member)),
        ..PodSpec::default()
    };
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

/// What the `restricted` profile of pod security asks of a pod.
pub(super) fn restricted() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// What it asks of a container, and a root that cannot be written to.
pub(super) fn restricted_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        ..SecurityContext::default()
    }
}

/// With what the image is pulled.
pub(super) fn pull_secrets(cluster: &VRCluster) -> Option<Vec<LocalObjectReference>> {
    let given = &cluster.spec.pod_template.as_ref()?.image_pull_secrets;
    let named = given.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
    Some(named.collect()).filter(|secrets: &Vec<_>| !secrets.is_empty())
}

fn container(cluster: &VRCluster) -> Container {
    let spec = &cluster.spec;
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("configuration", "/etc/vr", true), mount("certificates", CERTIFICATES, true)];
    if spec.storage.nvme.is_some() {
        mounts.push(mount("nvme", NVME, false));
    }
    if spec.storage.volume.is_some() {
        mounts.push(mount("volume", VOLUME, false));
    }
    let memory = quantity(&spec.memory.limit);
    let cpu =
        spec.pod_template.as_ref().and_then(|t| t.cpu_request.clone()).unwrap_or_else(|| "1".to_owned());
    let probe = |path: &str, failures: i32| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(PROBE_SECONDS),
        timeout_seconds: Some(PROBE_SECONDS),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(spec.image.clone()),
        command: Some(
            ["vr-replica", "serve", "--config", "/etc/vr/replica.yaml"].map(str::to_owned).to_vec(),
        ),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("admin", ADMIN_PORT),
            port("control", CONTROL_PORT),
        ]),
        env_from: spec.storage.object_store.credentials_secret_ref.as_ref().map(|secret| {
            vec![EnvFromSource {
                secret_ref: Some(SecretEnvSource { name: secret.name.clone(), optional: None }),
                ..EnvFromSource::default()
            }]
        }),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), Quantity(cpu)),
                ("memory".to_owned(), memory.clone()),
            ])),
            limits: Some(BTreeMap::from([("memory".to_owned(), memory)])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted_container()),
        startup_probe: Some(probe("/livez", START_TRIES)),
        liveness_probe: Some(probe("/livez", 6)),
        readiness_probe: Some(probe("/readyz", 2)),
        volume_mounts: Some(mounts),
        // The end of the log is what a person wants of a replica that has ended.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn volumes(cluster: &VRCluster, member: &Member) -> Vec<Volume> {
    let name = Naming::of(cluster).slot(member.slot);
    let storage = &cluster.spec.storage;
    let given = cluster.spec.tls.as_ref().and_then(|tls| tls.secret_ref.as_ref());
    let mut volumes = vec![
        Volume {
            name: "configuration".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "replica.yaml".to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        api_version: None,
                        field_path: format!("metadata.annotations['{CONFIGURATION_ANNOTATION}']"),
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
                ..DownwardAPIVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "certificates".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(given.map_or_else(|| format!("{name}-tls"), |secret| secret.name.clone())),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    if let Some(nvme) = &storage.nvme {
        let mut volume = Volume { name: "nvme".to_owned(), ..Volume::default() };
        match nvme.kind {
            NvmeKind::EmptyDir => {
                let size_limit = Some(quantity(&nvme.size_limit));
                volume.empty_dir = Some(EmptyDirVolumeSource { medium: None, size_limit });
            }
            NvmeKind::HostPath => {
                // Two clusters may share a disk, and a slot comes back to its own folder.
                let folder = nvme.host_path.as_deref().unwrap_or_default().trim_end_matches('/');
                let path = format!("{folder}/{}/{name}", Naming::of(cluster).namespace());
                let type_ = Some("DirectoryOrCreate".to_owned());
                volume.host_path = Some(HostPathVolumeSource { path, type_ });
            }
            NvmeKind::EphemeralVolume => {
                let spec = claim(&nvme.size_limit, nvme.storage_class_name.clone());
                let volume_claim_template = Some(PersistentVolumeClaimTemplate { metadata: None, spec });
                volume.ephemeral = Some(EphemeralVolumeSource { volume_claim_template });
            }
        }
        volumes.push(volume);
    }
    if storage.volume.is_some() {
        volumes.push(Volume {
            name: "volume".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name,
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    volumes
}

/// A claim that one pod at a time may write to.
pub(super) fn claim(size: &MemorySize, class: Option<String>) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        storage_class_name: class,
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([("storage".to_owned(), quantity(size))])),
            limits: None,
        }),
        ..PersistentVolumeClaimSpec::default()
    }
}

fn quantity(size: &MemorySize) -> Quantity {
    Quantity(size.text())
}

/// In the zone of its slot, and on a node of its own.
fn affinity(cluster: &VRCluster, member: &Member) -> Affinity {
    let topology = cluster.spec.topology.as_ref();
    let key = topology.and_then(|t| t.zone_key.clone());
    let zone = NodeSelectorRequirement {
        key: key.unwrap_or_else(|| "topology.kubernetes.io/zone".to_owned()),
        operator: "In".to_owned(),
        values: Some(vec![member.zone.0.clone()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![zone]), match_fields: None };
    let apart = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(Naming::of(cluster).selector()),
            match_expressions: None,
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let preferred = topology.and_then(|t| t.spread) == Some(Spread::Preferred);
    let (must, should) = if preferred {
        (None, Some(vec![WeightedPodAffinityTerm { pod_affinity_term: apart, weight: 100 }]))
    } else {
        (Some(vec![apart]), None)
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        pod_anti_affinity: Some(PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: must,
            preferred_during_scheduling_ignored_during_execution: should,
        }),
        pod_affinity: None,
    }
}

fn tolerations(cluster: &VRCluster) -> Vec<Toleration> {
    let silent = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    silent.into_iter().chain(given_tolerations(cluster)).collect()
}

/// The taints that people let the pods bear.
pub(super) fn given_tolerations(cluster: &VRCluster) -> impl Iterator<Item = Toleration> {
    cluster.spec.pod_template.iter().flat_map(|t| &t.tolerations).map(|t| Toleration {
        key: t.key.clone(),
        operator: t.operator.map(|operator| match operator {
            TolerationOperator::Exists => "Exists".to_owned(),
            TolerationOperator::Equal => "Equal".to_owned(),
        }),
        value: t.value.clone(),
        effect: t.effect.clone(),
        toleration_seconds: None,
    })
}
