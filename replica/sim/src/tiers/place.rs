//! Where a tier's objects are: the disk of a replica, or the bucket that all of them share.

use crate::rng::Rng;
use std::path::Path;
use std::sync::Arc;
use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::files::{Fate, Files, VolatileDisk};
use vr_checkpoint::store::{DirStore, MemStore, ObjectStore, StoreError};

/// Where the lineage stands on a disk.
const DIR: &str = "/tiers/lineage";

/// What holds the bytes.
#[derive(Clone)]
pub(super) enum Medium {
    Disk(VolatileDisk),
    Bucket(Arc<MemStore>),
}

/// What somebody was told to be durable there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Of which generation the rest is.
    pub(super) generation: u64,
    pub(super) checkpoint: Option<u64>,
    /// How far a restore from here alone reaches.
    pub(super) log: u64,
    /// Of any generation.
    pub(super) reserved: i64,
}

/// One tier.
pub(super) struct Place {
    pub(super) kind: TierKind,
    /// Whose disk it is; none for the bucket.
    pub(super) replica: Option<u64>,
    pub(super) medium: Medium,
    pub(super) told: Told,
    /// Nothing here was damaged without a word.
    pub(super) whole: bool,
    /// An object was damaged, and not only HEAD.
    pub(super) harmed: bool,
    /// An object was damaged at some time.
    pub(super) scarred: bool,
    /// HEAD went back, and whoever writes has yet to notice.
    pub(super) went_back: bool,
    /// What is called durable here may be lost with the power.
    pub(super) lies: bool,
    /// Somebody has made a HEAD here.
    pub(super) begun: bool,
}

impl Place {
    fn new(kind: TierKind, replica: Option<u64>, medium: Medium) -> Place {
        Place {
            kind,
            replica,
            medium,
            told: Told::default(),
            whole: true,
            harmed: false,
            scarred: false,
            went_back: false,
            lies: false,
            begun: false,
        }
    }

    pub(super) fn disk(kind: TierKind, replica: u64) -> Place {
        Place::new(kind, Some(replica), Medium::Disk(VolatileDisk::new()))
    }

    pub(super) fn bucket() -> Place {
        Place::new(TierKind::ObjectStore, None, Medium::Bucket(Arc::new(MemStore::new())))
    }

    pub(super) fn name(&self) -> String {
        match (self.replica, self.kind) {
            (Some(replica), TierKind::Nvme) => format!("nvme of {replica}"),
            (Some(replica), _) => format!("volume of {replica}"),
            (None, _) => "the bucket".to_owned(),
        }
    }

    /// To read what stands there, whoever writes.
    pub(super) fn reader(&self) -> Arc<dyn ObjectStore> {
        match &self.medium {
            Medium::Disk(disk) => Arc::new(DirStore::read_only_on(Arc::new(disk.clone()), Path::new(DIR))),
            Medium::Bucket(bucket) => bucket.clone(),
        }
    }

    /// The same as somewhere to restore from.
    pub(super) fn source(&self) -> Source {
        Source { name: self.name(), tier: self.kind, store: self.reader() }
    }

    /// The power goes, and comes back.
    pub(super) fn lose_power(&mut self, fate: Fate) {
        if let Medium::Disk(disk) = &self.medium {
            disk.lose_power(fate);
            disk.lie(false);
            self.lies = false;
        }
    }

    /// Somebody will find nothing here.
    pub(super) fn vanish(&mut self) {
        *self = Place { replica: self.replica, ..Place::disk(self.kind, 0) };
    }

    /// An object is damaged without a word. Which one is told by when it was made, since names are random.
    pub(super) async fn damage(&mut self, damage: Damage, rng: &mut Rng) -> bool {
        let store = self.reader();
        let mut objects = store.list("").await.expect("reading goes well");
        objects.retain(|object| object.key.starts_with("g/"));
        objects.sort_by_key(|object| object.modified);
        if objects.is_empty() {
            return false;
        }
        let key = objects[rng.index(objects.len())].key.clone();
        let other = objects[rng.index(objects.len())].key.clone();
        let get = async |key: &str| store.get(key).await.expect("reading goes well").expect("it is listed");
        let mut body = get(&key).await.to_vec();
        let at = rng.index(body.len().max(1));
        match damage {
            Damage::BitFlip if body.is_empty() => {}
            Damage::BitFlip => body[at] ^= 1 << rng.below(8),
            Damage::Short => body.truncate(at),
            Damage::Misdirected => body = get(&other).await.to_vec(),
            Damage::Lost => {}
        }
        let kept = damage != Damage::Lost;
        match &self.medium {
            Medium::Bucket(bucket) if kept => drop(bucket.replace(&key, body.into()).await),
            Medium::Bucket(bucket) => drop(bucket.delete(&key).await),
            Medium::Disk(disk) => overwrite(disk, &key, kept.then_some(&body)).expect("nothing is planned"),
        }
        (self.whole, self.harmed, self.scarred) = (false, true, true);
        true
    }

    /// One of the two HEADs of a disk rots; whether there was one.
    pub(super) fn rot_head(&mut self, rng: &mut Rng) -> bool {
        let Medium::Disk(disk) = &self.medium else { return false };
        let name = rng.pick(&["HEAD.0", "HEAD.1"]);
        let Ok(mut body) = disk.read(&Path::new(DIR).join(name)) else { return false };
        if body.is_empty() {
            return false;
        }
        let at = rng.index(body.len());
        body[at] ^= 1 << rng.below(8);
        overwrite(disk, name, Some(&body)).expect("nothing is planned");
        (self.whole, self.went_back) = (false, true);
        true
    }
}

/// Objects that are damaged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    BitFlip,
    Short,
    Misdirected,
    Lost,
}

/// Puts other contents below a name, durably.
fn overwrite(disk: &VolatileDisk, name: &str, body: Option<&[u8]>) -> std::io::Result<()> {
    let path = Path::new(DIR).join(name);
    disk.remove(&path)?;
    if let Some(body) = body {
        let mut file = disk.create(&path, 0)?;
        file.write(body)?;
        file.sync()?;
    }
    disk.sync_folder(path.parent().expect("it stands below the directory"))
}

/// Opens a medium for writing.
pub(super) fn open(medium: &Medium) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(match medium {
        Medium::Disk(disk) => Arc::new(DirStore::open_on(Arc::new(disk.clone()), Path::new(DIR))?),
        Medium::Bucket(bucket) => bucket.clone(),
    })
}
