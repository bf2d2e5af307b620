//! A replica in a few bytes, so that a search can tell whether it has been somewhere before.
//!
//! Equal fingerprints mean, up to a collision of hashes, replicas that do the same from here on if their clocks show
//! the same. What it has merely counted is left out.

use super::Replica;
use crate::state_machine::StateMachine;
use std::hash::{Hash, Hasher};

/// Feeds `derive(Hash)` into a digest that is wide enough never to collide by chance.
struct Wide(blake3::Hasher);

impl Hasher for Wide {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        u64::from_le_bytes(self.0.finalize().as_bytes()[..8].try_into().expect("eight of 32 bytes"))
    }
}

impl<S: StateMachine + Hash> Replica<S>
where
    S::Snapshot: Hash,
    S::Import: Hash,
{
    /// Everything that decides what it will do, hashed. The same on every run of the same build, on one machine.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        // Every field is named, so that a new one cannot be forgotten.
        let Replica {
            id,
            position: _,
            domain: _,
            configuration,
            options: _,
            vote,
            now,
            status,
            reported,
            ballot,
            last_normal,
            promised,
            writing,
            amnesiac,
            lost,
            state,
            executor,
            log,
            peers,
            heard,
            suspect_at,
            ahead,
            commit_heard,
            ack_due,
            round_seen,
            shipper,
            lead,
            views,
            epochs,
            recovery,
            catch_up,
            transfers,
            gateway,
            reads,
            cuts,
            retry_at,
            counters: _,
        } = self;
        let mut wide = Wide(blake3::Hasher::new());
        let to = &mut wide;
        (id, configuration, vote, now, status, reported, ballot, last_normal, promised).hash(to);
        (writing, amnesiac, lost, state, executor, log, peers).hash(to);
        (heard, suspect_at, ahead, commit_heard, ack_due, round_seen, shipper, retry_at).hash(to);
        (lead, views, epochs, recovery, catch_up, transfers, gateway, reads, cuts).hash(to);
        wide.0.finalize().as_bytes()[..16].try_into().expect("sixteen of 32 bytes")
    }
}
