//! What the protocol itself keeps inside the replicated state at a cut: where the log stood and who asked what.
//!
//! It is a function of the log alone, so it is the same on every replica, and the state's digest covers it.

use crate::codec::{DecodeError, Reader};
use crate::ids::*;
use crate::replica::Configuration;
use crate::sessions::Sessions;

const FORMAT: u8 = 1;

/// The protocol's state at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoreState {
    /// The cut.
    pub op: Op,
    /// Digest of the log through it.
    pub digest: Digest,
    /// The ballot of the entry there.
    pub ballot: Ballot,
    /// The time of the entry there: microseconds since the Unix epoch.
    pub time: u64,
    /// The members.
    pub configuration: Configuration,
    /// The client table.
    pub sessions: Sessions,
}

impl CoreState {
    /// Before every entry.
    #[must_use]
    pub fn empty(configuration: Configuration) -> CoreState {
        CoreState {
            op: Op(0),
            digest: Digest::default(),
            ballot: Ballot::default(),
            time: 0,
            configuration,
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
        bytes.extend_from_slice(&self.configuration.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&(self.configuration.order.len() as u32).to_le_bytes());
        self.configuration.order.iter().for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
        self.sessions.encode(&mut bytes);
        bytes
    }

    /// The state that [`CoreState::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<CoreState, DecodeError> {
        let mut reader = Reader::new("a core state", bytes);
        match reader.u8()? {
            FORMAT => {}
            other => {
                return Err(DecodeError::Value { what: "a core state's format", value: u64::from(other) });
            }
        }
        let op = Op(reader.u64()?);
        let ballot = reader.ballot()?;
        let time = reader.u64()?;
        let digest = reader.digest()?;
        let epoch = Epoch(reader.u64()?);
        let members = reader.u32()?;
        if members > 1024 {
            return Err(DecodeError::Value { what: "the number of members", value: u64::from(members) });
        }
        let order = (0..members).map(|_| reader.u64().map(ReplicaId)).collect::<Result<_, _>>()?;
        let sessions = Sessions::decode(&mut reader)?;
        reader.end()?;
        Ok(CoreState { op, digest, ballot, time, configuration: Configuration { epoch, order }, sessions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_nothing_shorter_does() {
        let order = vec![ReplicaId(3), ReplicaId(1)];
        let mut state = CoreState::empty(Configuration { epoch: Epoch(2), order });
        state.op = Op(77);
        state.sessions.admit(Op(7), SessionId { client: 9, incarnation: Incarnation(1) }, RequestNumber(3));
        let bytes = state.encode();
        assert_eq!(CoreState::decode(&bytes), Ok(state));
        (0..bytes.len()).for_each(|len| assert!(CoreState::decode(&bytes[..len]).is_err(), "{len}"));
        let mut padded = bytes.clone();
        padded.push(0);
        assert!(CoreState::decode(&padded).is_err());
        let mut newer = bytes;
        newer[0] = 2;
        assert!(matches!(CoreState::decode(&newer), Err(DecodeError::Value { value: 2, .. })));
    }
}
