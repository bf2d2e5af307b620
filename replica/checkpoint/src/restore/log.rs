//! The committed log above a checkpoint, each entry from whichever source has it.

use super::Source;
use crate::format::{Head, LogEntry, Names, Segment};
use std::collections::BTreeMap;

/// This source and after it those whose log of the generation is of the same restore.
async fn allies<'a>(first: &'a Source, sources: &'a [Source], generation: u64) -> Vec<&'a Source> {
    let mut allies = vec![first];
    let own = token(first, generation).await;
    for source in sources.iter().filter(|source| source.name != first.name) {
        let other = token(source, generation).await;
        if own.is_none() || other.is_none() || own == other {
            allies.push(source);
        }
    }
    allies
}

/// The token of a generation that began by a restore, where it is the present one of a source.
async fn token(source: &Source, generation: u64) -> Option<String> {
    let (bytes, _) = source.store.head().await.ok()??;
    let head = Head::parse("HEAD", &bytes).ok()?;
    (head.generation == generation && head.parent.is_some()).then_some(head.token)
}

/// The entries `after + 1 ..= goal` of a generation, each from whichever source has it; and why they end before `goal`,
/// if they do. Where more than `most` bytes would have to be read, there are none.
pub(crate) async fn log(
    generation: u64,
    after: u64,
    goal: u64,
    first: &Source,
    sources: &[Source],
    most: u64,
) -> (Vec<LogEntry>, Option<String>) {
    if goal == after {
        return (Vec::new(), None);
    }
    let names = Names { generation };
    let mut entries: BTreeMap<u64, LogEntry> = BTreeMap::new();
    let (mut problems, mut read) = (Vec::new(), 0u64);
    for source in allies(first, sources, generation).await {
        if (after + 1..=goal).all(|op| entries.contains_key(&op)) {
            break;
        }
        let listed = source.store.list(&names.segments()).await.unwrap_or_default();
        for object in listed {
            let wanted = names.segment_range(&object.key).is_some_and(|(first, last)| {
                last > after
                    && first <= goal
                    && (first..=last).any(|op| op > after && !entries.contains_key(&op))
            });
            if !wanted {
                continue;
            }
            read = read.saturating_add(object.size);
            if read > most {
                return (
                    Vec::new(),
                    Some(format!("more than {} MiB of log would have to be read", most >> 20)),
                );
            }
            let parsed = match source.store.get(&object.key).await {
                Ok(Some(bytes)) => Segment::parse(&object.key, &bytes).map_err(|e| e.to_string()),
                Ok(None) => Err(format!("{} vanished", object.key)),
                Err(error) => Err(error.to_string()),
            };
            match parsed {
                Ok(segment) if segment.generation == generation => {
                    for entry in segment.entries {
                        entries.entry(entry.op).or_insert(entry);
                    }
                }
                Ok(_) => problems.push(format!("{} is of another generation", object.key)),
                Err(problem) => problems.push(format!("{}: {problem}", source.name)),
            }
        }
    }
    let mut consecutive = Vec::new();
    for op in after + 1..=goal {
        let Some(entry) = entries.remove(&op) else {
            let why = problems.first().map_or(String::new(), |p| format!(" ({p})"));
            return (consecutive, Some(format!("the log entry {op} is on no source{why}")));
        };
        consecutive.push(entry);
    }
    (consecutive, None)
}
