//! The world itself: who is there, what they do next, and what each task must come to.

use super::GRACE;
use super::place::{Medium, Place, Told};
use super::tally::{Story, Tally};
use super::truth::Truth;
use super::worker::{Done, Task, Worker};
use crate::oracle::{Check, require};
use crate::rng::{Ppm, Rng, Stream};
use std::time::Duration;
use vr_checkpoint::restore::{self, TierKind};
use vr_checkpoint::writer::{Beginning, WriteError};
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) faults: Rng,
    pub(super) truth: Truth,
    pub(super) keys: u64,
    pub(super) padding: usize,
    pub(super) keep: usize,
    pub(super) deltas: usize,
    /// A fault in so many of a million tasks.
    pub(super) trouble: Ppm,
    pub(super) places: Vec<Place>,
    /// Of the present generation. One that is at work is out.
    pub(super) workers: Vec<Option<Worker>>,
    /// Of clusters that were given up and do not know it.
    pub(super) stale: Vec<Worker>,
    pub(super) beginning: Option<Beginning>,
    /// The highest revision that was asked to be reserved.
    pub(super) reserved: i64,
    /// Nothing is left to restore: the lineage has ended.
    pub(super) over: bool,
    /// A task of another one waits for its turn.
    pub(super) racing: bool,
    pub(super) steps: u64,
    pub(super) tally: Tally,
    pub(super) story: Story,
}

impl World {
    pub(super) fn new(seed: u64, story: Story) -> World {
        let mut rng = Rng::new(seed, Stream::Plan);
        let replicas = rng.between(1, 3);
        let mut places: Vec<Place> = (1..=replicas)
            .flat_map(|r| [Place::disk(TierKind::Nvme, r), Place::disk(TierKind::Volume, r)])
            .collect();
        places.push(Place::bucket());
        let mut world = World {
            keys: rng.pick(&[8, 40]),
            padding: rng.pick(&[20, 300, 1500]),
            keep: rng.pick(&[1, 2, 3]),
            deltas: rng.pick(&[0, 1, 4]),
            trouble: Ppm(rng.pick(&[0, 150_000, 400_000])),
            rng: Rng::new(seed, Stream::Operators),
            faults: Rng::new(seed, Stream::Faults),
            truth: Truth::new(),
            places,
            workers: Vec::new(),
            stale: Vec::new(),
            beginning: None,
            reserved: 0,
            over: false,
            racing: false,
            steps: 0,
            tally: Tally::new(),
            story,
        };
        world.start_all();
        world
    }

    /// Everybody starts anew: one process for each disk, two for the bucket.
    pub(super) fn start_all(&mut self) {
        let (generation, keep) = (self.truth.generation(), (self.keep, self.deltas));
        let start =
            |replica, place| Some(Worker::new(replica, place, generation, self.beginning.clone(), keep));
        self.workers = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            match place.replica {
                Some(replica) => self.workers.push(start(replica, at)),
                None => self.workers.extend([start(1, at), start(2, at)]),
            }
        }
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.tally.entry(name).or_default() += 1;
    }

    pub(super) async fn play(&mut self) -> Check {
        self.story.tell(
            &format!(
                "{} places, {} keys of {} bytes, keeps {}, deltas {}, trouble {} in a million",
                self.places.len(),
                self.keys,
                self.padding,
                self.keep,
                self.deltas,
                self.trouble.0
            ),
            "",
        );
        self.begin_the_bucket(false).await?;
        for _ in 0..self.rng.between(20, 120) {
            self.step().await?;
            if self.over {
                return Ok(());
            }
        }
        self.heal().await
    }

    /// As a cluster does before it serves: from then on there is a HEAD that a restore can fence, and if need be a checkpoint.
    pub(super) async fn begin_the_bucket(&mut self, with_state: bool) -> Check {
        let mut worker = self.workers.pop().flatten().expect("the bucket's are last");
        let medium = self.places[worker.place].medium.clone();
        let task = match with_state {
            false => Task::Reserve(1),
            true => {
                let generation = self.truth.generation();
                Task::Checkpoint(Box::new(self.truth.cut(generation, self.truth.op(), self.reserved)))
            }
        };
        let name = task.name();
        let done = worker.carry_out(&medium, !with_state, task).await;
        self.judge(&worker, name, done, false)?;
        self.workers.push(Some(worker));
        Ok(())
    }

    pub(super) async fn step(&mut self) -> Check {
        self.steps += 1;
        match self.rng.below(100) {
            0..25 => {
                for _ in 0..self.rng.between(1, 6) {
                    self.truth.commit(&mut self.rng, self.keys, self.padding);
                }
                self.story.tell(&format!("committed through op {}", self.truth.op()), "");
                Ok(())
            }
            25..75 => self.task().await,
            75..79 => self.end_a_process(),
            79..83 => self.lose_power(),
            83..87 => self.harm().await,
            87 => self.vanish(),
            88..91 => self.look().await,
            91..94 => self.come_back().await,
            94..96 => self.stale_task().await,
            96..99 if !self.racing => self.race().await,
            99 if !self.racing => self.lose_everything().await,
            _ => Ok(()),
        }
    }

    /// A worker that is not out, and what it shall do.
    pub(super) fn draw(&mut self) -> (usize, Task) {
        let here: Vec<usize> = (0..self.workers.len()).filter(|at| self.workers[*at].is_some()).collect();
        let at = self.rng.pick(&here);
        let place = self.workers[at].as_ref().expect("it is here").place;
        let task = match self.rng.below(20) {
            0..7 => self.checkpoint(self.truth.generation()),
            7..13 => Task::Log(self.truth.entries(self.truth.generation(), 0).to_vec()),
            13..15 => {
                self.reserved += 1000;
                Task::Reserve(self.reserved)
            }
            15..18 => {
                if let Medium::Bucket(bucket) = &self.places[place].medium
                    && !self.racing
                {
                    bucket.pass(self.rng.pick(&[0, GRACE / 2, GRACE + 1]));
                }
                // The clock of a disk in memory counts its operations; a disk has one writer, which waits for itself.
                let disk = self.places[place].replica.is_some();
                Task::Collect(Duration::from_secs(if disk { 0 } else { GRACE }))
            }
            _ => Task::Scrub(self.sources(place)),
        };
        (at, task)
    }

    /// A checkpoint of the newest state, or of one that was handed in a moment ago.
    pub(super) fn checkpoint(&mut self, generation: u64) -> Task {
        let newest = self.truth.first(generation) + self.truth.entries(generation, 0).len() as u64;
        let behind = self.rng.below(4).min(newest - self.truth.first(generation));
        Task::Checkpoint(Box::new(self.truth.cut(generation, newest - behind, self.reserved)))
    }

    /// All places, this one first.
    pub(super) fn sources(&self, first: usize) -> Vec<restore::Source> {
        let others = self.places.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, place)| place);
        std::iter::once(&self.places[first]).chain(others).map(Place::source).collect()
    }

    pub(super) async fn task(&mut self) -> Check {
        let (at, task) = self.draw();
        let mut worker = self.workers[at].take().expect("it was drawn");
        let planned = self.plan_trouble(&mut worker);
        let place = &self.places[worker.place];
        let (name, medium, begins) = (task.name(), place.medium.clone(), !place.begun);
        let done = worker.carry_out(&medium, begins, task).await;
        let struck = planned && self.see_trouble(&mut worker);
        let place = worker.place;
        let judged = self.judge(&worker, name, done, struck);
        self.workers[at] = Some(worker);
        judged?;
        // What was just told is what it may have made a lie.
        if self.faults.below(4) == 0 { self.come_back_from(place).await } else { Ok(()) }
    }

    /// What a task of the present generation came to. Without a fault, on a place that nobody has harmed, it goes well.
    pub(super) fn judge(
        &mut self,
        worker: &Worker,
        name: &'static str,
        done: Result<Done, WriteError>,
        struck: bool,
    ) -> Check {
        let place = &mut self.places[worker.place];
        let who = format!("{name} by replica {} on {}", worker.replica, place.name());
        match done {
            Ok(done) => {
                place.begun = true;
                let told = &mut place.told;
                // What an earlier generation had there counts until this one has something.
                let has = matches!(done, Done::Checkpoint(_) | Done::Log(Some(_)));
                if has && told.generation != worker.generation {
                    let reserved = told.reserved;
                    *told = Told { generation: worker.generation, checkpoint: Some(0), log: 0, reserved };
                }
                let mut also = None;
                match done {
                    Done::Checkpoint(op) => {
                        told.checkpoint = told.checkpoint.max(Some(op));
                        told.log = told.log.max(op);
                    }
                    Done::Log(Some(op)) => told.log = told.log.max(op),
                    Done::Log(None) => {}
                    Done::Reserve(revision) => told.reserved = told.reserved.max(revision),
                    Done::Collect(deleted) => also = (deleted > 0).then_some("task.collected"),
                    Done::Scrub(_, left) if left > 0 => also = Some("scrub.notRepaired"),
                    Done::Scrub(repaired, _) => also = (repaired > 0).then_some("scrub.repaired"),
                }
                self.story.tell(&format!("{who}: {done:?}"), "");
                self.count(match done {
                    Done::Checkpoint(_) => "task.checkpoint",
                    Done::Log(_) => "task.log",
                    Done::Reserve(_) => "task.reserve",
                    Done::Collect(_) => "task.collect",
                    Done::Scrub(..) => "task.scrub",
                });
                if let Some(also) = also {
                    self.count(also);
                }
                Ok(())
            }
            Err(error) => {
                let (whole, in_bucket) = (place.whole, place.replica.is_none());
                // Once: from then on the writer goes by what is there.
                let noticed = std::mem::take(&mut place.went_back)
                    && matches!(error, WriteError::Broken { .. } | WriteError::Contended { .. });
                // A damaged manifest that nothing retains may stand where that of the same cut would have to.
                let taken = place.scarred && matches!(error, WriteError::Format { .. });
                self.story.tell(&format!("{who}: failed"), &error.to_string());
                require!(
                    !matches!(error, WriteError::Fenced { .. }),
                    "only-the-past-is-fenced",
                    "{who}: {error}"
                );
                if matches!(error, WriteError::Contended { .. }) {
                    // Another writer of the bucket was there since this one looked last.
                    require!(in_bucket || struck || noticed, "nobody-in-the-way", "{who}: {error}");
                    self.count("task.contended");
                    return Ok(());
                }
                require!(
                    struck || noticed || taken || !whole,
                    "nothing-in-the-way",
                    "{who}, where nothing has gone wrong: {error}"
                );
                Ok(())
            }
        }
    }
}
