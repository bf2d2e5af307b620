//! Names for checkpoints that shall stay: as long as one has a name, no rule of retention lets go of it.
//!
//! HEAD is moved by compare-and-swap, so this may be done while a replica writes to the tier, where the store lets two
//! processes write (a bucket does, a directory does not). The log is not kept for a pinned checkpoint: it can be restored as
//! it is.

use crate::format::{FormatError, Head, Manifest, Retained};
use crate::store::{ObjectStore, StoreError, Swapped};
use ulid::Ulid;

/// More would let HEAD grow beyond what it may be.
const MOST: usize = 64;
/// Of a name.
const LONGEST: usize = 63;
/// Swaps of HEAD that others may spoil.
const ATTEMPTS: usize = 10;

/// Why nothing was pinned or unpinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The tier.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// HEAD or the manifest cannot be read.
    #[error("{store}: {source}")]
    Format {
        /// The tier.
        store: String,
        /// What is wrong.
        source: FormatError,
    },
    /// It makes no sense here.
    #[error("{store}: {reason}")]
    Refused {
        /// The tier.
        store: String,
        /// What was found, and what to do.
        reason: String,
    },
}

/// Gives the newest retained checkpoint, or the one at `op`, a name; which one it is.
///
/// # Errors
/// See [`PinError`]; nothing is changed then.
pub async fn pin(
    store: &dyn ObjectStore,
    lineage: &str,
    name: &str,
    op: Option<u64>,
) -> Result<Retained, PinError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(allowed) {
        let reason = format!(
            "{name:?} is no name for a checkpoint: up to {LONGEST} letters, digits, dots, dashes and underscores"
        );
        return Err(refused(store, reason));
    }
    // One that nobody can read is not worth keeping.
    let head = read(store, lineage).await?.0;
    let key = &head.retained[chosen(&head, op).map_err(|reason| refused(store, reason))?].manifest;
    let missing = || refused(store, format!("{key} is missing although HEAD retains it: verify the tier"));
    let bytes = store.get(key).await?.ok_or_else(missing)?;
    Manifest::parse(key, &bytes).map_err(|source| PinError::Format { store: store.describe(), source })?;
    edit(store, lineage, |head| {
        let gone = || format!("{key} is no longer retained: choose another checkpoint");
        let place = head.retained.iter().position(|retained| retained.manifest == *key).ok_or_else(gone)?;
        match head.retained.iter().find(|retained| retained.pins.iter().any(|pin| pin == name)) {
            Some(pinned) if pinned.manifest == *key => return Ok(pinned.clone()),
            Some(pinned) => {
                return Err(format!(
                    "{name:?} is the name of the checkpoint at op {}: unpin it first",
                    pinned.op
                ));
            }
            None => {}
        }
        if head.retained.iter().map(|retained| retained.pins.len()).sum::<usize>() >= MOST {
            return Err(format!("there are {MOST} pins: unpin one first"));
        }
        head.retained[place].pins.push(name.to_owned());
        Ok(head.retained[place].clone())
    })
    .await
}

/// Takes a name away; which checkpoint had it. The rules of retention hold for that one again.
///
/// # Errors
/// See [`PinError`]; nothing is changed then.
pub async fn unpin(store: &dyn ObjectStore, lineage: &str, name: &str) -> Result<Retained, PinError> {
    // Whether an earlier round has done it is not known: then nothing is left to do.
    let mut had = None;
    edit(store, lineage, move |head| {
        let found = head.retained.iter_mut().find(|retained| retained.pins.iter().any(|pin| pin == name));
        match (found, &had) {
            (Some(retained), _) => {
                retained.pins.retain(|pin| pin != name);
                had = Some(retained.clone());
                Ok(retained.clone())
            }
            (None, Some(done)) => Ok(done.clone()),
            (None, None) => Err(format!("no checkpoint is pinned as {name:?}")),
        }
    })
    .await
}

/// The pins of a tier, each with its checkpoint, oldest checkpoint first.
///
/// # Errors
/// See [`PinError`].
pub async fn pins(store: &dyn ObjectStore, lineage: &str) -> Result<Vec<(String, Retained)>, PinError> {
    let head = read(store, lineage).await?.0;
    let of = |retained: Retained| retained.pins.clone().into_iter().map(move |pin| (pin, retained.clone()));
    Ok(head.retained.into_iter().flat_map(of).collect())
}

fn chosen(head: &Head, op: Option<u64>) -> Result<usize, String> {
    let found = head.retained.iter().rposition(|retained| op.is_none_or(|op| retained.op == op));
    found.ok_or_else(|| match op {
        Some(op) => format!("no checkpoint at op {op} is retained there"),
        None => "no checkpoint is retained there".to_owned(),
    })
}

fn refused(store: &dyn ObjectStore, reason: String) -> PinError {
    PinError::Refused { store: store.describe(), reason }
}

async fn read(store: &dyn ObjectStore, lineage: &str) -> Result<(Head, crate::store::Tag), PinError> {
    let (bytes, tag) = store.head().await?.ok_or_else(|| refused(store, "there is no HEAD".to_owned()))?;
    let head =
        Head::parse("HEAD", &bytes).map_err(|source| PinError::Format { store: store.describe(), source })?;
    if head.lineage != lineage {
        return Err(refused(store, format!("HEAD belongs to lineage {}, not {lineage}", head.lineage)));
    }
    Ok((head, tag))
}

/// Changes HEAD, again if another one has written between; what `change` says in the end.
async fn edit(
    store: &dyn ObjectStore,
    lineage: &str,
    mut change: impl FnMut(&mut Head) -> Result<Retained, String>,
) -> Result<Retained, PinError> {
    for _ in 0..ATTEMPTS {
        let (before, tag) = read(store, lineage).await?;
        let mut head = before.clone();
        let retained = change(&mut head).map_err(|reason| refused(store, reason))?;
        if head == before {
            return Ok(retained);
        }
        head.version += 1;
        head.nonce = Ulid::generate().to_string();
        match store.swap_head(Some(&tag), head.encode().into()).await? {
            Swapped::Yes => return Ok(retained),
            Swapped::Gone => return Err(refused(store, "HEAD is gone: somebody deleted it".to_owned())),
            // Whoever has swapped after an unknown outcome keeps what was changed: the next round sees it.
            Swapped::Lost | Swapped::Unknown => {}
        }
    }
    Err(refused(store, format!("HEAD moved under each of {ATTEMPTS} attempts: try again")))
}
