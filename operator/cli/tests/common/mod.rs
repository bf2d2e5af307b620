//! The executable, run as a person would run it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// `vr` with these arguments.
pub(crate) fn vr<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vr"));
    // For `vr s3-server`; the embedded one has keys of its own.
    command.env("AWS_ACCESS_KEY_ID", "vr").env("AWS_SECRET_ACCESS_KEY", "only-on-this-machine");
    command.args(arguments);
    command
}

/// Runs to the end; what was said on stderr is shown if the test fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().expect("vr starts");
    std::io::stderr().write_all(&output.stderr).expect("shown");
    output
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
