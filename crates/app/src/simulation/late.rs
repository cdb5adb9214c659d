//! Nothing runs for some hours: whatever is later than its campaign allows is left out and shown, as was foreseen right after
//! it, and nothing else is.
//!
//! Not responsible for waiting for limits, which is no lateness: no limit binds here. To add a time in which nothing runs: a pair
//! of hours in `compare`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use domain::reason::Reason;
use domain::time::Timestamp;
use engines::dialect::Statement;

use super::explain::{explain_all, judge};
use super::forecast::foreseen;
use super::plans::{Plan, Step, Use, name};
use super::rules::{Letter, Rules, is_open};
use super::{Simulation, are_the_same};

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

static LEFT_OUT: Statement =
    Statement::new("LEFT_OUT", "SELECT COUNT(*) AS n FROM sends WHERE status = 'skipped' AND reason = 'too_late'");

/// Whether a letter could have left so long before `latest` that it should have been left out: due, and its window open. Behind
/// a mail that was left out itself, its due time does not follow from what was accepted.
fn is_too_late(plan: &Plan, letters: &[Letter], letter: &Letter, (origin, latest): (Timestamp, Timestamp)) -> bool {
    let place_of = |letter: &Letter| {
        let is_it = |step: &Step| step.what.as_ref().is_ok_and(|what| name(what) == name(&letter.subject));
        plan.steps.iter().position(is_it).unwrap()
    };
    let before = letters.iter().rfind(|other| other.to == letter.to && other.at < letter.at);
    let way = &plan.steps[before.map_or(0, |before| place_of(before) + 1)..=place_of(letter)];
    if way.iter().filter(|step| step.what.is_ok()).count() > 1 {
        return false;
    }
    let due = way.iter().fold(before.map_or(origin, |before| before.at), |at, step| step.due(at));
    let moments = std::iter::successors(Some(due), |at| Some(*at + MINUTE));
    moments.take_while(|at| *at < latest).any(|at| is_open(plan, &letter.to, at))
}

/// A campaign that waits for no limit, so that only its windows and the time in which nothing runs hold anybody up.
pub(super) fn unlimited(seed: u64, folder: &Path) -> Plan {
    let mut plan = Plan::write(seed, 40, Use::Steered, folder);
    plan.settings.max_lateness = Some(2);
    plan.settings.daily_limit = None;
    for account in &mut plan.accounts {
        (account.gap, account.daily_limit, account.warms_up) = (0, 400, false);
    }
    plan.save();
    plan
}

/// How many mails were left out.
async fn compare(seed: u64, reasons: &mut BTreeSet<Reason>) -> u64 {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let simulation = Simulation::begin(origin).await;
    let folder = tempfile::tempdir().unwrap();
    let plan = unlimited(seed, folder.path());
    let (tenant_id, id) = simulation.start(&plan.file).await;
    for (stops, next) in [(1, 22), (22, 46), (46, 94), (94, 12_000)] {
        simulation.live_until(origin + HOUR * stops).await;
        simulation.stand_still(HOUR * 5);
        let woken = simulation.clock.now();
        let before = simulation.letters().len();
        let told = explain_all(&simulation, tenant_id, id).await;
        reasons.extend(told.iter().flat_map(|said| [said.told.reason, said.told.left_out]).flatten());
        let mut foreseen = foreseen(&simulation, tenant_id, id).await;
        let until = origin + HOUR * next;
        foreseen.retain(|mail| mail.0 < until);
        simulation.live_until(until).await;
        let happened = simulation.accepted().split_off(before);
        are_the_same(&foreseen, &happened, &format!("seed {seed}, woken at {woken}"));
        let accepted = simulation.accepted();
        for said in &told {
            judge(&accepted, said, until, &format!("seed {seed}, woken at {woken}"));
        }
        let letters = simulation.letters();
        for letter in &letters[before..] {
            let times = (origin, woken - HOUR * 2);
            assert!(!is_too_late(&plan, &letters, letter, times), "seed {seed}, woken at {woken}: {letter:?}");
        }
        Rules::of(&letters).from(before).judge(&plan, None);
    }
    let left_out = simulation.ctx.store.db().read(&LEFT_OUT, vec![]).await.unwrap()[0].get("n").unwrap();
    simulation.end().await;
    left_out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_late_is_left_out_as_foreseen() {
    let (mut left_out, mut reasons) = (0, BTreeSet::new());
    for seed in 61..=66 {
        left_out += compare(seed, &mut reasons).await;
    }
    assert!(left_out > 0 && reasons.contains(&Reason::TooLate), "{left_out} were left out: {reasons:?}");
}
