//! Lengths of time as people write them: `30s`, `5m`, `1h30m`, `2 days`.
//!
//! Used by the configuration and by options such as `--for`; campaign files count waits in hours instead.
//! To add a unit: a row in `UNITS`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names of a unit and its milliseconds, the longest unit first.
const UNITS: &[(&[&str], u64)] = &[
    (&["d", "day", "days"], 86_400_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["m", "min", "minute", "minutes"], 60_000),
    (&["s", "sec", "second", "seconds"], 1_000),
    (&["ms"], 1),
];

/// A length of time in whole milliseconds; written and read as text with units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub(crate) Duration);

impl Period {
    /// Whole seconds.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// A text that is no length of time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time (hint: a number and a unit, e.g. 30s, 5m, 1h30m, 2d)")]
pub(crate) struct ParsePeriodError(String);

impl FromStr for Period {
    type Err = ParsePeriodError;

    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        let wrong = || ParsePeriodError(text.chars().take(32).collect());
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = rest[digits..].trim_start();
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = UNITS.iter().find(|(names, _)| names.contains(&&rest[..letters])).ok_or_else(wrong)?.1;
            total = number.checked_mul(unit).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
            rest = rest[letters..].trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

/// In the largest unit that keeps it whole.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = UNITS.iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
        match fits {
            Some((names, unit)) => write!(f, "{}{}", ms / unit, names[0]),
            None => f.write_str("0s"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_there_and_back() {
        for (text, ms, shown) in [
            ("30s", 30_000, "30s"),
            ("1h30m", 5_400_000, "90m"),
            ("2 days", 172_800_000, "2d"),
            ("250ms", 250, "250ms"),
            ("1 h 5 s", 3_605_000, "3605s"),
            ("0s", 0, "0s"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.0.as_millis(), ms, "{text}");
            assert_eq!(period.to_string(), shown);
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
        for text in ["", "5", "m", "5 parsecs", "-5m", "1.5h", "99999999999999999999d", "9999999999999999d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
