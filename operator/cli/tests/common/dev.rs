//! A running `vr dev`, and what every test asks of one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vr::client::Client;
use vr::endpoint::Endpoint;
use vr_proto::etcdserverpb::PutRequest;
use vr_replica::status::{Report, TierReport};
use vr_replica::tls::Connector;

use crate::common::vr;

/// For whatever must happen in the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `vr dev`; killed when the test fails.
pub(crate) struct Dev {
    child: Child,
    pub(crate) started: Value,
}

impl Dev {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Dev {
        let mut command = vr(["dev", "-o", "json", "--dir"]);
        let mut child = command.arg(dir).args(arguments).stdout(Stdio::piped()).spawn().expect("vr starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("readable");
        let started = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Dev { child, started }
    }

    #[allow(dead_code, reason = "not every test kills")]
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let replicas = self.started["replicas"].as_array().expect("a list");
        replicas.iter().map(|replica| pid(replica["pid"].as_u64().expect("a number"))).collect()
    }

    /// Where each replica that it began with serves clients.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = self.started["endpoints"].as_array().expect("a list");
        endpoints.iter().map(|e| e.as_str().expect("a string").parse().expect("an endpoint")).collect()
    }

    /// The control ports of the replicas that it began with.
    #[allow(dead_code, reason = "not every test changes members")]
    pub(crate) fn controls(&self) -> Vec<String> {
        let replicas = self.started["replicas"].as_array().expect("a list");
        replicas.iter().map(|replica| replica["control"].as_str().expect("a string").to_owned()).collect()
    }

    pub(crate) fn admins(&self) -> Vec<SocketAddr> {
        let replicas = self.started["replicas"].as_array().expect("a list");
        let admin = |r: &Value| r["admin"].as_str().expect("a string").replace("http://", "");
        replicas.iter().map(|r| admin(r).parse().expect("an address")).collect()
    }

    #[allow(dead_code, reason = "not every test needs one")]
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.endpoints(), Duration::from_secs(5), &Connector::default())
    }

    pub(crate) fn interrupt(mut self) {
        kill_process(pid(self.child.id().into()), Signal::INT).expect("it runs");
        assert!(self.child.wait().expect("waited").success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn pid(number: u64) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process id")).expect("not 0")
}

#[allow(dead_code, reason = "not every test kills")]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until all replicas that it began with are ready and agree on a primary; its place and process.
pub(crate) async fn settled(dev: &Dev) -> (usize, Pid) {
    let admins = dev.admins();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut reports = Vec::new();
        for admin in &admins {
            reports.extend(vr::dev::cluster::status(*admin).await.filter(|report| report.ready));
        }
        let primary = reports.first().and_then(|report| report.primary);
        if reports.len() == admins.len()
            && let Some(id) = primary
            && reports.iter().all(|report| report.primary == primary)
        {
            let place = usize::try_from(id - 1).expect("small");
            let process = pid(reports[place].process);
            return (place, process);
        }
        assert!(Instant::now() < deadline, "the replicas did not settle");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until this holds for every tier of every replica.
#[allow(dead_code, reason = "not every test looks at tiers")]
pub(crate) async fn tiers(dev: &Dev, holds: impl Fn(&Report, &TierReport) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    for admin in dev.admins() {
        loop {
            let report = vr::dev::cluster::status(admin).await.expect("it runs");
            if report.tiers.iter().all(|tier| holds(&report, tier)) {
                break;
            }
            assert!(Instant::now() < deadline, "the tiers do not have it: {report:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Tries until it is served: after a start the first reservation may be under way. The revision of the write.
#[allow(dead_code, reason = "not every test writes by itself")]
pub(crate) async fn put(client: &Client, key: &str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let put = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from_static(b"value"),
            ..PutRequest::default()
        };
        match client.kv().put(put).await {
            Ok(answer) => break answer.into_inner().header.expect("a header").revision,
            Err(status) => assert!(Instant::now() < deadline, "{status}"),
        }
        client.go_on();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a replica counts.
#[allow(dead_code, reason = "not every test counts")]
pub(crate) fn counted(admin: SocketAddr, name: &str) -> u64 {
    let mut connection = TcpStream::connect(admin).expect("it listens");
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
    let mut page = String::new();
    connection.read_to_string(&mut page).expect("a page");
    let number = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{name} is not on the page: {page}"))
}
