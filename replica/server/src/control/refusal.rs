//! Why a control call is not carried out: a reason for programs, a sentence and a remedy for people.

use prost::Message as _;
use tonic::{Code, Status};
use vr_core::{Configuration, HandOffRefusal, Refusal};
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

/// What the protocol says to a reconfiguration; `current` is the configuration as this replica knows it.
pub(super) fn not_reconfigured(refusal: &Refusal, current: &Configuration) -> Refused {
    let (reason, lag) = match refusal {
        Refusal::Stale { .. } => (Reason::Stale, None),
        Refusal::Pending { .. } => (Reason::Pending, None),
        Refusal::NotReady { lag, .. } => (Reason::NotReady, *lag),
        Refusal::ReusedId(_) => (Reason::IdReused, None),
        Refusal::Invalid(_) => (Reason::Invalid, None),
        Refusal::Unanswered => (Reason::Timeout, None),
    };
    let mut refused = said(reason, &refusal.to_string());
    refused.current = Some(super::convert::configuration(current));
    refused.lag = lag.unwrap_or(0);
    refused
}

/// What the protocol says to a hand-off.
pub(super) fn not_handed_off(refusal: &HandOffRefusal) -> Refused {
    let reason = match refusal {
        HandOffRefusal::NotPrimary(_) | HandOffRefusal::Missed { .. } => Reason::NoPrimary,
        HandOffRefusal::AlreadyLeads(_) => Reason::Invalid,
        HandOffRefusal::NotAVoter(_) => Reason::UnknownReplica,
        HandOffRefusal::NotReady { .. } => Reason::NotReady,
        HandOffRefusal::Busy(_) => Reason::Pending,
    };
    said(reason, &refusal.to_string())
}

/// The protocol's sentences are "what happened; what to do".
fn said(reason: Reason, sentence: &str) -> Refused {
    let (message, remedy) = sentence.split_once("; ").unwrap_or((sentence, ""));
    refuse(reason, message, remedy)
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
    let text = match refusal.remedy.as_str() {
        "" => refusal.message.clone(),
        remedy => format!("{}; {remedy}", refusal.message),
    };
    Status::with_details(code, text, refusal.encode_to_vec().into())
}
