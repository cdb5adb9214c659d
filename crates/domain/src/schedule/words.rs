//! Days of the week, times of day and dates, as people write them in files and JSON.
//!
//! Not responsible for zones. To add a spelling: the `FromStr` of its type.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{self, Weekday};
use serde::de::Error as _;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ScheduleError;

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A set of days of the week; a list of `mon` … `sun` in files, English names on input too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DaySet(u8);

impl DaySet {
    /// All seven.
    pub const ALL: Self = Self(0x7f);

    /// Whether no day is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// `mon` to `sun`, those that are in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(i, _)| self.0 & (1 << i) != 0).map(|(_, name)| name)
    }

    pub(super) fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << DayName::of(day).0) != 0
    }
}

impl<S: AsRef<str>> TryFrom<&[S]> for DaySet {
    type Error = ScheduleError;
    fn try_from(names: &[S]) -> Result<Self, ScheduleError> {
        let mut set = 0;
        for name in names {
            set |= 1 << name.as_ref().parse::<DayName>()?.0;
        }
        Ok(Self(set))
    }
}

/// A day of the week by its name; days since Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct DayName(usize);

impl DayName {
    pub(crate) fn of(day: Weekday) -> Self {
        Self(usize::from(day.to_monday_zero_offset().unsigned_abs()))
    }
}

impl FromStr for DayName {
    type Err = ScheduleError;
    fn from_str(name: &str) -> Result<Self, ScheduleError> {
        let lower = name.to_lowercase();
        let index = NAMES.iter().position(|n| *n == lower).or(LONG_NAMES.iter().position(|n| *n == lower));
        index.map(Self).ok_or_else(|| ScheduleError::Day(name.chars().take(32).collect()))
    }
}

impl TryFrom<String> for DayName {
    type Error = ScheduleError;
    fn try_from(name: String) -> Result<Self, ScheduleError> {
        name.parse()
    }
}

impl fmt::Debug for DaySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Serialize for DaySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for name in self.names() {
            list.serialize_element(name)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for DaySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::try_from(names.as_slice()).map_err(D::Error::custom)
    }
}

/// A time of day to the second, `00:00` to `24:00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(u32);

impl LocalTime {
    /// `00:00`.
    pub const MIDNIGHT: Self = Self(0);
    /// `24:00`: the end of the day.
    pub const END_OF_DAY: Self = Self(86_400);

    /// None for `24:00`, which is the next day's midnight.
    pub(super) fn civil(self) -> Option<civil::Time> {
        let part = |n: u32| i8::try_from(n).ok();
        civil::Time::new(part(self.0 / 3600)?, part(self.0 / 60 % 60)?, part(self.0 % 60)?, 0).ok()
    }
}

impl FromStr for LocalTime {
    type Err = ScheduleError;
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = || ScheduleError::Time(text.chars().take(32).collect());
        let mut parts = text.trim().split(':').map(|part| {
            let good = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            if good { part.parse::<u32>().map_err(|_| wrong()) } else { Err(wrong()) }
        });
        let (hours, minutes) = (parts.next().ok_or_else(wrong)??, parts.next().ok_or_else(wrong)??);
        let seconds = parts.next().transpose()?.unwrap_or(0);
        let total = hours * 3600 + minutes * 60 + seconds;
        if parts.next().is_some() || minutes > 59 || seconds > 59 || total > 86_400 {
            return Err(wrong());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 3600, self.0 / 60 % 60)?;
        if self.0.is_multiple_of(60) { Ok(()) } else { write!(f, ":{:02}", self.0 % 60) }
    }
}

impl fmt::Debug for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A calendar date, `YYYY-MM-DD`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(civil::Date);

impl Date {
    pub(crate) fn from_civil(date: civil::Date) -> Self {
        Self(date)
    }
}

impl FromStr for Date {
    type Err = ScheduleError;
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = || ScheduleError::Date(text.chars().take(32).collect());
        if text.len() != 10 {
            return Err(wrong());
        }
        text.parse().map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> { serializer.collect_str(self) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
as_text! { LocalTime Date }
