//! The records of a cluster's drills, in its bucket: `evidence/000000000001.json` and so on, each an
//! [`envelope`](crate::envelope) that names the digest of the one before. Nothing here changes or deletes one.
//!
//! Promises: a drill is recorded once, however often it is tried and by however many; [`verify`] names a record that
//! was changed, taken away, put between, or signed by somebody else. Not: that the newest ones are there. Whoever can
//! delete objects can cut the end off, which only somebody who knows of it can tell.

use crate::envelope::{self, EnvelopeError, PublicKey, SigningKey};
use crate::report::Report;
use serde::{Deserialize, Serialize};
use vr_checkpoint::store::{Created, ObjectStore, StoreError};

/// Where records are, below a cluster's prefix.
pub const PREFIX: &str = "evidence/";
/// The version of a record.
pub const FORMAT: &str = "vrdrill/1";
/// How often another record may have been faster.
const TRIES: usize = 8;

/// What is recorded of a drill.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// Name of the VRCluster.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of the VRDrill.
    pub drill: String,
    /// Its UID.
    pub uid: String,
    /// The database.
    pub lineage: String,
    /// What was rehearsed.
    pub scenario: String,
    /// When it ended, RFC 3339.
    pub finished_at: String,
    /// What it found out.
    pub report: Report,
}

/// A link of the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`FORMAT`].
    pub format: String,
    /// From 1, without gaps.
    pub sequence: u64,
    /// BLAKE3 of the record before, hexadecimal; none for the first.
    pub previous: Option<String>,
    /// The drill.
    #[serde(flatten)]
    pub drill: Drill,
}

/// Where a record is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its key below the prefix.
    pub key: String,
    /// BLAKE3 of its bytes, hexadecimal.
    pub digest: String,
}

/// Why a record could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there is none of ours.
    #[error("{key}: {error}; records go on once it is moved away")]
    Foreign {
        /// The object.
        key: String,
        /// What is wrong with it.
        error: EnvelopeError,
    },
    /// Others were always faster, or nobody knows.
    #[error("the record was not kept: others were faster {TRIES} times")]
    Raced,
}

/// What is wrong with a chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One record.
    #[error("{key}: {what}")]
    Record {
        /// Its object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
}

fn key_of(sequence: u64) -> String {
    format!("{PREFIX}{sequence:012}.json")
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Records a drill, unless its record is the newest already.
///
/// # Errors
/// When the bucket does not take it.
pub async fn append(store: &dyn ObjectStore, key: &SigningKey, drill: Drill) -> Result<Kept, AppendError> {
    for _ in 0..TRIES {
        let last = store.list(PREFIX).await?.into_iter().map(|listed| listed.key).max();
        let (mut sequence, mut previous) = (1, None);
        if let Some(last) = last {
            // Taken away between the two questions: the next look has what there is.
            let Some(bytes) = store.get(&last).await? else { continue };
            let known = parsed(&bytes).map_err(|error| AppendError::Foreign { key: last.clone(), error })?;
            if known.drill.uid == drill.uid {
                return Ok(Kept { key: last, digest: digest(&bytes) });
            }
            (sequence, previous) = (known.sequence + 1, Some(digest(&bytes)));
        }
        let record = Record { format: FORMAT.to_owned(), sequence, previous, drill: drill.clone() };
        let bytes = key.sign(&serde_json::to_vec(&record).expect("plain data is always JSON"));
        let kept = Kept { key: key_of(sequence), digest: digest(&bytes) };
        match store.create(&kept.key, bytes.into()).await? {
            Created::Yes => return Ok(kept),
            // What is there now is seen by the next look, this one's own record among it.
            Created::Exists | Created::Unknown => {}
        }
    }
    Err(AppendError::Raced)
}

fn parsed(bytes: &[u8]) -> Result<Record, EnvelopeError> {
    let opened = envelope::read(bytes)?;
    serde_json::from_slice(&opened.payload).map_err(|error| EnvelopeError::Form(error.to_string()))
}

/// A record as it stands in the bucket.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its object.
    pub key: String,
    /// BLAKE3 of its bytes, hexadecimal.
    pub digest: String,
    /// Who is said to have signed it.
    pub key_id: String,
    /// What it says.
    pub record: Record,
    bytes: Vec<u8>,
}

/// All records, oldest first, whoever has signed them.
///
/// # Errors
/// When one cannot be read, or is none.
pub async fn read_all(store: &dyn ObjectStore) -> Result<Vec<Found>, ChainError> {
    let mut all = Vec::new();
    for listed in store.list(PREFIX).await? {
        let key = listed.key;
        let wrong = |what: String| ChainError::Record { key: key.clone(), what };
        let bytes = store.get(&key).await?.ok_or_else(|| wrong("it has just gone".to_owned()))?.to_vec();
        let opened = envelope::read(&bytes).map_err(|error| wrong(error.to_string()))?;
        let record: Record = parsed(&bytes).map_err(|error| wrong(error.to_string()))?;
        if record.format != FORMAT {
            return Err(wrong(format!("its format is {:?}, this version reads {FORMAT:?}", record.format)));
        }
        all.push(Found { digest: digest(&bytes), key, key_id: opened.key_id, record, bytes });
    }
    Ok(all)
}

/// Whether all are genuine, and none is missing between the first and the last. Without a key the signatures are not
/// looked at.
///
/// # Errors
/// Names the first record that is not as it should be.
pub fn verify(all: &[Found], key: Option<&PublicKey>) -> Result<(), ChainError> {
    let mut previous: Option<&Found> = None;
    for found in all {
        let wrong = |what: String| ChainError::Record { key: found.key.clone(), what };
        if let Some(key) = key {
            key.open(&found.bytes).map_err(|error| wrong(error.to_string()))?;
        }
        let record = &found.record;
        if key_of(record.sequence) != found.key {
            return Err(wrong(format!("it is record {}: it was moved here", record.sequence)));
        }
        let expected = previous.map_or(1, |before| before.record.sequence + 1);
        if record.sequence != expected {
            return Err(wrong(format!("record {expected} is missing before it")));
        }
        let before = previous.map(|before| &before.digest);
        if record.previous.as_ref() != before {
            return Err(wrong(format!(
                "it follows a record with digest {}, and the one before it has {}",
                record.previous.as_deref().unwrap_or("none"),
                before.map_or("none", String::as_str)
            )));
        }
        previous = Some(found);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_checkpoint::store::MemStore;

    fn drill(name: &str) -> Drill {
        Drill {
            cluster: "prod".to_owned(),
            namespace: "shop".to_owned(),
            drill: name.to_owned(),
            uid: format!("uid of {name}"),
            lineage: "l".to_owned(),
            scenario: "RestoreFromObjectStore".to_owned(),
            finished_at: "2026-01-01T00:00:00Z".to_owned(),
            report: Report::of("RestoreFromObjectStore"),
        }
    }

    async fn chain_of(names: &[&str]) -> (MemStore, SigningKey) {
        let (store, (key, _)) = (MemStore::default(), SigningKey::generate().expect("a key"));
        for name in names {
            append(&store, &key, drill(name)).await.expect("it is kept");
        }
        (store, key)
    }

    async fn fault(store: &MemStore, key: &SigningKey) -> String {
        match read_all(store).await {
            Ok(all) => verify(&all, Some(&key.public())).expect_err("something is wrong").to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn records_follow_each_other() {
        let (store, key) = chain_of(&["a", "b", "c"]).await;
        let all = read_all(&store).await.expect("they can be read");
        assert_eq!(all.iter().map(|found| found.record.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(all[2].record.previous.as_ref(), Some(&all[1].digest));
        verify(&all, Some(&key.public())).expect("it is whole");
        verify(&[], None).expect("nothing is whole");
    }

    #[tokio::test]
    async fn a_drill_is_recorded_once() {
        let (store, key) = chain_of(&["a"]).await;
        let first = append(&store, &key, drill("b")).await.expect("it is kept");
        assert_eq!(append(&store, &key, drill("b")).await.expect("it is there"), first);
        assert_eq!(read_all(&store).await.expect("they can be read").len(), 2);
    }

    #[tokio::test]
    async fn what_was_tampered_with_is_named() {
        let (store, key) = chain_of(&["a", "b", "c"]).await;
        store.delete(&key_of(2)).await.expect("a store deletes");
        assert_eq!(fault(&store, &key).await, "evidence/000000000003.json: record 2 is missing before it");
        // Another drill in the place of the one that is gone, well signed by whoever has the key.
        let all = read_all(&store).await.expect("they can be read");
        let other = Record { previous: Some(all[0].digest.clone()), sequence: 2, ..all[0].record.clone() };
        let bytes = key.sign(&serde_json::to_vec(&other).expect("JSON"));
        store.create(&key_of(2), bytes.into()).await.expect("a store creates");
        assert!(
            fault(&store, &key)
                .await
                .starts_with("evidence/000000000003.json: it follows a record with digest")
        );

        let (store, key) = chain_of(&["a", "b"]).await;
        let bytes = store.get(&key_of(1)).await.expect("a store reads").expect("it is there");
        store.delete(&key_of(2)).await.expect("a store deletes");
        store.create(&key_of(2), bytes).await.expect("a store creates");
        assert_eq!(
            fault(&store, &key).await,
            "evidence/000000000002.json: it is record 1: it was moved here"
        );

        let (store, _) = chain_of(&["a"]).await;
        let (stranger, _) = SigningKey::generate().expect("a key");
        assert!(fault(&store, &stranger).await.contains("it was signed by key"));

        let (store, key) = chain_of(&[]).await;
        store.create(&key_of(1), "{}".into()).await.expect("a store creates");
        assert!(fault(&store, &key).await.contains("it is no DSSE envelope"));
        let error = append(&store, &key, drill("a")).await.expect_err("what is there is none of ours");
        assert!(error.to_string().contains("once it is moved away"), "{error}");
    }

    #[tokio::test]
    async fn another_version_is_refused() {
        let (store, key) = chain_of(&[]).await;
        let record =
            Record { format: "vrdrill/2".to_owned(), sequence: 1, previous: None, drill: drill("a") };
        let bytes = key.sign(&serde_json::to_vec(&record).expect("JSON"));
        store.create(&key_of(1), bytes.into()).await.expect("a store creates");
        assert!(
            fault(&store, &key)
                .await
                .contains("its format is \"vrdrill/2\", this version reads \"vrdrill/1\"")
        );
    }
}
