//! When something that comes back comes next: every day, week or month at the same local time.
//!
//! Each occurrence is counted from the first one, so that none drifts: what began on the 31st comes on the last day of a
//! shorter month and on the 31st again. A local time that the clocks leave out or repeat is `schedule`'s rule. Not
//! responsible for what happens then. To add a rhythm: a variant of `Repeat` and its arms here.

use jiff::{Span, civil};

use crate::campaign::Repeat;
use crate::schedule::{Date, instant_of, local};
use crate::time::{Timestamp, Zone};

/// How something comes back, and when it does so for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// How often.
    pub every: Repeat,
    /// The last local day on which it may come; none = without end.
    pub until: Option<Date>,
    /// How many times it comes, the first one included; none = without end.
    pub count: Option<u32>,
}

impl Recurrence {
    /// The local day of the occurrence of this number; the first is number 0. None behind the end of time.
    fn day_of(&self, first: civil::Date, number: i64) -> Option<civil::Date> {
        let span = match self.every {
            Repeat::Daily => Span::new().try_days(number),
            Repeat::Weekly => Span::new().try_weeks(number),
            Repeat::Monthly => Span::new().try_months(number),
        };
        first.checked_add(span.ok()?).ok()
    }

    /// Where to look from for the occurrences at `day`: a number close to theirs and surely not above it.
    fn number_before(&self, first: civil::Date, day: civil::Date) -> i64 {
        let days = first.until(day).map_or(0, |span| i64::from(span.get_days()));
        let longest = match self.every {
            Repeat::Daily => 1,
            Repeat::Weekly => 7,
            Repeat::Monthly => 31,
        };
        // One less: where clocks change, an occurrence can lie on the day after its own.
        (days / longest - 1).max(0)
    }
}

/// The first occurrence after `after`, in local time of `zone`; none where there is no more. `first` is the first one.
///
/// A local time that the clocks leave out moves to the end of the gap, one that comes twice means the first.
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
