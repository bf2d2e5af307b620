//! The state machines that a world can replicate, and the tap through which the oracles watch them execute.

mod log;
mod store;
mod toy;

pub use toy::{Toy, appended};

use crate::coverage::Seen;
use crate::rng::{Rng, mix};
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;
use vr_core::{
    Accepted, At, Digest, Import, ImportError, Op, RequestNumber, SessionId, StateMachine, import_from,
};

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
    /// The digest of a snapshot: what [`StateMachine::import`] is told to bring.
    fn root(snapshot: &Self::Snapshot) -> Digest;
    /// The cell that a request appends to, and what; `None` from a machine without cells ([`crate::oracle::linear`]).
    fn appends(_body: &[u8]) -> Option<(u64, u64)> {
        None
    }
    /// A cell as a reply shows it.
    fn cell_of(_reply: &Self::Reply) -> Option<(u64, u64)> {
        None
    }
    /// A cell as a reader sees it.
    fn cell(&self, _key: u64) -> Option<(u64, u64)> {
        None
    }
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

    /// The machine itself.
    #[must_use]
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// A machine loaded from a snapshot, the way a checkpoint is: by export and import, its digest compared.
    ///
    /// # Errors
    /// What does not fit, when the machine's own export does not import to the same root.
    pub fn load(snapshot: &M::Snapshot, portion: usize, tap: Tap) -> Result<Tapped<M>, String> {
        let import = M::empty().import(Op(0), M::root(snapshot), None);
        let inner = import_from(snapshot, import, portion)
            .map_err(|error| format!("a machine did not take in its own export: {error}"))?;
        Ok(Tapped { inner, tap })
    }
}

impl<M: Machine> StateMachine for Tapped<M> {
    type Reply = M::Reply;
    type Snapshot = M::Snapshot;
    type Import = TappedImport<M>;

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
    fn export(snapshot: &M::Snapshot, want: &[u8], max_bytes: usize) -> Bytes {
        M::export(snapshot, want, max_bytes)
    }
    fn import(&self, cut: Op, root: Digest, earlier: Option<TappedImport<M>>) -> TappedImport<M> {
        let import = self.inner.import(cut, root, earlier.map(|earlier| earlier.import));
        TappedImport { import, tap: self.tap.clone() }
    }
}

/// A watched machine on its way in.
pub struct TappedImport<M: Machine> {
    import: M::Import,
    tap: Tap,
}

impl<M: Machine> Import for TappedImport<M> {
    type Machine = Tapped<M>;

    fn want(&mut self) -> Option<Bytes> {
        self.import.want()
    }
    fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
        self.import.take(want, portion)
    }
    fn end(self) -> Result<Tapped<M>, ImportError> {
        Ok(Tapped { inner: self.import.end()?, tap: self.tap })
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
