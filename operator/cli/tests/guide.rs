//! The commands of `docs/` and the README that a machine can run, as they stand there: only the ports are others. Every other
//! block of commands says why it is not run.

mod common;
#[path = "common/dev.rs"]
mod running;
#[path = "common/s3.rs"]
mod s3;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use running::{Dev, put, settled, tiers};
use rustix::process::{Pid, Signal, kill_process_group};
use s3::S3Server;
use vr::dev::ports;

const GUIDE: &str = include_str!("../../../docs/disaster-recovery.md");
const LAPTOP: &str = include_str!("../../../docs/start-laptop.md");
const SIZING: &str = include_str!("../../../docs/sizing.md");
const PATIENCE: Duration = Duration::from_secs(180);

/// Before a block that a test here runs.
const WALKED: &str = "<!-- walked -->";

/// Below a heading, the blocks that follow the mark.
fn walked(page: &'static str, heading: &str) -> Vec<&'static str> {
    let (_, below) = page.split_once(&format!("{heading}\n")).expect("the page has the heading");
    let section = below.split("\n## ").next().expect("it has an end");
    let blocks = section.split("<!-- walked -->\n```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("the block ends").0).collect()
}

/// The only such block of a page.
fn the_walk(page: &'static str, heading: &str) -> &'static str {
    let [block] = walked(page, heading)[..] else { panic!("there is not one walk below {heading}") };
    block
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

/// Runs what a page says, in a directory of its own; what was printed.
fn walk(block: &str, ranges: &[(u16, usize)]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    walk_in(dir.path(), &with_free_ports(block, ranges))
}

fn walk_in(dir: &Path, commands: &str) -> String {
    // In a file: what stands in the command line of a shell, `pgrep` would find.
    std::fs::write(dir.join("walk.sh"), commands).expect("written");
    let program = Path::new(env!("CARGO_BIN_EXE_vr")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let (mut said, whole) = std::io::pipe().expect("a pipe");
    let mut walk = Command::new("bash");
    walk.args(["-euo", "pipefail", "walk.sh"])
        .current_dir(dir)
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
    let text = walk(the_walk(GUIDE, "## Rehearse it"), &[(29_000, 1), (29_100, 12), (29_200, 12)]);
    for expected in ["whole", "generation 2 begins from generation 1"] {
        assert!(text.contains(expected), "{expected:?} is not said:\n{text}");
    }
}

/// A bucket and nothing else; its names in the place of the page's, and every block that stands there.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_guide_says_leads_from_a_bucket_to_a_served_cluster() {
    let (objects, lost) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let s3 = S3Server::start(objects.path(), &["--bucket", "somebodys"]);
    let flags = ["--s3-endpoint", &s3.endpoint, "--s3-bucket", "somebodys", "--s3-prefix", "team/prod"];
    let dev = Dev::start(lost.path(), &[&["--replicas", "1"], &flags[..]].concat());
    settled(&dev).await;
    put(&dev.client(), "once/written").await;
    tiers(&dev, |report, tier| tier.tier != "objectStore" || tier.recovery_op >= report.commit).await;
    dev.interrupt();
    drop(lost);

    let blocks = walked(GUIDE, "## Only the bucket is left");
    let yours = |block: &str| {
        let names = [
            ("BUCKET=shop-checkpoints PREFIX=shop/shop ", "BUCKET=somebodys PREFIX=team/prod "),
            ("https://s3.eu-central-1.amazonaws.com --s3-region eu-central-1", &*s3.endpoint),
        ];
        names.iter().fold(block.to_owned(), |block, (theirs, yours)| {
            assert!(block.contains(theirs), "the page does not say {theirs:?} any more");
            block.replace(theirs, yours)
        })
    };
    let [look, take, serve] = blocks[..] else { panic!("there are {} blocks", blocks.len()) };
    let dir = tempfile::tempdir().expect("a directory");
    let keys = "export AWS_ACCESS_KEY_ID=vr AWS_SECRET_ACCESS_KEY=only-on-this-machine\n";
    let look = format!("{keys}{}", yours(look));
    let text = walk_in(dir.path(), &format!("{look}{take}"));
    assert!(text.contains("REACHES OP") && text.contains("whole"), "{text}");
    let taken = std::fs::read_to_string(dir.path().join("keys.jsonl")).expect("it was written");
    assert!(taken.contains("once/written"), "{taken}");

    // It stays until Ctrl-C: whoever reads on has another terminal.
    let beside = format!(
        "{look}{} >started &\ndev=$!\nuntil grep -q http started; do sleep 0.2; done\n\
         at=$(grep -o '127.0.0.1:[0-9]*' started | head -1)\nvr bench put --endpoints $at --total 10 --sessions 1\n\
         vr bench get --endpoints $at --total 10 --sessions 1\nkill -INT $dev\nwait $dev\ncat started\n",
        serve.trim_end()
    );
    let text = walk_in(dir.path(), &beside);
    assert!(text.contains("generation 2 begins from generation 1"), "{text}");
}

#[test]
fn five_minutes_on_a_laptop() {
    let text = walk(the_walk(LAPTOP, "# Five minutes on a laptop"), &[(23_790, 12)]);
    for expected in ["acknowledgedWritesPresent  passed", "lose-all-memory-and-disks", "leavesNothing"] {
        assert!(text.contains(expected), "{expected:?} is not said:\n{text}");
    }
}

#[test]
fn what_the_page_of_sizes_computes() {
    let text = walk(the_walk(SIZING, "## What it costs"), &[]);
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
        let (mut before, mut inside) = ("", false);
        for line in text.lines() {
            let said = ["<!-- not run: ", "<!-- run elsewhere: ", "<!-- transcript: "];
            let runs = before == WALKED || said.iter().any(|mark| before.starts_with(mark));
            // Text that shows no commands says so: ```text.
            let commands = ["```", "```sh", "```console"].contains(&line) && !inside;
            if commands && !runs {
                unsaid.push(format!("{}: before {line}: {before}", page.display()));
            }
            inside ^= line.starts_with("```");
            before = line;
        }
    }
    assert!(unsaid.is_empty(), "not run, and without a reason:\n{}", unsaid.join("\n"));
}
