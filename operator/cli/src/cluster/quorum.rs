//! `vr quorum`: what a commit needs, and what a read may rest on.

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::edit::Editor;
use super::member::print;
use crate::control::{Authority, Where};
use crate::output::Form;
use crate::units;

/// Says what a commit needs and what a read may rest on; without an option it shows the members as they are
///
/// Both are agreed on by all replicas, as one reconfiguration, and stay until they are changed again.
#[derive(Debug, Args)]
pub struct Quorum {
    /// Whether a commit needs replicas of two failure domains; if so, nothing is written while only one is left
    #[arg(long, value_name = "BOOL")]
    span_domains: Option<bool>,

    /// How long a primary answers linearizable reads by one confirmation, at most 10s; `off`: each read waits for one
    ///
    /// It saves a round trip among the replicas for most reads, if it is some times the heartbeat. In return whoever
    /// leads next commits nothing for as long, and reads are linearizable only as long as no replica's clock runs an
    /// eighth faster or slower than another's, or stands still, as that of a virtual machine which is suspended.
    #[arg(long, value_name = "TIME", value_parser = lease)]
    read_lease: Option<Duration>,

    #[command(flatten)]
    place: Where,

    #[command(flatten)]
    authority: Authority,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

fn lease(typed: &str) -> Result<Duration, String> {
    match typed {
        "off" => Ok(Duration::ZERO),
        time => units::duration(time),
    }
}

impl Quorum {
    /// Has it agreed on, unless it is so already.
    ///
    /// # Errors
    /// When no replica answers, or the change is refused.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.carry_out())
    }

    async fn carry_out(&self) -> anyhow::Result<()> {
        let lease = self.read_lease.map(|time| u64::try_from(time.as_micros())).transpose();
        let Ok(lease) = lease else { bail!("--read-lease is longer than any replica runs: at most 10s") };
        let editor = Editor::new(&self.place, &self.authority)?;
        let now = editor.in_force().await?.configuration;
        let same = self.span_domains.is_none_or(|span| span == now.span_domains)
            && lease.is_none_or(|lease| lease == now.read_lease_micros);
        if same {
            return print(&now, None, self.output);
        }
        let agreed = editor
            .edit(|next, _| {
                next.span_domains = self.span_domains.unwrap_or(next.span_domains);
                next.read_lease_micros = lease.unwrap_or(next.read_lease_micros);
                Ok(())
            })
            .await?;
        print(&agreed, None, self.output)
    }
}
