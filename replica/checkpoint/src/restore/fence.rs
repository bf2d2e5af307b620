//! The step from which on everything older stays out.

use crate::format::{Head, HeadState, Parent};
use crate::store::{ObjectStore, Swapped};
use ulid::Ulid;

/// Attempts at moving HEAD to a new generation.
const ATTEMPTS: usize = 20;

/// Makes `generation` the lineage's present on a tier: everything older is fenced from here on. `restore` is the
/// caller's own token, random for each restore: repeating one is no error, while a second restore that chose the same
/// generation is told so, even if it began from the same point.
///
/// # Errors
/// Somebody else made this or a later generation; or the tier cannot be written.
pub async fn fence(
    store: &dyn ObjectStore,
    parent: &Parent,
    generation: u64,
    reserved_revision: i64,
    restore: &str,
) -> Result<(), String> {
    for _ in 0..ATTEMPTS {
        let found = store.head().await.map_err(|e| e.to_string())?;
        let (bytes, tag) = found.ok_or_else(|| format!("{}: there is no HEAD", store.describe()))?;
        let mut head = Head::parse("HEAD", &bytes).map_err(|e| e.to_string())?;
        if head.generation == generation && head.token == restore {
            return Ok(());
        }
        if head.generation >= generation {
            return Err(format!(
                "{}: superseded: HEAD is of generation {} already, made by another restore; this one would make \
                 {generation}. Take the inventory again",
                store.describe(),
                head.generation
            ));
        }
        head.version += 1;
        head.nonce = Ulid::generate().to_string();
        head.generation = generation;
        restore.clone_into(&mut head.token);
        head.state = HeadState::Restoring;
        // What other tiers may have to help out with is worth knowing soon.
        head.scrubbed_micros = 0;
        head.parent = Some(parent.clone());
        head.reserved_revision = head.reserved_revision.max(reserved_revision);
        match store.swap_head(Some(&tag), head.encode().into()).await.map_err(|e| e.to_string())? {
            Swapped::Yes => return Ok(()),
            // Read again: it may have been ours.
            Swapped::Lost | Swapped::Unknown => {}
            Swapped::Gone => return Err(format!("{}: HEAD is gone", store.describe())),
        }
    }
    Err(format!("{}: HEAD moved under each of {ATTEMPTS} attempts to fence; try again", store.describe()))
}
