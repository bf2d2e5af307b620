//! Changes of the members: made from the configuration in force, and made again when another change came in between.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use vr_proto::control as pb;
use vr_proto::control::refusal::Reason;

use super::page::ballot;
use crate::control::{Authority, Control, ControlError, Where};
use crate::trust::TrustError;

/// How often a change is made anew because another one came first.
const AGAIN: usize = 10;
/// Between two looks at a learner that catches up.
const LOOK: Duration = Duration::from_millis(100);

/// One cluster, and in whose name it is changed.
pub struct Editor {
    control: Control,
    authority: Authority,
}

/// The configuration in force, as the replicas know it.
#[derive(Clone, Debug)]
pub struct InForce {
    /// It.
    pub configuration: pb::Configuration,
    /// The highest id that was ever given.
    pub highest_id: u64,
    /// Who leads; 0 if nobody.
    pub primary: u64,
}

impl Editor {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(place: &Where, authority: &Authority) -> Result<Editor, TrustError> {
        Ok(Editor { control: Control::new(place)?, authority: authority.clone() })
    }

    /// The way to the replicas.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What is in force now.
    ///
    /// # Errors
    /// When no replica answers.
    pub async fn in_force(&self) -> anyhow::Result<InForce> {
        let answer = self.control.status().await?;
        let said = answer.asked.into_iter().chain(answer.others);
        // Whoever is in the newest ballot, and of those the one that has executed most.
        let newest = said.max_by_key(|status| (ballot(status), status.commit));
        let newest = newest.ok_or_else(|| anyhow!("the replica that was asked says nothing of itself"))?;
        let configuration = newest.configuration.ok_or_else(|| {
            anyhow!("replica {} does not know the members; is it of another version?", newest.replica)
        })?;
        Ok(InForce { configuration, highest_id: newest.highest_id, primary: newest.primary })
    }

    /// Makes one change. It is made anew from what is in force when another change came first; `change` then sees that
    /// one.
    ///
    /// # Errors
    /// Those of `change`, and refusals.
    pub async fn edit(
        &self,
        change: impl Fn(&mut pb::Configuration, &InForce) -> anyhow::Result<()>,
    ) -> anyhow::Result<pb::Configuration> {
        let mut attempt = 0;
        loop {
            let now = self.in_force().await?;
            let mut next = now.configuration.clone();
            change(&mut next, &now)?;
            attempt += 1;
            match self.propose(&now.configuration, next).await {
                Err(error)
                    if matches!(error.reason(), Some(Reason::Stale | Reason::Pending)) && attempt < AGAIN =>
                {
                    tokio::time::sleep(LOOK).await;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Proposes exactly this configuration in the place of exactly that one.
    ///
    /// # Errors
    /// Refusals, one of them that it is no longer in force.
    pub async fn propose(
        &self,
        replaces: &pb::Configuration,
        next: pb::Configuration,
    ) -> Result<pb::Configuration, ControlError> {
        let request = pb::ReconfigureRequest {
            fence: Some(self.authority.fence()),
            replaces: replaces.id.clone(),
            next: Some(next),
        };
        let done = self.control.call(async |mut client| client.reconfigure(request.clone()).await).await?;
        Ok(done.configuration.unwrap_or_default())
    }

    /// Adds a learner; its id is the next free one unless one is given.
    ///
    /// # Errors
    /// Those of [`Editor::edit`].
    pub async fn add(&self, member: &pb::Member) -> anyhow::Result<pb::Member> {
        let agreed = self
            .edit(|next, now| {
                let id = if member.id == 0 { now.highest_id + 1 } else { member.id };
                if let Some(other) = members(next).find(|m| m.peer == member.peer) {
                    bail!("replica {} has the peer address {} already", other.id, member.peer);
                }
                next.learners.push(pb::Member { id, ..member.clone() });
                Ok(())
            })
            .await?;
        let added = agreed.learners.iter().find(|m| m.peer == member.peer);
        added.cloned().ok_or_else(|| anyhow!("the learner was agreed on, and is gone again already"))
    }

    /// Makes a voter of a learner once it is in sync, in the place of another voter if one is named. `told` hears how
    /// far behind it is.
    ///
    /// # Errors
    /// Those of [`Editor::edit`]; that it is not in sync in time.
    pub async fn promote(
        &self,
        id: u64,
        instead_of: Option<u64>,
        patience: Duration,
        told: impl Fn(&str),
    ) -> anyhow::Result<pb::Configuration> {
        let deadline = Instant::now() + patience;
        let mut said = String::new();
        loop {
            let outcome = self.edit(|next, _| promoted(next, id, instead_of)).await;
            let error = match outcome {
                Ok(agreed) => return Ok(agreed),
                Err(error) => error,
            };
            let reason = error.downcast_ref::<ControlError>().and_then(ControlError::reason);
            if reason != Some(Reason::NotReady) || Instant::now() >= deadline {
                return Err(error);
            }
            let text = format!("waiting: {}", error.to_string().lines().next().unwrap_or_default());
            if text != said {
                told(&text);
                said = text;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Removes a member.
    ///
    /// # Errors
    /// Those of [`Editor::edit`].
    pub async fn remove(&self, id: u64) -> anyhow::Result<pb::Configuration> {
        self.edit(|next, _| {
            known(next, id)?;
            next.order.retain(|m| m.id != id);
            next.learners.retain(|m| m.id != id);
            if next.order.is_empty() {
                bail!(
                    "replica {id} is the last voter: without it there is no cluster. Stop the replica instead, if that \
                     is what you want"
                );
            }
            Ok(())
        })
        .await
    }

    /// Lets another voter lead.
    ///
    /// # Errors
    /// Refusals.
    pub async fn hand_off(&self, to: u64) -> Result<pb::HandOffResponse, ControlError> {
        let request = pb::HandOffRequest { fence: Some(self.authority.fence()), to };
        self.control.call(async |mut client| client.hand_off(request).await).await
    }
}

/// Voters, then learners.
pub fn members(configuration: &pb::Configuration) -> impl Iterator<Item = &pb::Member> {
    configuration.order.iter().chain(&configuration.learners)
}

fn known(configuration: &pb::Configuration, id: u64) -> anyhow::Result<()> {
    if members(configuration).all(|m| m.id != id) {
        let ids = members(configuration).map(|m| m.id.to_string()).collect::<Vec<_>>().join(", ");
        bail!("replica {id} is not a member; the members are {ids}");
    }
    Ok(())
}

fn promoted(next: &mut pb::Configuration, id: u64, instead_of: Option<u64>) -> anyhow::Result<()> {
    known(next, id)?;
    let Some(place) = next.learners.iter().position(|m| m.id == id) else {
        bail!("replica {id} votes already");
    };
    let learner = next.learners.remove(place);
    match instead_of {
        None => next.order.push(learner),
        Some(old) => {
            known(next, old)?;
            match next.order.iter().position(|m| m.id == old) {
                Some(place) => next.order[place] = learner,
                None => bail!("replica {old} is a learner: remove it; only a voter can be replaced"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> pb::Configuration {
        let member = |id| pb::Member { id, ..pb::Member::default() };
        pb::Configuration {
            order: [1, 2, 3].map(member).to_vec(),
            learners: vec![member(7)],
            ..pb::Configuration::default()
        }
    }

    #[test]
    fn a_learner_takes_a_place_or_the_last_one() {
        let mut next = configuration();
        promoted(&mut next, 7, None).expect("a learner");
        assert_eq!(next.order.iter().map(|m| m.id).collect::<Vec<_>>(), [1, 2, 3, 7]);
        let mut next = configuration();
        promoted(&mut next, 7, Some(2)).expect("a learner");
        assert_eq!(next.order.iter().map(|m| m.id).collect::<Vec<_>>(), [1, 7, 3]);
        assert!(next.learners.is_empty());
    }

    #[test]
    fn what_cannot_be_promoted_is_said() {
        for (id, instead, says) in [
            (9, None, "replica 9 is not a member; the members are 1, 2, 3, 7"),
            (2, None, "replica 2 votes already"),
            (7, Some(9), "replica 9 is not a member"),
        ] {
            let error = promoted(&mut configuration(), id, instead).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
