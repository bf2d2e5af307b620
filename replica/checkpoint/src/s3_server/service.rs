//! S3's operations on the objects: what `vrckpt/1` and its tools use, and nothing else.

use super::conditions::Conditions;
use super::intake::{self, Claims};
use super::objects::{About, Objects};
use super::uploads;
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes read from disk at once.
const PIECE: u64 = 1 << 20;
/// Keys in one answer at most, as in S3.
const MAX_KEYS: i32 = 1000;

/// The operations.
pub(super) struct Service(Arc<Objects>);

impl Service {
    pub(super) fn new(objects: Arc<Objects>) -> Service {
        Service(objects)
    }

    fn conditions(
        &self,
        if_match: Option<ETagCondition>,
        none: Option<ETagCondition>,
    ) -> S3Result<Conditions> {
        if self.0.faults.conditions_ignored() {
            return Ok(Conditions::default());
        }
        Conditions::new(if_match, none)
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.create_bucket(&req.input.bucket)?;
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (input, trailers) = (req.input, req.trailing_headers);
        let bucket = self.0.bucket(&input.bucket)?;
        let conditions = self.conditions(input.if_match, input.if_none_match)?;
        let checksum = Checksum {
            checksum_crc32: input.checksum_crc32,
            checksum_crc32c: input.checksum_crc32c,
            checksum_crc64nvme: input.checksum_crc64nvme,
            checksum_sha1: input.checksum_sha1,
            checksum_sha256: input.checksum_sha256,
            checksum_type: None,
        };
        let claims = Claims { length: input.content_length, md5: input.content_md5, checksum, trailers };
        let body = intake::take(&bucket.arrivals(), input.body, claims).await?;
        let about = About {
            key: input.key,
            size: body.size,
            etag: hexadecimal(&body.md5),
            modified_micros: self.0.faults.now_micros(),
            crc64nvme: body.checksum.checksum_crc64nvme.clone(),
            content_type: input.content_type.map(|kind| kind.to_string()),
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        };
        bucket.put(&body, about.clone(), &conditions)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(about.etag)),
            checksum_crc64nvme: about.crc64nvme,
            ..Default::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let (file, about) = self.0.bucket(&input.bucket)?.open_object(&input.key)?;
        Conditions::new(input.if_match, None)?.check(Some(&about.etag))?;
        let whole = input.range.is_none();
        let range = match input.range {
            None => 0..about.size,
            Some(range) => range.check(about.size).map_err(S3Error::from)?,
        };
        let length = range.end - range.start;
        let content_range =
            (!whole).then(|| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), about.size));
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(read(file, range.start, range.end))),
            content_length: i64::try_from(length).ok(),
            content_range,
            checksum_crc64nvme: about.crc64nvme.clone().filter(|_| whole && input.checksum_mode.is_some()),
            content_type: about.content_type.as_ref().and_then(|kind| kind.parse().ok()),
            e_tag: Some(ETag::Strong(about.etag.clone())),
            last_modified: Some(modified(&about)),
            metadata: metadata(&about),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let about = self.0.bucket(&req.input.bucket)?.about(&req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(about.size).ok(),
            content_type: about.content_type.as_ref().and_then(|kind| kind.parse().ok()),
            e_tag: Some(ETag::Strong(about.etag.clone())),
            last_modified: Some(modified(&about)),
            metadata: metadata(&about),
            checksum_crc64nvme: about.crc64nvme.filter(|_| req.input.checksum_mode.is_some()),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let conditions = self.conditions(req.input.if_match, None)?;
        self.0.bucket(&req.input.bucket)?.delete(&req.input.key, &conditions)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let bucket = self.0.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let max = input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS);
        let after =
            input.continuation_token.clone().or_else(|| input.start_after.clone()).unwrap_or_default();
        let page =
            page(&bucket, &prefix, &after, input.delimiter.as_deref().unwrap_or_default(), max as usize);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            max_keys: Some(max),
            key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next,
            contents: Some(page.objects.iter().map(listed).collect()),
            common_prefixes: Some(
                page.prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect(),
            ),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let about = About {
            key: input.key.clone(),
            size: 0,
            etag: String::new(),
            modified_micros: 0,
            crc64nvme: None,
            content_type: input.content_type.map(|kind| kind.to_string()),
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        };
        let id = uploads::begin(&*self.0.bucket(&input.bucket)?, &about)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (input, trailers) = (req.input, req.trailing_headers);
        let bucket = self.0.bucket(&input.bucket)?;
        let checksum = Checksum {
            checksum_crc32: input.checksum_crc32,
            checksum_crc32c: input.checksum_crc32c,
            checksum_crc64nvme: input.checksum_crc64nvme,
            checksum_sha1: input.checksum_sha1,
            checksum_sha256: input.checksum_sha256,
            checksum_type: None,
        };
        let claims = Claims { length: input.content_length, md5: input.content_md5, checksum, trailers };
        let body = intake::take(&bucket.arrivals(), input.body, claims).await?;
        let about = uploads::keep(&bucket, &input.key, &input.upload_id, input.part_number, &body)?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(about.etag)),
            checksum_crc64nvme: about.crc64nvme,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let bucket = self.0.bucket(&input.bucket)?;
        let conditions = self.conditions(input.if_match, input.if_none_match)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let now = self.0.faults.now_micros();
        let about =
            uploads::complete(&bucket, (&input.key, &input.upload_id), parts, &conditions, now).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(about.etag)),
            checksum_crc64nvme: about.crc64nvme,
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let bucket = self.0.bucket(&req.input.bucket)?;
        uploads::give_up(&bucket, &req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// One answer of a listing.
struct Page {
    objects: Vec<About>,
    prefixes: Vec<String>,
    next: Option<String>,
}

/// With a delimiter, keys that go on behind one are folded into their common prefix, which counts as one.
fn page(bucket: &super::objects::Bucket, prefix: &str, after: &str, delimiter: &str, max: usize) -> Page {
    let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), next: None };
    let mut after = after.to_owned();
    loop {
        for about in bucket.list(prefix, &after, MAX_KEYS as usize + 1) {
            let fold = match delimiter {
                "" => None,
                delimiter => about.key[prefix.len()..]
                    .find(delimiter)
                    .map(|at| about.key[..prefix.len() + at + delimiter.len()].to_owned()),
            };
            // A page that ended in a prefix goes on behind everything below it.
            let folded = fold.as_ref().is_some_and(|fold| after.starts_with(fold.as_str()));
            if !folded && page.objects.len() + page.prefixes.len() == max {
                page.next = (max > 0).then_some(after);
                return page;
            }
            after.clone_from(&about.key);
            match fold {
                Some(_) if folded => {}
                Some(fold) => page.prefixes.push(fold),
                None => page.objects.push(about),
            }
        }
        if bucket.list(prefix, &after, 1).is_empty() {
            return page;
        }
    }
}

fn listed(about: &About) -> Object {
    Object {
        key: Some(about.key.clone()),
        size: i64::try_from(about.size).ok(),
        e_tag: Some(ETag::Strong(about.etag.clone())),
        last_modified: Some(modified(about)),
        ..Default::default()
    }
}

fn modified(about: &About) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_micros(about.modified_micros))
}

fn metadata(about: &About) -> Option<Metadata> {
    let metadata: &BTreeMap<String, String> = &about.metadata;
    (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
}

/// Digits of an ETag.
pub(super) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(file: File, start: u64, end: u64) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> {
    let file = Arc::new(file);
    futures_util::stream::try_unfold(start, move |at| {
        let file = Arc::clone(&file);
        async move {
            let length = end.saturating_sub(at).min(PIECE);
            if length == 0 {
                return Ok(None);
            }
            let read = move || {
                let mut piece = vec![0; length as usize];
                file.read_exact_at(&mut piece, at).map(|()| piece)
            };
            let piece = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
            Ok(Some((piece.into(), at + length)))
        }
    })
}
