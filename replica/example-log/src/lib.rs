//! A partitioned append-only log with consumer offsets: a service that is no key-value store, for `vr-core` to replicate.
//!
//! Each partition has a chained digest, so that the state has a digest however long it grows; and since all replicas have
//! the same beginning of each partition, only what is behind it travels to one that was away. Everything is kept in memory
//! and nothing is ever deleted.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use vr_core::{Accepted, At, Digest, Import, ImportError, Op, StateMachine};

/// How many partitions there are.
pub const PARTITIONS: usize = 8;
/// Records whose pointers are copied at most when a partition grows after a snapshot was taken.
const CHUNK: u64 = 1024;

/// What is asked, as postcard encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Put a record at the end of a partition.
    Append(u8, &'a [u8]),
    /// A consumer group has read a partition up to this offset.
    Commit(u8, u64, u64),
}

impl Request<'_> {
    /// As a log carries it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self).into()
    }
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record has this offset in its partition; or the group is at this offset now.
    At(u64),
    /// There is no such partition, the offset lies behind its end, or this is no request.
    Refused,
}

/// All but the records.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Head {
    /// Length and digest of each partition.
    ends: [(u64, [u8; 32]); PARTITIONS],
    /// By partition and group.
    offsets: BTreeMap<(u8, u64), u64>,
    core_state: Vec<u8>,
}

/// The log: also its own snapshot, since a clone shares all records.
#[derive(Clone, Debug, Default)]
pub struct Log {
    head: Head,
    records: [Vec<Arc<Vec<Bytes>>>; PARTITIONS],
}

fn encode(thing: &impl Serialize) -> Bytes {
    postcard::to_allocvec(thing).expect("memory does not end").into()
}

impl Log {
    /// A record, if there is one at this offset.
    #[must_use]
    pub fn record(&self, partition: usize, offset: u64) -> Option<&Bytes> {
        let (chunk, place) = (usize::try_from(offset / CHUNK).ok()?, usize::try_from(offset % CHUNK).ok()?);
        self.records.get(partition)?.get(chunk)?.get(place)
    }

    /// Where a consumer group is in a partition.
    #[must_use]
    pub fn offset(&self, partition: u8, group: u64) -> u64 {
        self.head.offsets.get(&(partition, group)).copied().unwrap_or(0)
    }

    /// The digest of all of it.
    #[must_use]
    pub fn root(&self) -> Digest {
        Digest(*blake3::hash(&encode(&self.head)).as_bytes())
    }

    /// The digest of the records and the offsets, without what the protocol keeps in the state.
    #[must_use]
    pub fn contents(&self) -> Digest {
        Digest(*blake3::hash(&encode(&(&self.head.ends, &self.head.offsets))).as_bytes())
    }

    fn append(&mut self, partition: usize, record: &[u8]) {
        let ((len, digest), chunks) = (&mut self.head.ends[partition], &mut self.records[partition]);
        if len.is_multiple_of(CHUNK) {
            chunks.push(Arc::default());
        }
        let last = chunks.last_mut().expect("there is one from the first record on");
        // A copy: a slice of what was received would keep all of that in memory.
        Arc::make_mut(last).push(Bytes::copy_from_slice(record));
        *digest = *blake3::Hasher::new().update(digest).update(record).finalize().as_bytes();
        *len += 1;
    }

    fn answer(&mut self, body: &[u8]) -> Answer {
        let end = |partition| self.head.ends.get(usize::from(partition)).map(|(len, _)| *len);
        match postcard::from_bytes(body) {
            Ok(Request::Append(partition, record)) if let Some(offset) = end(partition) => {
                self.append(usize::from(partition), record);
                Answer::At(offset)
            }
            Ok(Request::Commit(partition, group, offset)) if end(partition) >= Some(offset) => {
                self.head.offsets.insert((partition, group), offset);
                Answer::At(offset)
            }
            _ => Answer::Refused,
        }
    }
}

impl StateMachine for Log {
    type Reply = Answer;
    type Snapshot = Log;
    type Import = Arriving;

    fn execute(&mut self, _at: At, requests: &[Accepted<'_>], replies: &mut Vec<Answer>) {
        for request in requests {
            let answer = self.answer(request.body);
            replies.extend(request.reply_wanted.then_some(answer));
        }
    }

    fn cut(&mut self, _op: Op, core_state: &[u8]) -> Log {
        self.head.core_state = core_state.to_vec();
        self.clone()
    }

    fn core_state(&self) -> Vec<u8> {
        self.head.core_state.clone()
    }

    fn export(snapshot: &Log, want: &[u8], max_bytes: usize) -> Bytes {
        match postcard::from_bytes(want) {
            Ok(Want::Head) => encode(&snapshot.head),
            Ok(Want::Records { partition, from }) => {
                let (mut records, mut bytes) = (Vec::new(), 0);
                while let Some(record) = snapshot.record(partition, from + records.len() as u64)
                    && bytes < max_bytes
                {
                    bytes += record.len() + 1;
                    records.push(&record[..]);
                }
                encode(&records)
            }
            Err(_) => Bytes::new(),
        }
    }

    fn import(&self, _cut: Op, root: Digest, earlier: Option<Arriving>) -> Arriving {
        let log = earlier.map_or_else(|| self.clone(), |earlier| earlier.log);
        Arriving { root, log, head: None, asked: None }
    }
}

#[derive(Serialize, Deserialize)]
enum Want {
    Head,
    Records { partition: usize, from: u64 },
}

/// A log on its way in. What is here of a partition is taken for the beginning of what is there until its end shows.
#[derive(Clone, Debug)]
pub struct Arriving {
    root: Digest,
    log: Log,
    head: Option<Head>,
    asked: Option<Bytes>,
}

impl Arriving {
    /// Begins a partition anew that is not the beginning of the one that is wanted.
    fn compare(&mut self, head: &Head, partition: usize) -> bool {
        let (here, there) = (self.log.head.ends[partition], head.ends[partition]);
        let fits = here.0 < there.0 || here == there;
        if !fits {
            (self.log.head.ends[partition], self.log.records[partition]) = Default::default();
        }
        fits
    }

    fn take_records(&mut self, partition: usize, records: &[&[u8]]) -> Result<(), ImportError> {
        let head = self.head.clone().filter(|_| partition < PARTITIONS).ok_or(ImportError::Incomplete)?;
        records.iter().for_each(|record| self.log.append(partition, record));
        match self.compare(&head, partition) && !records.is_empty() {
            true => Ok(()),
            false => Err(ImportError::Digest(format!("partition {partition}"))),
        }
    }
}

impl Import for Arriving {
    type Machine = Log;

    fn want(&mut self) -> Option<Bytes> {
        if self.asked.is_some() {
            return None;
        }
        let ends = &self.log.head.ends;
        let want = self.head.as_ref().map_or(Some(Want::Head), |head| {
            let partition = (0..PARTITIONS).find(|at| ends[*at] != head.ends[*at])?;
            Some(Want::Records { partition, from: ends[partition].0 })
        });
        self.asked = want.as_ref().map(encode);
        self.asked.clone()
    }

    fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
        let malformed = |error: postcard::Error| ImportError::Malformed(error.to_string());
        if self.asked.take_if(|asked| *asked == want).is_none() {
            return Err(ImportError::Malformed("an answer that nobody waits for".to_owned()));
        }
        if let Want::Records { partition, .. } = postcard::from_bytes(want).map_err(malformed)? {
            return self
                .take_records(partition, &postcard::from_bytes::<Vec<_>>(portion).map_err(malformed)?);
        }
        if blake3::hash(portion).as_bytes() != &self.root.0 {
            return Err(ImportError::Digest("the digests of the partitions".to_owned()));
        }
        let head: Head = postcard::from_bytes(portion).map_err(malformed)?;
        (0..PARTITIONS).for_each(|partition| _ = self.compare(&head, partition));
        self.head = Some(head);
        Ok(())
    }

    fn end(self) -> Result<Log, ImportError> {
        let head = self.head.filter(|head| head.ends == self.log.head.ends).ok_or(ImportError::Incomplete)?;
        Ok(Log { head, records: self.log.records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::{RequestNumber, SessionId};

    fn ask(log: &mut Log, body: &[u8]) -> Answer {
        let mut replies = Vec::new();
        let (session, number) = (SessionId::default(), RequestNumber(1));
        let request = Accepted { session, number, body, reply_wanted: true };
        log.execute(
            At { op: Op(1), time: 1 },
            &[request, Accepted { reply_wanted: false, ..request }],
            &mut replies,
        );
        assert_eq!(replies.len(), 1);
        replies[0]
    }

    fn filled(records: u64) -> Log {
        let mut log = Log::default();
        for n in 0..records {
            log.append(n as usize % 3, &n.to_le_bytes());
        }
        log
    }

    #[test]
    fn records_and_offsets_are_kept_and_bad_requests_refused() {
        let mut log = Log::default();
        // Each is asked twice.
        assert_eq!(ask(&mut log, &Request::Append(7, b"one").encode()), Answer::At(0));
        assert_eq!(log.record(7, 1).map(|record| &record[..]), Some(&b"one"[..]));
        assert_eq!(ask(&mut log, &Request::Commit(7, 5, 2).encode()), Answer::At(2));
        assert_eq!((log.offset(7, 5), log.offset(7, 6)), (2, 0));
        let before = log.contents();
        let beyond = Request::Commit(7, 5, 3).encode();
        for bad in [
            &b""[..],
            &[9],
            &[0],
            &Request::Append(8, b"x").encode(),
            &Request::Commit(8, 1, 0).encode(),
            &beyond,
        ] {
            assert_eq!(ask(&mut log, bad), Answer::Refused, "{bad:?}");
        }
        assert_eq!(log.contents(), before);
    }

    #[test]
    fn only_what_is_missing_travels_and_another_beginning_is_left() {
        let mut there = filled(5_000);
        let snapshot = there.cut(Op(9), b"the core's");
        there.append(0, b"later");
        for (here, portions) in
            [(Log::default(), 9..=9_999), (filled(4_990), 2..=8), (filled(5_100), 4..=9_999)]
        {
            let mut import = here.import(Op(9), snapshot.root(), None);
            let mut asked = 0;
            while let Some(want) = import.want() {
                assert!(import.take(b"other", b"").is_err());
                assert!(import.want().is_none());
                asked += 1;
                // Another beginning shows at its end.
                let _ = import.take(&want, &Log::export(&snapshot, &want, 1_000));
            }
            assert!(portions.contains(&asked), "{asked} portions");
            let log = import.end().expect("all of it is here");
            assert_eq!((log.root(), log.core_state()), (snapshot.root(), b"the core's".to_vec()));
            assert_eq!(log.record(1, 1_666), snapshot.record(1, 1_666));
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused_and_asked_for_again() {
        let snapshot = filled(10);
        let mut import = Log::default().import(Op(1), snapshot.root(), None);
        for step in 0..3 {
            for bad in [&b""[..], b"bad", &[0], &[2, 1]] {
                let want = import.want().expect("something is missing");
                assert!(import.take(&want, bad).is_err(), "{step}: {bad:?}");
            }
            assert_eq!(import.clone().end().err(), Some(ImportError::Incomplete));
            let want = import.want().expect("something is missing");
            import.take(&want, &Log::export(&snapshot, &want, 1)).expect("what was asked for");
        }
        // Another record than the one there shows when the partition is complete, and that is fetched again.
        let want = import.want().expect("something is missing");
        import.take(&want, &encode(&vec![&b"another"[..]])).expect("it may be the one");
        let mut wrong = Vec::new();
        while let Some(want) = import.want() {
            wrong.extend(import.take(&want, &Log::export(&snapshot, &want, 1)).err());
        }
        assert_eq!(wrong, [ImportError::Digest("partition 0".to_owned())]);
        assert_eq!(import.end().map(|log| log.root()), Ok(snapshot.root()));
        assert!(Log::export(&snapshot, b"", 9).is_empty());
    }
}
