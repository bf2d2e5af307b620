//! `vr checkpoint restore --to FILE`: the keys and values of a recovery point, as JSON Lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use vr_replica::export::Contents;

use super::Search;
use crate::recovery_point::{self, Found};

pub(super) async fn export(search: &Search, to: &Path) -> anyhow::Result<()> {
    let (sources, _, inventory) = search.inventory().await?;
    for finding in &inventory.findings {
        if let Some(problem) = &finding.problem {
            eprintln!("warning: {}: {problem}", finding.source);
        }
    }
    let Found { loaded, table, passed_over, .. } =
        recovery_point::find(&inventory, &sources, &search.target.target()).await?;
    eprintln!("{}", recovery_point::show(&table));
    passed_over.iter().for_each(|reason| eprintln!("warning: {reason}"));
    let contents = Contents::open(loaded)?;
    let failed = || format!("cannot write {}", to.display());
    let file = File::options().write(true).create_new(true).open(to).with_context(failed)?;
    let mut out = BufWriter::new(file);
    let count = contents.for_each(|key, value| {
        serde_json::to_writer(&mut out, &Line { key: Text(key), value: Text(value) })?;
        out.write_all(b"\n")
    })?;
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .with_context(failed)?;
    eprintln!(
        "{count} keys at op {} (revision {}) written to {}",
        contents.op(),
        contents.revision(),
        to.display()
    );
    Ok(())
}

#[derive(Serialize)]
struct Line<'a> {
    key: Text<'a>,
    value: Text<'a>,
}

/// Bytes as JSON: a string where they are one.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &base64_simd::STANDARD.encode_to_string(self.0))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_written_as_such() {
        let line = Line { key: Text(b"k"), value: Text(b"\xff\x00") };
        let json = serde_json::to_string(&line).expect("JSON");
        assert_eq!(json, r#"{"key":"k","value":{"base64":"/wA="}}"#);
    }
}
