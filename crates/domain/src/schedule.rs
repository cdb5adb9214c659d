//! Local time: the instants of its days and times, and the calendar arithmetic of waits, warm-up and days.
//!
//! Not responsible for who is due (`plan`) or for slots of accounts (`pace`); sending windows are `window`'s. All rules
//! about daylight saving live in `instant_of`: a local time that does not exist moves to the end of the gap, one that
//! exists twice means the first. To add a rule about days without mail: `Window::opens_on`.

mod window;
mod words;

use std::hash::Hasher;
use std::time::Duration;

use jiff::civil;
use jiff::tz::AmbiguousOffset;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::time::{Timestamp, Zone};
pub use window::{Hours, Window};
pub(crate) use words::DayName;
pub use words::{Date, DaySet, LocalTime};

/// Days or times that make no window, or a wait that is no time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No day of the week is left.
    #[error("no day to send on is left (hint: send_days = [\"mon\", \"tue\", …])")]
    NoDays,
    /// The window closes the moment it opens.
    #[error(
        "the window opens and closes at `{0}` (hint: 00:00 to 24:00 is the whole day; an earlier end runs over midnight)"
    )]
    Empty(LocalTime),
    /// A window cannot open at the end of a day.
    #[error("a window cannot open at `24:00` (hint: write 00:00 of the next day)")]
    OpensAtEnd,
    /// More windows than anybody can read.
    #[error("{0} windows are too many (hint: at most {most} a campaign)", most = Window::MOST_HOURS)]
    TooMany(usize),
    /// A list of windows beside the keys that make one.
    #[error("`windows` is given too, and it alone says when mail may leave (hint: leave `{0}` out)")]
    BesideWindows(&'static str),
    /// Not a day of the week.
    #[error("`{0}` is not a day of the week (hint: mon, tue, wed, thu, fri, sat, sun)")]
    Day(String),
    /// Not a time of day.
    #[error("`{0}` is not a time of day (hint: HH:MM from 00:00 to 24:00)")]
    Time(String),
    /// Not a date.
    #[error("`{0}` is not a date (hint: YYYY-MM-DD)")]
    Date(String),
    /// Not a wait.
    #[error("`{0}` is not a number of hours from 0 to 87600")]
    Wait(String),
    /// Stages that do not follow each other, or one that lets nothing through.
    #[error("warm-up stages must have rising last days and limits above 0 (hint: [[3, 10], [7, 25]])")]
    Warmup,
}

/// What clocks show at `at`.
pub(crate) fn local(zone: &Zone, at: Timestamp) -> civil::DateTime {
    zone.to_jiff().to_datetime(at.to_jiff())
}

fn local_date(zone: &Zone, at: Timestamp) -> civil::Date {
    local(zone, at).date()
}

/// The instant of a time of day.
fn instant(zone: &Zone, day: civil::Date, time: LocalTime) -> Timestamp {
    let (day, time) = match time.civil() {
        Some(time) => (day, time),
        None => (day.tomorrow().unwrap_or(day), civil::Time::midnight()),
    };
    instant_of(zone, day.to_datetime(time))
}

/// The instant of a local time: the end of the gap where it does not exist, the first where it exists twice.
pub(crate) fn instant_of(zone: &Zone, local: civil::DateTime) -> Timestamp {
    let zone = zone.to_jiff();
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let found = match ambiguous.offset() {
        AmbiguousOffset::Gap { after, .. } => {
            // Read with the offset after it, a time inside the gap lies right before the transition.
            let before = after.to_timestamp(local).ok();
            before.and_then(|before| zone.following(before).next().map(|transition| transition.timestamp()))
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.compatible().ok(),
    };
    found.map_or(Timestamp::MAX, Timestamp::from_jiff)
}

/// The start of the local day after the one of `at`; always later than `at`, `Timestamp::MAX` at the end of time.
pub fn next_day_start(zone: &Zone, at: Timestamp) -> Timestamp {
    let Ok(tomorrow) = local_date(zone, at).tomorrow() else {
        return Timestamp::MAX;
    };
    let start = instant(zone, tomorrow, LocalTime::MIDNIGHT);
    if start > at {
        return start;
    }
    // Clocks were set back over midnight: the day of `at` goes on, and tomorrow starts a second time.
    let again = zone.to_jiff().to_ambiguous_timestamp(tomorrow.to_datetime(civil::Time::midnight())).later();
    again.map_or(Timestamp::MAX, Timestamp::from_jiff)
}

/// Hours of elapsed time as a duration.
///
/// # Errors
/// Not a number, negative, or over ten years.
pub fn wait_hours(hours: f64) -> Result<Duration, ScheduleError> {
    if (0.0..=87_600.0).contains(&hours) {
        Ok(Duration::from_secs_f64(hours * 3600.0))
    } else {
        Err(ScheduleError::Wait(hours.to_string()))
    }
}

/// A spread in `0..bound`, the same for the same seed for ever: a forecast must equal what happens.
pub fn jitter(seed: &[uuid::Uuid], bound: Duration) -> Duration {
    let mut hasher = SipHasher24::new_with_keys(0x7065_6e67_7569_6e00, 0x6a69_7474_6572_0001);
    for id in seed {
        hasher.write(id.as_bytes());
    }
    let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    let scaled = (u128::from(hasher.finish()) * u128::from(bound)) >> 64;
    Duration::from_micros(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// How many messages a young account may send a day: the last day of each stage and its cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<(u32, u32)>", try_from = "Vec<(u32, u32)>")]
pub struct WarmupTable(Vec<(u32, u32)>);

impl From<WarmupTable> for Vec<(u32, u32)> {
    fn from(table: WarmupTable) -> Self {
        table.0
    }
}

impl TryFrom<Vec<(u32, u32)>> for WarmupTable {
    type Error = ScheduleError;
    fn try_from(stages: Vec<(u32, u32)>) -> Result<Self, ScheduleError> {
        let rises = stages.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let lets_through = stages.iter().all(|(last_day, cap)| *last_day > 0 && *cap > 0);
        if rises && lets_through { Ok(Self(stages)) } else { Err(ScheduleError::Warmup) }
    }
}

impl Default for WarmupTable {
    /// Days 1 to 3: 10; to 7: 25; to 14: 50; to 21: 100; then no cap.
    fn default() -> Self {
        Self(vec![(3, 10), (7, 25), (14, 50), (21, 100)])
    }
}

impl WarmupTable {
    /// The cap on the local day of `at`; day 1 is the local date of `started`. None = warmed up, or no stage fits.
    pub fn cap(&self, started: Timestamp, at: Timestamp, zone: &Zone) -> Option<u32> {
        let passed = local_date(zone, at).since(local_date(zone, started)).ok()?.get_days();
        let day = u32::try_from(passed.max(0)).ok()?.saturating_add(1);
        self.0.iter().find(|(last_day, _)| day <= *last_day).map(|(_, cap)| *cap)
    }
}

/// The least of the limits that are there.
pub fn effective_cap(daily_limit: Option<u32>, warmup: Option<u32>) -> Option<u32> {
    match (daily_limit, warmup) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
