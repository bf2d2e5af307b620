//! Writers that are in each other's way: a task that waits in its middle while others run, and clusters that were given up
//! and go on.

use super::worker::{Done, Task};
use super::world::World;
use crate::oracle::{Check, require};
use vr_checkpoint::store::fault::{Act, On, Rule};
use vr_checkpoint::writer::WriteError;
impl World {
    /// Somebody of a cluster that was given up goes on as if nothing had happened.
    pub(super) async fn stale_task(&mut self) -> Check {
        if self.stale.is_empty() {
            return Ok(());
        }
        let at = self.rng.index(self.stale.len());
        let mut worker = self.stale.swap_remove(at);
        let generation = worker.generation;
        let task = match self.rng.below(4) {
            0 => self.checkpoint(generation),
            1 => Task::Log(self.truth.entries(generation, 0).to_vec()),
            2 => Task::Reserve(self.reserved + 1_000_000),
            _ => Task::Scrub(self.sources(worker.place)),
        };
        let name = task.name();
        let place = &self.places[worker.place];
        let (medium, store) = (place.medium.clone(), place.reader());
        let before = store.usage().written;
        let done = worker.carry_out(&medium, false, task).await;
        let wrote = store.usage().written > before;
        self.story.tell(&format!("{name} by generation {generation}: {}", done.is_ok()), "");
        match done {
            Err(WriteError::Fenced { .. }) => self.count("stale.fenced"),
            Err(_) => {}
            Ok(done) => require!(
                !wrote,
                "the-past-is-fenced",
                "generation {generation} could still {name} in the bucket: {done:?}"
            ),
        }
        self.stale.push(worker);
        Ok(())
    }

    /// A task waits in its middle while others run.
    pub(super) async fn race(&mut self) -> Check {
        let (at, task) = self.draw();
        let mut worker = self.workers[at].take().expect("it was drawn");
        let name = task.name();
        let place = &self.places[worker.place];
        let (medium, begins) = (place.medium.clone(), !place.begun);
        let (generation, in_bucket, place_at) = (worker.generation, place.replica.is_none(), worker.place);
        let Ok(faults) = worker.reach(&medium) else {
            self.workers[at] = Some(worker);
            return Ok(());
        };
        let skip = u32::try_from(self.faults.below(10)).expect("small");
        let on = self.faults.pick(&[On::Write, On::Read]);
        faults.add(Rule { on, key_contains: String::new(), skip, times: 1, act: Act::Stall });
        let (mut waits, mut before) = (false, 0);
        let (done, worker) = {
            let mut work = Box::pin(async move {
                let done = worker.carry_out(&medium, begins, task).await;
                (done, worker)
            });
            let early = tokio::select! {
                biased;
                done = &mut work => Some(done),
                () = faults.wait_until_stalled(1) => None,
            };
            match early {
                Some(done) => done,
                None => {
                    waits = true;
                    self.story.tell(&format!("{name} by worker {at} waits"), "");
                    self.racing = true;
                    let lost = in_bucket && self.rng.below(6) == 0;
                    let between = async {
                        for _ in 0..self.rng.between(1, 6) {
                            Box::pin(self.step()).await?;
                        }
                        if lost { Box::pin(self.lose_everything()).await } else { Ok(()) }
                    };
                    between.await?;
                    self.racing = false;
                    before = self.places[place_at].reader().usage().written;
                    faults.release();
                    work.await
                }
            }
        };
        if waits {
            self.count(match name {
                "checkpoint" => "race.checkpoint",
                "log" => "race.log",
                "reserve" => "race.reserve",
                "collect" => "race.collect",
                _ => "race.scrub",
            });
        }
        faults.forget();
        if self.over {
            return Ok(());
        }
        if generation != self.truth.generation() {
            // Its cluster was given up meanwhile.
            self.count("race.lost");
            self.story.tell(&format!("{name} by worker {at}, of the past, goes on: {}", done.is_ok()), "");
            let wrote = self.places[place_at].reader().usage().written > before;
            require!(
                !wrote || !matches!(done, Ok(Done::Checkpoint(_) | Done::Reserve(_))),
                "the-past-is-fenced",
                "{name} of generation {generation} was done after another had begun"
            );
            self.stale.push(worker);
            return Ok(());
        }
        let racing = std::mem::replace(&mut self.racing, waits);
        let judged = self.judge(&worker, name, done, false);
        self.racing = racing;
        self.workers[at] = Some(worker);
        judged
    }
}
