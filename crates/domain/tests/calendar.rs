//! Windows of random calendars (several hours a day, over midnight, holidays) around changes of the clocks, against a
//! reference that knows nothing but what clocks show, minute by minute; and lateness, which closed windows never cause.
//!
//! The reference: a local time has come when a clock has shown it or a later one. So a time that is left out comes at the
//! end of the gap, and one that is shown twice comes the first time. To add a rule: its words in `Calendar::is_open_when`.
#![expect(clippy::unwrap_used, reason = "a calendar that cannot be made has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::email_account::{AccountPace, AccountStatus};
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, StepId, TemplateId};
use domain::lead::LeadStatus;
use domain::pace::{AccountBook, CampaignBook, Days, Recipient};
use domain::plan::{Books, CampaignPlan, Candidate, Moment, Past, Plan, plan_send};
use domain::reason::Reason;
use domain::schedule::{Date, DaySet, Hours, LocalTime, WarmupTable, Window};
use domain::step::{ConditionType, Due, Reactions, Step, StepType};
use domain::time::{Timestamp, Zone};
use jiff::civil;
use proptest::prelude::*;
use uuid::Uuid;

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTE: Duration = Duration::from_secs(60);
/// Minutes that are looked at, and those before them in which a clock may have been ahead, or a night have begun.
const SPAN: usize = 3 * 1440;
const BEFORE: usize = 2 * 1440;

/// A place and a day around which something is odd: gaps and folds of an hour and of half an hour, at midnight, a day
/// that is left out, two changes in a month; and a quiet one.
const PLACES: [(&str, &str); 9] = [
    ("Europe/Madrid", "2026-03-29"),
    ("Europe/Madrid", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("America/Goose_Bay", "2010-11-07"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "2026-06-10"),
];

/// Hours in minutes of the day; an end below the start runs over midnight.
#[derive(Clone, Copy, Debug)]
struct Open {
    days: u8,
    start: i64,
    end: i64,
}

#[derive(Clone, Debug)]
struct Calendar {
    zone: &'static str,
    /// The first minute that is looked at.
    from: i64,
    hours: Vec<Open>,
    holidays: BTreeSet<civil::Date>,
}

fn calendars() -> impl Strategy<Value = Calendar> {
    // Quarters touch each other often, odd minutes seldom; at midnight the days change.
    let minute = prop_oneof![(0_i64..96).prop_map(|quarter| quarter * 15), 0_i64..1440, Just(0)];
    let open = (1_u8..128, minute.clone(), minute).prop_filter_map("hours that are none", |(days, start, end)| {
        let end = if end == 0 { 1440 } else { end };
        (start != end).then_some(Open { days, start, end })
    });
    let place = prop::sample::select(PLACES.to_vec());
    (place, 0_i64..2880, prop::collection::vec(open, 1..6), prop::collection::vec(-3_i64..4, 0..3)).prop_map(
        |((zone, day), back, hours, holidays)| {
            let day: civil::Date = day.parse().unwrap();
            let noon = day.at(12, 0, 0, 0).in_tz(zone).unwrap().timestamp().as_second();
            let holidays = holidays.into_iter().map(|n| day + jiff::Span::new().days(n)).collect();
            Calendar { zone, from: noon / 60 - back, hours, holidays }
        },
    )
}

fn time(minute: i64) -> LocalTime {
    format!("{:02}:{:02}", minute / 60, minute % 60).parse().unwrap()
}

fn day_set(days: u8) -> DaySet {
    let names: Vec<&str> =
        NAMES.into_iter().enumerate().filter(|(i, _)| days & (1 << i) != 0).map(|(_, d)| d).collect();
    DaySet::try_from(names.as_slice()).unwrap()
}

impl Calendar {
    fn hours(&self) -> Vec<Hours> {
        let hours = |open: &Open| Hours { days: day_set(open.days), start: time(open.start), end: time(open.end) };
        self.hours.iter().map(hours).collect()
    }

    fn dates(&self) -> Vec<Date> {
        self.holidays.iter().map(|day| day.to_string().parse().unwrap()).collect()
    }

    fn window(&self) -> Window {
        Window::new(self.zone.parse().unwrap(), self.hours(), self.dates()).unwrap()
    }

    fn minute(&self, minute: usize) -> Timestamp {
        Timestamp::from_unix_seconds(self.from * 60) + MINUTE * u32::try_from(minute).unwrap()
    }

    /// Whether each minute of the span is open.
    fn reference(&self) -> Vec<bool> {
        let zone = jiff::tz::TimeZone::get(self.zone).unwrap();
        let mut shown = civil::DateTime::MIN;
        let minutes = -i64::try_from(BEFORE).unwrap()..i64::try_from(SPAN).unwrap();
        let all = minutes.map(|minute| {
            let at = jiff::Timestamp::from_second((self.from + minute) * 60).unwrap();
            shown = shown.max(zone.to_datetime(at));
            self.is_open_when(shown)
        });
        all.skip(BEFORE).collect()
    }

    /// Whether any hours of the day or of the day before have come, and their end has not.
    fn is_open_when(&self, shown: civil::DateTime) -> bool {
        let minutes = i64::from(shown.hour()) * 60 + i64::from(shown.minute());
        [(shown.date(), minutes), (shown.date().yesterday().unwrap(), minutes + 1440)].into_iter().any(
            |(day, minutes)| {
                let weekday = day.weekday().to_monday_zero_offset();
                !self.holidays.contains(&day)
                    && self.hours.iter().any(|open| {
                        let end = if open.end < open.start { open.end + 1440 } else { open.end };
                        open.days & (1 << weekday) != 0 && (open.start..end).contains(&minutes)
                    })
            },
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_is_open_when_a_clock_says_so(calendar in calendars()) {
        let (window, reference) = (calendar.window(), calendar.reference());
        for (minute, is_open) in reference.iter().enumerate() {
            let at = calendar.minute(minute);
            prop_assert_eq!(window.is_open(at), *is_open, "{:?} at {}", calendar, at);
        }
    }

    #[test]
    fn the_next_opening_and_its_end_are_where_the_minutes_have_them(calendar in calendars(), step in 1_usize..90) {
        let (window, reference) = (calendar.window(), calendar.reference());
        let next = |from: usize, wanted: bool| (from..SPAN).find(|minute| reference[*minute] == wanted);
        for minute in (0..SPAN).step_by(step + 60) {
            let at = calendar.minute(minute);
            let opens = window.next_open(at);
            match next(minute, true) {
                Some(expected) => prop_assert_eq!(opens, Some(calendar.minute(expected)), "{:?}", calendar),
                None => prop_assert!(opens.is_none_or(|opens| opens >= calendar.minute(SPAN))),
            }
            let closes = window.open_until(at);
            match (reference[minute], next(minute, false)) {
                (false, _) => prop_assert_eq!(closes, None, "{:?} at {}", calendar, at),
                (true, Some(expected)) => prop_assert_eq!(closes, Some(calendar.minute(expected)), "{:?}", calendar),
                (true, None) => prop_assert!(closes.unwrap() >= calendar.minute(SPAN)),
            }
        }
    }

    #[test]
    fn an_opening_holds_all_before_its_end_and_nothing_opens_before_the_next(
        calendar in calendars(),
        micros in 0_u64..3 * 86_400_000_000,
        sample in prop::collection::vec(0.0..1.0_f64, 20),
    ) {
        let window = calendar.window();
        let at = calendar.minute(0) + Duration::from_micros(micros);
        let Some(opens) = window.next_open(at) else { return Ok(()) };
        prop_assert!(opens >= at && window.is_open(opens));
        prop_assert_eq!(window.next_open(opens), Some(opens));
        let closes = window.open_until(opens).unwrap();
        let tick = Duration::from_micros(1);
        // What is open for ever is said to end at a midnight 400 days after the day's own: up to 25 hours less than that.
        prop_assert!(!window.is_open(closes) || closes.since(opens) > Duration::from_secs(398 * 86_400));
        prop_assert!(window.is_open(closes - tick));
        prop_assert!(opens == at || !window.is_open(opens - tick));
        for part in sample {
            let waiting = at + opens.since(at).mul_f64(part);
            prop_assert!(waiting >= opens || !window.is_open(waiting), "{:?} at {}", calendar, waiting);
            let inside = opens + closes.since(opens).mul_f64(part);
            prop_assert!(inside >= closes || window.is_open(inside), "{:?} at {}", calendar, inside);
        }
    }

    #[test]
    fn what_waits_for_its_window_is_not_late_and_what_waits_longer_is(
        calendar in calendars(),
        minute in 0..SPAN,
        hours in 1_u32..48,
        part in 0.0..=1.0_f64,
    ) {
        let due = calendar.minute(minute);
        let Some(opens) = calendar.window().next_open(due) else { return Ok(()) };
        let campaign = campaign(&calendar, f64::from(hours));
        let most = MINUTE * 60 * hours;
        let in_time = due + (opens + most).since(due).mul_f64(part);
        prop_assert!(!is_too_late(&campaign, due, in_time), "{:?}: due {}, asked at {}", calendar, due, in_time);
        let late = opens + most + Duration::from_micros(1);
        prop_assert!(is_too_late(&campaign, due, late), "{:?}: due {}, asked at {}", calendar, due, late);
    }
}

fn campaign(calendar: &Calendar, max_lateness: f64) -> CampaignPlan {
    let step = Step {
        id: StepId::from_uuid(Uuid::from_u128(1)),
        step_order: 1,
        step_type: StepType::Email,
        email_account_id: None,
        template_id: Some(TemplateId::from_uuid(Uuid::from_u128(1))),
        wait: Duration::ZERO,
        wait_until: None,
        condition: ConditionType::Always.into(),
        stop_if_false: false,
        is_active: true,
    };
    let settings = CampaignSettings {
        timezone: calendar.zone.parse().unwrap(),
        windows: calendar.hours(),
        holidays: calendar.dates(),
        max_lateness: Some(max_lateness),
        ..CampaignSettings::default()
    };
    let id = CampaignId::from_uuid(Uuid::from_u128(1));
    let trials = domain::trial::Trials::new();
    CampaignPlan {
        id,
        status: CampaignStatus::Sending,
        settings,
        steps: vec![step],
        seen_until: None,
        lost_time: None,
        trials,
    }
}

/// Whether planning gives up on a lead who is due at `due` when it is asked at `now`.
fn is_too_late(campaign: &CampaignPlan, due: Timestamp, now: Timestamp) -> bool {
    let id = EmailAccountId::from_uuid(Uuid::from_u128(2));
    let pace = AccountPace {
        daily_limit: None,
        min_gap: Duration::ZERO,
        warmup_started_at: None,
        zone: Zone::UTC,
        last_slot_at: None,
        backoff_until: None,
        backoff_failures: 0,
    };
    let account = AccountBook { id, status: AccountStatus::Active, pace, days: Days::new(), last_dot_at: None };
    let mut books = Books {
        accounts: [(id, account)].into(),
        pool: vec![id],
        campaign: CampaignBook { daily_limit: None, zone: Zone::UTC, days: Days::new() },
        tenant: None,
        providers: None,
    };
    let candidate = Candidate {
        enrollment_id: EnrollmentId::from_uuid(Uuid::from_u128(3)),
        lead_id: LeadId::from_uuid(Uuid::from_u128(4)),
        due: Due { step_order: 1, at: due },
        email_account_id: None,
        is_new: true,
        lead_status: LeadStatus::Active,
        lead_zone: None,
        suppressed: false,
        reactions: Reactions::default(),
        past: Past::default(),
        recipient: Recipient::Unlimited,
    };
    let moment = Moment { now, horizon: MINUTE };
    let plan = plan_send(campaign, &candidate, &mut books, &WarmupTable::default(), moment);
    matches!(plan, Plan::Skip { reason: Reason::TooLate, .. })
}
