//! The memory of everybody is lost at once, and of the disks a part; what is left is looked through, and another generation
//! begins.

use super::place::{Place, Told};
use super::truth::Truth;
use super::world::World;
use crate::oracle::{Broken, Check, require};
use std::sync::Arc;
use vr_checkpoint::restore::{self, Loaded, Source, TierKind};
use vr_checkpoint::store::ObjectStore;
use vr_checkpoint::store::fault::{Act, FaultStore, On, Rule};
use vr_checkpoint::writer::Beginning;

/// What a restore came to.
struct Restored {
    loaded: Loaded,
    tier: TierKind,
    reserved: i64,
    rank: usize,
    /// Whether something was said to be there that was not.
    short: bool,
    /// Whether somebody wanted less than there was.
    rolled_back: bool,
}

impl World {
    pub(super) async fn lose_everything(&mut self) -> Check {
        self.story.tell("the memory of all is lost", "");
        for at in 0..self.places.len() {
            let gone = match (self.places[at].kind, self.is_out(at)) {
                (_, true) | (TierKind::ObjectStore, _) => false,
                (TierKind::Nvme, _) => self.faults.below(10) < 6,
                (TierKind::Volume, _) => self.faults.below(10) < 3,
            };
            let fate = self.fate();
            if gone {
                self.places[at].vanish();
            } else {
                self.places[at].lose_power(fate);
            }
        }
        // A process of the bucket may live on where nobody can reach it.
        for worker in std::mem::take(&mut self.workers).into_iter().flatten() {
            if self.places[worker.place].replica.is_none() && self.faults.below(2) == 0 {
                self.stale.push(worker);
            }
        }
        let mut restored = None;
        for attempt in 0..3 {
            // What a restore reads may arrive damaged, or not at all. It is tried again then.
            let troubled = attempt < 2 && self.faults.chance(self.trouble);
            let found = self.restore(troubled).await?;
            if !troubled {
                restored = found;
                break;
            }
        }
        let due: Vec<(String, Told)> =
            self.places.iter().filter(|place| place.whole).map(|place| (place.name(), place.told)).collect();
        let Some(restored) = restored else {
            let told = due.iter().find(|(_, told)| told.checkpoint.is_some());
            require!(told.is_none(), "durable-comes-back", "nothing comes back, and {told:?} was told");
            self.story.tell("nothing is left", "");
            self.count("restore.nothingLeft");
            self.over = true;
            return Ok(());
        };
        self.begin(restored, &due).await
    }

    fn is_out(&self, place: usize) -> bool {
        self.racing && self.workers.iter().flatten().all(|worker| worker.place != place)
    }

    /// The first candidate that can be loaded.
    async fn restore(&mut self, troubled: bool) -> Result<Option<Restored>, Broken> {
        let mut sources: Vec<Source> = self.places.iter().map(Place::source).collect();
        if troubled {
            for source in &mut sources {
                let troubled = FaultStore::new(Arc::clone(&source.store));
                let act = self.faults.pick(&[Act::Fail, Act::Refuse, Act::Garble, Act::Shorten]);
                let skip = u32::try_from(self.faults.below(12)).expect("small");
                troubled.add(Rule { on: On::Read, key_contains: String::new(), skip, times: 2, act });
                source.store = Arc::new(troubled) as Arc<dyn ObjectStore>;
            }
        }
        let inventory = restore::inventory(&sources, &Truth::lineage()).await;
        for (rank, candidate) in inventory.candidates.iter().enumerate() {
            let mut back = (!troubled && self.faults.below(4) == 0)
                .then(|| self.faults.between(candidate.checkpoint_op, candidate.reachable_op));
            let mut loaded = restore::load(candidate, &sources, back).await;
            if loaded.is_err() && back.take().is_some() {
                // Whoever cannot have just that op takes as much as is whole, before anything that is older.
                loaded = restore::load(candidate, &sources, None).await;
            }
            let Ok(loaded) = loaded else { continue };
            self.truth
                .holds(&loaded)
                .map_err(|why| Broken::new("only-what-was-comes-back", format!("{candidate:?}: {why}")))?;
            let op = loaded.manifest.op + loaded.entries.len() as u64;
            let past = self.truth.in_the_past(candidate.generation, op);
            require!(
                past == op || troubled,
                "the-abandoned-stays-out",
                "{candidate:?} came back through op {op}, of which only {past} counts"
            );
            let (tier, reserved) = (candidate.tier, inventory.reserved_revision);
            let short = loaded.cut_short.is_some();
            let rolled_back = back.is_some();
            return Ok(Some(Restored { loaded, tier, reserved, rank, short, rolled_back }));
        }
        Ok(None)
    }

    /// The next generation begins from what was loaded.
    async fn begin(&mut self, restored: Restored, due: &[(String, Told)]) -> Check {
        let Restored { loaded, tier, reserved, rank, short, rolled_back } = restored;
        let back = Told {
            generation: loaded.manifest.generation,
            checkpoint: Some(loaded.manifest.op),
            log: loaded.manifest.op + loaded.entries.len() as u64,
            reserved,
        };
        for (name, told) in due {
            // Who goes back on purpose loses what is beyond, but no reservation.
            let told = if rolled_back { Told { checkpoint: None, ..*told } } else { *told };
            self.covers(name, back, told)?;
        }
        if rolled_back {
            self.count("restore.rollBack");
        }
        self.count(match tier {
            TierKind::Nvme => "restore.nvme",
            TierKind::Volume => "restore.volume",
            TierKind::ObjectStore => "restore.objectStore",
        });
        if loaded.repaired_pages > 0 {
            self.count("restore.repairedPages");
        }
        if rank > 0 {
            self.count("restore.nextCandidate");
        }
        if short {
            self.count("restore.cutShort");
        }
        let parent = self
            .truth
            .restore(&loaded, reserved)
            .map_err(|why| Broken::new("only-what-was-comes-back", why))?;
        let generation = self.truth.generation();
        let token = format!("restore to {generation}");
        self.story.tell(&format!("generation {generation} begins from {back:?}"), "");
        let bucket = self.places.last().expect("the bucket is last").reader();
        let fenced = restore::fence(&*bucket, &parent, generation, reserved, &token).await;
        require!(fenced.is_ok(), "the-past-can-be-fenced", "{fenced:?}");
        let rival = restore::fence(&*bucket, &parent, generation, reserved, "another").await;
        require!(rival.is_err(), "one-restore-wins", "two restores began generation {generation}");
        self.beginning = Some(Beginning { parent, token });
        self.start_all();
        // Whoever goes back on purpose has not succeeded before the bucket holds the new generation: until then nobody else
        // knows where it left the one before.
        if rolled_back { self.begin_the_bucket(true).await } else { Ok(()) }
    }
}
