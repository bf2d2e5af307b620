//! `kubectl vr view`: which replica leads a view, by the order that the status has.

use anyhow::{anyhow, bail};
use clap::Args;

use super::{Place, Said};
use crate::output::{table, trimmed};

/// Shows which replica leads a view, and who leads the views after it
///
/// The primary of view N is the member at place N mod n of the order, counted from 0.
#[derive(Debug, Args)]
pub(super) struct View {
    /// The VRCluster
    name: String,

    /// The view [default: the one of now]
    #[arg(long, value_name = "N")]
    view: Option<u64>,
}

impl View {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        let status = place.cluster(&self.name).await?.status.unwrap_or_default();
        let voters: Vec<_> = status.replica_statuses.iter().filter(|r| r.voter).collect();
        if voters.is_empty() {
            bail!("the status of VRCluster {} names no members yet", self.name);
        }
        let now = status.view.and_then(|view| u64::try_from(view).ok());
        let from =
            self.view.or(now).ok_or_else(|| anyhow!("the status names no view now: give one with --view"))?;
        let mut rows = table(["VIEW", "PRIMARY", "POD", "ZONE"]);
        for view in from..from.saturating_add(u64::try_from(voters.len())?) {
            let place = usize::try_from(view % u64::try_from(voters.len())?)?;
            let leads = voters[place];
            let zone = leads.zone.clone().unwrap_or_default();
            rows.add_row([view.to_string(), leads.id.to_string(), leads.slot.clone(), zone]);
        }
        let order: Vec<_> = voters.iter().map(|r| r.id.to_string()).collect();
        Ok(format!("order {}\n\n{}", order.join(", "), trimmed(&rows)).into())
    }
}
