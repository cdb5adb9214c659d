//! The dot gate, results and recovery: fences, last-moment checks, what each outcome writes.

use std::time::Duration;

use domain::email_account::AccountStatus;
use domain::send::SendStatus;
use domain::settle::{Outcome, ReplyAction};
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dead_letters::Selection;
use engines::store::dot::DotAnswer;

use super::fixture::{DAY, Fixture, dot_request, settled};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

fn of_two_holders_one_gets_through(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let jobs = fixture.jobs(NOW).await;
        let (a, b) = tokio::join!(fixture.intend(&jobs, "a", NOW), fixture.intend(&jobs, "b", NOW));
        let granted = [a[0], b[0]].iter().filter(|x| matches!(x, DotAnswer::Granted { .. })).count();
        assert_eq!(granted, 1);
        assert_eq!(fixture.intend(&jobs, "c", NOW).await, [DotAnswer::Refused], "a stale fence");
    });
}

fn what_was_answered_before_the_dot_wins(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 2, None).await;
        let tenant = fixture.store.tenant(fixture.tenant_id);
        let jobs = fixture.jobs(NOW).await;
        assert!(tenant.pause_campaign(fixture.campaign_id, NOW).await.unwrap());
        assert_eq!(fixture.intend(&jobs, "w", NOW).await, [DotAnswer::Refused; 2]);
        assert!(tenant.resume_campaign(fixture.campaign_id, NOW).await.unwrap());
        let account = jobs[0].account.0;
        tenant.set_account_status(account, AccountStatus::Paused, None, NOW).await.unwrap();
        assert_eq!(fixture.intend(&jobs, "w", NOW).await, [DotAnswer::Refused; 2]);
        tenant.set_account_status(account, AccountStatus::Active, None, NOW).await.unwrap();
        assert!(matches!(fixture.intend(&jobs[..1], "w", NOW).await[0], DotAnswer::Granted { .. }));
        assert_eq!(tenant.cancel_campaign(fixture.campaign_id, NOW).await.unwrap(), Some(1), "the other one");
        assert_eq!(fixture.intend(&jobs[1..], "w", NOW).await, [DotAnswer::Refused]);
    });
}

fn a_sent_mail_moves_its_lead_on_and_is_written_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let job = &fixture.jobs(NOW).await[0];
        let DotAnswer::Granted { fence } = fixture.intend(std::slice::from_ref(job), "w", NOW).await[0] else {
            panic!()
        };
        let result = settled(job, fence, Outcome::Accepted, NOW);
        assert_eq!(fixture.apply(std::slice::from_ref(&result), NOW).await, [Applied::Done]);
        assert_eq!(fixture.apply(&[result], NOW).await, [Applied::Stale], "the same result again");
        let report = fixture.report().await;
        assert_eq!((report.sent, report.pending), (1, 1), "one more mail is to come");
        assert!(fixture.plan(NOW).await.planned.is_empty(), "it is not due");
        let second = &fixture.jobs(NOW + DAY).await[0];
        assert_eq!((second.step_order, second.thread_message_ids.is_some()), (2, true));
        assert_eq!(fixture.finish(second, Outcome::Accepted, NOW + DAY).await, Applied::Done);
        assert_eq!(fixture.store.system().complete_campaigns(NOW + DAY).await.unwrap(), [fixture.campaign_id]);
        assert_eq!(fixture.report().await.planned(), 2);
    });
}

fn a_late_result_with_an_old_fence_changes_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let job = &fixture.jobs(NOW).await[0];
        fixture.intend(std::slice::from_ref(job), "w", NOW).await;
        let stale = settled(job, job.fence, Outcome::Refused(ReplyAction::BounceHard), NOW);
        assert_eq!(fixture.apply(&[stale], NOW).await, [Applied::Stale]);
        assert_eq!(fixture.report().await.bounced, 0);
    });
}

fn a_bounce_excludes_the_lead_everywhere(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 2, None).await;
        let jobs = fixture.jobs(NOW).await;
        fixture.finish(&jobs[0], Outcome::Refused(ReplyAction::BounceHard), NOW).await;
        let report = fixture.report().await;
        assert_eq!((report.bounced, report.pending), (1, 1));
        assert_eq!(report.reasons[0].reason, "unknown_recipient");
        fixture.finish(&jobs[1], Outcome::Accepted, NOW).await;
        assert_eq!(fixture.plan(NOW + DAY).await.planned.len(), 1, "only the other lead goes on");
    });
}

fn trouble_with_the_server_makes_the_account_wait(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, Some(5)).await;
        let job = &fixture.jobs(NOW).await[0];
        fixture.finish(job, Outcome::Refused(ReplyAction::BackOffAccount), NOW).await;
        let system = fixture.store.system();
        assert!(system.reconcile(1, NOW, 10, NOW).await.unwrap().is_empty(), "the account waits");
        let later = NOW + Duration::from_secs(120);
        let hints = system.reconcile(1, NOW, 10, later).await.unwrap();
        let again = &fixture.fetch(&hints, later).await[0];
        assert_eq!((again.attempts, again.account_failures, again.first_attempt_at), (0, 1, Some(NOW)));
        fixture.finish(again, Outcome::Accepted, later).await;
        assert_eq!(fixture.report().await.sent, 1);
    });
}

fn hints_are_brought_again_only_when_they_are_old_or_lost(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 3, None).await;
        assert_eq!(fixture.plan(NOW).await.planned.len(), 3);
        let system = fixture.store.system();
        let soon = NOW + Duration::from_secs(10);
        let stale = |at: domain::time::Timestamp| at - Duration::from_secs(60);
        assert!(system.reconcile(1, stale(soon), 10, soon).await.unwrap().is_empty(), "fresh");
        assert_eq!(system.reconcile(2, stale(soon), 10, soon).await.unwrap().len(), 3, "a new epoch");
        assert!(system.reconcile(2, stale(soon), 10, soon).await.unwrap().is_empty());
        let late = soon + Duration::from_secs(60);
        assert_eq!(system.reconcile(2, stale(late), 2, late).await.unwrap().len(), 2, "old, at most the limit");
    });
}

fn a_dead_owners_dots_are_found_and_settled_as_unknown(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let system = fixture.store.system();
        system.heartbeat("dead", "host", 1, NOW).await.unwrap();
        system.heartbeat("dead", "host", 1, NOW).await.unwrap();
        assert_eq!(system.list_owners().await.unwrap(), [("dead".to_owned(), 2)]);
        let jobs = fixture.jobs(NOW).await;
        fixture.intend(&jobs, "dead", NOW).await;
        system.remove_owner("dead").await.unwrap();
        assert_eq!(system.list_owners().await.unwrap().len(), 1, "it has something open");
        let dots = system.dots_of("dead").await.unwrap();
        assert_eq!((dots.len(), dots[0].unknowns), (1, 0));
        fixture.apply(&[settled(&jobs[0], dots[0].fence, Outcome::Unknown, NOW)], NOW).await;
        assert_eq!(fixture.report().await.unknown, 1);
        let hints = system.reconcile(1, NOW, 10, NOW).await.unwrap();
        let again = &fixture.fetch(&hints, NOW).await[0];
        assert_eq!((again.unknowns, again.fence), (1, dots[0].fence), "the next gate raises the fence");
        system.remove_owner("dead").await.unwrap();
        assert!(system.list_owners().await.unwrap().is_empty());
        fixture.finish(again, Outcome::Unknown, NOW).await;
        assert_eq!(fixture.report().await.held, 1, "a second unknown is held");
        assert!(system.complete_campaigns(NOW).await.unwrap().is_empty(), "a held send keeps the campaign open");
    });
}

fn an_intent_is_withdrawn_by_its_owner_alone(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, Some(1)).await;
        let jobs = fixture.jobs(NOW).await;
        fixture.intend(&jobs, "w", NOW).await;
        let request = [dot_request(&jobs[0], NOW)];
        let system = fixture.store.system();
        assert_eq!(system.withdraw(&request, "other", NOW).await.unwrap(), 0);
        assert_eq!(system.withdraw(&request, "w", NOW).await.unwrap(), 1);
        let hints = system.reconcile(1, NOW, 10, NOW).await.unwrap();
        let again = fixture.fetch(&hints, NOW).await;
        assert!(
            matches!(fixture.intend(&again, "w", NOW).await[0], DotAnswer::Granted { .. }),
            "its use was given back"
        );
    });
}

fn a_failed_send_is_a_dead_letter_that_can_be_replayed(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let job = &fixture.jobs(NOW).await[0];
        fixture.finish(job, Outcome::Refused(ReplyAction::FailPolicy), NOW).await;
        let system = fixture.store.system();
        assert_eq!(system.complete_campaigns(NOW).await.unwrap().len(), 1);
        let letters = system.list_dead_letters(Selection::default(), 10).await.unwrap();
        assert_eq!((letters.len(), letters[0].error.as_str()), (1, "policy_refusal"));
        let which = Selection { campaign_id: Some(fixture.campaign_id), ..Selection::default() };
        assert_eq!(system.replay(which, NOW).await.unwrap().0, 1);
        assert_eq!(system.replay(which, NOW).await.unwrap().0, 0, "once");
        let hints = system.reconcile(1, NOW, 10, NOW).await.unwrap();
        fixture.finish(&fixture.fetch(&hints, NOW).await[0], Outcome::Accepted, NOW).await;
        let report = fixture.report().await;
        assert_eq!((report.sent, report.failed, report.pending), (1, 0, 1), "and its lead goes on");
    });
}

fn a_proof_settles_a_held_send(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let job = &fixture.jobs(NOW).await[0];
        let held = fixture.finish(job, Outcome::Poison, NOW).await;
        assert_eq!(held, Applied::Done);
        let late = settled(job, job.fence + 1, Outcome::Accepted, NOW);
        assert_eq!(late.transition.status, SendStatus::Sent);
        assert_eq!(fixture.apply(&[late], NOW).await, [Applied::Done], "a late 250 is proof");
        assert_eq!((fixture.report().await.sent, fixture.report().await.held), (1, 0));
    });
}

on_every_engine! {
    of_two_holders_one_gets_through
    what_was_answered_before_the_dot_wins
    a_sent_mail_moves_its_lead_on_and_is_written_once
    a_late_result_with_an_old_fence_changes_nothing
    a_bounce_excludes_the_lead_everywhere
    trouble_with_the_server_makes_the_account_wait
    hints_are_brought_again_only_when_they_are_old_or_lost
    a_dead_owners_dots_are_found_and_settled_as_unknown
    an_intent_is_withdrawn_by_its_owner_alone
    a_failed_send_is_a_dead_letter_that_can_be_replayed
    a_proof_settles_a_held_send
}
