//! A seeded world of tiers: the very code that writes, collects, repairs and restores checkpoints, on disks and a bucket
//! that do what the real ones do on their worst day, while the memory of everybody is lost again and again.
//!
//! The state is the real store's, and what is committed is simply true ([`truth`]): how it came to be is the other
//! worlds' concern. Disks lose what was not synced, tear, rot, lie, fill up and vanish; the bucket refuses, loses
//! requests and answers, and has several writers, of which some belong to clusters that were given up. Between any two
//! requests of one task others may run.
//!
//! It promises that equal seeds tell equal stories. Objects have random names, and times are those of this machine: no
//! decision hangs on either.

mod loss;
mod place;
mod tally;
mod truth;
mod worker;

use crate::oracle::{Broken, Check, require};
use crate::rng::{Ppm, Rng, Stream};
use crate::run::{caught, keep_panics};
use place::{Damage, Medium, Place, Told};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tally::{EXPECTED, Tally};
use tokio::runtime::{Builder, Runtime};
use truth::Truth;
use vr_checkpoint::restore::{self, TierKind};
use vr_checkpoint::store::fault::{Act, On, Rule};
use vr_checkpoint::store::files::{Fate, Strike};
use vr_checkpoint::verify::{Depth, Only, verify};
use vr_checkpoint::writer::{Beginning, Lineage, WriteError};
use worker::{Done, Task, Worker};

pub use tally::Story;

const LINEAGE: Lineage = Lineage([9; 16]);

/// What nothing retains is deleted after so many seconds by the store's own clock: more than the longest task takes.
const GRACE: u64 = 5_000;

/// A sweep of at least this many seeds must meet everything that is expected.
pub const SEEDS_FOR_COVERAGE: u64 = 1_000;

/// What became of one seed.
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Tasks, faults and losses.
    pub steps: u64,
    /// [`Story::hash`].
    pub story: u64,
    /// How often what happened.
    pub counters: BTreeMap<&'static str, u64>,
    /// The promise that was broken, if one was.
    pub broken: Option<Broken>,
}

/// What a sweep came to.
#[derive(Default)]
pub struct Sweep {
    /// How many seeds.
    pub seeds: u64,
    /// Steps of all of them.
    pub steps: u64,
    /// All counters added up.
    pub counters: BTreeMap<&'static str, u64>,
    /// Seeds that broke a promise, ascending.
    pub violations: Vec<(u64, Broken)>,
    /// What should have happened and has not.
    pub missed: Vec<&'static str>,
}

/// Plays the seeds `from..from + seeds` out on `jobs` threads.
#[must_use]
pub fn sweep(from: u64, seeds: u64, jobs: usize) -> Sweep {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Sweep { seeds, ..Sweep::default() }));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        return;
                    }
                    let outcome = play(from.wrapping_add(index), Story::quiet(), || {});
                    let mut all = all.lock().expect("nobody panics while it adds up");
                    all.steps += outcome.steps;
                    for (name, count) in outcome.counters {
                        *all.counters.entry(name).or_default() += count;
                    }
                    all.violations.extend(outcome.broken.map(|broken| (outcome.seed, broken)));
                }
            });
        }
    });
    let mut all = all.into_inner().expect("nobody panics while it adds up");
    all.violations.sort_by_key(|(seed, _)| *seed);
    if seeds >= SEEDS_FOR_COVERAGE {
        all.missed = EXPECTED.iter().copied().filter(|name| !all.counters.contains_key(name)).collect();
    }
    all
}

/// Plays one seed out, and tells its story.
#[must_use]
pub fn alone(seed: u64, story: Story) -> Sweep {
    let Outcome { steps, counters, broken, .. } = play(seed, story, || {});
    let violations = broken.map(|broken| (seed, broken)).into_iter().collect();
    Sweep { seeds: 1, steps, counters, violations, missed: Vec::new() }
}

/// Plays one seed out. `on_thread` is called on every thread that takes part.
#[must_use]
pub fn play(seed: u64, story: Story, on_thread: impl Fn() + Clone + Send + Sync + 'static) -> Outcome {
    keep_panics();
    let played = caught(|| {
        on_thread();
        let runtime = runtime(on_thread);
        let mut world = World::new(seed, story);
        let broken = runtime.block_on(world.play()).err();
        if let Some(broken) = &broken {
            world.story.tell("broke", &broken.to_string());
        }
        Outcome { seed, steps: world.steps, story: world.story.hash(), counters: world.tally, broken }
    });
    played.unwrap_or_else(|said| Outcome {
        seed,
        steps: 0,
        story: 0,
        counters: BTreeMap::new(),
        broken: Some(Broken::new("never-panics", said)),
    })
}

/// One thread that decides and one that waits for disks: what is asked first is done first.
fn runtime(on_thread: impl Fn() + Send + Sync + 'static) -> Runtime {
    let mut builder = Builder::new_current_thread();
    let built = builder.enable_time().max_blocking_threads(1).on_thread_start(on_thread).build();
    built.expect("a thread more")
}

struct World {
    rng: Rng,
    faults: Rng,
    truth: Truth,
    keys: u64,
    padding: usize,
    keep: usize,
    deltas: usize,
    /// A fault in so many of a million tasks.
    trouble: Ppm,
    places: Vec<Place>,
    /// Of the present generation. One that is at work is out.
    workers: Vec<Option<Worker>>,
    /// Of clusters that were given up and do not know it.
    stale: Vec<Worker>,
    beginning: Option<Beginning>,
    /// The highest revision that was asked to be reserved.
    reserved: i64,
    restores: u64,
    /// Nothing is left to restore: the lineage has ended.
    over: bool,
    /// A task of another one waits for its turn.
    racing: bool,
    steps: u64,
    tally: Tally,
    story: Story,
}

impl World {
    fn new(seed: u64, story: Story) -> World {
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
            restores: 0,
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
    fn start_all(&mut self) {
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

    fn count(&mut self, name: &'static str) {
        *self.tally.entry(name).or_default() += 1;
    }

    async fn play(&mut self) -> Check {
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

    async fn step(&mut self) -> Check {
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
    fn draw(&mut self) -> (usize, Task) {
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
    fn checkpoint(&mut self, generation: u64) -> Task {
        let newest = self.truth.first(generation) + self.truth.entries(generation, 0).len() as u64;
        let behind = self.rng.below(4).min(newest - self.truth.first(generation));
        Task::Checkpoint(Box::new(self.truth.cut(generation, newest - behind, self.reserved)))
    }

    /// All places, this one first.
    fn sources(&self, first: usize) -> Vec<restore::Source> {
        let others = self.places.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, place)| place);
        std::iter::once(&self.places[first]).chain(others).map(Place::source).collect()
    }

    async fn task(&mut self) -> Check {
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

    /// Something may be about to go wrong; whether it is.
    fn plan_trouble(&mut self, worker: &mut Worker) -> bool {
        if !self.faults.chance(self.trouble) {
            return false;
        }
        let medium = self.places[worker.place].medium.clone();
        let Ok(faults) = worker.reach(&medium) else { return false };
        if let Medium::Disk(disk) = &medium
            && self.faults.below(2) == 0
        {
            let strike = self.faults.pick(&[Strike::Fail, Strike::FailAfter, Strike::NoSpace, Strike::Stop]);
            disk.strike_at(self.faults.between(1, 60), strike);
            return true;
        }
        let on = self.faults.pick(&[On::Create, On::SwapHead, On::Delete, On::Write, On::Read, On::Read]);
        let act = self.faults.pick(&[
            Act::Fail,
            Act::Refuse,
            Act::NoSpace,
            Act::LoseAnswer,
            Act::Drop,
            Act::Garble,
            Act::Shorten,
        ]);
        let skip = u32::try_from(self.faults.below(8)).expect("small");
        let times = u32::try_from(self.faults.between(1, 3)).expect("small");
        faults.add(Rule { on, key_contains: String::new(), skip, times, act });
        true
    }

    /// Whether something has gone wrong; what was planned and has not is left out.
    fn see_trouble(&mut self, worker: &mut Worker) -> bool {
        let medium = self.places[worker.place].medium.clone();
        let mut struck = false;
        if let Medium::Disk(disk) = &medium {
            disk.spare();
            if let Some(what) = disk.struck() {
                struck = true;
                let kind = what.split_whitespace().next().unwrap_or_default();
                let kinds = ["strike.Fail", "strike.FailAfter", "strike.NoSpace", "strike.Stop"];
                if let Some(name) = kinds.into_iter().find(|name| name.ends_with(&format!(".{kind}"))) {
                    self.count(name);
                }
                if kind == "Stop" {
                    disk.restart();
                    worker.end();
                }
            }
        }
        if let Some(faults) = &worker.faults {
            for act in faults.forget() {
                struck = true;
                self.count(match act {
                    Act::Fail => "fault.Fail",
                    Act::Refuse => "fault.Refuse",
                    Act::NoSpace => "fault.NoSpace",
                    Act::LoseAnswer => "fault.LoseAnswer",
                    Act::Drop => "fault.Drop",
                    Act::Garble => "fault.Garble",
                    Act::Shorten => "fault.Shorten",
                    Act::Stall | Act::Stop => "fault.Stall",
                });
            }
        }
        struck
    }

    /// What a task of the present generation came to. Without a fault, on a place that nobody has harmed, it goes well.
    fn judge(
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
                let noticed = noticed || taken;
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
                    struck || noticed || !whole,
                    "nothing-in-the-way",
                    "{who}, where nothing has gone wrong: {error}"
                );
                Ok(())
            }
        }
    }

    /// A process ends, and another is started in its place.
    fn end_a_process(&mut self) -> Check {
        let at = self.rng.index(self.workers.len());
        if let Some(worker) = &mut self.workers[at] {
            worker.end();
            self.story.tell(&format!("the process of worker {at} ends"), "");
            self.count("process.ended");
        }
        Ok(())
    }

    fn fate(&mut self) -> Fate {
        match self.faults.below(4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn(self.faults.next()),
        }
    }

    /// The power of a disk's machine goes, and comes back.
    fn lose_power(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        let fate = self.fate();
        if self.places[at].replica.is_none() || self.is_busy(at) {
            return Ok(());
        }
        self.places[at].lose_power(fate);
        for worker in self.workers.iter_mut().flatten().filter(|worker| worker.place == at) {
            worker.end();
        }
        self.story.tell(&format!("{}: the power goes: {fate:?}", self.places[at].name()), "");
        self.count(match fate {
            Fate::Lost => "power.Lost",
            Fate::Kept => "power.Kept",
            Fate::Torn(_) => "power.Torn",
        });
        Ok(())
    }

    /// Something is damaged, and nobody is told.
    async fn harm(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        if self.faults.below(3) > 0 && self.trouble.0 == 0 {
            return Ok(());
        }
        let place = &mut self.places[at];
        let harmed = match self.faults.below(6) {
            0 => place.rot_head(&mut self.faults).then_some("damage.headRot"),
            1 => {
                // It has called durable what it has not kept, and nobody knows before the power goes.
                let Medium::Disk(disk) = &place.medium else { return Ok(()) };
                disk.lie(true);
                (place.whole, place.scarred, place.lies) = (false, true, true);
                Some("disk.lies")
            }
            n => {
                let (damage, name) = [
                    (Damage::BitFlip, "damage.bitFlip"),
                    (Damage::Short, "damage.short"),
                    (Damage::Misdirected, "damage.misdirected"),
                    (Damage::Lost, "damage.lost"),
                ][n as usize - 2];
                place.damage(damage, &mut self.faults).await.then_some(name)
            }
        };
        if let Some(name) = harmed {
            self.story.tell(&format!("{}: {name}", self.places[at].name()), "");
            self.count(name);
            // Now and then somebody looks before anybody else was there.
            if self.faults.below(3) == 0 {
                self.look_at(at).await?;
            }
        }
        Ok(())
    }

    /// A disk is gone, and another, empty one is in its place.
    fn vanish(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        if self.places[at].replica.is_none() || self.racing {
            return Ok(());
        }
        self.places[at].vanish();
        for worker in self.workers.iter_mut().flatten().filter(|worker| worker.place == at) {
            worker.end();
        }
        self.story.tell(&format!("{} vanishes", self.places[at].name()), "");
        self.count("disk.vanished");
        Ok(())
    }

    /// Somebody verifies a place. What is called whole is whole, and what nobody harmed is called so.
    async fn look(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        self.look_at(at).await
    }

    async fn look_at(&mut self, at: usize) -> Check {
        if self.is_busy(at) {
            return Ok(());
        }
        let source = self.places[at].source();
        let report = verify(&source, &Truth::lineage(), Only::default(), Depth::Root).await;
        let name = self.places[at].name();
        if self.places[at].whole {
            let expected = self.places[at].told.checkpoint.is_some();
            require!(
                report.ok() || !expected,
                "whole-is-called-whole",
                "{name}: {:?} {:?}",
                report.problems,
                report.checkpoints.iter().flat_map(|c| &c.problems).collect::<Vec<_>>()
            );
        }
        self.story.tell(&format!("{name}: verified: {}", report.ok()), "");
        if !report.ok() {
            self.count("verify.damaged");
            return Ok(());
        }
        self.count("verify.whole");
        let reaches = self.alone(at, true).await?;
        let place = &mut self.places[at];
        if !place.whole && !place.lies {
            // It was repaired, or what was damaged is not needed any more. What it has counts again.
            (place.whole, place.told) = (true, reaches);
            if std::mem::take(&mut place.harmed) {
                // A segment that its writer believes to be there may have been lost without a trace, up to the next
                // checkpoint: the next writer learns anew what is there.
                for worker in self.workers.iter_mut().flatten().filter(|worker| worker.place == at) {
                    worker.end();
                }
            }
        }
        Ok(())
    }

    fn is_busy(&self, place: usize) -> bool {
        self.workers.iter().filter(|worker| worker.as_ref().is_some_and(|w| w.place == place)).count()
            < if self.places[place].replica.is_some() { 1 } else { 2 }
    }

    /// What comes back from a place alone. All of it is true; and if the place is whole, all of it comes back.
    async fn alone(&mut self, at: usize, whole: bool) -> Result<Told, Broken> {
        let (source, name) = (self.places[at].source(), self.places[at].name());
        self.what_comes_back(&[source], &name, whole).await
    }

    async fn what_comes_back(
        &mut self,
        sources: &[restore::Source],
        name: &str,
        whole: bool,
    ) -> Result<Told, Broken> {
        let inventory = restore::inventory(sources, &Truth::lineage()).await;
        let mut told = Told { reserved: inventory.reserved_revision, ..Told::default() };
        for (rank, candidate) in inventory.candidates.iter().enumerate() {
            match restore::load(candidate, sources, None).await {
                Ok(loaded) => {
                    self.truth.holds(&loaded).map_err(|why| {
                        Broken::new("only-what-was-comes-back", format!("{name}: {candidate:?}: {why}"))
                    })?;
                    let reached = loaded.manifest.op + loaded.entries.len() as u64;
                    require!(
                        !whole || reached == candidate.reachable_op,
                        "what-is-shown-is-there",
                        "{name}: {candidate:?} reaches {reached}: {:?}",
                        loaded.cut_short
                    );
                    if rank == 0 {
                        (told.generation, told.log) = (candidate.generation, reached);
                        told.checkpoint = Some(candidate.checkpoint_op);
                    }
                }
                Err(error) => require!(!whole, "what-is-retained-is-there", "{name}: {error}"),
            }
        }
        Ok(told)
    }

    /// What would come back from a place that nobody harmed, if the power went now: all that anybody was told.
    async fn come_back(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        self.come_back_from(at).await
    }

    async fn come_back_from(&mut self, at: usize) -> Check {
        if !self.places[at].whole || self.is_busy(at) {
            return Ok(());
        }
        let (name, told, fate) = (self.places[at].name(), self.places[at].told, self.fate());
        let copy = match &self.places[at].medium {
            Medium::Disk(disk) => {
                let copy = disk.fork();
                copy.lose_power(fate);
                let medium = Medium::Disk(copy);
                Place { medium, ..Place::disk(self.places[at].kind, 0) }.source()
            }
            Medium::Bucket(_) => self.places[at].source(),
        };
        let back = self.what_comes_back(&[copy], &name, true).await?;
        self.story.tell(&format!("{name}: {back:?} would come back of {told:?}"), "");
        self.covers(&name, back, told)
    }

    /// What comes back is at least what was told.
    fn covers(&self, name: &str, back: Told, told: Told) -> Check {
        require!(
            back.reserved >= told.reserved,
            "no-revision-twice",
            "{name}: {} is reserved, and {} comes back",
            told.reserved,
            back.reserved
        );
        // Of what an earlier generation was told, only that counts which the present one took over.
        let due = self.truth.in_the_past(told.generation.max(1), told.log);
        let is = self.truth.in_the_past(back.generation.max(1), back.log);
        require!(
            told.checkpoint.is_none() || (back.checkpoint.is_some() && is >= due),
            "durable-comes-back",
            "{name}: {told:?} was told, and {back:?} comes back"
        );
        Ok(())
    }

    /// Somebody of a cluster that was given up goes on as if nothing had happened.
    async fn stale_task(&mut self) -> Check {
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
    async fn race(&mut self) -> Check {
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

    /// All trouble ends. Whatever was damaged is found, what cannot be made whole is shipped again, and each place alone
    /// brings the newest state back.
    async fn heal(&mut self) -> Check {
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
    async fn head_is_lost(&self, at: usize) -> bool {
        let place = &self.places[at];
        let head = place.reader().head().await;
        !place.whole && !matches!(head, Ok(Some(_)))
    }
}
