//! Who watches what: finds the watchers of each change, at a cost that goes with the matches, not with the watchers.
//!
//! It holds no queue and no stream. A watcher that is behind (because it began in the past, or because its client does
//! not read) is *parked*: it costs nothing until the caller has brought it up to date with
//! [`crate::View::history_since`] and resumes it. While it is not parked it gets everything from its next revision on.

#![expect(
    clippy::disallowed_types,
    reason = "the hash maps are looked up and never walked: there is no order"
)]

use crate::event::{Event, EventKind};
use crate::types::{Revision, Span};
use std::collections::HashMap;

/// What a watcher wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The first key.
    pub key: Box<[u8]>,
    /// Where the range ends, as in [`Span`].
    pub end: Box<[u8]>,
    /// Not of keys that are set.
    pub no_put: bool,
    /// Not of keys that are deleted.
    pub no_delete: bool,
    /// With what was there before.
    pub prev_kv: bool,
}

impl Watch {
    /// Its keys.
    #[must_use]
    pub fn span(&self) -> Span<'_> {
        Span { key: &self.key, end: &self.end }
    }

    /// Whether it does not want to hear of this kind.
    #[must_use]
    pub fn filters(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        }
    }
}

/// One watcher of a [`WatchSet`]; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

/// What one watcher is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who.
    pub watcher: WatcherId,
    /// Which of the delivered events, by place, ascending. So that an event is encoded once for all.
    pub events: Vec<u32>,
}

/// All watchers of a replica.
#[derive(Debug, Default)]
pub struct WatchSet {
    last_id: u64,
    watchers: HashMap<WatcherId, Watcher>,
    /// Those of one key.
    by_key: HashMap<Box<[u8]>, Vec<WatcherId>>,
    by_range: Ranges,
}

#[derive(Debug)]
struct Watcher {
    watch: Watch,
    next: Revision,
    parked: bool,
    /// Its place in the deliveries being made.
    place: Option<usize>,
}

impl WatchSet {
    /// A set without watchers.
    #[must_use]
    pub fn new() -> WatchSet {
        WatchSet::default()
    }

    /// Adds a watcher, parked. [`WatchSet::resume`] begins its deliveries.
    pub fn add(&mut self, watch: Watch) -> WatcherId {
        self.last_id += 1;
        let id = WatcherId(self.last_id);
        self.watchers.insert(id, Watcher { watch, next: Revision(0), parked: true, place: None });
        id
    }

    /// Takes a watcher out; `false` if there is no such watcher.
    pub fn cancel(&mut self, id: WatcherId) -> bool {
        self.park(id);
        self.watchers.remove(&id).is_some()
    }

    /// Stops deliveries to a watcher that cannot take them; `false` if there is no such watcher. The caller remembers
    /// the revision up to which it was told.
    pub fn park(&mut self, id: WatcherId) -> bool {
        let Some(watcher) = self.watchers.get_mut(&id) else { return false };
        if !watcher.parked {
            watcher.parked = true;
            let Watch { key, end, .. } = &watcher.watch;
            if end.is_empty() {
                if let Some(ids) = self.by_key.get_mut(key) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.by_key.remove(key);
                    }
                }
            } else {
                self.by_range.remove(key, end, id);
            }
        }
        true
    }

    /// Begins deliveries with revision `next`; everything before it the caller has told already. `false` if there is
    /// no such watcher.
    pub fn resume(&mut self, id: WatcherId, next: Revision) -> bool {
        let Some(watcher) = self.watchers.get_mut(&id) else { return false };
        watcher.next = next;
        if watcher.parked {
            watcher.parked = false;
            let Watch { key, end, .. } = &watcher.watch;
            if end.is_empty() {
                self.by_key.entry(key.clone()).or_default().push(id);
            } else {
                self.by_range.add(key, end, id);
            }
        }
        true
    }

    /// What a watcher wants to hear of.
    #[must_use]
    pub fn watch(&self, id: WatcherId) -> Option<&Watch> {
        self.watchers.get(&id).map(|watcher| &watcher.watch)
    }

    /// Whether a watcher is parked; `None` if there is no such watcher.
    #[must_use]
    pub fn is_parked(&self, id: WatcherId) -> Option<bool> {
        self.watchers.get(&id).map(|watcher| watcher.parked)
    }

    /// Number of watchers, parked ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Finds who is to be told of these events: whole revisions, in order, each event delivered once only.
    pub fn deliver(&mut self, events: &[Event]) -> Vec<Delivery> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        if self.by_key.is_empty() && self.by_range.is_empty() {
            return deliveries;
        }
        let watchers = &mut self.watchers;
        for (place, event) in (0u32..).zip(events) {
            let key = event.kv.key();
            let mut tell = |id: WatcherId| {
                let watcher = watchers.get_mut(&id).expect("every indexed watcher is there");
                if event.revision() < watcher.next || watcher.watch.filters(event.kind) {
                    return;
                }
                let at = *watcher.place.get_or_insert_with(|| {
                    deliveries.push(Delivery { watcher: id, events: Vec::new() });
                    deliveries.len() - 1
                });
                deliveries[at].events.push(place);
            };
            if let Some(ids) = self.by_key.get(key) {
                ids.iter().copied().for_each(&mut tell);
            }
            self.by_range.of(key, &mut tell);
        }
        for delivery in &deliveries {
            let watcher = self.watchers.get_mut(&delivery.watcher).expect("it was told a moment ago");
            watcher.place = None;
        }
        deliveries
    }
}

/// Watchers by range: one group per distinct range, in order of their beginnings. The array is read as a balanced
/// tree (the middle is the root), and beside each group stands the farthest end below it.
///
/// Adding and removing a *distinct* range moves the array; many watchers of few ranges is what there is in practice.
#[derive(Debug, Default)]
struct Ranges {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    from: Box<[u8]>,
    to: End,
    /// The farthest end in the part of the array whose middle this is.
    farthest: End,
    watchers: Vec<WatcherId>,
}

/// The end of a range; one that has none is farther than all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Box<[u8]>),
    Never,
}

impl End {
    fn of(end: &[u8]) -> End {
        if end == [0] { End::Never } else { End::Before(end.into()) }
    }

    fn is_past(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => key < &**end,
            End::Never => true,
        }
    }
}

impl Ranges {
    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn place(&self, key: &[u8], to: &End) -> Result<usize, usize> {
        self.groups.binary_search_by(|group| (&*group.from, &group.to).cmp(&(key, to)))
    }

    fn add(&mut self, key: &[u8], end: &[u8], id: WatcherId) {
        let to = End::of(end);
        match self.place(key, &to) {
            Ok(at) => self.groups[at].watchers.push(id),
            Err(at) => {
                let group = Group { from: key.into(), farthest: to.clone(), to, watchers: vec![id] };
                self.groups.insert(at, group);
                measure(&mut self.groups);
            }
        }
    }

    fn remove(&mut self, key: &[u8], end: &[u8], id: WatcherId) {
        let Ok(at) = self.place(key, &End::of(end)) else { return };
        self.groups[at].watchers.retain(|other| *other != id);
        if self.groups[at].watchers.is_empty() {
            self.groups.remove(at);
            measure(&mut self.groups);
        }
    }

    /// Calls `tell` for every watcher whose range holds `key`.
    fn of(&self, key: &[u8], tell: &mut impl FnMut(WatcherId)) {
        stab(&self.groups, key, tell);
    }
}

fn stab(groups: &[Group], key: &[u8], tell: &mut impl FnMut(WatcherId)) {
    let middle = groups.len() / 2;
    let Some(group) = groups.get(middle) else { return };
    if !group.farthest.is_past(key) {
        return;
    }
    stab(&groups[..middle], key, tell);
    if &*group.from <= key {
        if group.to.is_past(key) {
            group.watchers.iter().copied().for_each(&mut *tell);
        }
        stab(&groups[middle + 1..], key, tell);
    }
}

/// Renews `farthest` everywhere.
fn measure(groups: &mut [Group]) -> Option<&End> {
    let middle = groups.len() / 2;
    let (left, rest) = groups.split_at_mut(middle);
    let (group, right) = rest.split_first_mut()?;
    let farthest = [measure(left), measure(right)].into_iter().flatten().chain([&group.to]).max();
    group.farthest = farthest.expect("its own end is one of them").clone();
    Some(&group.farthest)
}
