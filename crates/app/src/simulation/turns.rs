//! What one turn takes on: a campaign of many leads keeps nobody of another one waiting, and a turn that stands alone leaves nobody.
//!
//! To add a case: one campaign file a campaign, and what a turn must have planned of it.

use std::collections::HashMap;
use std::path::Path;

use domain::ids::CampaignId;
use engines::Store;
use engines::dialect::Statement;
use engines::values;

use super::Simulation;
use crate::scheduler;

const ORIGIN: &str = "2026-03-20T10:00:00Z";
/// More than a campaign's share of a turn, and less than two.
const MANY: usize = 20_700;

static PLANNED: Statement = Statement::new(
    "PLANNED",
    "SELECT COUNT(*) AS n FROM sends WHERE campaign_id = $1 AND status IN ('planned', 'queued')",
);

/// A campaign whose mails are due within the horizon and not yet, so that no worker takes them meanwhile.
async fn start(simulation: &Simulation, folder: &Path, name: &str, leads: usize) -> CampaignId {
    let list: String = (0..leads).map(|n| format!("{name}{n}@example.test\n")).collect();
    std::fs::write(folder.join(format!("{name}.csv")), format!("email\n{list}")).unwrap();
    std::fs::write(folder.join("hello.html"), "<p>Hello</p>").unwrap();
    let file = folder.join(format!("{name}.toml"));
    let text = format!(
        "[tenant]\nname = \"Acme\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n\
         [[email_account]]\nemail = \"ana@acme.test\"\nsmtp = \"smtp://mail.acme.test\"\n\
         [campaign]\nname = \"{name}\"\nleads = \"{name}.csv\"\n\
         [[step]]\nwait_hours = 0.01\nsubject = \"Hello\"\nhtml = \"hello.html\"\n"
    );
    std::fs::write(&file, text).unwrap();
    simulation.start(&file).await.1
}

async fn planned(store: &Store, campaign: CampaignId) -> usize {
    store.db().read(&PLANNED, values![campaign]).await.unwrap()[0].get::<u64>("n").unwrap() as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_comes_to_every_campaign_and_leaves_nobody() {
    let simulation = Simulation::begin(ORIGIN.parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let many = start(&simulation, folder.path(), "many", MANY).await;
    let one = start(&simulation, folder.path(), "one", 1).await;
    let (ctx, store) = (&simulation.ctx, &simulation.ctx.store);
    let mut left_off = HashMap::new();
    scheduler::turn_over(ctx, &|| true, &mut left_off).await.unwrap();
    assert_eq!((planned(store, many).await, planned(store, one).await), (20_000, 1));
    assert!(left_off.contains_key(&many) && left_off.len() == 1, "the next turn comes at once: {left_off:?}");
    let left = scheduler::enqueue_due_campaigns(ctx, &|| true).await.unwrap();
    assert_eq!((left.planned, planned(store, many).await), (700, MANY));
    let all = start(&simulation, folder.path(), "all", MANY).await;
    let turn = scheduler::enqueue_due_campaigns(ctx, &|| true).await.unwrap();
    assert_eq!(
        (turn.planned as usize, planned(store, all).await),
        (MANY, MANY),
        "who asks for one turn gets as many as it takes"
    );
    simulation.end().await;
}
