//! Uploads in parts: parts stand beside the objects until the upload is completed or given up.

use super::conditions::Conditions;
use super::intake::{self, Arrived, Claims};
use super::objects::{About, Bucket, append_description, describe};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{CompletedPart, StreamingBlob};
use s3s::{S3Error, S3Result, s3_error};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest number of a part, as in S3.
const PARTS: i32 = 10_000;
const ABOUT: &str = "about.json";

/// Begins an upload; its id.
pub(super) fn begin(bucket: &Bucket, about: &About) -> S3Result<String> {
    let id = ulid::Ulid::generate().to_string();
    let dir = bucket.uploads().join(&id);
    fs::create_dir(&dir).map_err(S3Error::internal_error)?;
    let description = serde_json::to_vec(about).expect("plain data is always JSON");
    fs::write(dir.join(ABOUT), description).map_err(S3Error::internal_error)?;
    Ok(id)
}

/// Keeps a part; what is known of it.
pub(super) fn keep(bucket: &Bucket, key: &str, id: &str, number: i32, part: &Arrived) -> S3Result<About> {
    if !(1..=PARTS).contains(&number) {
        return Err(s3_error!(InvalidArgument, "part numbers go from 1 to 10000"));
    }
    let (dir, _) = find(bucket, key, id)?;
    let about = About {
        key: key.to_owned(),
        size: part.size,
        etag: crate::s3_server::service::hexadecimal(&part.md5),
        modified_micros: 0,
        crc64nvme: part.checksum.checksum_crc64nvme.clone(),
        content_type: None,
        metadata: BTreeMap::new(),
    };
    append_description(part.path(), &about).map_err(S3Error::internal_error)?;
    fs::rename(part.path(), dir.join(format!("{number:05}"))).map_err(S3Error::internal_error)?;
    Ok(about)
}

/// Puts the parts together and makes them the object, if the conditions hold; what is then known of it.
pub(super) async fn complete(
    bucket: &Bucket,
    (key, id): (&str, &str),
    parts: Vec<CompletedPart>,
    conditions: &Conditions,
    now_micros: u64,
) -> S3Result<About> {
    let (dir, mut about) = find(bucket, key, id)?;
    // Refused early, so that nothing is copied in vain; what counts is the check when it becomes the object.
    conditions.check(bucket.about(key).ok().as_ref().map(|standing| standing.etag.as_str()))?;
    let (files, etag) = chosen(&dir, &parts)?;
    let pieces = futures_util::stream::iter(Pieces { files: files.into_iter(), now: None });
    let body = StreamingBlob::wrap(pieces);
    let whole = intake::take(&bucket.arrivals(), Some(body), Claims::default()).await?;
    about.size = whole.size;
    about.etag = etag;
    about.modified_micros = now_micros;
    about.crc64nvme = whole.checksum.checksum_crc64nvme.clone();
    bucket.put(&whole, about.clone(), conditions)?;
    fs::remove_dir_all(&dir).map_err(S3Error::internal_error)?;
    Ok(about)
}

/// Forgets an upload and its parts.
pub(super) fn give_up(bucket: &Bucket, key: &str, id: &str) -> S3Result<()> {
    let (dir, _) = find(bucket, key, id)?;
    fs::remove_dir_all(dir).map_err(S3Error::internal_error)
}

fn find(bucket: &Bucket, key: &str, id: &str) -> S3Result<(PathBuf, About)> {
    let absent = || s3_error!(NoSuchUpload, "there is no such upload");
    // An id is a name below the directory: take none that could lead out of it.
    ulid::Ulid::from_string(id).map_err(|_| absent())?;
    let dir = bucket.uploads().join(id);
    let description = fs::read(dir.join(ABOUT)).map_err(|_| absent())?;
    let about: About = serde_json::from_slice(&description).map_err(S3Error::internal_error)?;
    if about.key != key {
        return Err(absent());
    }
    Ok((dir, about))
}

/// The files of the listed parts, in order, and the ETag of the whole as S3 computes it.
fn chosen(dir: &Path, parts: &[CompletedPart]) -> S3Result<(Vec<(File, u64)>, String)> {
    let mut files = Vec::with_capacity(parts.len());
    let mut etags = Md5::new();
    let mut last = 0;
    for part in parts {
        let number = part.part_number.unwrap_or_default();
        if number <= last {
            return Err(s3_error!(InvalidPartOrder, "the parts are not listed in ascending order"));
        }
        last = number;
        let invalid = || s3_error!(InvalidPart, "part {} was not uploaded as listed", number);
        let file = File::open(dir.join(format!("{number:05}"))).map_err(|_| invalid())?;
        let about = describe(&file).map_err(S3Error::internal_error)?;
        if part.e_tag.as_ref().is_some_and(|said| said.as_strong() != Some(&about.etag)) {
            return Err(invalid());
        }
        let digest: Vec<u8> = (0..about.etag.len())
            .step_by(2)
            .filter_map(|at| u8::from_str_radix(&about.etag[at..at + 2], 16).ok())
            .collect();
        etags.update(&digest);
        files.push((file, about.size));
    }
    if files.is_empty() {
        return Err(s3_error!(MalformedXML, "an upload is completed with one part at least"));
    }
    let etag = format!("{}-{}", crate::s3_server::service::hexadecimal(&etags.finalize()), files.len());
    Ok((files, etag))
}

/// The bodies of some files, one after the other.
struct Pieces {
    files: std::vec::IntoIter<(File, u64)>,
    now: Option<(File, u64)>,
}

impl Iterator for Pieces {
    type Item = io::Result<bytes::Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match &mut self.now {
                Some((_, 0)) | None => self.now = Some(self.files.next()?),
                Some((file, left)) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(1 << 20);
                    let mut piece = vec![0; length];
                    return Some(file.read_exact(&mut piece).map(|()| {
                        *left -= length as u64;
                        piece.into()
                    }));
                }
            }
        }
    }
}
