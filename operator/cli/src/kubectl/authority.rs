//! `kubectl vr authority`: how the change of a cluster's own authority goes, and the word that starts one.
//!
//! How far it is the operator notes on the Secret of the authority. Only the Secret's metadata is asked for: the key that
//! is in it is nobody's business here.

use std::fmt::Write as _;

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::Api;
use serde_json::json;
use vr_api::{ROTATE_AUTHORITY, ROTATION, ROTATION_BESIDE, ROTATION_SIGNS, VRCluster, authority_secret};

use super::{Ask, Place, Said, confirmed, refused};

/// Shows how a cluster's certificates are and how far the change to another authority is; with --rotate starts one
///
/// Another authority takes the place of the cluster's own while everything runs: first both are trusted, then the new one
/// signs, then the old one is trusted no more. Each step waits until every replica is ready for it. Exit status 1 if the
/// certificates are not as they should be.
#[derive(Debug, Args)]
pub(super) struct Authority {
    /// The VRCluster
    name: String,

    /// Start a change: clients get so long to read ca.crt again before the new authority signs (0s to 30d, for example
    /// 24h). During a change whose new authority does not sign yet: so long from now
    #[arg(long, value_name = "TIME", value_parser = time)]
    rotate: Option<String>,

    /// Do not ask
    #[arg(short, long, requires = "rotate")]
    yes: bool,
}

fn time(typed: &str) -> Result<String, String> {
    vr_api::settle(typed).map(|_| typed.trim().to_owned())
}

/// How far a change is.
enum Step {
    /// There is none.
    Still,
    /// Both are trusted; from when on the new one signs.
    Beside(String),
    /// The new one signs.
    Signs,
    /// Why that is not known.
    Unknown(String),
}

impl Step {
    async fn of(place: &Place, name: &str) -> Step {
        let secrets: Api<Secret> = Api::namespaced(place.client.clone(), &place.namespace);
        let secret = authority_secret(name);
        let found = match secrets.get_metadata_opt(&secret).await {
            Ok(Some(found)) => found,
            Ok(None) => return Step::Unknown(format!("there is no Secret {secret} yet")),
            Err(error) => {
                return Step::Unknown(refused(error, &format!("Secret {secret} cannot be read")).to_string());
            }
        };
        match found.metadata.annotations.as_ref().and_then(|all| all.get(ROTATION)).map(String::as_str) {
            None => Step::Still,
            Some(ROTATION_SIGNS) => Step::Signs,
            Some(noted) => noted.strip_prefix(ROTATION_BESIDE).map_or_else(
                || Step::Unknown(format!("Secret {secret} says {noted:?}, which is no step of a change")),
                |from| Step::Beside(from.to_owned()),
            ),
        }
    }
}

/// Who replaces the authority, where that is not the operator.
fn elsewhere(cluster: &VRCluster) -> Option<String> {
    let tls = cluster.spec.tls.as_ref();
    if cluster.spec.unsafe_flags.as_ref().is_some_and(|flags| flags.plaintext) {
        return Some("its ports speak no TLS (spec.unsafeFlags.plaintext)".to_owned());
    }
    if let Some(given) = tls.and_then(|tls| tls.secret_ref.as_ref()) {
        return Some(format!(
            "its certificates stand in Secret {} (spec.tls.secretRef): whoever makes that Secret replaces the authority there",
            given.name
        ));
    }
    let issuer = tls.and_then(|tls| tls.issuer_ref.as_ref())?;
    let kind = issuer.kind.as_deref().unwrap_or("Issuer");
    Some(format!(
        "{kind} {} signs its certificates (spec.tls.issuerRef): replace the authority there",
        issuer.name
    ))
}

impl Authority {
    pub(super) async fn run(&self, place: &Place, ask: Ask<'_>) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        match &self.rotate {
            Some(time) => self.start(place, &cluster, time, ask).await,
            None => Ok(self.show(place, &cluster).await),
        }
    }

    fn command(&self, place: &Place) -> String {
        format!("kubectl vr authority {}", place.named(&self.name))
    }

    async fn show(&self, place: &Place, cluster: &VRCluster) -> Said {
        let conditions = cluster.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let condition = conditions.iter().find(|c| c.type_ == "CertificatesValid");
        let mut out = String::new();
        let mut put = |what: &str, says: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  {what:<6} {says}");
        };
        match condition {
            Some(condition) => {
                put("says", &condition.message);
                put("since", &place.ago(condition.last_transition_time.0));
            }
            None => put("says", "the operator has said nothing of its certificates yet"),
        }
        let asked = cluster.metadata.annotations.as_ref().and_then(|all| all.get(ROTATE_AUTHORITY));
        if let Some(asked) = asked {
            put(
                "asked",
                &format!("a change, with {asked} for clients; the operator has not taken it up yet"),
            );
        }
        if let Some(elsewhere) = elsewhere(cluster) {
            let next = match asked {
                Some(_) => format!("kubectl annotate vrc {} {ROTATE_AUTHORITY}-", place.named(&self.name)),
                None => "nothing".to_owned(),
            };
            put("next", &format!("{next}; {elsewhere}"));
        } else {
            let step = Step::of(place, &self.name).await;
            put("step", &describe(&step));
            put("next", &self.next(place, cluster, &step, condition));
        }
        let word = condition.map_or("Unknown", |c| c.reason.as_str());
        let good = condition.is_some_and(|c| c.status == "True");
        let text = format!(
            "Certificates of VRCluster {}/{}: {word}\n{}",
            place.namespace,
            self.name,
            out.trim_end()
        );
        Said { text, good }
    }

    /// What to type.
    fn next(&self, place: &Place, cluster: &VRCluster, step: &Step, condition: Option<&Condition>) -> String {
        let command = self.command(place);
        let asked =
            cluster.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ROTATE_AUTHORITY));
        if condition.is_some_and(|c| c.reason == "RotationRefused") {
            return format!("{command} --rotate 24h, which takes the place of what was asked for");
        }
        if cluster.spec.paused && (asked || !matches!(step, Step::Still)) {
            return format!("the operator is told to do nothing: {}", place.unpause(&self.name));
        }
        match step {
            Step::Beside(_) => format!(
                "give clients what is trusted now: kubectl get secret -n {} {} -o jsonpath='{{.data.ca\\.crt}}' | base64 -d",
                place.namespace,
                authority_secret(&self.name)
            ),
            Step::Signs => {
                "wait; a pod that does not show its new certificate is named above, and is waited for"
                    .to_owned()
            }
            Step::Still if asked => format!("wait a moment, then {command}"),
            Step::Still if condition.is_none_or(|c| c.status != "True") => {
                format!("kubectl vr status {}", place.named(&self.name))
            }
            Step::Still => format!("nothing; {command} --rotate 24h starts a change"),
            Step::Unknown(_) => {
                format!("kubectl get events -n {} --field-selector reason=Authority", place.namespace)
            }
        }
    }

    async fn start(
        &self,
        place: &Place,
        cluster: &VRCluster,
        time: &str,
        ask: Ask<'_>,
    ) -> anyhow::Result<Said> {
        let name = &self.name;
        if let Some(elsewhere) = elsewhere(cluster) {
            bail!("VRCluster {name} has no authority of the operator's: {elsewhere}; nothing was done");
        }
        if cluster.metadata.deletion_timestamp.is_some() {
            bail!("VRCluster {name} is being deleted; nothing was done");
        }
        if cluster.spec.paused {
            bail!("the operator is told to do nothing with VRCluster {name}; first {}", place.unpause(name));
        }
        let step = Step::of(place, name).await;
        let begins = match &step {
            Step::Signs => bail!(
                "a change goes on: the new authority signs already, and the old one goes once every replica shows that. Wait \
                 for its end, which {} shows; nothing was done",
                self.command(place)
            ),
            Step::Beside(from) => format!(
                "A change goes on, and the new authority was to sign from {from} on; now it signs when {time} have passed"
            ),
            Step::Still | Step::Unknown(_) => format!(
                "Another authority takes the place of the one of VRCluster {name}: both are trusted for {time}, then the new \
                 one signs"
            ),
        };
        if !self.yes {
            let question = format!(
                "{begins}.\nClients that have not read ca.crt of Secret {} again by then are cut off.\nType the name of the \
                 cluster to go on: ",
                authority_secret(name)
            );
            confirmed(&question, name, "the name of the cluster", ask)?;
        }
        place.change(cluster, json!({"metadata": {"annotations": {ROTATE_AUTHORITY: time}}})).await?;
        Ok(format!("{begins}. To watch: {}", self.command(place)).into())
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Still => "no change goes on: there is one authority".to_owned(),
        Step::Beside(from) => format!(
            "1 of 3: both are trusted; the new one signs from {from} on, or later if a replica does not trust it by then"
        ),
        Step::Signs => {
            "2 of 3: the new one signs; the old one is trusted until every replica shows the new one's"
                .to_owned()
        }
        Step::Unknown(why) => format!("not known: {why}"),
    }
}
