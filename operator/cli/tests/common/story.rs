//! A cluster of processes that changes while it is written to.

use std::time::Duration;

use serde_json::Value;
use vr::endpoint::Endpoint;

use crate::common::{run, vr};
use crate::load::Load;
use crate::running::Dev;

/// Sessions that write, each one write at a time.
const WRITERS: usize = 8;

/// The longest time without an acknowledged write that passes: `VR_PAUSE_MS`, or room for a build without optimisation
/// beside other tests.
pub(crate) fn longest_pause() -> Duration {
    let millis = std::env::var("VR_PAUSE_MS").map_or(3000, |ms| ms.parse().expect("a number"));
    Duration::from_millis(millis)
}

/// A cluster under load, and the commands that change it.
pub(crate) struct Story {
    pub(crate) dev: Dev,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) load: Load,
    /// Where it is told to change.
    pub(crate) controls: Vec<String>,
}

impl Story {
    /// A cluster that has settled gets its load.
    pub(crate) fn begin(dev: Dev, dir: tempfile::TempDir) -> Story {
        let (load, controls) = (Load::start(&dev.endpoints(), WRITERS), dev.controls());
        Story { dev, dir, load, controls }
    }

    /// One command that must succeed; what it prints.
    pub(crate) fn vr(&self, arguments: &[&str]) -> String {
        let mut command = vr([]);
        command.args(arguments).arg("--endpoints").arg(self.controls.join(","));
        let done = run(&mut command);
        assert!(done.status.success(), "{arguments:?}");
        String::from_utf8(done.stdout).expect("text")
    }

    pub(crate) fn members(&self) -> Value {
        serde_json::from_str(&self.vr(&["member", "list", "-o", "json"])).expect("JSON")
    }

    /// Who votes, in the order of preference.
    pub(crate) fn voters(&self) -> Vec<u64> {
        let members = self.members();
        let all = members["members"].as_array().expect("a list");
        let voters = all.iter().filter(|member| member["role"] == "voter");
        voters.map(|member| member["id"].as_u64().expect("an id")).collect()
    }

    #[allow(dead_code, reason = "not every story asks")]
    pub(crate) fn primary(&self) -> u64 {
        let status: Value = serde_json::from_str(&self.vr(&["status", "-o", "json"])).expect("JSON");
        status["primary"].as_u64().unwrap_or_else(|| panic!("no primary in {status}"))
    }

    /// `vr dev join`; the id of the new replica, and where it serves clients once it is in sync.
    pub(crate) fn join(&mut self, arguments: &[&str]) -> (u64, Endpoint) {
        let mut command = vr(["dev", "join", "--dir"]);
        let done = run(command.arg(self.dir.path()).args(arguments));
        assert!(done.status.success(), "join {arguments:?}");
        let text = String::from_utf8(done.stdout).expect("text");
        let [id, client, control] = text.trim().split('\t').collect::<Vec<_>>()[..] else {
            panic!("not id, client and control: {text:?}")
        };
        self.controls.push(control.to_owned());
        (id.parse().expect("an id"), client.parse().expect("an endpoint"))
    }
}
