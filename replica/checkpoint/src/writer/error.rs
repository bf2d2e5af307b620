//! Why nothing was written, and what to do about it.

use super::head::ATTEMPTS;
use crate::format::FormatError;
use crate::store::StoreError;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This process belongs to the past.
    #[error("{store}: fenced: {}", fenced(*.head, *.mine))]
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

fn fenced(head: u64, mine: u64) -> String {
    if head == mine {
        return format!(
            "another restore of the lineage has begun generation {mine} here, and only one of two can go on. Stop this \
             cluster and keep the other; if this one is to be kept, stop the other and restore once more, which begins \
             generation {}",
            mine + 1
        );
    }
    format!(
        "HEAD is of generation {head}, this process is of generation {mine}. The lineage was restored elsewhere: stop \
         this cluster for good"
    )
}
