//! Bounded exhaustive search: the real core, three replicas, and every order in which little can happen.
//!
//! Messages arrive at any time after they were sent, or never; those of one link in their order, but for as many as may
//! overtake others. A step delivers one, lets a timeout run out, crashes a replica with loss of memory (it starts again at
//! once), hands a write or a change of the members to the primary, or lets a disk finish. States that were seen before are
//! not looked at again.
//!
//! It promises that within the bounds no order of steps was left out, up to a collision of 64-bit hashes, and that the
//! story it tells is a shortest one. It does not repeat messages, and clocks move with timeouts only. Members change among
//! the three: their order, who votes and who learns, and who is none any more; nobody new joins. Which members a replica
//! was told of is durable at once.

#![allow(clippy::disallowed_types, reason = "sets and maps are only asked here, never gone through in order")]

mod change;
mod local;
mod show;
mod state;

use crate::oracle::Broken;
use local::{Action, Tables};
use state::State;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many take part.
pub const REPLICAS: usize = 3;

/// What may happen at most, in one story.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Timeouts of views, all replicas together.
    pub timeouts: u8,
    /// Crashes with loss of memory.
    pub crashes: u8,
    /// Writes.
    pub writes: u8,
    /// Changes of the members that are proposed.
    pub changes: u8,
    /// Messages that arrive before others sent earlier from the same replica to the same.
    pub overtakes: u8,
    /// Steps of a story.
    pub steps: u32,
    /// What replicas say of their standing arrives, too; without it, that is lost.
    pub standings: bool,
    /// Disks take their time: that a promise is durable is a step of its own.
    pub slow_votes: bool,
    /// A crash takes the vote record along: the recovery of the paper.
    pub without_votes: bool,
    /// A rule of the core that is broken.
    #[cfg(feature = "mutants")]
    pub mutant: Option<vr_core::mutants::Mutant>,
}

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Different states.
    pub states: u64,
    /// Steps taken, those into known states included.
    pub steps: u64,
    /// The longest story looked at.
    pub depth: u32,
    /// Whether nothing was left to try before the bound on steps was reached.
    pub exhausted: bool,
    /// A shortest story that breaks a rule: which, and its lines.
    pub broken: Option<(Broken, Vec<String>)>,
}

/// States are known by hashes that are as good as random.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed here");
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type Known = HashSet<u64, BuildHasherDefault<AsIs>>;

/// How a state was reached: the place of the one before, and the step.
type Way = (u32, Action);

/// States that a thread takes at once.
const PORTION: usize = 512;

/// A state that might be new.
struct Next {
    hash: u64,
    state: State,
    way: Way,
}

/// What a portion of the frontier leads to.
#[derive(Default)]
struct Leads {
    next: Vec<Next>,
    steps: u64,
    broken: Option<(Way, Broken)>,
}

/// Looks at everything that can happen within the bounds, on `jobs` threads; the result does not depend on how many.
#[must_use]
pub fn search(bounds: &Bounds, jobs: usize) -> Found {
    crate::run::keep_panics();
    let tables = Tables::new(bounds);
    let first = State::first(&tables);
    let mut known = Known::default();
    known.insert(first.hash());
    let mut ways: Vec<Vec<Way>> = Vec::new();
    let mut frontier = vec![first];
    let mut found = Found { states: 1, ..Found::default() };
    while found.depth < bounds.steps {
        let leads = expand(&tables, &frontier, &known, jobs);
        found.depth += 1;
        let broken = leads.iter().find_map(|lead| lead.broken.clone());
        let (mut states, mut reached) = (Vec::new(), Vec::new());
        for lead in leads {
            found.steps += lead.steps;
            for Next { hash, state, way } in lead.next {
                if known.insert(hash) {
                    states.push(state);
                    reached.push(way);
                }
            }
        }
        found.states += states.len() as u64;
        if let Some((last, broken)) = broken {
            let story = show::story(&tables, &ways, last, &broken);
            found.broken = Some((broken, story));
            return found;
        }
        if states.is_empty() {
            found.exhausted = true;
            return found;
        }
        ways.push(reached);
        frontier = states;
    }
    found
}

/// All steps from all states of the frontier, in its order.
fn expand(tables: &Tables, frontier: &[State], known: &Known, jobs: usize) -> Vec<Leads> {
    let portions: Vec<&[State]> = frontier.chunks(PORTION).collect();
    let taken = AtomicUsize::new(0);
    let work = || {
        tables.break_rules();
        let mut cache = local::Cache::default();
        let mut done = Vec::new();
        loop {
            let at = taken.fetch_add(1, Ordering::Relaxed);
            let Some(portion) = portions.get(at) else { break };
            let mut leads = Leads::default();
            for (i, state) in portion.iter().enumerate() {
                let place = u32::try_from(at * PORTION + i).expect("fewer than 2^32 states at once");
                for action in state.actions() {
                    let way = (place, action);
                    leads.steps += 1;
                    match state.after(tables, &mut cache, action) {
                        Ok(None) => {}
                        Ok(Some(state)) => {
                            let hash = state.hash();
                            if !known.contains(&hash) {
                                leads.next.push(Next { hash, state, way });
                            }
                        }
                        Err(broken) if leads.broken.is_none() => leads.broken = Some((way, broken)),
                        Err(_) => {}
                    }
                }
            }
            done.push((at, leads));
        }
        tables.keep_rules();
        done
    };
    let mut all: Vec<(usize, Leads)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("panics of the core are caught where it steps"))
            .collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, leads)| leads).collect()
}
