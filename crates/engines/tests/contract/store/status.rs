//! Reports: whatever happened, the states add up to what was planned.

use domain::settle::{Outcome, ReplyAction};
use engines::Store;

use super::scene::{Scene, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

fn every_outcome_is_in_one_state_and_they_add_up(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 8, |_| {}).await;
        f.write("UPDATE leads SET status = 'bounced' WHERE email = 'lead7@example.test'", vec![]).await;
        let jobs = f.jobs(NOW).await;
        let outcomes = [
            Outcome::Accepted,
            Outcome::Refused(ReplyAction::Retry),
            Outcome::Refused(ReplyAction::BounceHard),
            Outcome::Refused(ReplyAction::FailPolicy),
            Outcome::Poison,
        ];
        for (job, outcome) in jobs.iter().zip(outcomes) {
            let fence = f.granted(job, NOW).await;
            f.settled(job, fence, outcome, NOW).await;
        }
        f.unsubscribe(&jobs[5], NOW).await;
        let report = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        assert_eq!((report.sent, report.deferred, report.bounced, report.failed), (1, 1, 1, 1));
        assert_eq!((report.held, report.skipped, report.cancelled), (1, 1, 1));
        assert_eq!(report.pending, 2, "one send on its way, and the second mail of the first lead");
        assert_eq!(report.planned(), 9);
        assert!(report.has_active_account);
        let reasons: Vec<_> = report.reasons.iter().map(|r| (r.state.as_str(), r.reason.as_str(), r.count)).collect();
        assert_eq!(
            reasons,
            [
                ("bounced", "unknown_recipient", 1),
                ("cancelled", "lead_unsubscribed", 1),
                ("deferred", "temporary_refusal", 1),
                ("failed", "policy_refusal", 1),
                ("held", "poison", 1),
                ("skipped", "lead_bounced", 1),
            ]
        );
    });
}

fn leads_who_wait_are_pending_before_they_are_planned(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |_| {}).await;
        let before = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        f.plan(NOW).await;
        let after = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        assert_eq!((before.pending, before.planned(), after.pending, after.planned()), (3, 3, 3, 3));
    });
}

fn an_unknown_outcome_is_counted_and_explained_only_until_it_is_sent(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Unknown, NOW).await;
        let report = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        assert_eq!((report.unknown, report.deferred, report.planned()), (1, 1, 1));
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        let report = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        assert_eq!((report.unknown, report.sent, report.reasons.len()), (1, 1, 0));
    });
}

fn a_send_given_back_is_on_its_way_not_deferred(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut given_back = result(&job, job.fence, Outcome::GivenBack, NOW);
        given_back.was_dot = false;
        f.apply(&[given_back], NOW).await;
        let report = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        assert_eq!((report.pending, report.deferred), (1, 0));
    });
}

on_every_engine! {
    every_outcome_is_in_one_state_and_they_add_up
    leads_who_wait_are_pending_before_they_are_planned
    an_unknown_outcome_is_counted_and_explained_only_until_it_is_sent
    a_send_given_back_is_on_its_way_not_deferred
}
