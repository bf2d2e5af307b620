//! The control port: what the operator, and people with `vr`, ask of a running replica. `control.proto` says what each
//! call means and what a fencing token is for.
//!
//! Any replica answers: what only the primary can do is passed on to it over the peers' connections. Nothing here is
//! on the way of a client's request.

mod change;
mod convert;
mod edit;
mod fence;
mod refusal;
mod report;
mod rescue;

pub(crate) use fence::Fence;

use crate::node;
use refusal::refuse;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use vr_core::ReplicaId;
use vr_proto::control as pb;
use vr_proto::control::forwarded::Call;
use vr_proto::control::forwarded_answer::Answer;
use vr_proto::control::refusal::Reason;

pub(crate) use change::hand_off;
pub(crate) use edit::{NotEdited, edit};
pub(crate) use refusal::Refused;
pub(crate) use rescue::Rescue;

/// How long a peer may take to say how it is.
const STATUS_PATIENCE: Duration = Duration::from_millis(1500);
/// How long tiers may take, unless the caller says otherwise.
const CUT_PATIENCE: Duration = Duration::from_secs(30);
/// The exit status of what SIGKILL ends, which no process can send to itself in a container.
const CRASHED: i32 = 137;
/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// The service on a router of its own.
pub(crate) fn routes() -> axum::Router {
    let service = pb::control_server::ControlServer::new(Control);
    tonic::service::Routes::new(service).prepare().into_axum_router()
}

struct Control;

type Outcome<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::control_server::Control for Control {
    async fn status(&self, request: Request<pb::StatusRequest>) -> Outcome<pb::StatusResponse> {
        let asked = node::with(|node| report::report(node));
        let (others, silent) = match request.into_inner().all {
            true => everybody().await,
            false => (Vec::new(), Vec::new()),
        };
        Ok(Response::new(pb::StatusResponse { asked: Some(asked), others, silent }))
    }

    async fn reconfigure(
        &self,
        request: Request<pb::ReconfigureRequest>,
    ) -> Outcome<pb::ReconfigureResponse> {
        answered(change::reconfigure(request.into_inner()).await)
    }

    async fn hand_off(&self, request: Request<pb::HandOffRequest>) -> Outcome<pb::HandOffResponse> {
        answered(change::hand_off(request.into_inner()).await)
    }

    async fn cut(&self, request: Request<pb::CutRequest>) -> Outcome<pb::CutResponse> {
        answered(cut(request.into_inner()).await)
    }

    async fn stop(&self, request: Request<pb::StopRequest>) -> Outcome<pb::StopResponse> {
        answered(stop(request.into_inner()).await)
    }
}

fn answered<T>(outcome: Result<T, Refused>) -> Outcome<T> {
    outcome.map(Response::new).map_err(|refused| refusal::status(&refused))
}

/// A peer's call, which it has forwarded to this replica; its token is judged here as well.
pub(crate) async fn answer_peer(call: Call) -> Answer {
    let outcome = match call {
        Call::Status(_) => Ok(Answer::Status(node::with(|node| report::report(node)))),
        Call::Fence(_) => Ok(Answer::Fence(node::with(|node| node.fence.highest()))),
        Call::RecoveryPoints(pb::RecoveryPointsRequest {}) => {
            Ok(Answer::RecoveryPoints(node::with(|node| node.recovery_points())))
        }
        Call::DiskRead(request) => Ok(Answer::DiskRead(node::disks::answer(request).await)),
        Call::Reconfigure(request) => change::reconfigure_here(request).await.map(Answer::Reconfigured),
        Call::HandOff(request) => change::hand_off_here(request).await.map(Answer::HandedOff),
    };
    outcome.unwrap_or_else(|refused: Refused| Answer::Refusal(*refused))
}

/// How the others are, and who does not say.
async fn everybody() -> (Vec<pb::ReplicaStatus>, Vec<u64>) {
    let asked: Vec<_> = node::with(|node| {
        let call = || Call::Status(pb::StatusRequest { all: false });
        node.peer_ids().into_iter().map(|id| (id, node.ask(id, call()))).collect()
    });
    let deadline = Instant::now() + STATUS_PATIENCE;
    let (mut others, mut silent) = (Vec::new(), Vec::new());
    for (id, answer) in asked {
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Answer::Status(status))) => others.push(status),
            _ => silent.push(id.0),
        }
    }
    (others, silent)
}

async fn cut(request: pb::CutRequest) -> Result<pb::CutResponse, Refused> {
    let tiers = node::with(|node| node.tiering().chosen(&request.tiers)).map_err(|problem| {
        refuse(Reason::Invalid, problem, "name tiers that this replica has; `vr status -o wide` shows them")
    })?;
    fence::pass(request.fence).await?;
    let op = if request.leaderless {
        rescue::hand_in().await?
    } else {
        node::read_index().await.map_err(|_| refusal::no_primary())?;
        // Everything that was acknowledged before the call is executed here now.
        node::with(|node| node.executed())
    };
    let patience = match request.timeout_ms {
        0 => CUT_PATIENCE,
        millis => Duration::from_millis(millis.into()),
    };
    let deadline = Instant::now() + patience;
    loop {
        let held = node::with(|node| {
            node.tiering().checkpoint_now(&tiers, op);
            node.tiering().held(&tiers)
        });
        if held >= op.0 {
            return Ok(pb::CutResponse { op: held });
        }
        if Instant::now() >= deadline {
            return Err(refusal::timeout(&format!(
                "the checkpoint of op {op} on {}",
                request.tiers.join(", ")
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn stop(request: pb::StopRequest) -> Result<pb::StopResponse, Refused> {
    let (me, incarnation) = node::with(|node| (node.config.id, node.incarnation));
    if ReplicaId(request.replica) != me {
        return Err(refuse(
            Reason::UnknownReplica,
            format!("this is replica {me}, not {}", request.replica),
            "ask the control port of the replica that is meant",
        ));
    }
    if request.incarnation != 0 && request.incarnation != incarnation.0 {
        return Err(refuse(
            Reason::Stale,
            format!(
                "replica {me} has started anew since: this is start {incarnation}, not {}",
                request.incarnation
            ),
            "look at `vr status` before repeating it",
        ));
    }
    fence::pass(request.fence).await?;
    if request.crash {
        tracing::warn!("asked over the control port to end like a crash");
        std::process::exit(CRASHED);
    }
    tracing::info!("asked over the control port to stop");
    node::with(|node| node.stop_bell().notify_one());
    Ok(pb::StopResponse {})
}
