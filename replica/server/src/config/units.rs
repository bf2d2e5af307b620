//! Lengths of time as people write them: `500ms`, `10s`, `10m`, `24h`, `7d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| millis);
        match (number.parse::<u64>(), millis) {
            (Ok(number), Some(millis)) => number
                .checked_mul(*millis)
                .map(|ms| Span(Duration::from_millis(ms)))
                .ok_or_else(|| format!("`{text}` is too long a time")),
            _ => Err(format!(
                "`{text}` is not a length of time: write a number and ms, s, m, h or d, like 10s"
            )),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (name, unit) =
            UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(*unit)).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", millis / unit)
    }
}

impl<'de> serde::Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["1ms", "999ms", "1s", "90s", "10m", "36h", "7d"] {
            assert_eq!(text.parse::<Span>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("60s".parse::<Span>().map(|s| s.0), Ok(Duration::from_secs(60)));
    }

    #[test]
    fn refuses_what_has_no_unit_or_number() {
        for text in
            ["", "s", "10", "10 s", "-1s", "1.5h", "10y", "99999999999999999999s", "99999999999999999d"]
        {
            let error = text.parse::<Span>().expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
