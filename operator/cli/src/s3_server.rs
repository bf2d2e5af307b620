//! `vr s3-server`: the embedded S3 server as a process of its own, as `vr dev` and `vr drill` start it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use vr_checkpoint::s3_server::{Faults, Options, Server};

use crate::dev::signals::Signals;

/// Serves a directory as S3, with honest conditional writes; for development and tests, not for data that matters
#[derive(Debug, Args)]
pub struct S3Server {
    /// Where objects are kept; made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,

    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// A bucket that is to exist; may be given several times
    #[arg(long = "bucket", value_name = "NAME", default_value = "vr-dev")]
    buckets: Vec<String>,

    /// The only access key
    #[arg(long, env = "AWS_ACCESS_KEY_ID", default_value = ACCESS_KEY)]
    access_key: String,

    /// Its secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", default_value = SECRET_KEY, hide_env_values = true)]
    secret_key: String,
}

/// Access key of embedded servers.
pub const ACCESS_KEY: &str = "vr";
/// Its secret: it guards nothing, the server listens on the loopback interface.
pub const SECRET_KEY: &str = "only-on-this-machine";

impl S3Server {
    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// When the directory or the address cannot be used.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let options = Options {
                access_key: self.access_key,
                secret_key: self.secret_key,
                buckets: self.buckets,
                faults: Faults::default(),
            };
            let server = Server::start(&self.dir, self.listen, options).await?;
            crate::output::text(format_args!("serving {} at {}", self.dir.display(), server.endpoint()))?;
            signals.wait().await;
            server.stop().await;
            Ok(())
        })
    }
}
