//! Log entries from one replica to another that lacks them: believed from the source itself, proved by their digests from
//! anybody else.

use super::sync::Purpose;
use super::{Effect, Effects, Replica};
use crate::ids::*;
use crate::message::{Entry, Header, Message};
use crate::state_machine::StateMachine;

/// Entries are sent in answers of about this many bytes.
const ENTRIES_BYTES: usize = 1 << 20;

impl<S: StateMachine> Replica<S> {
    pub(super) fn on_get_entries(&mut self, from: ReplicaId, first: Op, to: Op, out: &mut Effects<S>) {
        if !self.gives(self.ballot) || first > self.log.op() {
            self.counters.dropped_invisible += u64::from(self.amnesiac);
            return;
        }
        let entries = self.log.entries(first, to, ENTRIES_BYTES);
        let message = Message::Entries { ballot: self.ballot, oldest: self.log.oldest(), entries };
        out.push(Effect::Send(from, message));
    }

    pub(super) fn on_entries(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        oldest: Op,
        entries: Vec<Entry>,
        out: &mut Effects<S>,
    ) {
        let Some(mut catch_up) = self.catch_up.take() else { return };
        // What the source says in this very ballot is believed; from others, only what a known digest proves.
        let trusted = catch_up.trusts(from, ballot);
        let before = catch_up.position();
        if catch_up.transfer.is_some() {
            self.catch_up = Some(catch_up);
            return;
        }
        if catch_up.purpose == Purpose::Gap {
            catch_up.keep = self.log.op();
        }
        for entry in entries {
            let position = catch_up.position();
            if entry.header.op != position.next() || position >= catch_up.target {
                continue;
            }
            let digest = entry.digest();
            let expected = catch_up.header(entry.header.op).map(Header::digest);
            if expected.map_or(!trusted, |expected| expected != digest) {
                self.counters.dropped_digest += 1;
                break;
            }
            if catch_up.digest_here(&self.log) != Some(entry.header.parent) {
                self.counters.dropped_digest += 1;
                if trusted && catch_up.staged.is_empty() && position == self.commit() {
                    return self.contradicted(from, ballot, out);
                }
                break;
            }
            if entry.check().is_err() {
                self.counters.dropped_malformed += 1;
                break;
            }
            self.counters.entries_fetched += 1;
            if catch_up.staged.is_empty() {
                if self.log.digest_at(entry.header.op) == Some(digest) {
                    catch_up.keep = entry.header.op;
                    continue;
                }
                if self.log.op() == catch_up.keep {
                    catch_up.keep = entry.header.op;
                    self.log.append(entry);
                    continue;
                }
            }
            catch_up.staged.push(entry);
        }
        let moved = catch_up.position() > before;
        if trusted || moved {
            catch_up.asked = false;
        }
        if moved {
            self.progress(&mut catch_up);
        } else if trusted && oldest > catch_up.position().next() {
            self.begin_transfer(&mut catch_up, out);
        } else {
            // Nothing new: ask again at the next retry, not in a loop.
            catch_up.asked = true;
        }
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }
}
