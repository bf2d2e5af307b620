//! Replays what a real etcd was asked and requires its answers, letter for letter, and its hashes.
//!
//! The recordings in `etcd/` were made with `etcd/record.py`, which says how.

use std::borrow::Cow;
use std::fmt::Write as _;
use vr_core::{Accepted, At, Op, RequestNumber, SessionId, StateMachine};
use vr_store::{
    Body, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, LeaseId, Options, Put,
    RangeQuery, Reply, Response, Revision, SortOrder, SortTarget, Span, Store, StoreError, Txn, TxnOp,
};

#[test]
fn seed_1() {
    replay(include_str!("etcd/etcd-3.7.3-seed-1.txt"));
}

#[test]
fn seed_2() {
    replay(include_str!("etcd/etcd-3.7.3-seed-2.txt"));
}

#[test]
fn all_deleted() {
    replay(include_str!("etcd/etcd-3.7.3-all-deleted.txt"));
}

/// Lists in parentheses; an atom is percent-encoded, `-` is empty.
#[derive(Clone, Debug)]
enum Expr {
    Atom(Vec<u8>),
    List(Vec<Expr>),
}

fn replay(recording: &str) {
    let mut store = Store::new(Options::default());
    let mut lines = recording.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    let mut op = Op(0);
    while let Some((number, request)) = lines.next() {
        let (_, expected) = lines.next().expect("every request has its answer");
        op = op.next();
        let answer = ask(&mut store, op, &parse(request));
        assert_eq!(answer, expected, "line {}: {request}", number + 1);
        // A few requests later the state is taken through a snapshot: that may change nothing.
        if op.0.is_multiple_of(50) {
            let snapshot = store.cut(op, b"core");
            store = Store::from_snapshot(snapshot, Options::default()).expect("just cut");
        }
    }
}

fn ask(store: &mut Store, op: Op, request: &Expr) -> String {
    let list = request.list();
    match list[0].text() {
        "hash" => match store.view().hash_kv(Revision(list[1].number())) {
            Ok(hash) => format!("(hash {} {} {})", hash.hash, hash.compacted, hash.revision),
            Err(error) => refusal(error),
        },
        "range" => match store.range(&range(list)) {
            Ok(found) => {
                let mut text = format!("(range {} ", found.revision);
                range_text(&mut text, &found.kvs, found.more, found.count);
                text + ")"
            }
            Err(error) => refusal(error),
        },
        _ => {
            let mut body = Vec::new();
            command(list).encode(&mut body);
            let mut replies = Vec::new();
            let session = SessionId::default();
            let request = Accepted { session, number: RequestNumber(op.0), body: &body, reply_wanted: true };
            store.execute(At { op, time: 0 }, &[request], &mut replies);
            reply_text(&replies.pop().expect("a reply was wanted"))
        }
    }
}

fn command(list: &[Expr]) -> Command<'_> {
    match list[0].text() {
        "put" => Command::Put(put(list)),
        "del" => Command::DeleteRange(delete(list)),
        "txn" => Command::Txn(txn(list)),
        "compact" => Command::Compact { revision: Revision(list[1].number()) },
        "grant" => Command::LeaseGrant { id: LeaseId(list[1].number()), ttl: list[2].number() },
        "revoke" => Command::LeaseRevoke { id: LeaseId(list[1].number()) },
        other => panic!("unknown request {other}"),
    }
}

fn put(list: &[Expr]) -> Put<'_> {
    Put {
        key: list[1].bytes(),
        value: list[2].bytes(),
        lease: LeaseId(list[3].number()),
        prev_kv: has(list, "prev_kv"),
        ignore_value: has(list, "ignore_value"),
        ignore_lease: has(list, "ignore_lease"),
    }
}

fn delete(list: &[Expr]) -> DeleteRange<'_> {
    DeleteRange { span: Span { key: list[1].bytes(), end: list[2].bytes() }, prev_kv: has(list, "prev_kv") }
}

fn range(list: &[Expr]) -> RangeQuery<'_> {
    let revision = |at: usize| Revision(list[at].number());
    RangeQuery {
        span: Span { key: list[1].bytes(), end: list[2].bytes() },
        sort_order: SortOrder::from_wire(place(&["NONE", "ASCEND", "DESCEND"], &list[3]))
            .expect("in the table"),
        sort_target: SortTarget::from_wire(place(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"], &list[4]))
            .expect("in the table"),
        limit: list[5].number(),
        revision: revision(6),
        min_mod: revision(7),
        max_mod: revision(8),
        min_create: revision(9),
        max_create: revision(10),
        keys_only: has(list, "keys_only"),
        count_only: has(list, "count_only"),
    }
}

fn txn(list: &[Expr]) -> Txn<'_> {
    Txn {
        compare: list[1].list().iter().map(|c| compare(c.list())).collect(),
        success: list[2].list().iter().map(|o| txn_op(o.list())).collect(),
        failure: list[3].list().iter().map(|o| txn_op(o.list())).collect(),
    }
}

fn txn_op(list: &[Expr]) -> TxnOp<'_> {
    match list[0].text() {
        "put" => TxnOp::Put(put(list)),
        "del" => TxnOp::DeleteRange(delete(list)),
        "range" => TxnOp::Range(range(list)),
        "txn" => TxnOp::Txn(txn(list)),
        other => panic!("unknown operation {other}"),
    }
}

fn compare(list: &[Expr]) -> Compare<'_> {
    Compare {
        result: CompareResult::from_wire(place(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"], &list[0]))
            .expect("in the table"),
        span: Span { key: list[2].bytes(), end: list[3].bytes() },
        target: match list[1].text() {
            "VERSION" => CompareTarget::Version(list[4].number()),
            "CREATE" => CompareTarget::Create(list[4].number()),
            "MOD" => CompareTarget::Mod(list[4].number()),
            "LEASE" => CompareTarget::Lease(list[4].number()),
            "VALUE" => CompareTarget::Value(list[4].bytes()),
            other => panic!("unknown target {other}"),
        },
    }
}

fn reply_text(reply: &Reply) -> String {
    match reply {
        Ok(response) => response_text(response),
        Err(error) => refusal(*error),
    }
}

fn refusal(error: StoreError) -> String {
    format!("(error {} {})", error.code() as i32, atom(error.text().as_bytes()))
}

fn response_text(Response { revision, body }: &Response) -> String {
    let mut text = String::new();
    let written = match body {
        Body::Put { prev } => {
            text = format!("(put {revision}");
            prev.iter().try_for_each(|kv| write!(text, " {}", kv_text(kv)))
        }
        Body::DeleteRange { deleted, prev } => {
            text = format!("(del {revision} {deleted}");
            prev.iter().try_for_each(|kv| write!(text, " {}", kv_text(kv)))
        }
        Body::Range(found) => {
            text = format!("(range {revision} ");
            range_text(&mut text, &found.kvs, found.more, found.count);
            Ok(())
        }
        Body::Txn { succeeded, responses } => {
            text = format!("(txn {revision} {}", if *succeeded { "then" } else { "else" });
            responses.iter().try_for_each(|r| write!(text, " {}", response_text(r)))
        }
        Body::Compact => write!(text, "(compact {revision}"),
        Body::LeaseGrant { id, ttl } => write!(text, "(grant {revision} {} {ttl}", id.0),
        Body::LeaseRevoke => write!(text, "(revoke {revision}"),
        Body::LeaseExpire { .. } | Body::Reserve { .. } => panic!("etcd has no such request"),
    };
    written.expect("a string takes everything");
    text + ")"
}

fn range_text(text: &mut String, kvs: &[KeyValue], more: bool, count: i64) {
    write!(text, "{count} {}", if more { "more" } else { "all" }).expect("a string takes everything");
    for kv in kvs {
        write!(text, " {}", kv_text(kv)).expect("a string takes everything");
    }
}

fn kv_text(kv: &KeyValue) -> String {
    let numbers = [kv.mod_revision().0, kv.create_revision().0, kv.version(), kv.lease().0];
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    format!("({} {} {})", atom(kv.key()), atom(kv.value()), numbers.join(" "))
}

fn atom(bytes: &[u8]) -> Cow<'static, str> {
    if bytes.is_empty() {
        return "-".into();
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-~/".contains(&b);
    let one = |b: &u8| if plain(*b) { char::from(*b).to_string() } else { format!("%{b:02X}") };
    bytes.iter().map(one).collect::<String>().into()
}

fn place(table: &[&str], expr: &Expr) -> i32 {
    table.iter().position(|name| *name == expr.text()).expect("one of the table") as i32
}

fn has(list: &[Expr], flag: &str) -> bool {
    list.iter().any(|e| matches!(e, Expr::Atom(a) if a == flag.as_bytes()))
}

fn parse(line: &str) -> Expr {
    let spaced = line.replace('(', " ( ").replace(')', " ) ");
    let mut open: Vec<Vec<Expr>> = vec![Vec::new()];
    for token in spaced.split_whitespace() {
        let done = match token {
            "(" => {
                open.push(Vec::new());
                continue;
            }
            ")" => Expr::List(open.pop().expect("balanced")),
            "-" => Expr::Atom(Vec::new()),
            text => Expr::Atom(decode(text)),
        };
        open.last_mut().expect("balanced").push(done);
    }
    open.pop().expect("balanced").pop().expect("one list a line")
}

fn decode(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

impl Expr {
    fn list(&self) -> &[Expr] {
        match self {
            Expr::List(list) => list,
            Expr::Atom(_) => panic!("{self:?} is no list"),
        }
    }
    fn bytes(&self) -> &[u8] {
        match self {
            Expr::Atom(bytes) => bytes,
            Expr::List(_) => panic!("{self:?} is no atom"),
        }
    }
    fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).expect("text")
    }
    fn number(&self) -> i64 {
        self.text().parse().expect("a number")
    }
}
