//! Who is a member and who leads: a change is carried out by the primary, whoever was asked.
//!
//! To ask twice is safe: a configuration that is in force already counts as reached, and so does a primary that leads
//! already.

use super::refusal::{self, Refused, refuse};
use super::{convert, fence, report};
use crate::node;
use std::time::Duration;
use tokio::time::Instant;
use vr_core::{Configuration, ReplicaId};
use vr_proto::control as pb;
use vr_proto::control::forwarded::Call;
use vr_proto::control::forwarded_answer::Answer;
use vr_proto::control::refusal::Reason;

/// How long a change may take, a view change on the way included.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the primary may take before it is asked again, or another one is.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(20);

/// Replaces the configuration, wherever the primary is.
///
/// # Errors
/// Why not, typed.
pub(crate) async fn reconfigure(request: pb::ReconfigureRequest) -> Result<pb::ReconfigureResponse, Refused> {
    fence::pass(request.fence).await?;
    match at_the_primary(Call::Reconfigure(request)).await? {
        Answer::Reconfigured(done) => Ok(done),
        Answer::Refusal(refusal) => Err(Box::new(refusal)),
        _ => Err(strange()),
    }
}

/// Moves the primary, wherever it is.
///
/// # Errors
/// Why not, typed.
pub(crate) async fn hand_off(request: pb::HandOffRequest) -> Result<pb::HandOffResponse, Refused> {
    fence::pass(request.fence).await?;
    match at_the_primary(Call::HandOff(request)).await? {
        Answer::HandedOff(done) => Ok(done),
        Answer::Refusal(refusal) => Err(Box::new(refusal)),
        _ => Err(strange()),
    }
}

/// At the primary: proposes the next configuration and waits until it is agreed.
pub(super) async fn reconfigure_here(
    request: pb::ReconfigureRequest,
) -> Result<pb::ReconfigureResponse, Refused> {
    fence::pass(request.fence).await?;
    let replaces = convert::digest(&request.replaces)?;
    let current = node::with(|node| leading(node).map(|()| node.members().clone()))?;
    let wanted = request.next.unwrap_or_default();
    // The epoch of the next one depends on what it replaces; under another one it can only be found in force already.
    let next = convert::proposed(wanted, current.epoch)?;
    if same(&current, &next) {
        return Ok(pb::ReconfigureResponse { configuration: Some(convert::configuration(&current)) });
    }
    let outcome = node::with(|node| node.reconfigure(replaces, next.clone()));
    match tokio::time::timeout(ATTEMPT, outcome).await {
        Ok(Ok(Ok(_))) => Ok(pb::ReconfigureResponse { configuration: Some(convert::configuration(&next)) }),
        Ok(Ok(Err(refused))) => Err(node::with(|node| refusal::not_reconfigured(&refused, node.members()))),
        Ok(Err(_)) | Err(_) => Err(refusal::timeout("the reconfiguration")),
    }
}

/// At the primary: lets another one lead and waits until it does.
pub(super) async fn hand_off_here(request: pb::HandOffRequest) -> Result<pb::HandOffResponse, Refused> {
    fence::pass(request.fence).await?;
    let to = ReplicaId(request.to);
    node::with(|node| leading(node))?;
    let done = |ballot| pb::HandOffResponse { primary: to.0, ballot: Some(report::ballot(ballot)) };
    if node::with(|node| node.config.id) == to {
        return Ok(done(node::with(|node| node.replica().ballot())));
    }
    let outcome = node::with(|node| node.hand_off(to));
    match tokio::time::timeout(ATTEMPT, outcome).await {
        Ok(Ok(Ok(ballot))) => Ok(done(ballot)),
        Ok(Ok(Err(refused))) => Err(refusal::not_handed_off(&refused)),
        Ok(Err(_)) | Err(_) => Err(refusal::timeout("the move of the primary")),
    }
}

fn leading(node: &node::Node) -> Result<(), Refused> {
    match node.halt().is_none() && node.replica().is_primary() {
        true => Ok(()),
        false => Err(refusal::no_primary()),
    }
}

/// Whether `next` says what is in force already.
fn same(current: &Configuration, next: &Configuration) -> bool {
    Configuration { epoch: next.epoch, ..current.clone() } == *next
}

/// Carries a call out where the primary is, following it when it moves.
async fn at_the_primary(call: Call) -> Result<Answer, Refused> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = refusal::no_primary();
    while Instant::now() < deadline {
        let (me, primary) = node::with(|node| (node.config.id, node.primary()));
        let answer = match primary {
            Some(primary) if primary == me => Some(super::answer_peer(call.clone()).await),
            Some(primary) => {
                let asked = node::with(|node| node.ask(primary, call.clone()));
                let until = deadline.min(Instant::now() + ATTEMPT + AGAIN);
                tokio::time::timeout_at(until, asked).await.ok().and_then(Result::ok)
            }
            None => None,
        };
        match answer {
            // It no longer leads, or does not yet.
            Some(Answer::Refusal(refused)) if refused.reason() == Reason::NoPrimary => {
                last = Box::new(refused)
            }
            Some(answer) => return Ok(answer),
            None => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(last)
}

fn strange() -> Refused {
    refuse(
        Reason::NotServing,
        "the primary answered something else",
        "are all replicas of one version? `vr status -o wide` shows them",
    )
}
