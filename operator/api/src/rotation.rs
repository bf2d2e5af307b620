//! How another authority is asked for, and where it is noted how far that is: annotations, because both are about one change
//! and not about what a cluster is.
//!
//! Not here: when the next step is taken. That is the controller's.

/// On a VRCluster: asks for another authority, and says how long both are trusted before the new one signs ([`settle`]).
pub const ROTATE_AUTHORITY: &str = "vr-operator.io/rotate-authority";
/// On the Secret of the authority: how far the change of it is ([`ROTATION_BESIDE`] or [`ROTATION_SIGNS`]); absent if none
/// goes on.
pub const ROTATION: &str = "vr-operator.io/rotation";
/// Both are trusted, and the new one does not sign before the time that follows.
pub const ROTATION_BESIDE: &str = "Beside until ";
/// The new one signs, and both are trusted.
pub const ROTATION_SIGNS: &str = "Signs";
/// The longest time that may be asked for: an authority must not end meanwhile.
const LONGEST: i64 = 30 * 24 * 3600;

/// The Secret of a cluster's own authority: what signs, and in `ca.crt` what is trusted.
#[must_use]
pub fn authority_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// Seconds of a time that is asked for: a whole number and a unit.
///
/// # Errors
/// It is none, or too long.
pub fn settle(text: &str) -> Result<i64, String> {
    let refused = || format!("{text:?} is no time from 0s to 30d: give for example 10m or 24h");
    seconds(text.trim()).filter(|length| *length <= LONGEST).ok_or_else(refused)
}

fn seconds(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let number: i64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_whole_number_and_a_unit() {
        for (text, length) in [("0s", 0), ("90s", 90), ("10m", 600), ("24h", 86_400), (" 30d ", LONGEST)] {
            assert_eq!(settle(text), Ok(length), "{text}");
        }
        for text in ["", "now", "10", "m", "-1h", "1.5h", "31d", "99999999999999999999d", "10 m", "ü"] {
            let why = settle(text).expect_err(text);
            assert!(why.contains("give for example 10m or 24h"), "{why}");
        }
    }
}
