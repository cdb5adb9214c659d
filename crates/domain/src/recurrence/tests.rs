//! Occurrences over ends of months and changes of the clocks; properties over random ones.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const fn endless(every: Repeat) -> Recurrence {
    Recurrence { every, until: None, count: None }
}

fn until(every: Repeat, day: &str) -> Recurrence {
    Recurrence { until: Some(day.parse().unwrap()), ..endless(every) }
}

/// The first occurrences, each asked for after the one before.
fn occurrences(first: &str, zone: &str, recurrence: &Recurrence, most: usize) -> Vec<String> {
    let zone: Zone = zone.parse().unwrap();
    let first = at(first);
    let start = next_occurrence(first, recurrence, &zone, first - DAY);
    let all = std::iter::successors(start, |last| next_occurrence(first, recurrence, &zone, *last));
    all.take(most).map(|at| zone.local(at)).collect()
}

#[test]
fn the_31st_is_the_last_day_of_a_shorter_month_and_does_not_drift() {
    let monthly = endless(Repeat::Monthly);
    let found = occurrences("2027-12-31T09:00:00Z", "UTC", &monthly, 6);
    let days: Vec<&str> = found.iter().map(|at| &at[..10]).collect();
    assert_eq!(days, ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]);
}

#[test]
fn the_local_time_stays_when_the_clocks_change() {
    let found = occurrences("2026-03-23T09:00:00+01:00", "Europe/Madrid", &endless(Repeat::Weekly), 3);
    assert_eq!(found, ["2026-03-23T09:00:00+01:00", "2026-03-30T09:00:00+02:00", "2026-04-06T09:00:00+02:00"]);
}

#[test]
fn a_time_in_a_gap_moves_to_its_end_and_a_doubled_one_is_the_first() {
    let daily = endless(Repeat::Daily);
    let spring = occurrences("2026-03-28T02:30:00+01:00", "Europe/Madrid", &daily, 3);
    assert_eq!(spring, ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]);
    let autumn = occurrences("2026-10-24T02:30:00+02:00", "Europe/Madrid", &daily, 3);
    assert_eq!(autumn, ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
    // Half an hour on Lord Howe: 4 October 2026, 02:00 becomes 02:30.
    let lord_howe = occurrences("2026-10-03T02:10:00+10:30", "Australia/Lord_Howe", &daily, 3);
    assert_eq!(lord_howe, ["2026-10-03T02:10:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-05T02:10:00+11:00"]);
    // 30 December 2011 did not happen in Samoa: its midnight is that of the 31st, which comes once.
    let samoa = occurrences("2011-12-29T00:00:00-10:00", "Pacific/Apia", &daily, 3);
    assert_eq!(samoa, ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"]);
}

#[test]
fn the_second_of_two_equal_local_times_can_be_the_first_occurrence() {
    let daily = Recurrence { count: Some(2), ..endless(Repeat::Daily) };
    let found = occurrences("2026-10-25T02:30:00+01:00", "Europe/Madrid", &daily, 9);
    assert_eq!(found, ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]);
}

#[test]
fn it_ends_with_its_count_or_behind_its_last_day() {
    let thrice = Recurrence { count: Some(3), ..endless(Repeat::Monthly) };
    assert_eq!(occurrences("2026-01-31T09:00:00Z", "UTC", &thrice, 9).len(), 3);
    // The last day is meant in local time: it is the 3rd in Auckland, and still the 2nd in UTC.
    let third = until(Repeat::Daily, "2026-06-03");
    let found = occurrences("2026-06-01T09:00:00+12:00", "Pacific/Auckland", &third, 9);
    assert_eq!(found.last().unwrap(), "2026-06-03T09:00:00+12:00");
    let over = until(Repeat::Daily, "2026-05-31");
    assert!(occurrences("2026-06-01T09:00:00Z", "UTC", &over, 9).is_empty());
}

#[test]
fn at_the_end_of_time_nothing_comes() {
    let daily = endless(Repeat::Daily);
    assert_eq!(next_occurrence(at("2026-01-01T00:00:00Z"), &daily, &Zone::UTC, Timestamp::MAX), None);
}

fn any_recurrence() -> impl Strategy<Value = Recurrence> {
    prop::sample::select(vec![Repeat::Daily, Repeat::Weekly, Repeat::Monthly]).prop_map(endless)
}

fn any_zone() -> impl Strategy<Value = Zone> {
    let names = ["UTC", "Europe/Madrid", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca"];
    prop::sample::select(names.to_vec()).prop_map(|name| name.parse().unwrap())
}

proptest! {
    #[test]
    fn the_next_one_is_the_first_behind_of_all_that_are_counted_one_by_one(
        recurrence in any_recurrence(),
        zone in any_zone(),
        first in 946_684_800_i64..1_900_000_000,
        after in -90_000_000_i64..400_000_000,
    ) {
        let (start, after) = (Timestamp::from_unix_seconds(first), Timestamp::from_unix_seconds(first + after));
        let found = next_occurrence(start, &recurrence, &zone, after).unwrap();
        prop_assert!(found > after);
        let date = local(&zone, start);
        let expected = (0..).find_map(|number| {
            let at = if number == 0 {
                start
            } else {
                instant_of(&zone, recurrence.day_of(date.date(), number).unwrap().to_datetime(date.time()))
            };
            (at > after).then_some(at)
        });
        prop_assert_eq!(Some(found), expected);
    }

    #[test]
    fn the_local_time_is_kept_but_in_gaps_and_the_day_of_the_month_but_in_short_months(
        recurrence in any_recurrence(),
        zone in any_zone(),
        first in 946_684_800_i64..1_900_000_000,
        after in 0_i64..400_000_000,
    ) {
        let start = Timestamp::from_unix_seconds(first);
        let found = next_occurrence(start, &recurrence, &zone, start + Duration::from_secs(after.unsigned_abs())).unwrap();
        let (begun, comes) = (local(&zone, start), local(&zone, found));
        // An hour and a half: no gap of these zones is longer.
        let late = comes.time().duration_since(begun.time()).as_secs();
        prop_assert!(late == 0 || (0..=5400).contains(&late.rem_euclid(86_400)), "{begun} {comes}");
        match recurrence.every {
            Repeat::Weekly => prop_assert_eq!(begun.weekday(), comes.weekday()),
            Repeat::Monthly if late == 0 => {
                prop_assert_eq!(comes.day(), begun.day().min(comes.date().last_of_month().day()));
            }
            Repeat::Daily | Repeat::Monthly => {}
        }
    }
}
