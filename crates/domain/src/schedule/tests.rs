//! Windows, daylight saving, warm-up and jitter; properties over random windows.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn window(zone: &str, days: &[&str], start: &str, end: &str, holidays: &[&str]) -> Window {
    Window::new(
        zone.parse().unwrap(),
        DaySet::try_from(days).unwrap(),
        start.parse().unwrap(),
        end.parse().unwrap(),
        holidays.iter().map(|d| d.parse().unwrap()),
    )
    .unwrap()
}

const WEEK: [&str; 5] = ["mon", "tue", "wed", "thu", "fri"];
const ALL: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[test]
fn friday_evening_waits_for_monday_morning() {
    let office = window("Europe/Madrid", &WEEK, "09:00", "17:00", &[]);
    assert_eq!(office.next_open(at("2026-03-06T17:30:00+01:00")), Some(at("2026-03-09T09:00:00+01:00")));
    assert_eq!(office.next_open(at("2026-03-06T16:59:59+01:00")), Some(at("2026-03-06T16:59:59+01:00")));
    assert!(!office.is_open(at("2026-03-06T17:00:00+01:00")));
}

#[test]
fn holidays_are_skipped_and_a_year_of_them_never_opens() {
    let office = window("UTC", &WEEK, "09:00", "17:00", &["2026-03-09"]);
    assert_eq!(office.next_open(at("2026-03-06T18:00:00Z")), Some(at("2026-03-10T09:00:00Z")));
    let first: civil::Date = civil::date(2026, 1, 1);
    let holidays = first.series(jiff::ToSpan::days(1)).take(500).map(Date::from_civil);
    let never = Window::new(Zone::UTC, DaySet::ALL, LocalTime::MIDNIGHT, LocalTime::END_OF_DAY, holidays).unwrap();
    assert_eq!(never.next_open(at("2026-01-05T00:00:00Z")), None);
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_opens() {
    let night = window("UTC", &["fri"], "22:00", "02:00", &[]);
    assert!(night.is_open(at("2026-03-07T01:59:00Z")));
    assert!(!night.is_open(at("2026-03-06T01:00:00Z")));
    assert_eq!(night.next_open(at("2026-03-07T02:00:00Z")), Some(at("2026-03-13T22:00:00Z")));
}

#[test]
fn fp17_a_time_in_a_gap_moves_to_its_end_and_a_doubled_one_is_the_first() {
    // Madrid, 29 March 2026: 02:00 becomes 03:00.
    let gap = window("Europe/Madrid", &ALL, "02:30", "05:00", &[]);
    assert_eq!(gap.next_open(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T03:00:00+02:00")));
    // Madrid, 25 October 2026: 03:00 becomes 02:00.
    let fold = window("Europe/Madrid", &ALL, "02:30", "05:00", &[]);
    assert_eq!(fold.next_open(at("2026-10-24T23:00:00Z")), Some(at("2026-10-25T02:30:00+02:00")));
    // Lord Howe moves by half an hour: 4 October 2026, 02:00 becomes 02:30.
    let half = window("Australia/Lord_Howe", &ALL, "02:10", "05:00", &[]);
    assert_eq!(half.next_open(at("2026-10-03T15:00:00Z")), Some(at("2026-10-04T02:30:00+11:00")));
    // New York, 8 March 2026.
    let york = window("America/New_York", &ALL, "02:15", "04:00", &[]);
    assert_eq!(york.next_open(at("2026-03-08T05:00:00Z")), Some(at("2026-03-08T03:00:00-04:00")));
}

#[test]
fn samoas_missing_day_is_passed_over() {
    let noon = window("Pacific/Apia", &ALL, "12:00", "13:00", &[]);
    // 30 December 2011 did not happen there.
    assert_eq!(noon.next_open(at("2011-12-29T13:30:00-10:00")), Some(at("2011-12-31T12:00:00+14:00")));
}

#[test]
fn fp17_clocks_set_back_over_midnight_close_nothing_and_start_the_day_again() {
    // Goose Bay, 7 November 2010: one minute past midnight became 23:01 of the 6th.
    let second_evening = at("2010-11-06T23:30:00-04:00");
    let sunday = window("America/Goose_Bay", &["sun"], "00:00", "24:00", &[]);
    assert_eq!(sunday.next_open(second_evening), Some(second_evening));
    assert_eq!(sunday.open_until(second_evening), Some(at("2010-11-08T00:00:00-04:00")));
    let zone = "America/Goose_Bay".parse().unwrap();
    assert_eq!(next_day_start(&zone, second_evening), at("2010-11-07T00:00:00-04:00"));
}

#[test]
fn fp17_a_doubled_hour_opens_once() {
    // Madrid, 25 October 2026: 02:00 to 03:00 comes twice.
    let night = window("Europe/Madrid", &ALL, "02:00", "02:30", &[]);
    assert!(night.is_open(at("2026-10-25T02:15:00+02:00")));
    assert!(!night.is_open(at("2026-10-25T02:15:00+01:00")));
    // In the spring there is no 02:00 to 02:30: that day the window stays closed.
    assert_eq!(night.next_open(at("2026-03-29T00:00:00Z")), Some(at("2026-03-30T02:00:00+02:00")));
}

#[test]
fn a_holiday_closes_the_night_that_begins_on_it() {
    let night = window("UTC", &ALL, "22:00", "02:00", &["2026-03-09"]);
    assert!(night.is_open(at("2026-03-09T01:00:00Z")));
    assert_eq!(night.next_open(at("2026-03-09T02:00:00Z")), Some(at("2026-03-10T22:00:00Z")));
}

#[test]
fn waits_and_caps_are_bounded() {
    assert_eq!(wait_hours(0.5), Ok(Duration::from_secs(1800)));
    assert_eq!(wait_hours(87_600.0), Ok(Duration::from_secs(87_600 * 3600)));
    for wrong in [-0.1, f64::NAN, f64::INFINITY, 87_600.5] {
        assert!(wait_hours(wrong).is_err(), "{wrong}");
    }
    for (daily, ramp, least) in
        [(None, None, None), (Some(5), None, Some(5)), (None, Some(7), Some(7)), (Some(5), Some(7), Some(5))]
    {
        assert_eq!(effective_cap(daily, ramp), least);
    }
    for wrong in ["[[3,10],[3,25]]", "[[0,10]]", "[[3,0]]"] {
        assert!(serde_json::from_str::<WarmupTable>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn words_are_read_and_refused() {
    assert_eq!("24:00".parse::<LocalTime>().unwrap(), LocalTime::END_OF_DAY);
    assert_eq!("09:05:30".parse::<LocalTime>().unwrap().to_string(), "09:05:30");
    for wrong in ["24:01", "9:00", "09:60", "0900", "09:00:00:00", "", "nine"] {
        assert!(wrong.parse::<LocalTime>().is_err(), "{wrong}");
    }
    assert_eq!(
        serde_json::to_string(&DaySet::try_from(["Friday", "MON"].as_slice()).unwrap()).unwrap(),
        r#"["mon","fri"]"#
    );
    assert!(DaySet::try_from(["fryday"].as_slice()).is_err());
    assert!("2026-02-30".parse::<Date>().is_err());
    let no_days: &[&str] = &[];
    let days = DaySet::try_from(no_days).unwrap();
    let made = Window::new(Zone::UTC, days, LocalTime::MIDNIGHT, LocalTime::END_OF_DAY, []);
    assert_eq!(made.unwrap_err(), ScheduleError::NoDays);
    let noon: LocalTime = "12:00".parse().unwrap();
    assert_eq!(Window::new(Zone::UTC, DaySet::ALL, noon, noon, []).unwrap_err(), ScheduleError::Empty(noon));
}

#[test]
fn warm_up_counts_local_days() {
    let zone: Zone = "America/Los_Angeles".parse().unwrap();
    let table = WarmupTable::default();
    let started = at("2026-03-01T23:00:00-08:00");
    let cap = |text| table.cap(started, at(text), &zone);
    assert_eq!(cap("2026-03-01T23:59:00-08:00"), Some(10));
    assert_eq!(cap("2026-03-03T23:59:00-08:00"), Some(10));
    assert_eq!(cap("2026-03-04T00:00:00-08:00"), Some(25));
    assert_eq!(cap("2026-03-21T12:00:00-07:00"), Some(100));
    assert_eq!(cap("2026-03-22T12:00:00-07:00"), None);
}

#[test]
fn jitter_is_the_same_for_ever() {
    let id = uuid::Uuid::from_u128(42);
    assert_eq!(jitter(&[id], Duration::from_secs(60)).as_micros(), JITTER_OF_42);
    assert_eq!(jitter(&[id], Duration::ZERO), Duration::ZERO);
}
const JITTER_OF_42: u128 = 43_564_261;

#[test]
fn the_next_day_starts_at_local_midnight() {
    let zone: Zone = "Europe/Madrid".parse().unwrap();
    assert_eq!(next_day_start(&zone, at("2026-03-28T12:00:00Z")), at("2026-03-29T00:00:00+01:00"));
    assert_eq!(next_day_start(&zone, at("2026-03-29T12:00:00Z")), at("2026-03-30T00:00:00+02:00"));
    // There was no midnight in São Paulo on 4 November 2018, and no 30 December 2011 in Samoa.
    let brazil: Zone = "America/Sao_Paulo".parse().unwrap();
    assert_eq!(next_day_start(&brazil, at("2018-11-03T12:00:00-03:00")), at("2018-11-04T01:00:00-02:00"));
    let samoa: Zone = "Pacific/Apia".parse().unwrap();
    assert_eq!(next_day_start(&samoa, at("2011-12-29T12:00:00-10:00")), at("2011-12-31T00:00:00+14:00"));
}

proptest! {
    #[test]
    fn the_next_opening_is_open_and_nothing_before_it_is(
        seconds in 1_700_000_000_i64..1_900_000_000,
        start in 0_u32..1440,
        length in 1_u32..1440,
        days in 1_u8..128,
        zone in prop::sample::select(vec!["UTC", "Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    ) {
        let time = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60).parse::<LocalTime>().unwrap();
        let names: Vec<&str> = ALL.iter().enumerate().filter(|(i, _)| days & (1 << i) != 0).map(|(_, d)| *d).collect();
        let end = (start + length) % 1440;
        prop_assume!(start != end);
        let window = Window::new(
            zone.parse().unwrap(), DaySet::try_from(names.as_slice()).unwrap(), time(start), time(end), []).unwrap();
        let from = Timestamp::from_unix_seconds(seconds);
        let open = window.next_open(from).unwrap();
        prop_assert!(open >= from);
        prop_assert!(window.is_open(open));
        prop_assert_eq!(window.next_open(open), Some(open));
        let mut between = from;
        while between < open {
            prop_assert!(!window.is_open(between), "open at {} before {}", between, open);
            between = between + Duration::from_secs(601);
        }
    }

    #[test]
    fn jitter_stays_below_its_bound(id in any::<u128>(), bound in 1_u64..10_000_000) {
        let bound = Duration::from_micros(bound);
        prop_assert!(jitter(&[uuid::Uuid::from_u128(id)], bound) < bound);
    }
}
