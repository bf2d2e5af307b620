//! What a collection is about to delete, written down before: whoever began to read what it names is done by the time
//! that it is deleted.

use super::manifest::check_format;
use super::{FORMAT, FormatError, Named};
use serde::{Deserialize, Serialize};

/// Objects that no retained checkpoint needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// `vrckpt/1`.
    pub format: String,
    /// UUID of the database.
    pub lineage: String,
    /// Of whoever wrote it.
    pub generation: u64,
    /// The replica that wrote it.
    pub writer: u64,
    /// What is to be deleted.
    pub objects: Vec<Named>,
}

impl Plan {
    /// As it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data is always JSON")
    }

    /// # Errors
    /// It is not a plan of this format.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Plan, FormatError> {
        check_format(file, "plan of a collection", bytes, &[FORMAT])?;
        let plan: Plan = serde_json::from_slice(bytes).map_err(|e| FormatError::Invalid {
            file: file.to_owned(),
            what: "plan of a collection",
            reason: e.to_string(),
        })?;
        debug_assert_eq!(plan.format, FORMAT);
        Ok(plan)
    }
}
