//! Why a dot was refused: each reason by the fact that makes it.

use domain::email_account::AccountStatus;
use domain::reason::Reason;
use domain::time::Timestamp;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::{Store, values};

use super::scene::{DAY, MINUTE, OWNER, Scene, request};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

/// Asks for the dot, which must be refused, and then why.
async fn why(f: &Scene, job: &SendJob, now: Timestamp) -> Option<Reason> {
    let request = [request(job, now)];
    assert_eq!(f.intend(&request, now).await, [DotAnswer::Refused]);
    f.store.system().why_refused(&request, now).await.unwrap()[0]
}

fn what_stops_many_is_named(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let account = f.account_of(&job);
        f.tenant().set_account_status(account, AccountStatus::AuthenticationFailed, None, NOW).await.unwrap();
        assert_eq!(why(&f, &job, NOW).await, Some(Reason::AuthenticationFailed));
        f.tenant().set_account_status(account, AccountStatus::Active, None, NOW).await.unwrap();
        f.write("UPDATE campaign_sequence_steps SET is_active = $1", values![false]).await;
        assert_eq!(why(&f, &job, NOW).await, Some(Reason::StepInactive));
        assert!(f.tenant().pause_campaign(f.campaign_id, NOW).await.unwrap());
        assert_eq!(why(&f, &job, NOW).await, Some(Reason::CampaignPaused), "the widest reason is told");
        f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap();
        assert_eq!(why(&f, &job, NOW).await, Some(Reason::CampaignCancelled));
    });
}

fn what_excludes_a_lead_is_named(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        f.unsubscribe(&jobs[0], NOW).await;
        assert_eq!(why(&f, &jobs[0], NOW).await, Some(Reason::LeadUnsubscribed));
        let sql =
            "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, created_at, updated_at)
            SELECT $1, tenant_id, email, 'complaint', 'api', $2, $2, $2 FROM leads WHERE id = $3";
        f.write(sql, values![crate::engine::new_id(), NOW, jobs[1].lead.id]).await;
        assert_eq!(why(&f, &jobs[1], NOW).await, Some(Reason::Suppressed));
    });
}

fn a_limit_is_named(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |s| s.accounts[0].daily_limit = Some(2)).await;
        let late = f.jobs(NOW).await;
        f.plan(NOW + DAY).await;
        assert_eq!(why(&f, &late[0], NOW + DAY).await, Some(Reason::AccountCap));
    });
}

fn a_send_that_another_holder_has_has_no_reason_of_its_own(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        f.granted(&job, NOW).await;
        assert_eq!(why(&f, &job, NOW).await, None, "it is in `dot`");
        f.store.system().withdraw(&[request(&job, NOW)], OWNER, NOW).await.unwrap();
        let next = f.refetch(&job, NOW + MINUTE).await.unwrap();
        f.granted(&next, NOW + MINUTE).await;
        assert_eq!(why(&f, &job, NOW + MINUTE).await, None);
    });
}

on_every_engine! {
    what_stops_many_is_named
    what_excludes_a_lead_is_named
    a_limit_is_named
    a_send_that_another_holder_has_has_no_reason_of_its_own
}
