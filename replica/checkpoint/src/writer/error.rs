//! Why nothing was written, and what to do about it.

use super::head::ATTEMPTS;
use crate::format::FormatError;
use crate::store::StoreError;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This process belongs to the past.
    #[error(
        "{store}: fenced: HEAD is of generation {head}{}, this process is of generation {mine}. The lineage was restored \
         elsewhere: stop this cluster for good",
        if .head == .mine { " with another token" } else { "" }
    )]
    Fenced {
        /// The tier.
        store: String,
        /// Generation of HEAD.
        head: u64,
        /// Generation of the writer.
        mine: u64,
    },
    /// The tier is not as it was left; a person must look.
    #[error("{store}: {reason}")]
    Broken {
        /// The tier.
        store: String,
        /// What was found and what to do.
        reason: String,
    },
    /// Others are moving HEAD all the time; the next run tries again.
    #[error("{store}: HEAD moved under each of {ATTEMPTS} attempts; the next run tries again")]
    Contended {
        /// The tier.
        store: String,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object on the tier.
    #[error("{store}: {source}")]
    Format {
        /// The tier.
        store: String,
        /// What is wrong with it.
        source: FormatError,
    },
}
