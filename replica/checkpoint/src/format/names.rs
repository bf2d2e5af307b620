//! Where everything stands below a lineage's root; the same in a directory and in a bucket.
//!
//! The generation is in every name, so that a cluster of the past cannot overwrite a restored one even by accident.

use ulid::Ulid;

/// Kinds of packs, which are fetched at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Inner pages.
    Tree,
    /// Leaves.
    Data,
}

/// The names of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Which.
    pub generation: u64,
}

impl Names {
    /// Everything of this generation begins so.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("g/{:016x}/", self.generation)
    }

    /// A manifest: `g/<generation>/ckpt/<op>-<root>.json`.
    #[must_use]
    pub fn manifest(self, op: u64, root: &[u8; 32]) -> String {
        format!("{}ckpt/{op:016x}-{}.json", self.prefix(), super::hex(&root[..8]))
    }

    /// The name of a checkpoint in its manifest's key: `<op>-<root>`.
    #[must_use]
    pub fn checkpoint(manifest: &str) -> &str {
        let file = manifest.rsplit('/').next().unwrap_or(manifest);
        file.strip_suffix(".json").unwrap_or(file)
    }

    /// The index of one upload.
    #[must_use]
    pub fn index(self, upload: Ulid) -> String {
        format!("{}idx/{upload}.idx", self.prefix())
    }

    /// The upload of a key of an index or a pack, and the number of a pack in it.
    #[must_use]
    pub fn upload(key: &str) -> Option<(Ulid, Option<u32>)> {
        let file = key.rsplit('/').next()?;
        if let Some(upload) = file.strip_suffix(".idx") {
            return Some((upload.parse().ok()?, None));
        }
        let (upload, number) = file.strip_suffix(".pk")?.split_once('-')?;
        Some((upload.parse().ok()?, Some(number.parse().ok()?)))
    }

    /// A pack of an upload. The two digits spread the packs over directories and key prefixes.
    #[must_use]
    pub fn pack(self, part: Part, upload: Ulid, number: u32) -> String {
        let part = match part {
            Part::Tree => "tree",
            Part::Data => "data",
        };
        let spread = blake3::hash(format!("{upload}-{number}").as_bytes()).as_bytes()[0];
        format!("{}{part}/{spread:02x}/{upload}-{number}.pk", self.prefix())
    }

    /// Segments of the committed log begin so.
    #[must_use]
    pub fn segments(self) -> String {
        format!("{}log/", self.prefix())
    }

    /// A segment with the ops `first..=last`.
    #[must_use]
    pub fn segment(self, first: u64, last: u64) -> String {
        format!("{}{first:016x}-{last:016x}.seg", self.segments())
    }

    /// First and last op of a segment by its name.
    #[must_use]
    pub fn segment_range(self, key: &str) -> Option<(u64, u64)> {
        let (first, last) = key.strip_prefix(&self.segments())?.strip_suffix(".seg")?.split_once('-')?;
        Some((u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?))
    }

    /// A plan of a collection.
    #[must_use]
    pub fn plan(self, plan: Ulid) -> String {
        format!("{}gc/{plan}.json", self.prefix())
    }

    /// Whether a key is that of a plan of a collection.
    #[must_use]
    pub fn is_plan(key: &str) -> bool {
        Names::of(key)
            .is_some_and(|names| key.strip_prefix(&names.prefix()).is_some_and(|key| key.starts_with("gc/")))
    }

    /// The generation of any name below `g/`.
    #[must_use]
    pub fn of(key: &str) -> Option<Names> {
        let generation = key.strip_prefix("g/")?.split('/').next()?;
        Some(Names { generation: u64::from_str_radix(generation, 16).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let names = Names { generation: 2 };
        let upload = Ulid::from_parts(1, 2);
        assert_eq!(
            names.manifest(255, &[0xab; 32]),
            "g/0000000000000002/ckpt/00000000000000ff-abababababababab.json"
        );
        assert_eq!(names.index(upload), "g/0000000000000002/idx/00000000010000000000000002.idx");
        assert!(names.pack(Part::Tree, upload, 3).starts_with("g/0000000000000002/tree/"));
        assert!(names.pack(Part::Data, upload, 3).ends_with("/00000000010000000000000002-3.pk"));
        assert_eq!(Names::upload(&names.index(upload)), Some((upload, None)));
        assert_eq!(Names::upload(&names.pack(Part::Tree, upload, 3)), Some((upload, Some(3))));
        assert_eq!(Names::upload(&names.segment(1, 16)), None);
        assert_eq!(names.segment(1, 16), "g/0000000000000002/log/0000000000000001-0000000000000010.seg");
        assert_eq!(names.segment_range(&names.segment(1, 16)), Some((1, 16)));
        assert_eq!(names.segment_range("g/0000000000000002/log/x.seg"), None);
        assert_eq!(Names::of(&names.segment(1, 16)), Some(names));
        let plan = names.plan(upload);
        assert_eq!(plan, "g/0000000000000002/gc/00000000010000000000000002.json");
        assert!(Names::is_plan(&plan) && !Names::is_plan(&names.index(upload)) && !Names::is_plan("gc/x"));
    }
}
