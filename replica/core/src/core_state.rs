//! What the protocol itself keeps inside the replicated state at a cut: where the log stood and who asked what.
//!
//! It is a function of the log alone, so it is the same on every replica, and the state's digest covers it.

use crate::codec::{DecodeError, Reader};
use crate::configuration::Configuration;
use crate::ids::*;
use crate::sessions::Sessions;

/// Format 1 knew the voters by their ids alone; it is still read.
const FORMAT: u8 = 2;

/// The protocol's state at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CoreState {
    /// The cut.
    pub op: Op,
    /// Digest of the log through it.
    pub digest: Digest,
    /// The ballot of the entry there.
    pub ballot: Ballot,
    /// The time of the entry there: microseconds since the Unix epoch.
    pub time: u64,
    /// The members as the log agreed on them. Empty before its first Reconfigure entry: what each replica was told at
    /// its start was not agreed by the log, and who comes later is told something else.
    pub configuration: Configuration,
    /// The highest replica id ever used in this generation (R20), as far as the log says.
    pub highest_id: ReplicaId,
    /// The client table.
    pub sessions: Sessions,
}

impl CoreState {
    /// Before every entry.
    #[must_use]
    pub fn empty() -> CoreState {
        CoreState {
            op: Op(0),
            digest: Digest::default(),
            ballot: Ballot::default(),
            time: 0,
            configuration: Configuration::default(),
            highest_id: ReplicaId(0),
            sessions: Sessions::default(),
        }
    }

    /// The state as bytes, for [`StateMachine::cut`](crate::StateMachine::cut).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for field in [self.op.0, self.ballot.epoch.0, self.ballot.view.0, self.time] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.digest.0);
        self.configuration.encode_to(&mut bytes);
        bytes.extend_from_slice(&self.highest_id.0.to_le_bytes());
        self.sessions.encode(&mut bytes);
        bytes
    }

    /// The state that [`CoreState::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<CoreState, DecodeError> {
        let mut reader = Reader::new("a core state", bytes);
        let format = reader.u8()?;
        if !(1..=FORMAT).contains(&format) {
            return Err(DecodeError::Value { what: "a core state's format", value: u64::from(format) });
        }
        let op = Op(reader.u64()?);
        let ballot = reader.ballot()?;
        let time = reader.u64()?;
        let digest = reader.digest()?;
        let (configuration, highest_id) = if format == 1 {
            skip_members(&mut reader)?;
            (Configuration::default(), ReplicaId(0))
        } else {
            (Configuration::read(&mut reader)?, ReplicaId(reader.u64()?))
        };
        let sessions = Sessions::decode(&mut reader)?;
        reader.end()?;
        Ok(CoreState { op, digest, ballot, time, configuration, highest_id, sessions })
    }
}

/// Format 1 held what the bootstrap had been told: the epoch, which was always the first, and the voters' ids.
fn skip_members(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let _epoch = reader.u64()?;
    let members = reader.u32()?;
    if members as usize > crate::configuration::MAX_MEMBERS {
        return Err(DecodeError::Value { what: "the number of members", value: u64::from(members) });
    }
    (0..members).try_for_each(|_| reader.u64().map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_nothing_shorter_does() {
        let configuration = Configuration::bare(Epoch(2), [3, 1].map(ReplicaId));
        let mut state = CoreState { configuration, ..CoreState::empty() };
        state.configuration.order[0].domain = "a".to_owned();
        state.highest_id = ReplicaId(8);
        state.op = Op(77);
        let session = SessionId { client: 9, incarnation: Incarnation(1) };
        state.sessions.register(Op(7), session);
        state.sessions.admit(Op(7), session, RequestNumber(3));
        let bytes = state.encode();
        assert_eq!(CoreState::decode(&bytes), Ok(state));
        (0..bytes.len()).for_each(|len| assert!(CoreState::decode(&bytes[..len]).is_err(), "{len}"));
        let mut padded = bytes.clone();
        padded.push(0);
        assert!(CoreState::decode(&padded).is_err());
        let mut newer = bytes;
        newer[0] = 3;
        assert!(matches!(CoreState::decode(&newer), Err(DecodeError::Value { value: 3, .. })));
    }
    #[test]
    fn the_format_before_is_still_read() {
        let mut old = vec![1];
        old.extend_from_slice(&[0; 4 * 8 + 32 + 8]);
        old.extend_from_slice(&2u32.to_le_bytes());
        [3u64, 1].iter().for_each(|id| old.extend_from_slice(&id.to_le_bytes()));
        old.extend_from_slice(&0u32.to_le_bytes());
        assert_eq!(CoreState::decode(&old), Ok(CoreState::empty()));
    }
}
