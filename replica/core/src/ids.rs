//! The numbers of the protocol, each a type of its own, so that none can stand in for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Number of a log entry. The first entry of a lineage is 1; 0 is "before every entry".
    Op
);
impl Op {
    /// The op that follows.
    #[must_use]
    pub fn next(self) -> Op {
        Op(self.0 + 1)
    }
}
number!(
    /// Number of the primary's term inside an epoch.
    View
);
number!(
    /// Number of the membership configuration inside a generation.
    Epoch
);
number!(
    /// Number of the lineage's restore; every restore adds one and fences those below. The first is 1.
    Generation
);
number!(
    /// One membership entry; never reused in a generation (R20).
    ReplicaId
);
number!(
    /// One start of one process; written durably before its first message.
    Incarnation
);
number!(
    /// Number of a request inside its session; the first is 1, consecutive. 0 is the Register that opens it.
    RequestNumber
);
impl RequestNumber {
    /// What opens the session.
    pub const REGISTER: RequestNumber = RequestNumber(0);
    /// No client comes as far as this by counting; what is told of requests by their numbers reaches somewhat beyond.
    pub const HIGHEST: RequestNumber = RequestNumber(1 << 62);

    /// Whether a request may have it.
    #[must_use]
    pub fn is_of_request(self) -> bool {
        RequestNumber::REGISTER < self && self <= RequestNumber::HIGHEST
    }
}

/// One logical database for its whole life (a UUID); it survives restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lineage(pub [u8; 16]);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// (epoch, view), compared as a pair everywhere (R8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ballot {
    /// The configuration the view belongs to.
    pub epoch: Epoch,
    /// The view inside that epoch.
    pub view: View,
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.view)
    }
}

/// Who asks: a replica's own gateway, or a client with a session of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionId {
    /// Of a replica's own gateway its replica id; of a client a random number with the bit [`SessionId::CLIENT`].
    pub client: u64,
    /// Of a gateway its replica's start, larger is newer; of a client the op of the entry that opened the session, 0
    /// while it is not open.
    pub incarnation: Incarnation,
}

impl SessionId {
    /// The bit that tells clients' numbers from replica ids.
    pub const CLIENT: u64 = 1 << 63;

    /// Whether a number is a client's.
    #[must_use]
    pub fn names_client(client: u64) -> bool {
        client & SessionId::CLIENT != 0
    }

    /// Whether it is a client's own session, not a gateway's.
    #[must_use]
    pub fn is_client(self) -> bool {
        SessionId::names_client(self.client)
    }
}

/// BLAKE3 of something; what, is said where it is used.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The first eight bytes as hexadecimal: enough to tell two apart in a log line.
    #[must_use]
    pub fn short(&self) -> String {
        self.0[..8].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}
