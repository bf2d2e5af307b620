//! What a design costs in a month. Pure: prices and a load go in, lines of a bill come out, each with its arithmetic.
//!
//! Five designs that hold the same data: VR with its state in memory, with a local NVMe disk and without; Raft with its
//! state in memory and its log on io2 or on gp3; Raft with its state on a disk.
//!
//! What it does not know: discounts, taxes, what clients send between zones, snapshots of volumes, people.

use anyhow::{Context, ensure};
use serde::Serialize;

use super::prices::{Instance, Price, Prices};

/// A month of the price lists.
const HOURS: f64 = 730.0;
const GB: f64 = 1e9;
const GIB: f64 = 1_073_741_824.0;
/// The largest object that a checkpoint is shipped in.
const PACK: f64 = 16.0 * 1_048_576.0;
/// What gp3 has without being asked for.
const GP3_IOPS: f64 = 3_000.0;
const GP3_MBPS: f64 = 125.0;
/// At which a volume alone brings 100 GB back in three and a half minutes.
const RESTORE_MBPS: f64 = 500.0;
/// What a Raft log on gp3 is given, so that a snapshot does not hold up the syncs of the log.
const RAFT_MBPS: f64 = 375.0;
/// So many IOPS a log on io2 is given.
const IO2_IOPS: [f64; 3] = [5_000.0, 16_000.0, 32_000.0];
/// What of a state on disk the machine's memory caches.
const CACHED: f64 = 1.0 / 3.0;

/// What is held and how it changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Each in a zone of its own.
    pub replicas: u32,
    /// The state, in GB.
    #[serde(rename = "stateGB")]
    pub state_gb: f64,
    /// Memory for each byte of state.
    pub memory_factor: f64,
    /// Writes each second.
    pub ops: f64,
    /// Bytes of each.
    pub op_bytes: f64,
    /// Share of the state that is shipped anew by a checkpoint to the object store.
    pub churn: f64,
    /// Seconds between two of them.
    pub checkpoint_seconds: f64,
    /// Seconds between two shipments of the log.
    pub log_seconds: f64,
    /// Checkpoints kept in the object store, and the log since the oldest.
    pub keep: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            replicas: 3,
            state_gb: 100.0,
            memory_factor: 1.29,
            ops: 5_000.0,
            op_bytes: 256.0,
            churn: 1.0,
            checkpoint_seconds: 86_400.0,
            log_seconds: 10.0,
            keep: 4,
        }
    }
}

/// How the data is held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Design {
    /// State in memory; checkpoints on local NVMe disks, on gp3 and in S3.
    VrNvme,
    /// State in memory; checkpoints on gp3 and in S3.
    Vr,
    /// State in memory; the log is synced to io2 with so many IOPS.
    RaftIo2 {
        /// Of each volume.
        iops: f64,
    },
    /// State in memory; the log is synced to gp3.
    RaftGp3,
    /// State on gp3, a part of it cached.
    RaftOnDisk,
}

impl Design {
    /// In words.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Design::VrNvme => "VR, NVMe and gp3, S3".to_owned(),
            Design::Vr => format!("VR, gp3 at {RESTORE_MBPS} MB/s, S3"),
            Design::RaftIo2 { iops } => format!("Raft in memory, io2 with {iops} IOPS"),
            Design::RaftGp3 => "Raft in memory, gp3".to_owned(),
            Design::RaftOnDisk => "Raft with its state on disk, gp3".to_owned(),
        }
    }

    fn is_vr(self) -> bool {
        matches!(self, Design::VrNvme | Design::Vr)
    }
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What is paid for.
    pub item: Item,
    /// How the sum comes about.
    pub arithmetic: String,
    /// In a month.
    pub dollars: f64,
}

/// What is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum Item {
    Instances,
    NvmePremium,
    Volumes,
    ObjectStore,
    CrossZone,
    Fixed,
}

/// What a design costs in a month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// Which it is.
    pub design: Design,
    /// The machine it runs on.
    pub instance: String,
    /// In the order of the formula.
    pub lines: Vec<Line>,
    /// Their sum.
    pub dollars: f64,
}

impl Bill {
    /// What is paid for `item`.
    #[must_use]
    pub fn of(&self, item: Item) -> f64 {
        self.lines.iter().filter(|line| line.item == item).map(|line| line.dollars).sum()
    }
}

/// All designs that are compared. A log on io2 is given no fewer IOPS than there are writes, each of which is synced.
#[must_use]
pub fn designs(load: &Load) -> Vec<Design> {
    let mut designs = vec![Design::VrNvme, Design::Vr];
    designs.extend(IO2_IOPS.map(|iops| Design::RaftIo2 { iops: iops.max(load.ops) }));
    designs.dedup();
    designs.extend([Design::RaftGp3, Design::RaftOnDisk]);
    designs
}

impl Load {
    /// # Errors
    /// When a number is none that there could be.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.replicas % 2 == 1 && (1..=9).contains(&self.replicas),
            "--replicas: {} is not an odd number from 1 to 9",
            self.replicas
        );
        ensure!(self.keep >= 1, "--keep: at least one checkpoint is kept");
        for (flag, value, least) in [
            ("--state", self.state_gb, 0.001),
            ("--memory-factor", self.memory_factor, 1.0),
            ("--ops", self.ops, 0.0),
            ("--op-bytes", self.op_bytes, 0.0),
            ("--churn", self.churn, 0.0),
            ("--checkpoint-interval", self.checkpoint_seconds, 1.0),
            ("--log-interval", self.log_seconds, 1.0),
        ] {
            ensure!(value.is_finite() && value >= least, "{flag}: {value} is below {least}");
        }
        ensure!(self.churn <= 1.0, "--churn: {} is more than the whole state, which is 1", self.churn);
        Ok(())
    }

    fn bytes_a_second(&self) -> f64 {
        self.ops * self.op_bytes
    }

    fn memory_gib(&self) -> f64 {
        self.state_gb * GB / GIB * self.memory_factor
    }
}

/// The bill of a design.
///
/// # Errors
/// When a number of the load is none that there could be, or no machine among the prices is large enough.
pub fn bill(design: Design, load: &Load, prices: &Prices) -> anyhow::Result<Bill> {
    load.check()?;
    let n = f64::from(load.replicas);
    let need =
        if design == Design::RaftOnDisk { load.state_gb * GB / GIB * CACHED } else { load.memory_gib() };
    let disk = if design == Design::VrNvme { 2.0 * load.state_gb } else { 0.0 };
    let (instance, machine) = cheapest(prices, need, disk)?;
    let mut lines = Vec::new();
    let twin = if disk > 0.0 { cheapest(prices, need, 0.0)?.1 } else { machine };
    let (hour, of_twin) = (machine.hour.dollars, twin.hour.dollars);
    lines.push(line(Item::Instances, format!("{n} x {HOURS} h x ${of_twin}"), n * HOURS * of_twin));
    if hour > of_twin {
        let premium = n * HOURS * (hour - of_twin);
        lines.push(line(Item::NvmePremium, format!("{n} x {HOURS} h x (${hour} - ${of_twin})"), premium));
    }
    lines.push(volumes(design, load, prices));
    if design.is_vr() {
        lines.push(object_store(load, prices));
    }
    let copies = n - 1.0;
    let gb = load.bytes_a_second() * HOURS * 3_600.0 / GB;
    let cross = prices.cross_zone_gb.dollars;
    lines.push(line(
        Item::CrossZone,
        format!("{gb:.0} GB x {copies} x 2 x ${cross}"),
        gb * copies * 2.0 * cross,
    ));
    let plane = prices.control_plane_hour.dollars;
    lines.push(line(Item::Fixed, format!("control plane: {HOURS} h x ${plane}"), HOURS * plane));
    let dollars = lines.iter().map(|line| line.dollars).sum();
    Ok(Bill { design, instance: instance.to_owned(), lines, dollars })
}

fn line(item: Item, arithmetic: String, dollars: f64) -> Line {
    Line { item, arithmetic, dollars }
}

/// The cheapest machine with so much memory and local disk.
fn cheapest(prices: &Prices, memory_gib: f64, local_disk_gb: f64) -> anyhow::Result<(&str, &Instance)> {
    let fits = prices
        .instances
        .iter()
        .filter(|(_, of)| of.memory_gib >= memory_gib && of.local_disk_gb >= local_disk_gb);
    fits.min_by(|a, b| a.1.hour.dollars.total_cmp(&b.1.hour.dollars))
        .map(|(name, of)| (name.as_str(), of))
        .with_context(|| {
            format!(
                "no machine among the prices has {memory_gib:.0} GiB of memory and {local_disk_gb:.0} GB of local disks: name \
                 one in a file of --prices, under instances"
            )
        })
}

fn volumes(design: Design, load: &Load, prices: &Prices) -> Line {
    let n = f64::from(load.replicas);
    // A checkpoint beside the one before; where there is NVMe as well, the volume holds the last one only.
    let gb = if design == Design::VrNvme { load.state_gb } else { 2.0 * load.state_gb };
    if let Design::RaftIo2 { iops } = design {
        let tiers = io2(iops, prices);
        let iops_dollars: f64 = tiers.iter().map(|(of, price)| of * price.dollars).sum();
        let iops_text: Vec<_> =
            tiers.iter().map(|(of, price)| format!("{of} IOPS x ${}", price.dollars)).collect();
        let storage = prices.io2_gb_month.dollars;
        let arithmetic = format!("{n} x ({gb} GB x ${storage} + {})", iops_text.join(" + "));
        return line(Item::Volumes, arithmetic, n * (gb * storage + iops_dollars));
    }
    let (iops, mbps) = match design {
        Design::VrNvme => (GP3_IOPS, GP3_MBPS),
        Design::Vr => (GP3_IOPS, RESTORE_MBPS),
        _ => (load.ops.max(GP3_IOPS), RAFT_MBPS),
    };
    let (storage, per_iops, per_mbps) =
        (prices.gp3_gb_month.dollars, prices.gp3_iops_month.dollars, prices.gp3_mbps_month.dollars);
    let (more_iops, more_mbps) = (iops - GP3_IOPS, mbps - GP3_MBPS);
    let mut arithmetic = format!("{n} x ({gb} GB x ${storage}");
    if more_iops > 0.0 {
        arithmetic += &format!(" + {more_iops} IOPS x ${per_iops}");
    }
    if more_mbps > 0.0 {
        arithmetic += &format!(" + {more_mbps} MB/s x ${per_mbps}");
    }
    arithmetic.push(')');
    let dollars = n * (gb * storage + more_iops * per_iops + more_mbps * per_mbps);
    line(Item::Volumes, arithmetic, dollars)
}

/// What of so many IOPS is paid at which price.
fn io2(iops: f64, prices: &Prices) -> Vec<(f64, &Price)> {
    let bands = [
        (0.0, 32_000.0, &prices.io2_iops_month),
        (32_000.0, 64_000.0, &prices.io2_iops_month_above32k),
        (64_000.0, f64::INFINITY, &prices.io2_iops_month_above64k),
    ];
    let mut paid = Vec::new();
    for (from, to, price) in bands {
        let within = iops.min(to) - from;
        if within > 0.0 {
            paid.push((within, price));
        }
    }
    paid
}

fn object_store(load: &Load, prices: &Prices) -> Line {
    let keep = f64::from(load.keep);
    let seconds = HOURS * 3_600.0;
    let changed = load.state_gb * load.churn;
    // The first is whole, each further one adds what has changed since.
    let checkpoints = load.state_gb + (keep - 1.0) * changed;
    let log = load.bytes_a_second() * load.checkpoint_seconds * keep / GB;
    let shipments = seconds / load.log_seconds;
    let per_shipment = (load.bytes_a_second() * load.log_seconds / PACK).ceil();
    let per_checkpoint = (changed * GB / PACK).ceil();
    let puts = shipments * per_shipment + seconds / load.checkpoint_seconds * per_checkpoint;
    let (storage, thousand) = (prices.s3_gb_month.dollars, prices.s3_thousand_puts.dollars);
    let arithmetic = format!(
        "({checkpoints:.0} GB of checkpoints + {log:.0} GB of log) x ${storage} + {puts:.0} PUTs x ${thousand} / 1000"
    );
    let dollars = (checkpoints + log) * storage + puts * thousand / 1_000.0;
    line(Item::ObjectStore, arithmetic, dollars)
}

/// What is changed to see what matters.
#[must_use]
pub fn changes(load: &Load) -> Vec<(&'static str, Load)> {
    let with = |change: fn(&mut Load)| {
        let mut load = load.clone();
        change(&mut load);
        load
    };
    vec![
        ("twice the state", with(|load| load.state_gb *= 2.0)),
        ("half the state", with(|load| load.state_gb /= 2.0)),
        ("twice the writes", with(|load| load.ops *= 2.0)),
        ("four times the bytes of a write", with(|load| load.op_bytes *= 4.0)),
        ("five replicas", with(|load| load.replicas = 5)),
        ("24 checkpoints kept (vr-replica's default)", with(|load| load.keep = 24)),
        ("a tenth of the state changes between checkpoints", with(|load| load.churn = 0.1)),
        ("state in 70 % of memory (advised)", with(|load| load.memory_factor = 1.0 / 0.7)),
    ]
}

/// What a reader should hold against the sums.
#[must_use]
pub fn remarks(load: &Load, prices: &Prices) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Ok((name, machine)) = cheapest(prices, load.memory_gib(), 0.0) {
        let per_gib = machine.hour.dollars / machine.memory_gib;
        remarks.push(format!(
            "memory costs ${per_gib:.5} for each GiB and hour on {name}; {:.0} of its {} GiB are the state",
            load.memory_gib(),
            machine.memory_gib
        ));
        let advised = load.state_gb * GB / GIB / 0.7;
        if advised > machine.memory_gib {
            remarks.push(format!(
                "that is tight: with the advised 30 % for the log and for pages that checkpoints hold, {advised:.0} GiB are needed"
            ));
        }
    }
    let megabytes = load.bytes_a_second() * load.log_seconds / 1e6;
    remarks.push(format!(
        "VR acknowledges from memory: what is lost with all memory and disks is what S3 lacks, up to {} s or {megabytes:.1} MB of \
         writes; the Raft designs sync each write and lose none of it",
        load.log_seconds
    ));
    remarks.push(
        "left out: traffic of clients between zones, overhead of messages, compression, discounts, taxes"
            .to_owned(),
    );
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(design: Design, load: &Load) -> f64 {
        bill(design, load, &Prices::default()).expect("it can be had").dollars
    }

    /// The article's example: the sums that the design was decided by, within two dollars.
    #[test]
    fn the_example_of_the_article() {
        let expected = [
            (Design::VrNvme, 2_638.0),
            (Design::Vr, 2_200.0),
            (Design::RaftIo2 { iops: 5_000.0 }, 3_133.0),
            (Design::RaftIo2 { iops: 16_000.0 }, 5_278.0),
            (Design::RaftIo2 { iops: 32_000.0 }, 8_398.0),
            (Design::RaftGp3, 2_191.0),
            (Design::RaftOnDisk, 783.0),
        ];
        assert_eq!(expected.map(|(design, _)| design).to_vec(), designs(&Load::default()));
        for (design, sum) in expected {
            let found = dollars(design, &Load::default());
            assert!((found - sum).abs() <= 2.0, "{}: {found}, not {sum}", design.name());
        }
    }

    #[test]
    fn the_example_runs_on_the_machines_of_the_article() {
        let on = |design| bill(design, &Load::default(), &Prices::default()).expect("it can be had").instance;
        assert_eq!(on(Design::VrNvme), "r7gd.4xlarge");
        assert_eq!(on(Design::Vr), "r7g.4xlarge");
        assert_eq!(on(Design::RaftGp3), "r7g.4xlarge");
        assert_eq!(on(Design::RaftOnDisk), "r7g.xlarge");
    }

    #[test]
    fn the_premium_of_nvme_and_the_price_of_speed() {
        let bill = |design| bill(design, &Load::default(), &Prices::default()).expect("it can be had");
        assert!((bill(Design::VrNvme).of(Item::NvmePremium) - 508.0).abs() < 1.0);
        let faster = bill(Design::Vr).of(Item::Volumes) - 3.0 * 200.0 * 0.08;
        assert!((faster - 45.0).abs() < 1e-9, "{faster}");
    }

    #[test]
    fn a_bill_is_the_sum_of_its_lines() {
        for design in designs(&Load::default()) {
            let bill = bill(design, &Load::default(), &Prices::default()).expect("it can be had");
            let sum: f64 = bill.lines.iter().map(|line| line.dollars).sum();
            assert!((sum - bill.dollars).abs() < 1e-9);
        }
    }

    #[test]
    fn io2_gets_cheaper_in_bands() {
        let prices = Prices::default();
        let bands = |iops| io2(iops, &prices).into_iter().map(|(of, _)| of).collect::<Vec<_>>();
        assert_eq!(bands(32_000.0), [32_000.0]);
        assert_eq!(bands(100_000.0), [32_000.0, 32_000.0, 36_000.0]);
    }

    #[test]
    fn a_log_has_as_many_iops_as_there_are_writes() {
        let busy = Load { ops: 20_000.0, ..Load::default() };
        let iops: Vec<_> = designs(&busy)
            .into_iter()
            .filter_map(|design| if let Design::RaftIo2 { iops } = design { Some(iops) } else { None })
            .collect();
        assert_eq!(iops, [20_000.0, 32_000.0]);
    }

    #[test]
    fn object_store_by_hand() {
        let load = Load {
            state_gb: 16.0 * 1_048_576.0 * 10.0 / 1e9,
            ops: 0.0,
            keep: 3,
            churn: 0.5,
            checkpoint_seconds: 3_600.0,
            ..Load::default()
        };
        // Ten packs; a checkpoint ships five of them, 730 times; no log; three checkpoints kept.
        let by_hand = 0.16777216 * 2.0 * 0.023 + 730.0 * 5.0 * 0.005 / 1_000.0;
        assert!((object_store(&load, &Prices::default()).dollars - by_hand).abs() < 1e-9);
    }

    #[test]
    fn more_of_anything_costs_more() {
        let normal = Load::default();
        for (what, load) in changes(&normal) {
            let (before, after) = (dollars(Design::Vr, &normal), dollars(Design::Vr, &load));
            let less = what.starts_with("half") || what.starts_with("a tenth");
            assert_eq!(after < before, less, "{what}: {before} {after}");
        }
    }

    #[test]
    fn what_there_cannot_be_is_refused() {
        type Change = fn(&mut Load);
        let cases: [(Change, &str); 9] = [
            (|load| load.replicas = 4, "--replicas: 4"),
            (|load| load.replicas = 11, "--replicas: 11"),
            (|load| load.keep = 0, "--keep"),
            (|load| load.state_gb = 0.0, "--state"),
            (|load| load.state_gb = f64::NAN, "--state"),
            (|load| load.ops = -1.0, "--ops"),
            (|load| load.memory_factor = 0.5, "--memory-factor"),
            (|load| load.churn = 1.5, "--churn: 1.5 is more"),
            (|load| load.state_gb = 100_000.0, "no machine among the prices has"),
        ];
        for (change, expected) in cases {
            let mut load = Load::default();
            change(&mut load);
            let error = bill(Design::Vr, &load, &Prices::default()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
