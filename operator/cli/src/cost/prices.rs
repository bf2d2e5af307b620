//! What things cost: the prices that `vr cost` carries, and those of a file, which come before them.
//!
//! Promises: each price has a date and a source, the file's as well; a field that is not known is refused with its line,
//! and so is a price that is no price. Nothing is fetched: prices are as old as their dates.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

/// One price.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// In dollars.
    pub dollars: f64,
    /// For what.
    pub per: &'static str,
    /// As of when.
    pub date: String,
    /// Where it is published.
    pub source: String,
}

/// A machine, and what an hour of it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Price of an hour on demand.
    pub hour: Price,
    /// Memory in GiB.
    #[serde(rename = "memoryGiB")]
    pub memory_gib: f64,
    /// Size of its local NVMe disks in GB; 0 if it has none.
    #[serde(rename = "localDiskGB")]
    pub local_disk_gb: f64,
}

/// Every price that the computation uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// Of which region.
    pub region: String,
    /// Machines by name.
    pub instances: BTreeMap<String, Instance>,
    /// gp3, storage.
    pub gp3_gb_month: Price,
    /// gp3, each of the IOPS above 3,000.
    pub gp3_iops_month: Price,
    /// gp3, each MB/s above 125.
    pub gp3_mbps_month: Price,
    /// io2, storage.
    pub io2_gb_month: Price,
    /// io2, each of the IOPS up to 32,000.
    pub io2_iops_month: Price,
    /// io2, each of the IOPS above 32,000 and up to 64,000.
    pub io2_iops_month_above32k: Price,
    /// io2, each of the IOPS above 64,000.
    pub io2_iops_month_above64k: Price,
    /// S3 Standard, storage.
    pub s3_gb_month: Price,
    /// S3 Standard, a thousand PUTs.
    pub s3_thousand_puts: Price,
    /// Each GB that leaves a zone for another one; it is paid again where it arrives.
    pub cross_zone_gb: Price,
    /// The control plane of Kubernetes.
    pub control_plane_hour: Price,
}

/// When the prices below were written down.
const WRITTEN: &str = "2026-11-30";
const EC2: &str = "https://aws.amazon.com/ec2/pricing/on-demand/";
const EBS: &str = "https://aws.amazon.com/ebs/pricing/";
const S3: &str = "https://aws.amazon.com/s3/pricing/";
const EKS: &str = "https://aws.amazon.com/eks/pricing/";

/// Name, dollars an hour, GiB, GB of local disks.
const MACHINES: &[(&str, f64, f64, f64)] = &[
    ("r7g.large", 0.1071, 16.0, 0.0),
    ("r7g.xlarge", 0.2142, 32.0, 0.0),
    ("r7g.2xlarge", 0.4284, 64.0, 0.0),
    ("r7g.4xlarge", 0.8568, 128.0, 0.0),
    ("r7g.8xlarge", 1.7136, 256.0, 0.0),
    ("r7g.16xlarge", 3.4272, 512.0, 0.0),
    ("r7gd.large", 0.1361, 16.0, 118.0),
    ("r7gd.xlarge", 0.2722, 32.0, 237.0),
    ("r7gd.2xlarge", 0.5443, 64.0, 474.0),
    ("r7gd.4xlarge", 1.0886, 128.0, 950.0),
    ("r7gd.8xlarge", 2.1773, 256.0, 1900.0),
    ("r7gd.16xlarge", 4.3546, 512.0, 3800.0),
];

impl Default for Prices {
    fn default() -> Self {
        let price = |dollars, per, source: &str| Price {
            dollars,
            per,
            date: WRITTEN.to_owned(),
            source: source.to_owned(),
        };
        let machine = |&(name, dollars, memory_gib, local_disk_gb): &(&str, f64, f64, f64)| {
            (name.to_owned(), Instance { hour: price(dollars, "hour", EC2), memory_gib, local_disk_gb })
        };
        Self {
            region: "us-east-1".to_owned(),
            instances: MACHINES.iter().map(machine).collect(),
            gp3_gb_month: price(0.08, "GB and month", EBS),
            gp3_iops_month: price(0.005, "IOPS and month", EBS),
            gp3_mbps_month: price(0.04, "MB/s and month", EBS),
            io2_gb_month: price(0.125, "GB and month", EBS),
            io2_iops_month: price(0.065, "IOPS and month", EBS),
            io2_iops_month_above32k: price(0.046, "IOPS and month", EBS),
            io2_iops_month_above64k: price(0.032, "IOPS and month", EBS),
            s3_gb_month: price(0.023, "GB and month", S3),
            s3_thousand_puts: price(0.005, "1,000 PUTs", S3),
            cross_zone_gb: price(0.01, "GB, out and in", EC2),
            control_plane_hour: price(0.1, "hour", EKS),
        }
    }
}

/// What a file of prices may say. All but date and source may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Own {
    date: String,
    source: String,
    region: Option<String>,
    #[serde(default)]
    instances: BTreeMap<String, OwnInstance>,
    gp3_gb_month: Option<f64>,
    gp3_iops_month: Option<f64>,
    gp3_mbps_month: Option<f64>,
    io2_gb_month: Option<f64>,
    io2_iops_month: Option<f64>,
    io2_iops_month_above32k: Option<f64>,
    io2_iops_month_above64k: Option<f64>,
    s3_gb_month: Option<f64>,
    s3_thousand_puts: Option<f64>,
    cross_zone_gb: Option<f64>,
    control_plane_hour: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnInstance {
    hour: f64,
    #[serde(rename = "memoryGiB")]
    memory_gib: Option<f64>,
    #[serde(rename = "localDiskGB")]
    local_disk_gb: Option<f64>,
}

impl Prices {
    /// The prices with those of a file in their places.
    ///
    /// # Errors
    /// When the file cannot be read, or says something that is not known or no price.
    pub fn with_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the prices {} cannot be read", path.display()))?;
        Self::with(&text).with_context(|| format!("the prices in {} cannot be used", path.display()))
    }

    fn with(text: &str) -> anyhow::Result<Self> {
        let own: Own = serde_yaml::from_str(text)?;
        if own.date.parse::<jiff::civil::Date>().is_err() {
            bail!("date: {:?} is not a date: write it as 2026-11-30", own.date);
        }
        ensure!(!own.source.trim().is_empty(), "source: say where the prices are from");
        let mut prices = Self { region: own.region.unwrap_or(Self::default().region), ..Self::default() };
        let set = |name: &str, price: &mut Price, dollars: Option<f64>| {
            if let Some(dollars) = dollars {
                ensure!(
                    dollars.is_finite() && dollars >= 0.0,
                    "{name}: {dollars} is not a price: give dollars, 0 or more"
                );
                *price =
                    Price { dollars, date: own.date.clone(), source: own.source.clone(), per: price.per };
            }
            Ok(())
        };
        set("gp3GbMonth", &mut prices.gp3_gb_month, own.gp3_gb_month)?;
        set("gp3IopsMonth", &mut prices.gp3_iops_month, own.gp3_iops_month)?;
        set("gp3MbpsMonth", &mut prices.gp3_mbps_month, own.gp3_mbps_month)?;
        set("io2GbMonth", &mut prices.io2_gb_month, own.io2_gb_month)?;
        set("io2IopsMonth", &mut prices.io2_iops_month, own.io2_iops_month)?;
        set("io2IopsMonthAbove32k", &mut prices.io2_iops_month_above32k, own.io2_iops_month_above32k)?;
        set("io2IopsMonthAbove64k", &mut prices.io2_iops_month_above64k, own.io2_iops_month_above64k)?;
        set("s3GbMonth", &mut prices.s3_gb_month, own.s3_gb_month)?;
        set("s3ThousandPuts", &mut prices.s3_thousand_puts, own.s3_thousand_puts)?;
        set("crossZoneGb", &mut prices.cross_zone_gb, own.cross_zone_gb)?;
        set("controlPlaneHour", &mut prices.control_plane_hour, own.control_plane_hour)?;
        for (name, of) in own.instances {
            let known = prices.instances.get(&name);
            let Some(memory_gib) = of.memory_gib.or(known.map(|known| known.memory_gib)) else {
                bail!(
                    "instances.{name}: memoryGiB is needed, since {name} is not among those that are known"
                );
            };
            let local_disk_gb =
                of.local_disk_gb.or(known.map(|known| known.local_disk_gb)).unwrap_or_default();
            ensure!(
                memory_gib.is_finite() && memory_gib > 0.0,
                "instances.{name}: memoryGiB: {memory_gib} is no memory"
            );
            ensure!(
                local_disk_gb.is_finite() && local_disk_gb >= 0.0,
                "instances.{name}: localDiskGB: {local_disk_gb} is no size"
            );
            let mut hour = Self::default().control_plane_hour;
            set(&format!("instances.{name}.hour"), &mut hour, Some(of.hour))?;
            prices.instances.insert(name, Instance { hour, memory_gib, local_disk_gb });
        }
        Ok(prices)
    }

    /// All but those of machines, by the names that a file gives them.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Price); 11] {
        [
            ("gp3GbMonth", &self.gp3_gb_month),
            ("gp3IopsMonth", &self.gp3_iops_month),
            ("gp3MbpsMonth", &self.gp3_mbps_month),
            ("io2GbMonth", &self.io2_gb_month),
            ("io2IopsMonth", &self.io2_iops_month),
            ("io2IopsMonthAbove32k", &self.io2_iops_month_above32k),
            ("io2IopsMonthAbove64k", &self.io2_iops_month_above64k),
            ("s3GbMonth", &self.s3_gb_month),
            ("s3ThousandPuts", &self.s3_thousand_puts),
            ("crossZoneGb", &self.cross_zone_gb),
            ("controlPlaneHour", &self.control_plane_hour),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "date: 2026-10-01\nsource: our contract\n";

    #[test]
    fn a_file_comes_before_what_is_carried() {
        let prices = Prices::with(&format!(
            "{HEAD}region: eu-central-1\ns3GbMonth: 0.0245\ninstances:\n  r7g.4xlarge: {{hour: 0.5}}\n  \
             metal: {{hour: 9, memoryGiB: 1024, localDiskGB: 8000}}\n"
        ))
        .expect("all of it is known");
        assert_eq!((prices.region.as_str(), prices.s3_gb_month.dollars), ("eu-central-1", 0.0245));
        assert_eq!(prices.s3_gb_month.source, "our contract");
        assert_eq!(prices.s3_gb_month.date, "2026-10-01");
        let kept = &prices.instances["r7g.4xlarge"];
        assert_eq!((kept.hour.dollars, kept.memory_gib, kept.hour.per), (0.5, 128.0, "hour"));
        assert_eq!(prices.instances["metal"].local_disk_gb, 8000.0);
        assert_eq!(prices.gp3_gb_month, Prices::default().gp3_gb_month);
    }

    #[test]
    fn each_price_can_be_given_and_is_shown() {
        for (name, _) in Prices::default().named() {
            let prices = Prices::with(&format!("{HEAD}{name}: 0.125\n")).expect(name);
            let changed: Vec<_> =
                prices.named().into_iter().filter(|(_, p)| p.source == "our contract").collect();
            assert_eq!(changed.len(), 1, "{name}");
            assert_eq!((changed[0].0, changed[0].1.dollars), (name, 0.125));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("s3GbMonth: 0.02\n", "missing field `date`"),
            ("date: 2026-10-01\n", "missing field `source`"),
            ("date: soon\nsource: x\n", "date: \"soon\" is not a date"),
            ("date: 2026-10-01\nsource: ' '\n", "source: say where"),
            ("date: 2026-10-01\nsource: x\ns3Gb: 0.02\n", "unknown field `s3Gb`"),
            ("date: 2026-10-01\nsource: x\ns3GbMonth: cheap\n", "invalid type"),
            ("date: 2026-10-01\nsource: x\ns3GbMonth: -1\n", "s3GbMonth: -1 is not a price"),
            ("date: 2026-10-01\nsource: x\ns3GbMonth: .nan\n", "s3GbMonth: NaN is not a price"),
            (
                "date: 2026-10-01\nsource: x\ninstances: {huge: {hour: 1}}\n",
                "instances.huge: memoryGiB is needed",
            ),
            (
                "date: 2026-10-01\nsource: x\ninstances: {huge: {hour: 1, memoryGiB: 0}}\n",
                "instances.huge: memoryGiB: 0 is no memory",
            ),
            (
                "date: 2026-10-01\nsource: x\ninstances: {huge: {hour: 1, memoryGiB: 8, localDiskGB: -3}}\n",
                "instances.huge: localDiskGB: -3 is no size",
            ),
            ("date: 2026-10-01\nsource: x\ninstances: {r7g.large: {hours: 1}}\n", "unknown field `hours`"),
            ("", "missing field `date`"),
            ("- 1\n", "invalid type"),
        ];
        for (text, expected) in cases {
            let error = Prices::with(text).expect_err(text);
            assert!(format!("{error:#}").contains(expected), "{text}: {error:#}");
        }
        let unknown = Prices::with(&format!("{HEAD}\ns3Gb: 0.02\n")).expect_err("not known");
        assert!(unknown.to_string().contains("line 4"), "{unknown}");
    }
}
