//! What such a disk holds: what is to be seen now, and what would survive.

use super::super::Standing;
use super::{Fate, Strike};
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The first is the root.
    pub(super) nodes: Vec<Node>,
    pub(super) operations: u64,
    /// When which strike comes, and which operation it was.
    pub(super) strike: Option<(u64, Strike)>,
    pub(super) struck: Option<String>,
    pub(super) stopped: bool,
    /// Syncs are promises only.
    pub(super) lies: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Contents),
    Folder(Names),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) now: Vec<u8>,
    /// What survives.
    pub(super) synced: Vec<u8>,
    pub(super) dirty: bool,
    /// A sync has failed: the next succeeds, and nothing survives.
    pub(super) lost: bool,
    pub(super) modified: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) now: BTreeMap<String, usize>,
    /// Of every name that changed since the last sync: what it was then, and since.
    pub(super) unsynced: BTreeMap<String, Vec<Option<usize>>>,
}

impl Names {
    pub(super) fn set(&mut self, name: &str, node: Option<usize>) {
        let before = match node {
            Some(node) => self.now.insert(name.to_owned(), node),
            None => self.now.remove(name),
        };
        self.unsynced.entry(name.to_owned()).or_insert_with(|| vec![before]).push(node);
    }
}

impl Default for State {
    fn default() -> State {
        let nodes = vec![Node::Folder(Names::default())];
        State { nodes, operations: 0, strike: None, struck: None, stopped: false, lies: false }
    }
}

impl Contents {
    pub(super) fn lose_power(&mut self, fate: Fate, dice: &mut Dice) {
        if mem::take(&mut self.dirty) {
            self.now = match fate {
                Fate::Lost => self.synced.clone(),
                Fate::Kept => mem::take(&mut self.now),
                Fate::Torn(_) => {
                    let mut torn = mem::take(&mut self.now);
                    match dice.below(4) {
                        0 => torn = self.synced.clone(),
                        1 => torn.truncate(dice.below(torn.len() + 1)),
                        // The length has come through, and some of the sectors have not.
                        2 => torn.chunks_mut(512).filter(|_| dice.below(2) == 0).for_each(|s| s.fill(0)),
                        _ => {}
                    }
                    torn
                }
            };
        }
        self.lost = false;
        self.synced.clone_from(&self.now);
    }
}

impl Names {
    pub(super) fn lose_power(&mut self, fate: Fate, dice: &mut Dice) {
        for (name, states) in mem::take(&mut self.unsynced) {
            let survivor = match fate {
                Fate::Lost => 0,
                Fate::Kept => states.len() - 1,
                Fate::Torn(_) => dice.below(states.len()),
            };
            match states[survivor] {
                Some(node) => drop(self.now.insert(name, node)),
                None => drop(self.now.remove(&name)),
            }
        }
    }
}

/// Numbers that depend on the seed alone (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// What becomes of an operation.
pub(super) enum Course {
    Happens,
    /// It does not happen, or of a write half.
    Not(io::Error),
    /// It happens, but its caller is told this.
    Untold(io::Error),
}

pub(super) fn errno(errno: rustix::io::Errno) -> io::Error {
    errno.into()
}

impl State {
    pub(super) fn operation(&mut self, verb: &str, path: &Path, makes: bool) -> Course {
        if self.stopped {
            return Course::Not(io::Error::other("the process has ended"));
        }
        self.operations += 1;
        let Some((at, strike)) = self.strike else { return Course::Happens };
        let due = self.operations >= at && (makes || strike != Strike::NoSpace);
        if !due {
            return Course::Happens;
        }
        self.strike = None;
        self.struck = Some(format!("{strike:?} at {verb} {}", path.display()));
        match strike {
            Strike::Fail => Course::Not(errno(rustix::io::Errno::IO)),
            Strike::FailAfter => Course::Untold(errno(rustix::io::Errno::IO)),
            Strike::NoSpace => Course::Not(errno(rustix::io::Errno::NOSPC)),
            Strike::Stop => {
                self.stopped = true;
                Course::Not(io::Error::other("the process ends here"))
            }
        }
    }

    /// An operation on names, which happens as a whole or not at all.
    pub(super) fn change(
        &mut self,
        (verb, path, makes): (&str, &Path, bool),
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.operation(verb, path, makes) {
            Course::Happens => change(self),
            Course::Not(error) => Err(error),
            Course::Untold(error) => change(self).and(Err(error)),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let names = self.folder(at)?;
                    let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                    at = *names.now.get(name).ok_or(io::ErrorKind::NotFound)?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        Ok(at)
    }

    pub(super) fn folder(&self, node: usize) -> io::Result<&Names> {
        match &self.nodes[node] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&mut self, node: usize) -> io::Result<&mut Contents> {
        match &mut self.nodes[node] {
            Node::File(contents) => Ok(contents),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The folder of a path, and the name in it.
    pub(super) fn place<'a>(&mut self, path: &'a Path) -> io::Result<(&mut Names, &'a str)> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        let node = self.find(folder)?;
        match &mut self.nodes[node] {
            Node::Folder(names) => Ok((names, name)),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn add(&mut self, path: &Path, node: usize) -> io::Result<()> {
        let (names, name) = self.place(path)?;
        if names.now.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.set(name, Some(node));
        Ok(())
    }

    pub(super) fn add_new(&mut self, path: &Path, node: Node) -> io::Result<()> {
        self.add(path, self.nodes.len())?;
        self.nodes.push(node);
        Ok(())
    }

    pub(super) fn take(&mut self, path: &Path) -> io::Result<()> {
        let (names, name) = self.place(path)?;
        if !names.now.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        names.set(name, None);
        Ok(())
    }

    pub(super) fn standing(&self, node: usize) -> Standing {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        match &self.nodes[node] {
            Node::File(file) => {
                Standing { folder: false, size: file.now.len() as u64, modified: at(file.modified) }
            }
            Node::Folder(_) => Standing { folder: true, size: 0, modified: at(0) },
        }
    }
}
