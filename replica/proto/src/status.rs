//! What a gRPC status of a control port carries, for whoever tells it to people.

use crate::control::Refusal;
use crate::control::refusal::Reason;
use prost::Message as _;
use tonic::Status;

/// The refusal inside a status, if there is one.
#[must_use]
pub fn refusal(status: &Status) -> Option<Refusal> {
    let found = Refusal::decode(status.details()).ok()?;
    (found.reason() != Reason::Unspecified).then_some(found)
}

/// The innermost cause: "connection refused" says more than "transport error".
#[must_use]
pub fn cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    let mut text = status.message().to_owned();
    while let Some(inner) = cause.source() {
        cause = inner;
        text = inner.to_string();
    }
    text
}
