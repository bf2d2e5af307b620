//! Why a replica ends a connection that another one made to it.
//!
//! The text goes to the other side before the connection is closed, and into both logs: it says of both sides who is
//! what, so that it can be read on either.

use crate::tls::Names;
use vr_core::{Generation, Lineage, ReplicaId};

/// What came over the connection is nothing that this replica takes from a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It did not begin as replicas do.
    #[error(
        "not a peer, it began with `{began}`: only members connect here, clients have a port of their own"
    )]
    NoPeer {
        /// The first bytes, printable.
        began: String,
    },
    /// It speaks another version of the framing.
    #[error(
        "version {theirs} of the peers' protocol is spoken by the one that dials, and version {ours} by the one that is \
         dialled: run versions of vr-replica that know each other"
    )]
    Version {
        /// The dialling side's.
        theirs: u8,
        /// This side's.
        ours: u8,
    },
    /// It comes with or without TLS, and this replica without or with it; or its handshake failed.
    #[error("{0}")]
    Tls(String),
    /// Its certificate speaks for somebody else.
    #[error("a message of replica {from}, but the certificate of the connection names {names}")]
    Name {
        /// Whom the message claims to be from.
        from: ReplicaId,
        /// Whom the certificate allows.
        names: Names,
    },
    /// It belongs to another database.
    #[error(
        "replica {from} there belongs to lineage {theirs}, replica {id} here to lineage {ours}: one of them has the \
         wrong `lineage`, or the other's address among its members"
    )]
    Lineage {
        /// The sender.
        from: ReplicaId,
        /// Its lineage.
        theirs: Lineage,
        /// This replica.
        id: ReplicaId,
        /// This replica's lineage.
        ours: Lineage,
    },
    /// It belongs to another generation of the same database.
    #[error(
        "replica {from} there is of generation {theirs}, replica {id} here of generation {ours}: the lower one is over; \
         stop its replicas, or start them again from the newer one"
    )]
    Generation {
        /// The sender.
        from: ReplicaId,
        /// Its generation.
        theirs: Generation,
        /// This replica.
        id: ReplicaId,
        /// This replica's generation.
        ours: Generation,
    },
    /// What no correct replica sends.
    #[error("{0}")]
    Malformed(String),
    /// This replica is on its way out.
    #[error("stopping")]
    Stopping,
}

impl From<String> for Refused {
    fn from(what: String) -> Refused {
        Refused::Malformed(what)
    }
}
