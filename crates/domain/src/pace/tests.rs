//! Cases of `grant` and `admit`.

use proptest::prelude::*;

use super::*;
use crate::schedule::{Hours, LocalTime};

const NOON: Timestamp = Timestamp::from_unix_seconds(1_772_366_400); // Sunday 2026-03-01T12:00:00Z
const HOUR: Duration = Duration::from_secs(3600);

fn up_to(end: Timestamp) -> Reach {
    Reach { horizon_end: end, line_end: end }
}

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

fn tenant(per_second: f64) -> TenantBook {
    let rate = Rate::per_second(per_second).unwrap();
    TenantBook { rate, last_slot_at: None, spaced_until: NOON + HOUR, window_at: None, dots: 0 }
}

fn ask(account: &mut AccountBook, campaign: &mut CampaignBook, window: &Window) -> Result<Slot, Deferral> {
    let warmup = WarmupTable::default();
    let pages = Pages { account, campaign, tenant: None, provider: None };
    grant(pages, window, &warmup, NOON, Duration::ZERO, up_to(NOON + Duration::from_secs(60)))
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
fn a_full_day_is_named_and_not_the_gap_or_the_wait_before_it() {
    let (mut book, mut c) = (account(Some(1), 2 * HOUR), campaign(None));
    assert!(ask(&mut book, &mut c, &Window::always(Zone::UTC)).is_ok());
    for backoff in [None, Some(NOON + 3 * HOUR)] {
        book.pace.backoff_until = backoff;
        let d = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap_err();
        assert_eq!((d.until, d.reason, d.scope), (NOON + 12 * HOUR, Reason::AccountCap, Scope::Account(book.id)));
    }
    // What lasts into a day with room holds the mail up itself.
    book.pace.backoff_until = Some(NOON + 13 * HOUR);
    let d = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap_err();
    assert_eq!((d.until, d.reason), (NOON + 13 * HOUR, Reason::AccountBackoff));
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
    let window = Window::new(Zone::UTC, [Hours { start: nine, end: ten, ..Hours::default() }], []).unwrap();
    let d = ask(&mut book, &mut c, &window).unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (NOON + 21 * HOUR, Reason::WindowClosed, Scope::Lead));
    assert!(book.days.is_empty() && book.pace.last_slot_at.is_none());
}

#[test]
fn an_account_with_room_is_left_to_others_where_one_leads_window_is_closed() {
    let (mut book, mut c) = (account(None, Duration::from_secs(25)), campaign(None));
    book.pace.last_slot_at = Some(NOON);
    let hours = Hours { start: "09:00".parse().unwrap(), end: "10:00".parse().unwrap(), ..Hours::default() };
    let closed = Window::new(Zone::UTC, [hours], []).unwrap();
    let d = ask(&mut book, &mut c, &closed).unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (NOON + 21 * HOUR, Reason::WindowClosed, Scope::Lead));
    let other = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap();
    assert_eq!(other.at, NOON + Duration::from_secs(25));
    // Without room within the horizon, the account holds everybody.
    book.pace.last_slot_at = Some(NOON + Duration::from_secs(40));
    let d = ask(&mut book, &mut c, &closed).unwrap_err();
    assert_eq!(
        (d.until, d.reason, d.scope),
        (NOON + Duration::from_secs(65), Reason::AccountGap, Scope::Account(book.id))
    );
    // Nor on its day.
    let mut book = account(Some(0), Duration::ZERO);
    let d = ask(&mut book, &mut c, &closed).unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (NOON + 12 * HOUR, Reason::AccountCap, Scope::Account(book.id)));
}

#[test]
fn an_account_that_may_not_send_waits_for_a_person() {
    let (mut book, mut c) = (account(None, Duration::ZERO), campaign(None));
    book.status = AccountStatus::AuthenticationFailed;
    let d = ask(&mut book, &mut c, &Window::always(Zone::UTC)).unwrap_err();
    assert_eq!((d.until, d.reason), (Timestamp::MAX, Reason::AuthenticationFailed));
}

fn dot(account: &mut AccountBook, reserved_day: Option<&str>, now: Timestamp) -> Result<(), Deferral> {
    let reserved = Reserved { account_day: reserved_day, campaign_day: None };
    admit(Some(account), None, None, reserved, &WarmupTable::default(), now)
}

#[test]
fn a_dot_turns_its_reservation_into_use() {
    let mut book = account(Some(1), Duration::ZERO);
    book.days.insert("2026-03-01".into(), DayUse { reserved: 1, used: 0 });
    dot(&mut book, Some("2026-03-01"), NOON).unwrap();
    assert_eq!(book.days["2026-03-01"], DayUse { reserved: 0, used: 1 });
    let d = dot(&mut book, None, NOON).unwrap_err();
    assert_eq!(d.reason, Reason::AccountCap);
}

#[test]
fn a_dot_on_a_later_day_is_charged_to_that_day() {
    let mut book = account(Some(1), Duration::ZERO);
    book.days.insert("2026-02-28".into(), DayUse { reserved: 1, used: 0 });
    dot(&mut book, Some("2026-02-28"), NOON).unwrap();
    assert_eq!(book.days["2026-02-28"], DayUse::default());
    assert_eq!(book.days["2026-03-01"], DayUse { reserved: 0, used: 1 });
}

#[test]
fn a_dot_too_close_to_the_last_is_refused_and_changes_nothing() {
    let mut book = account(None, Duration::from_secs(60));
    dot(&mut book, None, NOON).unwrap();
    let before = book.days.clone();
    let d = dot(&mut book, None, NOON + Duration::from_secs(59)).unwrap_err();
    assert_eq!((d.until, d.reason), (NOON + Duration::from_secs(60), Reason::AccountGap));
    assert_eq!(book.days, before);
    assert!(dot(&mut book, None, NOON + Duration::from_secs(60)).is_ok());
}

#[test]
fn a_campaigns_carried_over_dot_takes_room_of_its_day_or_moves_to_the_next_with_some() {
    let mut book = campaign(Some(2));
    for (day, reserved) in [("2026-02-28", 2), ("2026-03-01", 1), ("2026-03-02", 2)] {
        book.days.insert(day.into(), DayUse { reserved, used: 0 });
    }
    let mut carried_over = || {
        let reserved = Reserved { account_day: None, campaign_day: Some("2026-02-28") };
        admit(None, Some(&mut book), None, reserved, &WarmupTable::default(), NOON)
    };
    assert_eq!(carried_over(), Ok(()));
    let d = carried_over().unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (NOON + 36 * HOUR, Reason::CampaignCap, Scope::Campaign));
    assert_eq!(book.days["2026-02-28"], DayUse::default());
    assert_eq!(book.days["2026-03-01"], DayUse { reserved: 1, used: 1 });
    assert_eq!(book.days["2026-03-03"], DayUse { reserved: 1, used: 0 });
}

#[test]
fn whom_one_limit_refuses_the_other_does_not_charge() {
    let (mut book, mut full) = (account(Some(5), Duration::from_secs(60)), campaign(Some(1)));
    full.days.insert("2026-03-01".into(), DayUse { reserved: 0, used: 1 });
    let refused = admit(Some(&mut book), Some(&mut full), None, Reserved::default(), &WarmupTable::default(), NOON);
    assert_eq!(refused.unwrap_err().reason, Reason::CampaignCap);
    let reserved = Days::from([("2026-03-02".into(), DayUse { reserved: 1, used: 0 })]);
    assert_eq!((&book.days, book.last_dot_at), (&reserved, None), "it has room on the campaign's next day");
    book.last_dot_at = Some(NOON);
    let before = full.days.clone();
    let refused = admit(Some(&mut book), Some(&mut full), None, Reserved::default(), &WarmupTable::default(), NOON);
    assert_eq!((refused.unwrap_err().reason, full.days), (Reason::AccountGap, before));
}

#[test]
fn a_limit_of_nothing_waits_for_a_person() {
    let mut book = campaign(Some(0));
    let d = admit(None, Some(&mut book), None, Reserved::default(), &WarmupTable::default(), NOON).unwrap_err();
    assert_eq!((d.until, d.reason), (Timestamp::MAX, Reason::CampaignCap));
    assert!(book.days.is_empty());
}

/// What happens to sends: a plan, a dot of one of them, which may be tried again, new limits, hours later.
#[derive(Clone, Debug)]
enum Step {
    Plan,
    Dot(usize, bool),
    Limits([u32; 2]),
    Wait(u32),
}

/// A slot for a tenant with a rate, at `earliest` within an hour.
fn spaced(book: &mut TenantBook, window: &Window, earliest: Timestamp) -> Result<Timestamp, Deferral> {
    let (mut a, mut c) = (account(None, Duration::ZERO), campaign(None));
    let pages = Pages { account: &mut a, campaign: &mut c, tenant: Some(book), provider: None };
    let end = NOON + 48 * HOUR;
    grant(pages, window, &WarmupTable::default(), earliest, Duration::ZERO, up_to(end)).map(|slot| slot.at)
}

fn rated_dot(book: &mut TenantBook, now: Timestamp) -> Result<(), Deferral> {
    admit(None, None, Some(book), Reserved::default(), &WarmupTable::default(), now)
}

#[test]
fn a_rate_is_so_many_in_each_window() {
    for (rate, gap_micros, per_window) in [
        (0.5, 2_000_000, 1),
        (1.0, 1_000_000, 1),
        (2.5, 400_000, 2),
        (3.0, 333_334, 3),
        (100.0, 10_000, 100),
        (1e12, 1, 1_000_000),
        (1e-300, 400 * 86_400 * 1_000_000, 1),
    ] {
        let found = Rate::per_second(rate).unwrap();
        assert_eq!((found.gap(), found.per_window()), (Duration::from_micros(gap_micros), per_window), "{rate}");
    }
    for nothing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(Rate::per_second(nothing), None);
    }
}

#[test]
fn a_tenants_slots_stand_on_a_grid_one_after_the_other() {
    let (mut book, always) = (tenant(0.5), Window::always(Zone::UTC));
    let found: Vec<_> = (0..4)
        .map(|_| spaced(&mut book, &always, NOON + Duration::from_millis(500)).unwrap().since(NOON).as_secs())
        .collect();
    assert_eq!(found, [2, 4, 6, 8]);
    assert_eq!(spaced(&mut book, &always, NOON + Duration::from_secs(9)).unwrap(), NOON + Duration::from_secs(10));
}

#[test]
fn beyond_the_horizon_the_rate_defers_the_campaign() {
    let (mut book, mut a, mut c) = (tenant(1.0), account(None, Duration::ZERO), campaign(None));
    book.last_slot_at = Some(NOON + Duration::from_secs(60));
    let pages = Pages { account: &mut a, campaign: &mut c, tenant: Some(&mut book), provider: None };
    let warmup = WarmupTable::default();
    let end = NOON + Duration::from_secs(60);
    let d = grant(pages, &Window::always(Zone::UTC), &warmup, NOON, Duration::ZERO, up_to(end)).unwrap_err();
    assert_eq!((d.until, d.reason, d.scope), (end + Duration::from_secs(1), Reason::TenantRate, Scope::Campaign));
    assert!(a.days.is_empty() && book.last_slot_at == Some(end), "nothing is booked");
}

/// Tomorrow's slot of one campaign must not make all the others of the tenant wait for tomorrow.
#[test]
fn what_waits_for_something_else_holds_up_nobody() {
    let mut book = tenant(1.0);
    let (nine, ten) = ("09:00".parse::<LocalTime>().unwrap(), "10:00".parse::<LocalTime>().unwrap());
    let tomorrow = Window::new(Zone::UTC, [Hours { start: nine, end: ten, ..Hours::default() }], []).unwrap();
    assert_eq!(spaced(&mut book, &tomorrow, NOON).unwrap(), NOON + 21 * HOUR);
    assert_eq!(spaced(&mut book, &Window::always(Zone::UTC), NOON).unwrap(), NOON);
    // The rate's own queue goes on behind the horizon: those in it come one after the other.
    book.last_slot_at = Some(NOON + HOUR);
    let always = Window::always(Zone::UTC);
    let found = [spaced(&mut book, &always, NOON).unwrap(), spaced(&mut book, &always, NOON).unwrap()];
    assert_eq!(found, [NOON + HOUR + Duration::from_secs(1), NOON + HOUR + Duration::from_secs(2)]);
}

#[test]
fn a_dot_beyond_the_rate_takes_the_next_slot() {
    let mut book = tenant(2.0);
    book.last_slot_at = Some(NOON + Duration::from_secs(3));
    assert!(rated_dot(&mut book, NOON).is_ok() && rated_dot(&mut book, NOON).is_ok());
    let refused: Vec<_> = (0..2).map(|_| rated_dot(&mut book, NOON).unwrap_err()).collect();
    let until: Vec<_> = refused.iter().map(|d| d.until.since(NOON).as_millis()).collect();
    assert_eq!((until, refused[0].reason), (vec![3_500, 4_000], Reason::TenantRate), "behind those that are planned");
    assert!(rated_dot(&mut book, NOON + Duration::from_secs(1)).is_ok());
    // Another worker's clock is a little behind: it is in the same second.
    assert!(rated_dot(&mut book, NOON).is_ok());
    assert!(rated_dot(&mut book, NOON + Duration::from_millis(1_500)).is_err());
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Plan),
        3 => any::<(usize, bool)>().prop_map(|(which, is_tried_again)| Step::Dot(which, is_tried_again)),
        3 => (1_u32..40).prop_map(Step::Wait),
        1 => [1_u32..5, 1_u32..5].prop_map(Step::Limits),
    ]
}

/// Sends that are still to leave of one account and one campaign: from when, and the days that each holds, if it does.
struct Sends {
    account: AccountBook,
    campaign: CampaignBook,
    open: Vec<(Timestamp, Option<[String; 2]>)>,
}

impl Sends {
    fn plan(&mut self, now: Timestamp) {
        let (always, warmup) = (Window::always(Zone::UTC), WarmupTable::default());
        let pages = Pages { account: &mut self.account, campaign: &mut self.campaign, tenant: None, provider: None };
        if let Ok(slot) = grant(pages, &always, &warmup, now, Duration::ZERO, up_to(now)) {
            self.open.push((slot.at, Some([slot.account_day, slot.campaign_day])));
        }
    }

    /// Whether it has left.
    fn dot(&mut self, which: usize, now: Timestamp) -> bool {
        let (_, days) = self.open.remove(which);
        let [account_day, campaign_day] = [0, 1].map(|n| days.as_ref().map(|days| days[n].as_str()));
        let used = self.used(now);
        let reserved = Reserved { account_day, campaign_day };
        let admitted =
            admit(Some(&mut self.account), Some(&mut self.campaign), None, reserved, &WarmupTable::default(), now);
        if let Err(d) = admitted {
            let days = [&self.account.pace.zone, &self.campaign.zone].map(|zone| zone.day(d.until));
            self.open.push((d.until, Some(days)));
        } else {
            let limits = [self.account.pace.daily_limit, self.campaign.daily_limit].map(Option::unwrap);
            assert!(used[0] < limits[0] && used[1] < limits[1], "{used:?} of {limits:?}");
        }
        let held = self.open.iter().filter(|(_, days)| days.is_some()).count();
        for days in [&self.account.days, &self.campaign.days] {
            assert_eq!(days.values().map(|day| day.reserved as usize).sum::<usize>(), held);
        }
        admitted.is_ok()
    }

    /// What has left on the days of `now`.
    fn used(&self, now: Timestamp) -> [u32; 2] {
        let used = |days: &Days, zone: &Zone| days.get(&zone.day(now)).map_or(0, |day| day.used);
        [used(&self.account.days, &self.account.pace.zone), used(&self.campaign.days, &self.campaign.zone)]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However late its sends leave, whichever are tried again, and however limits are lowered and raised: no mail leaves on a day of its
    /// account or its campaign that is full; and whoever asks when it may leaves, whatever is planned meanwhile.
    #[test]
    fn no_day_exceeds_its_limit_and_nobody_is_overtaken(
        limits in [1_u32..5, 1_u32..5],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut account, mut campaign) = (account(Some(limits[0]), Duration::ZERO), campaign(Some(limits[1])));
        account.pace.zone = "America/New_York".parse().unwrap();
        campaign.zone = "Europe/Berlin".parse().unwrap();
        let (mut sends, mut now) = (Sends { account, campaign, open: Vec::new() }, NOON);
        for step in steps {
            match step {
                Step::Plan => sends.plan(now),
                Step::Wait(hours) => now = now + HOUR * hours,
                Step::Limits([of_account, of_campaign]) => {
                    sends.account.pace.daily_limit = Some(of_account);
                    sends.campaign.daily_limit = Some(of_campaign);
                }
                Step::Dot(which, is_tried_again) => {
                    let due: Vec<usize> = (0..sends.open.len()).filter(|n| sends.open[*n].0 <= now).collect();
                    if let Some(which) = due.get(which.checked_rem(due.len()).unwrap_or(0)) {
                        let has_left = sends.dot(*which, now);
                        if has_left && is_tried_again {
                            // Its answer was a temporary one: the day's use is given back, and it holds nothing.
                            let Sends { account, campaign, open } = &mut sends;
                            account.days.get_mut(&account.pace.zone.day(now)).unwrap().used -= 1;
                            campaign.days.get_mut(&campaign.zone.day(now)).unwrap().used -= 1;
                            open.push((now + HOUR, None));
                        }
                    }
                }
            }
        }
        let waiting = sends.open.len();
        for _ in 0..=2 * waiting {
            let Some(next) = sends.open.iter().map(|(at, _)| *at).min() else { break };
            now = now.max(next);
            // Others take all the room that is left before those who waited ask.
            (0..8).for_each(|_| sends.plan(now));
            for _ in 0..sends.open.len() {
                if let Some(which) = sends.open.iter().position(|(at, _)| *at <= now) {
                    sends.dot(which, now);
                }
            }
        }
        prop_assert!(sends.open.is_empty(), "{} of {waiting} never left", sends.open.len());
    }

    /// Whatever is planned and however late it leaves: no window sees more dots than the rate allows, and nobody who is
    /// refused gets a slot that another has.
    #[test]
    fn no_window_exceeds_a_tenants_rate(
        rate in prop::sample::select(vec![0.3, 0.5, 1.0, 1.5, 2.5, 3.0, 7.0, 40.0]),
        lateness in prop::collection::vec(0_u64..3_000, 1..80),
    ) {
        let (mut book, always) = (tenant(rate), Window::always(Zone::UTC));
        let mut open: Vec<Timestamp> = lateness.iter().map(|_| spaced(&mut book, &always, NOON).unwrap()).collect();
        let mut windows: BTreeMap<Timestamp, u32> = BTreeMap::new();
        let mut now = NOON;
        for late in lateness.iter().cycle() {
            let Some(next) = open.iter().position(|slot| Some(slot) == open.iter().min()) else { break };
            let slot = open.remove(next);
            now = now.max(slot + Duration::from_millis(*late));
            match rated_dot(&mut book, now) {
                Ok(()) => *windows.entry(book.rate.window_of(now)).or_default() += 1,
                Err(d) => {
                    assert!(d.until > now - book.rate.gap() && !open.contains(&d.until), "{d:?}");
                    open.push(d.until);
                }
            }
        }
        assert_eq!(windows.values().sum::<u32>() as usize, lateness.len());
        assert!(windows.values().all(|dots| *dots <= book.rate.per_window()), "{windows:?}");
        let length = book.rate.gap() * book.rate.per_window();
        assert!(f64::from(book.rate.per_window()) <= rate * length.as_secs_f64() + 1e-9, "{rate}");
    }
}
