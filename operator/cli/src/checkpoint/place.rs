//! Where a tier is, as people type it, and which lineage there is meant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use uuid::Uuid;
use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::{DirStore, ObjectStore, S3Location, S3Store, StoreError};

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// A directory, or s3://BUCKET/PREFIX with credentials as for the AWS tools
    location: Location,

    /// Which lineage, where several stand
    #[arg(long, value_name = "UUID")]
    pub(super) lineage: Option<Uuid>,

    /// An S3 server other than AWS
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,

    /// The bucket's region [default: what the AWS SDK finds, else us-east-1]
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,

    /// Encrypt what is written there with this key of KMS [default: what the bucket is set to]
    #[arg(long, value_name = "KEY")]
    s3_kms_key_id: Option<String>,
}

/// The lineages whose roots stand there, by their names.
///
/// # Errors
/// The store cannot be listed.
pub(crate) async fn lineages_in(store: &dyn ObjectStore) -> Result<Vec<Uuid>, StoreError> {
    let listed = store.list("").await?;
    let names = listed.iter().filter_map(|object| object.key.split('/').next()?.parse().ok());
    Ok(names.collect::<BTreeSet<Uuid>>().into_iter().collect())
}

/// Where a tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// A prefix of a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes at its ends.
        prefix: String,
    },
}

impl FromStr for Location {
    type Err = String;

    fn from_str(typed: &str) -> Result<Location, String> {
        let Some(rest) = typed.strip_prefix("s3://") else {
            return match typed.contains("://") {
                true => Err(format!("{typed:?} is neither a directory nor s3://bucket/prefix")),
                false => Ok(Location::Directory(PathBuf::from(typed))),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("{typed:?} names no bucket: give s3://bucket/prefix"));
        }
        Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

impl Place {
    /// The lineages below the location; the location itself, if it is one.
    pub(super) async fn lineages(&self) -> anyhow::Result<Vec<Uuid>> {
        if let Some(lineage) = self.lineage.or_else(|| self.location.lineage()) {
            return Ok(vec![lineage]);
        }
        let found = match &self.location {
            Location::Directory(root) => below_directory(root)?,
            Location::S3 { .. } => lineages_in(&self.open_s3(&self.location, None).await).await?,
        };
        if found.is_empty() {
            bail!("no lineage stands in {}", self.location);
        }
        Ok(found)
    }

    /// The location itself: what is beside the lineages.
    pub(crate) async fn root(&self) -> Arc<dyn ObjectStore> {
        match &self.location {
            Location::Directory(root) => Arc::new(DirStore::read_only(root)),
            location @ Location::S3 { .. } => Arc::new(self.open_s3(location, None).await),
        }
    }

    /// The one lineage that is meant.
    pub(crate) async fn one(&self) -> anyhow::Result<(Source, Uuid)> {
        let lineages = self.lineages().await?;
        let [lineage] = lineages[..] else {
            let all = lineages.iter().map(|lineage| format!("\n  {lineage}")).collect::<String>();
            bail!("several lineages stand in {}: choose one by --lineage:{all}", self.location);
        };
        Ok((self.source(lineage).await, lineage))
    }

    /// The same, and beside it other places that hold the lineage as well.
    pub(super) async fn one_with(&self, also: &[Location]) -> anyhow::Result<(Vec<Source>, Uuid)> {
        let (first, lineage) = self.one().await?;
        let mut sources = vec![first];
        for other in also {
            let other = self.at(other, lineage).await;
            // The same place twice would be asked twice.
            if sources.iter().all(|source| source.name != other.name) {
                sources.push(other);
            }
        }
        Ok((sources, lineage))
    }

    pub(super) async fn source(&self, lineage: Uuid) -> Source {
        self.at(&self.location, lineage).await
    }

    /// The lineage in another location, reached in the same way.
    pub(super) async fn at(&self, location: &Location, lineage: Uuid) -> Source {
        // A prefix may look like a lineage and not be the one that is meant.
        let own = location.lineage() == Some(lineage);
        let (tier, store): (_, Arc<dyn ObjectStore>) = match location {
            Location::Directory(root) if own => (TierKind::Volume, Arc::new(DirStore::read_only(root))),
            Location::Directory(root) => {
                (TierKind::Volume, Arc::new(DirStore::read_only(&root.join(lineage.to_string()))))
            }
            Location::S3 { .. } => {
                let below = (!own).then_some(lineage);
                (TierKind::ObjectStore, Arc::new(self.open_s3(location, below).await))
            }
        };
        Source { name: location.to_string(), tier, store }
    }

    /// The lineage there, to be written to.
    pub(super) async fn for_writing(&self, lineage: Uuid) -> anyhow::Result<Arc<dyn ObjectStore>> {
        self.writable(&self.location, lineage).await
    }

    /// The lineage in another location, reached in the same way, to be written to.
    pub(super) async fn writable(
        &self,
        location: &Location,
        lineage: Uuid,
    ) -> anyhow::Result<Arc<dyn ObjectStore>> {
        Ok(match location {
            Location::S3 { .. } => self.at(location, lineage).await.store,
            Location::Directory(root) if location.lineage() == Some(lineage) => {
                Arc::new(DirStore::open(root)?)
            }
            Location::Directory(root) => Arc::new(DirStore::open(&root.join(lineage.to_string()))?),
        })
    }

    async fn open_s3(&self, location: &Location, lineage: Option<Uuid>) -> S3Store {
        let Location::S3 { bucket, prefix } = location else { unreachable!("only asked for S3 locations") };
        let prefix = match lineage {
            Some(lineage) => format!("{prefix}/{lineage}").trim_matches('/').to_owned(),
            None => prefix.clone(),
        };
        let location = S3Location {
            endpoint: self.s3_endpoint.clone(),
            bucket: bucket.clone(),
            prefix,
            region: self.s3_region.clone(),
            path_style: self.s3_endpoint.is_some(),
            kms_key: self.s3_kms_key_id.clone(),
            keys: None,
        };
        S3Store::connect(&location).await
    }
}

impl Location {
    /// The lineage whose own root this is.
    fn lineage(&self) -> Option<Uuid> {
        let last = match self {
            Location::Directory(path) => path.file_name()?.to_str()?,
            Location::S3 { prefix, .. } => prefix.rsplit('/').next()?,
        };
        last.parse().ok()
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::Directory(path) => write!(f, "{}", path.display()),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

fn below_directory(root: &Path) -> anyhow::Result<Vec<Uuid>> {
    let entries = std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut lineages: Vec<Uuid> = names.collect();
    lineages.sort_unstable();
    Ok(lineages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_as_people_type_them() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!("s3://b/p/q/".parse(), Ok(s3("b", "p/q")));
        assert_eq!("s3://b".parse(), Ok(s3("b", "")));
        assert_eq!("/data/nvme".parse(), Ok(Location::Directory("/data/nvme".into())));
        for (wrong, expected) in
            [("s3:///p", "names no bucket"), ("gs://b/p", "neither a directory nor s3://")]
        {
            let error = wrong.parse::<Location>().expect_err(wrong);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_lineages_own_root_is_recognised() {
        let uuid = "6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b";
        for location in [format!("/data/nvme/{uuid}"), format!("s3://b/p/{uuid}"), format!("s3://b/{uuid}/")]
        {
            let location: Location = location.parse().expect("a location");
            assert_eq!(location.lineage(), Some(uuid.parse().expect("a UUID")));
        }
        assert_eq!("s3://b/p".parse::<Location>().expect("a location").lineage(), None);
    }

    #[tokio::test]
    async fn a_place_without_lineages_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = |location: &Path| Place {
            location: Location::Directory(location.to_owned()),
            lineage: None,
            s3_endpoint: None,
            s3_region: None,
            s3_kms_key_id: None,
        };
        let error = place(dir.path()).one().await.map(drop).expect_err("empty").to_string();
        assert!(error.contains("no lineage stands in"), "{error}");
        let error = place(Path::new("/nowhere")).one().await.map(drop).expect_err("not there").to_string();
        assert!(error.contains("cannot read /nowhere"), "{error}");
        for _ in 0..2 {
            std::fs::create_dir(dir.path().join(Uuid::new_v4().to_string())).expect("made");
        }
        let error = place(dir.path()).one().await.map(drop).expect_err("two").to_string();
        assert!(error.contains("choose one by --lineage"), "{error}");
    }
}
