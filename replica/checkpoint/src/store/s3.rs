//! A tier in S3 or in a store that speaks S3.
//!
//! Outcomes are read from the HTTP status. The SDK's own retries are off: a conditional write that the SDK repeats
//! can lose to itself, and only the caller can tell by reading back. Reads are repeated here.
//!
//! Nothing is written to a store before it was seen to honour conditional writes ([`S3Store::probe`]): on one that does
//! not, a fenced cluster could overwrite a restored one.

use super::{Created, Listed, ObjectStore, StoreError, Swapped, Tag, Usage};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ServerSideEncryption};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A request without an answer for so long has an unknown outcome.
const ATTEMPT: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);
/// How often a read is tried, and how long after each try.
const READS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Where a tier in S3 is.
#[derive(Clone, Debug)]
pub struct S3Location {
    /// Another endpoint than AWS's, as a URL.
    pub endpoint: Option<String>,
    /// The bucket; it must exist.
    pub bucket: String,
    /// Keys begin with this and a slash; without slashes at its ends, may be empty.
    pub prefix: String,
    /// The region; what an endpoint without regions makes of it is its business. Without, what the SDK finds
    /// (environment, profile, instance), and else `us-east-1`; other endpoints than AWS's are not looked up.
    pub region: Option<String>,
    /// The bucket in the path instead of the host name.
    pub path_style: bool,
    /// The key of KMS that objects are encrypted with; without, what the bucket is set to.
    pub kms_key: Option<String>,
    /// Who asks; without, the SDK's default chain (environment, profile, pod identity, instance).
    pub keys: Option<S3Keys>,
}

impl S3Location {
    /// The region that was said, or goes without saying: a signature names one even where there are none.
    fn said_region(&self) -> Option<Region> {
        let other = self.endpoint.as_ref().map(|_| UNSET);
        self.region.clone().map(Region::new).or(other)
    }
}

const UNSET: Region = Region::from_static("us-east-1");

/// Credentials that do not expire.
#[derive(Clone)]
pub struct S3Keys {
    /// Access key id.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl std::fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret must not get into a log with the rest of a configuration.
        f.debug_struct("S3Keys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A bucket with a prefix.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// With its slash, or empty.
    prefix: String,
    kms_key: Option<String>,
    describe: String,
    /// Set once the store was found to honour conditions; nothing of a tier is written before.
    honours: AtomicBool,
    requests: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
}

impl S3Store {
    /// A store that was found to honour conditional writes.
    ///
    /// # Errors
    /// It cannot be reached, the bucket or the permission is missing, or it ignores conditions.
    pub async fn open(location: &S3Location) -> Result<S3Store, StoreError> {
        let store = S3Store::connect(location).await;
        store.probe().await?;
        Ok(store)
    }

    /// A store of which nothing is known yet: it may be unreachable now, and it may only be read from. What it honours
    /// is found out before the first write.
    pub async fn connect(location: &S3Location) -> S3Store {
        use aws_smithy_http_client::tls;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build();
        let said = location.said_region();
        let found = if location.keys.is_some() && said.is_some() {
            None
        } else {
            let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
            // What it is told it does not look for: where no instance answers, that takes seconds.
            let loader = if let Some(said) = &said { loader.region(said.clone()) } else { loader };
            Some(loader.load().await)
        };
        let region = said.or_else(|| found.as_ref()?.region().cloned()).unwrap_or(UNSET);
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .force_path_style(location.path_style)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // It takes an upload that waits for a slow store to be dead; the time limit of the attempt is enough.
            .stalled_stream_protection(aws_sdk_s3::config::StalledStreamProtectionConfig::disabled())
            .http_client(http);
        config.set_endpoint_url(location.endpoint.clone());
        match &location.keys {
            Some(keys) => {
                let keys = Credentials::new(&keys.access_key, &keys.secret_key, None, None, "configuration");
                config = config.credentials_provider(keys);
            }
            None => {
                config.set_credentials_provider(found.and_then(|found| found.credentials_provider()));
            }
        }
        let prefix = location.prefix.trim_matches('/');
        let describe = match &location.endpoint {
            Some(endpoint) => format!("s3://{}/{prefix} at {endpoint}", location.bucket),
            None => format!("s3://{}/{prefix}", location.bucket),
        };
        S3Store {
            client: Client::from_conf(config.build()),
            bucket: location.bucket.clone(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            kms_key: location.kms_key.clone(),
            describe,
            honours: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    /// Writes an object twice as if it did not exist: the second must be refused, and a swap from a wrong one too.
    /// Refuses a store that does not honour conditional writes. Writes and deletes one small object.
    ///
    /// # Errors
    /// As [`S3Store::open`].
    pub async fn probe(&self) -> Result<(), StoreError> {
        let key = format!("probe/{}", ulid::Ulid::generate());
        let ignores = |what: &str| {
            self.permanent(
            "conditional writes",
            &format!(
                "it ignored {what} and overwrote, so it cannot fence a stale cluster. Use a store that honours \
                 conditional writes (AWS S3, `vr dev`'s own)"
            ),
        )
        };
        match self.put(&key, Bytes::from_static(b"first"), Condition::Absent).await? {
            Put::Done => {}
            Put::Refused | Put::Gone => {
                return Err(self
                    .permanent("conditional writes", "it refused to create an object that does not exist"));
            }
            Put::Unknown(reason) => return Err(self.transient("conditional writes", &reason)),
        }
        let second = self.put(&key, Bytes::from_static(b"second"), Condition::Absent).await?;
        let foreign = Tag("\"00000000000000000000000000000000\"".to_owned());
        let third = self.put(&key, Bytes::from_static(b"third"), Condition::Is(&foreign)).await?;
        self.delete(&key).await?;
        match (second, third) {
            (Put::Refused, Put::Refused | Put::Gone) => {
                self.honours.store(true, Ordering::Relaxed);
                Ok(())
            }
            (Put::Done, _) => Err(ignores("If-None-Match")),
            (_, Put::Done) => Err(ignores("If-Match")),
            (Put::Unknown(reason), _) | (_, Put::Unknown(reason)) => {
                Err(self.transient("conditional writes", &reason))
            }
            (Put::Gone, _) => Err(self.permanent("conditional writes", "it answered a creation with 404")),
        }
    }

    async fn honoured(&self) -> Result<(), StoreError> {
        if self.honours.load(Ordering::Relaxed) { Ok(()) } else { self.probe().await }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn put(&self, key: &str, body: Bytes, condition: Condition<'_>) -> Result<Put, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let length = body.len() as u64;
        let request = self.client.put_object().bucket(&self.bucket).key(self.full(key));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).body(ByteStream::from(body));
        let request = match &self.kms_key {
            Some(key) => request.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(key),
            None => request,
        };
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Is(tag) => request.if_match(&tag.0),
        };
        let error = match request.send().await {
            Ok(_) => {
                self.written.fetch_add(length, Ordering::Relaxed);
                return Ok(Put::Done);
            }
            Err(error) => error,
        };
        match (status(&error), condition) {
            (Some(412), _) => Ok(Put::Refused),
            (Some(404), Condition::Is(_)) if code(&error) != "NoSuchBucket" => Ok(Put::Gone),
            (Some(409 | 408 | 429 | 500..), _) | (None, _) if !unsendable(&error) => {
                Ok(Put::Unknown(reason(&error)))
            }
            _ => Err(self.error(&format!("write {key}"), &error)),
        }
    }

    /// Tries a read some times.
    async fn reading<T, E, F>(&self, what: &str, request: impl Fn() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: std::error::Error + aws_sdk_s3::error::ProvideErrorMetadata + 'static,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let error = match request().await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => error,
            };
            if status(&error) == Some(404) && code(&error) != "NoSuchBucket" {
                return Ok(None);
            }
            let error = self.error(what, &error);
            if tries == READS || matches!(error, StoreError::Permanent { .. }) {
                return Err(error);
            }
            tokio::time::sleep(PAUSE * (1 << tries)).await;
        }
    }

    /// Reads an object, or a range of it, with its tag.
    async fn fetch(&self, key: &str, range: Option<(u64, u64)>) -> Result<Option<(Bytes, Tag)>, StoreError> {
        let what = format!("read {key}");
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.reading(&what, || {
                let request = self.client.get_object().bucket(&self.bucket).key(self.full(key));
                let range = range.map(|(offset, len)| format!("bytes={offset}-{}", offset + len - 1));
                request.set_range(range).send()
            });
            let Some(answer) = answer.await? else { return Ok(None) };
            match self.collect(answer).await {
                Ok(read) => return Ok(Some(read)),
                Err(reason) if tries == READS => return Err(self.transient(&what, &reason)),
                Err(_) => tokio::time::sleep(PAUSE * (1 << tries)).await,
            }
        }
    }

    async fn collect(&self, answer: GetObjectOutput) -> Result<(Bytes, Tag), String> {
        let tag = Tag(answer.e_tag.unwrap_or_default());
        let bytes = answer.body.collect().await.map_err(|e| e.to_string())?.into_bytes();
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok((bytes, tag))
    }

    fn error<E>(&self, what: &str, error: &SdkError<E>) -> StoreError
    where
        E: std::error::Error + aws_sdk_s3::error::ProvideErrorMetadata + 'static,
    {
        let advice = match (status(error), code(error)) {
            (Some(404), _) => "; create the bucket or correct its name",
            (_, "ExpiredToken") => "; the credentials have expired: get new ones",
            (Some(301 | 307), _) => "; the bucket is in another region: correct the region",
            (Some(400 | 401 | 403), _) => "; check the credentials and what they permit",
            _ => "",
        };
        let reason = format!("{}{advice}", reason(error));
        match status(error) {
            Some(408 | 429 | 409 | 500..) => self.transient(what, &reason),
            None if !unsendable(error) => self.transient(what, &reason),
            _ => self.permanent(what, &reason),
        }
    }

    fn transient(&self, what: &str, reason: &str) -> StoreError {
        StoreError::Transient {
            store: self.describe.clone(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn permanent(&self, what: &str, reason: &str) -> StoreError {
        StoreError::Permanent {
            store: self.describe.clone(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// What a write demands.
#[derive(Clone, Copy)]
enum Condition<'a> {
    Absent,
    Is(&'a Tag),
}

/// What became of a write.
enum Put {
    Done,
    Refused,
    Gone,
    Unknown(String),
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn code<E: aws_sdk_s3::error::ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error.as_service_error().and_then(|e| e.code()).unwrap_or_default()
}

/// It never left this process, for want of credentials for instance: asking again will not help.
fn unsendable<E>(error: &SdkError<E>) -> bool {
    matches!(error, SdkError::ConstructionFailure(_))
}

/// One line: what the store said, or the innermost cause of not hearing from it.
fn reason<E>(error: &SdkError<E>) -> String
where
    E: std::error::Error + aws_sdk_s3::error::ProvideErrorMetadata + 'static,
{
    let said = match (error.as_service_error(), status(error)) {
        (Some(refusal), Some(status)) => match (refusal.code(), refusal.message()) {
            (Some(code), Some(message)) => format!("status {status} {code}: {message}"),
            (Some(code), None) => format!("status {status} {code}"),
            _ => format!("status {status}"),
        },
        (_, Some(status)) => format!("status {status}: {}", innermost(error)),
        _ if causes(error).any(|cause| cause.to_string().contains("credential")) => format!(
            "no credentials were to be had: {}; see what the environment, the service account or the instance is given",
            innermost(error)
        ),
        _ if matches!(error, SdkError::TimeoutError(_)) => {
            format!("no answer within {} s", ATTEMPT.as_secs())
        }
        _ if matches!(error, SdkError::DispatchFailure(_)) => {
            format!("it is not reached: {}", innermost(error))
        }
        _ => innermost(error),
    };
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).last().expect("at least itself").to_string()
}

impl ObjectStore for S3Store {
    fn describe(&self) -> String {
        self.describe.clone()
    }

    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        async move {
            self.honoured().await?;
            Ok(match self.put(key, body, Condition::Absent).await? {
                Put::Done => Created::Yes,
                Put::Refused => Created::Exists,
                Put::Gone | Put::Unknown(_) => Created::Unknown,
            })
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        async move { Ok(self.fetch(key, None).await?.map(|(bytes, _)| bytes)) }.boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        async move {
            if len == 0 {
                return Ok(Some(Bytes::new()));
            }
            let Some((bytes, _)) = self.fetch(key, Some((offset, len))).await? else { return Ok(None) };
            if bytes.len() as u64 != len {
                let reason = format!("{} bytes from {offset} instead of {len}: it is cut short", bytes.len());
                return Err(self.permanent(&format!("read {key}"), &reason));
            }
            Ok(Some(bytes))
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        async move {
            let (what, mut next, mut all) = (format!("list {prefix}"), None::<String>, Vec::new());
            loop {
                let answer = self.reading(&what, || {
                    let request =
                        self.client.list_objects_v2().bucket(&self.bucket).prefix(self.full(prefix));
                    request.set_continuation_token(next.clone()).send()
                });
                let Some(answer) = answer.await? else { return Ok(all) };
                for object in answer.contents() {
                    let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.prefix)) else {
                        continue;
                    };
                    let modified =
                        object.last_modified().map_or(0, |at| u64::try_from(at.secs()).unwrap_or(0));
                    let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                    all.push(Listed { key: key.to_owned(), size, modified });
                }
                next = answer.next_continuation_token().map(str::to_owned);
                if next.is_none() {
                    return Ok(all);
                }
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let request = || self.client.delete_object().bucket(&self.bucket).key(self.full(key)).send();
            self.reading(&format!("delete {key}"), request).await.map(|_| ())
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        self.fetch("HEAD", None).boxed()
    }

    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        let condition = expected.map_or(Condition::Absent, Condition::Is);
        async move {
            self.honoured().await?;
            Ok(match self.put("HEAD", body, condition).await? {
                Put::Done => Swapped::Yes,
                Put::Refused => Swapped::Lost,
                Put::Gone => Swapped::Gone,
                Put::Unknown(_) => Swapped::Unknown,
            })
        }
        .boxed()
    }

    fn usage(&self) -> Usage {
        Usage {
            requests: self.requests.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
        }
    }
}
