//! The log's bytes: every command comes back as it was, and no bytes whatever make decoding panic or over-allocate.

use proptest::prelude::*;
use vr_store::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, LeaseId, MAX_DEPTH, MAX_ITEMS, Put,
    RangeQuery, Revision, SortOrder, SortTarget, Span, StoreError, Txn, TxnOp,
};

/// A command borrows, so what it borrows from is drawn first: a pool of byte strings, and a script of numbers that
/// says what to build over it.
struct Script<'a> {
    pool: &'a [Vec<u8>],
    numbers: std::slice::Iter<'a, i64>,
}

impl<'a> Script<'a> {
    fn number(&mut self) -> i64 {
        self.numbers.next().copied().unwrap_or(0)
    }
    fn pick(&mut self, among: usize) -> usize {
        self.number().rem_euclid(among as i64) as usize
    }
    fn flag(&mut self) -> bool {
        self.pick(2) == 1
    }
    fn bytes(&mut self) -> &'a [u8] {
        let at = self.pick(self.pool.len());
        &self.pool[at]
    }
    fn span(&mut self) -> Span<'a> {
        Span { key: self.bytes(), end: self.bytes() }
    }
    fn revision(&mut self) -> Revision {
        Revision(self.number())
    }
    fn put(&mut self) -> Put<'a> {
        Put {
            key: self.bytes(),
            value: self.bytes(),
            lease: LeaseId(self.number()),
            prev_kv: self.flag(),
            ignore_value: self.flag(),
            ignore_lease: self.flag(),
        }
    }
    fn delete(&mut self) -> DeleteRange<'a> {
        DeleteRange { span: self.span(), prev_kv: self.flag() }
    }
    fn range(&mut self) -> RangeQuery<'a> {
        RangeQuery {
            span: self.span(),
            limit: self.number(),
            revision: self.revision(),
            sort_order: SortOrder::from_wire(self.pick(3) as i32).expect("below 3"),
            sort_target: SortTarget::from_wire(self.pick(5) as i32).expect("below 5"),
            keys_only: self.flag(),
            count_only: self.flag(),
            min_mod: self.revision(),
            max_mod: self.revision(),
            min_create: self.revision(),
            max_create: self.revision(),
        }
    }
    fn compare(&mut self) -> Compare<'a> {
        Compare {
            span: self.span(),
            result: CompareResult::from_wire(self.pick(4) as i32).expect("below 4"),
            target: match self.pick(5) {
                0 => CompareTarget::Version(self.number()),
                1 => CompareTarget::Create(self.number()),
                2 => CompareTarget::Mod(self.number()),
                3 => CompareTarget::Value(self.bytes()),
                _ => CompareTarget::Lease(self.number()),
            },
        }
    }
    fn list<T>(&mut self, item: impl Fn(&mut Script<'a>) -> T) -> Vec<T> {
        let len = self.pick(4);
        (0..len).map(|_| item(self)).collect()
    }
    fn txn(&mut self, depth: usize) -> Txn<'a> {
        Txn {
            compare: self.list(Script::compare),
            success: self.list(|s| s.op(depth)),
            failure: self.list(|s| s.op(depth)),
        }
    }
    fn op(&mut self, depth: usize) -> TxnOp<'a> {
        match self.pick(5) {
            0 => TxnOp::Range(self.range()),
            1 => TxnOp::Put(self.put()),
            2 => TxnOp::DeleteRange(self.delete()),
            3 if depth > 0 => TxnOp::Txn(self.txn(depth - 1)),
            _ => TxnOp::Empty,
        }
    }
    fn command(&mut self) -> Command<'a> {
        match self.pick(8) {
            0 => Command::Put(self.put()),
            1 => Command::DeleteRange(self.delete()),
            2 => Command::Txn(self.txn(3)),
            3 => Command::Compact { revision: self.revision() },
            4 => Command::LeaseGrant { id: LeaseId(self.number()), ttl: self.number() },
            5 => Command::LeaseRevoke { id: LeaseId(self.number()) },
            6 => Command::LeaseExpire { ids: self.list(|s| LeaseId(s.number())) },
            _ => Command::Reserve { revision: self.revision() },
        }
    }
}

fn pool() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)
}

fn numbers() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(prop_oneof![0i64..100, any::<i64>()], 0..200)
}

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    command.encode(&mut body);
    body
}

proptest! {
    #[test]
    fn a_command_comes_back(pool in pool(), numbers in numbers()) {
        let command = Script { pool: &pool, numbers: numbers.iter() }.command();
        let body = encoded(&command);
        prop_assert_eq!(Command::decode(&body), Ok(command));
    }

    #[test]
    fn a_fragment_or_a_longer_body_is_no_command(pool in pool(), numbers in numbers(), cut: prop::sample::Index) {
        let mut body = encoded(&Script { pool: &pool, numbers: numbers.iter() }.command());
        prop_assert_eq!(Command::decode(&body[..cut.index(body.len())]), Err(StoreError::Malformed));
        body.push(0);
        prop_assert_eq!(Command::decode(&body), Err(StoreError::Malformed));
    }

    #[test]
    fn garbage_is_read_the_same_way_back_or_refused(body: Vec<u8>) {
        // Whatever is accepted means one thing only.
        if let Ok(command) = Command::decode(&body) {
            let again = encoded(&command);
            prop_assert_eq!(Command::decode(&again), Ok(command.clone()));
        }
    }

    #[test]
    fn a_damaged_command_is_refused_or_another_command(pool in pool(), numbers in numbers(), at: prop::sample::Index, byte: u8) {
        let mut body = encoded(&Script { pool: &pool, numbers: numbers.iter() }.command());
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Command::decode(&body).is_ok();
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| {
        let mut txn = Txn::default();
        for _ in 1..depth {
            txn = Txn { success: vec![TxnOp::Txn(txn)], ..Txn::default() };
        }
        encoded(&Command::Txn(txn))
    };
    assert!(Command::decode(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(Command::decode(&nested(MAX_DEPTH + 1)), Err(StoreError::TooManyOps));

    let wide =
        |ops: usize| encoded(&Command::Txn(Txn { success: vec![TxnOp::Empty; ops], ..Txn::default() }));
    assert!(Command::decode(&wide(MAX_ITEMS)).is_ok());
    assert_eq!(Command::decode(&wide(MAX_ITEMS + 1)), Err(StoreError::TooManyOps));
}
