//! When a connection is over whose other side has gone without a word: its machine lost its power, or its network.
//!
//! Left alone, TCP notices that after two hours where nothing is sent and after a quarter of an hour where something is
//! (RFC 9293, 3.8.3 and 3.8.4): so long would a client's session, its watches and its backlog be kept, and so long would a
//! replica send to a peer that has long come back under the same address. It promises an end within the times below; how
//! soon a silent primary is replaced does not depend on it.

use rustix::io::Result;
use rustix::net::sockopt;
use std::os::fd::AsFd;
use std::time::Duration;

/// How much silence is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// With nothing to say, before the other side is asked, and between such questions.
    idle: Duration,
    every: Duration,
    /// Questions without an answer.
    asks: u32,
    /// With something to say, until the other side takes it.
    unheard: Duration,
}

/// For clients: a machine that sleeps for a minute keeps its connections, one that is gone is forgotten after 30 s.
pub(crate) const CLIENTS: Patience = Patience {
    idle: Duration::from_secs(15),
    every: Duration::from_secs(5),
    asks: 3,
    unheard: Duration::from_mins(2),
};

/// For peers, who always have something to say, and lose nothing by a new connection.
pub(crate) const PEERS: Patience = Patience {
    idle: Duration::from_secs(2),
    every: Duration::from_secs(1),
    asks: 2,
    unheard: Duration::from_secs(3),
};

impl Patience {
    /// Sets it for a connection, or for all that a listener will accept.
    ///
    /// # Errors
    /// It is no TCP socket, or the system does not know these options.
    pub(crate) fn set(self, socket: impl AsFd) -> Result<()> {
        let socket = socket.as_fd();
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, self.idle)?;
        sockopt::set_tcp_keepintvl(socket, self.every)?;
        sockopt::set_tcp_keepcnt(socket, self.asks)?;
        sockopt::set_tcp_user_timeout(socket, u32::try_from(self.unheard.as_millis()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_a_listener_accepts_has_its_patience() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        PEERS.set(&listener).expect("TCP");
        let dialled = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (accepted, _) = listener.accept().expect("dialled");
        assert_eq!(sockopt::socket_keepalive(&dialled), Ok(false), "nobody has set it");
        assert_eq!(sockopt::socket_keepalive(&accepted), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&accepted), Ok(PEERS.idle));
        assert_eq!(sockopt::tcp_keepintvl(&accepted), Ok(PEERS.every));
        assert_eq!(sockopt::tcp_keepcnt(&accepted), Ok(PEERS.asks));
        assert_eq!(sockopt::tcp_user_timeout(&accepted), Ok(3_000));
    }
}
