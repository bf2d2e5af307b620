//! An API server that keeps what it is given and writes down what it is asked: as much of one as the calls of the
//! operator need, in this process. It knows no schemas and no preconditions; its lists and watches know no labels.

use axum::body::Body as Answer;
use axum::http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::codegen::Service;
use vr_api::VRCluster;

/// A call as a rule of RBAC names it: verb, API group, resource with its subresource.
pub(super) type Call = (String, String, String);

/// The API server; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// By the path below the API version.
    objects: BTreeMap<String, Value>,
    calls: BTreeMap<Call, u64>,
    serial: u64,
    /// Every change, with its number, where it was, and as a watch tells it.
    changes: Vec<(u64, String, String)>,
    watches: Vec<Watching>,
}

/// Somebody who is told of changes.
struct Watching {
    kind: String,
    resource: String,
    told: mpsc::UnboundedSender<String>,
}

/// A VRCluster `prod` in namespace `shop` that keeps its state there, and has nothing that it need not have.
pub(super) fn cluster(object_store: Value) -> VRCluster {
    let cluster = json!({
        "metadata": {"name": "prod", "namespace": "shop", "uid": "u"},
        "spec": {
            "replicas": 3, "image": "vr", "memory": {"limit": "1Gi", "stateLimit": "512Mi"},
            "storage": {"objectStore": object_store}
        }
    });
    serde_json::from_value(cluster).expect("a VRCluster")
}

impl Fake {
    /// A client of it.
    pub(super) fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "operator")
    }

    /// What it was asked until now.
    pub(super) fn calls(&self) -> BTreeSet<Call> {
        self.counts().into_keys().collect()
    }

    /// The same, and how often.
    pub(super) fn counts(&self) -> BTreeMap<Call, u64> {
        self.0.lock().expect("nobody panics while holding it").calls.clone()
    }

    /// Everything of a kind.
    pub(super) fn all(&self, resource: &str) -> Vec<Value> {
        let kept = self.0.lock().expect("nobody panics while holding it");
        let of_kind = kept.objects.iter().filter(|(at, _)| of_resource(at, resource, resource));
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// Ends every watch, as an API server does that restarts.
    pub(super) fn end_watches(&self) {
        self.0.lock().expect("nobody panics while holding it").watches.clear();
    }

    /// Puts an object there.
    pub(super) fn put(&self, resource: &str, mut object: Value) {
        let mut kept = self.0.lock().expect("nobody panics while holding it");
        kept.stamp(&mut object);
        let path = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("namespaces/{namespace}/{resource}/{}", name(&object)),
            None => format!("{resource}/{}", name(&object)),
        };
        kept.keep(&path, object);
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

impl Service<Request<Body>> for Fake {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kept = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.expect("a body that is in memory is whole");
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let applies = parts
                .headers
                .get("content-type")
                .is_some_and(|t| t.as_bytes().starts_with(b"application/apply"));
            let mut kept = kept.lock().expect("nobody panics while holding it");
            if let Some(since) = watched_since(parts.uri.query().unwrap_or_default()) {
                return Ok(Response::new(kept.watch(parts.uri.path(), since)));
            }
            let (code, said) = kept.answer(&parts.method, parts.uri.path(), applies, body);
            let mut response = Response::new(Answer::from(said.to_string().into_bytes()));
            *response.status_mut() = code;
            Ok(response)
        })
    }
}

/// From which change on a request watches, if it does.
fn watched_since(query: &str) -> Option<u64> {
    let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    (field("watch") == Some("true"))
        .then(|| field("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default())
}

impl Kept {
    fn keep(&mut self, at: &str, object: Value) {
        let kind = if self.objects.contains_key(at) { "MODIFIED" } else { "ADDED" };
        self.tell(at, kind, &object);
        self.objects.insert(at.to_owned(), object);
    }

    fn tell(&mut self, at: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.watches.retain(|watching| {
            !of_resource(at, &watching.kind, &watching.resource) || watching.told.send(line.clone()).is_ok()
        });
        self.changes.push((self.serial, at.to_owned(), line));
    }

    fn watch(&mut self, path: &str, since: u64) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (group, rest) = if parts[0] == "api" { ("", &parts[2..]) } else { (parts[1], &parts[3..]) };
        let resource = rest.last().copied().unwrap_or_default();
        self.asked("watch", group, resource);
        let (told, mut lines) = mpsc::unbounded_channel();
        let kind = rest.join("/");
        let missed =
            self.changes.iter().filter(|(serial, at, _)| *serial > since && of_resource(at, &kind, resource));
        for (_, _, line) in missed {
            told.send(line.clone()).expect("the other end is here");
        }
        self.watches.push(Watching { kind, resource: resource.to_owned(), told });
        let lines = futures_util::stream::poll_fn(move |context| {
            lines.poll_recv(context).map(|line| line.map(Ok::<_, Infallible>))
        });
        Answer::from_stream(lines)
    }

    fn stamp(&mut self, object: &mut Value) {
        self.serial += 1;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = self.serial.to_string().into();
        if meta["uid"].is_null() {
            meta["uid"] = format!("uid-{}", self.serial).into();
            meta["generation"] = 1.into();
        }
    }

    fn asked(&mut self, verb: &str, group: &str, resource: &str) {
        *self.calls.entry((verb.to_owned(), group.to_owned(), resource.to_owned())).or_default() += 1;
    }

    /// An object that keeps its owner from going may be made only by who may finalize the owner: a cluster can be set
    /// up to ask for that.
    fn owners(&mut self, object: &Value) {
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            if owner["blockOwnerDeletion"] == true {
                let group = owner["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |v| v.0);
                let kind = owner["kind"].as_str().unwrap_or_default().to_lowercase();
                self.asked("update", group, &format!("{kind}s/finalizers"));
            }
        }
    }

    fn answer(&mut self, method: &Method, path: &str, applies: bool, body: Value) -> (StatusCode, Value) {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (group, rest) = if parts[0] == "api" { ("", &parts[2..]) } else { (parts[1], &parts[3..]) };
        let (scope, rest) =
            if rest[0] == "namespaces" && rest.len() > 2 { rest.split_at(2) } else { rest.split_at(0) };
        let (resource, named, below) = (rest[0], rest.get(1).copied(), rest.get(2).copied());
        let full = below.map_or(resource.to_owned(), |below| format!("{resource}/{below}"));
        let kind = scope.iter().copied().chain([resource]).collect::<Vec<_>>().join("/");
        let Some(named) = named else {
            if *method == Method::POST {
                self.asked("create", group, &full);
                self.owners(&body);
                return self.made(&format!("{kind}/{}", name(&body)), body);
            }
            self.asked("list", group, &full);
            let items: Vec<_> =
                self.objects.iter().filter(|(at, _)| of_resource(at, &kind, resource)).collect();
            let items: Vec<_> = items.into_iter().map(|(_, object)| object.clone()).collect();
            return (
                StatusCode::OK,
                json!({"kind": "List", "apiVersion": "v1",
                       "metadata": {"resourceVersion": self.serial.to_string()}, "items": items}),
            );
        };
        let at = format!("{kind}/{named}");
        let verb = match *method {
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        self.asked(verb, group, &full);
        self.owners(&body);
        let Some(mut object) = self.objects.get(&at).cloned() else {
            if applies {
                // What is not there yet is made, by who may make it.
                self.asked("create", group, &full);
                return self.made(&at, body);
            }
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        match verb {
            "update" => {
                let uid = object["metadata"]["uid"].clone();
                object = body;
                object["metadata"]["uid"] = uid;
            }
            "patch" => merge(&mut object, body),
            "delete" => {
                self.stamp(&mut object);
                self.objects.remove(&at);
                self.tell(&at, "DELETED", &object);
                return (StatusCode::OK, object);
            }
            _ => return (StatusCode::OK, object),
        }
        self.stamp(&mut object);
        self.keep(&at, object.clone());
        (StatusCode::OK, object)
    }

    fn made(&mut self, at: &str, mut object: Value) -> (StatusCode, Value) {
        if self.objects.contains_key(at) {
            return failure(StatusCode::CONFLICT, "AlreadyExists");
        }
        self.stamp(&mut object);
        self.keep(at, object.clone());
        (StatusCode::CREATED, object)
    }
}

/// Whether an object is one of a list, of one namespace or of all.
fn of_resource(at: &str, kind: &str, resource: &str) -> bool {
    let Some((place, _)) = at.rsplit_once('/') else { return false };
    place == kind || (kind == resource && place.rsplit('/').next() == Some(resource))
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let said = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16()});
    (code, said)
}

/// JSON merge patch (RFC 7386).
fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (name, value) in fields {
                match value {
                    Value::Null => drop(into.as_object_mut().and_then(|object| object.remove(&name))),
                    value => merge(&mut into[name], value),
                }
            }
        }
        other => *into = other,
    }
}
