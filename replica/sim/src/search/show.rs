//! A story as lines of fixed width: what happened, to whom, and where all stand after it.

use super::change;
use super::local::{Action, Cache, Tables};
use super::state::State;
use super::{REPLICAS, Way};
use crate::coverage::{MessageKind, StatusKind};
use crate::oracle::Broken;

/// The steps that lead to the last one, in order.
fn steps(ways: &[Vec<Way>], last: Way) -> Vec<Action> {
    let (mut place, action) = last;
    let mut actions = vec![action];
    for level in ways.iter().rev() {
        let (before, action) = level[place as usize];
        actions.push(action);
        place = before;
    }
    actions.reverse();
    actions
}

fn standings(tables: &Tables, state: &State) -> String {
    let one = |index: usize| {
        let replica = &tables.local(state.locals[index].number).replica;
        let status = StatusKind::of(replica.status()).name();
        let (ballot, op, commit) = (replica.ballot(), replica.op(), replica.commit());
        format!("| {status:<10} {ballot:>4} {op:>2} {commit:>2} ")
    };
    (0..REPLICAS).map(one).collect()
}

fn named(tables: &Tables, action: Action) -> String {
    let (what, at, from) = match action {
        Action::Deliver(message) | Action::Overtake(message) => {
            let posted = tables.message(message);
            (MessageKind::of(&posted.envelope.message).name(), posted.to, Some(posted.from))
        }
        Action::Timeout(index) => ("times out", usize::from(index), None),
        Action::Crash(index) => ("crashes", usize::from(index), None),
        Action::Write(index) => ("client writes", usize::from(index), None),
        Action::Change(index, change) => {
            return format!("R{index} {:<24}", format!("proposes: {}", change::name(change)));
        }
        Action::Durable(index) => ("promise durable", usize::from(index), None),
    };
    let from = from.map_or(String::new(), |from| format!("from R{from}"));
    format!("R{at} {what:<16} {from:<7}")
}

/// The story that ends with `last`, which breaks a rule. The columns of each replica: status, ballot, newest op,
/// newest op it knows to be committed.
pub(super) fn story(tables: &Tables, ways: &[Vec<Way>], last: Way, broken: &Broken) -> Vec<String> {
    let mut cache = Cache::default();
    let mut state = State::first(tables);
    tables.break_rules();
    let heads: String = (0..REPLICAS).map(|r| format!("| {:<21}", format!("R{r}"))).collect();
    let mut lines = vec![format!("{:<33}{heads}", "step")];
    for (number, action) in (1..).zip(steps(ways, last)) {
        let line = format!("{number:>4} {:<28}", named(tables, action));
        match state.after(tables, &mut cache, action) {
            Ok(next) => state = next.unwrap_or(state),
            Err(_) => {
                lines.push(format!("{line}| {}", broken.oracle));
                break;
            }
        }
        lines.push(format!("{line}{}", standings(tables, &state)).trim_end().to_owned());
    }
    tables.keep_rules();
    lines
}
