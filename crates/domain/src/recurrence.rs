//! When something that comes back comes next: every so many days, weeks or months at the same local time.
//!
//! Each occurrence is counted from the first one, so that none drifts: what began on the 31st comes on the last day of a
//! shorter month and on the 31st again. A local time that the clocks leave out or repeat is `schedule`'s rule. Not
//! responsible for what happens then. To add a unit: a variant of `Every` and its arm in `day_of`.

use jiff::{Span, civil};
use serde::{Deserialize, Serialize};

use crate::schedule::{Date, instant_of, local};
use crate::time::{Timestamp, Zone};
use crate::words::words;

words! {
    /// The unit of a recurrence.
    Every, "unit of a recurrence", {
        /// Days.
        Day = "day",
        /// Weeks: the same day of the week.
        Week = "week",
        /// Months: the same day of the month, or the last one of a month that is too short.
        Month = "month",
    }
}

/// How something comes back, and when it does so for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrence {
    /// The unit.
    pub every: Every,
    /// So many units from one occurrence to the next, 1 to 1000; default 1.
    #[serde(default = "one")]
    pub interval: u32,
    /// The last local day on which it may come; default none.
    #[serde(default)]
    pub until: Option<Date>,
    /// How many times it comes, the first one included, at least 1; default without end.
    #[serde(default)]
    pub count: Option<u32>,
}

fn one() -> u32 {
    1
}

/// A recurrence that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecurrenceError {
    /// An interval out of range.
    #[error("interval `{0}` is out of range (hint: 1 to 1000; 1 is every time)")]
    Interval(u32),
    /// It would never come.
    #[error("count is 0, so it would never come (hint: 1 is once; leave it out for no end)")]
    Count,
}

const MOST_INTERVAL: u32 = 1000;

impl Recurrence {
    /// Whether it can be used.
    ///
    /// # Errors
    /// An interval or a count that is out of range.
    pub fn check(&self) -> Result<(), RecurrenceError> {
        if !(1..=MOST_INTERVAL).contains(&self.interval) {
            return Err(RecurrenceError::Interval(self.interval));
        }
        if self.count == Some(0) {
            return Err(RecurrenceError::Count);
        }
        Ok(())
    }

    /// The local day of the occurrence of this number; the first is number 0. None behind the end of time.
    fn day_of(&self, first: civil::Date, number: i64) -> Option<civil::Date> {
        let units = number.checked_mul(i64::from(self.interval.max(1)))?;
        let span = match self.every {
            Every::Day => Span::new().try_days(units),
            Every::Week => Span::new().try_weeks(units),
            Every::Month => Span::new().try_months(units),
        };
        first.checked_add(span.ok()?).ok()
    }

    /// Where to look from for the occurrences at `day`: a number close to theirs and surely not above it.
    fn number_before(&self, first: civil::Date, day: civil::Date) -> i64 {
        let days = first.until(day).map_or(0, |span| i64::from(span.get_days()));
        let longest = match self.every {
            Every::Day => 1,
            Every::Week => 7,
            Every::Month => 31,
        };
        // One less: where clocks change, an occurrence can lie on the day after its own.
        (days / longest / i64::from(self.interval.max(1)) - 1).max(0)
    }
}

/// The first occurrence after `after`, in local time of `zone`; none where there is no more. `first` is the first one.
///
/// A local time that the clocks leave out moves to the end of the gap, one that comes twice means the first. A recurrence
/// with no interval is taken for one with 1.
pub fn next_occurrence(first: Timestamp, recurrence: &Recurrence, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
    let start = local(zone, first);
    let is_over = |number: i64, day: civil::Date| {
        recurrence.count.is_some_and(|count| number >= i64::from(count))
            || recurrence.until.is_some_and(|until| Date::from_civil(day) > until)
    };
    let occurrence = |number: i64| {
        let day = recurrence.day_of(start.date(), number).filter(|day| !is_over(number, *day))?;
        // The first is given: its local time may be the second of two.
        Some(if number == 0 { first } else { instant_of(zone, day.to_datetime(start.time())) })
    };
    let from = recurrence.number_before(start.date(), local(zone, after).date());
    (from..).map_while(occurrence).find(|at| *at > after)
}

#[cfg(test)]
mod tests;
