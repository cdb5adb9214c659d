//! The forecast of a paused campaign or a draft is what happens once it is resumed, also with an account that refusals have paused.
//!
//! Not responsible for forecasts of what is under way (`forecast`). To add something that a resume lets go on: its stop here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::values;

use super::forecast::foreseen_if;
use super::{Simulation, are_the_same};
use crate::foresight::Idle;
use crate::setup;

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);

/// As the last of too many refusals does: the account of which most is on its way.
static REFUSE: Statement = Statement::new(
    "REFUSE",
    "UPDATE email_accounts SET status = 'paused', status_reason = 'refusal_rate', refusals_since = $1 WHERE id = (
        SELECT s.email_account_id FROM sends s WHERE s.open GROUP BY s.email_account_id ORDER BY COUNT(*) DESC LIMIT 1)
        RETURNING email AS x",
);
static OPEN: Statement = Statement::new("OPEN", "SELECT COUNT(*) AS n FROM sends WHERE open AND not_before <= $1");

/// Of each account one mail is on its way at most: which of several overdue ones goes first is the workers' choice.
const CAMPAIGN: &str = r#"
[tenant]
name = "Acme"
[company]
name = "Acme Ltd"
address = "1 Main Street"
[[email_account]]
email = "ana@acme.test"
smtp = "smtp://mail.acme.test"
daily_limit = 40
min_gap_seconds = 90
[[email_account]]
email = "ben@acme.test"
smtp = "smtp://mail.acme.test"
min_gap_seconds = 100
[campaign]
name = "C"
leads = "leads.csv"
max_lateness = 2
[[step]]
subject = "One"
html = "hello.html"
[[step]]
wait_hours = 30
subject = "Two"
html = "hello.html"
"#;

/// Writes the campaign, with this beside its settings, into a folder.
fn write(folder: &Path, setting: &str) -> PathBuf {
    let file = folder.join("campaign.toml");
    std::fs::write(&file, CAMPAIGN.replace("max_lateness = 2", setting)).unwrap();
    std::fs::write(folder.join("hello.html"), "<p>Hello</p>").unwrap();
    let leads: String = (0..60).map(|n| format!("lead{n}@example.test\n")).collect();
    std::fs::write(folder.join("leads.csv"), format!("email\n{leads}")).unwrap();
    file
}

/// Pauses the campaign and one of its accounts after so many minutes, foresees, resumes, and compares.
async fn compare(minutes: u32) {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let simulation = Simulation::begin(origin).await;
    let folder = tempfile::tempdir().unwrap();
    let (tenant_id, id) = simulation.start(&write(folder.path(), "max_lateness = 2")).await;
    let (tenant, db) = (simulation.ctx.store.tenant(tenant_id), simulation.ctx.store.db());
    simulation.live_until(origin + HOUR / 60 * minutes).await;
    let refused = db.write(&REFUSE, values![simulation.clock.now()]).await.unwrap();
    let refused: String = refused[0].get("x").unwrap();
    assert!(tenant.pause_campaign(id, simulation.clock.now()).await.unwrap());
    simulation.live_until(simulation.clock.now() + HOUR * 30).await;
    assert!(simulation.number(&OPEN).await > 0, "mail waits for a person");
    let before = simulation.accepted().len();
    let foreseen = foreseen_if(&simulation, tenant_id, id, Idle::AsIfItWentOn).await;
    assert!(tenant.resume_campaign(id, simulation.clock.now()).await.unwrap());
    simulation.live(origin + LONG).await;
    let happened = simulation.accepted().split_off(before);
    are_the_same(&foreseen, &happened, &format!("after {minutes} minutes"));
    assert_eq!(before + happened.len(), 120);
    assert!(happened.iter().any(|(_, _, from)| *from == refused), "the account goes on");
    simulation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_campaign_goes_on_as_foreseen() {
    for minutes in [3, 20, 47] {
        compare(minutes).await;
    }
}

/// Its leads have been waiting since their import: they begin over the hours from its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_goes_on_as_foreseen() {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    for (setting, wait) in [("max_lateness = 2", 0), ("max_lateness = 2", 26), ("first_step_spread_hours = 24", 0)] {
        let simulation = Simulation::begin(origin).await;
        let folder = tempfile::tempdir().unwrap();
        let file = write(folder.path(), setting);
        let first = format!("[[step]]\nwait_hours = {wait}\nsubject = \"One\"");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("[[step]]\nsubject = \"One\"", &first))
            .unwrap();
        let report = simulation.import(&file, false, false).await;
        simulation.live_until(origin + HOUR * 30).await;
        let foreseen = foreseen_if(&simulation, report.tenant_id, report.campaign_id, Idle::AsIfItWentOn).await;
        let tenant = simulation.ctx.store.tenant(report.tenant_id);
        assert!(setup::start(&tenant, report.campaign_id, None, simulation.clock.now()).await.unwrap());
        let began = simulation.clock.now();
        simulation.live(origin + LONG).await;
        let happened = simulation.accepted();
        are_the_same(&foreseen, &happened, setting);
        assert!(happened.iter().all(|mail| mail.0 >= began + HOUR * wait), "{wait} hours from the start");
        assert_eq!(happened.len(), 120);
        simulation.end().await;
    }
}
