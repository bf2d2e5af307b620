//! `vr drill probe` beside a real cluster that loses a replica like in a crash, asked over the control port.

mod common;
#[path = "common/dev.rs"]
mod running;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{operators_command, run, vr};
use running::{Dev, PATIENCE, settled, wait_until};
use rustix::process::test_kill_process;
use serde_json::Value;
use vr::client::Client;
use vr_proto::control as pb;
use vr_proto::control::control_client::ControlClient;
use vr_proto::etcdserverpb::{PutRequest, RangeRequest};
use vr_proto::status::refusal;

const PREFIX: &str = "somebodys/probe";

/// A probe that runs; killed when the test fails.
struct Probe(Option<Child>);

impl Probe {
    fn start(command: &mut Command) -> Probe {
        Probe(Some(command.stdout(Stdio::piped()).spawn().expect("vr starts")))
    }

    /// Its exit status and its report, once it has ended.
    fn ended(mut self) -> (Option<i32>, Value) {
        let done = self.0.take().expect("it was started").wait_with_output().expect("it ends");
        (done.status.code(), serde_json::from_slice(&done.stdout).expect("JSON"))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn count(client: &Client, key: &str, end: &str) -> i64 {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    let range = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    client.kv().range(range).await.expect("served").into_inner().count
}

async fn until_begun(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    while count(client, "somebodys/probe/heartbeat", "somebodys/probe/heartbeau").await < 20 {
        assert!(Instant::now() < deadline, "the probe does not write");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn status(control: &str) -> pb::ReplicaStatus {
    let mut port = ControlClient::connect(control.to_owned()).await.expect("it listens");
    let answer = port.status(pb::StatusRequest { all: false }).await.expect("it answers");
    answer.into_inner().asked.expect("it says how it is")
}

async fn crash(control: &str, incarnation: u64, replica: u64) -> Option<pb::refusal::Reason> {
    let mut port = ControlClient::connect(control.to_owned()).await.expect("it listens");
    let request = pb::StopRequest { fence: None, replica, crash: true, incarnation };
    let answer = port.stop(request).await;
    answer.err().and_then(|status| refusal(&status)).map(|refusal| refusal.reason())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lost_primary_is_noticed_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    let (place, process) = settled(&dev).await;
    let endpoints: Vec<_> = dev.endpoints().iter().map(ToString::to_string).collect();
    let endpoints = endpoints.join(",");
    let report = dir.path().join("report");
    let mut command =
        vr(["drill", "probe", "-o", "json", "--prefix", PREFIX, "--endpoints", &endpoints, "--report"]);
    let probe = Probe::start(command.arg(&report));
    let client = dev.client();
    until_begun(&client).await;

    // A second one below the same prefix would take the first one's keys for its own.
    let second =
        run(&mut vr(["drill", "probe", "-o", "json", "--prefix", PREFIX, "--endpoints", &endpoints]));
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stdout).contains("name another --prefix"));

    let control = dev.controls()[place].clone();
    let (replica, incarnation) = {
        let asked = status(&control).await;
        (asked.replica, asked.incarnation)
    };
    use pb::refusal::Reason;
    assert_eq!(crash(&control, incarnation, replica + 1).await, Some(Reason::UnknownReplica));
    assert_eq!(crash(&control, incarnation + 1, replica).await, Some(Reason::Stale));
    assert!(test_kill_process(process).is_ok(), "who is not meant goes on");
    assert_eq!(crash(&control, incarnation, replica).await, None);
    wait_until("the primary has ended", || test_kill_process(process).is_err());
    // `vr dev` starts it again, which asking twice must not end.
    settled(&dev).await;
    assert_eq!(crash(&control, incarnation, replica).await, Some(Reason::Stale));

    let end = PutRequest {
        key: Bytes::from_static(b"somebodys/probe/end"),
        value: Bytes::from_static(b"1"),
        ..PutRequest::default()
    };
    client.kv().put(end).await.expect("served");
    let (status, found) = probe.ended();
    assert_eq!((status, &found["result"]), (Some(0), &"Passed".into()), "{found:#}");
    assert!(found["acknowledgedOps"].as_u64() > Some(20) && found["lostOps"] == 0, "{found:#}");
    assert!(found["rtoSeconds"].as_f64() > Some(0.0), "{found:#}");
    let short: Value = serde_json::from_slice(&std::fs::read(report).expect("written")).expect("JSON");
    assert_eq!(short["result"], found["result"]);
    assert_eq!(count(&client, "somebodys/", "somebodys0").await, 0, "the probe has left keys");
    dev.interrupt();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deleted_write_is_missed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    settled(&dev).await;
    let endpoint = dev.endpoints()[0].to_string();
    let mut command =
        vr(["drill", "probe", "-o", "json", "--for", "2s", "--prefix", PREFIX, "--endpoints", &endpoint]);
    let probe = Probe::start(&mut command);
    let client = dev.client();
    until_begun(&client).await;
    let delete = vr_proto::etcdserverpb::DeleteRangeRequest {
        key: Bytes::from_static(b"somebodys/probe/heartbeat/w1/00000001"),
        ..Default::default()
    };
    let deleted = client.kv().delete_range(delete).await.expect("served").into_inner().deleted;
    assert_eq!(deleted, 1);
    let (status, found) = probe.ended();
    assert_eq!(status, Some(1), "{found:#}");
    let reason = found["reason"].as_str().expect("text");
    assert!(reason.contains("acknowledgedWritesPresent") && reason.contains("w1/00000001"), "{reason}");
    dev.interrupt();
}

#[test]
fn what_is_typed_wrong_is_refused() {
    for (arguments, says) in [
        (&["--prefix", "/"][..], "it would be every key"),
        (&["--rpo", "5s"], "--may-lose"),
        (&["--for", "0s"], "longer than nothing"),
        (&["--endpoints", "nowhere"], "host:port"),
        (&["--endpoints", "https://127.0.0.1:1"], "--cacert"),
    ] {
        let done = run(vr(["drill", "probe"]).args(arguments));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    let silent = run(&mut vr(["drill", "probe", "-o", "json", "--endpoints", "127.0.0.1:1", "--for", "1s"]));
    assert_eq!(silent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&silent.stdout).contains("the cluster cannot be read"));
}

/// As for a copy: what the operator writes into the pod of a probe is a command line that this tool takes.
#[test]
fn the_operators_command_line_is_taken() {
    let words = operators_command(["vr", "drill", "probe"]);
    // Only the authority, which is the cluster's, is not there.
    let done = run(vr([]).args(&words[1..]));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("/etc/vr-authority/ca.crt"), "{said}");
}
