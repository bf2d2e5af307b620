//! Durations and sizes as people type them.

use std::time::Duration;

/// Reads `250ms`, `10s`, `2m`, `1h`, or a sum like `1m30s`. A number alone is refused: nobody can tell its unit.
///
/// # Errors
/// A text for people that says what was expected.
pub fn duration(typed: &str) -> Result<Duration, String> {
    let refused =
        || format!("{typed:?} is not a duration: give a number and a unit, for example 500ms, 10s, 2m or 1h");
    let mut total = Duration::ZERO;
    let mut rest = typed;
    if rest.is_empty() {
        return Err(refused());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refused())?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refused()),
        };
        rest = &rest[unit_end..];
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(refused)?;
        total = total.checked_add(part).ok_or_else(refused)?;
    }
    Ok(total)
}

/// As [`duration`], and longer than nothing.
///
/// # Errors
/// A text for people that says what was expected.
pub fn positive_duration(typed: &str) -> Result<Duration, String> {
    match duration(typed)? {
        Duration::ZERO => Err(format!("{typed:?}: must be longer than nothing")),
        some => Ok(some),
    }
}

/// Reads a number of bytes: `256`, `4KiB`, `1MiB`, `1GiB`.
///
/// # Errors
/// A text for people that says what was expected.
pub fn size(typed: &str) -> Result<usize, String> {
    let refused = || format!("{typed:?} is not a size: give bytes, or a number with KiB, MiB or GiB");
    let digits = typed.find(|c: char| !c.is_ascii_digit()).unwrap_or(typed.len());
    let number: usize = typed[..digits].parse().map_err(|_| refused())?;
    let unit = match &typed[digits..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(refused()),
    };
    number.checked_mul(unit).ok_or_else(refused)
}

/// A number of bytes with the unit that reads best.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    for (unit, name) in [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            return format!("{:.1} {name}", bytes as f64 / unit as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "10", "s", "1.5s", "-1s", "10 s", "1d", "99999999999999999999s", "s10"] {
            assert!(duration(wrong).expect_err(wrong).contains("500ms"), "{wrong}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("256"), Ok(256));
        assert_eq!(size("4KiB"), Ok(4_096));
        for wrong in ["", "4k", "KiB", "1.5MiB", "-1", "99999999999999999999GiB"] {
            assert!(size(wrong).expect_err(wrong).contains("MiB"), "{wrong}");
        }
        assert_eq!(show_bytes(1_536), "1.5 KiB");
        assert_eq!(show_bytes(7), "7 B");
    }
}
