//! `vr`: the tool for people, as a library, so that tests and other tools reach the same engine.
//!
//! Data goes to stdout and everything else to stderr. Exit status 0: it worked; 1: it did not; 2: it could not be
//! tried (a flag that is wrong, a drill that could not be carried out).

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub mod bench;
pub mod checkpoint;
pub mod client;
pub mod cluster;
pub mod control;
pub mod cost;
pub mod dev;
pub mod drill;
pub mod endpoint;
pub mod http;
pub mod kubectl;
pub mod output;
pub mod recovery_point;
pub mod s3_server;
pub mod trust;
pub mod units;

/// Viewstamped Replication with tiered checkpoints behind the etcd v3 API
#[derive(Debug, Parser)]
#[command(
    name = "vr",
    version,
    propagate_version = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Bench),
    Dev(dev::Dev),
    Drill(drill::Drill),
    Checkpoint(checkpoint::Checkpoint),
    Cost(cost::Cost),
    Status(cluster::status::Status),
    View(cluster::view::View),
    Member(cluster::member::Member),
    Order(cluster::order::Order),
    Promote(cluster::order::Promote),
    Quorum(cluster::quorum::Quorum),
    #[command(name = "s3-server", hide = true)]
    S3Server(s3_server::S3Server),
}

/// The replica itself, for `vr dev` and `vr drill`; people run `vr-replica`.
const REPLICA: &str = "replica";

/// The command line, without what only the processes of `vr dev` are started by.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, carries it out, and says how that went.
#[must_use]
pub fn main() -> ExitCode {
    vr_replica::tls::install_provider();
    if let Err(error) = dev::process::watch_lifeline() {
        eprintln!("error: cannot watch the process that started this one: {error}");
        return ExitCode::FAILURE;
    }
    let command = Cli::command().subcommand(vr_replica::command::command().name(REPLICA).hide(true));
    let matches = command.get_matches();
    if let Some((REPLICA, matches)) = matches.subcommand() {
        return vr_replica::command::run(matches);
    }
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Bench(bench) => bench.run().map(|()| ExitCode::SUCCESS),
        Command::Dev(dev) => dev.run().map(|()| ExitCode::SUCCESS),
        Command::Drill(drill) => drill.run(),
        Command::Checkpoint(checkpoint) => checkpoint.run().map(|()| ExitCode::SUCCESS),
        Command::Cost(cost) => cost.run().map(|()| ExitCode::SUCCESS),
        Command::Status(status) => status.run().map(|()| ExitCode::SUCCESS),
        Command::View(view) => view.run().map(|()| ExitCode::SUCCESS),
        Command::Member(member) => member.run().map(|()| ExitCode::SUCCESS),
        Command::Order(order) => order.run().map(|()| ExitCode::SUCCESS),
        Command::Quorum(quorum) => quorum.run().map(|()| ExitCode::SUCCESS),
        Command::Promote(promote) => promote.run().map(|()| ExitCode::SUCCESS),
        Command::S3Server(server) => server.run().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", with_causes(&error));
        ExitCode::FAILURE
    })
}

/// An error and what caused it, in one line. A cause that the text before it already tells is left out.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("disk full").context("cannot write a: disk full").context("stopped");
        assert_eq!(with_causes(&error), "stopped: cannot write a: disk full");
    }
}
