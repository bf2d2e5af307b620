//! What a write demands of the object that stands where it wants to write.

use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Result, s3_error};

/// `If-Match` and `If-None-Match` of a write.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    if_match: Option<ETagCondition>,
    create_only: bool,
}

impl Conditions {
    /// As S3 takes them: `If-None-Match` with `*` only.
    pub(super) fn new(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<Conditions> {
        match if_none_match {
            Some(ETagCondition::ETag(_)) => {
                Err(s3_error!(NotImplemented, "If-None-Match on a write takes nothing but *"))
            }
            other => Ok(Conditions { if_match, create_only: other.is_some() }),
        }
    }

    /// Whether they hold for an object with this ETag; `None` if there is no object.
    pub(super) fn check(&self, standing: Option<&str>) -> S3Result<()> {
        if self.create_only && standing.is_some() {
            return Err(s3_error!(PreconditionFailed, "the object exists"));
        }
        let Some(wanted) = &self.if_match else { return Ok(()) };
        match (wanted, standing) {
            (_, None) => Err(s3_error!(NoSuchKey, "there is no object to match")),
            (ETagCondition::Any, Some(_)) => Ok(()),
            (ETagCondition::ETag(wanted), Some(etag)) if matches(wanted, etag) => Ok(()),
            (ETagCondition::ETag(_), Some(_)) => {
                Err(s3_error!(PreconditionFailed, "the object is another one"))
            }
        }
    }
}

fn matches(wanted: &ETag, etag: &str) -> bool {
    wanted.as_strong() == Some(etag)
}
