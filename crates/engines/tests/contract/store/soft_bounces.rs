//! Soft bounces are counted from the ledger: those of one lead, in all campaigns of its tenant, within thirty days.

use domain::settle::{LeadEffect, Outcome, ReplyAction, settle};
use domain::time::Timestamp;
use engines::Store;
use engines::store::fetch::SendJob;

use super::scene::{DAY, Scene, acme, apply_setup, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

/// A further campaign of the same tenant with the same lead; its send, as a worker read it.
async fn next_campaign(f: &Scene, name: &str, now: Timestamp) -> (Scene, SendJob) {
    let mut setup = acme();
    setup.campaign = name.into();
    let report = apply_setup(&f.store, &setup).await.unwrap();
    let next = Scene { store: f.store.clone(), setup, tenant_id: report.tenant_id, campaign_id: report.campaign_id };
    assert_eq!(next.enroll(0..1).await, 1);
    assert!(next.tenant().start_campaign(next.campaign_id, now).await.unwrap());
    let job = next.jobs(now).await.remove(0);
    (next, job)
}

async fn count(f: &Scene, job: &SendJob, now: Timestamp) -> u32 {
    f.tenant().count_soft_bounces(job.lead.id, now - 30 * DAY).await.unwrap()
}

/// The mail cannot be taken; decided by what the ledger holds, as the worker does it.
async fn bounce(f: &Scene, job: &SendJob, action: ReplyAction, now: Timestamp) -> Option<LeadEffect> {
    let mut bounced = result(job, job.fence, Outcome::Refused(action), now);
    let before = count(f, job, now).await;
    let attempted = super::scene::attempted(job, now, before);
    bounced.transition = settle(Outcome::Refused(action), &attempted, &Default::default(), now, 0.5);
    bounced.was_dot = false;
    let effect = bounced.transition.lead;
    f.apply(&[bounced], now).await;
    effect
}

fn three_in_thirty_days_suppress_over_all_campaigns_of_the_tenant(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (first, job) = Scene::one_job(store, |_| {}).await;
        assert_eq!(bounce(&first, &job, ReplyAction::BounceSoft, NOW).await, None);
        let soon = NOW + DAY;
        let (second, job) = next_campaign(&first, "Second", soon).await;
        assert_eq!(count(&second, &job, soon).await, 1);
        assert_eq!(bounce(&second, &job, ReplyAction::BounceSoft, soon).await, None);
        // Thirty days after the first one it counts no more.
        let late = NOW + 30 * DAY;
        let (third, job) = next_campaign(&first, "Third", late).await;
        assert_eq!(count(&third, &job, late).await, 1);
        assert_eq!(bounce(&third, &job, ReplyAction::BounceSoft, late).await, None);
        let (fourth, job) = next_campaign(&first, "Fourth", late).await;
        assert_eq!(count(&fourth, &job, late).await, 2);
        assert_eq!(bounce(&fourth, &job, ReplyAction::BounceSoft, late).await, Some(LeadEffect::Bounced));
        assert_eq!(first.one::<String>("SELECT status AS x FROM leads").await, "bounced");
        assert_eq!(first.one::<String>("SELECT email AS x FROM suppression_list").await, "lead0@example.test");
    });
}

fn other_failures_and_other_tenants_leads_do_not_count(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        assert_eq!(bounce(&f, &jobs[0], ReplyAction::FailRouting, NOW).await, None);
        assert_eq!(bounce(&f, &jobs[1], ReplyAction::FailPolicy, NOW).await, None);
        assert_eq!(bounce(&f, &jobs[2], ReplyAction::BounceSoft, NOW).await, None);
        assert_eq!([count(&f, &jobs[0], NOW).await, count(&f, &jobs[1], NOW).await], [0, 0]);
        assert_eq!(count(&f, &jobs[2], NOW).await, 1);
        let stranger = f.stranger().await;
        assert_eq!(stranger.count_soft_bounces(jobs[2].lead.id, NOW - 30 * DAY).await.unwrap(), 0);
    });
}

on_every_engine! {
    three_in_thirty_days_suppress_over_all_campaigns_of_the_tenant
    other_failures_and_other_tenants_leads_do_not_count
}
