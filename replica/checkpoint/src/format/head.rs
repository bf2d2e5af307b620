//! HEAD: the only object of a lineage that changes, by compare-and-swap only. What it retains is what must stay
//! restorable.

use super::manifest::check_format;
use super::{FORMAT, FormatError};
use serde::{Deserialize, Serialize};

/// The newest truth about a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// `vrckpt/1`.
    pub format: String,
    /// UUID of the database.
    pub lineage: String,
    /// One more with each write.
    pub version: u64,
    /// Random with each write: tells a writer whether an unknown outcome was its own.
    pub nonce: String,
    /// Whoever is of an older generation is fenced.
    pub generation: u64,
    /// Random with each generation: two restores that chose the same number tell each other apart.
    pub token: String,
    /// What the generation is about.
    pub state: HeadState,
    /// Where the generation began, unless it is the first.
    pub parent: Option<Parent>,
    /// The replica that wrote last.
    pub owner: u64,
    /// Manifests that must stay restorable, oldest first.
    pub retained: Vec<Retained>,
    /// No revision above this one has been handed out.
    pub reserved_revision: i64,
    /// When all that is retained was last read again and was whole, microseconds since the Unix epoch; 0 if never.
    #[serde(default, skip_serializing_if = "is_never")]
    pub scrubbed_micros: u64,
}

fn is_never(micros: &u64) -> bool {
    *micros == 0
}

/// What a generation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeadState {
    /// It has no checkpoint of its own yet.
    Restoring,
    /// It has.
    Active,
}

/// Where a generation began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parent {
    /// The generation that was restored.
    pub generation: u64,
    /// The last op that was kept of it; what it did beyond is abandoned.
    pub op: u64,
    /// Root of the checkpoint that the restore began from, hexadecimal.
    pub root: String,
}

/// A manifest that must stay restorable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retained {
    /// Its key.
    pub manifest: String,
    /// Its cut.
    pub op: u64,
    /// Time of the entry at the cut, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// Names that somebody has given it: as long as it has one, no rule lets go of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
}

impl Head {
    /// As it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data is always JSON")
    }

    /// # Errors
    /// It is not a HEAD of this format.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Head, FormatError> {
        check_format(file, "HEAD", bytes, &[FORMAT])?;
        let head: Head = serde_json::from_slice(bytes).map_err(|e| FormatError::Invalid {
            file: file.to_owned(),
            what: "HEAD",
            reason: e.to_string(),
        })?;
        debug_assert_eq!(head.format, FORMAT);
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_unknown_fields_are_refused() {
        let head = Head {
            format: FORMAT.to_owned(),
            lineage: "l".to_owned(),
            version: 3,
            nonce: "n".to_owned(),
            generation: 1,
            token: "t".to_owned(),
            state: HeadState::Active,
            parent: Some(Parent { generation: 1, op: 5, root: "r".to_owned() }),
            owner: 1,
            retained: vec![Retained {
                manifest: "m".to_owned(),
                op: 1,
                time_micros: 2,
                pins: vec!["p".to_owned()],
            }],
            reserved_revision: 10,
            scrubbed_micros: 11,
        };
        let without =
            Head { retained: vec![Retained { pins: vec![], ..head.retained[0].clone() }], ..head.clone() };
        assert!(!String::from_utf8_lossy(&without.encode()).contains("pins"));
        let text = String::from_utf8(head.encode()).expect("JSON");
        assert_eq!(Head::parse("HEAD", text.as_bytes()), Ok(head));
        let strange = text.replace("\"owner\":1", "\"owner\":1,\"colour\":2");
        assert!(Head::parse("HEAD", strange.as_bytes()).expect_err("strange").to_string().contains("colour"));
        assert!(Head::parse("HEAD", b"").is_err());
    }
}
