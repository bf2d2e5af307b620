//! Every rule of `docs/protocol.md` is kept somewhere, watched by something, and has a mutant that breaks it.
//!
//! Kept: a line of the product names it (`//= R4`). Watched: an oracle of the simulator or a test names it (`R4`, in a
//! comment or a name's documentation). Broken: `replica/core/src/mutants.rs` lists a mutant for it. What is missing must be
//! in [`MISSING`] with the reason, and what is there must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a rule can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    /// A line of the product.
    Line,
    /// An oracle or a test.
    Watch,
    /// A mutant.
    Mutant,
}
use Proof::{Line, Mutant, Watch};

/// What is not there, and why that is right or what it waits for.
const MISSING: &[(u32, Proof, &str)] = &[];

#[test]
fn no_rule_stands_on_paper_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let rules = rules(&read(&root.join("docs/protocol.md")));
    assert!(rules.len() >= 20, "docs/protocol.md names {} rules only", rules.len());

    let mut found: BTreeMap<u32, BTreeSet<Proof>> = BTreeMap::new();
    for file in sources(&root) {
        let text = read(&file);
        let watches =
            file.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "oracle")));
        for line in text.lines().map(str::trim) {
            if let Some(rule) = line.strip_prefix("//= ").and_then(number) {
                found.entry(rule).or_default().insert(Line);
            }
            if watches && line.starts_with("//") {
                for rule in line.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(number) {
                    found.entry(rule).or_default().insert(Watch);
                }
            }
        }
        if file.ends_with("core/src/mutants.rs") {
            for rule in text.split('"').filter_map(number) {
                found.entry(rule).or_default().insert(Mutant);
            }
        }
    }

    let mut faults = Vec::new();
    for rule in &rules {
        for proof in [Line, Watch, Mutant] {
            let has = found.get(rule).is_some_and(|proofs| proofs.contains(&proof));
            let excused = MISSING.iter().any(|(r, p, _)| (r, p) == (rule, &proof));
            match (has, excused) {
                (false, false) => faults.push(format!("R{rule} has no {proof:?}")),
                (true, true) => faults.push(format!("R{rule} has a {proof:?}: take it off the list")),
                _ => {}
            }
        }
    }
    faults.extend(
        found.keys().filter(|r| !rules.contains(r)).map(|r| format!("R{r} is cited and not described")),
    );
    assert!(faults.is_empty(), "{faults:#?}");
}

/// `R7` is 7; anything else is no rule.
fn number(word: &str) -> Option<u32> {
    word.strip_prefix('R')?.parse().ok().filter(|&rule| rule > 0)
}

/// The rules that the document describes: paragraphs that begin `**R7. `.
fn rules(document: &str) -> BTreeSet<u32> {
    let described = |line: &str| number(line.strip_prefix("**")?.split_once('.')?.0);
    document.lines().filter_map(described).collect()
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.join("replica"), root.join("operator")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("sim/tests/rules.rs") {
                files.push(path);
            }
        }
    }
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
