//! `etcdctl`, a client that nobody here wrote: its everyday commands against each replica and against all at once, and
//! against a real etcd, so that the story itself is known to be right.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server;

/// How long a command may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// `etcdctl` with its endpoints.
struct Ctl {
    binary: PathBuf,
    endpoints: String,
}

impl Ctl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        // Nobody's own ETCDCTL_… may change what is tried here; `lock` finds its command on PATH.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.arg("--endpoints").arg(&self.endpoints).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to its end, with `input` on its standard input; what it printed.
    #[track_caller]
    fn with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self.command(arguments).spawn().expect("etcdctl starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("etcdctl reads it");
        drop(stdin);
        let Output { status, stdout, stderr } = Running::new(child, arguments).finish();
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "etcdctl {arguments:?} at {}: {status}\n{stdout}{stderr}", self.endpoints);
        stdout
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        self.with_input(arguments, "")
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["-w", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error} in {text}"))
    }

    /// Starts a command that stays until it is interrupted.
    fn start(&self, arguments: &[&str]) -> Running {
        Running::new(self.command(arguments).spawn().expect("etcdctl starts"), arguments)
    }

    /// Asks again until `enough` is true of the answer.
    #[track_caller]
    fn until(&self, arguments: &[&str], enough: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let answer = self.run(arguments);
            if enough(&answer) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "etcdctl {arguments:?} still answers {answer}");
        }
    }
}

/// A command under way; killed when dropped.
struct Running {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
    what: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn new(child: Child, arguments: &[&str]) -> Running {
        Running { child, lines: None, what: format!("etcdctl {arguments:?}") }
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let stdout = &mut self.child.stdout;
        let lines = self.lines.get_or_insert_with(|| BufReader::new(stdout.take().expect("it is piped")));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a pipe can be read");
        assert!(!line.is_empty(), "{} ended without another line", self.what);
        line.trim_end().to_owned()
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, Signal::INT).expect("it is this process's child");
    }

    #[track_caller]
    fn finish(mut self) -> Output {
        let started = Instant::now();
        while self.child.try_wait().expect("a child can be waited for").is_none() {
            assert!(started.elapsed() < PATIENCE, "{} hangs", self.what);
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut output = Output {
            status: self.child.wait().expect("it has ended"),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let read = |from: &mut dyn std::io::Read, to: &mut Vec<u8>| {
            from.read_to_end(to).expect("a pipe can be read");
        };
        if let Some(lines) = &mut self.lines {
            read(lines, &mut output.stdout);
        } else if let Some(stdout) = &mut self.child.stdout {
            read(stdout, &mut output.stdout);
        }
        if let Some(stderr) = &mut self.child.stderr {
            read(stderr, &mut output.stderr);
        }
        output
    }
}

/// Everyday life; `members` is how many must be there. Keys are left as they were found.
fn story(ctl: &Ctl, members: usize) {
    keys(ctl);
    watch(ctl);
    leases(ctl);
    lock(ctl);
    elect(ctl);
    cluster(ctl, members);
}

fn keys(ctl: &Ctl) {
    assert_eq!(ctl.run(&["put", "fruit/apple", "red"]), "OK\n");
    ctl.run(&["put", "fruit/pear", "green"]);
    assert_eq!(ctl.run(&["get", "fruit/apple"]), "fruit/apple\nred\n");
    assert_eq!(ctl.run(&["get", "fruit/", "--prefix", "--keys-only"]).split_whitespace().count(), 2);
    assert_eq!(
        ctl.run(&["get", "fruit/", "--prefix", "--order", "DESCEND", "--limit", "1", "--print-value-only"]),
        "green\n"
    );
    let old = ctl.json(&["get", "fruit/apple"])["header"]["revision"].to_string();
    ctl.run(&["put", "fruit/apple", "eaten"]);
    assert_eq!(ctl.run(&["get", "fruit/apple", "--rev", &old]), "fruit/apple\nred\n");
    let txn =
        "value(\"fruit/apple\") = \"eaten\"\n\nput fruit/apple core\nget fruit/pear\n\nput never no\n\n";
    let answer = ctl.with_input(&["txn"], txn);
    assert!(answer.starts_with("SUCCESS") && answer.contains("fruit/pear\ngreen"), "{answer}");
    assert!(ctl.with_input(&["txn"], txn).starts_with("FAILURE"));
    assert_eq!(ctl.run(&["del", "never", "--prev-kv"]), "1\nnever\nno\n");
    assert_eq!(ctl.run(&["del", "fruit/", "--prefix"]), "2\n");
    assert_eq!(ctl.run(&["get", "fruit/", "--prefix"]), "");
}

fn watch(ctl: &Ctl) {
    let revision = ctl.json(&["put", "seen/1", "a"])["header"]["revision"].to_string();
    let mut watch = ctl.start(&["watch", "seen/", "--prefix", "--rev", &revision]);
    let next = |watch: &mut Running| [watch.line(), watch.line(), watch.line()];
    assert_eq!(next(&mut watch), ["PUT", "seen/1", "a"]);
    ctl.run(&["put", "seen/2", "b"]);
    assert_eq!(next(&mut watch), ["PUT", "seen/2", "b"]);
    ctl.run(&["del", "seen/1"]);
    assert_eq!(next(&mut watch), ["DELETE", "seen/1", ""]);
    ctl.run(&["del", "seen/2"]);
}

fn leases(ctl: &Ctl) {
    let granted = ctl.run(&["lease", "grant", "600"]);
    let id = granted.split_whitespace().nth(1).expect("lease ID granted with TTL(600s)").to_owned();
    ctl.run(&["put", "leased", "1", "--lease", &id]);
    let left = ctl.run(&["lease", "timetolive", &id, "--keys"]);
    assert!(left.contains("granted with TTL(600s)") && left.contains("leased"), "{left}");
    assert!(ctl.run(&["lease", "keep-alive", "--once", &id]).contains("keepalived with TTL(600)"));
    assert!(ctl.run(&["lease", "list"]).contains(&id));
    assert!(ctl.run(&["lease", "revoke", &id]).contains("revoked"));
    assert_eq!(ctl.run(&["get", "leased"]), "");
    assert!(ctl.run(&["lease", "timetolive", &id]).contains("already expired"));
}

fn lock(ctl: &Ctl) {
    let mut first = ctl.start(&["lock", "mutex"]);
    let held = first.line();
    assert!(held.starts_with("mutex/"), "{held}");
    let mut second = ctl.start(&["lock", "mutex", "echo", "mine now"]);
    ctl.until(&["get", "mutex/", "--prefix", "--keys-only"], |keys| keys.split_whitespace().count() == 2);
    assert!(second.child.try_wait().expect("a child can be waited for").is_none(), "two hold one lock");
    first.interrupt();
    assert_eq!(second.line(), "mine now");
    second.finish();
    first.finish();
    assert_eq!(ctl.run(&["get", "mutex/", "--prefix"]), "");
}

fn elect(ctl: &Ctl) {
    let mut leader = ctl.start(&["elect", "post", "alice"]);
    assert!(leader.line().starts_with("post/"));
    assert_eq!(leader.line(), "alice");
    let mut observer = ctl.start(&["elect", "--listen", "post"]);
    assert!(observer.line().starts_with("post/"));
    assert_eq!(observer.line(), "alice");
    leader.interrupt();
    leader.finish();
    ctl.until(&["get", "post/", "--prefix"], str::is_empty);
}

fn cluster(ctl: &Ctl, members: usize) {
    let listed = ctl.json(&["member", "list"]);
    assert_eq!(listed["members"].as_array().map(Vec::len), Some(members), "{listed}");
    let endpoints = ctl.endpoints.split(',').count();
    let status = ctl.json(&["endpoint", "status"]);
    let status = status.as_array().expect("one entry for each endpoint");
    assert_eq!(status.len(), endpoints);
    for one in status {
        let one = &one["Status"];
        assert_eq!(one["header"]["cluster_id"], listed["header"]["cluster_id"], "one cluster");
        let leader = &one["leader"];
        let known = listed["members"].as_array().expect("counted above").iter().any(|m| m["ID"] == *leader);
        assert!(known, "leader {leader} is no member: {listed}");
        assert!(one["version"].as_str().is_some_and(|version| version.starts_with("3.")), "{one}");
    }
    let revision = ctl.json(&["get", "any"])["header"]["revision"].to_string();
    let hashes = ctl.json(&["endpoint", "hashkv", "--rev", &revision]);
    let hashes: Vec<_> = hashes
        .as_array()
        .expect("one for each endpoint")
        .iter()
        .map(|h| h["HashKV"]["hash"].clone())
        .collect();
    assert_eq!(hashes.len(), endpoints);
    assert!(hashes.windows(2).all(|two| two[0] == two[1]), "one history has one hash: {hashes:?}");
}

fn etcdctl() -> Option<PathBuf> {
    server::binary("VR_ETCDCTL", "etcdctl")
}

fn against(binary: &Path, endpoints: &[&str], members: usize) {
    story(&Ctl { binary: binary.to_owned(), endpoints: endpoints.join(",") }, members);
}

#[tokio::test]
async fn etcdctl_works_with_a_real_etcd() {
    let (Some(ctl), Some(etcd)) = (etcdctl(), server::binary("VR_ETCD", "etcd")) else { return };
    let etcd = server::etcd(&etcd).await;
    against(&ctl, &[&etcd.endpoint], 1);
}

#[tokio::test]
async fn etcdctl_works_with_each_replica_and_with_all() {
    let Some(ctl) = etcdctl() else { return };
    let replicas = server::replicas(3).await;
    let endpoints: Vec<_> = replicas.iter().map(|replica| replica.endpoint.as_str()).collect();
    for endpoint in &endpoints {
        against(&ctl, &[endpoint], 3);
    }
    against(&ctl, &endpoints, 3);
}
