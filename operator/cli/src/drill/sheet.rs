//! A record of a drill as a page for people: Markdown, or HTML that needs nothing else.

use std::fmt::Write as _;

use vr_evidence::chain::Found;

/// What is on the page.
pub(super) struct Sheet {
    title: String,
    facts: Vec<(&'static str, String)>,
    tables: Vec<Table>,
}

struct Table {
    title: &'static str,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    /// Of a record.
    pub(super) fn of(found: &Found) -> Sheet {
        let (record, drill) = (&found.record, &found.record.drill);
        let report = &drill.report;
        let mut facts = vec![
            ("Result", format!("{:?}", report.result)),
            ("Scenario", drill.scenario.clone()),
            ("Cluster", format!("{}/{}", drill.namespace, drill.cluster)),
            ("Drill", format!("{} (UID {})", drill.drill, drill.uid)),
            ("Finished", drill.finished_at.clone()),
            ("Lineage", drill.lineage.clone()),
        ];
        let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        fact("Reason", report.reason.clone());
        fact("Recovery time", report.rto_seconds.map(|s| format!("{s:.2} s to the first served write")));
        let lost = |ops: u64| format!("{ops} operations of {:.2} s would have been lost", report.rpo_seconds);
        fact("Recovery point", report.rpo_ops.map(lost));
        let from = report.restored_from.as_ref();
        fact("Restored from", from.map(|f| format!("{}, generation {}, op {}", f.tier, f.generation, f.op)));
        fact("Root expected", report.expected_root.clone());
        fact("Root found", from.map(|f| f.root.clone()));
        fact("Record", Some(format!("{}, BLAKE3 {}", found.key, found.digest)));
        fact(
            "Follows",
            Some(record.previous.clone().unwrap_or_else(|| "nothing: it is the first".to_owned())),
        );
        fact("Signed by key", Some(found.key_id.clone()));
        let checks = report.checks.iter().map(|check| {
            let verdict = if check.passed { "passed" } else { "FAILED" };
            vec![check.name.clone(), verdict.to_owned(), check.detail.clone()]
        });
        let phases = report.phases.iter().map(|phase| vec![phase.name.clone(), phase.millis.to_string()]);
        let candidates = report.candidates.iter().map(|candidate| {
            vec![
                candidate.source.clone(),
                candidate.op.to_string(),
                candidate.time.clone().unwrap_or_default(),
                candidate.remark.clone().unwrap_or_default(),
            ]
        });
        Sheet {
            title: format!("Drill {} of {}: {:?}", record.sequence, drill.cluster, report.result),
            facts,
            tables: vec![
                Table { title: "Checks", header: vec!["Check", "", "Found"], rows: checks.collect() },
                Table { title: "Phases", header: vec!["Phase", "Milliseconds"], rows: phases.collect() },
                Table {
                    title: "What there was to restore from",
                    header: vec!["Source", "Reaches op", "Time", "Verdict"],
                    rows: candidates.collect(),
                },
            ],
        }
    }

    pub(super) fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ");
        let mut page = format!("# {}\n\n| | |\n|---|---|\n", cell(&self.title));
        for (name, value) in &self.facts {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "| {name} | {} |", cell(value));
        }
        for table in self.tables.iter().filter(|table| !table.rows.is_empty()) {
            let rule = "|---".repeat(table.header.len());
            let _ = write!(page, "\n## {}\n\n| {} |\n{rule}|\n", table.title, table.header.join(" | "));
            for row in &table.rows {
                let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
                let _ = writeln!(page, "| {} |", cells.join(" | "));
            }
        }
        page.trim_end().to_owned()
    }

    pub(super) fn html(&self) -> String {
        let text = |text: &str| {
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
        };
        let row = |tag: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", text(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\nbody {{ font: \
             15px/1.5 sans-serif; margin: 2em auto; max-width: 60em; }}\ntable {{ border-collapse: collapse; }}\nth, td \
             {{ border: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top; overflow-wrap: \
             anywhere; }}\n</style>\n<h1>{title}</h1>\n<table>\n",
            title = text(&self.title)
        );
        for (name, value) in &self.facts {
            let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", text(value));
        }
        page.push_str("</table>\n");
        for table in self.tables.iter().filter(|table| !table.rows.is_empty()) {
            let header: Vec<String> = table.header.iter().map(|&name| name.to_owned()).collect();
            let rows: String = table.rows.iter().map(|cells| row("td", cells)).collect();
            let _ = write!(page, "<h2>{}</h2>\n<table>\n{}{rows}</table>\n", table.title, row("th", &header));
        }
        page.push_str("</html>");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        Sheet {
            title: "Drill 1 of prod: Failed".to_owned(),
            facts: vec![("Reason", "a|b\n<c>".to_owned())],
            tables: vec![
                Table {
                    title: "Checks",
                    header: vec!["Check", ""],
                    rows: vec![vec!["canary".to_owned(), "FAILED".to_owned()]],
                },
                Table { title: "Phases", header: vec!["Phase"], rows: Vec::new() },
            ],
        }
    }

    #[test]
    fn what_would_break_a_page_is_written_otherwise() {
        let expected = "# Drill 1 of prod: Failed\n\n| | |\n|---|---|\n| Reason | a\\|b <c> |\n\n## Checks\n\n| Check |  |\n\
                        |---|---|\n| canary | FAILED |";
        assert_eq!(sheet().markdown(), expected);
        let html = sheet().html();
        assert!(html.contains("<tr><th>Reason</th><td>a|b\n&lt;c&gt;</td></tr>"), "{html}");
        assert!(
            html.contains("<tr><td>canary</td><td>FAILED</td></tr>") && !html.contains("Phases"),
            "{html}"
        );
    }
}
