//! `vr order` and `vr promote`: who leads, now and after a failure.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use vr_proto::control as pb;
use vr_replica::ReplicaId;
use vr_replica::placement::{Candidate, RoundTrips, arrange, nearest_quorum};

use super::edit::{Editor, InForce};
use super::member::print;
use crate::control::{Authority, Where};
use crate::output::{self, Form};

/// Puts the voters into a good order: whoever commits fastest leads, and the next candidate is in another domain
///
/// The order says who leads each view. It is computed here, from the members' domains and the round trips that the
/// replicas have measured, and then agreed on by all of them; a new first one leads at once. Round trips that differ by
/// less than half a millisecond are no reason to change anything.
#[derive(Debug, Args)]
pub struct Order {
    /// Only show what the order would be, and why
    #[arg(long)]
    dry_run: bool,

    /// Let replicas of these failure domains lead, the first one rather than the second
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    prefer: Vec<String>,

    /// Exactly this order, instead of one that is computed
    #[arg(long, value_name = "ID,…", value_delimiter = ',', conflicts_with = "prefer")]
    exactly: Vec<u64>,

    #[command(flatten)]
    place: Where,

    #[command(flatten)]
    authority: Authority,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// What `--dry-run` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    changes: bool,
    now: Vec<u64>,
    order: Vec<Place>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    id: u64,
    domain: String,
    /// To the farthest member of its nearest quorum: what a commit costs there.
    quorum_micros: Option<u64>,
}

impl Order {
    /// Computes the order, and has it agreed on unless it is the one in force.
    ///
    /// # Errors
    /// When no replica answers, or the change is refused.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.carry_out())
    }

    async fn carry_out(&self) -> anyhow::Result<()> {
        let editor = Editor::new(&self.place, &self.authority)?;
        let answer = editor.control().status().await?;
        let trips = round_trips(&answer);
        let now = editor.in_force().await?;
        let order = self.wanted(&now, &trips)?;
        if self.dry_run {
            let plan = plan(&now, &order, &trips);
            return self.output.print(&plan, |_| show(&plan));
        }
        let agreed = editor
            .edit(|next, now| {
                let order = self.wanted(now, &trips)?;
                let place = |m: &pb::Member| order.iter().position(|id| *id == m.id);
                next.order.sort_by_key(place);
                Ok(())
            })
            .await?;
        print(&agreed, None, self.output)
    }

    fn wanted(&self, now: &InForce, trips: &RoundTrips) -> anyhow::Result<Vec<u64>> {
        let voters = &now.configuration.order;
        if self.exactly.is_empty() {
            let prefer: Vec<&str> = self.prefer.iter().map(String::as_str).collect();
            return Ok(arrange(&candidates(voters), &prefer, trips).into_iter().map(|id| id.0).collect());
        }
        let (mut wanted, mut there) = (self.exactly.clone(), voters.iter().map(|m| m.id).collect::<Vec<_>>());
        wanted.sort_unstable();
        there.sort_unstable();
        if wanted != there {
            let ids = there.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            bail!("--exactly must name every voter once, and nobody else: they are {ids}");
        }
        Ok(self.exactly.clone())
    }
}

fn candidates(voters: &[pb::Member]) -> Vec<Candidate<'_>> {
    voters.iter().map(|m| Candidate { id: ReplicaId(m.id), domain: &m.domain }).collect()
}

/// What the replicas have measured among themselves.
fn round_trips(answer: &pb::StatusResponse) -> RoundTrips {
    let mut trips: RoundTrips = BTreeMap::new();
    for status in answer.asked.iter().chain(&answer.others) {
        for peer in &status.peers {
            if let Some(micros) = peer.round_trip_micros {
                trips.insert((ReplicaId(status.replica), ReplicaId(peer.id)), micros);
            }
        }
    }
    trips
}

fn plan(now: &InForce, order: &[u64], trips: &RoundTrips) -> Plan {
    let voters = &now.configuration.order;
    let before: Vec<u64> = voters.iter().map(|m| m.id).collect();
    let place = |id: &u64| Place {
        id: *id,
        domain: voters.iter().find(|m| m.id == *id).map_or_else(String::new, |m| m.domain.clone()),
        quorum_micros: Some(nearest_quorum(ReplicaId(*id), &candidates(voters), trips))
            .filter(|_| !trips.is_empty()),
    };
    Plan { changes: before != order, now: before, order: order.iter().map(place).collect() }
}

fn show(plan: &Plan) -> String {
    let mut table = output::table(["PLACE", "REPLICA", "DOMAIN", "NEAREST QUORUM", "PLACE NOW"]);
    for (place, member) in plan.order.iter().enumerate() {
        let quorum = member.quorum_micros.map_or_else(|| "not measured".to_owned(), |us| format!("{us}us"));
        let now = plan.now.iter().position(|id| *id == member.id);
        table.add_row([
            place.to_string(),
            member.id.to_string(),
            if member.domain.is_empty() { "-".to_owned() } else { member.domain.clone() },
            quorum,
            now.map_or_else(|| "-".to_owned(), |now| now.to_string()),
        ]);
    }
    let verdict = match plan.changes {
        true => "The order would change; nothing was changed (--dry-run).",
        false => "The order would stay as it is.",
    };
    format!("{}\n\n{verdict}", output::trimmed(&table))
}

/// Moves the primary: lets this replica lead from now on
///
/// The primary hands off in order: what it has begun is finished, and clients only notice a short pause. To say who
/// leads after the next failure, change the order (`vr order`).
#[derive(Debug, Args)]
pub struct Promote {
    /// The replica that is to lead; a voter
    id: u64,

    #[command(flatten)]
    place: Where,

    #[command(flatten)]
    authority: Authority,
}

impl Promote {
    /// Carries it out.
    ///
    /// # Errors
    /// When no replica answers, or the move is refused.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let moved = async {
            let editor = Editor::new(&self.place, &self.authority)?;
            anyhow::Ok(editor.hand_off(self.id).await?)
        };
        let done = runtime.block_on(moved)?;
        let ballot = done.ballot.unwrap_or_default();
        output::text(format!("replica {} leads view {} of epoch {}", done.primary, ballot.view, ballot.epoch))
    }
}
