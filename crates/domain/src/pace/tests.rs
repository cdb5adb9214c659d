//! Cases of `grant` and `admit`.

use super::*;
use crate::schedule::{DaySet, LocalTime};

const NOON: Timestamp = Timestamp::from_unix_seconds(1_772_366_400); // Sunday 2026-03-01T12:00:00Z
const HOUR: Duration = Duration::from_secs(3600);

fn account(daily_limit: Option<u32>, min_gap: Duration) -> AccountBook {
    AccountBook {
        id: EmailAccountId::from_uuid(uuid::Uuid::from_u128(7)),
        status: AccountStatus::Active,
        pace: AccountPace {
            daily_limit,
            min_gap,
            warmup_started_at: None,
            zone: Zone::UTC,
            last_slot_at: None,
            backoff_until: None,
            backoff_failures: 0,
        },
        days: Days::new(),
        last_dot_at: None,
    }
}

fn campaign(daily_limit: Option<u32>) -> CampaignBook {
    CampaignBook { daily_limit, zone: Zone::UTC, days: Days::new() }
}

fn ask(account: &mut AccountBook, campaign: &mut CampaignBook, window: &Window) -> Result<Slot, Deferral> {
    let warmup = WarmupTable::default();
    grant(account, campaign, window, &warmup, NOON, Duration::ZERO, NOON + Duration::from_secs(60))
}

#[test]
fn without_limits_every_slot_is_now() {
    let (mut book, mut c) = (account(None, Duration::ZERO), campaign(None));
    for _ in 0..3 {
        assert_eq!(ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap().at, NOON);
    }
    assert_eq!(book.days["2026-03-01"], DayUse { reserved: 3, used: 0 });
    assert_eq!(c.days["2026-03-01"].reserved, 3);
}

#[test]
fn the_daily_limit_defers_the_account_to_its_next_day() {
    let (mut book, mut c) = (account(Some(2), Duration::ZERO), campaign(None));
    book.days.insert("2026-03-01".into(), DayUse { reserved: 0, used: 1 });
    assert!(ask(&mut book, &mut c, &Window::always(Zone::UTC)).is_ok());
    let d = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (NOON + 12 * HOUR, Reason::AccountCap, Scope::Account(book.id)));
}

#[test]
fn the_campaigns_limit_defers_the_campaign() {
    let (mut book, mut c) = (account(None, Duration::ZERO), campaign(Some(1)));
    assert!(ask(&mut book, &mut c, &Window::always(Zone::UTC)).is_ok());
    let d = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap_err();
    assert_eq!((d.reason, d.scope), (Reason::CampaignCap, Scope::Campaign));
}

#[test]
fn the_gap_hands_out_slots_up_to_the_horizon() {
    let (mut book, mut c) = (account(None, Duration::from_secs(25)), campaign(None));
    let mut slots = Vec::new();
    let refused = loop {
        match ask(&mut book, &mut c, &Window::always(Zone::UTC)) {
            Ok(slot) => slots.push(slot.at.since(NOON).as_secs()),
            Err(d) => break d,
        }
    };
    assert_eq!(slots, [0, 25, 50]);
    assert_eq!((refused.reason, refused.until), (Reason::AccountGap, NOON + Duration::from_secs(75)));
}

#[test]
fn warming_up_lowers_the_cap() {
    let mut book = account(Some(500), Duration::ZERO);
    book.pace.warmup_started_at = Some(NOON - 24 * HOUR);
    assert_eq!(book.remaining(NOON, &WarmupTable::default()), 10);
    book.pace.warmup_started_at = Some(NOON - 60 * 24 * HOUR);
    assert_eq!(book.remaining(NOON, &WarmupTable::default()), 500);
}

#[test]
fn a_closed_window_defers_the_lead_and_books_nothing() {
    let (mut book, mut c) = (account(None, Duration::ZERO), campaign(None));
    let nine = "09:00".parse::<LocalTime>().unwrap();
    let ten = "10:00".parse::<LocalTime>().unwrap();
    let window = Window::new(Zone::UTC, DaySet::ALL, nine, ten, []).unwrap();
    let d = ask(&mut book, &mut c, &window).unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (NOON + 21 * HOUR, Reason::WindowClosed, Scope::Lead));
    assert!(book.days.is_empty() && book.pace.last_slot_at.is_none());
}

#[test]
fn an_account_that_may_not_send_waits_for_a_person() {
    let (mut book, mut c) = (account(None, Duration::ZERO), campaign(None));
    book.status = AccountStatus::AuthenticationFailed;
    let d = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap_err();
    assert_eq!((d.until, d.reason), (Timestamp::MAX, Reason::AuthenticationFailed));
}

#[test]
fn a_dot_turns_its_reservation_into_use() {
    let mut book = account(Some(1), Duration::ZERO);
    book.days.insert("2026-03-01".into(), DayUse { reserved: 1, used: 0 });
    let day = admit(&mut book, Some("2026-03-01"), &WarmupTable::default(), NOON).unwrap();
    assert_eq!(book.days[&day], DayUse { reserved: 0, used: 1 });
    let d = admit(&mut book, None, &WarmupTable::default(), NOON).unwrap_err();
    assert_eq!(d.reason, Reason::AccountCap);
}

#[test]
fn a_dot_on_a_later_day_is_charged_to_that_day() {
    let mut book = account(Some(1), Duration::ZERO);
    book.days.insert("2026-02-28".into(), DayUse { reserved: 1, used: 0 });
    admit(&mut book, Some("2026-02-28"), &WarmupTable::default(), NOON).unwrap();
    assert_eq!(book.days["2026-02-28"], DayUse::default());
    assert_eq!(book.days["2026-03-01"], DayUse { reserved: 0, used: 1 });
}

#[test]
fn a_dot_too_close_to_the_last_is_refused_and_changes_nothing() {
    let mut book = account(None, Duration::from_secs(60));
    admit(&mut book, None, &WarmupTable::default(), NOON).unwrap();
    let before = book.days.clone();
    let d = admit(&mut book, None, &WarmupTable::default(), NOON + Duration::from_secs(59)).unwrap_err();
    assert_eq!((d.until, d.reason), (NOON + Duration::from_secs(60), Reason::AccountGap));
    assert_eq!(book.days, before);
    assert!(admit(&mut book, None, &WarmupTable::default(), NOON + Duration::from_secs(60)).is_ok());
}
