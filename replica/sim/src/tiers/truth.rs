//! What really was: every state and every committed entry of every generation, and where one left another.

use super::LINEAGE;
use crate::machine::Machine;
use crate::rng::Rng;
use bytes::Bytes;
use vr_checkpoint::Snapshot;
use vr_checkpoint::format::{LogEntry, Parent, hex};
use vr_checkpoint::restore::Loaded;
use vr_checkpoint::writer::Cut;
use vr_core::{Accepted, At, Op, RequestNumber, SessionId, StateMachine};
use vr_store::{Command, Options, Revision, Store};

/// Of all generations, the first one first.
pub(super) struct Truth {
    branches: Vec<Branch>,
    /// The machine of the newest.
    store: Store,
    requests: u64,
}

/// One generation.
struct Branch {
    /// Where it left an earlier one, unless it is the first.
    left: Option<(u64, u64)>,
    /// Op of its first state.
    first: u64,
    states: Vec<State>,
    /// The entries above its first state.
    entries: Vec<LogEntry>,
}

#[derive(Clone)]
struct State {
    snapshot: Snapshot,
    digest: [u8; 32],
    revision: i64,
}

impl Truth {
    pub(super) fn new() -> Truth {
        let mut store = Store::new(Options::default());
        let states = vec![State { snapshot: store.cut(Op(0), b""), digest: [0; 32], revision: 1 }];
        let first = Branch { left: None, first: 0, states, entries: Vec::new() };
        Truth { branches: vec![first], store, requests: 0 }
    }

    fn newest(&self) -> &Branch {
        self.branches.last().expect("there is a first")
    }

    /// The newest generation.
    pub(super) fn generation(&self) -> u64 {
        self.branches.len() as u64
    }

    /// Its newest op.
    pub(super) fn op(&self) -> u64 {
        self.newest().first + self.newest().entries.len() as u64
    }

    /// Commits another entry.
    pub(super) fn commit(&mut self, rng: &mut Rng, keys: u64, padding: usize) {
        self.requests += 1;
        let (op, mut body) = (self.op() + 1, Store::request(rng, self.requests, keys, padding));
        if self.store.reserved() <= self.store.revision() {
            // As after each restore: nothing can be written before.
            let mut reserve = Vec::new();
            Command::Reserve { revision: Revision(i64::MAX) }.encode(&mut reserve);
            body = reserve.into();
        }
        let accepted = Accepted {
            session: SessionId::default(),
            number: RequestNumber(self.requests),
            body: &body,
            reply_wanted: false,
        };
        self.store.execute(At { op: Op(op), time: op }, &[accepted], &mut Vec::new());
        let snapshot = self.store.cut(Op(op), b"");
        let revision = self.store.revision().0;
        let branch = self.branches.last_mut().expect("there is a first");
        let before = branch.states.last().expect("there is a first").digest;
        let digest = *blake3::hash(&[&before[..], &body].concat()).as_bytes();
        branch.entries.push(LogEntry { op, time_micros: op * 1000, digest, bytes: body });
        branch.states.push(State { snapshot, digest, revision });
    }

    fn state(&self, generation: u64, op: u64) -> Option<&State> {
        let branch = &self.branches[usize::try_from(generation).ok()?.checked_sub(1)?];
        branch.states.get(usize::try_from(op.checked_sub(branch.first)?).ok()?)
    }

    /// A cut at an op of a generation.
    pub(super) fn cut(&self, generation: u64, op: u64, reserved: i64) -> (Cut, Snapshot) {
        let State { snapshot, digest, revision } = self.state(generation, op).expect("it was there").clone();
        let cut = Cut {
            op,
            view: 0,
            epoch: 0,
            time_micros: op * 1000,
            log_digest: digest,
            revision,
            reserved_revision: reserved,
            configuration: serde_json::Value::Null,
        };
        (cut, snapshot)
    }

    /// The entries of a generation above `after`.
    pub(super) fn entries(&self, generation: u64, after: u64) -> &[LogEntry] {
        let branch = &self.branches[generation as usize - 1];
        let skip = usize::try_from(after.saturating_sub(branch.first)).unwrap_or(usize::MAX);
        &branch.entries[skip.min(branch.entries.len())..]
    }

    /// Op of the first state of a generation.
    pub(super) fn first(&self, generation: u64) -> u64 {
        self.branches[generation as usize - 1].first
    }

    /// How far what a generation did through `op` belongs to the newest one's past.
    pub(super) fn in_the_past(&self, generation: u64, op: u64) -> u64 {
        let (mut at, mut limit) = (self.generation(), u64::MAX);
        while at > generation {
            let (from, op) = self.branches[at as usize - 1].left.expect("only the first left none");
            (at, limit) = (from, limit.min(op));
        }
        // Who never led to the newest has done nothing that counts.
        if at == generation { op.min(limit) } else { 0 }
    }

    /// What was loaded is what was: its state, and every entry above it.
    pub(super) fn holds(&self, loaded: &Loaded) -> Result<(), String> {
        let (generation, op) = (loaded.manifest.generation, loaded.manifest.op);
        let Some(state) = self.state(generation, op) else {
            return Err(format!("generation {generation} never was at op {op}"));
        };
        let (is, was) = (loaded.snapshot.root(), state.snapshot.root());
        if is != was {
            return Err(format!("the state of op {op} had root {}, not {}", hex(&was[..4]), hex(&is[..4])));
        }
        let wrong = loaded.entries.iter().zip(self.entries(generation, op)).find(|(is, was)| is != was);
        if let Some((is, was)) = wrong {
            return Err(format!("the log of generation {generation} has {is:?} where {was:?} was committed"));
        }
        if loaded.entries.len() > self.entries(generation, op).len() {
            return Err("the log goes on beyond what was committed".to_owned());
        }
        Ok(())
    }

    /// Another generation begins with what was restored of an earlier one: the entries are executed on the loaded state,
    /// which must come to the state that was.
    pub(super) fn restore(&mut self, loaded: &Loaded, reserved: i64) -> Result<Parent, String> {
        let generation = loaded.manifest.generation;
        let mut store = Store::from_snapshot(loaded.snapshot.clone(), Options::default())
            .map_err(|error| format!("what was loaded is no store: {error}"))?;
        for entry in &loaded.entries {
            let (at, body): (_, &Bytes) = (At { op: Op(entry.op), time: entry.op }, &entry.bytes);
            let accepted = Accepted {
                session: SessionId::default(),
                number: RequestNumber(entry.op),
                body,
                reply_wanted: false,
            };
            store.execute(at, &[accepted], &mut Vec::new());
        }
        let op = loaded.manifest.op + loaded.entries.len() as u64;
        let was = self.state(generation, op).ok_or("it never was there")?.clone();
        let is = store.cut(Op(op), b"").root();
        if is != was.snapshot.root() {
            return Err(format!("replayed to op {op}, it came to another state than the one that was"));
        }
        store.after_restore(Revision(reserved));
        let snapshot = store.cut(Op(op), b"");
        let states = vec![State { snapshot, digest: was.digest, revision: store.revision().0 }];
        self.branches.push(Branch { left: Some((generation, op)), first: op, states, entries: Vec::new() });
        self.store = store;
        Ok(Parent { generation, op, root: loaded.manifest.state.root.clone() })
    }

    /// The lineage, as manifests name it.
    pub(super) fn lineage() -> String {
        LINEAGE.to_string()
    }
}
