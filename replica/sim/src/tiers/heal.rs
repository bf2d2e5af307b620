//! The end of all trouble.

use super::truth::Truth;
use super::worker::Task;
use super::world::World;
use crate::oracle::{Check, require};
use std::time::Duration;
use vr_checkpoint::restore;
use vr_checkpoint::store::files::Fate;
use vr_checkpoint::verify::{Depth, Only, verify};
impl World {
    /// All trouble ends. Whatever was damaged is found, what cannot be made whole is shipped again, and each place alone
    /// brings the newest state back.
    pub(super) async fn heal(&mut self) -> Check {
        self.story.tell("all trouble ends", "");
        for at in 0..self.places.len() {
            // A disk that lied shows what it has kept.
            self.places[at].lose_power(Fate::Lost);
        }
        self.start_all();
        self.truth.commit(&mut self.rng, self.keys, self.padding);
        let generation = self.truth.generation();
        for at in 0..self.workers.len() {
            let mut worker = self.workers[at].take().expect("all were started");
            let place = worker.place;
            if self.head_is_lost(place).await {
                if self.places[place].replica.is_none() {
                    self.workers[at] = Some(worker);
                    continue;
                }
                self.places[place].vanish();
            }
            let medium = self.places[place].medium.clone();
            let begins = !self.places[place].begun;
            let cut = self.truth.cut(generation, self.truth.op(), self.reserved);
            let tasks = [
                // A manifest that is made whole names indexes, and an index packs, that nobody could read before.
                Task::Scrub(self.sources(place)),
                Task::Scrub(self.sources(place)),
                Task::Scrub(self.sources(place)),
                Task::Checkpoint(Box::new(cut)),
                Task::Collect(Duration::ZERO),
            ];
            for task in tasks {
                let name = task.name();
                let done = worker.carry_out(&medium, begins, task).await;
                require!(
                    done.is_ok(),
                    "all-is-well-in-the-end",
                    "{name} on {}: {}",
                    self.places[place].name(),
                    done.err().map_or(String::new(), |error| error.to_string())
                );
            }
            self.workers[at] = Some(worker);
            let inventory = restore::inventory(&[self.places[place].source()], &Truth::lineage()).await;
            let best = inventory.candidates.first();
            require!(
                best.is_some_and(
                    |best| (best.generation, best.checkpoint_op) == (generation, self.truth.op())
                ),
                "all-is-well-in-the-end",
                "{}: the best is {best:?}",
                self.places[place].name()
            );
            let source = self.places[place].source();
            let newest = Only { newest: true, ..Only::default() };
            let report = verify(&source, &Truth::lineage(), newest, Depth::Root).await;
            require!(
                report.ok(),
                "all-is-well-in-the-end",
                "{}: the newest is damaged: {:?}",
                self.places[place].name(),
                report.checkpoints.iter().flat_map(|c| &c.problems).collect::<Vec<_>>()
            );
        }
        self.story.tell("and all is well", "");
        Ok(())
    }

    /// Both HEADs of a disk are damaged, or it has lost what it had called durable: there is no telling what was there.
    pub(super) async fn head_is_lost(&self, at: usize) -> bool {
        let place = &self.places[at];
        let head = place.reader().head().await;
        !place.whole && !matches!(head, Ok(Some(_)))
    }
}
