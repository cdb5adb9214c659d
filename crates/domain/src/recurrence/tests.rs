//! Occurrences over ends of months and changes of the clocks; properties over random ones.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn read(json: &str) -> Recurrence {
    serde_json::from_str(json).unwrap()
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
    let monthly = read(r#"{"every":"month"}"#);
    let found = occurrences("2027-12-31T09:00:00Z", "UTC", &monthly, 6);
    let days: Vec<&str> = found.iter().map(|at| &at[..10]).collect();
    assert_eq!(days, ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]);
}

#[test]
fn the_local_time_stays_when_the_clocks_change() {
    let weekly = read(r#"{"every":"week","interval":2}"#);
    let found = occurrences("2026-03-16T09:00:00+01:00", "Europe/Madrid", &weekly, 3);
    assert_eq!(found, ["2026-03-16T09:00:00+01:00", "2026-03-30T09:00:00+02:00", "2026-04-13T09:00:00+02:00"]);
}

#[test]
fn a_time_in_a_gap_moves_to_its_end_and_a_doubled_one_is_the_first() {
    let daily = read(r#"{"every":"day"}"#);
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
    let daily = read(r#"{"every":"day","count":2}"#);
    let found = occurrences("2026-10-25T02:30:00+01:00", "Europe/Madrid", &daily, 9);
    assert_eq!(found, ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]);
}

#[test]
fn it_ends_with_its_count_or_behind_its_last_day() {
    let thrice = read(r#"{"every":"month","interval":3,"count":3}"#);
    assert_eq!(occurrences("2026-01-31T09:00:00Z", "UTC", &thrice, 9).len(), 3);
    // The last day is meant in local time: it is the 3rd in Auckland, and still the 2nd in UTC.
    let until = read(r#"{"every":"day","until":"2026-06-03"}"#);
    let found = occurrences("2026-06-01T09:00:00+12:00", "Pacific/Auckland", &until, 9);
    assert_eq!(found.last().unwrap(), "2026-06-03T09:00:00+12:00");
    let over = read(r#"{"every":"day","until":"2026-05-31"}"#);
    assert!(occurrences("2026-06-01T09:00:00Z", "UTC", &over, 9).is_empty());
}

#[test]
fn at_the_end_of_time_nothing_comes() {
    let daily = read(r#"{"every":"day"}"#);
    assert_eq!(next_occurrence(at("2026-01-01T00:00:00Z"), &daily, &Zone::UTC, Timestamp::MAX), None);
}

#[test]
fn it_is_written_as_people_write_it_and_slips_are_refused() {
    let read_back = read(r#"{"every":"week","until":"2026-12-31"}"#);
    assert_eq!((read_back.interval, read_back.count), (1, None));
    assert_eq!(read(&serde_json::to_string(&read_back).unwrap()), read_back);
    for wrong in [r#"{"every":"year"}"#, r#"{"interval":1}"#, r#"{"every":"day","intervall":2}"#] {
        assert!(serde_json::from_str::<Recurrence>(wrong).is_err(), "{wrong}");
    }
    assert_eq!(read_back.check(), Ok(()));
    for interval in [0, 1001] {
        assert_eq!(Recurrence { interval, ..read_back }.check(), Err(RecurrenceError::Interval(interval)));
    }
    assert_eq!(Recurrence { count: Some(0), ..read_back }.check(), Err(RecurrenceError::Count));
}

fn any_recurrence() -> impl Strategy<Value = Recurrence> {
    let every = prop::sample::select(vec![Every::Day, Every::Week, Every::Month]);
    (every, 1_u32..40).prop_map(|(every, interval)| Recurrence { every, interval, until: None, count: None })
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
            Every::Week => prop_assert_eq!(begun.weekday(), comes.weekday()),
            Every::Month if late == 0 => {
                prop_assert_eq!(comes.day(), begun.day().min(comes.date().last_of_month().day()));
            }
            Every::Day | Every::Month => {}
        }
    }
}
