//! Which S3 a cluster on this machine ships to: the embedded server, or anybody's.

use std::fmt;

use clap::Args;

use super::layout::ObjectStore;

const BUCKET: &str = "vr-dev";
const REGION: &str = "us-east-1";

/// Flags that name another object store than the embedded one.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Object store")]
pub struct ObjectStoreArgs {
    /// Use this S3 server; credentials come from the environment, as for the AWS tools [default: an embedded one]
    #[arg(long, value_name = "URL", value_parser = url)]
    pub s3_endpoint: Option<String>,

    /// The bucket; it must exist, unless the embedded server is used [default: vr-dev]
    #[arg(long, value_name = "NAME")]
    pub s3_bucket: Option<String>,

    /// Keep everything below this prefix of the bucket
    #[arg(long, value_name = "PREFIX")]
    pub s3_prefix: Option<String>,

    /// The bucket's region [default: us-east-1]
    #[arg(long, value_name = "REGION", requires = "s3_endpoint")]
    pub s3_region: Option<String>,
}

fn url(typed: &str) -> Result<String, String> {
    let host = typed.strip_prefix("http://").or_else(|| typed.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(typed.to_owned()),
        _ => Err(format!("{typed:?} is not a URL: give http://host:port or https://host")),
    }
}

impl ObjectStoreArgs {
    /// Whether a server is to be started.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.s3_endpoint.is_none()
    }

    /// What was typed, with defaults for the rest.
    #[must_use]
    pub fn resolve(&self, embedded_port: Option<u16>, prefix: &str) -> ObjectStore {
        let embedded = embedded_port.map(|port| format!("http://127.0.0.1:{port}"));
        ObjectStore {
            embedded_port,
            endpoint: self.s3_endpoint.clone().or(embedded),
            bucket: self.s3_bucket.clone().unwrap_or_else(|| BUCKET.to_owned()),
            prefix: self.s3_prefix.as_deref().unwrap_or(prefix).trim_matches('/').to_owned(),
            region: self.s3_region.clone().unwrap_or_else(|| REGION.to_owned()),
        }
    }

    /// Whether nothing that was typed contradicts `store`.
    #[must_use]
    pub fn fits(&self, store: &ObjectStore) -> bool {
        let same = |typed: &Option<String>, there: &str| typed.as_deref().is_none_or(|typed| typed == there);
        same(&self.s3_endpoint, store.endpoint.as_deref().unwrap_or_default())
            && same(&self.s3_bucket, &store.bucket)
            && self.s3_prefix.as_deref().is_none_or(|typed| typed.trim_matches('/') == store.prefix)
            && same(&self.s3_region, &store.region)
    }
}

impl fmt::Display for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_server_is_the_default() {
        let store = ObjectStoreArgs::default().resolve(Some(9), "dev");
        assert_eq!(store.to_string(), "s3://vr-dev/dev at http://127.0.0.1:9");
        assert!(ObjectStoreArgs::default().fits(&store));
    }

    #[test]
    fn what_contradicts_is_noticed() {
        let args = ObjectStoreArgs { s3_bucket: Some("other".to_owned()), ..ObjectStoreArgs::default() };
        assert!(!args.fits(&ObjectStoreArgs::default().resolve(Some(9), "dev")));
        assert!(args.fits(&args.resolve(Some(9), "dev")));
    }

    #[test]
    fn a_server_is_a_url() {
        assert!(url("http://127.0.0.1:9000").is_ok());
        for wrong in ["", "minio:9000", "ftp://a", "http://", "http://a b"] {
            assert!(url(wrong).expect_err(wrong).contains("not a URL"));
        }
    }
}
