//! What a cluster begins with (`spec.bootstrap`): what is meant by it, and how far the copy of it is.
//!
//! What cannot be meant is said before anything is begun. The rest is known by the pod that copies, which tells what it
//! found; an end without an answer says nothing about the state, and is tried again once somebody has taken the pod away.

use super::drills;
use super::world::World;
use crate::drill::Copy;
use crate::ids::*;
use crate::objects::{self, COPY, Copied, Naming, RESTORE_LABEL};
use crate::snapshot::{Find, Known, Origin, source};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use vr_api::{LineageSource, VRCheckpoint, VRCluster};
use vr_checkpoint::format::Names;
use vr_checkpoint::restore::Answer;

/// What is asked for, and how far it is; nothing if the cluster begins with nothing.
pub(super) async fn look(
    client: &Client,
    world: &World,
    cluster: &VRCluster,
    lineage: Option<&Lineage>,
) -> Option<(Known<Origin>, Option<Copied>)> {
    let asked = &cluster.spec.bootstrap.as_ref()?.restore;
    let copied = match (&asked.lineage, &asked.checkpoint_ref) {
        (Some(place), _) => of_place(place, world.at),
        (None, Some(named)) => of_checkpoint(world, cluster, &named.name),
        (None, None) => Err(Origin::Refused("spec.bootstrap.restore names nothing".to_owned())),
    };
    let seen = match (&copied, lineage) {
        (Err(why), _) => Known::At(world.at, why.clone()),
        (Ok(_), None) => Known::At(world.at, Origin::Absent),
        (Ok(copied), Some(lineage)) => match pod(client, cluster).await {
            Ok(pod) => Known::At(world.at, told(pod, copied, cluster, lineage)),
            Err(error) => {
                tracing::info!(error = format!("{error:#}"), "the pod that copies could not be looked at");
                Known::Unknown
            }
        },
    };
    Some((seen, copied.ok()))
}

/// A place and a moment, as the resource names them.
fn of_place(asked: &LineageSource, now: Moment) -> Result<Copied, Origin> {
    let field = |name: &str, why: &str| {
        Err(Origin::Refused(format!(
            "bootstrap.restore.lineage.{name}: {why}. It cannot be changed: delete the VRCluster, and make it again"
        )))
    };
    if let Some(id) = &asked.lineage_id
        && uuid::Uuid::try_parse(id).is_err()
    {
        return field(
            "lineageId",
            &format!("{id:?} is no UUID; `vr checkpoint ls` shows which lineages a place holds"),
        );
    }
    let moment = match (&asked.before_time, asked.op_number, &asked.manifest) {
        (Some(time), ..) => match Moment::parse(time) {
            None => {
                let why = "is not a time: give a date, a time and a zone, as 2026-11-23T07:00:00Z";
                return field("beforeTime", &format!("{time:?} {why}"));
            }
            Some(at) if at > now => return field("beforeTime", &format!("{time} is yet to come")),
            Some(_) => Some(("--to-time", time.clone())),
        },
        (_, Some(op), _) => Some(("--to-op", op.to_string())),
        (_, _, Some(manifest)) => Some(("--checkpoint", Names::checkpoint(manifest).to_owned())),
        (None, None, None) => None,
    };
    let place = (asked.bucket.clone(), asked.prefix.clone().unwrap_or_default());
    Ok(Copied { place, lineage: asked.lineage_id.clone(), moment })
}

/// What a VRCheckpoint holds.
fn of_checkpoint(world: &World, cluster: &VRCluster, name: &str) -> Result<Copied, Origin> {
    let namespace = Naming::of(cluster).namespace();
    let same = |c: &&VRCheckpoint| c.namespace().as_deref() == Some(namespace) && c.name_any() == name;
    let found = world.checkpoints.iter().map(|checkpoint| &**checkpoint).find(same);
    let named = |text: &str| format!("bootstrap.restore.checkpointRef: VRCheckpoint {name} {text}");
    let Some(found) = found else {
        return Err(Origin::Refused(named(
            "is not in this namespace; `kubectl get vrcp` lists those that are",
        )));
    };
    let status = found.status.clone().unwrap_or_default();
    if let Some(failed) = status.conditions.iter().find(|c| c.type_ == "Ready" && c.reason == "Failed") {
        return Err(Origin::Refused(named(&format!("holds nothing: {}", failed.message))));
    }
    let Some(manifest) = &status.manifest else { return Err(Origin::Awaited(named("is being taken"))) };
    let refused = || Origin::Refused(named(&format!("names no place that can be read: {manifest}")));
    // s3://BUCKET/PREFIX/LINEAGE/g/GENERATION/ckpt/NAME.json
    let lineage = status.lineage.ok_or_else(refused)?;
    let rest = manifest.strip_prefix("s3://").ok_or_else(refused)?;
    let (place, _) = rest.split_once(&format!("/{lineage}/")).ok_or_else(refused)?;
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    Ok(Copied {
        place: (bucket.to_owned(), prefix.to_owned()),
        lineage: Some(lineage),
        moment: Some(("--checkpoint", Names::checkpoint(manifest).to_owned())),
    })
}

async fn pod(client: &Client, cluster: &VRCluster) -> anyhow::Result<Copy> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), Naming::of(cluster).namespace());
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    let label = ListParams::default().labels(&format!("{RESTORE_LABEL}={uid}"));
    let name = objects::copy_of_origin_name(cluster);
    let found = pods.list(&label).await?.items.into_iter().find(|pod| pod.name_any() == name);
    Ok(found.map_or(Copy::Absent, |pod| drills::state(&pod, COPY, "spec.memory.limit of the VRCluster")))
}

/// What the pod says of the copy.
fn told(pod: Copy, copied: &Copied, cluster: &VRCluster, lineage: &Lineage) -> Origin {
    let name = objects::copy_of_origin_name(cluster);
    let place = format!("s3://{}/{}", copied.place.0, copied.place.1);
    match pod {
        Copy::Absent | Copy::Closed => Origin::Absent,
        Copy::Foreign(what) => Origin::Refused(format!("{what} is in the way: it is not this VRCluster's")),
        Copy::Waiting(why) => Origin::Awaited(format!("pod {name} has not begun to copy {place}: {why}")),
        Copy::Going(_) => Origin::Awaited(format!("pod {name} is about to go, and is made again")),
        Copy::Running => Origin::Awaited(format!("pod {name} copies {place} below the prefix")),
        Copy::Ended { told, how } => match serde_json::from_str::<Answer>(&told) {
            Err(_) => Origin::Refused(format!(
                "{place} could not be copied: {how}. Once what it says is mended, `kubectl delete pod {name}` has it \
                 tried again"
            )),
            Ok(Answer::Nowhere(why)) => Origin::Refused(format!(
                "spec.bootstrap: {why}; `vr checkpoint ls {place}` shows what there is. It cannot be changed: delete the \
                 VRCluster, and make it again"
            )),
            Ok(Answer::Located(made)) if made.lineage != lineage.0 => Origin::Refused(format!(
                "pod {name} has made a copy as lineage {}, and this cluster is {lineage}: `kubectl delete pod {name}` has \
                 it made again",
                made.lineage
            )),
            Ok(Answer::Located(made)) => {
                let of = Generation(made.generation);
                let at = i64::try_from(made.time_micros / 1_000_000).ok().map(Moment);
                let source = source("object store", Op(made.checkpoint), of);
                Origin::There(Find { source, op: Op(made.op), time: at, flaw: None }, of)
            }
        },
    }
}

/// Makes the pod that copies.
pub(super) async fn copy(
    client: &Client,
    cluster: &VRCluster,
    copied: &Copied,
    lineage: &Lineage,
) -> anyhow::Result<()> {
    let namespace = Naming::of(cluster).namespace();
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    // First what closes the network, so that there is no moment without.
    match policies.create(&PostParams::default(), &objects::copy_of_origin_network_policy(cluster)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &objects::copy_of_origin(cluster, copied, lineage)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    const NOW: Moment = Moment(1_800_000_000);
    const LINEAGE: &str = "6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b";

    fn cluster() -> VRCluster {
        fake::cluster(json!({"bucket": "own", "prefix": "/prod/", "endpoint": "http://s3:9000"}))
    }

    fn refused(found: Result<Copied, Origin>) -> String {
        match found {
            Err(Origin::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_place_is_read_and_what_cannot_be_meant_is_said() {
        let asked = |more: Value| {
            let mut asked = json!({"bucket": "b", "prefix": "p"});
            asked.as_object_mut().expect("a map").append(&mut more.as_object().expect("a map").clone());
            of_place(&serde_json::from_value(asked).expect("a place"), NOW)
        };
        let moment = |more: Value| asked(more).expect("it can be meant").moment;
        assert_eq!(moment(json!({})), None);
        assert_eq!(moment(json!({"opNumber": 7})), Some(("--to-op", "7".to_owned())));
        let key = "g/0000000000000001/ckpt/0000000000000005-00aa00aa00aa00aa.json";
        let name = "0000000000000005-00aa00aa00aa00aa".to_owned();
        assert_eq!(moment(json!({"manifest": key})), Some(("--checkpoint", name)));
        let time = "2026-11-23T07:00:00Z";
        assert_eq!(moment(json!({"beforeTime": time})), Some(("--to-time", time.to_owned())));
        for (more, words) in [
            (json!({"lineageId": "x".repeat(36)}), "is no UUID"),
            (json!({"beforeTime": "yesterday"}), "is not a time"),
            (json!({"beforeTime": "2999-01-01T00:00:00Z"}), "yet to come"),
        ] {
            let why = refused(asked(more));
            assert!(why.contains(words) && why.contains("make it again"), "{why}");
        }
    }

    #[test]
    fn a_named_checkpoint_is_a_place_and_a_checkpoint_there() {
        let of = |status: Value| {
            let named = json!({"metadata": {"name": "c", "namespace": "shop"}, "spec": {"clusterRef": {"name": "other"}},
                               "status": status});
            let named: VRCheckpoint = serde_json::from_value(named).expect("a VRCheckpoint");
            let world = World { checkpoints: vec![Arc::new(named)], ..World::of_nothing(NOW) };
            (of_checkpoint(&world, &cluster(), "c"), refused(of_checkpoint(&world, &cluster(), "nobody")))
        };
        let manifest =
            format!("s3://b/p/q/{LINEAGE}/g/0000000000000001/ckpt/0000000000000005-00aa00aa00aa00aa.json");
        let (found, unknown) = of(json!({"lineage": LINEAGE, "manifest": manifest}));
        let found = found.expect("it is there");
        assert_eq!(found.place, ("b".to_owned(), "p/q".to_owned()));
        assert_eq!(found.lineage.as_deref(), Some(LINEAGE));
        assert_eq!(found.moment, Some(("--checkpoint", "0000000000000005-00aa00aa00aa00aa".to_owned())));
        assert!(unknown.contains("kubectl get vrcp"), "{unknown}");
        assert!(matches!(of(json!({})).0, Err(Origin::Awaited(_))));
        let failed = json!({"type": "Ready", "status": "False", "reason": "Failed", "message": "it is too old",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        assert!(refused(of(json!({"conditions": [failed]})).0).contains("it is too old"));
        assert!(refused(of(json!({"lineage": LINEAGE, "manifest": "nowhere"})).0).contains("no place"));
    }

    #[test]
    fn what_the_pod_tells_is_read() {
        let copied = Copied { place: ("b".to_owned(), "p".to_owned()), lineage: None, moment: None };
        let says = |pod: Copy| told(pod, &copied, &cluster(), &Lineage(LINEAGE.to_owned()));
        let ended = |told: Value| Copy::Ended {
            told: told.to_string(),
            how: "exit status 1; no such bucket".to_owned(),
        };
        let located = |lineage: &str| {
            json!({"located": {"lineage": lineage, "generation": 3, "checkpoint": 9, "root": "r", "op": 9,
                               "timeMicros": 5_000_000, "revision": 4}})
        };
        let find = Find {
            source: "object store: checkpoint 9 of generation 3".to_owned(),
            op: Op(9),
            time: Some(Moment(5)),
            flaw: None,
        };
        assert_eq!(says(ended(located(LINEAGE))), Origin::There(find, Generation(3)));
        for (pod, words) in [
            (ended(located("another")), "has made a copy as lineage another"),
            (ended(json!({"nowhere": "op 9 lies beyond what was shipped"})), "lies beyond what was shipped"),
            (
                ended(Value::Null),
                "no such bucket. Once what it says is mended, `kubectl delete pod prod-bootstrap`",
            ),
        ] {
            let Origin::Refused(why) = says(pod) else { panic!("{words}") };
            assert!(why.contains(words), "{why}");
        }
        assert!(matches!(says(Copy::Running), Origin::Awaited(_)));
        assert_eq!(says(Copy::Absent), Origin::Absent);
    }

    #[test]
    fn the_pod_copies_into_the_prefix_of_the_cluster() {
        let moment = Some(("--to-op", "7".to_owned()));
        let copied =
            Copied { place: ("b".to_owned(), "p".to_owned()), lineage: Some("x".to_owned()), moment };
        let made = objects::copy_of_origin(&cluster(), &copied, &Lineage(LINEAGE.to_owned()));
        let command =
            made.spec.and_then(|spec| spec.containers[0].command.clone()).expect("a command").join(" ");
        assert_eq!(
            command,
            format!(
                "vr checkpoint copy s3://b/p --s3-endpoint http://s3:9000 --lineage x --to s3://own/prod --new-lineage \
                 {LINEAGE} --report /dev/termination-log --to-op 7"
            )
        );
        let labels = made.metadata.labels.expect("labels");
        assert!(!labels.contains_key(objects::CLUSTER_LABEL), "it is no replica: {labels:?}");
    }
}
