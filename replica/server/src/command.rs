//! The command line of `vr-replica`, also offered by `vr` as `vr replica`.

use crate::{boot, config, serve};
use clap::{ArgMatches, Command};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Exit status of a replica whose generation is over.
pub const FENCED: u8 = 3;

/// Exit status of a replica that is no member any more.
pub const RETIRED: u8 = 4;

/// The command `serve` with all its flags.
#[must_use]
pub fn command() -> Command {
    let serve = Command::new("serve")
        .about("Run one replica until SIGTERM")
        .long_about(
            "Run one replica until SIGTERM.\n\nEvery field of the configuration file is also a flag and an \
             environment variable; flags win over the environment, the environment over the file. S3 credentials come \
             from the AWS SDK's default chain. Exit status: 0 stopped, 1 failed, 2 wrong usage, 3 fenced by a newer \
             generation, 4 retired: no member any more.",
        )
        .after_help("Log level by VR_LOG, for example VR_LOG=debug or VR_LOG=vr_replica=trace.");
    Command::new("vr-replica")
        .about("One replica of a Viewstamped Replication cluster that speaks etcd v3")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(config::arguments(serve))
}

/// Runs what [`command`] has parsed.
#[must_use]
pub fn run(matches: &ArgMatches) -> ExitCode {
    let Some(("serve", matches)) = matches.subcommand() else { unreachable!("a subcommand is required") };
    let config = match config::load(matches) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("vr-replica: {error}");
            return ExitCode::from(2);
        }
    };
    log_to_stderr(config.log_format);
    let replica = config.id;
    let span = tracing::info_span!("replica", id = replica.0).entered();
    let end = serve::run(config);
    drop(span);
    match end {
        Ok(serve::End::Clean | serve::End::WithoutMemory) => ExitCode::SUCCESS,
        Ok(serve::End::Fenced) => ExitCode::from(FENCED),
        Ok(serve::End::Retired) => ExitCode::from(RETIRED),
        Err(error) => {
            eprintln!("vr-replica: replica {replica}: {error:#}");
            if error.is::<boot::Superseded>() { ExitCode::from(FENCED) } else { ExitCode::FAILURE }
        }
    }
}

fn log_to_stderr(format: config::LogFormat) {
    let filter = EnvFilter::try_from_env("VR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A second call in one process (tests) keeps the first.
    let _ = match format {
        config::LogFormat::Plain => log.try_init(),
        config::LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}
