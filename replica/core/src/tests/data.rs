//! Decisions as stories: the files of `testdata/` are what somebody asks and what comes of it.
//!
//! A case is a command, `----`, and the answer, up to an empty line; lines that begin with `#` are the story. What is set
//! up lasts to the end of the file. `VR_WRITE_DATA=1 cargo test -p vr-core --lib tests::data` writes the answers anew: read
//! what has changed.

use super::world::World;
use crate::configuration::{Configuration, Member};
use crate::placement::{Candidate, RoundTrips, arrange};
use crate::proposal::check;
use crate::quorum::{committed, largest_shared, majority};
use crate::select::{Vote, select};
use crate::sessions::{Sessions, Verdict};
use crate::*;
use std::fmt::Write as _;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");

/// Plays a file out; every answer must be the one that stands there.
fn play(file: &str, mut answer: impl FnMut(&str, &[&str]) -> String) {
    let path = format!("{DIR}/{file}");
    let text = std::fs::read_to_string(&path).expect("a story");
    let (mut out, mut lines, mut cases) = (String::new(), text.lines().peekable(), 0);
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
        let words: Vec<&str> = line.split_whitespace().collect();
        let given = format!("{}\n", answer(words[0], &words[1..]).trim_end());
        cases += 1;
        if std::env::var_os("VR_WRITE_DATA").is_none() {
            assert_eq!(given, expected, "{file}: `{line}`");
        }
        let _ = write!(out, "----\n{given}");
    }
    assert!(cases > 5, "{file} tells hardly anything");
    if std::env::var_os("VR_WRITE_DATA").is_some() {
        std::fs::write(path, out).expect("the folder is writable");
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

/// `9@a`: a number and a domain.
fn placed(text: &str) -> (u64, &str) {
    let (number_of, domain) = text.split_once('@').unwrap_or((text, ""));
    (number(number_of), domain)
}

/// `key=value`.
fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn ballot(text: &str) -> Ballot {
    let (epoch, view) = text.split_once('.').expect("a ballot is EPOCH.VIEW");
    Ballot { epoch: Epoch(number(epoch)), view: View(number(view)) }
}

fn ids(list: impl IntoIterator<Item = ReplicaId>) -> String {
    list.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn quorums() {
    play("quorums.txt", |command, words| match command {
        "majority" => majority(words.len()).to_string(),
        "committed" => {
            let span = words[0] == "span";
            let mut domains = Vec::new();
            let mut held: Vec<(Op, u16)> = words[usize::from(span)..]
                .iter()
                .map(|word| {
                    let (op, domain) = placed(word);
                    let known = domains.iter().position(|known| *known == domain).unwrap_or_else(|| {
                        domains.push(domain);
                        domains.len() - 1
                    });
                    (Op(op), u16::try_from(known).expect("few"))
                })
                .collect();
            committed(&mut held, span).to_string()
        }
        "intents" => {
            let mut ballots: Vec<Ballot> = words.iter().map(|word| ballot(word)).collect();
            largest_shared(&mut ballots).map_or_else(|| "none".to_owned(), |agreed| agreed.to_string())
        }
        other => panic!("there is no command {other}"),
    });
}

#[test]
fn orders() {
    let mut configuration = Configuration::default();
    play("orders.txt", |command, words| match command {
        "order" => {
            configuration = Configuration::bare(Epoch(0), words.iter().map(|word| ReplicaId(number(word))));
            format!("{} voters, quorum {}", configuration.order.len(), configuration.quorum())
        }
        "primaries" => ids((0..number(words[0])).map(|view| configuration.primary(View(view)))),
        "next" => {
            let without: Vec<u64> = words[1..].iter().map(|word| number(word)).collect();
            let next = configuration.next_led_by(ballot(words[0]), |id| !without.contains(&id.0));
            format!("{next}, led by {}", configuration.primary(next.view))
        }
        "arrange" => {
            let voters: Vec<(u64, &str)> =
                words.iter().filter(|word| !word.contains('=')).map(|word| placed(word)).collect();
            let candidates: Vec<Candidate<'_>> =
                voters.iter().map(|&(id, domain)| Candidate { id: ReplicaId(id), domain }).collect();
            let preferred: Vec<&str> =
                value(words, "prefer").map_or(Vec::new(), |list| list.split(',').collect());
            let trips: RoundTrips = words
                .iter()
                .filter_map(|word| {
                    let (pair, micros) = word.split_once('=')?;
                    let (from, to) = pair.split_once('-')?;
                    Some(((ReplicaId(number(from)), ReplicaId(number(to))), number(micros)))
                })
                .collect();
            ids(arrange(&candidates, &preferred, &trips))
        }
        other => panic!("there is no command {other}"),
    });
}

#[test]
fn selections() {
    let mut votes: Vec<Vote> = Vec::new();
    play("selections.txt", |command, words| match command {
        "vote" => {
            votes.push(Vote {
                from: ReplicaId(number(words[0])),
                last_normal: ballot(value(words, "normal").expect("normal=")),
                commit: Op(number(value(words, "commit").expect("commit="))),
                op: Op(number(value(words, "op").expect("op="))),
                headers: Vec::new(),
            });
            format!("{} votes", votes.len())
        }
        "select" => {
            let said = select(&votes).map_or_else(
                || "nothing".to_owned(),
                |chosen| {
                    format!(
                        "the log of {} through op {}, commit {}",
                        chosen.log.from, chosen.log.op, chosen.commit
                    )
                },
            );
            votes.clear();
            said
        }
        other => panic!("there is no command {other}"),
    });
}

#[test]
fn sessions() {
    let mut table = Sessions::default();
    // `c7/3`: client 7's session named by op 3. `r2/5`: replica 2's gateway in its start 5.
    fn session(text: &str) -> SessionId {
        let (name, incarnation) = text.split_once('/').expect("NAME/INCARNATION");
        let id = number(&name[1..]);
        let client = if name.starts_with('c') { SessionId::CLIENT | id } else { id };
        SessionId { client, incarnation: Incarnation(number(incarnation)) }
    }
    fn name(session: SessionId) -> String {
        let kind = if session.is_client() { 'c' } else { 'r' };
        format!("{kind}{}/{}", session.client & !SessionId::CLIENT, session.incarnation)
    }
    play("sessions.txt", |command, words| match command {
        "register" => {
            let op = Op(number(value(words, "op").expect("op=")));
            name(table.register(op, session(words[0])))
        }
        "ask" => match table.verdict(session(words[0]), RequestNumber(number(words[1]))) {
            Verdict::New => "new",
            Verdict::Seen => "seen",
            Verdict::Closed => "closed",
        }
        .to_owned(),
        "execute" => {
            let op = Op(number(value(words, "op").expect("op=")));
            let (from, to) = words[1].split_once("..").unwrap_or((words[1], words[1]));
            let numbers = (number(from)..=number(to)).map(RequestNumber);
            let admitted = numbers.filter(|request| table.admit(op, session(words[0]), *request)).count();
            format!("{admitted} executed")
        }
        "open" => table.len().to_string(),
        other => panic!("there is no command {other}"),
    });
}

fn member(text: &str) -> Member {
    let (id, domain) = placed(text);
    Member { domain: domain.to_owned(), ..Member::bare(ReplicaId(id)) }
}

#[test]
fn proposals() {
    let (mut current, mut highest) = (Configuration::default(), ReplicaId(0));
    let read = |words: &[&str]| {
        let mut read = Configuration { epoch: Epoch(number(words[0])), ..Configuration::default() };
        let mut learners = false;
        for word in words[1..].iter().take_while(|word| !word.contains('=')) {
            match *word {
                "learners" => learners = true,
                "span" => read.span_domains = true,
                word if learners => read.learners.push(member(word)),
                word => read.order.push(member(word)),
            }
        }
        read
    };
    play("proposals.txt", |command, words| match command {
        "in-force" => {
            current = read(words);
            highest = highest.max(current.highest_id());
            format!("highest id {highest}")
        }
        "propose" => {
            let replaces = match value(words, "replacing") {
                None => current.id(),
                Some(epoch) => Configuration { epoch: Epoch(number(epoch)), ..current.clone() }.id(),
            };
            let now = current.id().to_string();
            match check(&current, highest, replaces, &read(words)) {
                Ok(()) => "may follow".to_owned(),
                Err(refusal) => refusal.to_string().replace(&now, "ID"),
            }
        }
        other => panic!("there is no command {other}"),
    });
}

/// Replicas that talk to each other: what each is in, step by step.
#[test]
fn reconfigurations() {
    let mut world = World::new(3);
    let mut asked: Vec<(u64, u64)> = Vec::new();
    play("reconfigurations.txt", |command, words| {
        let id = || number(words[0]);
        match command {
            "members" => {
                world = World::new(id());
                asked.clear();
                world.run(100_000);
            }
            "write" => {
                let op = world.commit(id(), words[1]);
                return format!("op {op}");
            }
            "start" => {
                world.join(id(), number(words[2]));
                world.run(500_000);
            }
            "propose" => {
                let token = world.propose(id(), |next| {
                    let mut words = words[1..].iter();
                    while let (Some(what), Some(who)) = (words.next(), words.next()) {
                        let who = ReplicaId(number(who));
                        match *what {
                            "learner" => next.learners.push(Member::bare(who)),
                            "voter" => {
                                let at = next.learners.iter().position(|m| m.id == who).expect("it learns");
                                next.order.push(next.learners.remove(at));
                            }
                            "without" => {
                                next.order.retain(|m| m.id != who);
                                next.learners.retain(|m| m.id != who);
                            }
                            "first" => {
                                let at = next.order.iter().position(|m| m.id == who).expect("it votes");
                                next.order.rotate_left(at);
                            }
                            other => panic!("there is no change {other}"),
                        }
                    }
                });
                asked.push((id(), token));
            }
            "lead" => {
                return match world.hand_off(id(), number(words[1])) {
                    Ok(ballot) => format!("leads in {ballot}"),
                    Err(refusal) => refusal.to_string(),
                };
            }
            "away" => words.iter().for_each(|word| {
                world.cut_off.insert(number(word));
            }),
            "back" => world.cut_off.clear(),
            "crash" => world.crash(id()),
            "recover" => world.recover(id()),
            "wait" => world.run(id() * 1_000),
            other => panic!("there is no command {other}"),
        }
        if command == "propose" {
            world.run(300_000);
        }
        standing(&world, &mut asked)
    });
}

/// What became of the proposals, and where everybody stands.
fn standing(world: &World, asked: &mut Vec<(u64, u64)>) -> String {
    let mut text = String::new();
    asked.retain(|(id, token)| {
        let outcome = world.nodes.get(id).and_then(|node| node.reconfigured.get(token));
        match outcome {
            Some(Ok(epoch)) => drop(writeln!(text, "asked at {id}: epoch {epoch}")),
            Some(Err(refusal)) => drop(writeln!(text, "asked at {id}: {refusal}")),
            None => {}
        }
        outcome.is_none()
    });
    for (id, node) in &world.nodes {
        let r = &node.replica;
        let role = match r.configuration().is_voter(r.id()) {
            _ if r.is_primary() => " primary",
            true => "",
            false if r.configuration().is_learner(r.id()) => " learner",
            false => " not a member",
        };
        let end = if node.retired.is_some() { ", may go" } else { "" };
        let _ = writeln!(text, "{id}: {:?} {} op {}{role}{end}", r.status(), r.ballot(), r.commit());
    }
    text
}
