//! Being asked to stop: Ctrl-C or SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Notices every request from its making on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on Ctrl-C and SIGTERM no longer end this process by themselves.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next request.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
