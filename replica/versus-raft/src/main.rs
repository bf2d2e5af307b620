//! Three members of raft-rs in memory, with what VR replicas have around their protocol: one thread for each, the same
//! frames between them, the same native protocol for clients, the same store, one entry for all that came in a turn.
//!
//! It is there to be measured (`run.py` beside this says how) and for nothing else: no disk, no snapshots, no membership,
//! no reads, no sessions. Puts of native clients are all it takes; a client that comes back is a new one.

mod clients;
mod member;
mod peers;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::net::TcpListener;

/// The replicas' own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As heartbeats of VR replicas by default: 50 ms, an election after 10 to 20 of them.
const TICK: Duration = Duration::from_millis(50);

/// Starts three members on this machine, prints endpoints and process ids as JSON, and keeps them until it is ended.
#[derive(Parser)]
struct Options {
    /// Be one member: this one (1 to 3).
    #[arg(long, requires_all = ["peers", "clients"])]
    id: Option<u64>,
    /// Where all members listen for each other.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<SocketAddr>,
    /// Where this member listens for clients.
    #[arg(long)]
    clients: Option<SocketAddr>,
}

thread_local! {
    static MEMBER: RefCell<Option<member::Member>> = const { RefCell::new(None) };
}

/// Runs `f` on this thread's member. Never nested.
fn with<R>(f: impl FnOnce(&mut member::Member) -> R) -> R {
    MEMBER.with(|member| f(member.borrow_mut().as_mut().expect("it is there before anything is served")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Options { id, peers, clients } = Options::parse();
    match (id, clients) {
        (Some(id), Some(clients)) => tokio::task::LocalSet::new().run_until(serve(id, peers, clients)).await,
        _ => start_all().await,
    }
}

async fn start_all() -> Result<()> {
    let free = || -> Result<SocketAddr> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?)
    };
    let peers = [free()?, free()?, free()?];
    let clients = [free()?, free()?, free()?];
    let all = peers.map(|peer| peer.to_string()).join(",");
    let program = std::env::current_exe()?;
    let mut members = Vec::new();
    for (id, client) in (1..).zip(clients) {
        let (id, client) = (format!("--id={id}"), format!("--clients={client}"));
        let mut command = Command::new(&program);
        command.args([id, client, format!("--peers={all}")]).stdin(Stdio::null()).stdout(Stdio::null());
        members.push(command.spawn().context("a member did not start")?);
    }
    let pids: Vec<String> = members.iter().map(|member| member.id().to_string()).collect();
    let endpoints: Vec<String> = clients.iter().map(|client| format!("\"{client}\"")).collect();
    println!("{{\"endpoints\":[{}],\"pids\":[{}]}}", endpoints.join(","), pids.join(","));
    let ended = tokio::signal::ctrl_c().await;
    for mut member in members {
        // It may have ended with the terminal's own signal.
        let _ = member.kill();
        member.wait()?;
    }
    Ok(ended?)
}

async fn serve(id: u64, peers: Vec<SocketAddr>, clients: SocketAddr) -> Result<()> {
    ensure!(
        peers.len() == 3 && (1..=3).contains(&id),
        "a member is one of three: --id 1 to 3, three --peers"
    );
    let own = TcpListener::bind(peers[id as usize - 1]).await?;
    let clients = TcpListener::bind(clients).await?;
    let links = peers::dial(id, &peers);
    let member = member::Member::new(id, links)?;
    let turn = member.turn();
    MEMBER.with(|place| *place.borrow_mut() = Some(member));
    tokio::task::spawn_local(peers::accept(own));
    tokio::task::spawn_local(clients::accept(clients));
    tokio::task::spawn_local(async {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            with(member::Member::tick);
        }
    });
    loop {
        turn.notified().await;
        // As in a VR replica: everything that is runnable queues its work first.
        tokio::task::yield_now().await;
        with(member::Member::turn_over)?;
    }
}
