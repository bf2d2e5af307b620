//! `kubectl vr report`: everything that somebody who helps would ask for, in a folder. No secret is read: of Secrets it
//! has the names. What cannot be had is named in `missing.txt` and stops nothing.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, LogParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vr_api::{VRCheckpoint, VRCluster, VRRestore};

use super::{Place, Said, status};

/// Lines of each log.
const LINES: i64 = 5000;

/// Writes a folder with all that somebody who helps needs, and no secret
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The VRCluster
    name: String,

    /// The folder, which must not exist yet [default: vr-report-NAME-TIME]
    #[arg(short, long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

struct Bundle<'a> {
    place: &'a Place,
    folder: PathBuf,
    missing: Vec<String>,
    files: usize,
}

impl Report {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        let default =
            || PathBuf::from(format!("vr-report-{}-{}", self.name, place.now.strftime("%Y%m%dT%H%M%SZ")));
        let folder = self.out.clone().unwrap_or_else(default);
        std::fs::create_dir(&folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        let mut bundle = Bundle { place, folder, missing: Vec::new(), files: 0 };
        bundle.write("status.txt", &status::page(place, &cluster).text)?;
        bundle.objects(&cluster).await?;
        let ours = format!("vr-operator.io/cluster={}", self.name);
        let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
        bundle.logs(&pods, &ours).await?;
        bundle.logs(&Api::all(place.client.clone()), "app.kubernetes.io/name=vr-operator").await?;
        if !bundle.missing.is_empty() {
            let text = bundle.missing.join("\n");
            bundle.write("missing.txt", &text)?;
        }
        let (files, folder, lacks) = (bundle.files, bundle.folder.display(), bundle.missing.len());
        let lacks =
            if lacks > 0 { format!("; {lacks} could not be had, see missing.txt") } else { String::new() };
        Ok(format!("{files} files are in {folder}{lacks}. Look through the logs before you pass them on")
            .into())
    }
}

impl Bundle<'_> {
    fn write(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let path: &Path = &self.folder.join(name);
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        self.files += 1;
        Ok(())
    }

    async fn objects(&mut self, cluster: &VRCluster) -> anyhow::Result<()> {
        let ours = ListParams::default().labels(&format!("vr-operator.io/cluster={}", cluster.name_any()));
        let all = ListParams::default();
        self.list::<VRCluster>("vrclusters", &all).await?;
        self.list::<VRRestore>("vrrestores", &all).await?;
        self.list::<VRCheckpoint>("vrcheckpoints", &all).await?;
        self.list::<Pod>("pods", &ours).await?;
        self.list::<PersistentVolumeClaim>("persistentvolumeclaims", &ours).await?;
        self.list::<Service>("services", &ours).await?;
        self.list::<PodDisruptionBudget>("poddisruptionbudgets", &ours).await?;
        self.list::<NetworkPolicy>("networkpolicies", &ours).await?;
        self.list::<Event>("events", &all).await?;
        let nodes = Api::<Node>::all(self.place.client.clone()).list(&all).await;
        self.keep("nodes", nodes.map(|list| list.items))?;
        let mine = ListParams::default().fields("metadata.name=vr-operator");
        let leases = Api::<Lease>::all(self.place.client.clone()).list(&mine).await;
        self.keep("leases", leases.map(|list| list.items))?;
        // The names only: what is in them is never asked for.
        let secrets: Api<Secret> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
        match secrets.list_metadata(&ours).await {
            Ok(found) => {
                let names: Vec<_> = found.items.iter().map(|secret| secret.name_any()).collect();
                self.write("secrets.txt", &names.join("\n"))
            }
            Err(error) => {
                self.missing.push(format!("secrets: {error}"));
                Ok(())
            }
        }
    }

    async fn list<K>(&mut self, what: &str, which: &ListParams) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
        let found = api.list(which).await;
        self.keep(what, found.map(|list| list.items))
    }

    fn keep<K: Serialize>(&mut self, what: &str, found: Result<Vec<K>, kube::Error>) -> anyhow::Result<()> {
        match found {
            Ok(items) => {
                let mut items = serde_json::to_value(items)?;
                items.as_array_mut().into_iter().flatten().for_each(plain);
                self.write(&format!("{what}.yaml"), &serde_yaml::to_string(&items)?)
            }
            Err(error) => {
                self.missing.push(format!("{what}: {error}"));
                Ok(())
            }
        }
    }

    async fn logs(&mut self, pods: &Api<Pod>, which: &str) -> anyhow::Result<()> {
        let found = match pods.list(&ListParams::default().labels(which)).await {
            Ok(found) => found.items,
            Err(error) => {
                self.missing.push(format!("pods with {which}: {error}"));
                return Ok(());
            }
        };
        for pod in found {
            let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
            let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            let restarted = statuses.iter().any(|container| container.restart_count > 0);
            let api: Api<Pod> = Api::namespaced(self.place.client.clone(), &namespace);
            for (previous, suffix) in [(false, ""), (true, ".before")] {
                if previous && !restarted {
                    continue;
                }
                let params =
                    LogParams { previous, tail_lines: Some(LINES), timestamps: true, ..LogParams::default() };
                match api.logs(&name, &params).await {
                    Ok(text) => self.write(&format!("{namespace}.{name}{suffix}.log"), &text)?,
                    Err(error) => self.missing.push(format!("log of {namespace}/{name}{suffix}: {error}")),
                }
            }
        }
        Ok(())
    }
}

/// Without what only the API server reads, and without values of the environment, which people put keys into.
fn plain(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    let containers = object.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for variable in containers.into_iter().flatten().filter_map(|c| c["env"].as_array_mut()).flatten() {
        if variable.get("value").is_some() {
            variable["value"] = "(left out)".into();
        }
    }
}
