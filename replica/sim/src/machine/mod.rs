//! The state machines that a world can replicate, and the tap through which the oracles watch them execute.

mod store;
mod toy;

pub use toy::Toy;

use crate::coverage::Seen;
use crate::rng::{Rng, mix};
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;
use vr_core::{Accepted, At, Chunk, Digest, Op, RequestNumber, SessionId, StateMachine};

/// What a world needs to know of a state machine beyond what the protocol does.
pub trait Machine: StateMachine {
    /// An empty one.
    fn empty() -> Self;
    /// A request that a client might make. `unique` is in no other request, and makes the body unique.
    fn request(rng: &mut Rng, unique: u64, keys: u64, padding: usize) -> Bytes;
    /// A number that equal replies share.
    fn reply_digest(reply: &Self::Reply) -> u64;
    /// A number that equal states share, if it costs next to nothing; 0 otherwise. Equal histories must give equal
    /// numbers whether the state was executed or imported.
    fn fingerprint(&self) -> u64;
    /// The digest of a snapshot: what [`StateMachine::import_end`] gives for the same contents.
    fn root(snapshot: &Self::Snapshot) -> Digest;
    /// What a reply is counted as, where a sweep must meet each kind of it.
    fn seen(_reply: &Self::Reply) -> Option<Seen> {
        None
    }
}

/// One entry's execution on one replica.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Where in history.
    pub at: At,
    /// Session, number and digest of the body of each request that was executed.
    pub requests: Vec<(SessionId, RequestNumber, u64)>,
    /// The state's fingerprint afterwards.
    pub fingerprint: u64,
}

/// Executions since the world last looked.
#[derive(Clone, Debug, Default)]
pub struct Tap {
    executions: Rc<RefCell<Vec<Execution>>>,
    corrupt: bool,
}

impl Tap {
    /// A tap on a machine that now and then executes a request twice: sabotage, for the oracles to find.
    #[must_use]
    pub fn on_a_corrupt_machine() -> Tap {
        Tap { corrupt: true, ..Tap::default() }
    }

    /// Takes what has been executed since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Execution> {
        self.executions.take()
    }
}

/// A machine whose executions can be watched.
pub struct Tapped<M> {
    inner: M,
    tap: Tap,
}

impl<M: Machine> Tapped<M> {
    /// An empty machine that reports to `tap`.
    #[must_use]
    pub fn empty(tap: Tap) -> Tapped<M> {
        Tapped { inner: M::empty(), tap }
    }

    /// A machine loaded from a snapshot, the way a checkpoint is: by export and import, its digest compared.
    ///
    /// # Errors
    /// What does not fit, when the machine's own export does not import to the same root.
    pub fn load(snapshot: &M::Snapshot, portion: usize, tap: Tap) -> Result<Tapped<M>, String> {
        let mut inner = M::empty().import_begin();
        let mut cursor = Bytes::new();
        loop {
            let Chunk { bytes, next } = M::export(snapshot, &cursor, portion);
            if !inner.import(&bytes) {
                return Err(format!("a portion of {} bytes of its own export was refused", bytes.len()));
            }
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        let (arrived, sent) = (inner.import_end(), M::root(snapshot));
        if arrived != sent {
            return Err(format!(
                "exported a state of root {} and imported one of {}",
                sent.short(),
                arrived.short()
            ));
        }
        Ok(Tapped { inner, tap })
    }
}

impl<M: Machine> StateMachine for Tapped<M> {
    type Reply = M::Reply;
    type Snapshot = M::Snapshot;

    fn execute(&mut self, at: At, requests: &[Accepted<'_>], replies: &mut Vec<M::Reply>) {
        self.inner.execute(at, requests, replies);
        if self.tap.corrupt && at.op.0.is_multiple_of(8) {
            let again: Vec<_> = requests.iter().map(|r| Accepted { reply_wanted: false, ..*r }).collect();
            self.inner.execute(at, &again, replies);
        }
        let requests = requests.iter().map(|r| (r.session, r.number, digest(r.body))).collect();
        let fingerprint = self.inner.fingerprint();
        self.tap.executions.borrow_mut().push(Execution { at, requests, fingerprint });
    }
    fn cut(&mut self, op: Op, core_state: &[u8]) -> M::Snapshot {
        self.inner.cut(op, core_state)
    }
    fn core_state(&self) -> Vec<u8> {
        self.inner.core_state()
    }
    fn export(snapshot: &M::Snapshot, cursor: &[u8], max_bytes: usize) -> Chunk {
        M::export(snapshot, cursor, max_bytes)
    }
    fn import_begin(&self) -> Self {
        Tapped { inner: self.inner.import_begin(), tap: self.tap.clone() }
    }
    fn import(&mut self, chunk: &[u8]) -> bool {
        self.inner.import(chunk)
    }
    fn import_end(&mut self) -> Digest {
        self.inner.import_end()
    }
}

/// A quick digest of bytes, for comparisons inside one run.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut h = mix(bytes.len() as u64);
    for word in &mut words {
        h = mix(h ^ u64::from_le_bytes(word.try_into().expect("chunks of eight")));
    }
    words.remainder().iter().fold(h, |h, b| mix(h ^ u64::from(*b)))
}
