//! What is there: looked through by somebody who verifies, and loaded as a restore would. All of it is true, and what was told
//! to be durable is among it.

use super::place::{Medium, Place, Told};
use super::truth::Truth;
use super::world::World;
use crate::oracle::{Broken, Check, require};
use vr_checkpoint::restore;
use vr_checkpoint::verify::{Depth, Only, verify};
impl World {
    /// Somebody verifies a place. What is called whole is whole, and what nobody harmed is called so.
    pub(super) async fn look(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        self.look_at(at).await
    }

    pub(super) async fn look_at(&mut self, at: usize) -> Check {
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
        let reaches = self.what_comes_back(&[source], &name).await?;
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

    pub(super) fn is_busy(&self, place: usize) -> bool {
        self.workers.iter().filter(|worker| worker.as_ref().is_some_and(|w| w.place == place)).count()
            < if self.places[place].replica.is_some() { 1 } else { 2 }
    }

    /// What comes back from places that nobody harmed. All of it is true, and all of it comes back.
    pub(super) async fn what_comes_back(
        &mut self,
        sources: &[restore::Source],
        name: &str,
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
                        reached == candidate.reachable_op,
                        "what-is-shown-is-there",
                        "{name}: {candidate:?} reaches {reached}: {:?}",
                        loaded.cut_short
                    );
                    if rank == 0 {
                        (told.generation, told.log) = (candidate.generation, reached);
                        told.checkpoint = Some(candidate.checkpoint_op);
                    }
                }
                Err(error) => {
                    return Err(Broken::new("what-is-retained-is-there", format!("{name}: {error}")));
                }
            }
        }
        Ok(told)
    }

    /// What would come back from a place that nobody harmed, if the power went now: all that anybody was told.
    pub(super) async fn come_back(&mut self) -> Check {
        let at = self.rng.index(self.places.len());
        self.come_back_from(at).await
    }

    pub(super) async fn come_back_from(&mut self, at: usize) -> Check {
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
        let back = self.what_comes_back(&[copy], &name).await?;
        self.story.tell(&format!("{name}: {back:?} would come back of {told:?}"), "");
        self.covers(&name, back, told)
    }

    /// What comes back is at least what was told.
    pub(super) fn covers(&self, name: &str, back: Told, told: Told) -> Check {
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
}
