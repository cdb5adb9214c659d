//! A recurring campaign is lived as it was foreseen, round by round, and is completed behind its last one.
//!
//! Not responsible for single occurrences (`domain::rounds`). To add another rhythm: a pair in the case below.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::campaign::CampaignStatus;
use domain::ids::{CampaignId, EnrollmentId, TenantId};
use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::values;

use super::engine::Engine;
use super::forecast::foreseen;
use super::plans::{Plan, Use, name};
use super::rules::{Letter, Rules};
use super::{Mail, Simulation, are_the_same};
use crate::foresight::{Idle, foresee};

/// Friday, before the changes of clocks of spring in Europe and of autumn on Lord Howe Island.
const ORIGIN: &str = "2026-03-20T10:00:00Z";
const DAY: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(400 * 24 * 3600);
/// Rounds that may begin, the first one included.
const ROUNDS: usize = 3;

static FINISHED: Statement = Statement::new(
    "FINISHED",
    "SELECT e.id, l.email FROM campaign_leads e JOIN leads l ON l.id = e.lead_id
        WHERE e.campaign_id = $1 AND e.status = 'completed'",
);

/// Has the campaign come back.
fn recur(plan: &Plan, repeat: &str) {
    let text = std::fs::read_to_string(&plan.file).unwrap();
    let recurring = format!("[campaign]\nrepeat = \"{repeat}\"\nrepeat_count = {ROUNDS}\n");
    assert!(text.contains("[campaign]\n"));
    std::fs::write(&plan.file, text.replacen("[campaign]\n", &recurring, 1)).unwrap();
}

/// When the next mail leaves of everybody who has finished a round; nobody is told of a round that does not come.
async fn explained(simulation: &Simulation, tenant_id: TenantId, id: CampaignId) -> BTreeMap<String, Timestamp> {
    let foresight = foresee(&simulation.ctx, tenant_id, id, Idle::AsItStands).await.unwrap();
    let mut next = BTreeMap::new();
    for row in simulation.ctx.store.db().read(&FINISHED, values![id]).await.unwrap() {
        let enrollment: EnrollmentId = row.get("id").unwrap();
        let told = foresight.world.clone().explain(foresight.campaign, enrollment, foresight.now + LONG);
        assert_eq!(told.next_round.is_some(), told.slot.is_some(), "{told:?}");
        if let (Some(begins), Some(slot)) = (told.next_round, told.slot) {
            assert!(slot.at >= begins && slot.step_order == 1, "{slot:?}");
            next.insert(row.get("email").unwrap(), slot.at);
        }
    }
    next
}

/// Each lead gets its mails in the order of the sequence, all of one round before those of the next; how many rounds.
fn most_rounds(plan: &Plan, letters: &[Letter]) -> usize {
    let subjects: Vec<&str> = plan.steps.iter().filter_map(|step| Some(name(step.what.as_ref().ok()?))).collect();
    let mut most = 0;
    for (lead, _) in &plan.leads {
        let own = letters.iter().filter(|letter| letter.to == *lead);
        let places: Vec<usize> =
            own.map(|letter| subjects.iter().position(|subject| *subject == name(&letter.subject)).unwrap()).collect();
        let begins = 1 + places.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        assert!(begins <= ROUNDS, "{lead}: {places:?}");
        most = most.max(begins);
    }
    most
}

async fn compare(engine: Engine, seed: u64, repeat: &str) {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let Some(simulation) = Simulation::begin_on(engine, origin).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::write(seed, 24, Use::Foreseen, folder.path());
    recur(&plan, repeat);
    let (tenant_id, id) = simulation.start(&plan.file).await;
    let all = foreseen(&simulation, tenant_id, id).await;
    let mut told = 0;
    for days in [6, 13, 20, 33] {
        simulation.live_until(origin + DAY * days).await;
        let before = simulation.accepted().len();
        let (next, rest) = (explained(&simulation, tenant_id, id).await, foreseen(&simulation, tenant_id, id).await);
        let to_come = |mail: &&Mail| mail.0 >= origin + DAY * days;
        let left: Vec<Mail> = all.iter().filter(to_come).cloned().collect();
        are_the_same(&left, &rest, &format!("seed {seed}, foreseen again on day {days} behind {before} mails"));
        for (lead, at) in next {
            let first = rest.iter().filter(|mail| mail.1 == lead).map(|mail| mail.0).min();
            assert_eq!(first, Some(at), "seed {seed}, {lead} on day {days}");
            told += 1;
        }
    }
    simulation.live(origin + LONG).await;
    are_the_same(&all, &simulation.accepted(), &format!("seed {seed}, {repeat}"));
    let letters = simulation.letters();
    Rules::of(&letters).judge(&plan, plan.settings.daily_limit);
    assert_eq!(most_rounds(&plan, &letters), ROUNDS, "seed {seed}");
    assert!(told > 0, "seed {seed}: somebody was between two rounds");
    let report = simulation.ctx.store.tenant(tenant_id).campaign_report(id).await.unwrap();
    assert_eq!((report.status, report.sent), (CampaignStatus::Completed, letters.len() as u64), "seed {seed}");
    simulation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_come_as_foreseen() {
    for (seed, repeat) in [(81, "weekly"), (82, "monthly"), (83, "weekly")] {
        compare(Engine::Sqlite, seed, repeat).await;
    }
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rounds_come_as_foreseen() {
        compare(Engine::Postgres, 81, "weekly").await;
    }
}
