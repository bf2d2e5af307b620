//! Numbers and names, each of its own type: a slot is not a replica id, and a zone is not a node.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// As the resources write it.
            #[must_use]
            pub fn signed(self) -> i64 {
                i64::try_from(self.0).unwrap_or(i64::MAX)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name(text.to_owned())
            }
        }
    };
}

number! {
    /// One membership entry; not used again in a generation.
    ReplicaId
}
number! {
    /// A place in Kubernetes: pod name, volume, zone. Used again.
    Slot
}
number! {
    /// Counts the restores of a lineage.
    Generation
}
number! {
    /// Counts the configurations of members inside a generation.
    Epoch
}
number! {
    /// Number of a log entry.
    Op
}

name! {
    /// One logical database for its whole life: a UUID.
    Lineage
}
name! {
    /// A failure domain.
    Zone
}
name! {
    /// A node of Kubernetes.
    NodeName
}
name! {
    /// One object of Kubernetes for its whole life: whoever changes or deletes something names it, so that a successor
    /// of the same name is not meant.
    Uid
}
name! {
    /// A configuration of members as it was agreed: what a change of it names as replaced.
    ConfigurationId
}
name! {
    /// Everything of a pod that the user decides, in short. Nothing of the operator's own is in it: its upgrade
    /// restarts nothing.
    Template
}

/// A moment, in whole seconds since 1970: the operator has no need of finer ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

/// A span of whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub i64);

impl Moment {
    /// How long ago `earlier` was; zero if it is yet to come.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Seconds {
        Seconds((self.0 - earlier.0).max(0))
    }

    /// As the resources write it.
    #[must_use]
    pub fn text(self) -> String {
        jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
    }

    /// What [`Moment::text`] wrote; nothing if it is no time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Moment> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Moment(t.as_second()))
    }
}

impl std::ops::Add<Seconds> for Moment {
    type Output = Moment;
    fn add(self, span: Seconds) -> Moment {
        Moment(self.0.saturating_add(span.0))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}
