//! A campaign with a trial and a rule is lived as it was foreseen: the sample, the hours behind its last mail, and all who
//! waited for the winner.
//!
//! Nobody reacts, as every forecast takes for granted, so the first variant wins. Not responsible for counting
//! (`engines/tests/contract/store/trials.rs`). To add something that trials differ in: a field of `Given`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::reason::Reason;
use domain::time::Timestamp;

use super::engine::Engine;
use super::explain::{explain_all, judge as judge_said};
use super::forecast::foreseen;
use super::rules::Letter;
use super::{Simulation, are_the_same};

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);
const LEADS: usize = 40;

/// What trials differ in.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// Which of the two mails has variants: 1 or 2.
    step: usize,
    after: u32,
    percent: u32,
}

fn write(folder: &Path, given: Given) -> PathBuf {
    let mut text =
        "[tenant]\nname = \"Acme\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n".to_owned();
    for (name, limit, gap) in [("ana", 14, 70), ("ben", 9, 90)] {
        text.push_str(&format!(
            "[[email_account]]\nemail = \"{name}@acme.test\"\nsmtp = \"smtp://mail.acme.test\"\ndaily_limit = {limit}\n\
             min_gap_seconds = {gap}\n"
        ));
    }
    text.push_str(
        "[campaign]\nname = \"Trial\"\nleads = \"leads.csv\"\ntimezone = \"Europe/Madrid\"\nmax_lateness = 3\n\
         send_time_start = \"08:00\"\nsend_time_end = \"19:00\"\n",
    );
    for step in 1..=2 {
        text.push_str(&format!("[[step]]\nwait_hours = {}\nhtml = \"hello.html\"\n", if step == 1 { 0 } else { 20 }));
        if step != given.step {
            text.push_str(&format!("subject = \"{step} plain\"\n"));
            continue;
        }
        let Given { after, percent, .. } = given;
        text.push_str(&format!("winner = {{ by = \"clicks\", after_hours = {after}, sample_percent = {percent} }}\n"));
        for key in ["a", "b", "c"] {
            text.push_str(&format!("[[step.variant]]\nkey = \"{key}\"\nsubject = \"{step} {key}\"\n"));
        }
    }
    let list: String = (0..LEADS).map(|n| format!("lead{n}@example.test\n")).collect();
    std::fs::write(folder.join("leads.csv"), format!("email\n{list}")).unwrap();
    std::fs::write(folder.join("hello.html"), "<p>Hello</p>").unwrap();
    let file = folder.join("trial.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Counted from what was accepted alone: all variants were tried, and behind the hours of the rule the first alone leaves.
fn judge(letters: &[Letter], given: Given) {
    let of_step: Vec<&Letter> =
        letters.iter().filter(|letter| letter.subject.starts_with(&given.step.to_string())).collect();
    assert_eq!(of_step.len(), LEADS);
    let tried = of_step.iter().rposition(|letter| !letter.subject.ends_with('a')).unwrap();
    let subjects: BTreeSet<&str> = of_step[..=tried].iter().map(|letter| letter.subject.as_str()).collect();
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    // The winner's mails are those behind the one long pause.
    let after = HOUR * given.after;
    let pauses = of_step.windows(2).filter(|pair| pair[1].at.since(pair[0].at) >= after);
    assert!(pauses.clone().count() >= 1, "nobody is sent the winner before its time");
    let rest = of_step.iter().filter(|letter| letter.at >= of_step[tried].at + after).count();
    let least = LEADS - LEADS * (given.percent as usize + 25) / 100;
    assert!(rest >= least, "{rest} of at least {least} were sent the winner");
}

async fn compare(engine: Engine, given: Given) {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let Some(simulation) = Simulation::begin_on(engine, origin).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (tenant_id, id) = simulation.start(&write(folder.path(), given)).await;
    let foretold = foreseen(&simulation, tenant_id, id).await;
    let mut told = Vec::new();
    for hours in [0, 1, 3, 24, 30, 50] {
        simulation.live_until(origin + HOUR * hours).await;
        let before = simulation.accepted().len();
        let again = foreseen(&simulation, tenant_id, id).await;
        are_the_same(&foretold[before..], &again, &format!("{given:?}, foreseen again after {hours} hours"));
        told.extend(explain_all(&simulation, tenant_id, id).await);
    }
    assert!(told.iter().any(|said| said.told.reason == Some(Reason::AbWinner)), "nobody waited for the winner");
    simulation.live(origin + LONG).await;
    let accepted = simulation.accepted();
    are_the_same(&foretold, &accepted, &format!("{given:?}"));
    for said in &told {
        assert!(said.told.slot.is_some(), "{:?}", said.told);
        judge_said(&accepted, said, Timestamp::MAX, &format!("{given:?}"));
    }
    judge(&simulation.letters(), given);
    simulation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_is_decided_when_it_was_foreseen() {
    for given in [Given { step: 1, after: 26, percent: 30 }, Given { step: 2, after: 30, percent: 40 }] {
        compare(Engine::Sqlite, given).await;
    }
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_trial_is_decided_when_it_was_foreseen() {
        compare(Engine::Postgres, Given { step: 1, after: 26, percent: 30 }).await;
    }
}
