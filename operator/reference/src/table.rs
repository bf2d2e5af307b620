//! Tables of Markdown.

/// A table. A column that every row leaves empty is left out.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let kept: Vec<usize> = (0..N).filter(|&at| rows.iter().any(|row| !row[at].is_empty())).collect();
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(kept.iter().map(|&at| head[at]).collect());
    text += &line(kept.iter().map(|_| "---").collect());
    for row in rows {
        let cells: Vec<String> =
            kept.iter().map(|&at| row[at].replace('|', "\\|").replace('\n', " ")).collect();
        text += &line(cells.iter().map(String::as_str).collect());
    }
    text
}

/// As code, or nothing.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_is_empty_is_left_out_and_bars_are_kept() {
        let rows = [["a".to_owned(), String::new(), "b|c".to_owned()]];
        assert_eq!(table(["X", "Y", "Z"], &rows), "| X | Z |\n| --- | --- |\n| a | b\\|c |\n");
    }
}
