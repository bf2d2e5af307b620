//! What the API server holds of all clusters, kept up to date by watches, so that it is not asked while nothing happens.
//!
//! Promises: what [`Watched::world`] gives was whole when each watch began and has followed it since; while any of them
//! does not stand it gives nothing. Not: that it is the newest. It can say that nothing needs doing; before anything is
//! done, written or taken for new, all is listed again ([`World::look`]).

use super::world::{self, World};
use crate::objects::CLUSTER_LABEL;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::Api;
use kube::runtime::reflector::{self, Lookup, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt as _};
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use vr_api::{VRCheckpoint, VRCluster, VRDrill, VRDrillSchedule, VRRestore};

/// So long one watch lasts; a connection that has died in silence is noticed by then.
const LASTS_SECONDS: u32 = 120;
/// Before a watch that has failed begins anew.
const AGAIN: Duration = Duration::from_secs(2);

/// The watches; they end with it.
pub(super) struct Watched {
    clusters: Watch<VRCluster>,
    pods: Watch<Pod>,
    volumes: Watch<PersistentVolumeClaim>,
    nodes: Watch<Node>,
    restores: Watch<VRRestore>,
    checkpoints: Watch<VRCheckpoint>,
    drills: Watch<VRDrill>,
    schedules: Watch<VRDrillSchedule>,
    changes: Arc<Notify>,
    _tasks: JoinSet<()>,
}

struct Watch<K: Lookup + Clone + 'static>
where
    K::DynamicType: Eq + Hash + Clone,
{
    kept: Store<K>,
    stands: Arc<AtomicBool>,
}

impl Watched {
    /// Begins to watch.
    pub(super) fn begin(client: &Client, namespace: Option<&str>) -> Watched {
        let (mut tasks, changes) = (JoinSet::new(), Arc::new(Notify::new()));
        let everything = watcher::Config::default().timeout(LASTS_SECONDS);
        let ours = everything.clone().labels(CLUSTER_LABEL);
        Watched {
            clusters: follow(world::api(client, namespace), &everything, &changes, &mut tasks),
            pods: follow(world::api(client, namespace), &ours, &changes, &mut tasks),
            volumes: follow(world::api(client, namespace), &ours, &changes, &mut tasks),
            nodes: follow(Api::all(client.clone()), &everything, &changes, &mut tasks),
            restores: follow(world::api(client, namespace), &everything, &changes, &mut tasks),
            checkpoints: follow(world::api(client, namespace), &everything, &changes, &mut tasks),
            drills: follow(world::api(client, namespace), &everything, &changes, &mut tasks),
            schedules: follow(world::api(client, namespace), &everything, &changes, &mut tasks),
            changes,
            _tasks: tasks,
        }
    }

    /// Everything as the watches have shown it; nothing while one of them does not stand.
    pub(super) fn world(&self) -> Option<World> {
        let at = world::now();
        Some(World {
            at,
            clusters: self.clusters.shown()?,
            pods: self.pods.shown()?,
            volumes: self.volumes.shown()?,
            nodes: self.nodes.shown()?,
            restores: self.restores.shown()?,
            checkpoints: self.checkpoints.shown()?,
            drills: self.drills.shown()?,
            schedules: self.schedules.shown()?,
        })
    }

    /// Until something is shown that was not there before.
    pub(super) async fn change(&self) {
        self.changes.notified().await;
    }
}

impl<K: Lookup + Clone + 'static> Watch<K>
where
    K::DynamicType: Eq + Hash + Clone,
{
    fn shown(&self) -> Option<Vec<Arc<K>>> {
        self.stands.load(Ordering::Acquire).then(|| self.kept.state())
    }
}

fn follow<K>(api: Api<K>, what: &watcher::Config, changes: &Arc<Notify>, tasks: &mut JoinSet<()>) -> Watch<K>
where
    K: Resource + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (kept, mut writer) = reflector::store::<K>();
    let stands = Arc::new(AtomicBool::new(false));
    let (what, changes, watch) = (what.clone(), changes.clone(), Watch { kept, stands: stands.clone() });
    tasks.spawn(async move {
        loop {
            let mut events = pin!(watcher::watcher(api.clone(), what.clone()));
            while let Some(event) = events.next().await {
                let mut event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::info!(
                            resource = %K::plural(&K::DynamicType::default()),
                            error = %error,
                            "a watch has ended; it begins anew, and until then everything is listed"
                        );
                        break;
                    }
                };
                if let Event::Apply(object) | Event::InitApply(object) = &mut event {
                    // Whose field is whose is half of an object, and nobody here asks.
                    object.managed_fields_mut().clear();
                }
                writer.apply_watcher_event(&event);
                match event {
                    Event::InitDone => stands.store(true, Ordering::Release),
                    Event::Apply(_) | Event::Delete(_) => {}
                    Event::Init | Event::InitApply(_) => continue,
                }
                changes.notify_one();
            }
            stands.store(false, Ordering::Release);
            tokio::time::sleep(AGAIN).await;
        }
    });
    watch
}
