//! Breaking on purpose what a restore needs, to see that the drill notices.
//!
//! Everything that is left is broken, on every tier: a restore falls back to another source or to an older checkpoint
//! when it can, and then the drill would say nothing about the damage.

use anyhow::{Context, bail};
use bytes::Bytes;
use vr_checkpoint::store::{Created, ObjectStore};

use super::scenario::Sabotage;
use crate::dev::cluster::Cluster;
use crate::dev::tiers::{self, Access};

/// Breaks it, and says in words what was done.
///
/// # Errors
/// When there is nothing to break, or a tier does not let us.
pub async fn carry_out(sabotage: Sabotage, cluster: &Cluster) -> anyhow::Result<String> {
    if sabotage == Sabotage::StaleCanary {
        return Ok("an earlier drill's canary stands in the state".to_owned());
    }
    let mut broken = 0;
    for source in tiers::all(cluster, Access::Write).await? {
        broken += break_packs(sabotage, &*source.store)
            .await
            .with_context(|| format!("cannot break {}", source.name))?;
    }
    if broken == 0 {
        bail!("no tier holds a pack that could be broken");
    }
    Ok(format!("{broken} packs broken"))
}

/// Damages every pack and every log segment on every tier but the one of this name, and says in words what was done.
///
/// # Errors
/// As [`carry_out`].
pub async fn spare_only(spared: &str, cluster: &Cluster) -> anyhow::Result<String> {
    let (mut broken, mut found) = (0, false);
    for source in tiers::all(cluster, Access::Write).await? {
        if source.name == spared {
            found = true;
            continue;
        }
        for object in source.store.list("g/").await? {
            if ["/data/", "/tree/", "/log/"].iter().any(|kind| object.key.contains(kind)) {
                replace(&*source.store, &object.key, ruined).await?;
                broken += 1;
            }
        }
    }
    if !found {
        bail!("there is no {spared} that could be spared");
    }
    Ok(format!("{broken} packs and segments damaged; {spared} is spared"))
}

async fn replace(
    store: &dyn ObjectStore,
    key: &str,
    change: impl FnOnce(&Bytes) -> Bytes,
) -> anyhow::Result<()> {
    let whole = store.get(key).await?.with_context(|| format!("{key} has just gone"))?;
    store.delete(key).await?;
    match store.create(key, change(&whole)).await? {
        Created::Yes => Ok(()),
        other => bail!("{key} cannot be written again: {other:?}"),
    }
}

async fn break_packs(sabotage: Sabotage, store: &dyn ObjectStore) -> anyhow::Result<usize> {
    let mut broken = 0;
    for object in store.list("g/").await? {
        if !object.key.contains("/data/") {
            continue;
        }
        match sabotage {
            Sabotage::CorruptFrame => replace(store, &object.key, damaged).await?,
            _ => store.delete(&object.key).await?,
        }
        broken += 1;
    }
    Ok(broken)
}

/// A bit in the middle: far from the header, and, in a pack of any size, inside a frame.
fn damaged(whole: &Bytes) -> Bytes {
    let mut bytes = whole.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x01;
    }
    bytes.into()
}

/// A bit in each piece that is smaller than any frame: nothing of it is whole.
fn ruined(whole: &Bytes) -> Bytes {
    let mut bytes = whole.to_vec();
    bytes.iter_mut().step_by(32).for_each(|byte| *byte ^= 0x01);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_differs() {
        let whole = Bytes::from(vec![7; 100]);
        let bits: u32 = whole.iter().zip(&damaged(&whole)).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(bits, 1);
        assert_eq!(damaged(&Bytes::new()), Bytes::new());
    }
}
