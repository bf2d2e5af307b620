//! `vr status`: the whole cluster on one screen.

use clap::Args;
use comfy_table::Table;

use super::page::{Page, Row};
use crate::control::{Control, Where};
use crate::output::{self, Form};

/// Shows how a cluster is: who takes part, who leads, who lags, and how old the recovery point is
///
/// One replica that answers is enough: it asks the others. The first line is the verdict; `-o wide` shows everything
/// there is, `-o json` and `-o yaml` the same for programs.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    place: Where,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

impl Status {
    /// Asks and prints.
    ///
    /// # Errors
    /// When no replica answers.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async { anyhow::Ok(Control::new(&self.place)?.status().await?) })?;
        let page = Page::new(&answer);
        self.output.print(&page, |wide| show(&page, wide))
    }
}

fn show(page: &Page, wide: bool) -> String {
    let primary = page.primary.map_or_else(|| "none".to_owned(), |id| format!("replica {id}"));
    let recovery = page.recovery.iter().map(|r| match r.lag_seconds {
        0.0 => format!("{} complete", r.tier),
        lag => format!("{} {lag:.1} s behind", r.tier),
    });
    let recovery = recovery.collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        format!("{:<15} {}", page.health.state, page.health.says),
        format!("{:<16}{primary} (epoch {}, view {})", "primary", page.epoch, page.view),
        format!("{:<16}{}", "recovery point", if recovery.is_empty() { "none" } else { &recovery }),
        format!("{:<16}{}, generation {}", "lineage", page.lineage, page.generation),
    ];
    if wide {
        let spans = if page.span_domains { "; commits span two domains" } else { "" };
        let lease = match page.read_lease_micros {
            0 => String::new(),
            micros => format!("; read leases of {} ms", micros / 1000),
        };
        lines.push(format!("{:<16}{}{spans}{lease}", "configuration", page.configuration_id));
        if page.fencing_token > 0 {
            lines.push(format!("{:<16}{}", "fencing token", page.fencing_token));
        }
    }
    lines.push(String::new());
    lines.push(output::trimmed(&if wide { wide_table(page) } else { table(page) }));
    for row in page.replicas.iter().filter(|row| !row.remark.is_empty()) {
        lines.push(format!("\nreplica {}: {}", row.id, row.remark));
    }
    for row in &page.replicas {
        for tier in &row.tiers {
            if let Some(error) = &tier.error {
                lines.push(format!("\nreplica {}, {}: {error}", row.id, tier.tier));
            }
        }
    }
    lines.join("\n")
}

fn table(page: &Page) -> Table {
    let mut table = output::table(["REPLICA", "ROLE", "STATUS", "READY", "COMMIT", "LAG", "HEARD", "CLIENT"]);
    for row in &page.replicas {
        table.add_row([
            row.id.to_string(),
            role(page, row),
            row.status.clone(),
            yes(row.ready),
            dash(row.commit),
            dash(row.lag),
            heard(row),
            row.client.clone(),
        ]);
    }
    table
}

fn wide_table(page: &Page) -> Table {
    let mut table = output::table([
        "REPLICA", "ROLE", "STATUS", "READY", "OP", "COMMIT", "LAG", "HEARD", "TRIP", "DOMAIN", "PEER",
        "CLIENT", "STATE", "TIERS", "STARTS", "PROCESS", "VERSION",
    ]);
    for row in &page.replicas {
        let tiers = row.tiers.iter().map(|t| format!("{} {}/{}", t.tier, t.checkpoint_op, t.recovery_op));
        table.add_row([
            row.id.to_string(),
            role(page, row),
            row.status.clone(),
            yes(row.ready),
            dash(row.op),
            dash(row.commit),
            dash(row.lag),
            heard(row),
            row.round_trip_micros.map_or_else(|| "-".to_owned(), |us| format!("{us}us")),
            if row.domain.is_empty() { "-".to_owned() } else { row.domain.clone() },
            row.peer.clone(),
            row.client.clone(),
            row.state_bytes.map_or_else(|| "-".to_owned(), crate::units::show_bytes),
            tiers.collect::<Vec<_>>().join(", "),
            row.incarnation.to_string(),
            dash(row.process),
            row.version.clone(),
        ]);
    }
    table
}

fn role(page: &Page, row: &Row) -> String {
    if page.primary == Some(row.id) { "primary".to_owned() } else { row.role.to_owned() }
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn heard(row: &Row) -> String {
    match row.heard_ms {
        None => "never".to_owned(),
        Some(ms @ ..10_000) => format!("{ms}ms ago"),
        Some(ms) => format!("{}s ago", ms / 1_000),
    }
}
