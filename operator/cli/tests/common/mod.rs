//! The executable, run as a person would run it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// `vr` with these arguments.
pub(crate) fn vr<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vr"));
    // For `vr s3-server`; the embedded one has keys of its own.
    command.env("AWS_ACCESS_KEY_ID", "vr").env("AWS_SECRET_ACCESS_KEY", "only-on-this-machine");
    command.args(arguments);
    command
}

/// Runs to the end; what was said on stderr is shown if the test fails.
#[allow(dead_code, reason = "not every test waits for the end")]
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().expect("vr starts");
    std::io::stderr().write_all(&output.stderr).expect("shown");
    output
}

/// The command line that begins so among what the operator writes into pods: from the file that its own tests compare with
/// what it makes.
#[allow(dead_code, reason = "not every test is about pods")]
pub(crate) fn operators_command(begins: [&str; 3]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/testdata/objects");
    let text =
        std::fs::read_to_string(folder.join("vrcluster-complete.yaml")).expect("the operator's objects");
    let objects = text.split("---\n").map(|object| serde_yaml::from_str::<Value>(object).expect("YAML"));
    objects
        .filter_map(|object| object["spec"]["containers"][0]["command"].as_array().cloned())
        .map(|words| words.iter().map(|word| word.as_str().expect("text").to_owned()).collect::<Vec<_>>())
        .find(|words| words[..3] == begins)
        .expect("the operator makes such a pod")
}

/// Some hundred small files, one of them in a directory below.
#[allow(dead_code, reason = "not every test loads something")]
pub(crate) fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("below")).expect("made");
    for number in 0..300u32 {
        let contents: Vec<u8> = (0..number * 13 % 4_000).map(|n| (n * number % 251) as u8).collect();
        let name = if number == 7 { "below/7".to_owned() } else { number.to_string() };
        std::fs::write(root.join(name), contents).expect("written");
    }
}
