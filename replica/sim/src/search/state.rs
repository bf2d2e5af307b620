//! All replicas together, what is on its way between them, and what the oracles remember.

use super::REPLICAS;
use super::change::CHANGES;
use super::local::{Action, Cache, Here, Outcome, Sent, Tables};
use crate::oracle::{Broken, Check, require};
use crate::rng::mix;
use std::sync::Arc;
use vr_core::{Ballot, Digest, Epoch, Header, Incarnation};

/// What has become true for ever.
#[derive(Clone, Debug, Default)]
struct Story {
    committed: Vec<Header>,
    /// The ballot of whoever was the first to commit the newest of them.
    by: Ballot,
    primaries: Vec<(Ballot, usize, Incarnation)>,
    /// Whom the epochs belong to.
    members: Vec<(Epoch, Digest)>,
}

impl Story {
    fn hash(&self) -> u64 {
        let mut h = mix(self.committed.len() as u64);
        if let Some(newest) = self.committed.last() {
            h = mix(h ^ crate::machine::digest(&newest.digest().0));
            h = mix(h ^ self.by.view.0 ^ self.by.epoch.0 << 32);
        }
        h = self
            .members
            .iter()
            .fold(h, |h, (epoch, id)| h.wrapping_add(mix(crate::machine::digest(&id.0) ^ epoch.0)));
        // In the order of ballots: which was first does not matter.
        let all = self.primaries.iter().map(|(ballot, index, incarnation)| {
            mix(mix(ballot.view.0 ^ ballot.epoch.0 << 32) ^ (*index as u64) << 48 ^ incarnation.0)
        });
        all.fold(h, u64::wrapping_add)
    }

    fn commits(&mut self, index: usize, header: &Header, ballot: Ballot) -> Check {
        let (op, known) = (header.op.0 as usize, self.committed.len());
        require!(op <= known + 1 && op > 0, "one-history", "R{index} commits op {op}, newest is {known}");
        if op == known + 1 {
            self.committed.push(*header);
            self.by = ballot;
        }
        let here = &self.committed[op - 1];
        require!(here == header, "one-history", "R{index} commits {header:?} where {here:?} was committed");
        Ok(())
    }

    fn takes(&mut self, index: usize, epoch: Epoch, id: Digest) -> Check {
        match self.members.iter().find(|(known, _)| *known == epoch) {
            None => self.members.push((epoch, id)),
            Some((_, known)) => require!(
                *known == id,
                "one-configuration",
                "R{index} takes {id} for the members of epoch {epoch}, which are {known}"
            ),
        }
        Ok(())
    }

    fn leads(&mut self, ballot: Ballot, index: usize, incarnation: Incarnation) -> Check {
        match self.primaries.iter().find(|(known, ..)| *known == ballot) {
            None => self.primaries.push((ballot, index, incarnation)),
            Some(&(_, other, start)) => require!(
                (other, start) == (index, incarnation),
                "one-primary-per-ballot",
                "R{index} (start {incarnation}) leads {ballot}, which R{other} (start {start}) led"
            ),
        }
        Ok(())
    }
}

/// A moment.
#[derive(Clone)]
pub(super) struct State {
    pub(super) locals: [Here; REPLICAS],
    story: Arc<Story>,
    timeouts: u8,
    crashes: u8,
    writes: u8,
    changes: u8,
    overtakes: u8,
    /// In the order in which they were sent.
    on_the_way: Box<[Sent]>,
}

impl State {
    pub(super) fn first(tables: &Tables) -> State {
        let locals = tables.beginning();
        let mut story = Story::default();
        let replica = &tables.local(locals[0].number).replica;
        let started = story.leads(replica.ballot(), 0, replica.vote().incarnation);
        debug_assert!(started.is_ok(), "nobody led before");
        let bounds = &tables.bounds;
        State {
            locals,
            story: Arc::new(story),
            timeouts: bounds.timeouts,
            crashes: bounds.crashes,
            writes: bounds.writes,
            changes: bounds.changes,
            overtakes: bounds.overtakes,
            on_the_way: Box::default(),
        }
    }

    /// Equal for states from which the same can happen.
    pub(super) fn hash(&self) -> u64 {
        let left = u64::from_le_bytes([
            self.timeouts,
            self.crashes,
            self.writes,
            self.overtakes,
            self.changes,
            0,
            0,
            0,
        ]);
        let mut links = [0; REPLICAS * REPLICAS];
        for message in &self.on_the_way {
            let link = &mut links[usize::from(message.from) * REPLICAS + usize::from(message.to)];
            *link = mix(*link ^ message.hash);
        }
        let on_the_way = links.iter().fold(0, |h, link| mix(h ^ link));
        let locals = self.locals.iter().fold(0, |h, local| mix(h ^ local.hash));
        mix(mix(locals ^ on_the_way) ^ left ^ self.story.hash().rotate_left(24))
    }

    /// Everything that can happen now.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = self.on_the_way.iter().map(|m| Action::Deliver(m.number)).collect();
        if self.overtakes > 0 {
            actions.extend(self.on_the_way.iter().map(|m| Action::Overtake(m.number)));
        }
        for (index, local) in (0..).zip(&self.locals) {
            if self.timeouts > 0 && local.can_time_out {
                actions.push(Action::Timeout(index));
            }
            if self.crashes > 0 && !local.gone {
                actions.push(Action::Crash(index));
            }
            if self.writes > 0 && local.takes_writes {
                actions.push(Action::Write(index));
            }
            if local.is_writing {
                actions.push(Action::Durable(index));
            }
            if self.changes > 0 {
                let possible = (0..CHANGES).filter(|change| local.changes >> change & 1 == 1);
                actions.extend(possible.map(|change| Action::Change(index, change)));
            }
        }
        actions
    }

    /// Takes a message off its link, and with `lossy` those sent before it; whose it is, and whether there were any.
    fn take(&mut self, number: u32, lossy: bool) -> (usize, bool) {
        let arrives = *self.on_the_way.iter().find(|m| m.number == number).expect("it is on its way");
        let (mut before, mut earlier) = (true, false);
        let mut left = Vec::with_capacity(self.on_the_way.len() + 2);
        for m in &self.on_the_way {
            before &= m.number != number;
            let overtaken = before && (m.from, m.to) == (arrives.from, arrives.to);
            earlier |= overtaken;
            if m.number != number && !(overtaken && lossy) {
                left.push(*m);
            }
        }
        self.on_the_way = left.into();
        (usize::from(arrives.to), earlier)
    }

    /// The state after a step; `None` if the step changes nothing that was not possible without it.
    pub(super) fn after(
        &self,
        tables: &Tables,
        cache: &mut Cache,
        action: Action,
    ) -> Result<Option<State>, Broken> {
        let mut next = self.clone();
        let index = match action {
            // What was sent earlier on the same link is lost.
            Action::Deliver(message) => next.take(message, true).0,
            Action::Overtake(message) => {
                let (to, earlier) = next.take(message, false);
                if !earlier {
                    return Ok(None);
                }
                next.overtakes -= 1;
                to
            }
            Action::Timeout(index) => {
                next.timeouts -= 1;
                usize::from(index)
            }
            Action::Crash(index) => {
                next.crashes -= 1;
                usize::from(index)
            }
            Action::Write(index) => {
                next.writes -= 1;
                usize::from(index)
            }
            Action::Change(index, _) => {
                next.changes -= 1;
                usize::from(index)
            }
            Action::Durable(index) => usize::from(index),
        };
        let outcome = tables.outcome(cache, self.locals[index], index, action);
        let Outcome { next: local, sent, committed, leads, taken, broken } = &*outcome;
        if let Some(broken) = broken {
            return Err(broken.clone());
        }
        // A message that does nothing may as well never have come.
        if *local == self.locals[index] && sent.is_empty() {
            return Ok(None);
        }
        next.locals[index] = *local;
        if !committed.is_empty() || leads.is_some() || taken.is_some() {
            let story = Arc::make_mut(&mut next.story);
            for header in committed {
                story.commits(index, header, tables.local(local.number).replica.ballot())?;
            }
            if let Some((epoch, id)) = taken {
                story.takes(index, *epoch, *id)?;
            }
            if let Some(ballot) = leads {
                let local = tables.local(local.number);
                story.leads(*ballot, index, local.replica.vote().incarnation)?;
                if let Some(newest) = story.committed.last()
                    && story.by <= *ballot
                    && newest.op > local.replica.commit()
                {
                    let ours = local.replica.entry(newest.op).map(|entry| &entry.header);
                    require!(
                        ours == Some(newest),
                        "leader-has-all",
                        "R{index} leads {ballot} with {ours:?} in its log where {newest:?} was committed"
                    );
                }
            }
        }
        let new: Vec<Sent> = sent.iter().copied().filter(|m| !next.on_the_way.contains(m)).collect();
        if !new.is_empty() {
            next.on_the_way = next.on_the_way.iter().copied().chain(new).collect();
        }
        Ok(Some(next))
    }
}
