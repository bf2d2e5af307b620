//! `vr member`: who is a member, and changing that, one agreed step at a time.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use vr_proto::control as pb;

use super::edit::{Editor, members};
use super::page::hex;
use crate::control::{Authority, Where};
use crate::output::{self, Form};
use crate::trust::TrustError;
use crate::units;

/// Shows and changes who is a member
///
/// A new replica is added as a learner: it is sent everything and counts nowhere. Once it is in sync it can be promoted
/// to a voter. An id is never given twice; a replica that lost its disks comes back under a new one.
#[derive(Debug, Args)]
pub struct Member {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows the members, most preferred primary first
    List(List),
    /// Adds a replica as a learner; start it with `vr-replica serve --initial join` and the id that this prints
    Add(Add),
    /// Removes a replica for good; it ends by itself (exit status 4) when the others no longer need it
    Remove(Remove),
    /// Makes a voter of a learner, as soon as it is in sync
    Promote(Promote),
    /// Puts a learner, as soon as it is in sync, in the place of a voter, which leaves for good: in one step
    Replace(Replace),
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    place: Where,

    #[command(flatten)]
    authority: Authority,

    /// How to print the members that come of it
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    place: Where,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Debug, Args)]
struct Add {
    /// Where the other replicas reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,

    /// What clients are told as its address
    #[arg(long, value_name = "URL", default_value = "")]
    client: String,

    /// Its failure domain, a zone for example
    #[arg(long, value_name = "NAME", default_value = "")]
    domain: String,

    /// Its replica id [default: the next one that was never given]
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    id: u64,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Remove {
    /// Its replica id
    id: u64,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Promote {
    /// Its replica id
    id: u64,

    /// How long to wait until it is in sync
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    wait: Duration,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Replace {
    /// The voter that leaves
    id: u64,

    /// The learner that takes its place
    #[arg(long = "by", value_name = "ID")]
    by: u64,

    /// How long to wait until the learner is in sync
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    wait: Duration,

    #[command(flatten)]
    common: Common,
}

/// A configuration as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    epoch: u64,
    id: String,
    span_domains: bool,
    read_lease_micros: u64,
    members: Vec<ShownMember>,
    /// The id that was just given to a new replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownMember {
    id: u64,
    role: &'static str,
    domain: String,
    peer: String,
    client: String,
}

impl Member {
    /// Carries it out and prints the members that come of it.
    ///
    /// # Errors
    /// When no replica answers, or the change is refused.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.carry_out())
    }

    async fn carry_out(self) -> anyhow::Result<()> {
        let told = |text: &str| eprintln!("{text}");
        match self.action {
            Action::List(List { place, output }) => {
                let editor = Editor::new(&place, &Authority::default())?;
                print(&editor.in_force().await?.configuration, None, output)
            }
            Action::Add(Add { peer, client, domain, id, common }) => {
                let editor = common.editor()?;
                let added = editor.add(&pb::Member { id, domain, peer, client }).await?;
                print(&editor.in_force().await?.configuration, Some(added.id), common.output)
            }
            Action::Remove(Remove { id, common }) => {
                print(&common.editor()?.remove(id).await?, None, common.output)
            }
            Action::Promote(Promote { id, wait, common }) => {
                print(&common.editor()?.promote(id, None, wait, told).await?, None, common.output)
            }
            Action::Replace(Replace { id, by, wait, common }) => {
                print(&common.editor()?.promote(by, Some(id), wait, told).await?, None, common.output)
            }
        }
    }
}

impl Common {
    fn editor(&self) -> Result<Editor, TrustError> {
        Editor::new(&self.place, &self.authority)
    }
}

pub(super) fn print(
    configuration: &pb::Configuration,
    added: Option<u64>,
    output: Form,
) -> anyhow::Result<()> {
    let votes = |id| configuration.order.iter().any(|m| m.id == id);
    let shown = Shown {
        epoch: configuration.epoch,
        id: hex(&configuration.id),
        span_domains: configuration.span_domains,
        read_lease_micros: configuration.read_lease_micros,
        members: members(configuration)
            .map(|m| ShownMember {
                id: m.id,
                role: if votes(m.id) { "voter" } else { "learner" },
                domain: m.domain.clone(),
                peer: m.peer.clone(),
                client: m.client.clone(),
            })
            .collect(),
        added,
    };
    output.print(&shown, |wide| show(&shown, wide))
}

fn show(shown: &Shown, wide: bool) -> String {
    let mut table = output::table(["REPLICA", "ROLE", "DOMAIN", "PEER", "CLIENT"]);
    for member in &shown.members {
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        table.add_row([
            member.id.to_string(),
            member.role.to_owned(),
            dash(&member.domain),
            dash(&member.peer),
            dash(&member.client),
        ]);
    }
    let id = if wide { format!(", configuration {}", shown.id) } else { String::new() };
    let added = match shown.added {
        Some(id) => format!(
            "\n\nStart the new replica with replica id {id}, `--initial join` and these members, and then run\n  vr \
             member promote {id}"
        ),
        None => String::new(),
    };
    format!("epoch {}{id}\n\n{}{added}", shown.epoch, output::trimmed(&table))
}
