//! What there is on all tiers, and what of it is best.

use super::{Candidate, Finding, Inventory, Source, TierKind, read_manifest};
use crate::format::{Head, Names, Parent};
use crate::mutants::{Mutant, on};
use std::collections::BTreeMap;

/// Looks everywhere.
pub async fn inventory(sources: &[Source], lineage: &str) -> Inventory {
    let mut inventory = Inventory::default();
    let mut parents: BTreeMap<u64, Parent> = BTreeMap::new();
    let mut segments: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    let mut looks = Vec::new();
    for source in sources {
        looks.push(look(source, lineage).await);
    }
    drop_rivals(sources, &mut looks);
    for (source, look) in sources.iter().zip(looks) {
        let mut finding = Finding {
            source: source.name.clone(),
            tier: source.tier,
            generation: None,
            checkpoints: 0,
            problem: None,
        };
        match look {
            Ok(None) => finding.problem = Some("empty: there is no HEAD".to_owned()),
            Err(problem) => finding.problem = Some(problem),
            Ok(Some(look)) => {
                finding.generation = Some(look.head.generation);
                finding.checkpoints = look.candidates.len();
                finding.problem = look.problem;
                inventory.generation = inventory.generation.max(look.head.generation);
                parents.extend(look.parents);
                // A HEAD is behind its own manifests where another replica's reservation came with the state.
                inventory.reserved_revision = inventory.reserved_revision.max(look.reserved_revision);
                inventory.candidates.extend(look.candidates);
                for (generation, range) in look.segments {
                    segments.entry(generation).or_default().push(range);
                }
            }
        }
        inventory.findings.push(finding);
    }
    for ranges in segments.values_mut() {
        ranges.sort_unstable();
    }
    let newest = inventory.generation;
    inventory.candidates.retain_mut(|candidate| {
        // What a generation did beyond the point where the next one left it is abandoned, and so is all of one that did not
        // lead to the newest.
        let Some(fork) = fork_of(candidate.generation, newest, &parents) else { return false };
        let ranges = segments.get(&candidate.generation).map_or(&[][..], Vec::as_slice);
        candidate.reachable_op = reach(candidate.checkpoint_op, ranges).min(fork);
        candidate.checkpoint_op <= fork
    });
    inventory.candidates.sort_by_key(|c| {
        let newest = std::cmp::Reverse((c.generation, c.reachable_op, c.checkpoint_op));
        (newest, c.tier, c.source.clone())
    });
    inventory
}

/// The last op of a generation that led to the newest one; `None` if it did not lead there.
fn fork_of(generation: u64, newest: u64, parents: &BTreeMap<u64, Parent>) -> Option<u64> {
    if on(Mutant::AbandonedCounts) {
        return Some(u64::MAX);
    }
    let (mut at, mut fork) = (newest, u64::MAX);
    while at > generation {
        let Some(parent) = parents.get(&at).filter(|parent| parent.generation < at) else {
            // Nobody knows where it began, but that was before the next one left it.
            return Some(fork);
        };
        (at, fork) = (parent.generation, parent.op);
    }
    (at == generation).then_some(fork)
}

/// How far sorted segments lead on from `op`.
pub(crate) fn reach(op: u64, ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().fold(
        op,
        |at, (first, last)| if *first <= at + 1 || on(Mutant::GapsOverlooked) { at.max(*last) } else { at },
    )
}

struct Look {
    head: Head,
    parents: BTreeMap<u64, Parent>,
    candidates: Vec<Candidate>,
    segments: Vec<(u64, (u64, u64))>,
    reserved_revision: i64,
    problem: Option<String>,
}

/// Two restores may have begun the same generation where they did not see each other. Only one of them is the lineage's:
/// the object store's, where all would have met; without one there, the one that came furthest. What the other did is
/// neither a candidate nor log for one.
fn drop_rivals(sources: &[Source], looks: &mut [Result<Option<Look>, String>]) {
    let begun = |look: &Result<Option<Look>, String>| match look {
        Ok(Some(look)) if look.head.parent.is_some() => Some((look.head.generation, look.head.token.clone())),
        _ => None,
    };
    let mut generations: BTreeMap<u64, BTreeMap<String, (bool, u64)>> = BTreeMap::new();
    for (source, look) in sources.iter().zip(&*looks) {
        let Some((generation, token)) = begun(look) else { continue };
        let of = |candidate: &&Candidate| candidate.generation == generation;
        let newest =
            look.iter().flatten().flat_map(|look| &look.candidates).filter(of).map(|c| c.checkpoint_op).max();
        let rank = generations.entry(generation).or_default().entry(token).or_default();
        *rank = (*rank).max((source.tier == TierKind::ObjectStore, newest.unwrap_or(0)));
    }
    for look in looks {
        let Some((generation, token)) = begun(look) else { continue };
        let winner = generations[&generation].iter().max_by_key(|(_, rank)| **rank).map(|(winner, _)| winner);
        if winner == Some(&token) {
            continue;
        }
        let Ok(Some(look)) = look else { continue };
        look.parents.remove(&generation);
        look.candidates.retain(|candidate| candidate.generation != generation);
        look.segments.retain(|(of, _)| *of != generation);
        look.problem = Some(format!(
            "its generation {generation} is of another restore than the one that counts: what it did there is left out"
        ));
    }
}

async fn look(source: &Source, lineage: &str) -> Result<Option<Look>, String> {
    let store = &source.store;
    let Some((bytes, _)) = store.head().await.map_err(|e| e.to_string())? else { return Ok(None) };
    let head = Head::parse("HEAD", &bytes).map_err(|e| e.to_string())?;
    if head.lineage != lineage {
        return Err(format!("it belongs to lineage {}, not {lineage}", head.lineage));
    }
    let mut look = Look {
        parents: BTreeMap::new(),
        candidates: Vec::new(),
        segments: Vec::new(),
        reserved_revision: if on(Mutant::ReservationForgotten) { 0 } else { head.reserved_revision },
        problem: None,
        head,
    };
    let remember = |parents: &mut BTreeMap<u64, Parent>, generation, parent: &Option<Parent>| {
        parents.extend(parent.clone().map(|parent| (generation, parent)));
    };
    remember(&mut look.parents, look.head.generation, &look.head.parent);
    let mut generations = vec![look.head.generation];
    for retained in &look.head.retained {
        match read_manifest(&**store, &retained.manifest).await {
            Err(problem) => look.problem = Some(problem),
            Ok(manifest) => {
                remember(&mut look.parents, manifest.generation, &manifest.parent);
                generations.push(manifest.generation);
                look.reserved_revision = look.reserved_revision.max(manifest.reserved_revision);
                look.candidates.push(Candidate {
                    source: source.name.clone(),
                    tier: source.tier,
                    generation: manifest.generation,
                    checkpoint_op: manifest.op,
                    reachable_op: manifest.op,
                    time_micros: manifest.time_micros,
                    revision: manifest.revision,
                    root: manifest.state.root.clone(),
                    manifest: retained.manifest.clone(),
                    bytes: manifest.state.bytes,
                });
            }
        }
    }
    generations.sort_unstable();
    generations.dedup();
    for generation in generations {
        let names = Names { generation };
        let listed = store.list(&names.segments()).await.map_err(|e| e.to_string())?;
        let ranges = listed.iter().filter_map(|object| names.segment_range(&object.key));
        look.segments.extend(ranges.map(|range| (generation, range)));
    }
    Ok(Some(look))
}
