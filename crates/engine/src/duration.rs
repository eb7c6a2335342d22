//! Durations as people write them: `500ms`, `30s`, `1m30s`; `0` and `none` for no deadline.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Deserializes a deadline; `None` is no deadline.
pub(crate) fn deadline<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "invalid duration {text:?}, expected one such as \"30s\", \"500ms\" or \"1m30s\", \
             or \"none\" for no deadline"
        ))
    })
}

/// The outer `None` is text that is no duration.
fn parse(text: &str) -> Option<Option<Duration>> {
    if text == "none" || text == "0" {
        return Some(None);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some((!sum.is_zero()).then_some(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse(text),
                Some(Some(Duration::from_millis(millis))),
                "{text}"
            );
        }
    }

    #[test]
    fn zero_and_none_are_no_deadline() {
        for text in ["0", "0s", "none"] {
            assert_eq!(parse(text), Some(None), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_duration() {
        for text in [
            "",
            "30",
            "s",
            "30 s",
            "-1s",
            "1.5s",
            "30x",
            "18446744073709551616s",
            "18446744073709551615h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
