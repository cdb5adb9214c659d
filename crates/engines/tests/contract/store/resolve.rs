//! What people do about sends: a held one resolved, before and after a late 250; failed ones sent again.

use domain::reason::Reason;
use domain::send::SendStatus;
use domain::settle::{Decision, Held, Outcome, ReplyAction, resolve};
use domain::time::Timestamp;
use engines::store::apply::{Applied, Settled};
use engines::store::fetch::SendJob;
use engines::store::resolve::SentAgain;
use engines::{Store, values};

use super::scene::{HOUR, MINUTE, Scene, last_result, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

const LATER: Timestamp = Timestamp::from_unix_seconds(NOW.unix_seconds() + 3600);
const ALL: [Decision; 3] = [Decision::Sent, Decision::Resend, Decision::Cancel];

/// Cuts a granted dot off for the second time.
async fn hold(f: &Scene, job: &SendJob, fence: i64) {
    f.settled(&SendJob { unknowns: 1, ..job.clone() }, fence, Outcome::Unknown, NOW).await;
}

/// A send that was cut off behind its dot and is held: the job and its fence.
async fn held(store: Store) -> (Scene, SendJob, i64) {
    let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
    hold(&f, &job, fence).await;
    assert_eq!(f.sends().await, ["held"]);
    (f, job, fence)
}

/// A decision about a send that was read while it was held.
async fn decided(f: &Scene, job: &SendJob, decision: Decision) -> Settled {
    let send = f.tenant().get_send(job.send_id, LATER).await.unwrap();
    let campaign = f.tenant().get_campaign(f.campaign_id).await.unwrap();
    let facts = Held {
        status: send.status,
        campaign: send.campaign_status,
        exclusion: None,
        last_dot_at: send.last_attempt_at,
        steps: &campaign.plan.steps,
        step_order: send.step_order,
        not_before: send.not_before,
        lost_time: f
            .store
            .system()
            .find_lost_time()
            .await
            .unwrap()
            .filter(|_| send.reason.as_deref() == Some("restored")),
    };
    let transition = resolve(decision, &facts, LATER).unwrap();
    Settled { attempt: None, transition, ..result(job, send.fence, Outcome::Accepted, LATER) }
}

async fn write(f: &Scene, decided: &Settled) -> Applied {
    f.tenant().resolve_send(decided, &new_id, LATER).await.unwrap()
}

async fn references(f: &Scene) -> i64 {
    f.one("SELECT COUNT(*) AS x FROM inbox_message_refs").await
}

fn sent_does_what_a_250_would_have_done(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = held(store).await;
        let days = f.account_days().await;
        let decision = decided(&f, &job, Decision::Sent).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        assert_eq!((f.sends().await, references(&f).await), (vec!["sent".to_owned()], 1));
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 2);
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, NOW + 48 * HOUR);
        let counts =
            f.column::<i64>("SELECT executed_count AS x FROM campaign_sequence_steps ORDER BY step_order").await;
        assert_eq!(counts, [1, 0]);
        assert_eq!(f.account_days().await, days, "its day was charged at the dot");
        assert_eq!(write(&f, &decision).await, Applied::Stale, "once");
        let follow_up = f.jobs(NOW + 48 * HOUR).await.remove(0);
        assert_eq!(follow_up.thread_message_ids.as_deref(), Some(super::scene::message_id(&job).as_str()));
    });
}

fn resend_goes_out_as_the_same_message_and_another_unknown_is_held(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = held(store).await;
        let decision = decided(&f, &job, Decision::Resend).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        let again = f.refetch(&job, LATER).await.unwrap();
        assert_eq!((again.unknowns, again.fence), (1, fence), "counted still, and a late 250 is proof still");
        assert_eq!(again.message_id, Some(super::scene::message_id(&job)));
        assert_eq!(again.first_attempt_at, Some(NOW), "its Date stays");
        assert_eq!(again.budget_began_at, Some(LATER), "a person's word counts for a whole budget");
        assert_eq!(
            f.store.system().reconcile(engines::queue::Lane::Base, 1, NOW, 10, LATER).await.unwrap().len(),
            1,
            "its hint is brought"
        );
        let fence = f.granted(&again, LATER).await;
        f.settled(&again, fence, Outcome::Unknown, LATER).await;
        assert_eq!((f.sends().await, f.one::<i64>("SELECT unknowns AS x FROM sends").await), (vec!["held".into()], 2));
    });
}

fn cancel_goes_on_with_the_next_mail(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = held(store).await;
        let decision = decided(&f, &job, Decision::Cancel).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        assert_eq!((f.sends().await, references(&f).await), (vec!["cancelled".to_owned()], 0));
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "cancelled_by_person");
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, LATER + 48 * HOUR);
        assert_eq!(f.store.system().complete_campaigns(LATER).await.unwrap(), [], "a mail is to come");
    });
}

fn with_the_last_mail_resolved_the_campaign_is_complete(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |s| s.steps.truncate(1)).await;
        hold(&f, &job, fence).await;
        assert_eq!(f.store.system().complete_campaigns(LATER).await.unwrap(), [], "one is held");
        let decision = decided(&f, &job, Decision::Cancel).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        assert_eq!(f.store.system().complete_campaigns(LATER).await.unwrap(), [f.campaign_id]);
    });
}

fn a_late_250_before_the_decision_wins(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = held(store).await;
        let mut decisions = Vec::new();
        for decision in ALL {
            decisions.push(decided(&f, &job, decision).await);
        }
        f.settled(&job, fence, Outcome::Accepted, LATER).await;
        for decision in &decisions {
            assert_eq!(write(&f, decision).await, Applied::Stale);
        }
        assert_eq!((f.sends().await, references(&f).await), (vec!["sent".to_owned()], 1));
    });
}

fn a_late_250_after_the_decision_makes_no_second_of_anything(engine: Engine) {
    for (decision, late, end) in [
        (Decision::Sent, Applied::Stale, "sent"),
        (Decision::Resend, Applied::Done, "sent"),
        (Decision::Cancel, Applied::Stale, "cancelled"),
    ] {
        with_store(engine, async |store: Store| {
            let (f, job, fence) = held(store).await;
            let decision = decided(&f, &job, decision).await;
            assert_eq!(write(&f, &decision).await, Applied::Done);
            assert_eq!(f.apply(&[result(&job, fence, Outcome::Accepted, LATER)], LATER).await, [late]);
            assert_eq!(f.sends().await, [end]);
            assert_eq!(references(&f).await, i64::from(end == "sent"));
            assert!(f.refetch(&job, LATER).await.is_none(), "nothing goes out any more");
        });
    }
}

fn a_decision_and_a_late_250_at_once_end_it_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 24, |s| s.steps.truncate(1)).await;
        let jobs = f.jobs(NOW).await;
        let mut held = Vec::new();
        for job in &jobs {
            let fence = f.granted(job, NOW).await;
            hold(&f, job, fence).await;
            held.push((job, fence));
        }
        for (n, (job, fence)) in held.into_iter().enumerate() {
            let decision = if n % 2 == 0 { Decision::Sent } else { Decision::Cancel };
            let decision = decided(&f, job, decision).await;
            let late = [last_result(job, fence, LATER)];
            let (decided, late) = tokio::join!(write(&f, &decision), f.apply(&late, LATER));
            let done = [decided, late[0]].iter().filter(|applied| **applied == Applied::Done).count();
            assert_eq!(done, 1, "{decided:?} {late:?}");
        }
        let sent: i64 = f.one("SELECT COUNT(*) AS x FROM sends WHERE status = 'sent'").await;
        assert_eq!(references(&f).await, sent, "one reference for each");
        assert_eq!(f.one::<i64>("SELECT executed_count AS x FROM campaign_sequence_steps").await, sent);
    });
}

fn a_campaign_that_was_cancelled_meanwhile_sends_nothing_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = held(store).await;
        let (resend, sent) = (decided(&f, &job, Decision::Resend).await, decided(&f, &job, Decision::Sent).await);
        f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap();
        assert_eq!(write(&f, &resend).await, Applied::Stale);
        assert_eq!(f.sends().await, ["held"], "cancelling decides nothing about it");
        assert_eq!(write(&f, &sent).await, Applied::Done);
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaign_leads").await, "stopped");
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "cancelled");
    });
}

fn a_completed_campaign_opens_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = held(store).await;
        f.write("UPDATE campaigns SET status = 'completed'", vec![]).await;
        let decision = decided(&f, &job, Decision::Resend).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        assert!(f.refetch(&job, LATER).await.is_some());
    });
}

/// Who gets a mail again may keep an account that has room, while the campaign rests until others have.
fn a_campaign_that_rests_is_asked_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = held(store).await;
        let seen = f.one::<Timestamp>("SELECT updated_at AS x FROM campaigns").await;
        f.write("UPDATE campaigns SET next_plan_at = $1", values![LATER + 10 * HOUR]).await;
        let decision = decided(&f, &job, Decision::Resend).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        assert!(f.one::<Timestamp>("SELECT next_plan_at AS x FROM campaigns").await < LATER);
        assert_eq!(f.one::<Timestamp>("SELECT updated_at AS x FROM campaigns").await, seen, "no text has changed");
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending");
    });
}

fn a_poisoned_send_goes_again_and_is_not_held_by_the_old_result(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut poison = result(&job, job.fence, Outcome::Poison, NOW);
        (poison.was_dot, poison.attempt) = (false, None);
        assert_eq!(f.apply(std::slice::from_ref(&poison), NOW).await, [Applied::Done]);
        let send = f.tenant().get_send(job.send_id, LATER).await.unwrap();
        assert_eq!((send.status, send.reason.as_deref()), (SendStatus::Held, Some("poison")));
        assert_eq!((send.unknowns, send.last_attempt_at), (0, None), "no dot ever was");
        let decision = decided(&f, &job, Decision::Resend).await;
        assert_eq!(write(&f, &decision).await, Applied::Done);
        assert_eq!(f.apply(&[poison], LATER).await, [Applied::Stale], "from a journal, once more");
        let again = f.refetch(&job, LATER).await.unwrap();
        let fence = f.granted(&again, LATER).await;
        f.settled(&again, fence, Outcome::Accepted, LATER).await;
        assert_eq!(f.account_days().await, (0, 1));
    });
}

/// Five leads: two failed for different reasons, one bounced, one is held, one failed and unsubscribed since.
async fn troubled(store: Store) -> (Scene, Vec<(SendJob, i64)>) {
    let f = Scene::started(store, 5, |s| s.steps.truncate(1)).await;
    let mut jobs = Vec::new();
    let actions = [ReplyAction::FailContent, ReplyAction::FailPolicy, ReplyAction::BounceHard, ReplyAction::Retry];
    for (n, job) in f.jobs(NOW).await.into_iter().enumerate() {
        let fence = f.granted(&job, NOW).await;
        match actions.get(n) {
            Some(ReplyAction::Retry) => hold(&f, &job, fence).await,
            Some(action) => f.settled(&job, fence, Outcome::Refused(*action), NOW).await,
            None => {
                f.settled(&job, fence, Outcome::Refused(ReplyAction::FailPolicy), NOW).await;
                f.unsubscribe(&job, NOW).await;
            }
        }
        jobs.push((job, fence));
    }
    assert_eq!(f.sends().await, ["failed", "failed", "bounced", "held", "failed"]);
    (f, jobs)
}

async fn again(f: &Scene, reason: Option<Reason>) -> SentAgain {
    let page = f.tenant().send_failed_again(f.campaign_id, reason, None, 100, LATER).await.unwrap();
    assert_eq!(page.next, None);
    page.done
}

fn only_failed_sends_of_leads_who_may_get_mail_go_again_and_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, jobs) = troubled(store).await;
        let letters = async || f.store.system().count_dead_letters().await.unwrap();
        let tries: i64 = f.one("SELECT COUNT(*) AS x FROM send_attempts").await;
        assert_eq!(letters().await, 3);
        assert_eq!(again(&f, Some(Reason::PolicyRefusal)).await, SentAgain { queued: 1, excluded: 1 });
        assert_eq!(f.sends().await, ["failed", "queued", "bounced", "held", "failed"]);
        assert_eq!(again(&f, None).await, SentAgain { queued: 1, excluded: 1 });
        assert_eq!(again(&f, None).await, SentAgain { queued: 0, excluded: 1 }, "once");
        assert_eq!(f.sends().await, ["queued", "queued", "bounced", "held", "failed"]);
        assert_eq!(letters().await, 1, "of the lead who unsubscribed");
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM send_attempts").await, tries, "the history stays");
        let (job, fence) = &jobs[0];
        let fresh = f.refetch(job, LATER).await.unwrap();
        assert_eq!((fresh.attempts, fresh.first_attempt_at), (0, None));
        let old = result(job, *fence, Outcome::Refused(ReplyAction::FailContent), LATER);
        assert_eq!(f.apply(&[old], LATER).await, [Applied::Stale], "the old failure from a journal ends nothing");
        let fence = f.granted(&fresh, LATER).await;
        f.apply(&[last_result(&fresh, fence, LATER)], LATER).await;
        assert_eq!(f.column::<String>("SELECT status AS x FROM campaign_leads ORDER BY id").await[0], "completed");
    });
}

fn sending_again_opens_a_completed_campaign_and_leaves_a_cancelled_one(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::FailPolicy), NOW).await;
        f.write("UPDATE campaigns SET status = 'cancelled'", vec![]).await;
        assert_eq!(again(&f, None).await, SentAgain { queued: 0, excluded: 1 });
        f.write("UPDATE campaigns SET status = 'sending'", vec![]).await;
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
        assert_eq!(again(&f, None).await, SentAgain { queued: 1, excluded: 0 });
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending");
        assert_eq!(f.store.system().complete_campaigns(LATER).await.unwrap(), [], "it is open");
        assert!(f.refetch(&job, LATER).await.is_some());
    });
}

/// Its Date and its Message-ID tell a receiver that it has it already.
fn a_failed_send_that_may_have_arrived_goes_again_as_the_same_message(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Unknown, NOW).await;
        let second = f.refetch(&job, NOW).await.unwrap();
        let fence = f.granted(&second, NOW).await;
        f.settled(&second, fence, Outcome::Refused(ReplyAction::FailContent), NOW).await;
        assert_eq!(again(&f, None).await, SentAgain { queued: 1, excluded: 0 });
        let third = f.refetch(&job, LATER).await.unwrap();
        assert_eq!((third.first_attempt_at, third.budget_began_at), (Some(NOW), Some(LATER)));
        assert_eq!(third.message_id, Some(super::scene::message_id(&job)));
    });
}

/// Planned in lost time while no account could send: whatever a person says of it is done.
fn a_held_send_without_an_account_is_decided_about(engine: Engine) {
    for decision in ALL {
        with_store(engine, async |store: Store| {
            let (f, job) = Scene::one_job(store, |_| {}).await;
            let held = "UPDATE sends SET status = 'held', open = false, reason = 'restored', email_account_id = NULL,
                account_day = NULL, campaign_day = NULL";
            f.write(held, vec![]).await;
            let decided = Settled { email_account_id: None, message: None, ..decided(&f, &job, decision).await };
            assert_eq!(write(&f, &decided).await, Applied::Done);
            let status = f.sends().await.remove(0);
            assert_ne!(status, "held");
            f.store.system().sweep(LATER).await.unwrap();
            f.plan(LATER).await;
            let planned: bool = f.one("SELECT email_account_id IS NOT NULL AS x FROM sends WHERE step_order = 1").await;
            assert_eq!(planned, decision == Decision::Resend, "what goes again is given one: {status}");
        });
    }
}

fn failed_sends_go_again_page_by_page(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _) = troubled(store).await;
        let (mut next, mut queued, mut pages) = (None, 0, 0);
        loop {
            let page = f.tenant().send_failed_again(f.campaign_id, None, next, 1, LATER + MINUTE).await.unwrap();
            (queued, pages) = (queued + page.done.queued, pages + 1);
            let Some(last) = page.next else { break };
            next = Some(last);
        }
        assert_eq!((queued, pages), (2, 4), "three of one each, and an empty one");
    });
}

on_every_engine! {
    sent_does_what_a_250_would_have_done
    resend_goes_out_as_the_same_message_and_another_unknown_is_held
    cancel_goes_on_with_the_next_mail
    with_the_last_mail_resolved_the_campaign_is_complete
    a_late_250_before_the_decision_wins
    a_late_250_after_the_decision_makes_no_second_of_anything
    a_decision_and_a_late_250_at_once_end_it_once
    a_campaign_that_was_cancelled_meanwhile_sends_nothing_again
    a_completed_campaign_opens_again
    a_campaign_that_rests_is_asked_again
    a_poisoned_send_goes_again_and_is_not_held_by_the_old_result
    only_failed_sends_of_leads_who_may_get_mail_go_again_and_once
    sending_again_opens_a_completed_campaign_and_leaves_a_cancelled_one
    failed_sends_go_again_page_by_page
    a_failed_send_that_may_have_arrived_goes_again_as_the_same_message
    a_held_send_without_an_account_is_decided_about
}
