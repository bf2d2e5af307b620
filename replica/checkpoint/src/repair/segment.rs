//! A segment of the log that was lost, has rotted or is cut short, put together anew from the log of other tiers.

use super::put;
use crate::format::{Names, Segment};
use crate::restore::{self, Source};
use crate::store::ObjectStore;

/// Bytes of log that may be read for one segment. Where so much is lost, the next checkpoint closes the gap.
const MOST: u64 = 64 << 20;

/// Makes a segment whole. `own` is the tier that it stands on; sources whose log is of another restore are not asked.
///
/// # Errors
/// Says which entry is on no source; the segment is then as it was.
pub(crate) async fn repair_segment(
    store: &dyn ObjectStore,
    lineage: [u8; 16],
    key: &str,
    own: &Source,
    sources: &[Source],
) -> Result<(), String> {
    let range = Names::of(key).and_then(|names| Some((names, names.segment_range(key)?)));
    let (Names { generation }, (first, last)) =
        range.ok_or_else(|| format!("{key} is no name of a segment"))?;
    let (entries, cut_short) = restore::log(generation, first - 1, last, own, sources, MOST).await;
    match cut_short {
        Some(reason) => Err(reason),
        None => put(store, key, Segment { lineage, generation, entries }.encode()).await,
    }
}
