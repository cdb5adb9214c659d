//! Openings of one or several hours a day: over midnight, on holidays, around changes of the clocks.

use std::time::Duration;

use super::*;
use crate::schedule::next_day_start;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn window(zone: &str, days: &[&str], start: &str, end: &str, holidays: &[&str]) -> Window {
    several(zone, &[(days, start, end)], holidays)
}

fn several(zone: &str, hours: &[(&[&str], &str, &str)], holidays: &[&str]) -> Window {
    let hours = hours.iter().map(|(days, start, end)| Hours {
        days: DaySet::try_from(*days).unwrap(),
        start: start.parse().unwrap(),
        end: end.parse().unwrap(),
    });
    Window::new(zone.parse().unwrap(), hours, holidays.iter().map(|d| d.parse().unwrap())).unwrap()
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
    let never = Window::new(Zone::UTC, [Hours::default()], holidays).unwrap();
    assert_eq!(never.next_open(at("2026-01-05T00:00:00Z")), None);
}

#[test]
fn the_public_holidays_of_each_country_close_the_window_too() {
    let countries = ["ES", "FR"].map(|code| code.parse::<Country>().unwrap());
    let office = window("Europe/Madrid", &WEEK, "09:00", "17:00", &["2026-05-04"]).closed_on_holidays_of(countries);
    // Friday 1 May is a holiday in both, Monday 4 May the campaign's own; Friday 8 May is France's alone.
    assert_eq!(office.next_open(at("2026-05-01T10:00:00+02:00")), Some(at("2026-05-05T09:00:00+02:00")));
    assert_eq!(office.next_open(at("2026-05-08T10:00:00+02:00")), Some(at("2026-05-11T09:00:00+02:00")));
    assert_eq!(office.open_until(at("2026-05-07T10:00:00+02:00")), Some(at("2026-05-07T17:00:00+02:00")));
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
fn hours_in_lord_howes_half_hour_close_at_its_end_and_a_doubled_half_hour_opens_once() {
    // 4 October 2026, 02:00 becomes 02:30: one closes and the other opens there, so that they touch.
    let spring = several("Australia/Lord_Howe", &[(&ALL, "01:30", "02:10"), (&ALL, "02:20", "02:50")], &[]);
    assert_eq!(spring.open_until(at("2026-10-04T01:45:00+10:30")), Some(at("2026-10-04T02:50:00+11:00")));
    // 5 April 2026, 02:00 becomes 01:30 again.
    let autumn = several("Australia/Lord_Howe", &[(&ALL, "01:00", "01:40"), (&ALL, "01:50", "02:20")], &[]);
    assert_eq!(autumn.open_until(at("2026-04-05T01:00:00+11:00")), Some(at("2026-04-05T01:40:00+11:00")));
    assert_eq!(autumn.next_open(at("2026-04-05T01:40:00+11:00")), Some(at("2026-04-05T01:50:00+11:00")));
    assert_eq!(autumn.open_until(at("2026-04-05T01:30:00+10:30")), Some(at("2026-04-05T02:20:00+10:30")));
}

#[test]
fn several_hours_of_samoas_missing_day_do_not_open_but_for_its_night() {
    // 30 December 2011, a Friday, did not happen there: its night begins at the end of the gap.
    let friday = several("Pacific/Apia", &[(&["fri"], "09:00", "12:00"), (&["fri"], "22:00", "02:00")], &[]);
    let thursday = at("2011-12-29T13:00:00-10:00");
    assert_eq!(friday.next_open(thursday), Some(at("2011-12-31T00:00:00+14:00")));
    assert_eq!(friday.open_until(at("2011-12-31T00:00:00+14:00")), Some(at("2011-12-31T02:00:00+14:00")));
    let daily = several("Pacific/Apia", &[(&ALL, "09:00", "12:00"), (&ALL, "14:00", "16:00")], &[]);
    assert_eq!(daily.next_open(at("2011-12-29T16:00:00-10:00")), Some(at("2011-12-31T09:00:00+14:00")));
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
fn mail_leaves_in_any_of_several_hours() {
    let day = several("Europe/Madrid", &[(&WEEK, "16:00", "19:00"), (&WEEK, "09:00", "12:00")], &["2026-03-10"]);
    let monday = |time: &str| at(&format!("2026-03-09T{time}:00+01:00"));
    for (from, opens) in [("08:00", "09:00"), ("11:59", "11:59"), ("12:00", "16:00"), ("15:00", "16:00")] {
        assert_eq!(day.next_open(monday(from)), Some(monday(opens)), "{from}");
    }
    assert_eq!(day.open_until(monday("10:00")), Some(monday("12:00")));
    assert_eq!(day.open_until(monday("12:00")), None);
    assert_eq!(day.next_open(monday("19:00")), Some(at("2026-03-11T09:00:00+01:00")), "Tuesday is a holiday");
}

#[test]
fn hours_that_overlap_or_touch_are_one_opening() {
    let monday = |time: &str| at(&format!("2026-03-09T{time}:00Z"));
    let touching = several("UTC", &[(&ALL, "12:00", "14:00"), (&ALL, "09:00", "12:00")], &[]);
    assert_eq!(touching.open_until(monday("09:00")), Some(monday("14:00")));
    let inside = several("UTC", &[(&ALL, "09:00", "17:00"), (&ALL, "10:00", "11:00")], &[]);
    assert_eq!(inside.open_until(monday("10:30")), Some(monday("17:00")));
    let chain = several("UTC", &[(&["mon"], "22:00", "03:00"), (&["tue"], "02:00", "05:00")], &[]);
    assert_eq!(chain.open_until(monday("23:00")), Some(at("2026-03-10T05:00:00Z")));
    assert_eq!(chain.open_until(monday("21:59")), None);
    // From Monday to Friday without a break; all days without an end.
    let week = window("UTC", &WEEK, "00:00", "24:00", &[]);
    assert_eq!(week.open_until(monday("12:00")), Some(at("2026-03-14T00:00:00Z")));
    let always = Window::always(Zone::UTC).open_until(monday("00:00")).unwrap();
    assert!(always >= monday("00:00") + Duration::from_secs(399 * 86_400), "{always}");
}

#[test]
fn each_of_the_hours_must_be_usable_and_fifty_are_enough() {
    let made = |hours: &[Hours]| Window::new(Zone::UTC, hours.iter().copied(), []).map(|_| ());
    let whole = Hours::default();
    let noon: LocalTime = "12:00".parse().unwrap();
    let no_days: &[&str] = &[];
    assert_eq!(made(&[]), Err(ScheduleError::NoDays));
    let days = DaySet::try_from(no_days).unwrap();
    assert_eq!(made(&[whole, Hours { days, ..whole }]), Err(ScheduleError::NoDays));
    assert_eq!(made(&[whole, Hours { start: noon, end: noon, ..whole }]), Err(ScheduleError::Empty(noon)));
    let late = Hours { start: LocalTime::END_OF_DAY, end: noon, ..whole };
    assert_eq!(made(&[whole, late]), Err(ScheduleError::OpensAtEnd));
    assert_eq!(made(&[whole; 50]), Ok(()));
    assert_eq!(made(&[whole; 51]), Err(ScheduleError::TooMany(51)));
}

#[test]
fn hours_are_written_as_people_write_them() {
    let read: Hours = serde_json::from_str(r#"{"days":["mon"],"start":"09:00"}"#).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"days":["mon"],"start":"09:00","end":"24:00"}"#);
    assert!(serde_json::from_str::<Hours>(r#"{"strat":"09:00"}"#).is_err(), "a slip would open the whole day");
}
