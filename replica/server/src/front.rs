//! What a port answers: etcd's key-value calls without a router in between, everything else by its routes.
//!
//! A router looks at every call for parameters of its path, and each of its layers boxes and clones. That is nothing
//! beside a watch or a status, but 4 % of the CPU time of all replicas beside a put.

use axum::Router;
use axum::routing::future::RouteFuture;
use futures_util::TryFutureExt;
use futures_util::future::{Either, MapOk};
use http_body_util::Either as EitherBody;
use hyper::body::Incoming;
use hyper::service::Service;
use std::convert::Infallible;
use tonic::codegen::{Service as TowerService, http};
use tonic::server::NamedService;

use crate::etcd::KeyValue;

type Request = http::Request<Incoming>;
type Called = http::Response<tonic::body::Body>;
type Routed = http::Response<axum::body::Body>;
/// One of both, without another box around it.
type Response = http::Response<EitherBody<tonic::body::Body, axum::body::Body>>;

/// One for each port, cloned for each connection.
#[derive(Clone)]
pub(crate) struct Front {
    key_value: Option<KeyValue>,
    routes: Router,
}

impl From<Router> for Front {
    fn from(routes: Router) -> Front {
        Front { key_value: None, routes }
    }
}

impl Front {
    pub(crate) fn with_key_value(key_value: KeyValue, routes: Router) -> Front {
        Front { key_value: Some(key_value), routes }
    }

    fn of_request(&self, request: &Request) -> Option<&KeyValue> {
        let service = request.uri().path().strip_prefix('/')?.strip_prefix(KeyValue::NAME)?;
        self.key_value.as_ref().filter(|_| service.starts_with('/'))
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        MapOk<<KeyValue as TowerService<Request>>::Future, fn(Called) -> Response>,
        MapOk<RouteFuture<Infallible>, fn(Routed) -> Response>,
    >;

    fn call(&self, request: Request) -> Self::Future {
        // Neither has anything to wait for before a call: both are always ready.
        match self.of_request(&request) {
            Some(key_value) => Either::Left(key_value.clone().call(request).map_ok(of_call as fn(_) -> _)),
            None => Either::Right(self.routes.clone().call(request).map_ok(of_route as fn(_) -> _)),
        }
    }
}

fn of_call(called: Called) -> Response {
    called.map(EitherBody::Left)
}

fn of_route(routed: Routed) -> Response {
    routed.map(EitherBody::Right)
}
