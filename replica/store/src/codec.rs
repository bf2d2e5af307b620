//! How a command stands in the log: a tag byte, then its fields; numbers as LEB128, byte strings behind their length.
//!
//! Encoding appends to the caller's buffer and copies each byte once. Decoding borrows, reads what encoding writes and
//! nothing else (no unknown bits, no bytes left over), and bounds depth and number of operations before it allocates.
//! The encoding is the log's, so it may only ever grow new tags.

use crate::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, RangeQuery, SortOrder, SortTarget, Txn,
    TxnOp,
};
use crate::error::StoreError;
use crate::types::{LeaseId, Revision, Span};
use crate::varint;

/// How deep transactions may stand inside each other. (Protobuf decoders stop at 50.)
pub const MAX_DEPTH: usize = 64;
/// How many compares, operations and lease ids one command may have altogether.
pub const MAX_ITEMS: usize = 65_536;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const GRANT: u8 = 5;
const REVOKE: u8 = 6;
const EXPIRE: u8 = 7;
const RESERVE: u8 = 8;
const RANGE: u8 = 9;
const EMPTY: u8 = 10;

impl<'a> Command<'a> {
    /// Appends the command to a request's body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Command::Put(put) => encode_put(out, put),
            Command::DeleteRange(delete) => encode_delete(out, delete),
            Command::Txn(txn) => encode_txn(out, txn),
            Command::Compact { revision } => signed(tagged(out, COMPACT), revision.0),
            Command::LeaseGrant { id, ttl } => {
                signed(tagged(out, GRANT), id.0);
                signed(out, *ttl);
            }
            Command::LeaseRevoke { id } => signed(tagged(out, REVOKE), id.0),
            Command::LeaseExpire { ids } => {
                varint::put(tagged(out, EXPIRE), ids.len() as u64);
                ids.iter().for_each(|id| signed(out, id.0));
            }
            Command::Reserve { revision } => signed(tagged(out, RESERVE), revision.0),
        }
    }

    /// Reads a command from a request's body.
    ///
    /// # Errors
    /// [`StoreError::TooManyOps`] beyond [`MAX_DEPTH`] or [`MAX_ITEMS`], else [`StoreError::Malformed`].
    pub fn decode(body: &'a [u8]) -> Result<Command<'a>, StoreError> {
        let mut reader = Reader { rest: body, items: MAX_ITEMS };
        let command = match reader.byte()? {
            PUT => Command::Put(reader.put()?),
            DELETE => Command::DeleteRange(reader.delete()?),
            TXN => Command::Txn(reader.txn(MAX_DEPTH)?),
            COMPACT => Command::Compact { revision: reader.revision()? },
            GRANT => Command::LeaseGrant { id: reader.lease()?, ttl: reader.signed()? },
            REVOKE => Command::LeaseRevoke { id: reader.lease()? },
            EXPIRE => Command::LeaseExpire { ids: reader.list(Reader::lease)? },
            RESERVE => Command::Reserve { revision: reader.revision()? },
            _ => return Err(StoreError::Malformed),
        };
        if reader.rest.is_empty() { Ok(command) } else { Err(StoreError::Malformed) }
    }
}

/// Appends a put without a [`Command`] around it.
pub fn encode_put(out: &mut Vec<u8>, put: &Put<'_>) {
    out.reserve(put.key.len() + put.value.len() + 24);
    tagged(out, PUT);
    out.push(flags([put.prev_kv, put.ignore_value, put.ignore_lease]));
    bytes(out, put.key);
    bytes(out, put.value);
    signed(out, put.lease.0);
}

/// Appends a deletion without a [`Command`] around it.
pub fn encode_delete(out: &mut Vec<u8>, delete: &DeleteRange<'_>) {
    tagged(out, DELETE).push(flags([delete.prev_kv]));
    span(out, delete.span);
}

/// Appends a transaction without a [`Command`] around it.
pub fn encode_txn(out: &mut Vec<u8>, txn: &Txn<'_>) {
    let Txn { compare, success, failure } = txn;
    varint::put(tagged(out, TXN), compare.len() as u64);
    compare.iter().for_each(|c| encode_compare(out, c));
    for branch in [success, failure] {
        varint::put(out, branch.len() as u64);
        for op in branch {
            match op {
                TxnOp::Range(range) => encode_range(out, range),
                TxnOp::Put(put) => encode_put(out, put),
                TxnOp::DeleteRange(delete) => encode_delete(out, delete),
                TxnOp::Txn(txn) => encode_txn(out, txn),
                TxnOp::Empty => out.push(EMPTY),
            }
        }
    }
}

fn encode_range(out: &mut Vec<u8>, range: &RangeQuery<'_>) {
    let RangeQuery { limit, revision, sort_order, sort_target, keys_only, count_only, .. } = *range;
    tagged(out, RANGE).push(flags([keys_only, count_only]));
    out.push(sort_order as u8);
    out.push(sort_target as u8);
    span(out, range.span);
    signed(out, limit);
    for r in [revision, range.min_mod, range.max_mod, range.min_create, range.max_create] {
        signed(out, r.0);
    }
}

fn encode_compare(out: &mut Vec<u8>, compare: &Compare<'_>) {
    out.push(compare.result as u8);
    span(out, compare.span);
    match compare.target {
        CompareTarget::Version(n) => signed(tagged(out, 0), n),
        CompareTarget::Create(n) => signed(tagged(out, 1), n),
        CompareTarget::Mod(n) => signed(tagged(out, 2), n),
        CompareTarget::Value(value) => bytes(tagged(out, 3), value),
        CompareTarget::Lease(n) => signed(tagged(out, 4), n),
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8) -> &mut Vec<u8> {
    out.push(tag);
    out
}

fn signed(out: &mut Vec<u8>, number: i64) {
    // Zigzag, so that small negative numbers stay small.
    varint::put(out, ((number << 1) ^ (number >> 63)) as u64);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn span(out: &mut Vec<u8>, span: Span<'_>) {
    bytes(out, span.key);
    bytes(out, span.end);
}

fn flags<const N: usize>(flags: [bool; N]) -> u8 {
    flags.iter().enumerate().fold(0, |byte, (bit, set)| byte | u8::from(*set) << bit)
}

/// What is left to read, and how many more items may come.
struct Reader<'a> {
    rest: &'a [u8],
    items: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, StoreError> {
        let (byte, rest) = self.rest.split_first().ok_or(StoreError::Malformed)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        varint::take(&mut self.rest).ok_or(StoreError::Malformed)
    }

    fn signed(&mut self) -> Result<i64, StoreError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn revision(&mut self) -> Result<Revision, StoreError> {
        self.signed().map(Revision)
    }

    fn lease(&mut self) -> Result<LeaseId, StoreError> {
        self.signed().map(LeaseId)
    }

    fn bytes(&mut self) -> Result<&'a [u8], StoreError> {
        let len = usize::try_from(self.number()?).map_err(|_| StoreError::Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(StoreError::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn span(&mut self) -> Result<Span<'a>, StoreError> {
        Ok(Span { key: self.bytes()?, end: self.bytes()? })
    }

    fn flags<const N: usize>(&mut self) -> Result<[bool; N], StoreError> {
        let byte = self.byte()?;
        if byte >> N != 0 {
            return Err(StoreError::Malformed);
        }
        Ok(std::array::from_fn(|bit| byte >> bit & 1 == 1))
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Reader<'a>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let len = usize::try_from(self.number()?).map_err(|_| StoreError::Malformed)?;
        // Every item takes a byte at least: a length beyond the rest is a lie.
        if len > self.rest.len() {
            return Err(StoreError::Malformed);
        }
        self.items = self.items.checked_sub(len).ok_or(StoreError::TooManyOps)?;
        let mut list = Vec::with_capacity(len);
        for _ in 0..len {
            list.push(item(self)?);
        }
        Ok(list)
    }

    fn put(&mut self) -> Result<Put<'a>, StoreError> {
        let [prev_kv, ignore_value, ignore_lease] = self.flags()?;
        let (key, value, lease) = (self.bytes()?, self.bytes()?, self.lease()?);
        Ok(Put { key, value, lease, prev_kv, ignore_value, ignore_lease })
    }

    fn delete(&mut self) -> Result<DeleteRange<'a>, StoreError> {
        let [prev_kv] = self.flags()?;
        Ok(DeleteRange { span: self.span()?, prev_kv })
    }

    fn range(&mut self) -> Result<RangeQuery<'a>, StoreError> {
        let [keys_only, count_only] = self.flags()?;
        Ok(RangeQuery {
            keys_only,
            count_only,
            sort_order: SortOrder::from_wire(self.byte()?.into()).ok_or(StoreError::Malformed)?,
            sort_target: SortTarget::from_wire(self.byte()?.into()).ok_or(StoreError::Malformed)?,
            span: self.span()?,
            limit: self.signed()?,
            revision: self.revision()?,
            min_mod: self.revision()?,
            max_mod: self.revision()?,
            min_create: self.revision()?,
            max_create: self.revision()?,
        })
    }

    fn compare(&mut self) -> Result<Compare<'a>, StoreError> {
        let result = CompareResult::from_wire(self.byte()?.into()).ok_or(StoreError::Malformed)?;
        let span = self.span()?;
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.signed()?),
            1 => CompareTarget::Create(self.signed()?),
            2 => CompareTarget::Mod(self.signed()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.signed()?),
            _ => return Err(StoreError::Malformed),
        };
        Ok(Compare { span, result, target })
    }

    fn txn(&mut self, depth: usize) -> Result<Txn<'a>, StoreError> {
        let depth = depth.checked_sub(1).ok_or(StoreError::TooManyOps)?;
        Ok(Txn {
            compare: self.list(Reader::compare)?,
            success: self.list(|r| r.op(depth))?,
            failure: self.list(|r| r.op(depth))?,
        })
    }

    fn op(&mut self, depth: usize) -> Result<TxnOp<'a>, StoreError> {
        Ok(match self.byte()? {
            PUT => TxnOp::Put(self.put()?),
            DELETE => TxnOp::DeleteRange(self.delete()?),
            TXN => TxnOp::Txn(self.txn(depth)?),
            RANGE => TxnOp::Range(self.range()?),
            EMPTY => TxnOp::Empty,
            _ => return Err(StoreError::Malformed),
        })
    }
}
