//! Who takes part: the configuration of an epoch as data, its byte form and its id.
//!
//! Pure. A configuration is agreed through the log and never recomputed locally. It promises that equal
//! configurations have equal bytes and equal ids. Whether one may follow another is not decided here.

use crate::codec::{DecodeError, Reader};
use crate::ids::*;

/// Members of a configuration at most, learners included.
pub const MAX_MEMBERS: usize = 64;
/// Bytes of a domain's name or an address at most.
pub const MAX_TEXT: usize = 255;
/// The longest read lease, in microseconds: ten seconds.
pub const MAX_READ_LEASE: u64 = 10_000_000;

/// One member. The protocol reads its id and its domain; the addresses travel with it for those who connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// Its membership entry, never given to another (R20).
    pub id: ReplicaId,
    /// Its failure domain (a zone); equal names fail together. Empty: not known.
    pub domain: String,
    /// The address at which the other members reach it.
    pub peer: String,
    /// The URL that is advertised to clients.
    pub client: String,
}

impl Member {
    /// A member of which only the id is known.
    #[must_use]
    pub fn bare(id: ReplicaId) -> Member {
        Member { id, ..Member::default() }
    }
}

/// Who takes part in an epoch: agreed, never recomputed locally.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Configuration {
    /// Its number.
    pub epoch: Epoch,
    /// The voters, most preferred primary first; `primary(view) = order[view mod n]` (R8).
    pub order: Vec<Member>,
    /// Members that are sent everything and count nowhere (R17).
    pub learners: Vec<Member>,
    /// A commit quorum must hold members of two failure domains at least. It only narrows quorums.
    pub span_domains: bool,
    /// How long a primary may answer reads after a round that a quorum has confirmed, in microseconds; 0: each read
    /// waits for a round. Whoever leads the next view waits as long before it commits anything.
    pub read_lease: u64,
}

/// In the byte of flags: a commit quorum must span two failure domains.
const SPAN_DOMAINS: u8 = 1;
/// In the byte of flags: the length of a read lease follows.
const READ_LEASE: u8 = 2;

impl Configuration {
    /// Voters of which only the ids are known.
    #[must_use]
    pub fn bare(epoch: Epoch, order: impl IntoIterator<Item = ReplicaId>) -> Configuration {
        let order = order.into_iter().map(Member::bare).collect();
        Configuration { epoch, order, ..Configuration::default() }
    }

    /// All members: the voters in their order, then the learners.
    pub fn members(&self) -> impl Iterator<Item = &Member> + '_ {
        self.order.iter().chain(&self.learners)
    }

    /// The ids of the voters, in their order.
    pub fn voters(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.order.iter().map(|member| member.id)
    }

    /// A member's entry.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.members().find(|member| member.id == id)
    }

    /// Whether it votes.
    #[must_use]
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.position(id).is_some()
    }

    /// Whether it is sent everything and counts nowhere.
    #[must_use]
    pub fn is_learner(&self, id: ReplicaId) -> bool {
        self.learners.iter().any(|member| member.id == id)
    }

    /// The highest id in it; ids above it have not been given by it.
    #[must_use]
    pub fn highest_id(&self) -> ReplicaId {
        self.members().map(|member| member.id).max().unwrap_or_default()
    }

    /// Its identity, for compare-and-swap (R15): BLAKE3 of its bytes.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest(*blake3::hash(&self.encode()).as_bytes())
    }

    /// The configuration as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 * (2 + self.order.len()));
        self.encode_to(&mut bytes);
        bytes
    }

    pub(crate) fn encode_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        let span = if self.span_domains { SPAN_DOMAINS } else { 0 };
        let lease = if self.read_lease > 0 { READ_LEASE } else { 0 };
        bytes.push(span | lease);
        if self.read_lease > 0 {
            bytes.extend_from_slice(&self.read_lease.to_le_bytes());
        }
        for members in [&self.order, &self.learners] {
            bytes.extend_from_slice(&(members.len() as u32).to_le_bytes());
            for member in members {
                bytes.extend_from_slice(&member.id.0.to_le_bytes());
                for text in [&member.domain, &member.peer, &member.client] {
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
    }

    /// The configuration that [`Configuration::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Configuration, DecodeError> {
        let mut reader = Reader::new("a configuration", bytes);
        let configuration = Configuration::read(&mut reader)?;
        reader.end()?;
        Ok(configuration)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Configuration, DecodeError> {
        let epoch = Epoch(reader.u64()?);
        let flags = reader.u8()?;
        if flags & !(SPAN_DOMAINS | READ_LEASE) != 0 {
            return Err(DecodeError::Value { what: "a configuration's flags", value: u64::from(flags) });
        }
        let span_domains = flags & SPAN_DOMAINS != 0;
        let read_lease = if flags & READ_LEASE != 0 { reader.u64()? } else { 0 };
        if flags & READ_LEASE != 0 && read_lease == 0 {
            return Err(DecodeError::Value { what: "the length of a read lease", value: 0 });
        }
        let order = read_members(reader)?;
        let learners = read_members(reader)?;
        Ok(Configuration { epoch, order, learners, span_domains, read_lease })
    }
}

fn read_members(reader: &mut Reader<'_>) -> Result<Vec<Member>, DecodeError> {
    let count = reader.u32()?;
    if count as usize > MAX_MEMBERS {
        return Err(DecodeError::Value { what: "the number of members", value: u64::from(count) });
    }
    let member = |reader: &mut Reader<'_>| {
        let id = ReplicaId(reader.u64()?);
        Ok(Member { id, domain: read_text(reader)?, peer: read_text(reader)?, client: read_text(reader)? })
    };
    (0..count).map(|_| member(reader)).collect()
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let len = reader.u32()?;
    if len as usize > MAX_TEXT {
        return Err(DecodeError::Value { what: "the length of an address", value: u64::from(len) });
    }
    let bytes = reader.take(len as usize)?;
    String::from_utf8(bytes.to_vec()).map_err(|e| DecodeError::Value {
        what: "the text of an address",
        value: e.utf8_error().valid_up_to() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        let member = |id: u64, domain: &str| Member {
            id: ReplicaId(id),
            domain: domain.to_owned(),
            peer: format!("r{id}:2380"),
            client: String::new(),
        };
        Configuration {
            epoch: Epoch(4),
            order: vec![member(3, "a"), member(1, "b")],
            learners: vec![member(9, "c")],
            span_domains: true,
            read_lease: 250_000,
        }
    }

    #[test]
    fn it_comes_back_as_it_was_and_nothing_shorter_does() {
        let bytes = configuration().encode();
        assert_eq!(Configuration::decode(&bytes), Ok(configuration()));
        (0..bytes.len()).for_each(|len| assert!(Configuration::decode(&bytes[..len]).is_err(), "{len}"));
        assert!(Configuration::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn every_part_of_it_is_in_the_id() {
        let mut others = vec![configuration(); 10];
        others[0].epoch = Epoch(5);
        others[1].order.reverse();
        others[2].learners.clear();
        others[3].span_domains = false;
        others[4].order[0].domain.push('x');
        others[5].order[0].peer.push('x');
        others[6].learners[0].client.push('x');
        others[7].order[1].id = ReplicaId(2);
        others[8].read_lease = 0;
        others[9].read_lease += 1;
        let mut seen = vec![configuration().id()];
        for other in others {
            assert!(!seen.contains(&other.id()), "{other:?}");
            seen.push(other.id());
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let mut many = configuration();
        many.learners = vec![Member::bare(ReplicaId(1)); MAX_MEMBERS + 1];
        assert!(matches!(Configuration::decode(&many.encode()), Err(DecodeError::Value { .. })));
        let mut long = configuration();
        long.order[0].peer = "x".repeat(MAX_TEXT + 1);
        assert!(matches!(Configuration::decode(&long.encode()), Err(DecodeError::Value { .. })));
        let mut bytes = configuration().encode();
        let at = bytes.iter().position(|b| *b == b'a').expect("the first domain");
        bytes[at] = 0xff;
        assert!(matches!(Configuration::decode(&bytes), Err(DecodeError::Value { .. })));
    }

    #[test]
    fn roles_and_ids() {
        let it = configuration();
        assert!(it.is_voter(ReplicaId(1)) && !it.is_learner(ReplicaId(1)));
        assert!(!it.is_voter(ReplicaId(9)) && it.is_learner(ReplicaId(9)));
        assert_eq!(it.highest_id(), ReplicaId(9));
        let bare = Configuration::bare(Epoch(4), it.voters());
        assert_eq!(bare.member(ReplicaId(3)), Some(&Member::bare(ReplicaId(3))));
    }
}
