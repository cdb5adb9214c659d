//! Words, waits, warm-up, days and jitter.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
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
    fn jitter_stays_below_its_bound(id in any::<u128>(), bound in 1_u64..10_000_000) {
        let bound = Duration::from_micros(bound);
        prop_assert!(jitter(&[uuid::Uuid::from_u128(id)], bound) < bound);
    }
}
