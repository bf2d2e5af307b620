//! `vr dev join`: more replicas for a cluster that `vr dev` is running.
//!
//! The members agree on a learner, its ports go into the cluster's description, and the `vr dev` that runs it starts
//! the process. Here is only waited for, and promoted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use vr_proto::control as pb;

use super::certificates::Certificates;
use super::layout::{Description, Layout, Ports};
use super::ports;
use crate::cluster::edit::Editor;
use crate::control::{Authority, Where};
use crate::output;
use crate::trust::Trust;
use crate::units;

/// For one answer of a replica.
const ANSWER: Duration = Duration::from_secs(10);

/// Adds a replica to the cluster that `vr dev` runs in --dir
///
/// It gets an id that was never given, joins as a learner, catches up and then votes. With --replaces it takes the
/// place of a voter, which leaves for good: what to do about a replica that has lost its disks.
#[derive(Debug, Args)]
pub struct Join {
    /// The directory of the cluster, as `vr dev` prints it
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,

    /// Leave it a learner, for `vr member promote`
    #[arg(long, conflicts_with = "replaces")]
    learner: bool,

    /// Take the place of this voter
    #[arg(long, value_name = "ID")]
    replaces: Option<u64>,

    /// How long catching up may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    wait: Duration,
}

impl Join {
    /// Adds it and waits until it takes part.
    ///
    /// # Errors
    /// When no cluster runs there, or the members refuse.
    pub async fn run(self) -> anyhow::Result<()> {
        let root = self.dir.canonicalize().with_context(|| format!("cannot find {}", self.dir.display()))?;
        let Some(description) = Layout::look(&root)? else {
            bail!("{} holds no cluster: start one with vr dev --dir {0}", self.dir.display());
        };
        let editor = Editor::new(&place(&root, &description), &Authority::default())?;
        let fresh = ports::free(4, None)?;
        let (client, peer, admin, control) = (fresh[0], fresh[1], fresh[2], fresh[3]);
        // The failure domain depends on the id, which is free for as long as nobody else is faster.
        let id = editor.in_force().await.context("is `vr dev` running there?")?.highest_id + 1;
        let ports = Ports { id, client, peer, admin, control, joined: true };
        let member = pb::Member {
            id,
            domain: ports.domain(),
            peer: format!("127.0.0.1:{peer}"),
            client: description.client_endpoint(&ports).to_string(),
        };
        editor.add(&member).await?;
        Layout::change(&root, |description| description.replicas.push(ports))?;
        eprintln!("replica {id} is a learner now; `vr dev` starts it");
        if !self.learner {
            let agreed = editor.promote(id, self.replaces, self.wait, |text| eprintln!("{text}")).await?;
            let voters = agreed.order.iter().map(|m| m.id.to_string()).collect::<Vec<_>>().join(", ");
            eprintln!("replica {id} votes now; the voters are {voters}");
            if let Some(replaced) = self.replaces {
                // If it is dead, nobody else would ever take it out; if it lives, it ends by itself.
                Layout::change(&root, |description| description.replicas.retain(|r| r.id != replaced))?;
            }
        }
        output::text(format!("{id}\t{}\t{}", member.client, description.control_endpoint(&ports)))
    }
}

/// The control ports of all its replicas.
fn place(root: &Path, description: &Description) -> Where {
    let endpoints = description.replicas.iter().map(|ports| description.control_endpoint(ports)).collect();
    let trust = match description.tls {
        true => Trust::of(Certificates::below(root).files("control")),
        false => Trust::default(),
    };
    Where { endpoints, timeout: ANSWER, trust }
}
