//! The replicas' control ports: how each replica is, and the calls that change something, with the fencing token.
//!
//! A replica is dialled at its pod's address and must show a certificate for its pod's name. Every call is bounded in
//! time; a call that changes something and does not answer may have happened, and the next look tells.

use crate::ids::*;
use crate::objects::{CONTROL_PORT, Naming};
use crate::snapshot::{Configuration, Contact, Member, Said, State, Tier};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use vr_checkpoint::format::hex;
use vr_proto::control as pb;
use vr_proto::control::control_client::ControlClient;
use vr_proto::status::{cause, refusal};

/// So long a replica may take to say how it is.
const SAYS: Duration = Duration::from_millis(800);
/// So long a change may take.
const CHANGES: Duration = Duration::from_secs(5);

/// One replica's control port.
#[derive(Clone)]
pub(super) struct Port {
    address: String,
    channel: Channel,
    dialer: Dialer,
}

impl Port {
    /// Nothing is sent yet.
    pub(super) fn new(address: &str, host: &str, tls: Arc<ClientConfig>) -> Option<Port> {
        let dialer = Dialer { address: (address.to_owned(), CONTROL_PORT), host: host.to_owned(), tls };
        let channel = endpoint(address, CONTROL_PORT)?.connect_with_connector_lazy(dialer.clone());
        Some(Port { address: address.to_owned(), channel, dialer })
    }

    /// Another port of the same replica; nothing is sent yet.
    fn beside(&self, port: u16, plain: bool) -> Option<Channel> {
        let endpoint = endpoint(&self.address, port)?;
        if plain {
            return Some(endpoint.connect_lazy());
        }
        let dialer = Dialer { address: (self.address.clone(), port), ..self.dialer.clone() };
        Some(endpoint.connect_with_connector_lazy(dialer))
    }

    /// Whether it leads there.
    pub(super) fn is_at(&self, address: &str) -> bool {
        self.address == address
    }

    /// How the replica is.
    pub(super) async fn status(&self) -> Result<pb::ReplicaStatus, String> {
        let mut client = ControlClient::new(self.channel.clone());
        let asked = client.status(pb::StatusRequest { all: false });
        match tokio::time::timeout(SAYS, asked).await {
            Err(_) => Err("no answer".to_owned()),
            Ok(Err(status)) => Err(told(&status)),
            Ok(Ok(answer)) => answer.into_inner().asked.ok_or_else(|| "it says nothing of itself".to_owned()),
        }
    }

    /// Replaces the configuration.
    pub(super) async fn reconfigure(&self, request: pb::ReconfigureRequest) -> anyhow::Result<()> {
        let mut client = ControlClient::new(self.channel.clone());
        changed(tokio::time::timeout(CHANGES, client.reconfigure(request)).await)
    }

    /// Has a checkpoint taken in the object store, where nobody leads of what this replica has by itself. That it is there
    /// by the time of the answer is not waited for.
    async fn cut(&self, token: u64, leaderless: bool) -> anyhow::Result<()> {
        let fence = Some(pb::Fence { token, r#override: false });
        let timeout_ms = u32::try_from(CHANGES.as_millis()).unwrap_or_default() - 1_000;
        let request = pb::CutRequest { fence, tiers: vec!["objectStore".to_owned()], timeout_ms, leaderless };
        let mut client = ControlClient::new(self.channel.clone());
        match tokio::time::timeout(CHANGES, client.cut(request)).await {
            // It goes on; the next look tells how far it is.
            Err(_) => Ok(()),
            Ok(Err(status)) if status.code() == tonic::Code::DeadlineExceeded => Ok(()),
            Ok(Err(status)) => anyhow::bail!("{}", told(&status)),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// Ends the process like a crash. Who ends so does not answer; who has started anew since is left alone.
    async fn crash(&self, replica: u64, incarnation: u64, token: u64) -> anyhow::Result<()> {
        let fence = Some(pb::Fence { token, r#override: false });
        let request = pb::StopRequest { fence, replica, crash: true, incarnation };
        let mut client = ControlClient::new(self.channel.clone());
        let outcome = tokio::time::timeout(CHANGES, client.stop(request)).await;
        let refused = outcome.ok().and_then(Result::err).and_then(|status| refusal(&status));
        match refused.filter(|refusal| refusal.reason() != pb::refusal::Reason::Stale) {
            Some(refusal) => anyhow::bail!("{}; {}", refusal.message, refusal.remedy),
            None => Ok(()),
        }
    }

    /// Moves the primary.
    pub(super) async fn hand_off(&self, request: pb::HandOffRequest) -> anyhow::Result<()> {
        let mut client = ControlClient::new(self.channel.clone());
        changed(tokio::time::timeout(CHANGES, client.hand_off(request)).await)
    }
}

fn endpoint(address: &str, port: u16) -> Option<Endpoint> {
    let bare = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    Some(Endpoint::from_shared(format!("http://{bare}:{port}")).ok()?.connect_timeout(SAYS))
}

fn changed<T>(outcome: Result<Result<T, Status>, tokio::time::error::Elapsed>) -> anyhow::Result<()> {
    match outcome {
        Err(_) => {
            anyhow::bail!("the replica did not answer within {} s; it may happen yet", CHANGES.as_secs())
        }
        Ok(Err(status)) => anyhow::bail!("{}", told(&status)),
        Ok(Ok(_)) => Ok(()),
    }
}

/// The refusal inside a status, or the innermost cause.
fn told(status: &Status) -> String {
    match refusal(status) {
        Some(refusal) => format!("{} {}", refusal.message, refusal.remedy).trim().to_owned(),
        None => cause(status),
    }
}

#[derive(Clone)]
struct Dialer {
    address: (String, u16),
    host: String,
    tls: Arc<ClientConfig>,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((dialer.address.0.as_str(), dialer.address.1)).await?;
            let name = ServerName::try_from(dialer.host).map_err(io::Error::other)?;
            Ok(TokioIo::new(TlsConnector::from(dialer.tls).connect(name, stream).await?))
        })
    }
}

/// What is remembered of one slot between looks.
#[derive(Default)]
pub(super) struct Slots {
    ports: BTreeMap<Slot, Port>,
    contacts: BTreeMap<Slot, Contact>,
    /// The newest configuration as the replicas wrote it, by its id.
    pub(super) raw: BTreeMap<ConfigurationId, pb::Configuration>,
}

impl Slots {
    /// Certificates were made anew: connections are, too.
    pub(super) fn reconnect(&mut self) {
        self.ports.clear();
    }

    /// A port that has answered at the last look.
    pub(super) fn answering(&self) -> Option<&Port> {
        let answers = |slot: &&Slot| self.contacts.get(slot).is_some_and(|c| c.silent_since.is_none());
        self.ports.keys().find(answers).and_then(|slot| self.ports.get(slot))
    }

    /// Another port of a replica that takes part, plainly or as its control port is dialled.
    pub(super) fn beside(&self, port: u16, plain: bool) -> Option<Channel> {
        let serves = |slot: &&Slot| {
            let contact = self.contacts.get(slot).filter(|contact| contact.silent_since.is_none());
            contact.and_then(|c| c.said.as_ref()).is_some_and(|said| said.state == State::Normal)
        };
        self.ports.iter().find(|(slot, _)| serves(slot)).and_then(|(_, of)| of.beside(port, plain))
    }

    /// Ends these starts of replicas like a crash, all at once.
    pub(super) async fn crash(&self, starts: &[(u64, u64)], token: u64) -> anyhow::Result<()> {
        let crashes = starts.iter().map(|&(replica, incarnation)| async move {
            let is = |contact: &Contact| contact.said.as_ref().is_some_and(|said| said.replica.0 == replica);
            let slot = self.contacts.iter().find(|(_, contact)| is(contact));
            let port = slot.and_then(|(slot, _)| self.ports.get(slot));
            let port = port.ok_or_else(|| anyhow::anyhow!("replica {replica} cannot be asked to end"))?;
            port.crash(replica, incarnation, token).await
        });
        futures_util::future::try_join_all(crashes).await.map(drop)
    }

    /// Has the replica that ships take a checkpoint.
    pub(super) async fn cut(&self, token: u64) -> anyhow::Result<()> {
        let shipper = self.said().find_map(|said| said.shipper);
        let ships = |contact: &Contact| contact.said.as_ref().map(|said| said.replica) == shipper;
        let slot = self.contacts.iter().find(|(_, contact)| shipper.is_some() && ships(contact));
        let port = slot.and_then(|(slot, _)| self.ports.get(slot));
        port.ok_or_else(|| anyhow::anyhow!("no replica is known to ship to the object store"))?
            .cut(token, false)
            .await
    }

    /// Has what a slot's replica has by itself brought to the object store.
    pub(super) async fn save(&self, slot: Slot, token: u64) -> anyhow::Result<()> {
        let port = self.ports.get(&slot);
        port.ok_or_else(|| anyhow::anyhow!("the replica of slot {slot} is not reached"))?
            .cut(token, true)
            .await
    }

    /// What was said lately, by whoever says anything.
    pub(super) fn said(&self) -> impl Iterator<Item = &Said> {
        let heard = self.contacts.values().filter(|contact| contact.silent_since.is_none());
        heard.filter_map(|contact| contact.said.as_ref())
    }

    /// Whatever was committed by then is in the object store, as whoever ships there says.
    pub(super) fn stored(&self) -> Option<Moment> {
        let shipper = self.said().find_map(|said| said.shipper);
        let ships = self.said().find(|said| Some(said.replica) == shipper)?;
        let tier = ships.tiers.iter().find(|tier| tier.name == "objectStore" && tier.holds)?;
        Some(ships.at + Seconds(-tier.lag.0))
    }

    /// The newest op that is committed now, as all are asked.
    pub(super) async fn commit(&self) -> Option<Op> {
        let answers = futures_util::future::join_all(self.ports.values().map(Port::status)).await;
        answers.into_iter().flatten().map(|status| Op(status.commit)).max()
    }

    /// Asks all that have an address; `addresses` has every slot with a pod.
    pub(super) async fn look(
        &mut self,
        naming: &Naming<'_>,
        addresses: &BTreeMap<Slot, Option<String>>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> BTreeMap<Slot, Contact> {
        self.ports.retain(|slot, _| addresses.contains_key(slot));
        self.contacts.retain(|slot, _| addresses.contains_key(slot));
        for (slot, address) in addresses {
            let (Some(address), Some(tls)) = (address, tls) else {
                self.ports.remove(slot);
                continue;
            };
            if !self.ports.get(slot).is_some_and(|port| port.is_at(address))
                && let Some(port) = Port::new(address, &naming.host(*slot), tls.clone())
            {
                self.ports.insert(*slot, port);
            }
        }
        let asked = self.ports.iter().map(|(slot, port)| async move { (*slot, port.status().await) });
        let answers: BTreeMap<_, _> = futures_util::future::join_all(asked).await.into_iter().collect();
        let now = super::world::now();
        self.raw.clear();
        for slot in addresses.keys() {
            let contact = self.contacts.entry(*slot).or_default();
            match answers.get(slot) {
                Some(Ok(status)) => {
                    if let Some(raw) = &status.configuration {
                        self.raw.insert(identity(raw), raw.clone());
                    }
                    match said(naming, status, contact.said.as_ref(), now) {
                        Some(said) => *contact = Contact { silent_since: None, said: Some(said) },
                        None => {
                            tracing::warn!(%slot, "a replica names members that are not of this cluster");
                            contact.silent_since.get_or_insert(now);
                        }
                    }
                }
                other => {
                    if let Some(Err(reason)) = other {
                        tracing::debug!(%slot, reason, "a replica does not answer");
                    }
                    contact.silent_since.get_or_insert(now);
                }
            }
        }
        self.contacts.clone()
    }
}

/// What a change names as replaced, in a form that can be compared.
fn identity(configuration: &pb::Configuration) -> ConfigurationId {
    ConfigurationId(hex(&configuration.id))
}

fn member(naming: &Naming<'_>, member: &pb::Member) -> Option<Member> {
    let slot = naming.slot_of(&member.peer)?;
    Some(Member { id: ReplicaId(member.id), slot, zone: Zone(member.domain.clone()) })
}

fn tier(tier: &pb::Tier) -> Tier {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "seconds of a lag fit, and what is too much is the most"
    )]
    let lag = Seconds(tier.lag_seconds.ceil() as i64);
    Tier {
        name: tier.tier.clone(),
        reaches: Op(tier.recovery_op),
        lag,
        holds: tier.checkpoint_op > 0,
        error: Some(tier.error.clone()).filter(|error| !error.is_empty()),
    }
}

fn said(naming: &Naming<'_>, status: &pb::ReplicaStatus, before: Option<&Said>, now: Moment) -> Option<Said> {
    let raw = status.configuration.clone().unwrap_or_default();
    let members = |all: &[pb::Member]| all.iter().map(|m| member(naming, m)).collect::<Option<Vec<_>>>();
    let configuration = Configuration {
        id: identity(&raw),
        epoch: Epoch(raw.epoch),
        voters: members(&raw.order)?,
        learners: members(&raw.learners)?,
    };
    let state = if !status.halted.is_empty() {
        State::Halted
    } else if status.status == "QuorumLost" {
        State::QuorumLost
    } else if status.amnesiac {
        State::Amnesiac
    } else if status.ready {
        State::Normal
    } else {
        State::Busy
    };
    let known = |id: u64| (id > 0).then_some(ReplicaId(id));
    let stored = status.tiers.iter().find(|tier| tier.tier == "objectStore");
    #[allow(clippy::cast_possible_truncation, reason = "seconds since 1970 fit")]
    // A run that had nothing to ship succeeds, too.
    let stored_at = stored
        .filter(|tier| tier.last_success > 0.0 && tier.checkpoint_op > 0)
        .map(|t| Moment(t.last_success as i64));
    let same = before.filter(|before| before.incarnation == status.incarnation);
    Some(Said {
        at: now,
        normal_since: (state == State::Normal).then(|| same.and_then(|b| b.normal_since).unwrap_or(now)),
        replica: ReplicaId(status.replica),
        lineage: Lineage(status.lineage.clone()),
        generation: Generation(status.generation),
        incarnation: status.incarnation,
        state,
        state_name: status.status.clone(),
        primary: known(status.primary),
        view: status.ballot.unwrap_or_default().view,
        op: Op(status.op),
        commit: Op(status.commit),
        stored: Op(stored.map_or(0, |tier| tier.checkpoint_op)),
        stored_at,
        tiers: status.tiers.iter().map(tier).collect(),
        shipper: known(status.shipper),
        configuration,
        highest_id: ReplicaId(status.highest_id),
    })
}
