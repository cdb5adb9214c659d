//! A restored ledger: its signs, and what of it is held for people.

use domain::ids::{CampaignId, SendId};
use domain::lost_time::LostTime;
use domain::schedule::WarmupTable;
use domain::time::Timestamp;
use engines::Store;
use engines::store::leads::NewLead;
use engines::store::restored::{Committed, Signs};

use super::scene::{DAY, HOUR, MINUTE, OWNER, Scene, request};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

const LOST: LostTime = LostTime { since: NOW, until: Timestamp::from_micros(NOW.micros() + 3_600_000_000) };

fn fd10_a_ledger_is_marked_and_a_mark_never_falls(engine: Engine) {
    with_store(engine, async |store: Store| {
        let system = store.system();
        assert_eq!(
            (system.signs().await.unwrap(), system.mark(NOW, None, &[]).await.unwrap()),
            (Signs::default(), None)
        );
        system.deployment(new_id(), NOW).await.unwrap();
        assert_eq!(system.mark(NOW, None, &[]).await.unwrap(), Some(NOW));
        assert_eq!(system.mark(NOW - DAY, Some(NOW), &[]).await.unwrap(), Some(NOW), "another process was ahead");
        system.name_server("one", NOW).await.unwrap();
        system.name_server("two", NOW).await.unwrap();
        assert_eq!(system.signs().await.unwrap(), Signs { seen_at: Some(NOW), server: Some("one".into()) });
        system.accept(Some("two"), NOW + DAY, NOW).await.unwrap();
        assert_eq!(system.signs().await.unwrap(), Signs { seen_at: Some(NOW + DAY), server: Some("two".into()) });
        let identity = store.db().identity().await.unwrap();
        assert_eq!(identity.is_some(), engine == Engine::Postgres, "{identity:?}");
        assert_eq!(identity, store.db().identity().await.unwrap(), "it stays while nothing is restored");
    });
}

fn fd10_what_is_not_final_and_could_have_left_is_held_page_by_page(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 7, |s| s.accounts[0].min_gap_seconds = 600).await;
        f.plan_within(2 * HOUR, NOW).await;
        let due: i64 = f.one("SELECT COUNT(*) AS x FROM sends").await;
        assert_eq!(due, 7);
        let system = f.store.system();
        assert!(system.lose(LOST, NOW).await.is_err(), "a ledger without a deployment cannot be told");
        system.deployment(new_id(), NOW).await.unwrap();
        system.lose(LOST, NOW).await.unwrap();
        let (mut held, mut after, mut pages) = (0, None, 0);
        loop {
            let (page, next) = system.hold_restored(LOST.until, after, 2, LOST.until).await.unwrap();
            (held, after, pages) = (held + page, next, pages + 1);
            assert!(page <= 2);
            if after.is_none() {
                break;
            }
        }
        let late: Vec<Timestamp> = f.column("SELECT not_before AS x FROM sends WHERE open").await;
        assert!((5..7).contains(&held) && pages > 2, "{held} in {pages}");
        assert_eq!(late.len() as u64, 7 - held, "what goes later was not sent before");
        assert!(late.iter().all(|at| *at > LOST.until));
        assert_eq!(system.hold_restored(LOST.until, None, 100, LOST.until).await.unwrap(), (0, None), "once");
        let reasons: Vec<String> = f.column("SELECT reason AS x FROM sends WHERE status = 'held'").await;
        assert!(reasons.len() as u64 == held && reasons.iter().all(|reason| reason == "restored"));
        assert!(f.store.system().complete_campaigns(NOW + DAY).await.unwrap().is_empty());
    });
}

fn fd10_a_dot_of_lost_time_is_held_and_its_late_250_is_proof(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.store.system().hold_restored(LOST.until, None, 10, NOW).await.unwrap();
        assert_eq!(f.sends().await, ["held"]);
        f.settled(&job, fence, domain::settle::Outcome::Accepted, NOW).await;
        assert_eq!(f.sends().await, ["sent"]);
    });
}

fn fd10_whose_mail_had_not_been_planned_is_held_without_a_slot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 5, |s| s.accounts[0].daily_limit = Some(1)).await;
        // A backlog: due for a day when the backup was made, and a limit let one go.
        let lost = LostTime { since: NOW + DAY, until: NOW + DAY + HOUR };
        assert_eq!(f.plan(NOW).await.planned.len(), 1);
        let system = f.store.system();
        system.deployment(new_id(), NOW).await.unwrap();
        system.lose(lost, NOW).await.unwrap();
        assert_eq!(system.find_lost_time().await.unwrap(), Some(lost));
        assert_eq!(system.postpone_restored(lost.since, None, 3, NOW).await.unwrap().0, 3);
        assert_eq!(system.postpone_restored(lost.since, None, 10, NOW).await.unwrap(), (1, None));
        let dues: Vec<Timestamp> = f.column("SELECT due_at AS x FROM campaign_leads WHERE due_at IS NOT NULL").await;
        assert_eq!(dues, [lost.since; 4], "they cannot have left earlier");
        let page = f.plan(lost.until + MINUTE).await;
        assert_eq!((page.planned.len(), page.held, page.skipped, page.next), (0, 4, 0, None));
        let slots: Vec<Timestamp> = f.column("SELECT not_before AS x FROM sends WHERE status = 'held'").await;
        assert_eq!(slots, [lost.since; 4]);
        assert_eq!(f.account_days().await, (1, 0));
        assert_eq!(f.plan(lost.until + DAY).await.held, 0, "once");
        // Enrolled afterwards: the ledger knows all of them.
        assert_eq!(
            f.import(vec![NewLead { email: "late@example.test".into(), ..NewLead::default() }], lost.until + DAY)
                .await
                .enrolled,
            1
        );
        assert_eq!(f.plan(lost.until + DAY).await.planned.len(), 1);
    });
}

fn fd10_a_ledger_that_went_back_under_a_process_takes_neither_its_mark_nor_its_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let system = f.store.system();
        system.deployment(new_id(), NOW).await.unwrap();
        let known =
            |fence, is_settled| [Committed { send_id: job.send_id, campaign_id: job.campaign.0, fence, is_settled }];
        let mark = async |last, known: &[Committed]| system.mark(NOW, last, known).await;
        let went_back = async |last, known: &[Committed]| mark(last, known).await.is_err_and(|e| e.is_went_back());
        let requests = [request(&job, NOW)];
        let ask =
            async |known: &[Committed]| system.dot_intent(&requests, OWNER, &WarmupTable::default(), known, NOW).await;
        mark(None, &[]).await.unwrap();
        assert!(went_back(Some(NOW + HOUR), &[]).await, "its own mark is not there");
        assert!(went_back(None, &known(job.fence + 1, false)).await, "nor is its dot");
        assert!(ask(&known(job.fence + 1, false)).await.is_err_and(|e| e.is_went_back()));
        assert_eq!(f.sends().await, ["planned"], "no intent");
        let gone = [Committed { send_id: SendId::from_uuid(new_id()), ..known(1, true)[0] }];
        assert!(went_back(None, &gone).await, "nor is its row");
        let deleted = [Committed { campaign_id: CampaignId::from_uuid(new_id()), ..gone[0] }];
        assert!(mark(Some(NOW), &deleted).await.is_ok(), "with its campaign, by a person");
        assert!(ask(&known(job.fence, false)).await.is_ok());
        assert!(went_back(Some(NOW), &known(job.fence + 1, true)).await, "nor is its result");
        assert!(mark(Some(NOW), &known(job.fence + 1, false)).await.is_ok());
        system.doubt(NOW - MINUTE, NOW).await.unwrap();
        assert_eq!(system.signs().await.unwrap().seen_at, Some(NOW - MINUTE));
        assert!(went_back(Some(NOW), &[]).await, "who lost nothing himself stops as well");
        assert_eq!(system.signs().await.unwrap().seen_at, Some(NOW - MINUTE), "and hides it from nobody");
    });
}

on_every_engine! {
    fd10_a_ledger_that_went_back_under_a_process_takes_neither_its_mark_nor_its_dot
    fd10_a_ledger_is_marked_and_a_mark_never_falls
    fd10_what_is_not_final_and_could_have_left_is_held_page_by_page
    fd10_a_dot_of_lost_time_is_held_and_its_late_250_is_proof
    fd10_whose_mail_had_not_been_planned_is_held_without_a_slot
}
