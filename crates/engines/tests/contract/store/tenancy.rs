//! A foreign tenant's ids in the batches of the scheduler and the worker: they get nothing and change nothing.
//!
//! What a tenant asks itself stands in `foreign_ids`. To add a batch: a case here.

use domain::ids::TenantId;
use domain::schedule::WarmupTable;
use domain::settle::Outcome;
use domain::step::Due;
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::{DotAnswer, DotRequest};
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;
use engines::store::plan::PlanRequest;

use super::scene::{HOUR, OWNER, Scene, request, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn a_stranger_plans_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let request = PlanRequest {
            tenant_id: TenantId::from_uuid(new_id()),
            campaign_id: f.campaign_id,
            now: NOW,
            horizon: HOUR,
            limit: 10,
            epoch: 1,
            after: None,
        };
        assert!(f.store.system().plan_page(&request, &WarmupTable::default(), &new_id).await.is_err());
        assert!(f.sends().await.is_empty());
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
    a_stranger_plans_nothing
    a_strangers_hint_fetches_nothing
    a_strangers_dot_and_result_are_refused
    a_stranger_enrolls_nobody_in_a_foreign_campaign
}
