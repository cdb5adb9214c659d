//! A tenant's rate, over all its campaigns, accounts, planners and gates.
//!
//! Not responsible for the arithmetic of windows (`domain::pace`). To add somebody who gives slots or grants dots: a case
//! in which it meets a planner or a gate.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::pace::Rate;
use domain::reason::Reason;
use domain::settle::Outcome;
use domain::time::Timestamp;
use engines::db::LockKind;
use engines::dialect::{Dialect, Statement};
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;
use engines::store::setup::TenantRate;
use engines::{Access, Store, values};

use super::scene::{HOUR, MINUTE, SECOND, Scene, account, apply_setup, result};
use crate::engine::{Engine, NOW, with_store, with_two_stores};
use crate::on_every_engine;

/// A campaign under way of a tenant with this rate, with leads and an account that no other of its campaigns has.
async fn rated(store: Store, name: &str, rate: f64, leads: std::ops::Range<usize>) -> Scene {
    let f = Scene::draft(store, |s| {
        s.campaign = name.into();
        s.accounts = vec![account(&format!("{name}@acme.test"))];
        s.tenant_rate = TenantRate::PerSecond(rate);
    })
    .await;
    let lead = |n| NewLead { email: format!("lead{n}@example.test"), ..NewLead::default() };
    f.import(leads.map(lead).collect(), NOW).await;
    assert!(f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap());
    f
}

/// The same campaign as another process sees it.
fn seen_by(other: Store, f: &Scene) -> Scene {
    Scene { store: other, setup: f.setup.clone(), ..*f }
}

/// How many of these moments lie in each window; never more than the rate allows.
pub(super) fn windows(rate: f64, moments: &[Timestamp]) -> BTreeMap<Timestamp, u32> {
    let rate = Rate::per_second(rate).unwrap();
    let mut found = BTreeMap::new();
    for at in moments {
        *found.entry(rate.window_of(*at)).or_default() += 1;
    }
    assert!(found.values().all(|many| *many <= rate.per_window()), "{found:?}");
    found
}

fn two_planners_of_two_campaigns_give_each_slot_once(engine: Engine) {
    for rate in [3.0, 0.5] {
        with_two_stores(engine, async |one: Store, other: Store| {
            let a = rated(one.clone(), "A", rate, 0..60).await;
            let b = rated(one, "B", rate, 60..120).await;
            let (a2, b2) = (seen_by(other.clone(), &a), seen_by(other, &b));
            let mut planned = 0;
            for turn in 0..4 {
                let (now, horizon) = (NOW + 5 * SECOND * turn, 10 * SECOND);
                let pages = tokio::join!(
                    a.plan_within(horizon, now),
                    b2.plan_within(horizon, now),
                    b.plan_within(horizon, now),
                    a2.plan_within(horizon, now)
                );
                planned += [pages.0, pages.1, pages.2, pages.3].iter().map(|page| page.planned.len()).sum::<usize>();
            }
            let slots: Vec<Timestamp> = a.column("SELECT not_before AS x FROM sends ORDER BY not_before").await;
            assert_eq!(slots.len(), planned);
            assert_eq!(slots.iter().collect::<HashSet<_>>().len(), planned, "each slot once");
            let seconds = (25.0 * rate) as usize;
            assert!((seconds..=seconds + 1).contains(&planned), "{planned}: 25 seconds are all given");
            windows(rate, &slots);
            let left = [
                a.plan_within(10 * SECOND, NOW + 15 * SECOND).await,
                b.plan_within(10 * SECOND, NOW + 15 * SECOND).await,
            ];
            assert!(left.iter().any(|page| page.deferred > 0), "whoever is left waits");
        });
    }
}

/// All are late, so the gates have to say no: two of them, each with an account of its own, at the same moments.
fn two_gates_never_grant_one_too_many(engine: Engine) {
    for (rate, leads, least) in [(3.0, 20, 6), (0.5, 4, 6)] {
        with_two_stores(engine, async |one: Store, other: Store| {
            let a = rated(one.clone(), "A", rate, 0..leads).await;
            let b = rated(one, "B", rate, leads..2 * leads).await;
            let gates = [seen_by(other.clone(), &a), seen_by(other, &a)];
            let mut hints = a.plan_within(HOUR, NOW).await.planned;
            hints.extend(b.plan_within(HOUR, NOW).await.planned);
            assert_eq!(hints.len(), 2 * leads);
            let (mut refused, mut now) = (0, NOW + HOUR);
            let mut open = usize::MAX;
            while open > 0 {
                let jobs = a.fetch(&hints, now).await;
                let requests = |f: &Scene| -> Vec<_> {
                    jobs.iter().filter(|job| job.campaign.0 == f.campaign_id).map(|job| f.request(job, now)).collect()
                };
                let (of_a, of_b) = (requests(&a), requests(&b));
                let (x, y) = tokio::join!(gates[0].intend(&of_a, now), gates[1].intend(&of_b, now));
                let granted = x.iter().chain(&y).filter(|answer| **answer != DotAnswer::Refused).count();
                refused += jobs.len() - granted;
                now = now + Duration::from_millis(130);
                open = a.column::<String>("SELECT status AS x FROM sends WHERE status <> 'dot'").await.len();
            }
            let dots: Vec<Timestamp> =
                a.column("SELECT last_attempt_at AS x FROM sends ORDER BY last_attempt_at").await;
            let found = windows(rate, &dots);
            assert_eq!(dots.len(), 2 * leads);
            assert!(found.len() >= least && refused > leads, "the gate has refused: {refused}, {found:?}");
            let fastest = Duration::from_secs_f64((2 * leads) as f64 / rate);
            assert!(
                now.since(NOW + HOUR) <= fastest + 4 * SECOND,
                "and has wasted little: {:?}",
                now.since(NOW + HOUR)
            );
        });
    }
}

fn a_refused_dot_gets_the_next_slot_and_counts_no_attempt(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = rated(store, "A", 1.0, 0..3).await;
        let page = f.plan(NOW).await;
        let late = NOW + MINUTE;
        let jobs = f.fetch(&page.planned, late).await;
        let requests: Vec<_> = jobs.iter().map(|job| f.request(job, late)).collect();
        let answers = f.intend(&requests, late).await;
        assert_eq!(answers.iter().filter(|answer| **answer != DotAnswer::Refused).count(), 1);
        let why = f.store.system().why_refused(&requests, late).await.unwrap();
        assert_eq!(why.iter().filter(|why| **why == Some(Reason::TenantRate)).count(), 2);
        let slots: Vec<Timestamp> = f
            .column("SELECT not_before AS x FROM sends WHERE status = 'queued' AND attempts = 0 ORDER BY not_before")
            .await;
        assert_eq!(slots, [late + SECOND, late + 2 * SECOND]);
        assert_eq!(f.account_days().await, (2, 1), "they keep the day's slots");
        let after = f.plan_within(MINUTE, late).await;
        assert!(after.planned.is_empty(), "all are planned");
        let first: SendJob = f.fetch(&page.planned, slots[0]).await.remove(0);
        let fence = f.granted(&first, slots[0]).await;
        f.apply(&[result(&first, fence, Outcome::Accepted, slots[0])], slots[0]).await;
    });
}

/// Many slots were given; without those that had them nobody is to wait behind the holes.
fn who_is_cancelled_or_paused_leaves_no_holes_to_wait_behind(engine: Engine) {
    for cancels in [true, false] {
        with_store(engine, async |store: Store| {
            let a = rated(store.clone(), "A", 1.0, 0..90).await;
            let b = rated(store, "B", 1.0, 90..100).await;
            assert_eq!(a.plan_within(HOUR, NOW).await.planned.len(), 90);
            assert!(b.plan_within(MINUTE, NOW).await.planned.is_empty());
            if cancels {
                assert_eq!(a.tenant().cancel_campaign(a.campaign_id, NOW).await.unwrap(), Some(90));
            } else {
                assert!(a.tenant().pause_campaign(a.campaign_id, NOW).await.unwrap());
            }
            let slots: Vec<_> = b.plan_within(MINUTE, NOW).await.planned.iter().map(|hint| hint.not_before).collect();
            assert_eq!(slots, (0..10).map(|n| NOW + SECOND * n).collect::<Vec<_>>());
        });
    }
}

/// A planner that has read the tenant's slots writes them back when it ends: a pause that frees them comes behind it.
fn a_pause_waits_for_whoever_gives_the_tenants_slots(engine: Engine) {
    static SLOTS: Statement = Statement::new("SLOTS", "UPDATE tenant_pace SET last_slot_at = $1");
    with_store(engine, async |store: Store| {
        let f = Arc::new(rated(store, "A", 1.0, 0..10).await);
        assert_eq!(f.plan_within(MINUTE, NOW).await.planned.len(), 10);
        let mut planner = f.store.db().begin(Access::Write).await.unwrap();
        planner.lock(LockKind::TenantRate, true, [f.tenant_id.uuid()]).await.unwrap();
        let pause = tokio::spawn({
            let f = Arc::clone(&f);
            async move { f.tenant().pause_campaign(f.campaign_id, NOW).await.unwrap() }
        });
        if f.store.db().dialect() == Dialect::Postgres {
            let waiting = "SELECT COUNT(*) AS x FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted";
            while f.one::<i64>(waiting).await == 0 {
                assert!(!pause.is_finished(), "the pause did not wait for the planner");
            }
        }
        assert_eq!(planner.execute(&SLOTS, values![NOW + HOUR]).await.unwrap(), 1);
        planner.commit().await.unwrap();
        assert!(pause.await.unwrap());
        assert_eq!(f.one::<Option<Timestamp>>("SELECT last_slot_at AS x FROM tenant_pace").await, None);
    });
}

fn a_tenant_without_a_rate_pays_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |s| s.accounts[0].daily_limit = Some(9)).await;
        for job in f.jobs(NOW).await {
            f.granted(&job, NOW).await;
        }
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM tenant_pace").await, 0);
    });
}

fn a_file_sets_keeps_and_lifts_the_rate(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = rated(store, "A", 2.5, 0..1).await;
        let rate = "SELECT max_per_second AS x FROM tenants";
        assert_eq!(f.one::<Option<f64>>(rate).await, Some(2.5));
        let mut setup = f.setup.clone();
        for (says, stored) in
            [(TenantRate::Keep, Some(2.5)), (TenantRate::PerSecond(0.5), Some(0.5)), (TenantRate::None, None)]
        {
            setup.tenant_rate = says;
            apply_setup(&f.store, &setup).await.unwrap();
            assert_eq!(f.one::<Option<f64>>(rate).await, stored);
        }
    });
}

on_every_engine! {
    two_planners_of_two_campaigns_give_each_slot_once
    two_gates_never_grant_one_too_many
    a_refused_dot_gets_the_next_slot_and_counts_no_attempt
    who_is_cancelled_or_paused_leaves_no_holes_to_wait_behind
    a_pause_waits_for_whoever_gives_the_tenants_slots
    a_tenant_without_a_rate_pays_nothing
    a_file_sets_keeps_and_lifts_the_rate
}
