//! `vr view`: which replica leads a view, and why. With the order given, it needs no cluster: anybody can compute it.

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::page::ballot;
use crate::control::{Control, Where};
use crate::output::{self, Form};

/// Shows which replica leads a view, and who leads the views after it
///
/// With --members nothing is asked: the primary of view N is the member at place N mod n of the order, counted from 0.
/// Without, the order (and, without --view, the view) is that of a running cluster.
#[derive(Debug, Args)]
pub struct View {
    /// The order: replica ids, most preferred primary first [default: that of the cluster at --endpoints]
    #[arg(long, value_name = "ID,…", value_delimiter = ',', requires = "view")]
    members: Vec<u64>,

    /// The view [default: that of the cluster at --endpoints]
    #[arg(long, value_name = "N")]
    view: Option<u64>,

    #[command(flatten)]
    place: Where,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// What is printed: the view, and one full turn of the order from there.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Turn {
    order: Vec<u64>,
    views: Vec<Lead>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Lead {
    view: u64,
    primary: u64,
}

impl View {
    /// Computes and prints.
    ///
    /// # Errors
    /// When the order is none, or no replica answers.
    pub fn run(self) -> anyhow::Result<()> {
        let (order, view) = match self.view {
            Some(view) if !self.members.is_empty() => (self.members.clone(), view),
            given => {
                let (order, now) = self.ask()?;
                (order, given.unwrap_or(now))
            }
        };
        let turn = turn(order, view)?;
        self.output.print(&turn, |_| show(&turn))
    }

    fn ask(&self) -> anyhow::Result<(Vec<u64>, u64)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async { anyhow::Ok(Control::new(&self.place)?.status().await?) })?;
        let said = answer.asked.iter().chain(&answer.others);
        let Some(newest) = said.max_by_key(|status| ballot(status)) else {
            bail!("the replica that was asked says nothing of itself; is it of another version?");
        };
        let order = newest.configuration.iter().flat_map(|c| &c.order).map(|member| member.id).collect();
        Ok((order, ballot(newest).1))
    }
}

fn turn(order: Vec<u64>, view: u64) -> anyhow::Result<Turn> {
    for (place, id) in order.iter().enumerate() {
        if order[..place].contains(id) {
            bail!("replica {id} is in --members twice: every member stands in the order once");
        }
    }
    let Some(n) = u64::try_from(order.len()).ok().filter(|n| *n > 0) else {
        bail!("the order names no replica");
    };
    let views = (view..=view.saturating_add(n)).map(|view| Lead {
        view,
        primary: order[usize::try_from(view % n).expect("below the order's length")],
    });
    Ok(Turn { views: views.collect(), order })
}

fn show(turn: &Turn) -> String {
    let (n, first) = (turn.order.len(), &turn.views[0]);
    let order = turn.order.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut table = output::table(["VIEW", "PRIMARY"]);
    for lead in &turn.views {
        table.add_row([lead.view.to_string(), format!("replica {}", lead.primary)]);
    }
    format!(
        "view {} is led by replica {}: {} mod {n} is {}, and at that place of the order ({order}), counted from 0, \
         stands replica {}\n\n{}",
        first.view,
        first.primary,
        first.view,
        first.view % n as u64,
        first.primary,
        output::trimmed(&table)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_go_round_the_order() {
        let turn = turn(vec![7, 3, 5], 7).expect("an order");
        let leads: Vec<(u64, u64)> = turn.views.iter().map(|lead| (lead.view, lead.primary)).collect();
        assert_eq!(leads, [(7, 3), (8, 5), (9, 7), (10, 3)]);
        assert!(show(&turn).starts_with("view 7 is led by replica 3: 7 mod 3 is 1,"));
    }

    #[test]
    fn what_is_no_order_is_refused() {
        assert!(
            turn(vec![1, 2, 1], 0)
                .expect_err("twice")
                .to_string()
                .contains("replica 1 is in --members twice")
        );
        assert!(turn(Vec::new(), 0).is_err());
        assert_eq!(turn(vec![4], u64::MAX).expect("an order").views.len(), 1);
    }
}
