//! What must hold, whatever happens: each oracle a named predicate over what the world saw, checked at the moment it
//! could first be false.
//!
//! An oracle knows only what left a replica (effects, executions, durable records) and what clients asked and were
//! told; it never trusts a replica's word about itself.

mod acknowledged;
mod epochs;
mod gateways;
mod history;
pub mod linear;
mod promises;

pub use acknowledged::Acknowledged;
pub use epochs::Epochs;
pub use gateways::{Gateways, Outcome};
pub use history::History;
pub use promises::Promises;

use std::fmt;

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The oracle's name.
    pub oracle: &'static str,
    /// What was seen and what should have been.
    pub detail: String,
}

impl Broken {
    /// States what was broken.
    #[must_use]
    pub fn new(oracle: &'static str, detail: String) -> Broken {
        Broken { oracle, detail }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.detail)
    }
}

/// The result of a check.
pub type Check = Result<(), Broken>;

/// Fails with the named oracle unless the predicate holds.
macro_rules! require {
    ($holds:expr, $oracle:literal, $($detail:tt)+) => {
        if !$holds {
            return Err($crate::oracle::Broken::new($oracle, format!($($detail)+)));
        }
    };
}
pub(crate) use require;
