//! What a test or a drill wants to go wrong, request by request.

use futures_util::{Stream, StreamExt};
use s3s::dto::StreamingBlob;
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Which requests a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// All.
    Any,
    /// Writes of an object or a part.
    Put,
    /// Reads and listings.
    Get,
    /// Looks at an object or bucket.
    Head,
    /// Removals.
    Delete,
    /// Beginnings and ends of uploads in parts.
    Post,
}

/// What happens instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing is done and this status is answered: 503, 409, 500.
    Status(u16),
    /// Nothing is done: the credentials were good until now.
    Expired,
    /// It is done, and the connection closes before the answer.
    LoseResponse,
    /// It is done after this long.
    Delay(Duration),
    /// It is done, and the body of the answer comes slowly: this long before each piece of at most 64 KiB.
    SlowBody(Duration),
    /// It is done, and the connection closes after so many bytes of the body.
    TruncateBody(u64),
}

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Only such requests.
    pub verb: Verb,
    /// Only paths (`/bucket/key`) that contain this; empty for all.
    pub path_contains: String,
    /// Let so many pass first.
    pub skip: u32,
    /// Strike so often, then never again.
    pub times: u32,
    /// What happens.
    pub act: Act,
}

/// The faults of one server; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    ignore_conditions: AtomicBool,
    clock_micros: AtomicI64,
}

impl Faults {
    /// Adds a rule. Of several that match a request the oldest strikes.
    pub fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// Removes all rules, makes conditions count and the clock right.
    pub fn clear(&self) {
        self.rules().clear();
        self.ignore_conditions(false);
        self.shift_clock(0);
    }

    /// Rules that have not struck as often as they should.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.rules().len()
    }

    /// Behaves like the servers that answer a conditional write with success and overwrite.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.0.ignore_conditions.store(ignore, Ordering::SeqCst);
    }

    /// Sets the server's clock apart from this machine's.
    pub fn shift_clock(&self, micros: i64) {
        self.0.clock_micros.store(micros, Ordering::SeqCst);
    }

    pub(super) fn conditions_ignored(&self) -> bool {
        self.0.ignore_conditions.load(Ordering::SeqCst)
    }

    /// The server's clock, microseconds since the Unix epoch.
    pub(super) fn now_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        now.saturating_add_signed(self.0.clock_micros.load(Ordering::SeqCst))
    }

    /// Serves a request with the fault that is due for it.
    pub(super) async fn around(
        &self,
        service: &s3s::service::S3Service,
        request: HttpRequest,
    ) -> Result<HttpResponse, HttpError> {
        let act = self.strike(request.method().as_str(), request.uri().path());
        if let Some(act) = act {
            tracing::debug!(?act, method = %request.method(), path = request.uri().path(), "an S3 fault strikes");
        }
        match act {
            None => service.call(request).await,
            Some(Act::Status(status)) => Ok(refusal(status, code_of(status))),
            Some(Act::Expired) => Ok(refusal(400, "ExpiredToken")),
            Some(Act::LoseResponse) => {
                service.call(request).await?;
                Err(HttpError::new("the answer is lost, as asked for".into()))
            }
            Some(Act::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                service.call(request).await
            }
            Some(Act::SlowBody(delay)) => {
                Ok(with_body(service.call(request).await?, |body| slowly(body, delay)))
            }
            Some(Act::TruncateBody(bytes)) => {
                Ok(with_body(service.call(request).await?, |body| cut(body, bytes)))
            }
        }
    }

    fn strike(&self, method: &str, path: &str) -> Option<Act> {
        let mut rules = self.rules();
        let at = rules.iter().position(|rule| rule.matches(method, path))?;
        let rule = &mut rules[at];
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let act = rule.act;
        rule.times = rule.times.saturating_sub(1);
        if rule.times == 0 {
            rules.remove(at);
        }
        Some(act)
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        // Nothing can panic while it is held.
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    fn matches(&self, method: &str, path: &str) -> bool {
        let verb = match self.verb {
            Verb::Any => true,
            Verb::Put => method == "PUT",
            Verb::Get => method == "GET",
            Verb::Head => method == "HEAD",
            Verb::Delete => method == "DELETE",
            Verb::Post => method == "POST",
        };
        verb && path.contains(&self.path_contains)
    }
}

fn code_of(status: u16) -> &'static str {
    match status {
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        503 => "SlowDown",
        _ => "InternalError",
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as asked for</Message></Error>");
    let mut response = HttpResponse::new(Body::from(body));
    *response.status_mut() = status.try_into().unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn with_body(response: HttpResponse, change: impl FnOnce(StreamingBlob) -> StreamingBlob) -> HttpResponse {
    response.map(|body| Body::from(change(StreamingBlob::from(body))))
}

type Piece = Result<bytes::Bytes, io::Error>;

fn pieces(body: StreamingBlob) -> impl Stream<Item = Piece> + Send + Sync {
    body.map(|piece| piece.map_err(io::Error::other))
}

fn slowly(body: StreamingBlob, delay: Duration) -> StreamingBlob {
    let small = pieces(body).flat_map(|piece| {
        let split: Vec<Piece> = match piece {
            Ok(mut bytes) => std::iter::from_fn(move || {
                (!bytes.is_empty()).then(|| Ok(bytes.split_to(bytes.len().min(64 << 10))))
            })
            .collect(),
            Err(error) => vec![Err(error)],
        };
        futures_util::stream::iter(split)
    });
    StreamingBlob::wrap(small.then(move |piece| async move {
        tokio::time::sleep(delay).await;
        piece
    }))
}

fn cut(body: StreamingBlob, bytes: u64) -> StreamingBlob {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    StreamingBlob::wrap(pieces(body).map(move |piece| {
        let mut piece = piece?;
        if left == 0 {
            return Err(io::Error::other("the body is cut, as asked for"));
        }
        piece.truncate(left);
        left -= piece.len();
        Ok(piece)
    }))
}
