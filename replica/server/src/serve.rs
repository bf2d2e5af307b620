//! A replica's life: bind, boot, serve, stop.
//!
//! One thread carries sockets, protocol and execution. Vote records are written by a thread of their own, tiers by the
//! chain's; both report back as values.

use crate::boot::{self, Booted};
use crate::config::Config;
use crate::front::Front;
use crate::keepalive::{self, Patience};
use crate::node::{self, Halt, Node, Parts, Promise};
use crate::tls::{self, Port, Reloader};
use crate::{control, etcd, flight, http, listen, members, memory, peer, vote};
use anyhow::Context;
use bytes::Bytes;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use vr_core::{Digest, Effects, Input, Now, Op, Options, Replica, VoteRecord};

/// Longest sleep of the clock task: a deadline that moves nearer meanwhile is late by no more.
const TICK: Duration = Duration::from_millis(10);
/// Between two looks at leases, reservations and what the tiers want.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How long a port may still belong to a predecessor.
const BIND: Duration = Duration::from_secs(1);
/// After a vote record could not be written.
const VOTE_RETRY: Duration = Duration::from_millis(200);

/// How a replica ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop, and its next start remembers everything.
    Clean,
    /// It was asked to stop and had nothing that a next start could rely on.
    WithoutMemory,
    /// A newer generation exists.
    Fenced,
    /// It is no member any more, and nobody needs it.
    Retired,
}

/// Runs a replica until it is told to stop (SIGTERM, SIGINT) or must.
///
/// # Errors
/// What kept it from starting, or from going on; the message is for a person.
pub fn run(config: Config) -> anyhow::Result<End> {
    memory::keep_freed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = Rc::new(LocalSet::new());
    let end = local.block_on(&runtime, serve(config, Rc::downgrade(&local)));
    // Whatever still runs holds nothing that matters: connections of clients and peers.
    runtime.shutdown_background();
    end
}

async fn serve(config: Config, local: Weak<LocalSet>) -> anyhow::Result<End> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Nothing is listened to before it is known whom to trust.
    let tls = tls::Ports::load(&config)?;
    // Ports first: a second process with this configuration must not even look at the disks.
    let client = bind("clientAddress", config.client, keepalive::CLIENTS).await?;
    let peers = bind("peerAddress", config.peer, keepalive::PEERS).await?;
    let admin = bind("adminAddress", config.admin, keepalive::CLIENTS).await?;
    let control = match config.control {
        Some(address) => Some(bind("controlAddress", address, keepalive::CLIENTS).await?),
        None => None,
    };

    let Booted { boot, tiering, incarnation, roots, asks, restored_from } = tokio::select! {
        booted = boot::boot(&config) => booted?,
        _ = terminate.recv() => return Ok(End::WithoutMemory),
        _ = interrupt.recv() => return Ok(End::WithoutMemory),
    };
    let started = Instant::now();
    let (promises, written) = promise_writer(&config)?;
    let mut effects = Effects::new();
    let now = Now { mono: 0, wall: wall() };
    let replica = Replica::new(boot, options(&config), now, &mut effects)
        .map_err(|reason| anyhow::anyhow!("the replica cannot start: {reason}"))?;
    let node = Node::new(Parts {
        config: config.clone(),
        incarnation,
        replica,
        effects,
        tiering,
        links: node::Links::new(dial(local, tls.peer.clone())),
        promises,
        tls: tls.clone(),
        started,
        restored_from,
    });
    let (bell, halted, asked) = (node.turn_bell(), node.halted(), node.stop_bell());
    node::install(node);

    tokio::task::spawn_local(turns(bell));
    tokio::task::spawn_local(clock());
    tokio::task::spawn_local(votes_written(written));
    tokio::task::spawn_local(roots_hashed(roots));
    tokio::task::spawn_local(node::disks::carry(asks));
    tokio::task::spawn_local(housekeeping());
    let asked_by =
        |payload, names: &tls::Names, answers: &peer::Outbox| receive(payload, names, Some(answers));
    let refused = || {
        node::try_with(|node| node.counters.peer_connections_refused += 1);
    };
    tokio::task::spawn_local(peer::accept(peers, tls.peer.clone(), asked_by, refused));
    tokio::task::spawn_local(listen::serve(
        "adminAddress",
        admin,
        http::admin_routes().into(),
        tls.admin.clone(),
    ));
    if let Some(control) = control {
        let trust = tls.control.clone();
        tokio::task::spawn_local(listen::serve("controlAddress", control, control::routes().into(), trust));
    }
    let most = config.max_request_bytes;
    let routes = etcd::routes(most).prepare().into_axum_router().merge(http::client_routes());
    let front = Front::with_key_value(etcd::key_value(most), routes);
    tokio::task::spawn_local(listen::serve(listen::CLIENT_PORT, client, front, tls.client.clone()));
    let reloader = Reloader::start(tls, config.tls.reload)?;
    tokio::task::spawn_local(hang_ups(reloader));
    tokio::task::spawn_local(recordings_wanted());
    tracing::info!(client = %config.client, peer = %config.peer, admin = %config.admin, "serving");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = halted.notified() => {}
        () = asked.notified() => {}
    }
    stop().await
}

/// A frame from a peer; `answers` leads back to one that has made the connection.
fn receive(payload: Bytes, names: &tls::Names, answers: Option<&peer::Outbox>) -> Result<(), peer::Refused> {
    let received = node::try_with(|node| node.receive(payload, names, answers));
    received.unwrap_or(Err(peer::Refused::Stopping))
}

/// Keeps a connection to a peer. A new member may come of a request whose task is none of `local`'s: where a replica is
/// alone, a request is committed at once.
fn dial(local: Weak<LocalSet>, tls: Option<Arc<Port>>) -> node::Dial {
    Rc::new(move |id, address, outbox| {
        let lost = move || {
            node::try_with(|node| node.step(Input::PeerLost(id)));
        };
        let answered = |payload, names: &tls::Names| receive(payload, names, None);
        let dialling = peer::dial(id, address, tls.clone(), outbox, answered, lost);
        local.upgrade().expect("all of this runs in it").spawn_local(dialling).abort_handle()
    })
}

/// SIGHUP: look at the certificates now.
async fn hang_ups(reloader: Reloader) {
    let Ok(mut hang_ups) = signal(SignalKind::hangup()) else { return };
    while hang_ups.recv().await.is_some() {
        reloader.now();
    }
}

/// SIGUSR1: write out what this replica was told lately.
async fn recordings_wanted() {
    let Ok(mut wanted) = signal(SignalKind::user_defined1()) else { return };
    while wanted.recv().await.is_some() {
        match node::record().await {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::warn!("there is no recording: the flight recorder is off (flightRecorderBytes)")
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "no recording was written"),
        }
    }
}

/// Leaves a checkpoint of everything this replica has, and the marker that makes its next start remember.
async fn stop() -> anyhow::Result<End> {
    let mut node = node::uninstall().expect("installed before it could be stopped");
    match node.halt().cloned() {
        Some(Halt::Fenced(_)) => return Ok(End::Fenced),
        Some(Halt::Fatal(reason)) => {
            if let Some((name, tape)) = node.tape()
                && let Err(error) = flight::write(&node.config, &name, &tape)
            {
                tracing::error!(error = format!("{error:#}"), "no recording was written");
            }
            anyhow::bail!("{reason}")
        }
        Some(Halt::Retired(_)) => return Ok(End::Retired),
        None => {}
    }
    boot::leave(node).await
}

async fn bind(field: &str, address: SocketAddr, patience: Patience) -> anyhow::Result<TcpListener> {
    let deadline = Instant::now() + BIND;
    loop {
        match TcpListener::bind(address).await {
            // A process that was killed a moment ago may still be on its way out.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(TICK).await;
            }
            bound => {
                let listener = bound.with_context(|| {
                    format!("cannot listen on {field} {address}: free the port or configure another")
                })?;
                patience.set(&listener).with_context(|| format!("{field} {address}"))?;
                return Ok(listener);
            }
        }
    }
}

fn options(config: &Config) -> Options {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    Options {
        heartbeat: micros(config.heartbeat),
        view_timeout: micros(config.view_timeout),
        ..Options::default()
    }
}

fn wall() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Ends turns: woken by the first request of one, it lets everything that is runnable queue its own first.
async fn turns(bell: std::rc::Rc<tokio::sync::Notify>) {
    loop {
        bell.notified().await;
        tokio::task::yield_now().await;
        if node::try_with(Node::turn).is_none() {
            return;
        }
    }
}

async fn clock() {
    loop {
        let Some(wait) = node::try_with(|node| node.until_deadline()) else { return };
        match wait {
            Some(Duration::ZERO) => {
                node::try_with(|node| node.step(Input::Tick));
                tokio::task::yield_now().await;
            }
            wait => tokio::time::sleep(wait.unwrap_or(TICK).min(TICK)).await,
        }
    }
}

async fn housekeeping() {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if node::try_with(Node::keep_house).is_none() {
            return;
        }
    }
}

async fn votes_written(mut written: mpsc::UnboundedReceiver<VoteRecord>) {
    while let Some(record) = written.recv().await {
        node::try_with(|node| node.step(Input::VoteWritten(record)));
    }
}

async fn roots_hashed(mut roots: mpsc::UnboundedReceiver<(Op, Digest)>) {
    while let Some((op, root)) = roots.recv().await {
        node::try_with(|node| node.step(Input::CutRoot { op, root }));
    }
}

/// A thread that makes promises durable, one after the other, and says so. Unbounded, since the protocol asks for one
/// at a time.
fn promise_writer(
    config: &Config,
) -> anyhow::Result<(mpsc::UnboundedSender<Promise>, mpsc::UnboundedReceiver<VoteRecord>)> {
    let (ask, mut asked) = mpsc::unbounded_channel::<Promise>();
    let (tell, told) = mpsc::unbounded_channel();
    let (disks, lineage, generation) = (config.tiers.disks(), config.lineage, config.generation);
    let write = move |promise: &Promise| match promise {
        Promise::Vote(record) => vote::write(&disks, *record).map_err(|error| error.to_string()),
        Promise::Members(next, begun) => members::write(&disks, lineage, generation, next, *begun)
            .map_err(|error| format!("the members of epoch {}: {error}", next.epoch)),
    };
    std::thread::Builder::new().name("vote".to_owned()).spawn(move || {
        while let Some(promise) = asked.blocking_recv() {
            while let Err(error) = write(&promise) {
                tracing::error!(
                    error,
                    "a promise cannot be written: this replica takes part in no view change"
                );
                std::thread::sleep(VOTE_RETRY);
            }
            if let Promise::Vote(record) = promise
                && tell.send(record).is_err()
            {
                return;
            }
        }
    })?;
    Ok((ask, told))
}
