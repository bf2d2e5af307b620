//! What a replica has by itself, for the tiers of a cluster in which nobody leads any more.
//!
//! Promises: only what is committed is handed in, so that it is true of the lineage whoever else hands something in, too;
//! the replica goes on as it was, and neither its memory nor its disks have less afterwards. Without memory what its disks
//! lead to is loaded beside the replica, on a thread of its own; for so long it takes memory a second time.

use super::refusal::{Refused, refuse};
use crate::{boot, node};
use vr_checkpoint::writer::Cut;
use vr_core::Op;
use vr_proto::control::refusal::Reason;
use vr_tree::Snapshot;

/// What is known of what this replica has by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rescue {
    /// Nobody has asked, or what was asked for has failed.
    #[default]
    None,
    /// Its disks are being read.
    Loading,
    /// It is handed in, through this op.
    Handed(Op),
}

/// Hands it in, once; the op that it goes to.
pub(super) async fn hand_in() -> Result<Op, Refused> {
    if !node::with(|node| node.follows_nobody()) {
        return Err(refuse(
            Reason::Invalid,
            "a primary leads: what this replica has by itself is not the newest".to_owned(),
            "ask without `leaderless`",
        ));
    }
    loop {
        match node::with(|node| node.rescue()) {
            Rescue::Handed(op) => {
                node::with(|node| node.hand_in_again());
                return Ok(op);
            }
            Rescue::Loading => tokio::time::sleep(super::LOOK).await,
            Rescue::None => break,
        }
    }
    if let Some(memory) = node::with(|node| node.memory()) {
        return Ok(node::with(|node| node.hand_in(memory)));
    }
    let config = node::with(|node| {
        node.set_rescue(Rescue::Loading);
        node.config.clone()
    });
    // Whoever asked may be gone before it is loaded: it is handed in all the same.
    let loaded = tokio::spawn(async move {
        let found = tokio::task::spawn_blocking(move || disks(&config)).await;
        let found = found.unwrap_or_else(|error| Err(error.into()));
        node::with(|node| match found {
            Ok(Some(found)) => Ok(node.hand_in(found)),
            Ok(None) => {
                node.set_rescue(Rescue::None);
                Err("its disks hold no checkpoint of this generation".to_owned())
            }
            Err(error) => {
                node.set_rescue(Rescue::None);
                Err(format!("{error:#}"))
            }
        })
    });
    loaded.await.unwrap_or_else(|error| Err(error.to_string())).map_err(|why| {
        let what = format!("this replica has lost its memory, and its disks lead to nothing: {why}");
        refuse(Reason::NotServing, what, "ask another replica, or restore from what the object store holds")
    })
}

fn disks(config: &crate::config::Config) -> anyhow::Result<Option<(Cut, Snapshot)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(boot::held(config))
}
