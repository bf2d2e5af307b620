//! `vr checkpoint copy`: a moment of one place becomes the beginning of a lineage in another.
//!
//! The state goes there as one checkpoint, made anew, so that nothing of the other place is needed any more. The number
//! of the generation is kept: sessions in the state know the starts of replicas by it. So is what was reserved, by which no
//! revision is handed out twice. HEAD comes first and names the checkpoint last: a copy that was cut short goes on.

use std::path::Path;

use anyhow::bail;
use uuid::Uuid;
use vr_checkpoint::format::{Head, Names, hex};
use vr_checkpoint::restore::{Answer, Located, Target};
use vr_checkpoint::store::ObjectStore;
use vr_checkpoint::writer::{Identity, Lineage, Writer};
use vr_replica::export::Contents;

use super::{Location, Search, locate};
use crate::output::{self, Format};

/// No replica has it.
const NOBODY: u64 = 0;

/// Where the copy goes.
pub(super) struct Destination {
    pub(super) location: Location,
    /// A random one, if absent.
    pub(super) lineage: Option<Uuid>,
}

pub(super) async fn run(
    search: &Search,
    to: &Destination,
    report: Option<&Path>,
    format: Format,
) -> anyhow::Result<()> {
    let target = &search.target.target();
    let answer = copy(search, target, to).await?;
    locate::tell(&answer, report)?;
    match answer {
        Answer::Nowhere(why) => bail!("{why}"),
        Answer::Located(made) if format == Format::Json => output::json(&made),
        Answer::Located(made) => output::text(format!(
            "{target} is op {} (revision {}, {}): it is the beginning of lineage {} in {}",
            made.op,
            made.revision,
            output::time(made.time_micros),
            made.lineage,
            to.location
        )),
    }
}

async fn copy(search: &Search, target: &Target, to: &Destination) -> anyhow::Result<Answer> {
    let lineage = to.lineage.unwrap_or_else(Uuid::new_v4);
    let (found, inventory) = match locate::find(search, target).await? {
        Ok(found) => found,
        Err(why) => return Ok(Answer::Nowhere(why)),
    };
    if found.loaded.manifest.lineage == lineage.to_string() {
        bail!("lineage {lineage} is the one that is copied: the copy needs an id of its own");
    }
    let (cut, snapshot) = Contents::open(found.loaded)?.into_checkpoint();
    let generation = inventory.generation;
    let store = search.place.writable(&to.location, lineage).await?;
    let root = snapshot.root();
    free(&*store, generation, &Names { generation }.manifest(cut.op, &root)).await?;
    let identity = Identity { lineage: Lineage(lineage.into_bytes()), generation, replica: NOBODY };
    let mut writer = Writer::open(store, identity, None, true, 1).await?;
    writer.reserve(cut.reserved_revision.max(inventory.reserved_revision)).await?;
    writer.checkpoint(&cut, &snapshot).await?;
    Ok(Answer::Located(Located {
        lineage: lineage.to_string(),
        generation,
        checkpoint: cut.op,
        root: hex(&root),
        op: cut.op,
        time_micros: cut.time_micros,
        revision: cut.revision,
    }))
}

/// Whether nothing stands there but this very copy, or a part of it.
async fn free(store: &dyn ObjectStore, generation: u64, manifest: &str) -> anyhow::Result<()> {
    let Some((bytes, _)) = store.head().await? else { return Ok(()) };
    let head = Head::parse("HEAD", &bytes)?;
    let same = head.generation == generation
        && head.parent.is_none()
        && head.retained.iter().all(|retained| retained.manifest == manifest);
    if !same {
        bail!(
            "{} holds something else already: choose another place, or another --new-lineage",
            store.describe()
        );
    }
    Ok(())
}
