//! The commands of `docs/` and the README that a machine can run, as they stand there: only the ports are others. Every other
//! block of commands says why it is not run.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use vr::dev::ports;

const GUIDE: &str = include_str!("../../../docs/disaster-recovery.md");
const LAPTOP: &str = include_str!("../../../docs/start-laptop.md");
const SIZING: &str = include_str!("../../../docs/sizing.md");
const PATIENCE: Duration = Duration::from_secs(180);

/// Before a block that a test here runs.
const WALKED: &str = "<!-- walked -->";

/// What follows the mark, up to the end of the block.
fn walked(page: &'static str) -> &'static str {
    let (_, block) = page.split_once("<!-- walked -->\n```sh\n").expect("the page has a walk");
    block.split_once("\n```").expect("the block ends").0
}

/// With other ports in the place of those that are written.
fn with_free_ports(walk: &str, ranges: &[(u16, usize)]) -> String {
    let mut walk = walk.to_owned();
    for &(written, count) in ranges {
        let first = (0..500)
            .map(|_| 10_000 + (uuid::Uuid::new_v4().as_u128() % 20_000) as u16)
            .find(|first| ports::free(count, Some(*first)).is_ok())
            .expect("there are free ports in a row");
        for offset in 0..count as u16 {
            walk = walk.replace(&format!("{}", written + offset), &format!("@{}", first + offset));
        }
    }
    walk.replace('@', "")
}

/// Runs what a page says; what was printed.
fn walk(page: &'static str, ranges: &[(u16, usize)]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    // In a file: what stands in the command line of a shell, `pgrep` would find.
    std::fs::write(dir.path().join("walk.sh"), with_free_ports(walked(page), ranges)).expect("written");
    let program = Path::new(env!("CARGO_BIN_EXE_vr")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let (mut said, whole) = std::io::pipe().expect("a pipe");
    let mut walk = Command::new("bash");
    walk.args(["-euo", "pipefail", "walk.sh"])
        .current_dir(dir.path())
        .env("PATH", format!("{}:{path}", program.display()))
        .env_remove("VR_CONTROL")
        .stdin(Stdio::null())
        .stdout(whole.try_clone().expect("a pipe"))
        .stderr(whole)
        // What it started in the background ends with it, whatever happens.
        .process_group(0);
    let mut child = walk.spawn().expect("bash starts");
    drop(walk);
    let group = Pid::from_child(&child);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        said.read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("it is ours") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    // There may be nobody left.
    let _ = kill_process_group(group, Signal::KILL);
    let text = reader.join().expect("it only reads").expect("text");
    assert!(status.is_some_and(|status| status.success()), "{status:?}:\n{text}");
    text
}

#[test]
fn what_the_guide_says_brings_a_cluster_back_from_its_bucket() {
    let text = walk(GUIDE, &[(29_000, 1), (29_100, 12), (29_200, 12)]);
    for expected in ["whole", "generation 2 begins from generation 1"] {
        assert!(text.contains(expected), "{expected:?} is not said:\n{text}");
    }
}

#[test]
fn five_minutes_on_a_laptop() {
    let text = walk(LAPTOP, &[(23_790, 12)]);
    for expected in ["acknowledgedWritesPresent  passed", "lose-all-memory-and-disks", "leavesNothing"] {
        assert!(text.contains(expected), "{expected:?} is not said:\n{text}");
    }
}

#[test]
fn what_the_page_of_sizes_computes() {
    let text = walk(SIZING, &[]);
    for row in SIZING.lines().filter(|line| line.starts_with("| VR") || line.starts_with("| Raft")) {
        let dollars = row.rsplit('|').nth(1).expect("a row ends with a bar");
        for sum in dollars.split('/').map(|sum| sum.trim().replace(',', "")) {
            assert!(text.contains(&sum), "{row}: {sum} is not computed:\n{text}");
        }
    }
}

/// Nobody is to find out at three in the morning that a command of a page never worked.
#[test]
fn each_block_of_commands_is_run_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages: Vec<_> = std::fs::read_dir(root.join("docs"))
        .expect("there are pages")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(root.join("README.md"));
    let mut unsaid = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("text");
        let mut before = "";
        for line in text.lines() {
            let said = ["<!-- not run: ", "<!-- run elsewhere: ", "<!-- transcript: "];
            let runs = before == WALKED || said.iter().any(|mark| before.starts_with(mark));
            if (line == "```sh" || line == "```console") && !runs {
                unsaid.push(format!("{}: before {line}: {before}", page.display()));
            }
            before = line;
        }
    }
    assert!(unsaid.is_empty(), "not run, and without a reason:\n{}", unsaid.join("\n"));
}
