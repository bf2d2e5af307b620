//! Data goes to stdout, everything else to stderr.

use std::io::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON object.
    Json,
}

/// How a page is printed that has more to show than a screen is wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// For people with a wide screen: every column.
    Wide,
    /// For programs: one JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Form {
    /// Prints `data`, or what `show` makes of it; its argument says whether that may be wide.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn print<D: std::fmt::Display>(
        self,
        data: &impl Serialize,
        show: impl FnOnce(bool) -> D,
    ) -> anyhow::Result<()> {
        match self {
            Form::Table => text(show(false)),
            Form::Wide => text(show(true)),
            Form::Json => json(data),
            Form::Yaml => text(serde_yaml::to_string(data)?.trim_end()),
        }
    }
}

/// Prints `data` as one line of JSON.
///
/// # Errors
/// When stdout is closed.
pub fn json(data: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, data)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Prints text to stdout.
///
/// # Errors
/// When stdout is closed.
pub fn text(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// A table without lines, columns apart by spaces: readable for people, and for `awk`.
#[must_use]
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if header.iter().any(|h| !h.is_empty()) {
        table.set_header(header);
    }
    table
}

/// A table without the spaces at the ends of its lines.
#[must_use]
pub fn trimmed(table: &Table) -> String {
    let lines = table.to_string();
    lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A moment, given in microseconds since the Unix epoch.
#[must_use]
pub fn time(micros: u64) -> String {
    let at = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.3}"))
}
