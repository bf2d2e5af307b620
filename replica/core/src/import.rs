//! A state on its way in from another replica, in wants and portions that only the state machine understands.
//!
//! The protocol carries them: several wants at once, each repeated until it is answered, over changes of the source and of
//! its cut. What differs between two states, and how to name it, is the machine's: a machine on a tree asks for the pages
//! that it lacks; one without asks for everything, in order ([`Sequence`](crate::Sequence)).

use crate::state_machine::StateMachine;
use bytes::Bytes;
use thiserror::Error;

/// Why a portion, or a whole state, was not taken in. It is wanted again, until there have been too many faults.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// It is not what a sender of this release writes.
    #[error("malformed: {0}")]
    Malformed(String),
    /// It is not what was asked for: its digest is another one.
    #[error("not what was asked for: {0}")]
    Digest(String),
    /// The end was asked for too early.
    #[error("not all of the state has arrived")]
    Incomplete,
}

/// A state on its way in, beside the running one, which stays as it is.
pub trait Import: Sized {
    /// What comes out.
    type Machine;

    /// What to ask the sender for next; `None` while that depends on answers that are under way, and when nothing is
    /// missing any more. Never the same twice at one time, and never empty.
    fn want(&mut self) -> Option<Bytes>;

    /// Takes in the answer to a want, and checks it as far as it can be checked now: the sooner a wrong sender is noticed,
    /// the better. What is missing afterwards is the matter of later wants, after an error too.
    ///
    /// # Errors
    /// When the portion is not the answer to this want, or brings nothing.
    fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError>;

    /// The state, when no want is left and none is under way. Its digest is the root that was asked for.
    ///
    /// # Errors
    /// When it is not all there, or not the state asked for.
    fn end(self) -> Result<Self::Machine, ImportError>;
}

/// Carries an import to its end from a snapshot in this process: for tests, and for loading what was kept here.
///
/// # Errors
/// The first fault: a snapshot at hand does not answer better the second time.
pub fn import_from<S: StateMachine>(
    snapshot: &S::Snapshot,
    mut import: S::Import,
    max_bytes: usize,
) -> Result<S, ImportError> {
    while let Some(want) = import.want() {
        let portion = S::export(snapshot, &want, max_bytes);
        import.take(&want, &portion)?;
    }
    import.end()
}
