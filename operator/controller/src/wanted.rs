//! What a person wants of a cluster: the resource with its defaults, read once, so that nobody below asks an `Option`
//! what it means.

use crate::ids::*;
use std::collections::BTreeSet;
use vr_api::{Hibernation, OnTotalLoss, PrimaryUpdate, UpdateKind, VRCluster, VolumePolicy};

/// How often a checkpoint goes to the object store, unless somebody says otherwise.
pub(crate) const SHIPPING: i64 = 300;

/// What is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Name of the resource; pods and volumes are named after it.
    pub name: String,
    /// Which version of its spec this is.
    pub generation: i64,
    /// Voters.
    pub replicas: usize,
    /// The failure domains to use; all that nodes name if empty.
    pub zones: Vec<Zone>,
    /// Failure domains for the primary, most preferred first.
    pub preferred: Vec<Zone>,
    /// How long a replica in a better domain must have been Normal before it gets the primary.
    pub handback: Seconds,
    /// What becomes of volumes; absent if there are none and the vote records live and die with the pods.
    pub volumes: Option<Volumes>,
    /// Whether replicas that are gone are replaced.
    pub replace: bool,
    /// A replica that is silent this long counts as failed, if its node is known to be gone.
    pub failure_detection: Seconds,
    /// A replica, or node, that is silent this long counts as gone.
    pub node_gone: Seconds,
    /// How long a total loss is seen before anything follows from it.
    pub confirmation: Seconds,
    /// The loss up to which nobody is asked; absent if somebody always is.
    pub automatic: Option<Seconds>,
    /// How often a checkpoint goes to the object store.
    pub shipping: Seconds,
    /// How much the object store may be behind.
    pub rpo: Option<Seconds>,
    /// How long ago the last drill that passed may be.
    pub drill_max_age: Option<Seconds>,
    /// How changes of the template reach the pods; absent if by deleting them by hand.
    pub update: Option<Update>,
    /// What pods are made from.
    pub template: Template,
    /// Ids that must not take part any more.
    pub fenced: BTreeSet<ReplicaId>,
    /// It rests without pods.
    pub hibernated: bool,
    /// Nothing but status is written.
    pub paused: bool,
    /// The resource is being deleted.
    pub deleting: bool,
    /// Deleting is refused.
    pub protected: bool,
    /// It is to begin with what a bucket holds.
    pub begins_with: bool,
}

/// What becomes of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// A volume goes with the replica that was removed.
    pub go_when_scaled: bool,
    /// Volumes go with the resource.
    pub go_when_deleted: bool,
}

/// How a change of the template reaches the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The primary waits for a person to move it.
    pub supervised: bool,
    /// A new pod is Normal this long before the next one goes.
    pub settle: Seconds,
}

impl Wanted {
    /// Reads a resource. `template` is what its pods are made from, in short.
    #[must_use]
    pub fn of(cluster: &VRCluster, template: Template) -> Wanted {
        let spec = &cluster.spec;
        let seconds = |given: Option<i32>, default: i64| Seconds(given.map_or(default, i64::from));
        let zones = |names: &[String]| names.iter().cloned().map(Zone).collect::<Vec<_>>();
        let replacement = spec.replacement.as_ref();
        let recovery = spec.recovery.as_ref();
        let placement = spec.placement.as_ref();
        let update = spec.update_strategy.as_ref();
        Wanted {
            name: cluster.metadata.name.clone().unwrap_or_default(),
            generation: cluster.metadata.generation.unwrap_or_default(),
            replicas: usize::try_from(spec.replicas).unwrap_or_default(),
            zones: spec.topology.as_ref().map(|t| zones(&t.zones)).unwrap_or_default(),
            preferred: placement.map(|p| zones(&p.preferred_zones)).unwrap_or_default(),
            handback: seconds(placement.and_then(|p| p.handback_delay_seconds), 300),
            volumes: spec.storage.volume.as_ref().map(|v| Volumes {
                go_when_scaled: v.when_scaled == Some(VolumePolicy::Delete),
                go_when_deleted: v.when_deleted == Some(VolumePolicy::Delete),
            }),
            replace: replacement.and_then(|r| r.enabled).unwrap_or(true),
            failure_detection: seconds(replacement.and_then(|r| r.failure_detection_seconds), 30),
            node_gone: seconds(replacement.and_then(|r| r.node_gone_seconds), 300),
            confirmation: seconds(recovery.and_then(|r| r.confirmation_seconds), 30),
            automatic: recovery
                .filter(|r| r.on_total_loss == OnTotalLoss::Automatic)
                .and_then(|r| r.max_data_loss_seconds)
                .map(|s| Seconds(s.into())),
            shipping: seconds(
                spec.checkpoint.as_ref().and_then(|policy| policy.object_store_interval_seconds),
                SHIPPING,
            ),
            rpo: spec.objectives.as_ref().and_then(|o| o.rpo_seconds).map(|s| Seconds(s.into())),
            drill_max_age: spec
                .objectives
                .as_ref()
                .and_then(|o| o.drill_max_age_hours)
                .map(|hours| Seconds(i64::from(hours) * 3600)),
            update: (update.map(|u| u.kind) != Some(UpdateKind::OnDelete)).then(|| Update {
                supervised: update.and_then(|u| u.primary) == Some(PrimaryUpdate::Supervised),
                settle: seconds(update.and_then(|u| u.min_ready_seconds), 10),
            }),
            template,
            fenced: spec
                .fenced_replicas
                .iter()
                .filter_map(|id| u64::try_from(*id).ok().map(ReplicaId))
                .collect(),
            hibernated: spec.hibernation == Some(Hibernation::Hibernated),
            paused: spec.paused,
            deleting: cluster.metadata.deletion_timestamp.is_some(),
            protected: spec.deletion_protection,
            begins_with: spec.bootstrap.is_some(),
        }
    }

    /// How much a failure domain is preferred for the primary; less is better.
    #[must_use]
    pub fn rank(&self, zone: &Zone) -> usize {
        self.preferred.iter().position(|z| z == zone).unwrap_or(self.preferred.len())
    }
}
