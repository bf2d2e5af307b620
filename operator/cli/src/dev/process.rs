//! Child processes of this executable that never outlive it.
//!
//! Each child holds the read end of a pipe whose only write end is in this process, as its standard input. When this
//! process ends, however it ends (SIGKILL included), the pipe closes, and the child's [`watch_lifeline`] stops it with
//! SIGTERM. Children are in process groups of their own: a Ctrl-C on the terminal reaches this process alone, which
//! then decides what happens to them.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

/// Tells a child that its standard input is a lifeline.
const LIFELINE: &str = "VR_LIFELINE";
/// How long a child whose parent is gone may take to stop.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// A process could not be started or waited for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Its log file.
    #[error("cannot write the log {path}")]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process itself.
    #[error("cannot start {name}")]
    Start {
        /// What was to be started.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// One running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    // Not left inside `child`, which closes it when it is waited for.
    _lifeline: Option<ChildStdin>,
    pid: u32,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit status.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exit(code) => write!(f, "ended with exit status {code}"),
            Ended::Signal(9) => write!(f, "was killed (SIGKILL)"),
            Ended::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Ended {
        status.signal().map_or_else(|| Ended::Exit(status.code().unwrap_or(-1)), Ended::Signal)
    }
}

impl Process {
    /// Starts `program` with `arguments`, its output appended to the file `log`. Of the environment's `VR_…`
    /// variables it sees `VR_LOG` only: what a person has set for a replica of theirs is not meant for this one.
    ///
    /// # Errors
    /// When the log cannot be written, or the program cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Process, ProcessError> {
        let failed = |source| ProcessError::Log { path: log.to_owned(), source };
        let out = OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("VR_") && name != "VR_LOG" {
                command.env_remove(&variable);
            }
        }
        let mut child = command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env(LIFELINE, "stdin")
            // Its output goes to a file.
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ProcessError::Start { name: name.to_owned(), source })?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let lifeline = child.stdin.take();
        Ok(Process { name: name.to_owned(), log: log.to_owned(), child, _lifeline: lifeline, pid })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ended(&mut self) -> Option<Ended> {
        self.child.try_wait().ok().flatten().map(Ended::from)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the system does not let us wait.
    pub async fn wait(&mut self) -> std::io::Result<Ended> {
        self.child.wait().await.map(Ended::from)
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the system does not let us.
    pub async fn kill(&mut self) -> std::io::Result<()> {
        self.signal(Signal::KILL);
        self.wait().await.map(drop)
    }

    /// SIGTERM; SIGKILL if it is still there after `grace`.
    ///
    /// # Errors
    /// When the system does not let us wait.
    pub async fn stop(&mut self, grace: Duration) -> std::io::Result<Ended> {
        self.signal(Signal::TERM);
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(ended) => ended,
            Err(_too_long) => {
                self.signal(Signal::KILL);
                self.wait().await
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        // Not after it was waited for: the number may belong to somebody else by then.
        if self.child.id().is_none() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // Fails only when it has just ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> String {
        last_lines(&self.log, count)
    }
}

/// The last lines of a file; empty when it cannot be read.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// In a child that [`Process::start`] started: stop when the parent is gone. Elsewhere: nothing.
///
/// # Errors
/// When the system gives no thread.
pub fn watch_lifeline() -> std::io::Result<()> {
    if std::env::var_os(LIFELINE).is_none() {
        return Ok(());
    }
    std::thread::Builder::new().name("lifeline".to_owned()).spawn(|| {
        let mut nothing = [0; 64];
        // Nobody writes: this returns when the last writer is gone.
        while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
        let _ = kill_process(rustix::process::getpid(), Signal::TERM);
        std::thread::sleep(LAST_WORDS);
        std::process::exit(1);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        let arguments = ["-c".to_owned(), script.to_owned()];
        Process::start("a shell", Path::new("/bin/sh"), &arguments, &[("A".into(), "b".into())], log)
            .expect("sh starts")
    }

    #[tokio::test]
    async fn output_goes_to_the_log_and_the_status_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let mut process = shell("echo one; echo two >&2; echo $A; exit 7", &log);
        assert_eq!(process.wait().await.expect("waited"), Ended::Exit(7));
        assert_eq!(process.ended(), Some(Ended::Exit(7)));
        assert_eq!(process.last_lines(2), "two\nb");
    }

    #[tokio::test]
    async fn a_kill_shows_as_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut process = shell("read line", &dir.path().join("log"));
        assert_eq!(process.ended(), None);
        process.kill().await.expect("killed");
        assert_eq!(process.ended(), Some(Ended::Signal(9)));
        assert_eq!(Ended::Signal(9).to_string(), "was killed (SIGKILL)");
    }

    #[tokio::test]
    async fn who_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let mut process = shell("trap '' TERM; echo ready; while read line; do :; done; sleep 60", &log);
        while last_lines(&log, 1) != "ready" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ended = process.stop(Duration::from_millis(50)).await.expect("stopped");
        assert_eq!(ended, Ended::Signal(9));
    }

    #[tokio::test]
    async fn waiting_keeps_the_lifeline_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut process = shell("read line; exit 5", &dir.path().join("log"));
        let waited = tokio::time::timeout(Duration::from_millis(100), process.wait()).await;
        assert!(waited.is_err(), "the child saw its lifeline close: {waited:?}");
        assert_eq!(process.ended(), None);
        process.kill().await.expect("killed");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_named() {
        let nowhere = Path::new("/nowhere/log");
        let error =
            Process::start("x", Path::new("/bin/sh"), &[], &[], nowhere).expect_err("no such directory");
        assert!(error.to_string().contains("/nowhere/log"), "{error}");
    }
}
