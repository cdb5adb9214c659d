//! Public holidays of countries: the rules of `holidays.toml`, and the days that they make.
//!
//! The table is data and says how to add a country. Not responsible for a campaign's own dates without mail
//! (`campaign`), or for what a holiday does to a window (`schedule::Window`). To add a kind of rule: a key of `Holiday`,
//! its arithmetic in `Holiday::days_in`, and a word about it in the table's header.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::ToSpan as _;
use jiff::civil;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schedule::{Date, DayName};

/// The years whose holidays are known: nothing is planned before, and after them nobody knows the law.
const YEARS: std::ops::RangeInclusive<i16> = 2020..=2099;

/// A country whose public holidays are known; read and written as its ISO 3166-1 alpha-2 code.
#[derive(Clone, Copy)]
pub struct Country {
    code: &'static str,
    entry: &'static Entry,
}

/// A code that names no country of the table.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no country whose holidays are known (hint: one of {known})", known = known())]
pub struct UnknownCountry(String);

fn known() -> String {
    COUNTRIES.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    holidays: BTreeMap<String, Holiday>,
    /// What the rules make, made once: a planner asks for every lead.
    #[serde(skip)]
    days: BTreeSet<Date>,
}

/// A rule; the header of the table explains each key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Holiday {
    date: Option<String>,
    first: Option<DayName>,
    from: Option<String>,
    easter: Option<i32>,
    #[serde(default)]
    since: i16,
    #[serde(default = "no_end")]
    until: i16,
    every: Option<i16>,
    #[serde(default)]
    moved: BTreeMap<DayName, i32>,
    #[serde(default)]
    observed: BTreeMap<DayName, i32>,
}

fn no_end() -> i16 {
    i16::MAX
}

static COUNTRIES: LazyLock<BTreeMap<String, Entry>> = LazyLock::new(|| {
    let mut table: BTreeMap<String, Entry> = toml::from_str(include_str!("holidays.toml"))
        .expect("holidays.toml is part of the program, and a test reads it");
    for entry in table.values_mut() {
        entry.days = days_of(&entry.holidays);
    }
    table
});

fn days_of(rules: &BTreeMap<String, Holiday>) -> BTreeSet<Date> {
    // One of the year after may be observed in the last days of a year.
    let years = *YEARS.start()..=YEARS.end() + 1;
    let days = years.flat_map(|year| rules.values().flat_map(move |rule| rule.days_in(year)));
    days.filter(|day| YEARS.contains(&day.year())).map(Date::from_civil).collect()
}

impl Country {
    /// All countries, by their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        COUNTRIES.iter().map(|(code, entry)| Self { code, entry })
    }

    /// ISO 3166-1 alpha-2.
    pub fn code(self) -> &'static str {
        self.code
    }

    /// Its English name.
    pub fn name(self) -> &'static str {
        &self.entry.name
    }

    /// Whether `day` is a public holiday in the whole country. None is known before 2020 or after 2099.
    pub fn is_holiday(self, day: Date) -> bool {
        self.entry.days.contains(&day)
    }
}

impl Holiday {
    /// The holiday of `year` and the day on which it is observed too; nothing in a year without it.
    fn days_in(&self, year: i16) -> impl Iterator<Item = civil::Date> + use<> {
        let day = if self.holds_in(year) { self.day_in(year) } else { None };
        let day = day.and_then(|day| shifted(day, self.shift(&self.moved, day)));
        let observed = day.and_then(|day| shifted(day, self.shift(&self.observed, day)));
        [day, observed].into_iter().flatten()
    }

    fn holds_in(&self, year: i16) -> bool {
        (self.since..=self.until).contains(&year) && self.every.is_none_or(|every| (year - self.since) % every == 0)
    }

    fn day_in(&self, year: i16) -> Option<civil::Date> {
        let of_year = |text: &str| format!("{year}-{text}").parse::<civil::Date>().ok();
        if let Some(date) = &self.date {
            return of_year(date);
        }
        if let Some(days) = self.easter {
            return shifted(easter_sunday(year)?, days);
        }
        let mut week = of_year(self.from.as_ref()?)?.series(1.day()).take(7);
        week.find(|day| Some(DayName::of(day.weekday())) == self.first)
    }

    fn shift(&self, by_weekday: &BTreeMap<DayName, i32>, day: civil::Date) -> i32 {
        by_weekday.get(&DayName::of(day.weekday())).copied().unwrap_or(0)
    }
}

fn shifted(day: civil::Date, days: i32) -> Option<civil::Date> {
    day.checked_add(days.days()).ok()
}

/// Western Easter Sunday in the Gregorian calendar, by the algorithm of Meeus, Jones and Butcher ("Astronomical
/// Algorithms", chapter 8).
fn easter_sunday(year: i16) -> Option<civil::Date> {
    let year = i32::from(year);
    let (golden, century, in_century) = (year % 19, year / 100, year % 100);
    let lunar_correction = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * golden + century - century / 4 - lunar_correction + 15) % 30;
    let to_sunday = (32 + 2 * (century % 4) + 2 * (in_century / 4) - epact - in_century % 4) % 7;
    let correction = (golden + 11 * epact + 22 * to_sunday) / 451;
    let since_march = epact + to_sunday - 7 * correction + 114;
    let part = |n: i32| i8::try_from(n).ok();
    civil::Date::new(i16::try_from(year).ok()?, part(since_march / 31)?, part(since_march % 31 + 1)?).ok()
}

impl FromStr for Country {
    type Err = UnknownCountry;
    fn from_str(code: &str) -> Result<Self, UnknownCountry> {
        let found = COUNTRIES.get_key_value(&code.to_ascii_uppercase());
        let (code, entry) = found.ok_or_else(|| UnknownCountry(code.chars().take(32).collect()))?;
        Ok(Self { code, entry })
    }
}

impl PartialEq for Country {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Country {}

impl PartialOrd for Country {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Country {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.code.cmp(other.code)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

/// One code or a list of them, as people write `holiday_country`.
///
/// # Errors
/// A code that the table does not hold, or something that is no code.
pub(crate) fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Country>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a country code or a list of them (hint: holiday_country = \"ES\")")]
    enum Codes {
        One(String),
        Several(Vec<String>),
    }
    let codes = match Codes::deserialize(deserializer)? {
        Codes::One(code) => vec![code],
        Codes::Several(codes) => codes,
    };
    codes.iter().map(|code| code.parse().map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests;
