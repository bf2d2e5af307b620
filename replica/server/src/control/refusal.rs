//! Why a control call is not carried out: a reason for programs, a sentence and a remedy for people.

use prost::Message as _;
use tonic::{Code, Status};
use vr_proto::control as pb;
use vr_proto::control::refusal::Reason;

/// A refusal as it travels; boxed, because it carries a configuration.
pub(crate) type Refused = Box<pb::Refusal>;

pub(super) fn refuse(reason: Reason, message: impl Into<String>, remedy: impl Into<String>) -> Refused {
    Box::new(pb::Refusal {
        reason: reason.into(),
        message: message.into(),
        remedy: remedy.into(),
        ..pb::Refusal::default()
    })
}

/// A higher token was seen.
pub(super) fn fenced(token: u64, highest: u64) -> Refused {
    let (message, remedy) = match token {
        0 => (
            format!("an operator is in charge of this cluster (fencing token {highest})"),
            "let the operator do it, or pause the operator and repeat this with --override",
        ),
        _ => (
            format!("the fencing token {token} is lower than {highest}, the highest that was seen"),
            "another operator has taken over: stop this one, or let it take the lease again and use the new token",
        ),
    };
    let mut refused = refuse(Reason::Fenced, message, remedy);
    refused.fence = highest;
    refused
}

/// This replica cannot do anything now.
pub(super) fn not_serving(why: &str) -> Refused {
    refuse(Reason::NotServing, why, "ask another replica, and look at `vr status` for what ails this one")
}

/// Nobody leads.
pub(super) fn no_primary() -> Refused {
    refuse(
        Reason::NoPrimary,
        "no primary is known that could carry this out",
        "wait for the view change to end and repeat it; `vr status` shows who can be reached",
    )
}

/// It took too long.
pub(super) fn timeout(what: &str) -> Refused {
    refuse(
        Reason::Timeout,
        format!("{what} is not done in time; it may still happen"),
        "look at `vr status` before repeating it",
    )
}

/// As a gRPC status, the refusal itself as its details.
pub(super) fn status(refusal: &pb::Refusal) -> Status {
    let code = match refusal.reason() {
        Reason::Unspecified => Code::Internal,
        Reason::Fenced => Code::PermissionDenied,
        Reason::Stale | Reason::Pending => Code::Aborted,
        Reason::NotReady | Reason::IdReused => Code::FailedPrecondition,
        Reason::Invalid => Code::InvalidArgument,
        Reason::UnknownReplica => Code::NotFound,
        Reason::NoPrimary | Reason::NotServing => Code::Unavailable,
        Reason::Timeout => Code::DeadlineExceeded,
    };
    let text = format!("{}; {}", refusal.message, refusal.remedy);
    Status::with_details(code, text, refusal.encode_to_vec().into())
}
