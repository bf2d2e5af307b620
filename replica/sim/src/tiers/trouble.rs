//! What goes wrong: faults in the middle of a task, processes and machines that end, and damage without a word.

use super::place::{Damage, Medium};
use super::worker::Worker;
use super::world::World;
use crate::oracle::Check;
use vr_checkpoint::store::fault::{Act, On, Rule};
use vr_checkpoint::store::files::{Fate, Strike};
impl World {
    /// Something may be about to go wrong; whether it is.
    pub(super) fn plan_trouble(&mut self, worker: &mut Worker) -> bool {
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
    pub(super) fn see_trouble(&mut self, worker: &mut Worker) -> bool {
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

    /// A process ends, and another is started in its place.
    pub(super) fn end_a_process(&mut self) -> Check {
        let at = self.rng.index(self.workers.len());
        if let Some(worker) = &mut self.workers[at] {
            worker.end();
            self.story.tell(&format!("the process of worker {at} ends"), "");
            self.count("process.ended");
        }
        Ok(())
    }

    pub(super) fn fate(&mut self) -> Fate {
        match self.faults.below(4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn(self.faults.next()),
        }
    }

    /// The power of a disk's machine goes, and comes back.
    pub(super) fn lose_power(&mut self) -> Check {
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
    pub(super) async fn harm(&mut self) -> Check {
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
    pub(super) fn vanish(&mut self) -> Check {
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
}
