//! A forecast equals what then happens, send by send: from which account, to whom, and when to the microsecond.
#![expect(clippy::print_stdout, reason = "how much was compared stands beside the result")]

use std::time::{Duration, Instant};

use domain::time::Timestamp;

use super::engine::Engine;
use super::plans::{Plan, Use};
use super::rules::Rules;
use super::{Mail, Simulation, TICK, are_the_same, seeds};
use crate::foresight::{Idle, foresee};

/// Friday, before the changes of clocks of spring in Europe and of autumn on Lord Howe Island.
const ORIGIN: &str = "2026-03-20T10:00:00Z";
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);

/// What is compared besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// Those in which nothing can happen are left out.
    Jumped,
    /// Every single one of the first time, as a scheduler takes them.
    AllOf(Duration),
}

/// Foresees a campaign of this seed, lives it, and compares; judges it by the rules.
async fn compare(engine: Engine, seed: u64, leads: usize, turns: Turns) {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let Some(mut simulation) = Simulation::begin_on(engine, origin).await else { return };
    if let Turns::AllOf(time) = turns {
        simulation.takes_every_turn_until = origin + time;
    }
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::write(seed, leads, Use::Foreseen, folder.path());
    let (tenant_id, id) = simulation.start(&plan.file).await;
    let began = Instant::now();
    let foreseen = foreseen(&simulation, tenant_id, id).await;
    let took = began.elapsed();
    simulation.live(origin + LONG).await;
    let happened = simulation.accepted();
    are_the_same(&foreseen, &happened, &format!("seed {seed}"));
    assert!(happened.len() > leads, "seed {seed} has follow-ups: {}", happened.len());
    let letters = simulation.letters();
    Rules::of(&letters).judge(&plan, plan.settings.daily_limit);
    Rules::of(&letters).judge_waits(&plan, origin);
    Rules::of(&letters).judge_jitter(&plan);
    let days = letters.last().unwrap().at.since(origin).as_secs() / 86_400;
    println!(
        "seed {seed}: {} mails over {days} days as foreseen in {took:?}, lived in {:?}",
        happened.len(),
        began.elapsed()
    );
    simulation.end().await;
}

pub(super) async fn foreseen(
    simulation: &Simulation,
    tenant_id: domain::ids::TenantId,
    id: domain::ids::CampaignId,
) -> Vec<Mail> {
    foreseen_if(simulation, tenant_id, id, Idle::AsItStands).await
}

pub(super) async fn foreseen_if(
    simulation: &Simulation,
    tenant_id: domain::ids::TenantId,
    id: domain::ids::CampaignId,
    idle: Idle,
) -> Vec<Mail> {
    let ctx = &simulation.ctx;
    let foresight = foresee(ctx, tenant_id, id, idle).await.unwrap();
    assert_eq!(crate::scheduler::rhythm(ctx).tick, TICK);
    let outlook = foresight.world.outlook(foresight.campaign, &foresight.settings.timezone, foresight.now + LONG);
    let tenant = ctx.store.tenant(tenant_id);
    let leads = tenant.lead_addresses(outlook.slots.iter().map(|sent| sent.lead_id)).await.unwrap();
    let accounts = tenant.account_addresses(outlook.slots.iter().map(|sent| sent.account)).await.unwrap();
    outlook.slots.iter().map(|sent| (sent.at, leads[&sent.lead_id].clone(), accounts[&sent.account].clone())).collect()
}

/// `SIMULATED_LEADS=5000` is the whole of it, with a forecast of weeks: minutes in a release build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forecasts_equal_what_then_happens() {
    let leads = std::env::var("SIMULATED_LEADS").map_or(60, |leads| leads.parse().unwrap());
    for seed in seeds(1, 12) {
        compare(Engine::Sqlite, seed, leads, Turns::Jumped).await;
    }
}

/// Leaving turns out hides nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_turn_of_a_while_is_as_foreseen() {
    compare(Engine::Sqlite, 8, 40, Turns::AllOf(Duration::from_secs(10 * 60))).await;
}

/// Of the days before Easter 2026 Norway keeps Thursday and Friday, not Saturday; of those behind it, Monday.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_countrys_holidays_are_days_without_mail() {
    let simulation = Simulation::begin("2026-04-01T12:00:00Z".parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.toml");
    let step = |subject: &str, hours: u32| {
        format!("[[step]]\nwait_hours = {hours}\nsubject = \"{subject}\"\nhtml = \"hello.html\"\n")
    };
    let text = "[tenant]\nname = \"Acme\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n\
        [[email_account]]\nemail = \"ana@acme.test\"\nsmtp = \"smtp://mail.acme.test\"\n\
        [campaign]\nname = \"C\"\nleads = \"leads.csv\"\ntimezone = \"Europe/Oslo\"\nholiday_country = \"NO\"\n";
    std::fs::write(&file, format!("{text}{}{}{}", step("One", 0), step("Two", 24), step("Three", 24))).unwrap();
    std::fs::write(folder.path().join("hello.html"), "<p>Hello</p>").unwrap();
    std::fs::write(folder.path().join("leads.csv"), "email\nlead@example.test\n").unwrap();
    let (tenant_id, id) = simulation.start(&file).await;
    let foreseen = foreseen(&simulation, tenant_id, id).await;
    simulation.live(simulation.origin + LONG).await;
    let happened = simulation.accepted();
    are_the_same(&foreseen, &happened, "over Easter");
    let at: Vec<String> = happened.iter().map(|mail| mail.0.to_string()).collect();
    assert_eq!(at, ["2026-04-01T12:00:00Z", "2026-04-03T22:00:00Z", "2026-04-06T22:00:00Z"]);
    simulation.end().await;
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn forecasts_equal_what_then_happens() {
        for seed in 1..=3 {
            compare(Engine::Postgres, seed, 30, Turns::Jumped).await;
        }
    }
}
