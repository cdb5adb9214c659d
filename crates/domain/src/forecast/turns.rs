//! Turns in which nothing can change are left out of a forecast: taking every one of them changes no mail.
//!
//! A scheduler takes them all, but for those in which its campaign rests. To add something on which an answer depends: a field of
//! `Given`.

use proptest::prelude::*;

use super::tests::{DAY, NOW, account, lead, prospect, step};
use super::*;
use crate::campaign::TimezoneStrategy;
use crate::pace::Rate;
use crate::step::{Condition, ConditionType, Step, StepType};
use crate::time::Zone;

const ZONES: [&str; 5] = ["UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata", "Pacific/Apia"];
const TICK: Duration = Duration::from_secs(20);

/// What is random.
#[derive(Clone, Debug)]
struct Given {
    page: usize,
    is_local: bool,
    /// Of the week, from Monday on.
    days: [bool; 7],
    /// The hour of the day when it opens, and for how many.
    window: Option<(u8, u8)>,
    campaign_limit: Option<u32>,
    /// Gap in seconds, mails a day, zone.
    accounts: Vec<(u64, u32, usize)>,
    /// Messages a second of the tenant.
    rate: Option<f64>,
    /// Hours.
    max_lateness: Option<f64>,
    /// Zone, and minutes until it is due.
    leads: Vec<(usize, u32)>,
    /// Minutes before the second mail, and what else there is to wait for ahead of it.
    wait: u32,
    between: Option<(StepType, u32)>,
}

fn given() -> impl Strategy<Value = Given> {
    let account = (prop_oneof![Just(0_u64), 30..2_000_u64], 1..6_u32, 0..ZONES.len());
    let lead = (0..ZONES.len(), prop_oneof![Just(0), 0..3_000_u32]);
    let limits = (
        prop::option::weighted(0.2, 2..8_u32),
        prop::option::weighted(0.2, prop_oneof![Just(0.003), Just(0.1), Just(2.0)]),
        prop::option::weighted(0.2, prop_oneof![Just(0.5), Just(3.0)]),
    );
    let between = (prop_oneof![Just(StepType::Wait), Just(StepType::Condition)], 0..3_000_u32);
    (
        prop_oneof![Just(500_usize), 2..20_usize],
        prop::bool::weighted(0.8),
        prop::array::uniform7(prop::bool::weighted(0.6)),
        prop::option::of((0..24_u8, 1..24_u8)),
        limits,
        prop::collection::vec(account, 1..8),
        prop::collection::vec(lead, 2..30),
        (0..3_000_u32, prop::option::weighted(0.4, between)),
    )
        .prop_map(|(page, is_local, days, window, limits, accounts, leads, (wait, between))| {
            let (campaign_limit, rate, max_lateness) = limits;
            Given { page, is_local, days, window, campaign_limit, accounts, rate, max_lateness, leads, wait, between }
        })
}

fn world(given: &Given) -> World {
    let zone = |n: usize| ZONES[n].parse::<Zone>().unwrap();
    let pool: Vec<usize> = (1..=given.accounts.len()).collect();
    let mut prospect = prospect(0, given.leads.len(), &pool);
    let settings = &mut prospect.plan.settings;
    settings.timezone_strategy =
        if given.is_local { TimezoneStrategy::RecipientLocal } else { TimezoneStrategy::Single };
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let chosen: Vec<_> =
        names.iter().zip(given.days).filter_map(|(name, is_chosen)| is_chosen.then_some(name)).collect();
    if !chosen.is_empty() {
        settings.send_days = serde_json::from_value(serde_json::json!(chosen)).unwrap();
    }
    if let Some((from, hours)) = given.window {
        settings.send_time_start = format!("{from:02}:00").parse().unwrap();
        settings.send_time_end = format!("{:02}:00", (from + hours) % 24).parse().unwrap();
    }
    prospect.book.daily_limit = given.campaign_limit;
    settings.daily_limit = given.campaign_limit;
    settings.max_lateness = given.max_lateness;
    let minutes = |minutes: u32| Duration::from_secs(60 * u64::from(minutes));
    let steps = &mut prospect.plan.steps;
    steps[1].wait = minutes(given.wait);
    if let Some((step_type, wait)) = given.between {
        steps[1].step_order = 3;
        let condition = Condition::from(ConditionType::NotOpened);
        steps.insert(1, Step { step_order: 2, step_type, wait: minutes(wait), condition, ..step(0, 3) });
    }
    for (n, (zone_of, due)) in given.leads.iter().enumerate() {
        let mut lead = lead(0, n);
        lead.lead_zone = Some(zone(*zone_of));
        lead.due.at = NOW + minutes(*due);
        prospect.waiting[n] = lead;
    }
    let accounts = given.accounts.iter().zip(1..).map(|((gap, limit, zone_of), n)| {
        let (id, mut book) = account(n, *gap, Some(*limit));
        book.pace.zone = zone(*zone_of);
        (id, book)
    });
    let rhythm = Rhythm { tick: TICK, horizon: 3 * TICK, page: given.page, warmup: WarmupTable::default() };
    let rate = given.rate.and_then(Rate::per_second);
    let tenant = rate.map(|rate| TenantBook { rate, last_slot_at: None, spaced_until: NOW, window_at: None, dots: 0 });
    let shared = Shared { accounts: accounts.collect(), tenant, providers: None };
    World::new(NOW, rhythm, shared, vec![prospect])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn taking_every_turn_changes_no_mail(given in given()) {
        let foreseen = world(&given).outlook(0, &Zone::UTC, NOW + 60 * DAY);
        let mut every = world(&given);
        every.takes_every_turn = true;
        let lived = every.outlook(0, &Zone::UTC, NOW + 60 * DAY);
        prop_assert_eq!(foreseen.slots, lived.slots);
    }
}
