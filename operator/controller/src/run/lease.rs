//! Who acts: the one that holds a `Lease`. Its number of transitions is the fencing token, which grows with every
//! change of hands and goes with every call to a replica.
//!
//! A hold ends by the clock of whoever has it, before anybody else takes the lease: [`Hold::lasts`] is asked before
//! every write. That another one holds it is judged by how long its record stays unchanged, not by its clock.

use super::health::Health;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a record stays unchanged before somebody else takes it.
const LASTS: Duration = Duration::from_secs(15);
/// How long whoever renewed it acts on that.
const ACTS: Duration = Duration::from_secs(10);
const RENEWS: Duration = Duration::from_secs(3);
const ANSWERS: Duration = Duration::from_secs(3);

/// The lease is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// Fencing token.
    pub(super) token: u64,
    until: Instant,
}

impl Hold {
    /// Whether it still is.
    pub(super) fn lasts(&self) -> bool {
        Instant::now() < self.until
    }
}

/// One process's way to the lease.
pub(super) struct Lease {
    api: Api<Object>,
    name: String,
    who: String,
    seen: Option<(Option<String>, Instant)>,
    token: i32,
}

impl Lease {
    pub(super) fn new(client: Client, namespace: &str, name: &str, who: String) -> Lease {
        Lease { api: Api::namespaced(client, namespace), name: name.to_owned(), who, seen: None, token: 0 }
    }

    /// Takes it whenever it is free and keeps it, until told to stop; gives itself back so that it can be released
    /// once nobody acts any more.
    pub(super) async fn keep(
        mut self,
        hold: watch::Sender<Option<Hold>>,
        health: Health,
        mut stopped: watch::Receiver<bool>,
    ) -> Lease {
        let mut held = false;
        loop {
            let asked = Instant::now();
            let outcome = tokio::time::timeout(ANSWERS, self.renew()).await;
            match outcome {
                Ok(Ok(mine)) => {
                    health.reached();
                    if mine != held {
                        let token = self.token;
                        tracing::info!(
                            token,
                            "{}",
                            if mine { "the lease is held" } else { "another one holds the lease" }
                        );
                    }
                    held = mine;
                    let token = u64::try_from(self.token).unwrap_or_default();
                    let _ = hold.send(mine.then_some(Hold { token, until: asked + ACTS }));
                }
                Ok(Err(Error::Api(status))) if status.code == 409 => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("the lease could not be renewed: the API server does not answer"),
            }
            health.leads(held && hold.borrow().is_some_and(|hold: Hold| hold.lasts()));
            tokio::select! {
                () = tokio::time::sleep(RENEWS) => {}
                _ = stopped.changed() => return self,
            }
        }
    }

    /// Whether it is held now.
    async fn renew(&mut self) -> Result<bool, Error> {
        let Some(mut object) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            // A token that people cannot take back to the beginning by deleting the lease: seconds only grow.
            let began = i32::try_from(jiff::Timestamp::now().as_second()).unwrap_or(i32::MAX / 2);
            let object = Object { metadata, spec: Some(self.record(began, None)) };
            self.api.create(&PostParams::default(), &object).await?;
            self.token = began;
            return Ok(true);
        };
        let spec = object.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let mine = holder.as_deref() == Some(self.who.as_str());
        let version = object.metadata.resource_version.clone();
        if !mine && holder.is_some() {
            match &self.seen {
                Some((seen, since)) if *seen == version => {
                    if since.elapsed() < LASTS {
                        return Ok(false);
                    }
                }
                _ => {
                    self.seen = Some((version, Instant::now()));
                    return Ok(false);
                }
            }
        }
        let before = spec.lease_transitions.unwrap_or_default();
        let token = if mine { before } else { before.saturating_add(1) };
        object.spec = Some(self.record(token, spec.acquire_time.filter(|_| mine)));
        // The version that was read goes along: of two who take it at once, one is refused.
        self.api.replace(&self.name, &PostParams::default(), &object).await?;
        self.token = token;
        Ok(true)
    }

    fn record(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.who.clone()),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Lets others have it at once.
    pub(super) async fn release(self) {
        let give = async {
            let Some(mut object) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            let Some(spec) = object.spec.as_mut() else { return Ok(()) };
            if spec.holder_identity.as_deref() == Some(self.who.as_str()) {
                spec.holder_identity = Some(String::new());
                self.api.replace(&self.name, &PostParams::default(), &object).await?;
            }
            Ok::<(), Error>(())
        };
        if !matches!(tokio::time::timeout(ANSWERS, give).await, Ok(Ok(()))) {
            tracing::warn!("the lease could not be released: another operator takes it when it runs out");
        }
    }
}
