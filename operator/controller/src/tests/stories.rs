//! What the operator does in situations that people have names for: the files of `testdata/stories/`.
//!
//! A case is a command, `----`, and what the operator did in the meantime (with seconds from the beginning of the
//! file) and says at its end, up to an empty line; lines that begin with `#` are the story. `VR_WRITE_DATA=1 cargo
//! test -p vr-operator` writes the answers anew: read what has changed.

use super::world::{Source, World, wanted};
use crate::*;
use std::fmt::Write as _;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/stories");

#[test]
fn the_stories_end_as_they_are_told() {
    let mut names: Vec<_> = std::fs::read_dir(DIR)
        .expect("testdata/ is there")
        .map(|file| file.expect("it can be listed").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        play(&name);
    }
}

fn play(file: &str) {
    let path = format!("{DIR}/{file}");
    let write = std::env::var_os("VR_WRITE_DATA").is_some();
    let text = std::fs::read_to_string(&path).expect("a story");
    let (mut out, mut lines) = (String::new(), text.lines().peekable());
    let mut world = World::new(wanted(3));
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        assert_eq!(lines.next(), Some("----"), "{file}: after `{line}`");
        let mut expected = String::new();
        while let Some(next) = lines.next_if(|next| !next.is_empty()) {
            let _ = writeln!(expected, "{next}");
        }
        let given = format!("{}\n", tell(&mut world, line));
        assert!(write || given == expected, "{file}: `{line}`\nis told as\n{expected}\nand was\n{given}");
        let _ = write!(out, "----\n{given}");
    }
    if write {
        std::fs::write(path, out).expect("the folder is writable");
    }
}

/// Does what a line says and lets the operator act; what came of it.
fn tell(world: &mut World, line: &str) -> String {
    world.log.clear();
    let mut seconds = 60;
    for command in line.split(", ") {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("`{line}`: a number"));
        let id = || ReplicaId(number(1));
        let slot = |world: &World| world.slot_of(id()).unwrap_or_else(|| panic!("`{line}`: no member"));
        match words[0] {
            "wait" => seconds = i64::try_from(number(1)).expect("seconds"),
            "replicas" => world.wanted.replicas = usize::try_from(number(1)).expect("few"),
            "prefer" => world.wanted.preferred = words[1..].iter().map(|z| Zone::from(*z)).collect(),
            "image" => world.wanted.template = Template::from(words[1]),
            "fence" => drop(world.wanted.fenced.insert(id())),
            "hibernate" => world.wanted.hibernated = true,
            "wake" => world.wanted.hibernated = false,
            "delete-cluster" => world.wanted.deleting = true,
            "unprotect" => world.wanted.protected = false,
            "pause" => world.wanted.paused = true,
            "unpause" => world.wanted.paused = false,
            "forget-status" => world.status = vr_api::VRClusterStatus::default(),
            "kill" => world.kill(slot(world)),
            "delete-pod" => world.delete_pod(slot(world)),
            "delete-volume" => world.delete_volume(slot(world)),
            "broken" => {
                let trouble = match words[2] {
                    "image" => Some(Trouble::Image),
                    "memory" => Some(Trouble::OutOfMemory),
                    _ => None,
                };
                world.trouble(slot(world), trouble);
            }
            "off" => world.power(words[1], false),
            "on" => world.power(words[1], true),
            "cut" => world.cut(words[1], true),
            "heal" => world.cut(words[1], false),
            "remove-node" => world.remove_node(words[1]),
            "drain" | "undrain" => {
                let node = world.nodes.get_mut(&NodeName::from(words[1])).expect("a node");
                node.draining = words[0] == "drain";
            }
            "found" => world.found.push(Find {
                source: words[1].to_owned(),
                op: Op(number(2)),
                time: Some(Moment(world.now - 3)),
                flaw: None,
            }),
            "acknowledge" => {
                let plan = world.status.recovery_plan.as_ref().expect("there is a plan");
                world.acknowledged.insert(plan.nonce.clone());
            }
            "on-volume" => drop(world.on_volume.insert(slot(world), number(2))),
            "nothing-is-saved" => world.saves = false,
            "plan" => {
                let plan = world.status.recovery_plan.as_ref().expect("there is a plan");
                for candidate in &plan.candidates {
                    let remark = candidate.remark.as_ref().map_or(String::new(), |r| format!(" ({r})"));
                    world.log.push(format!("{} at op {}{remark}", candidate.source, candidate.op));
                }
                seconds = 0;
            }
            "roll-back" => world.roll_back(number(1)),
            "begin-with-a-copy" => world.wanted.begins_with = true,
            "copied" => world.copied(number(1), number(2)),
            "refused" => world.origin = Origin::Refused(words[1..].join(" ")),
            "allowed" => world.origin = Origin::Absent,
            "automatic" => world.wanted.automatic = Some(Seconds(number(1).cast_signed())),
            "blind" => {
                let source = Source::ALL.into_iter().find(|s| format!("{s:?}").to_lowercase() == words[1]);
                world.blind.insert(source.expect("a source"));
            }
            "ship-nothing" => world.shipless = true,
            "ship" => world.shipless = false,
            "rezone" => world.rezone(id(), Zone::from(words[2])),
            "relabel" => world.relabel(slot(world), ReplicaId(number(2))),
            "see" => world.blind.clear(),
            _ => panic!("there is no command `{command}`"),
        }
    }
    world.run(seconds);
    let condition = |kind: &str| {
        let found = world.status.conditions.iter().find(|c| c.type_ == kind);
        found.map_or_else(|| "none".to_owned(), |c| format!("{} {}", c.status, c.reason))
    };
    let ready = world.status.conditions.iter().find(|c| c.type_ == "Ready");
    let voters: Vec<String> =
        world.status.replica_statuses.iter().filter(|r| r.voter).map(|r| r.id.to_string()).collect();
    let primary = world.status.primary.as_ref().map_or_else(|| "nobody".to_owned(), |p| p.id.to_string());
    // What is done again and again is told once.
    let done = |line: &str| line.split_once(' ').map_or(String::new(), |(_, step)| step.to_owned());
    let mut told: Vec<String> = Vec::new();
    for line in &world.log {
        if told.last().is_none_or(|last| done(last) != done(line)) {
            told.push(line.clone());
        }
    }
    let mut out = told.join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "available: {}; ready: {}", condition("Available"), condition("Ready"));
    let _ = writeln!(
        out,
        "voters {}; {primary} leads; tolerates {}",
        voters.join(" "),
        world.status.fault_tolerance.unwrap_or(-1)
    );
    let _ = write!(out, "{}", ready.map_or("", |c| c.message.as_str()));
    out
}
