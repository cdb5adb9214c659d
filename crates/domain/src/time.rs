//! Points in time and zones, wrapped in one module so that the time library can be changed in one place.
//!
//! Never reads a clock: `now` is an argument everywhere in this crate.
//! To add a conversion: put it beside `from_micros`, and say its range.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in whole microseconds since 1970-01-01T00:00:00Z.
///
/// Microseconds because both databases keep exactly that. Range: years 1 to 9999; arithmetic saturates at its ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 0001-01-01T00:00:00Z in microseconds.
const MIN_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-30T22:00:00Z in microseconds: the last instant that has a local time in every zone.
const MAX_MICROS: i64 = 253_402_207_200_000_000;

impl Timestamp {
    /// The start of the Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The latest instant: used as "never".
    pub const MAX: Self = Self(MAX_MICROS);

    /// From microseconds since the epoch; values outside the range are moved to its nearest end.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < MIN_MICROS {
            Self(MIN_MICROS)
        } else if micros > MAX_MICROS {
            Self(MAX_MICROS)
        } else {
            Self(micros)
        }
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: the unit of a token's `exp`.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// From whole seconds since the epoch.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant as the time library knows it.
    pub(crate) fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).expect("the range of Timestamp lies inside jiff's")
    }

    /// From the time library's instant, cut to microseconds.
    pub(crate) fn from_jiff(at: jiff::Timestamp) -> Self {
        Self::from_micros(at.as_microsecond())
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC with as many digits of a second as needed, e.g. `2026-03-01T09:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an RFC 3339 time with an offset.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a time (hint: write RFC 3339 with an offset, e.g. 2026-03-01T09:00:00Z)")]
pub struct ParseTimeError(String);

impl std::str::FromStr for Timestamp {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::from_jiff).map_err(|_| ParseTimeError(text.chars().take(64).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// An IANA time zone, e.g. `Europe/Madrid`.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

/// A name that the IANA database does not hold.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a time zone (hint: use an IANA name such as Europe/Madrid or UTC)")]
pub struct UnknownZone(String);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The zone as the time library knows it.
    pub(crate) fn to_jiff(&self) -> &jiff::tz::TimeZone {
        &self.0
    }

    /// The local date at `at`, as `YYYY-MM-DD`: the key of an account's day.
    pub fn day(&self, at: Timestamp) -> String {
        at.to_jiff().to_zoned(self.0.clone()).date().to_string()
    }

    /// RFC 3339 with this zone's offset, e.g. `2026-03-01T10:00:00+01:00`.
    pub fn local(&self, at: Timestamp) -> String {
        at.to_jiff().to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// For people, to the minute, e.g. `Sun 2026-03-01 10:00 Europe/Madrid`.
    pub fn for_people(&self, at: Timestamp) -> String {
        format!("{} {}", at.to_jiff().to_zoned(self.0.clone()).strftime("%a %Y-%m-%d %H:%M"), self.name())
    }

    /// A `Date` header's value (RFC 5322 3.3), e.g. `Sun, 1 Mar 2026 10:00:00 +0100`.
    pub fn rfc5322(&self, at: Timestamp) -> String {
        at.to_jiff().to_zoned(self.0.clone()).strftime("%a, %-d %b %Y %H:%M:%S %z").to_string()
    }
}

impl std::str::FromStr for Zone {
    type Err = UnknownZone;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name == "UTC" {
            return Ok(Self::UTC);
        }
        jiff::tz::TimeZone::get(name).map(Self).map_err(|_| UnknownZone(name.chars().take(64).collect()))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp17_a_leap_second_is_the_second_before_it() {
        let [leap, before] = ["2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"].map(|t| t.parse::<Timestamp>().unwrap());
        assert_eq!(leap, before);
    }

    #[test]
    fn the_range_has_a_local_time_in_every_zone() {
        let zone: Zone = "Pacific/Kiritimati".parse().unwrap();
        assert_eq!(zone.day(Timestamp::from_micros(i64::MAX)), "9999-12-31");
        assert_eq!(Zone::UTC.day(Timestamp::from_micros(i64::MIN)), "0001-01-01");
    }

    #[test]
    fn texts_go_there_and_back() {
        let at: Timestamp = "2026-03-01T10:00:00.000001+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-03-01T09:00:00.000001Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        let madrid: Zone = "Europe/Madrid".parse().unwrap();
        assert_eq!(madrid.local(at), "2026-03-01T10:00:00+01:00");
        assert_eq!(madrid.for_people(at), "Sun 2026-03-01 10:00 Europe/Madrid");
        assert_eq!(madrid.rfc5322(at), "Sun, 1 Mar 2026 10:00:00 +0100");
        assert!("Europe/Nowhere".parse::<Zone>().is_err());
    }
}
