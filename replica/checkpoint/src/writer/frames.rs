//! Frames of one cut, made by the first tier that needs them and copied verbatim by the others.
//!
//! A delta is another frame than the whole page: a tier that has not the same base makes its own. It holds a bounded number
//! of bytes, the newest made. A tier that is further behind the others than that makes its
//! frames itself: it costs work, not memory, and nobody waits for it.

use crate::format::{FrameHeader, Framer, Kind, frame_delta, most_of_delta};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use vr_tree::NodeRef;

/// Frames of one cut.
#[derive(Default)]
pub struct Frames {
    limit: usize,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    frames: HashMap<Key, (FrameHeader, Bytes)>,
    order: VecDeque<Key>,
    bytes: usize,
}

/// A page, and the page that it is a delta on, if it is one.
type Key = ([u8; 32], Option<[u8; 32]>);

impl Frames {
    /// For several tiers: up to so many bytes of frames are kept.
    #[must_use]
    pub fn shared(limit: usize) -> Frames {
        Frames { limit, made: Mutex::default() }
    }

    /// For one tier alone: nothing is kept.
    #[must_use]
    pub fn alone() -> Frames {
        Frames::default()
    }

    /// The frame of a page: a delta on `base` if that is worth it.
    pub(super) fn frame(
        &self,
        node: &NodeRef<'_>,
        base: Option<NodeRef<'_>>,
        maker: &mut Maker,
    ) -> (FrameHeader, Bytes) {
        let id = node.id();
        if let Some(base) = base {
            let key = (id, Some(base.id()));
            if let Some(delta) = self.kept(&key).or_else(|| Some(self.keep(key, maker.delta(node, &base)?))) {
                return delta;
            }
        }
        self.kept(&(id, None)).unwrap_or_else(|| self.keep((id, None), maker.make(node)))
    }

    fn kept(&self, key: &Key) -> Option<(FrameHeader, Bytes)> {
        self.made().frames.get(key).cloned()
    }

    fn keep(&self, key: Key, (header, bytes): (FrameHeader, Bytes)) -> (FrameHeader, Bytes) {
        if self.limit >= bytes.len() {
            let made = &mut *self.made();
            made.bytes += bytes.len();
            if let Some((_, old)) = made.frames.insert(key, (header, bytes.clone())) {
                made.bytes -= old.len();
            } else {
                made.order.push_back(key);
            }
            while made.bytes > self.limit {
                let Some(oldest) = made.order.pop_front() else { break };
                made.bytes -= made.frames.remove(&oldest).map_or(0, |(_, bytes)| bytes.len());
            }
        }
        (header, bytes)
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        // Every change is one step.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes frames, many out of one piece of memory.
pub(super) struct Maker {
    framer: Framer,
    page: Vec<u8>,
    memory: BytesMut,
}

/// Frames that are kept share pieces of memory of this size.
const PIECE: usize = 256 << 10;

impl Maker {
    pub(super) fn new() -> Maker {
        Maker { framer: Framer::new(), page: Vec::new(), memory: BytesMut::new() }
    }

    fn make(&mut self, node: &NodeRef<'_>) -> (FrameHeader, Bytes) {
        self.page.clear();
        node.encode(&mut self.page);
        let kind = if node.is_leaf() { Kind::Leaf } else { Kind::Inner };
        // Gives back what was let go of, or takes a new piece.
        self.memory.reserve(PIECE.min(2 * self.page.len() + 64));
        let header = self.framer.frame(node.id(), kind, &self.page, &mut self.memory);
        (header, self.memory.split().freeze())
    }

    /// None if it is not worth it.
    fn delta(&mut self, node: &NodeRef<'_>, base: &NodeRef<'_>) -> Option<(FrameHeader, Bytes)> {
        let plain = node.encoded_len();
        self.page.clear();
        if !node.delta(base, most_of_delta(plain), &mut self.page) {
            return None;
        }
        self.memory.reserve(PIECE.min(self.page.len() + 128));
        let header = frame_delta(node.id(), plain, base.id(), &self.page, &mut self.memory);
        Some((header, self.memory.split().freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_tree::Tree;

    #[test]
    fn a_frame_is_made_once_and_old_ones_make_room() {
        let mut tree = Tree::new();
        for i in 0..3_000u32 {
            tree.put(format!("key/{i:08}").as_bytes(), blake3::hash(&i.to_le_bytes()).as_bytes(), 1);
        }
        let snapshot = tree.snapshot();
        let mut pages: Vec<NodeRef<'_>> = snapshot.node().into_iter().collect();
        let mut at = 0;
        while at < pages.len() {
            let below: Vec<_> = pages[at].children().collect();
            pages.extend(below);
            at += 1;
        }
        assert!(pages.len() > 10);
        let (frames, mut maker) = (Frames::shared(40_000), Maker::new());
        let first: Vec<Bytes> = pages.iter().map(|page| frames.frame(page, None, &mut maker).1).collect();
        assert!(frames.made().bytes <= 40_000);
        // The newest is the very same memory; the oldest is made again, to the same bytes.
        let last = frames.frame(&pages[pages.len() - 1], None, &mut maker).1;
        assert_eq!(last.as_ptr(), first[first.len() - 1].as_ptr());
        let oldest = frames.frame(&pages[0], None, &mut maker).1;
        assert_eq!(oldest, first[0]);
        assert_ne!(oldest.as_ptr(), first[0].as_ptr());
        let made = frames.made();
        assert_eq!(made.bytes, made.frames.values().map(|(_, bytes)| bytes.len()).sum::<usize>());
        assert_eq!(made.order.len(), made.frames.len());
    }
}
