//! `vr cost`: what a cluster costs on AWS in a month, beside what the same data costs in other designs.
//!
//! Every sum is printed with its arithmetic and every price with its date and source, so that a reader can disagree with a
//! number and not only with the result. Nothing is fetched.

pub mod model;
pub mod prices;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::output::{self, Form};
use crate::units;
use model::{Bill, Item, Load};
use prices::Prices;

/// What a cluster costs on AWS in a month, beside other designs that hold the same data
///
/// The defaults are the example of docs/sizing.md. Prices are on demand, carried with their dates; --prices puts yours
/// in their place.
#[derive(Debug, clap::Args)]
pub struct Cost {
    /// The state, in GB
    #[arg(long, value_name = "GB", default_value_t = 100.0)]
    state: f64,
    /// Memory for each byte of state
    #[arg(long, value_name = "FACTOR", default_value_t = 1.29)]
    memory_factor: f64,
    /// Writes each second
    #[arg(long, value_name = "N", default_value_t = 5000.0)]
    ops: f64,
    /// Bytes of a write
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "256")]
    op_bytes: usize,
    /// Replicas, each in a zone of its own
    #[arg(long, value_name = "N", default_value_t = 3)]
    replicas: u32,
    /// Between two checkpoints to S3
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration, default_value = "24h")]
    checkpoint_interval: std::time::Duration,
    /// Share of the state that changes between two of them, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    churn: f64,
    /// Checkpoints kept in S3, with the log since the oldest
    #[arg(long, value_name = "N", default_value_t = 4)]
    keep: u32,
    /// Between two shipments of the log to S3
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration, default_value = "10s")]
    log_interval: std::time::Duration,
    /// A YAML file with prices of your own: date, source, and any of the names under PRICE; machines under instances
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// How it is printed; wide has the arithmetic of every design
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

/// All that is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    load: Load,
    designs: Vec<Bill>,
    sensitivity: Vec<Changed>,
    remarks: Vec<String>,
    prices: Prices,
}

/// What the designs cost when one thing is different.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    what: &'static str,
    /// In the order of the designs; nothing where no machine is large enough.
    dollars: Vec<Option<f64>>,
}

impl Cost {
    /// Computes and prints.
    ///
    /// # Errors
    /// When a flag or the file of prices is wrong, or no machine is large enough.
    pub fn run(self) -> anyhow::Result<()> {
        let prices = self.prices.as_deref().map_or_else(|| Ok(Prices::default()), Prices::with_file)?;
        let page = Page::of(self.load(), prices)?;
        self.output.print(&page, |wide| page.show(wide))
    }

    fn load(&self) -> Load {
        Load {
            replicas: self.replicas,
            state_gb: self.state,
            memory_factor: self.memory_factor,
            ops: self.ops,
            op_bytes: self.op_bytes as f64,
            churn: self.churn,
            checkpoint_seconds: self.checkpoint_interval.as_secs_f64(),
            log_seconds: self.log_interval.as_secs_f64(),
            keep: self.keep,
        }
    }
}

impl Page {
    fn of(load: Load, prices: Prices) -> anyhow::Result<Self> {
        load.check()?;
        let designs = model::designs(&load);
        let bills: Vec<Bill> =
            designs.iter().map(|design| model::bill(*design, &load, &prices)).collect::<Result<_, _>>()?;
        let sensitivity = model::changes(&load)
            .into_iter()
            .map(|(what, load)| {
                let dollars = |design: &model::Design| {
                    model::bill(*design, &load, &prices).ok().map(|bill| bill.dollars)
                };
                Changed { what, dollars: designs.iter().map(dollars).collect() }
            })
            .collect();
        let remarks = model::remarks(&load, &prices);
        Ok(Self { load, designs: bills, sensitivity, remarks, prices })
    }

    fn show(&self, wide: bool) -> String {
        let Load { replicas, state_gb, ops, op_bytes, .. } = &self.load;
        let mut page = format!(
            " {}: {replicas} replicas, each in its zone, {state_gb} GB of state, {ops} writes of {op_bytes} B a second; \
             dollars a month\n\n",
            self.prices.region
        );
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{}\n", output::trimmed(&self.sums()));
        for (at, bill) in self.designs.iter().enumerate().take(if wide { usize::MAX } else { 2 }) {
            let _ = writeln!(page, " {}: {}", letter(at), bill.design.name());
            for line in &bill.lines {
                let _ =
                    writeln!(page, "   {:<13} {:>8.0} = {}", name(line.item), line.dollars, line.arithmetic);
            }
        }
        if !wide {
            let _ = writeln!(page, " (the arithmetic of the others: -o wide)");
        }
        let _ = writeln!(page, "\n{}\n", output::trimmed(&self.changes()));
        for remark in &self.remarks {
            let _ = writeln!(page, " - {remark}");
        }
        let _ = write!(page, "\n{}", output::trimmed(&self.price_list()));
        page
    }

    fn sums(&self) -> comfy_table::Table {
        let mut table = output::table([
            "", "DESIGN", "MACHINE", "MACHINES", "NVME", "VOLUMES", "S3", "ZONES", "FIXED", "TOTAL",
        ]);
        for (at, bill) in self.designs.iter().enumerate() {
            let items = [
                Item::Instances,
                Item::NvmePremium,
                Item::Volumes,
                Item::ObjectStore,
                Item::CrossZone,
                Item::Fixed,
            ];
            let sums = items.map(|item| match bill.of(item) {
                0.0 => "-".to_owned(),
                some => format!("{some:.0}"),
            });
            let first = [letter(at).to_string(), bill.design.name(), bill.instance.clone()];
            table.add_row(first.into_iter().chain(sums).chain([format!("{:.0}", bill.dollars)]));
        }
        table
    }

    fn changes(&self) -> comfy_table::Table {
        let mut table = output::table([""; 0]);
        let head = ["IF IT WERE".to_owned()].into_iter();
        table.set_header(head.chain((0..self.designs.len()).map(|at| letter(at).to_string())));
        for Changed { what, dollars } in &self.sensitivity {
            let cells = dollars.iter().map(|d| d.map_or_else(|| "-".to_owned(), |d| format!("{d:.0}")));
            table.add_row([(*what).to_owned()].into_iter().chain(cells));
        }
        table
    }

    fn price_list(&self) -> comfy_table::Table {
        let mut table = output::table(["PRICE", "DOLLARS", "FOR A", "AS OF", "SOURCE"]);
        let used = |name: &str| self.designs.iter().any(|bill| bill.instance == name);
        let machines = self.prices.instances.iter().filter(|(name, _)| used(name));
        let machines = machines.map(|(name, of)| (name.as_str(), &of.hour));
        for (name, price) in machines.chain(self.prices.named()) {
            let dollars = price.dollars.to_string();
            table.add_row([name, &dollars, price.per, &price.date, &price.source]);
        }
        table
    }
}

/// By which a design is told in the tables.
fn letter(at: usize) -> char {
    char::from(b'A' + u8::try_from(at).unwrap_or_default())
}

fn name(item: Item) -> &'static str {
    match item {
        Item::Instances => "machines",
        Item::NvmePremium => "NVMe premium",
        Item::Volumes => "volumes",
        Item::ObjectStore => "S3",
        Item::CrossZone => "between zones",
        Item::Fixed => "fixed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        cost: Cost,
    }

    fn typed(flags: &[&str]) -> Result<Cost, clap::Error> {
        Typed::try_parse_from([&["cost"], flags].concat()).map(|typed| typed.cost)
    }

    #[test]
    fn the_defaults_are_the_example() {
        assert_eq!(typed(&[]).expect("nothing is needed").load(), Load::default());
    }

    #[test]
    fn the_page_shows_sums_arithmetic_changes_and_prices() {
        let page = Page::of(Load::default(), Prices::default()).expect("the example").show(true);
        for expected in [
            "VR, NVMe and gp3, S3",
            "3 x 730 h x $0.8568",
            "16000 IOPS x $0.065",
            "24 checkpoints kept",
            "r7gd.4xlarge",
            "https://aws.amazon.com/s3/pricing/",
            "2026-11-30",
            "$0.00669 for each GiB and hour",
        ] {
            assert!(page.contains(expected), "{expected} in\n{page}");
        }
    }

    #[test]
    fn a_flag_without_sense_is_refused_by_its_name() {
        for flags in [
            ["--state", "many"],
            ["--op-bytes", "1.5"],
            ["--checkpoint-interval", "24"],
            ["--log-interval", "0s"],
            ["--output", "html"],
        ] {
            let error = typed(&flags).expect_err("no such value").to_string();
            assert!(error.contains(flags[0]) || error.contains("--output"), "{error}");
        }
        let even = typed(&["--replicas", "2"]).expect("a number").load();
        let error = Page::of(even, Prices::default()).expect_err("even").to_string();
        assert!(error.contains("--replicas: 2 is not an odd number"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Prices::with_file("no-such-prices.yaml".as_ref()).expect_err("not there");
        assert!(error.to_string().contains("no-such-prices.yaml"), "{error}");
    }
}
