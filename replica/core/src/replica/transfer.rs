//! A state from one replica to another that the log alone no longer helps.
//!
//! The receiver first asks which cut there is, then for what its own state lacks of it: what that is, the state machine
//! says ([`Import`]). A few questions of bounded answers are under way at once; each has a number that is never used again,
//! so a late answer is taken for nothing else. Nothing of the running state is touched before all of the other is in hand
//! and verified (R13).
//!
//! What has arrived is kept when the source goes away or releases its cut, and serves the next attempt: a state that takes
//! longer to travel than the time between two cuts arrives all the same.

use super::sync::{CatchUp, Purpose};
use super::{Effect, Effects, Replica, Status};
use crate::core_state::CoreState;
use crate::execute::Executor;
use crate::ids::*;
use crate::import::{Import, ImportError};
use crate::log::Log;
use crate::message::Message;
use crate::state_machine::StateMachine;
use bytes::Bytes;

/// Questions under way at once. Their answers are all that a transfer asks of the source's thread at a time.
const WINDOW: usize = 3;
/// After this many portions that were not what was asked for, it begins again without what has arrived.
const MAX_FAULTS: u32 = 8;

/// A state on its way in.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Transfer<I> {
    /// Which one, once the source has said so.
    aim: Option<(Op, Digest)>,
    /// What has arrived; of an earlier aim until the source has said which one it has.
    import: Option<I>,
    asked: Vec<Asked>,
    faults: u32,
}

#[derive(Clone, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Asked {
    number: u64,
    want: Bytes,
    /// When, microseconds on the monotonic clock.
    at: u64,
}

/// What outlives a transfer.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Transfers<I> {
    next_number: u64,
    kept: Option<Transfer<I>>,
}

impl<I> Transfers<I> {
    /// Numbers of one start of this replica are not those of another.
    pub(super) fn new(incarnation: Incarnation) -> Transfers<I> {
        Transfers { next_number: incarnation.0 << 40, kept: None }
    }

    /// The same without a state machine's part; `None` while what has arrived of a state is kept.
    pub(super) fn apart<J>(&self) -> Option<Transfers<J>> {
        let Transfers { next_number, ref kept } = *self;
        kept.is_none().then_some(Transfers { next_number, kept: None })
    }

    fn number(&mut self) -> u64 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }
}

impl<I> Transfer<I> {
    fn question(&self, asked: &Asked, ballot: Ballot) -> Message {
        let cut = self.aim.filter(|_| !asked.want.is_empty()).map_or(Op(0), |(cut, _)| cut);
        Message::GetState { ballot, cut, number: asked.number, want: asked.want.clone() }
    }

    /// Repeats what has not been answered for so long, under its number: either answer will do.
    pub(super) fn ask_again<S: StateMachine>(
        &mut self,
        source: ReplicaId,
        ballot: Ballot,
        now: u64,
        patience: u64,
        out: &mut Effects<S>,
    ) {
        let late = self.asked.iter().filter(|asked| asked.at + patience <= now);
        late.for_each(|asked| out.push(Effect::Send(source, self.question(asked, ballot))));
        self.asked.iter_mut().filter(|asked| asked.at + patience <= now).for_each(|asked| asked.at = now);
    }
}

impl<S: StateMachine> Replica<S> {
    /// The source no longer has the entries: its state is fetched instead, beside the own one.
    pub(super) fn begin_transfer(&mut self, catch_up: &mut CatchUp<S::Import>, out: &mut Effects<S>) {
        if catch_up.purpose == Purpose::Gap {
            self.status = Status::Syncing;
        }
        let mut transfer = self.transfers.kept.take().unwrap_or(Transfer {
            aim: None,
            import: None,
            asked: Vec::new(),
            faults: 0,
        });
        self.ask_which(catch_up, &mut transfer, out);
        catch_up.transfer = Some(transfer);
    }

    /// The transfer ends before its state is there. What has arrived is kept.
    pub(super) fn keep_transfer(&mut self, transfer: Transfer<S::Import>, out: &mut Effects<S>) {
        self.release_kept_transfer(out);
        self.transfers.kept = Some(transfer);
    }

    /// The replica has caught up: what is left of transfers is of no more use.
    pub(super) fn release_kept_transfer(&mut self, out: &mut Effects<S>) {
        if let Some(import) = self.transfers.kept.take().and_then(|kept| kept.import) {
            out.push(Effect::ReleaseImport(Box::new(import)));
        }
    }

    fn ask_which(
        &mut self,
        catch_up: &CatchUp<S::Import>,
        transfer: &mut Transfer<S::Import>,
        out: &mut Effects<S>,
    ) {
        let asked = Asked { number: self.transfers.number(), want: Bytes::new(), at: self.now.mono };
        out.push(Effect::Send(catch_up.source, transfer.question(&asked, catch_up.ballot)));
        // Wants that were under way come first again if the aim turns out to be the same.
        transfer.asked.retain(|asked| !asked.want.is_empty());
        transfer.asked.push(asked);
    }

    /// Answers what another replica wants of the state here. The work is bounded by
    /// [`Options::portion_bytes`](super::Options).
    pub(super) fn on_get_state(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        cut: Op,
        number: u64,
        want: &Bytes,
        out: &mut Effects<S>,
    ) {
        if !self.gives(ballot) {
            self.counters.dropped_ballot += 1;
            return;
        }
        if (cut == Op(0)) != want.is_empty() {
            self.counters.dropped_malformed += 1;
            return;
        }
        let (cut, root, portion) = match self.cuts.with_root(cut) {
            None => (Op(0), Digest::default(), Bytes::new()),
            Some((op, root, _)) if want.is_empty() => (op, root, Bytes::new()),
            Some((op, root, snapshot)) => (op, root, S::export(snapshot, want, self.options.portion_bytes)),
        };
        self.counters.portions_sent += u64::from(!portion.is_empty());
        // In its own ballot, as with entries: who is in an earlier one must not take what a later one committed.
        out.push(Effect::Send(from, Message::State { ballot: self.ballot, cut, root, number, portion }));
    }

    #[allow(clippy::too_many_arguments, reason = "the message's fields")]
    pub(super) fn on_state(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        cut: Op,
        root: Digest,
        number: u64,
        portion: &Bytes,
        out: &mut Effects<S>,
    ) {
        let Some(mut catch_up) = self.catch_up.take() else { return };
        let trusted = catch_up.trusts(from, ballot);
        if let Some(mut transfer) = catch_up.transfer.take() {
            let asked = transfer.asked.iter().position(|asked| asked.number == number);
            if let (true, Some(at)) = (trusted, asked) {
                if transfer.asked[at].want.is_empty() {
                    self.told_which(&mut catch_up, transfer, cut, root, out);
                } else if transfer.aim == Some((cut, root)) {
                    let asked = transfer.asked.remove(at);
                    self.take_portion(&mut catch_up, transfer, &asked.want, portion, out);
                } else {
                    // The source has released that cut: whichever it has now.
                    if !transfer.asked.iter().any(|asked| asked.want.is_empty()) {
                        self.ask_which(&catch_up, &mut transfer, out);
                    }
                    catch_up.transfer = Some(transfer);
                }
            } else {
                catch_up.transfer = Some(transfer);
            }
        }
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }

    /// The source has said which cut it has.
    fn told_which(
        &mut self,
        catch_up: &mut CatchUp<S::Import>,
        mut transfer: Transfer<S::Import>,
        cut: Op,
        root: Digest,
        out: &mut Effects<S>,
    ) {
        if cut <= self.commit() {
            // None yet, or of no use: asked again at the next retry.
            catch_up.transfer = Some(transfer);
            return;
        }
        transfer.asked.retain(|asked| !asked.want.is_empty());
        if transfer.aim == Some((cut, root)) && transfer.import.is_some() {
            self.counters.transfers_resumed += 1;
            let now = self.now.mono;
            for asked in &mut transfer.asked {
                (asked.number, asked.at) = (self.transfers.number(), now);
            }
            let questions = transfer.asked.iter().map(|asked| transfer.question(asked, catch_up.ballot));
            questions.for_each(|question| out.push(Effect::Send(catch_up.source, question)));
        } else {
            self.counters.transfers_moved_on += u64::from(transfer.import.is_some());
            transfer.asked.clear();
            transfer.aim = Some((cut, root));
            transfer.import = Some(self.state.import(cut, root, transfer.import.take()));
        }
        self.go_on(catch_up, transfer, out);
    }

    fn take_portion(
        &mut self,
        catch_up: &mut CatchUp<S::Import>,
        mut transfer: Transfer<S::Import>,
        want: &Bytes,
        portion: &Bytes,
        out: &mut Effects<S>,
    ) {
        self.counters.portions_fetched += 1;
        self.counters.portion_bytes_fetched += portion.len() as u64;
        let import = transfer.import.as_mut().expect("a transfer with an aim has an import");
        match import.take(want, portion) {
            Ok(()) => self.progress(catch_up),
            Err(error) => {
                transfer.faults += 1;
                self.count_fault(&error);
                if transfer.faults > MAX_FAULTS {
                    return self.begin_anew(catch_up, transfer, out);
                }
            }
        }
        self.go_on(catch_up, transfer, out);
    }

    fn count_fault(&mut self, error: &ImportError) {
        match error {
            ImportError::Digest(_) => self.counters.dropped_digest += 1,
            ImportError::Malformed(_) | ImportError::Incomplete => self.counters.dropped_malformed += 1,
        }
    }

    /// Asks for what is missing, or ends the transfer if nothing is.
    fn go_on(
        &mut self,
        catch_up: &mut CatchUp<S::Import>,
        mut transfer: Transfer<S::Import>,
        out: &mut Effects<S>,
    ) {
        while transfer.asked.len() < WINDOW
            && let Some(want) = transfer.import.as_mut().and_then(Import::want)
        {
            let asked = Asked { number: self.transfers.number(), want, at: self.now.mono };
            out.push(Effect::Send(catch_up.source, transfer.question(&asked, catch_up.ballot)));
            transfer.asked.push(asked);
        }
        if !transfer.asked.is_empty() {
            catch_up.transfer = Some(transfer);
            return;
        }
        let (Some((cut, root)), Some(import)) = (transfer.aim, transfer.import.take()) else {
            unreachable!("a transfer that goes on has an aim and an import")
        };
        let state = import.end().and_then(|state| {
            let core = CoreState::decode(&state.core_state());
            match core {
                Ok(core) if core.op == cut && cut > self.commit() => Ok((state, core)),
                Ok(core) => Err(ImportError::Digest(format!("a state cut at {}, not at {cut}", core.op))),
                Err(error) => Err(ImportError::Malformed(error.to_string())),
            }
        });
        match state {
            Ok((state, core)) => {
                self.progress(catch_up);
                self.install_state(catch_up, state, core, root, out);
            }
            Err(error) => {
                self.count_fault(&error);
                self.begin_anew(catch_up, transfer, out);
            }
        }
    }

    /// Something is wrong with this source or this cut: from the beginning, at the next retry and not in a loop.
    fn begin_anew(
        &mut self,
        catch_up: &mut CatchUp<S::Import>,
        mut transfer: Transfer<S::Import>,
        out: &mut Effects<S>,
    ) {
        if let Some(import) = transfer.import.take() {
            out.push(Effect::ReleaseImport(Box::new(import)));
        }
        let asked = Asked { number: self.transfers.number(), want: Bytes::new(), at: self.now.mono };
        catch_up.transfer = Some(Transfer { aim: None, import: None, asked: vec![asked], faults: 0 });
    }

    /// A verified state, further than the own one, takes its place. Entries above it stay if they continue it.
    //= R13
    fn install_state(
        &mut self,
        catch_up: &mut CatchUp<S::Import>,
        state: S,
        core: CoreState,
        root: Digest,
        out: &mut Effects<S>,
    ) {
        let (op, digest) = (core.op, core.digest);
        self.counters.states_fetched += 1;
        let old = std::mem::replace(&mut self.state, state);
        out.push(Effect::ReleaseState(Box::new(old)));
        if self.log.op() > op && self.log.digest_at(op) == Some(digest) {
            self.log.trim(op);
        } else {
            // What this replica holds above is of another history than the committed one: never committed itself.
            self.log = Log::new(op, digest);
        }
        self.executor = Executor::new(core);
        self.cuts.replaced(op, out);
        self.cut_kept(Some(root), out);
        self.gateway.jumped(self.executor.sessions(), op, out);
        out.push(Effect::StateReplaced(op));
        catch_up.keep = op;
        catch_up.staged.clear();
        catch_up.transfer = None;
        catch_up.asked = false;
        if catch_up.purpose == Purpose::Gap {
            self.status = Status::Normal;
        }
    }
}
