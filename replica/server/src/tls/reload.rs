//! A thread that looks at the certificate files every so often, and at once when it is woken (SIGHUP).

use super::port::{Look, Ports};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// For files that are being written.
const MOMENT: Duration = Duration::from_millis(500);

/// Wakes the thread; it ends when this is dropped.
pub struct Reloader {
    wake: SyncSender<()>,
}

impl Reloader {
    /// Starts looking.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(ports: Ports, interval: Duration) -> std::io::Result<Reloader> {
        let (wake, woken) = sync_channel(1);
        std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            while !matches!(woken.recv_timeout(interval), Err(RecvTimeoutError::Disconnected)) {
                look(&ports);
            }
        })?;
        Ok(Reloader { wake })
    }

    /// Look now.
    pub fn now(&self) {
        // Full: it is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

fn look(ports: &Ports) {
    for port in ports.iter() {
        let mut look = port.look();
        if let Look::Broken(_) = look {
            // Perhaps between the certificate and its key: whoever writes them one after the other gets a moment.
            std::thread::sleep(MOMENT);
            match port.look() {
                Look::Same => {}
                settled => look = settled,
            }
        }
        match look {
            Look::Same => {}
            Look::New => tracing::info!(
                port = port.section(),
                expires = port.expires(),
                "new certificates are in use for connections from now on"
            ),
            Look::Broken(error) => tracing::error!(
                port = port.section(),
                %error,
                "the new certificates cannot be used: the old ones stay in use"
            ),
        }
    }
}
