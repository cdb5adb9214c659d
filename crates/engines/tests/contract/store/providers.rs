//! Caps of recipients' providers, over all campaigns, planners and gates of a tenant.
//!
//! Not responsible for the arithmetic of hours and days (`domain::pace`) or for asking name servers (`app`). To add
//! somebody who sends: a case in which it meets the cap.

use std::collections::BTreeMap;

use domain::pace::ProviderLimit;
use domain::reason::Reason;
use domain::settle::Outcome;
use domain::time::Timestamp;
use engines::Store;
use engines::store::dot::DotAnswer;
use engines::store::dot::providers::LookedUp;
use engines::store::leads::NewLead;
use engines::store::setup::Setup;

use super::scene::{DAY, HOUR, MINUTE, Scene, account, apply_setup, result};
use crate::engine::{Engine, NOW, new_id, with_store, with_stores, with_two_stores};
use crate::on_every_engine;

const GOOGLE: &str = "google.com";

fn per_hour(most: u32) -> Vec<ProviderLimit> {
    vec![ProviderLimit { provider: GOOGLE.into(), per_hour: Some(most), per_day: None }]
}

fn per_day(most: u32) -> Vec<ProviderLimit> {
    vec![ProviderLimit { provider: GOOGLE.into(), per_hour: None, per_day: Some(most) }]
}

/// A campaign of one mail under way, with so many leads at each of two domains of one provider, and at one of another.
async fn campaign(store: Store, name: &str, limits: Option<Vec<ProviderLimit>>, leads: usize) -> Scene {
    let f = Scene::draft(store, |s| {
        s.campaign = name.into();
        s.accounts = vec![account(&format!("{name}@acme.test"))];
        s.provider_limits = limits;
        s.steps.truncate(1);
    })
    .await;
    let lead = |n: usize, domain: &str| NewLead { email: format!("{name}{n}@{domain}"), ..NewLead::default() };
    let domains = ["one.example", "Two.example", "other.example"];
    let all = (0..leads).flat_map(|n| domains.map(|domain| lead(n, domain)));
    f.import(all.collect(), NOW).await;
    assert!(f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap());
    f
}

/// What nobody answers for stays whose it was.
fn silence_makes_no_domain_somebody_elses(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        look_up(&f).await;
        let silent = |domain: &str| LookedUp { domain: domain.into(), provider: None, stale_at: NOW + HOUR };
        let found = [silent("one.example"), silent("gmail.com"), silent("new.example")];
        f.store.system().save_recipient_domains(&found, NOW).await.unwrap();
        let whose = f.column::<String>("SELECT provider AS x FROM recipient_domains ORDER BY domain").await;
        assert_eq!(whose, [GOOGLE, "new.example", GOOGLE, "other.example", GOOGLE]);
        let stale = f.column::<Timestamp>("SELECT stale_at AS x FROM recipient_domains ORDER BY domain").await;
        assert_eq!(stale, [NOW + HOUR, NOW + HOUR, NOW + HOUR, NOW + DAY, NOW + DAY]);
    });
}

async fn look_up(f: &Scene) {
    let found = |domain: &str, provider: &str| LookedUp {
        domain: domain.into(),
        provider: Some(provider.into()),
        stale_at: NOW + DAY,
    };
    let found = [found("one.example", GOOGLE), found("two.example", GOOGLE), found("other.example", "other.example")];
    f.store.system().save_recipient_domains(&found, NOW).await.unwrap();
}

fn seen_by(other: Store, f: &Scene) -> Scene {
    Scene { store: other, setup: f.setup.clone(), ..*f }
}

/// Mails of the limited provider that have or had their slot or dot in each hour of the day of `NOW`.
async fn hours(f: &Scene) -> BTreeMap<i64, usize> {
    let at: Vec<Timestamp> = f
        .column(
            "SELECT CASE WHEN s.status = 'sent' THEN s.last_attempt_at ELSE s.not_before END AS x FROM sends s
            JOIN leads l ON l.id = s.lead_id WHERE l.email NOT LIKE '%other.example'
                AND s.status IN ('planned', 'queued', 'dot', 'sent')",
        )
        .await;
    let mut found = BTreeMap::new();
    for at in at {
        *found.entry(at.since(NOW).as_secs() as i64 / 3600).or_default() += 1;
    }
    found
}

fn eight_planners_at_once_give_no_room_twice(engine: Engine) {
    with_stores(engine, 8, async |stores| {
        let a = campaign(stores[0].clone(), "a", Some(per_hour(7)), 10).await;
        let b = campaign(stores[0].clone(), "b", None, 10).await;
        look_up(&a).await;
        for hour in 0..3_u32 {
            let now = NOW + HOUR * hour;
            let turns = stores.iter().enumerate().map(|(n, store)| {
                let f = seen_by(store.clone(), if n % 2 == 0 { &a } else { &b });
                tokio::spawn(async move {
                    for _ in 0..3 {
                        f.plan(now).await;
                    }
                })
            });
            for turn in turns.collect::<Vec<_>>() {
                turn.await.unwrap();
            }
        }
        assert_eq!(hours(&a).await, BTreeMap::from([(0, 7), (1, 7), (2, 7)]));
        assert_eq!(a.one::<i64>("SELECT COUNT(*) AS x FROM sends WHERE provider IS NULL").await, 20, "others at once");
        let left = "SELECT COUNT(*) AS x FROM campaign_leads WHERE due_at IS NOT NULL AND status = 'active'";
        assert_eq!(a.one::<i64>(left).await, 40 - 21);
    });
}

fn who_was_not_looked_up_waits(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = campaign(store, "a", Some(per_hour(2)), 2).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.deferred), (0, 6));
        assert_eq!(
            page.unknown_domains.into_iter().collect::<Vec<_>>(),
            ["one.example", "other.example", "two.example"]
        );
        look_up(&f).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.unknown_domains.len()), (4, 0), "at once, as far as there is room");
        assert_eq!(hours(&f).await, BTreeMap::from([(0, 2)]));
        let stale = f.plan(NOW + DAY).await;
        assert_eq!((stale.planned.len(), stale.unknown_domains.len()), (2, 2), "what was known goes on");
    });
}

/// Limits that come when all is planned: only the gate can say no.
fn gates_grant_no_dot_beyond_the_cap(engine: Engine) {
    with_two_stores(engine, async |one: Store, other: Store| {
        let f = campaign(one, "a", None, 8).await;
        let hints = f.plan(NOW).await.planned;
        assert_eq!(hints.len(), 24, "no limit yet");
        let limited = Setup { provider_limits: Some(per_hour(3)), ..f.setup.clone() };
        apply_setup(&f.store, &limited).await.unwrap();
        let gates = [seen_by(other, &f), seen_by(f.store.clone(), &f)];
        let jobs = f.fetch(&hints, NOW).await;
        let requests: Vec<_> = jobs.iter().map(|job| f.request(job, NOW)).collect();
        let answers = f.intend(&requests, NOW).await;
        assert!(answers.iter().all(|answer| *answer == DotAnswer::Refused), "nobody knows whose they are");
        let why = f.store.system().why_refused(&requests, NOW).await.unwrap();
        assert!(why.iter().all(|why| *why == Some(Reason::ProviderCap)), "{why:?}");
        assert_eq!(f.store.system().unknown_domains(&requests, NOW).await.unwrap().len(), 3);
        look_up(&f).await;
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM sends WHERE attempts > 0").await, 0, "no try was counted");

        let (mut now, mut dots) = (NOW + MINUTE, Vec::new());
        while dots.len() < 24 {
            let jobs = f.fetch(&hints, now).await;
            let requests: Vec<_> = jobs.iter().map(|job| f.request(job, now)).collect();
            let halves = requests.split_at(requests.len() / 2);
            let (a, b) = tokio::join!(gates[0].intend(halves.0, now), gates[1].intend(halves.1, now));
            for (job, answer) in jobs.iter().zip(a.iter().chain(&b)) {
                if let DotAnswer::Granted { fence } = answer {
                    dots.push((now, job.lead.email.ends_with("other.example")));
                    f.settled(job, *fence, Outcome::Accepted, now).await;
                }
            }
            now = now + 20 * MINUTE;
            assert!(now < NOW + DAY, "{} dots", dots.len());
        }
        assert_eq!(dots.iter().filter(|(at, is_other)| *is_other && *at == NOW + MINUTE).count(), 8, "others at once");
        let found = hours(&f).await;
        assert!(found.values().all(|many| *many <= 3), "{found:?}");
        assert!(found.len() <= 7, "no hour is left out: {found:?}");
    });
}

fn what_is_cancelled_gives_its_room_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let a = campaign(store.clone(), "a", Some(per_day(5)), 5).await;
        look_up(&a).await;
        let b = campaign(store, "b", None, 5).await;
        assert_eq!(a.plan(NOW).await.planned.len(), 10, "five of the provider, and five others");
        assert_eq!(a.tenant().cancel_campaign(a.campaign_id, NOW).await.unwrap(), Some(10));
        assert_eq!(b.plan(NOW).await.planned.len(), 10);
    });
}

fn what_failed_takes_no_room(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = campaign(store.clone(), "a", Some(per_day(4)), 2).await;
        look_up(&f).await;
        for (n, job) in f.jobs(NOW).await.into_iter().enumerate() {
            let fence = f.granted(&job, NOW).await;
            let outcome = if n % 2 == 0 { Outcome::Accepted } else { Outcome::NotComposed };
            f.apply(&[result(&job, fence, outcome, NOW)], NOW).await;
        }
        let taken = "SELECT COUNT(*) AS x FROM sends WHERE provider = 'google.com' AND status = 'sent'";
        let sent = f.one::<i64>(taken).await;
        let b = campaign(store, "b", None, 4).await;
        let planned = b.plan(NOW).await.planned.len() as i64;
        assert_eq!(planned, 4 + (4 - sent), "others, and what is left of the day");
    });
}

fn a_tenant_without_limits_asks_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = campaign(store, "a", None, 3).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.unknown_domains.len()), (9, 0));
        for job in f.fetch(&page.planned, NOW).await {
            f.granted(&job, NOW).await;
        }
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM sends WHERE provider IS NOT NULL").await, 0);
    });
}

fn a_file_sets_keeps_and_lifts_limits(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = campaign(store, "a", Some(per_hour(2)), 1).await;
        let stored = async || f.one::<Option<serde_json::Value>>("SELECT provider_limits AS x FROM tenants").await;
        let two = serde_json::json!([{ "provider": GOOGLE, "per_hour": 2 }]);
        assert_eq!(stored().await, Some(two.clone()));
        for (says, expected) in [(None, Some(two)), (Some(Vec::new()), None)] {
            apply_setup(&f.store, &Setup { provider_limits: says, ..f.setup.clone() }).await.unwrap();
            assert_eq!(stored().await, expected);
        }
        f.write("UPDATE tenants SET provider_limits = '7'", vec![]).await;
        let request = engines::store::plan::PlanRequest {
            tenant_id: f.tenant_id,
            campaign_id: f.campaign_id,
            now: NOW,
            horizon: MINUTE,
            limit: 10,
            epoch: 1,
            behind: None,
        };
        let planned = f.store.system().plan_page(&request, &domain::schedule::WarmupTable::default(), &new_id).await;
        assert!(matches!(planned, Err(engines::Error::Column { .. })), "nothing goes beyond what nobody can read");
    });
}

on_every_engine! {
    silence_makes_no_domain_somebody_elses
    eight_planners_at_once_give_no_room_twice
    who_was_not_looked_up_waits
    gates_grant_no_dot_beyond_the_cap
    what_is_cancelled_gives_its_room_back
    what_failed_takes_no_room
    a_tenant_without_limits_asks_nothing
    a_file_sets_keeps_and_lifts_limits
}
