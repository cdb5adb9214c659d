//! Many schedulers at once plan one campaign until nothing is left: every lead once, no limit exceeded by one.
//!
//! Each has its own connections, as a process has. `PLANNED_LEADS` says to how many leads, where 100,000 are too many. Not responsible for the
//! scheduler's loop (`app`). To add a limit: in `campaign`, and where it is judged.

use std::collections::HashSet;
use std::time::Instant;

use domain::ids::{LeadId, StepId};
use domain::schedule::WarmupTable;
use domain::time::Timestamp;
use engines::Store;
use engines::store::leads::NewLead;
use engines::store::plan::PlanRequest;
use engines::store::setup::TenantRate;

use super::scene::{DAY, HOUR, Scene, account};
use super::slots::WRONG_DAYS;
use super::tenant_rate::windows;
use crate::engine::{Engine, NOW, figure, new_id, with_stores};
use crate::on_every_engine;

/// Messages a second.
const RATE: f64 = 9.5;

fn leads() -> usize {
    std::env::var("PLANNED_LEADS").map_or(100_000, |leads| leads.parse().unwrap())
}

/// A day's limits: of one account, and of the campaign, which is a little less than all accounts have.
fn limits() -> (usize, usize) {
    (leads().div_ceil(20), leads().div_ceil(6))
}

async fn campaign(store: Store) -> Scene {
    let f = Scene::draft(store, |s| {
        s.accounts = ["a", "b", "c", "d"].map(|name| account(&format!("{name}@acme.test"))).into();
        s.accounts.iter_mut().for_each(|a| a.daily_limit = u32::try_from(limits().0).ok());
        s.settings.daily_limit = u32::try_from(limits().1).ok();
        s.tenant_rate = TenantRate::PerSecond(RATE);
        s.steps.truncate(1);
    })
    .await;
    for first in (0..leads()).step_by(5_000) {
        let lead = |n: usize| NewLead { email: format!("lead{n}@example.test"), ..NewLead::default() };
        f.import((first..leads().min(first + 5_000)).map(lead).collect(), NOW).await;
    }
    assert!(f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap());
    f
}

/// What one scheduler planned in one turn, and how often the database had it try again.
type Turn = (Vec<(LeadId, StepId)>, u64);

async fn turn(store: Store, mut request: PlanRequest) -> Turn {
    let (mut planned, mut conflicts) = (Vec::new(), 0);
    loop {
        match store.system().plan_page(&request, &WarmupTable::default(), &new_id).await {
            Ok(page) => {
                planned.extend(page.planned.iter().map(|hint| (hint.lead_id, hint.step_id)));
                request.behind = page.next;
                if request.behind.is_none() {
                    return (planned, conflicts);
                }
            }
            Err(e) => {
                assert!(e.is_transient(), "{e}");
                conflicts += 1;
            }
        }
    }
}

fn many_schedulers_plan_each_lead_once_within_all_limits(engine: Engine) {
    let many = if engine == Engine::Postgres { 8 } else { 2 };
    with_stores(engine, many, async |stores: Vec<Store>| {
        let f = campaign(stores[0].clone()).await;
        let began = Instant::now();
        let (mut seen, mut shared, mut conflicts, mut days) = (HashSet::new(), HashSet::new(), 0, 0);
        while seen.len() < leads() {
            assert!(days < 7, "{} of {} after a week", seen.len(), leads());
            let (tenant_id, campaign_id, now) = (f.tenant_id, f.campaign_id, NOW + DAY * days);
            let request =
                PlanRequest { tenant_id, campaign_id, now, horizon: HOUR, limit: 500, epoch: 1, behind: None };
            let turns: Vec<_> = stores.iter().map(|store| tokio::spawn(turn(store.clone(), request.clone()))).collect();
            for (scheduler, turn) in turns.into_iter().enumerate() {
                let (planned, again) = turn.await.unwrap();
                conflicts += again;
                if !planned.is_empty() {
                    shared.insert(scheduler);
                }
                for one in planned {
                    assert!(seen.insert(one), "planned twice: {one:?}");
                }
            }
            let planned = seen.len().min(limits().1 * (days as usize + 1));
            assert_eq!(seen.len(), planned.min(leads()), "day {days}: as many as the day has, and no more");
            days += 1;
        }
        let took = began.elapsed();
        judge(&f).await;
        assert!(shared.len() > 1, "they have shared the work");
        let engine = format!("{engine:?}").to_lowercase();
        let (all, seconds) = (leads(), took.as_secs_f64());
        figure(&format!("schedulers {engine} {many} planned {all} in {seconds:.1} s, conflicts {conflicts}"));
    });
}

/// Limits are judged by the rows of sends, not by the books.
async fn judge(f: &Scene) {
    assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM sends WHERE status = 'planned'").await, leads() as i64);
    let by_account = "SELECT COUNT(*) AS x FROM sends GROUP BY email_account_id, account_day";
    let by_campaign = "SELECT COUNT(*) AS x FROM sends GROUP BY campaign_day";
    for (days, limit) in [(by_account, limits().0), (by_campaign, limits().1)] {
        let found: Vec<i64> = f.column(days).await;
        assert!(found.len() >= 6 && found.iter().all(|many| *many <= limit as i64), "{limit}: {found:?}");
    }
    assert_eq!(f.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
    let slots: Vec<Timestamp> = f.column("SELECT not_before AS x FROM sends").await;
    assert_eq!(slots.iter().collect::<HashSet<_>>().len(), leads(), "each slot once");
    windows(RATE, &slots);
}

on_every_engine! { many_schedulers_plan_each_lead_once_within_all_limits }
