//! The corpus as it is, and the corpus changed.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use vr_fuzz::{Dice, Target, Verdict, mutate, targets};

/// Changed inputs per target where nobody says otherwise.
const ROUNDS: u64 = 20_000;

fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    files
        .map(|file| {
            let path: PathBuf = file.expect("the folder can be listed").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect()
}

#[test]
fn what_was_valid_stays_valid_and_what_was_not_stays_refused() {
    for target in targets() {
        let inputs = corpus(&target);
        assert!(inputs.keys().any(|name| name.starts_with("valid-")), "{}: no valid input", target.name);
        for (name, bytes) in inputs {
            let expected = match name.split_once('-') {
                Some(("valid", _)) => Verdict::Accepted,
                Some(("bad", _)) => Verdict::Refused,
                _ => panic!("corpus/{}/{name}: a name begins with `valid-` or `bad-`", target.name),
            };
            assert_eq!((target.decode)(&bytes), expected, "corpus/{}/{name}", target.name);
        }
    }
}

#[test]
fn nothing_that_nobody_wrote_does_harm() {
    let (rounds, seed) = (setting("VR_FUZZ_ROUNDS", ROUNDS), setting("VR_SEED", 0));
    for (number, target) in targets().into_iter().enumerate() {
        let inputs: Vec<Vec<u8>> = corpus(&target).into_values().collect();
        let mut dice = Dice::new(seed ^ (number as u64) << 56);
        let mut accepted = 0;
        for round in 0..rounds {
            let (mut input, other) = (inputs[dice.below(inputs.len())].clone(), dice.below(inputs.len()));
            mutate(&mut dice, &mut input, &inputs[other]);
            if dice.below(2) == 0 {
                (target.seal)(&mut input);
            }
            match catch_unwind(AssertUnwindSafe(|| (target.decode)(&input))) {
                Ok(verdict) => accepted += u64::from(verdict == Verdict::Accepted),
                Err(_) => panic!(
                    "{}, round {round} of seed {seed}: the panic above came from this input, which belongs into \
                     corpus/{} as `bad-…` or `valid-…`:\n{}",
                    target.name,
                    target.name,
                    hex(&input)
                ),
            }
        }
        println!("{:20} {rounds} inputs, {accepted} accepted", target.name);
    }
}

#[allow(clippy::disallowed_methods, reason = "how long and from where is said by whoever runs the test")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
