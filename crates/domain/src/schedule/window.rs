//! Sending windows: on which days and between which local times mail may leave.
//!
//! Not responsible for what a local time means around a change of the clocks (`super::instant_of`). An opening is the span
//! of time that one `Hours` makes of one day; openings that overlap or touch are one for whoever asks.
//! To add a rule about days without mail: `opens_on`; a rule about times: a field of `Hours`.

use std::collections::BTreeSet;

use jiff::civil;
use serde::{Deserialize, Serialize};

use super::{Date, DaySet, LocalTime, ScheduleError, instant, local_date};
use crate::holidays::Country;
use crate::time::{Timestamp, Zone};

/// How far ahead an opening or the end of one is looked for.
const SEARCH_DAYS: usize = 400;

/// From when to when mail may leave on some days; hours that end earlier than they start run over midnight and belong to
/// the day they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hours {
    /// Days on which they start; default all.
    pub days: DaySet,
    /// When they start; default `00:00`.
    pub start: LocalTime,
    /// When they end; default `24:00`. The closing moment is outside.
    pub end: LocalTime,
}

impl Default for Hours {
    fn default() -> Self {
        Self { days: DaySet::ALL, start: LocalTime::MIDNIGHT, end: LocalTime::END_OF_DAY }
    }
}

impl Hours {
    /// Whether they can be used.
    ///
    /// # Errors
    /// No days, an end that is the start, or a start at the end of the day.
    pub fn check(&self) -> Result<(), ScheduleError> {
        if self.days.is_empty() {
            return Err(ScheduleError::NoDays);
        }
        if self.start == self.end {
            return Err(ScheduleError::Empty(self.start));
        }
        if self.start == LocalTime::END_OF_DAY {
            return Err(ScheduleError::OpensAtEnd);
        }
        Ok(())
    }
}

/// When mail may leave: hours and holidays in one zone. Half open: a closing moment is outside.
#[derive(Clone, Debug)]
pub struct Window {
    zone: Zone,
    /// By their start: as the instant of a local time never falls when the time rises, openings come in order of time.
    hours: Vec<Hours>,
    holidays: BTreeSet<Date>,
    countries: Vec<Country>,
}

impl Window {
    /// Most hours that a window may have: each of them is asked about each day.
    pub const MOST_HOURS: usize = 50;

    /// A window that is open whenever one of its hours is.
    ///
    /// # Errors
    /// Hours that cannot be used, none at all, or more than 50.
    pub fn new(
        zone: Zone,
        hours: impl IntoIterator<Item = Hours>,
        holidays: impl IntoIterator<Item = Date>,
    ) -> Result<Self, ScheduleError> {
        let mut hours: Vec<Hours> = hours.into_iter().collect();
        if hours.is_empty() {
            return Err(ScheduleError::NoDays);
        }
        if hours.len() > Self::MOST_HOURS {
            return Err(ScheduleError::TooMany(hours.len()));
        }
        hours.iter().try_for_each(Hours::check)?;
        hours.sort_unstable_by_key(|hours| hours.start);
        Ok(Self { zone, hours, holidays: holidays.into_iter().collect(), countries: Vec::new() })
    }

    /// The window without the public holidays of these countries.
    #[must_use]
    pub fn closed_on_holidays_of(self, countries: impl IntoIterator<Item = Country>) -> Self {
        Self { countries: countries.into_iter().collect(), ..self }
    }

    /// A window that never closes.
    pub fn always(zone: Zone) -> Self {
        Self { zone, hours: vec![Hours::default()], holidays: BTreeSet::new(), countries: Vec::new() }
    }

    /// Whether mail may leave at `at`.
    pub fn is_open(&self, at: Timestamp) -> bool {
        let today = local_date(&self.zone, at);
        // Yesterday's opening may run over midnight; tomorrow's has begun where clocks were set back over midnight.
        let days = [today.yesterday().ok(), Some(today), today.tomorrow().ok()];
        days.into_iter().flatten().flat_map(|day| self.openings(day)).any(|(opens, closes)| opens <= at && at < closes)
    }

    /// When the opening that holds `at` ends, with all that overlap or touch it; none where the window is closed then.
    /// One that ends later than in 400 days is said to end about then.
    pub fn open_until(&self, at: Timestamp) -> Option<Timestamp> {
        let today = local_date(&self.zone, at);
        let mut until = at;
        for (opens, closes) in self.openings_from(today.yesterday().unwrap_or(today)) {
            if opens > until {
                break;
            }
            until = until.max(closes);
        }
        (until > at).then_some(until)
    }

    /// `at` itself where the window is open, else its next opening; none within 400 days.
    pub fn next_open(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_open(at) {
            return Some(at);
        }
        let mut openings = self.openings_from(local_date(&self.zone, at));
        // Hours that lie in a gap open and close at its end.
        openings.find(|(opens, closes)| *opens >= at && opens < closes).map(|(opens, _)| opens)
    }

    fn opens_on(&self, day: civil::Date) -> bool {
        let day = Date::from_civil(day);
        !self.holidays.contains(&day) && !self.countries.iter().any(|country| country.is_holiday(day))
    }

    /// The openings of `first` and of the days after it, in order of time.
    fn openings_from(&self, first: civil::Date) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
        days.take(SEARCH_DAYS + 1).flat_map(|day| self.openings(day))
    }

    /// What opens on `day`, in order of time.
    fn openings(&self, day: civil::Date) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let hours = if self.opens_on(day) { self.hours.as_slice() } else { &[] };
        let weekday = day.weekday();
        hours.iter().filter(move |hours| hours.days.contains(weekday)).filter_map(move |hours| {
            let closing_day = if hours.end < hours.start { day.tomorrow().ok()? } else { day };
            Some((instant(&self.zone, day, hours.start), instant(&self.zone, closing_day, hours.end)))
        })
    }
}

#[cfg(test)]
mod tests;
