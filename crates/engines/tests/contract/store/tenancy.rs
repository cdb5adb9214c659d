//! A foreign tenant's ids see nothing and change nothing.

use domain::email_account::AccountStatus;
use domain::ids::TenantId;
use domain::settle::Outcome;
use domain::step::Due;
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::{DotAnswer, DotRequest};
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;

use super::scene::{OWNER, Scene, request, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn a_stranger_reads_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let stranger = f.stranger().await;
        assert!(stranger.get_campaign(f.campaign_id).await.is_err());
        assert!(stranger.campaign_report(f.campaign_id).await.is_err());
        assert!(stranger.get_account(f.account_of(&job)).await.is_err());
        assert!(stranger.get_template(job.template.0).await.is_err());
        f.store.system().store_events(&[f.event(&job, domain::event::EventType::Open)], NOW).await.unwrap();
        assert!(stranger.list_event_counts(f.campaign_id).await.unwrap().is_empty());
        assert_eq!(f.tenant().list_event_counts(f.campaign_id).await.unwrap().len(), 1);
    });
}

fn a_stranger_stops_and_starts_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let stranger = f.stranger().await;
        assert!(!stranger.pause_campaign(f.campaign_id, NOW).await.unwrap());
        assert!(!stranger.resume_campaign(f.campaign_id, NOW).await.unwrap());
        assert!(!stranger.start_campaign(f.campaign_id, NOW).await.unwrap());
        assert_eq!(stranger.cancel_campaign(f.campaign_id, NOW).await.unwrap(), None);
        let account = f.account_of(&job);
        assert!(stranger.set_account_status(account, AccountStatus::Paused, None, NOW).await.is_err());
        f.granted(&job, NOW).await;
    });
}

fn a_strangers_hint_fetches_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let foreign = TenantId::from_uuid(new_id());
        let found = f.store.system().fetch(&[(foreign, job.send_id), (f.tenant_id, job.send_id)], NOW).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tenant_id, f.tenant_id);
    });
}

fn a_strangers_dot_and_result_are_refused(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let tenant_id = TenantId::from_uuid(new_id());
        let foreign = SendJob { tenant_id, ..job.clone() };
        assert_eq!(f.dot(&foreign, NOW).await, DotAnswer::Refused);
        assert_eq!(f.apply(&[result(&foreign, job.fence, Outcome::Accepted, NOW)], NOW).await, [Applied::Stale]);
        assert_eq!(f.sends().await, ["planned"]);
        f.granted(&job, NOW).await;
        let withdrawn = DotRequest { tenant_id, ..request(&job, NOW) };
        assert_eq!(f.store.system().withdraw(&[withdrawn], OWNER, NOW).await.unwrap(), 0);
        assert_eq!(f.apply(&[result(&foreign, job.fence + 1, Outcome::Accepted, NOW)], NOW).await, [Applied::Stale]);
        assert_eq!(f.sends().await, ["dot"]);
        assert_eq!(f.account_days().await, (0, 1));
    });
}

fn a_stranger_enrolls_nobody_in_a_foreign_campaign(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let stranger = f.stranger().await;
        let lead = NewLead { email: "intruder@example.test".into(), ..NewLead::default() };
        let first = Due { step_order: 1, at: NOW };
        assert!(stranger.import_leads(Some((f.campaign_id, first)), vec![lead], &new_id, NOW).await.is_err());
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_leads").await, 1);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM leads").await, 1, "nothing of the batch is written");
    });
}

on_every_engine! {
    a_stranger_reads_nothing
    a_stranger_stops_and_starts_nothing
    a_strangers_hint_fetches_nothing
    a_strangers_dot_and_result_are_refused
    a_stranger_enrolls_nobody_in_a_foreign_campaign
}
