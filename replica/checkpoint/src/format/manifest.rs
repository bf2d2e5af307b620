//! The commit record of a checkpoint, as canonical JSON: keys sorted, no spaces, and the hash of itself.

use super::{DELTA_FORMAT, FORMAT, FormatError, Parent, hex, unhex};
use crate::mutants::{Mutant, on};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a checkpoint is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `vrckpt/1`, or `vrckpt/2` if an index that it needs has deltas.
    pub format: String,
    /// UUID of the database.
    pub lineage: String,
    /// Its generation.
    pub generation: u64,
    /// Where the generation began, unless it is the first.
    pub parent: Option<Parent>,
    /// Whether it relies on frames that earlier checkpoints shipped.
    pub incremental: bool,
    /// The cut.
    pub op: u64,
    /// View of the entry at the cut.
    pub view: u64,
    /// Epoch of the entry at the cut.
    pub epoch: u64,
    /// Time of the entry at the cut, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// When it was written, microseconds since the Unix epoch.
    pub written_micros: u64,
    /// The members, as their own configuration says it.
    pub configuration: Value,
    /// The store's revision at the cut.
    pub revision: i64,
    /// No revision above this one was handed out by then.
    pub reserved_revision: i64,
    /// Chained digest of the log through the cut, hexadecimal.
    pub log_digest: String,
    /// The state.
    pub state: ManifestState,
    /// The indexes in which all its frames are found.
    pub indexes: Vec<Named>,
    /// The packs that hold its frames.
    pub packs: Vec<Named>,
    /// The replica that wrote it.
    pub writer: u64,
    /// Random: tells its writer that it is its own.
    pub nonce: String,
    /// BLAKE3 of the record without this field, hexadecimal.
    #[serde(default)]
    pub hash: String,
}

/// The tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestState {
    /// Id of its top page, hexadecimal.
    pub root: String,
    /// Entries.
    pub entries: u64,
    /// Pages.
    pub pages: u64,
    /// Bytes of its entries.
    pub bytes: u64,
}

/// An object and its size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

impl Manifest {
    /// As it is stored, with its hash.
    #[must_use]
    pub fn encode(&mut self) -> Vec<u8> {
        self.hash = String::new();
        self.hash = hex(blake3::hash(&canonical(self)).as_bytes());
        canonical(self)
    }

    /// # Errors
    /// It is not a manifest of this format, or not as its writer left it.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Manifest, FormatError> {
        let invalid =
            |reason: String| FormatError::Invalid { file: file.to_owned(), what: "manifest", reason };
        check_format(file, "manifest", bytes, &[FORMAT, DELTA_FORMAT])?;
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        let again = manifest.clone().encode();
        if again != bytes && !on(Mutant::ManifestUnchecked) {
            return Err(invalid("it does not hash to what it says: it is damaged or was edited".to_owned()));
        }
        if manifest.root().is_none() || unhex(&manifest.log_digest).is_none() {
            return Err(invalid("a digest is not 64 hexadecimal digits".to_owned()));
        }
        Ok(manifest)
    }

    /// The root of its state; `None` only before it was checked.
    #[must_use]
    pub fn root(&self) -> Option<[u8; 32]> {
        unhex(&self.state.root)
    }
}

/// Sorted keys, no spaces: the same contents are the same bytes.
fn canonical(manifest: &Manifest) -> Vec<u8> {
    // A JSON value keeps its keys sorted.
    let value = serde_json::to_value(manifest).expect("plain data is always JSON");
    serde_json::to_vec(&value).expect("plain data is always JSON")
}

/// Refuses a record of another format before its fields are looked at.
pub(super) fn check_format(
    file: &str,
    what: &'static str,
    bytes: &[u8],
    known: &[&str],
) -> Result<(), FormatError> {
    let invalid = |reason: String| FormatError::Invalid { file: file.to_owned(), what, reason };
    let value: Value = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    match value.get("format").and_then(Value::as_str) {
        Some(found) if known.contains(&found) => Ok(()),
        Some(DELTA_FORMAT) => Err(invalid(format!("there is none of {DELTA_FORMAT}"))),
        Some(found) if found.starts_with("vrckpt/") => {
            Err(FormatError::Newer { file: file.to_owned(), found: found.to_owned() })
        }
        Some(found) => Err(invalid(format!("its format is `{found}`"))),
        None => Err(invalid("it says no format".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn example() -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            lineage: "6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b".to_owned(),
            generation: 1,
            parent: None,
            incremental: false,
            op: 9,
            view: 0,
            epoch: 0,
            time_micros: 5,
            written_micros: 6,
            configuration: serde_json::json!({"order": [1, 2, 3]}),
            revision: 3,
            reserved_revision: 10,
            log_digest: "00".repeat(32),
            state: ManifestState { root: "11".repeat(32), entries: 1, pages: 1, bytes: 20 },
            indexes: vec![Named { key: "i".to_owned(), bytes: 1 }],
            packs: vec![],
            writer: 2,
            nonce: "n".to_owned(),
            hash: String::new(),
        }
    }

    #[test]
    fn it_is_canonical_and_hashes_itself() {
        let bytes = example().encode();
        let text = String::from_utf8(bytes.clone()).expect("JSON");
        assert!(
            text.starts_with(r#"{"configuration":{"order":[1,2,3]},"epoch":0,"format":"vrckpt/1","#),
            "{text}"
        );
        let parsed = Manifest::parse("m", &bytes).expect("valid");
        assert_eq!(parsed.op, 9);
        let edited = text.replace(r#""op":9"#, r#""op":8"#);
        assert!(
            Manifest::parse("m", edited.as_bytes())
                .expect_err("edited")
                .to_string()
                .contains("damaged or was edited")
        );
    }

    #[test]
    fn newer_foreign_and_broken_ones_are_told_apart() {
        let text = String::from_utf8(example().encode()).expect("JSON");
        for (bytes, says) in [
            (text.replace("vrckpt/1", "vrckpt/7"), "use a release that reads vrckpt/7"),
            (text.replace("vrckpt/1", "tar"), "its format is `tar`"),
            ("{}".to_owned(), "it says no format"),
            (text[..40].to_owned(), "m is not a valid manifest"),
        ] {
            let error = Manifest::parse("m", bytes.as_bytes()).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
