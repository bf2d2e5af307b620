//! Amounts of memory as Kubernetes writes them, in bytes.

use vr_api::MemorySize;

/// It is no amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoQuantity(pub String);

impl std::fmt::Display for NoQuantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` is no amount of memory: write a number and Ki, Mi, Gi, Ti, Pi, k, M, G, T or P, like 16Gi",
            self.0
        )
    }
}

impl std::error::Error for NoQuantity {}

const UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

/// How many bytes that is; what is left of a byte is left out.
///
/// # Errors
/// When it is none, or more than there can be.
pub fn bytes(size: &MemorySize) -> Result<u64, NoQuantity> {
    let text = size.text();
    let wrong = || NoQuantity(text.clone());
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = fraction.parse().map_err(|_| wrong())?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
    let part = u64::try_from(u128::from(part) * u128::from(factor) / scale).map_err(|_| wrong())?;
    whole.checked_mul(factor).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("16Gi", Some(16 << 30)),
            ("1.5Ki", Some(1536)),
            ("2k", Some(2000)),
            ("0.001k", Some(1)),
            ("16 GB", None),
            ("Gi", None),
            ("1.", None),
            ("-1", None),
            ("99999999Pi", None),
        ] {
            assert_eq!(bytes(&text.into()).ok(), expected, "{text}");
        }
        assert_eq!(bytes(&MemorySize(7.into())), Ok(7));
    }
}
