//! A store that goes wrong when told to, around any other: a test aid.
//!
//! It fails, fills up, stalls, loses answers and dies by rules, each of which strikes a stated number of times. It knows
//! no clock and no randomness: a stall lasts until somebody releases it, so that equal rules give equal runs. It does
//! not damage what the store within holds, and it never reports an outcome of which the store within knows better,
//! except as [`Created::Unknown`] and [`Swapped::Unknown`] and where it garbles what is read.

use super::{Created, Listed, ObjectStore, StoreError, Swapped, Tag, Usage};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Creations.
    Create,
    /// Swaps of HEAD, whose key is `HEAD`.
    SwapHead,
    /// Deletions.
    Delete,
    /// Creations, swaps of HEAD and deletions.
    Write,
    /// Everything else: objects, ranges, listings (by their prefix) and HEAD.
    Read,
}

/// What happens where a rule strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It does not happen, and that is known; later it may work.
    Fail,
    /// It does not happen until somebody changes something.
    Refuse,
    /// It does not happen because no space is left.
    NoSpace,
    /// It happens, and nobody is told: unknown for a creation or a swap, an error for the rest.
    LoseAnswer,
    /// It does not happen, and nobody is told: as [`Act::LoseAnswer`], for whoever asked.
    Drop,
    /// What is read of an object has a bit flipped. Writes, listings and HEAD, whose answers are checked on their way,
    /// fail instead.
    Garble,
    /// What is read of an object is cut in half. The rest as for [`Act::Garble`].
    Shorten,
    /// It waits for [`FaultStore::release`] before it goes on.
    Stall,
    /// It does not happen, and neither does anything after it: the process died before it. [`FaultStore::revive`] begins
    /// the next one.
    Stop,
}

/// Which requests go wrong, and how.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which kind.
    pub on: On,
    /// Only requests whose key contains this; empty for all.
    pub key_contains: String,
    /// So many matching requests go well first.
    pub skip: u32,
    /// Then so many go wrong.
    pub times: u32,
    /// What happens to them.
    pub act: Act,
}

/// A store with faults.
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    state: Mutex<State>,
    /// Number of releases so far: who stalls waits for the next.
    released: watch::Sender<u64>,
    /// How many stall now.
    stalled: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    struck: Vec<Act>,
    stopped: bool,
}

impl<S: ObjectStore> FaultStore<S> {
    /// One without rules: it does what `inner` does.
    #[must_use]
    pub fn new(inner: S) -> FaultStore<S> {
        let (released, stalled) = (watch::Sender::new(0), watch::Sender::new(0));
        FaultStore { inner, state: Mutex::default(), released, stalled }
    }

    /// Adds a rule. Of several that match a request the first added that is not used up counts.
    pub fn add(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Stops at the `n`-th write from now, counted from 1: it and all that follows does not happen.
    pub fn stop_at_write(&self, n: u32) {
        let skip = n.saturating_sub(1);
        self.add(Rule { on: On::Write, key_contains: String::new(), skip, times: 1, act: Act::Stop });
    }

    /// How many strikes are still to come. A test that expects all its faults to have struck asks for none.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.state().rules.iter().map(|rule| rule.times).sum()
    }

    /// Takes all rules away; what has struck since it was asked last.
    pub fn forget(&self) -> Vec<Act> {
        let mut state = self.state();
        state.rules.clear();
        std::mem::take(&mut state.struck)
    }

    /// Whether an [`Act::Stop`] has struck.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Requests reach the store again, as those of a process that was started anew.
    pub fn revive(&self) {
        self.state().stopped = false;
    }

    /// Lets everything go on that stalls now; what stalls later waits for the next release.
    pub fn release(&self) {
        self.released.send_modify(|releases| *releases += 1);
    }

    /// Comes back when at least `count` requests stall.
    pub async fn wait_until_stalled(&self, count: usize) {
        let mut stalled = self.stalled.subscribe();
        stalled.wait_for(|now| *now >= count).await.expect("the sender lives as long as this store");
    }

    /// The store within.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what goes wrong with a request, if anything does, and counts it.
    fn strike(&self, kind: On, key: &str) -> Option<Act> {
        let mut state = self.state();
        if state.stopped {
            return Some(Act::Stop);
        }
        let hits = |rule: &Rule| {
            let same = rule.on == kind || (rule.on == On::Write && kind != On::Read);
            same && key.contains(&rule.key_contains) && rule.times > 0
        };
        let mut act = None;
        for rule in state.rules.iter_mut().filter(|rule| hits(rule)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if act.is_none() {
                rule.times -= 1;
                act = Some(rule.act);
            }
        }
        state.struck.extend(act);
        state.stopped |= act == Some(Act::Stop);
        act
    }

    /// What must happen before the request reaches the store within; what happens to its answer, if anything does.
    async fn before(&self, kind: On, key: &str) -> Result<Option<Act>, StoreError> {
        // Subscribed before it is counted as stalled: a release that follows the count is never missed.
        let mut released = self.released.subscribe();
        let Some(act) = self.strike(kind, key) else { return Ok(None) };
        let what = what(kind, key);
        let transient = |reason: &str| {
            Err(StoreError::Transient {
                store: self.describe(),
                what: what.clone(),
                reason: reason.to_owned(),
            })
        };
        match act {
            Act::Fail => transient("failed by a rule; try again"),
            Act::NoSpace => transient("no free space left on device, by a rule; make room"),
            Act::Stop => transient("stopped by a rule before this request"),
            Act::Refuse => Err(StoreError::Permanent {
                store: self.describe(),
                what,
                reason: "refused by a rule; take the rule away".to_owned(),
            }),
            Act::Garble | Act::Shorten if kind != On::Read => transient("its answer was garbled by a rule"),
            Act::LoseAnswer | Act::Drop | Act::Garble | Act::Shorten => Ok(Some(act)),
            Act::Stall => {
                let _counted = Stalled::new(&self.stalled);
                released.changed().await.expect("the sender lives as long as this store");
                // What waited when the process died never reaches the disk.
                if self.is_stopped() { transient("stopped by a rule while it stalled") } else { Ok(None) }
            }
        }
    }

    /// A request that cannot say "unknown": without an answer it is an error. `garbled` is what a damaged answer looks
    /// like, where there can be one.
    async fn ask<T>(
        &self,
        kind: On,
        key: &str,
        request: BoxFuture<'_, Result<T, StoreError>>,
        garbled: Option<fn(T, Act) -> T>,
    ) -> Result<T, StoreError> {
        let lost = |reason: &str| StoreError::Transient {
            store: self.describe(),
            what: what(kind, key),
            reason: reason.to_owned(),
        };
        match (self.before(kind, key).await?, garbled) {
            (None, _) => request.await,
            (Some(Act::Drop), _) => Err(lost("the request was lost by a rule")),
            (Some(act @ (Act::Garble | Act::Shorten)), Some(garbled)) => Ok(garbled(request.await?, act)),
            (Some(Act::Garble | Act::Shorten), None) => Err(lost("its answer was garbled by a rule")),
            (Some(_), _) => request.await.and_then(|_| Err(lost("the answer was lost by a rule"))),
        }
    }

    /// A write that can say "unknown", which it does as `unknown`.
    async fn write<T>(
        &self,
        kind: On,
        key: &str,
        request: BoxFuture<'_, Result<T, StoreError>>,
        unknown: T,
    ) -> Result<T, StoreError> {
        match self.before(kind, key).await? {
            None => request.await,
            Some(Act::Drop) => Ok(unknown),
            Some(_) => request.await.map(|_| unknown),
        }
    }
}

/// An object as it arrives.
fn garbled(body: Option<Bytes>, act: Act) -> Option<Bytes> {
    let mut bytes = body?.to_vec();
    let half = bytes.len() / 2;
    if act == Act::Shorten {
        bytes.truncate(half);
    } else if let Some(byte) = bytes.get_mut(half) {
        *byte ^= 1;
    }
    Some(bytes.into())
}

fn what(kind: On, key: &str) -> String {
    let verb = match kind {
        On::Create | On::SwapHead | On::Write => "write",
        On::Delete => "delete",
        On::Read => "read",
    };
    format!("{verb} {key}")
}

/// Counts a request as stalled as long as it exists, also when its future is dropped.
struct Stalled<'a>(&'a watch::Sender<usize>);

impl Stalled<'_> {
    fn new(count: &watch::Sender<usize>) -> Stalled<'_> {
        count.send_modify(|now| *now += 1);
        Stalled(count)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|now| *now -= 1);
    }
}

impl<S: ObjectStore> ObjectStore for FaultStore<S> {
    fn describe(&self) -> String {
        format!("{} with faults", self.inner.describe())
    }

    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.write(On::Create, key, self.inner.create(key, body), Created::Unknown).boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.ask(On::Read, key, self.inner.get(key), Some(garbled)).boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.ask(On::Read, key, self.inner.get_range(key, offset, len), None).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.ask(On::Read, prefix, self.inner.list(prefix), None).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.ask(On::Delete, key, self.inner.delete(key), None).boxed()
    }

    fn replace<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.write(On::Create, key, self.inner.replace(key, body), Created::Unknown).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        self.ask(On::Read, "HEAD", self.inner.head(), None).boxed()
    }

    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        self.write(On::SwapHead, "HEAD", self.inner.swap_head(expected, body), Swapped::Unknown).boxed()
    }

    /// What reached the store within.
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

#[cfg(test)]
mod tests;
