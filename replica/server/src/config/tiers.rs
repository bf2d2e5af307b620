//! The section `tiers` of the configuration: what of it is written, and what it means.

use super::raw::{missing, value};
use super::units::Span;
use super::{Cadence, ConfigError, DiskTier, ObjectStoreTier, OnLag, Tiers};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use vr_checkpoint::writer::{LEAST_RATE, Retention};

/// The chain below RAM.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct RawTiers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lag: Option<OnLag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvme: Option<RawTier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<RawTier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_store: Option<RawObjectStore>,
}

/// A disk tier.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct RawTier {
    pub path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_limit: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
}

/// The object store tier.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct RawObjectStore {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_limit: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<usize>,
}

/// The cadences that nobody has set.
fn defaults() -> [Cadence; 3] {
    let cadence = |checkpoint, log, keep: usize, lag| Cadence {
        checkpoint: Duration::from_secs(checkpoint),
        log: Duration::from_secs(log),
        keep: keep.into(),
        lag_limit: Duration::from_secs(lag),
        rate: None,
    };
    [cadence(60, 1, 3, 10), cadence(600, 1, 6, 10), cadence(86_400, 10, 24, 60)]
}

impl RawTiers {
    /// What it means.
    ///
    /// # Errors
    /// Names the first field that is missing or makes no sense, and what would be right.
    pub(super) fn resolve(self) -> Result<Tiers, ConfigError> {
        let [nvme, volume, object_store] = defaults();
        Ok(Tiers {
            on_lag: self.on_lag.unwrap_or_default(),
            nvme: self.nvme.map(|t| disk(("tiers.nvme", "tiers.nvme.path"), t, nvme)).transpose()?,
            volume: self
                .volume
                .map(|t| disk(("tiers.volume", "tiers.volume.path"), t, volume))
                .transpose()?,
            object_store: self.object_store.map(|t| bucket(t, object_store)).transpose()?,
        })
    }
}

fn disk(
    (section, path): (&str, &'static str),
    raw: RawTier,
    default: Cadence,
) -> Result<DiskTier, ConfigError> {
    Ok(DiskTier {
        path: raw.path.ok_or_else(|| missing(path))?,
        cadence: cadence(
            section,
            (raw.checkpoint_interval, raw.log_interval, raw.lag_limit),
            raw.rate_limit_bytes,
            raw.keep,
            default,
        )?,
    })
}

fn bucket(raw: RawObjectStore, default: Cadence) -> Result<ObjectStoreTier, ConfigError> {
    let spans = (raw.checkpoint_interval, raw.log_interval, raw.lag_limit);
    let mut cadence = cadence("tiers.objectStore", spans, raw.rate_limit_bytes, raw.keep, default)?;
    cadence.keep = kept_by_time(cadence.keep, (raw.keep_hourly, raw.keep_daily, raw.keep_monthly))?;
    Ok(ObjectStoreTier {
        endpoint: raw.endpoint,
        bucket: raw.bucket.ok_or_else(|| missing("tiers.objectStore.bucket"))?,
        prefix: raw.prefix.unwrap_or_default().trim_matches('/').to_owned(),
        region: raw.region,
        path_style: raw.path_style.unwrap_or(false),
        kms_key: kms_key(raw.kms_key_id)?,
        cadence,
    })
}

/// It goes into a header as it stands.
fn kms_key(given: Option<String>) -> Result<Option<String>, ConfigError> {
    match given {
        Some(key) if key.is_empty() || !key.chars().all(|c| c.is_ascii_graphic()) => Err(value(
            "tiers.objectStore.kmsKeyId".to_owned(),
            "must be the id, the ARN or the alias of a key, without spaces; leave it out for what the bucket is set to",
        )),
        given => Ok(given),
    }
}

/// A tier is behind by up to one shipment of the log, and the time that takes, while nothing is wrong.
const SHIPMENTS: u32 = 3;

fn cadence(
    field: &str,
    (checkpoint, log, lag_limit): (Option<Span>, Option<Span>, Option<Span>),
    rate: Option<u64>,
    keep: Option<usize>,
    default: Cadence,
) -> Result<Cadence, ConfigError> {
    let whole = |name: &str, span: Option<Span>, default: Duration| {
        let span = span.map_or(default, |s| s.0);
        if span < Duration::from_secs(1) {
            return Err(value(format!("{field}.{name}"), "must be at least 1s"));
        }
        Ok(span)
    };
    let last = keep.unwrap_or(default.keep.last);
    if last == 0 {
        return Err(value(format!("{field}.keep"), "must be at least 1: the newest checkpoint always stays"));
    }
    let checkpoint = whole("checkpointInterval", checkpoint, default.checkpoint)?;
    let log = whole("logInterval", log, default.log)?;
    let least = log * SHIPMENTS;
    let lag_limit = match lag_limit {
        Some(Span(given)) if given < least => {
            let reason = format!("must be at least {SHIPMENTS} times `logInterval`, {}s", least.as_secs());
            return Err(value(format!("{field}.lagLimit"), reason));
        }
        Some(Span(given)) => given,
        None => default.lag_limit.max(least),
    };
    if rate.is_some_and(|rate| rate < LEAST_RATE) {
        return Err(value(
            format!("{field}.rateLimitBytes"),
            format!("must be at least {LEAST_RATE}, or left out"),
        ));
    }
    Ok(Cadence { checkpoint, log, keep: Retention { last, ..default.keep }, lag_limit, rate })
}

/// More than this of one kind would let HEAD grow beyond what it may be.
const MOST_BY_TIME: usize = 200;

fn kept_by_time(
    keep: Retention,
    (hourly, daily, monthly): (Option<usize>, Option<usize>, Option<usize>),
) -> Result<Retention, ConfigError> {
    let count = |name: &str, given: Option<usize>| match given.unwrap_or(0) {
        count if count > MOST_BY_TIME => {
            Err(value(format!("tiers.objectStore.{name}"), format!("must be at most {MOST_BY_TIME}")))
        }
        count => Ok(count),
    };
    Ok(Retention {
        last: keep.last,
        hourly: count("keepHourly", hourly)?,
        daily: count("keepDaily", daily)?,
        monthly: count("keepMonthly", monthly)?,
    })
}
