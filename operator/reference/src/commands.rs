//! Every command with its arguments, as clap knows them.

use crate::table::{code, table};
use clap::{Arg, Command};

pub(crate) fn page() -> String {
    let mut text = "# Commands\n\nMade of the code by a test. Every command has `--help`; what may be given to `vr-replica serve` is in \
                    [configuration.md](configuration.md).\n"
        .to_owned();
    for mut program in [vr::command(), vr::kubectl::command(), vr_operator::run::command()] {
        program.build();
        let name = program.get_bin_name().unwrap_or(program.get_name()).to_owned();
        section(&name, &program, 2, &mut text);
    }
    text
}

fn section(name: &str, command: &Command, level: usize, text: &mut String) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    *text += &format!("\n{} {name}\n\n{}\n", "#".repeat(level.min(4)), about.trim());
    let arguments: Vec<_> = command.get_arguments().filter(|argument| shown(argument)).map(row).collect();
    if !arguments.is_empty() {
        *text += &format!("\n{}", table(["Argument", "Value", "Default", "Meaning"], &arguments));
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        section(&format!("{name} {}", below.get_name()), below, level + 1, text);
    }
}

fn shown(argument: &Arg) -> bool {
    !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
}

fn row(argument: &Arg) -> [String; 4] {
    let takes = argument.get_action().takes_values();
    let value = if takes { values(argument) } else { String::new() };
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}`"),
        (None, Some(long)) => format!("`--{long}`"),
        (Some(short), None) => format!("`-{short}`"),
        (None, None) => format!("`{}`", argument.get_id().as_str().to_ascii_uppercase()),
    };
    // Of a flag without a value it would be false.
    let defaults = argument.get_default_values().iter().filter(|_| takes);
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    [name, value, code(&defaults.join(",")), help]
}

/// What may be given: one of few words, or what its name says.
fn values(argument: &Arg) -> String {
    let words: Vec<_> = argument.get_possible_values();
    let words: Vec<_> =
        words.iter().filter(|word| !word.is_hide_set()).map(|word| code(word.get_name())).collect();
    if !words.is_empty() {
        return words.join(", ");
    }
    argument.get_value_names().unwrap_or_default().iter().map(|name| code(name)).collect::<Vec<_>>().join(" ")
}
