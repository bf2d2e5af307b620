//! A body on its way to disk: written beside the objects, hashed as it comes, and compared with what the sender said.

use futures_util::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// What a sender says of its body.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) length: Option<i64>,
    pub(super) md5: Option<String>,
    pub(super) checksum: Checksum,
    /// Checksums that come after the body.
    pub(super) trailers: Option<TrailingHeaders>,
}

/// A body that arrived whole and as its sender said. Its file is removed unless it is taken over.
pub(super) struct Arrived {
    path: PathBuf,
    pub(super) size: u64,
    /// MD5, hexadecimal: the ETag of an object that was written in one piece.
    pub(super) md5: [u8; 16],
    pub(super) checksum: Checksum,
}

impl Arrived {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        // Taken over by a rename, or not wanted any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes a body in, into a new file in `dir`.
pub(super) async fn take(dir: &Path, body: Option<StreamingBlob>, claims: Claims) -> S3Result<Arrived> {
    let path = dir.join(ulid::Ulid::generate().to_string());
    // Removed by its drop whatever happens below.
    let mut arrived = Arrived { path, size: 0, md5: [0; 16], checksum: Checksum::default() };
    let file = tokio::fs::File::create_new(&arrived.path).await.map_err(S3Error::internal_error)?;
    let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
    let mut hasher = hasher(&claims);
    let mut md5 = Md5::new();
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, e))?;
            hasher.update(&piece);
            md5.update(&piece);
            arrived.size += piece.len() as u64;
            file.write_all(&piece).await.map_err(S3Error::internal_error)?;
        }
    }
    file.flush().await.map_err(S3Error::internal_error)?;
    arrived.md5 = md5.finalize();
    arrived.checksum = hasher.finalize();
    check(&arrived, &claims)?;
    Ok(arrived)
}

/// Computes what was announced, and what may be announced behind the body. CRC64NVME always: it is kept.
fn hasher(claims: &Claims) -> ChecksumHasher {
    let (said, later) = (&claims.checksum, claims.trailers.is_some());
    ChecksumHasher {
        crc32: (said.checksum_crc32.is_some() || later).then(Default::default),
        crc32c: (said.checksum_crc32c.is_some() || later).then(Default::default),
        sha1: (said.checksum_sha1.is_some() || later).then(s3s::crypto::Sha1::new),
        sha256: (said.checksum_sha256.is_some() || later).then(s3s::crypto::Sha256::new),
        crc64nvme: Some(Default::default()),
    }
}

fn check(arrived: &Arrived, claims: &Claims) -> S3Result<()> {
    if claims.length.is_some_and(|length| u64::try_from(length) != Ok(arrived.size)) {
        return Err(s3_error!(IncompleteBody, "the body has another length than announced"));
    }
    let md5 = base64_simd::STANDARD.encode_to_string(arrived.md5);
    if claims.md5.as_ref().is_some_and(|said| *said != md5) {
        return Err(s3_error!(BadDigest, "Content-MD5 is another one than the body's"));
    }
    let trailer = |name: &str| {
        let read = |headers: &hyper::HeaderMap| headers.get(name)?.to_str().ok().map(str::to_owned);
        claims.trailers.as_ref().and_then(|trailers| trailers.read(read).flatten())
    };
    let (said, is) = (&claims.checksum, &arrived.checksum);
    for (name, said, is) in [
        ("x-amz-checksum-crc32", &said.checksum_crc32, &is.checksum_crc32),
        ("x-amz-checksum-crc32c", &said.checksum_crc32c, &is.checksum_crc32c),
        ("x-amz-checksum-sha1", &said.checksum_sha1, &is.checksum_sha1),
        ("x-amz-checksum-sha256", &said.checksum_sha256, &is.checksum_sha256),
        ("x-amz-checksum-crc64nvme", &said.checksum_crc64nvme, &is.checksum_crc64nvme),
    ] {
        let said = said.clone().or_else(|| trailer(name));
        if said.is_some() && said != *is {
            return Err(s3_error!(BadDigest, "{} is another one than the body's", name));
        }
    }
    Ok(())
}
