//! The example's log under the protocol: partitions that grow, consumers that move, and requests that are none.

use super::{Machine, digest};
use crate::rng::{Rng, mix};
use bytes::Bytes;
use vr_core::Digest;
use vr_example_log::{Answer, Log, PARTITIONS, Request};

impl Machine for Log {
    fn empty() -> Log {
        Log::default()
    }

    fn request(rng: &mut Rng, unique: u64, keys: u64, padding: usize) -> Bytes {
        let mut record = unique.to_le_bytes().to_vec();
        record.resize(8 + padding, 0x5a);
        // One more than there are.
        let partition = rng.below(keys.min(PARTITIONS as u64 + 1)) as u8;
        let request = match rng.below(4) {
            0 => Request::Commit(partition, rng.below(4), unique % 64),
            _ => Request::Append(partition, &record),
        };
        // What comes behind a request makes every body another one.
        [request.encode(), unique.to_le_bytes().to_vec()].concat().into()
    }

    fn reply_digest(reply: &Answer) -> u64 {
        match reply {
            Answer::At(offset) => mix(*offset),
            Answer::Refused => 0,
        }
    }

    fn fingerprint(&self) -> u64 {
        digest(&self.contents().0)
    }

    fn root(snapshot: &Log) -> Digest {
        snapshot.root()
    }
}
