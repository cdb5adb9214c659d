//! What a forecast begins with is what planning sees: the same leads, in the same order, with the same books.

use domain::forecast::{Rhythm, World};
use domain::ids::{CampaignId, LeadId};
use domain::schedule::WarmupTable;
use domain::settle::Outcome;
use domain::time::{Timestamp, Zone};
use engines::dialect::Statement;
use engines::{Access, Error, Store};

use super::scene::{DAY, HOUR, MINUTE, Scene};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

static WAITING: Statement = Statement::new(
    "WAITING",
    "SELECT COUNT(*) AS n FROM campaign_leads WHERE status = 'active' AND due_at IS NOT NULL",
);
static OPEN: Statement = Statement::new("OPEN", "SELECT COUNT(*) AS n FROM sends WHERE open");

/// Who gets which slot, as it is foreseen at `now`, up to `until`.
async fn foreseen(f: &Scene, now: Timestamp, until: Timestamp) -> Vec<(LeadId, Timestamp)> {
    let all = f.store.system().prospects(f.tenant_id, f.campaign_id, now).await.unwrap();
    let rhythm = Rhythm { tick: MINUTE / 60, horizon: 10 * MINUTE, page: 100, warmup: WarmupTable::default() };
    let outlook = World::new(now, rhythm, all.shared, all.campaigns).outlook(all.asked, &Zone::UTC, until);
    outlook.slots.into_iter().map(|sent| (sent.lead_id, sent.at)).collect()
}

fn a_forecast_begins_with_what_planning_sees(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 6, |s| {
            s.accounts[0].daily_limit = Some(4);
            s.accounts[0].min_gap_seconds = 60;
        })
        .await;
        let (job, hint) = {
            let page = f.plan(NOW).await;
            let hint = page.planned[0].clone();
            (f.fetch(&page.planned[..1], NOW).await.remove(0), hint)
        };
        // One is sent, three have their slot, two wait for the next day's.
        let fence = f.granted(&job, NOW).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        let all = f.store.system().prospects(f.tenant_id, f.campaign_id, NOW).await.unwrap();
        let asked = &all.campaigns[all.asked];
        assert_eq!((asked.open.len(), asked.waiting.len()), (3, 3), "the sent one waits for its second mail");
        let until = NOW + DAY + 10 * MINUTE;
        let said = foreseen(&f, NOW, until).await;
        assert_eq!(said.len(), 5, "three today, two tomorrow: {said:?}");
        assert!(said.iter().all(|(lead, _)| *lead != hint.lead_id), "the second mail comes later");
        let page = f.plan(NOW + 12 * HOUR).await;
        let planned: Vec<(LeadId, Timestamp)> =
            page.planned.iter().map(|hint| (hint.lead_id, hint.not_before)).collect();
        assert_eq!(planned, said[3..], "the next day's are those that were foreseen");
    });
}

/// Mails that an edit has put off have neither account nor slot until they are planned anew.
fn a_forecast_after_an_edit_is_what_is_then_planned(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 3, |_| {}).await;
        assert_eq!(f.plan(NOW).await.planned.len(), 3);
        f.edit(NOW, |s| s.steps[0].wait_hours = 5.0).await;
        let all = f.store.system().prospects(f.tenant_id, f.campaign_id, NOW).await.unwrap();
        let asked = &all.campaigns[all.asked];
        assert_eq!((asked.open.len(), asked.waiting.len(), asked.stranded), (0, 3, 0));
        let said = foreseen(&f, NOW, NOW + DAY).await;
        let planned = f.plan(NOW + 5 * HOUR).await.planned;
        let planned: Vec<(LeadId, Timestamp)> = planned.iter().map(|hint| (hint.lead_id, hint.not_before)).collect();
        assert_eq!((planned.len(), planned), (3, said));
        // The number of a planned mail's step is that of now.
        f.edit(NOW + 5 * HOUR, |s| s.steps.insert(0, super::scene::email_step("Before", 0.0))).await;
        let all = f.store.system().prospects(f.tenant_id, f.campaign_id, NOW + 5 * HOUR).await.unwrap();
        let open = all.campaigns[all.asked].open.iter().map(|send| send.candidate.due.step_order);
        assert_eq!(open.collect::<Vec<_>>(), [2, 2, 2]);
    });
}

fn a_forecast_of_no_campaign_says_so(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let unknown = CampaignId::from_uuid(crate::engine::new_id());
        let answer = f.store.system().prospects(f.tenant_id, unknown, NOW).await;
        assert!(matches!(answer, Err(Error::NotFound { what: "campaign", .. })));
        // Another tenant's campaign is none of this one's.
        let stranger = f.stranger_id().await;
        assert!(f.store.system().prospects(stranger, f.campaign_id, NOW).await.is_err());
    });
}

/// A lead goes from those who wait to those whose send is open while a forecast reads the one and then the other.
fn what_reads_sees_one_moment(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let mut reader = f.store.db().of_system().begin(Access::Read).await.unwrap();
        assert_eq!(reader.query(&WAITING, vec![]).await.unwrap()[0].get::<u64>("n").unwrap(), 2);
        assert_eq!(f.plan(NOW).await.planned.len(), 2);
        assert_eq!(f.enroll(5..6).await, 1);
        let mut seen = Vec::new();
        for statement in [&OPEN, &WAITING] {
            seen.push(reader.query(statement, vec![]).await.unwrap()[0].get::<u64>("n").unwrap());
        }
        assert_eq!(seen, [0, 2], "each lead once");
        reader.commit().await.unwrap();
        let all = f.store.system().prospects(f.tenant_id, f.campaign_id, NOW).await.unwrap();
        let asked = &all.campaigns[all.asked];
        assert_eq!((asked.open.len(), asked.waiting.len()), (2, 1));
    });
}

on_every_engine! {
    a_forecast_begins_with_what_planning_sees
    a_forecast_after_an_edit_is_what_is_then_planned
    a_forecast_of_no_campaign_says_so
    what_reads_sees_one_moment
}
