//! A message that is larger than the transport takes, refused as etcd's transport refuses it.
//!
//! The library underneath answers OutOfRange, which etcd's clients take for a compacted revision. Etcd answers
//! ResourceExhausted. The message itself is never read into memory in either case.

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// How the library begins the text of that error.
const TOO_LARGE: &str = "Error, decoded message length too large: ";

/// What etcd would have answered, if that is what this error is about.
pub(super) fn exhausted(status: &Status) -> Option<Status> {
    let sizes = status.message().strip_prefix(TOO_LARGE).filter(|_| status.code() == Code::OutOfRange)?;
    let mut numbers = sizes.split(' ').filter_map(|word| word.parse::<u64>().ok());
    let (found, limit) = (numbers.next()?, numbers.next()?);
    let text = format!("grpc: received message larger than max ({found} vs. {limit})");
    Some(Status::resource_exhausted(text))
}

/// A service of the router with that answer.
#[derive(Clone)]
pub(crate) struct Exhausting<S>(pub(super) S);

type Response = http::Response<Body>;

fn answer(response: Response) -> Response {
    // Only an answer that is nothing but an error has its status in the headers.
    if !response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(exhausted) {
        Some(status) => status.into_http(),
        None => response,
    }
}

impl<R, S: Service<R, Response = Response>> Service<R> for Exhausting<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response) -> Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.0.call(request).map_ok(answer)
    }
}

impl<S: NamedService> NamedService for Exhausting<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_large_is_said_otherwise() {
        let large = Status::out_of_range(format!("{TOO_LARGE}found 9 bytes, the limit is: 7 bytes"));
        let answered = exhausted(&large).expect("too large");
        assert_eq!(answered.code(), Code::ResourceExhausted);
        assert_eq!(answered.message(), "grpc: received message larger than max (9 vs. 7)");
        for other in [
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
            Status::internal(large.message()),
            Status::out_of_range(TOO_LARGE),
        ] {
            assert!(exhausted(&other).is_none(), "{other:?}");
        }
        let response = answer(large.into_http());
        assert_eq!(response.headers()[Status::GRPC_STATUS], "8");
    }
}
