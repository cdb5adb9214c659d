//! P7: results are written once, by the holder of the fence, with all that follows from them.

use domain::reason::Reason;
use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::DotAnswer;
use engines::values;

use super::scene::{HOUR, MINUTE, OWNER, Scene, message_id, request, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn an_accepted_send_writes_reference_attempt_and_progress(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        assert_eq!(f.sends().await, ["sent"]);
        assert!(!f.one::<bool>("SELECT open AS x FROM sends").await);
        assert_eq!(f.one::<String>("SELECT reply AS x FROM sends").await, "2.0.0 queued");
        assert_eq!(f.one::<Timestamp>("SELECT settled_at AS x FROM sends").await, NOW);
        let reference =
            "SELECT message_id AS x FROM inbox_message_refs WHERE direction = 'outbound' AND status = 'sent'";
        assert_eq!(f.one::<String>(reference).await, message_id(&job));
        assert_eq!(f.one::<String>("SELECT owner AS x FROM send_attempts WHERE counted").await, OWNER);
        assert_eq!(
            f.one::<i64>("SELECT executed_count AS x FROM campaign_sequence_steps WHERE step_order = 1").await,
            1
        );
        assert_eq!(f.account_days().await, (0, 1), "the day's use stays");
    });
}

fn the_next_mail_follows_from_the_time_of_sending_in_the_same_thread(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        let due = NOW + 48 * HOUR;
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, due);
        assert_eq!(f.one::<i64>("SELECT highest_sent_step AS x FROM campaign_leads").await, 1);
        assert!(f.jobs(NOW).await.is_empty());
        let second = f.jobs(due).await.remove(0);
        assert_eq!(second.step_order, 2);
        assert_eq!(second.thread_message_ids, Some(message_id(&job)));
        assert_eq!(second.thread_subject.as_deref(), Some("Hello"));
        let fence = f.granted(&second, due).await;
        f.settled(&second, fence, Outcome::Accepted, due).await;
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaign_leads").await, "completed");
        let thread: String = f.one("SELECT thread_message_ids AS x FROM campaign_leads").await;
        assert_eq!(thread, format!("{} {}", message_id(&job), message_id(&second)));
    });
}

fn a_result_with_an_old_fence_is_stale_and_changes_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let late = result(&job, fence - 1, Outcome::Refused(ReplyAction::BounceHard), NOW);
        assert_eq!(f.apply(&[late], NOW).await, [Applied::Stale]);
        assert_eq!(f.sends().await, ["dot"]);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM send_attempts").await, 0);
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "active");
        assert_eq!(f.account_days().await, (0, 1));
    });
}

fn a_result_given_twice_counts_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        let again = result(&job, fence, Outcome::Accepted, NOW);
        assert_eq!(f.apply(&[again], NOW).await, [Applied::Stale]);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM send_attempts").await, 1);
    });
}

fn a_temporary_refusal_given_twice_counts_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let refused = result(&job, fence, Outcome::Refused(ReplyAction::Retry), NOW);
        assert_eq!(f.apply(std::slice::from_ref(&refused), NOW).await, [Applied::Done]);
        assert_eq!(f.apply(&[refused.clone(), refused], NOW).await, [Applied::Stale, Applied::Stale]);
        assert_eq!(f.one::<i64>("SELECT attempts AS x FROM sends").await, 1);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM send_attempts").await, 1);
        assert_eq!(f.account_days().await, (0, 0), "the use is given back once");
    });
}

fn an_unknown_result_given_twice_counts_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let unknown = result(&job, fence, Outcome::Unknown, NOW);
        assert_eq!(f.apply(std::slice::from_ref(&unknown), NOW).await, [Applied::Done]);
        assert_eq!(f.apply(&[unknown], NOW).await, [Applied::Stale]);
        assert_eq!(f.one::<i64>("SELECT unknowns AS x FROM sends").await, 1);
    });
}

fn time_in_which_nothing_was_attempted_does_not_expire_a_send(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut unreachable = result(&job, job.fence, Outcome::Refused(ReplyAction::BackOffAccount), NOW);
        unreachable.was_dot = false;
        f.apply(&[unreachable], NOW).await;
        let later = NOW + 4 * super::scene::DAY;
        let job = f.refetch(&job, later).await.unwrap();
        assert_eq!(job.first_attempt_at, None);
        let fence = f.granted(&job, later).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::Retry), later).await;
        assert_eq!(f.sends().await, ["queued"], "the first answer about the message starts its time");
    });
}

fn what_stopped_an_account_is_kept_in_words(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut refused = result(&job, job.fence, Outcome::Refused(ReplyAction::PauseAccount), NOW);
        refused.was_dot = false;
        refused.attempt.as_mut().unwrap().reply = Some("the server offers no STARTTLS".into());
        f.apply(&[refused], NOW).await;
        let reason = f.one::<String>("SELECT status_reason AS x FROM email_accounts WHERE status = 'paused'").await;
        assert!(reason.ends_with("the server offers no STARTTLS"), "{reason}");
        // Setting up again is a person's word that it was mended; what waited for it is not late.
        f.write("UPDATE sends SET not_before = $1", values![NOW - 5 * HOUR]).await;
        super::scene::apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(f.one::<String>("SELECT status AS x FROM email_accounts").await, "active");
        assert_eq!(f.one::<Timestamp>("SELECT not_before AS x FROM sends").await, NOW);
        f.tenant()
            .set_account_status(f.account_of(&job), domain::email_account::AccountStatus::Paused, None, NOW)
            .await
            .unwrap();
        super::scene::apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(f.one::<String>("SELECT status AS x FROM email_accounts").await, "paused", "a person's pause stays");
    });
}

fn two_results_of_one_send_in_one_batch_count_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let old = result(&job, fence - 1, Outcome::Refused(ReplyAction::FailPolicy), NOW);
        let accepted = result(&job, fence, Outcome::Accepted, NOW);
        let applied = f.apply(&[old, accepted.clone(), accepted], NOW).await;
        assert_eq!(applied, [Applied::Stale, Applied::Done, Applied::Stale]);
        assert_eq!(f.sends().await, ["sent"]);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM send_attempts").await, 1);
        assert_eq!(
            f.one::<i64>("SELECT executed_count AS x FROM campaign_sequence_steps WHERE step_order = 1").await,
            1
        );
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM dead_letters").await, 0);
    });
}

fn a_bounce_suppresses_the_address_and_cancels_the_leads_other_sends(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let other = Scene::draft(f.store.clone(), |s| s.campaign = "Other".into()).await;
        other.enroll(0..1).await;
        other.tenant().start_campaign(other.campaign_id, NOW).await.unwrap();
        let (job, cancelled) = (f.jobs(NOW).await.remove(0), other.jobs(NOW).await.remove(0));
        let fence = f.granted(&job, NOW).await;
        let over = "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, expires_at, created_at, updated_at)
            VALUES ($1, $2, 'lead0@example.test', 'complaint', 'api', $3, $3, $3, $3)";
        f.write(over, values![new_id(), f.tenant_id, NOW]).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::BounceHard), NOW).await;
        assert_eq!(f.one::<Option<Timestamp>>("SELECT expires_at AS x FROM suppression_list").await, None, "not over");
        assert_eq!(f.one::<String>("SELECT source AS x FROM suppression_list").await, "smtp");
        assert_eq!(f.sends().await, ["bounced", "cancelled"]);
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "bounced");
        assert_eq!(f.one::<String>("SELECT email AS x FROM suppression_list").await, "lead0@example.test");
        assert_eq!(f.column::<String>("SELECT status AS x FROM campaign_leads").await, ["stopped", "stopped"]);
        assert_eq!(f.account_days().await.1, 0, "the use is given back");
        assert_eq!(f.dot(&cancelled, NOW).await, DotAnswer::Refused);
    });
}

fn a_temporary_refusal_waits_and_gives_the_days_use_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |s| s.accounts[0].daily_limit = Some(1)).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::Retry), NOW).await;
        assert_eq!(f.sends().await, ["queued"]);
        assert_eq!(f.account_days().await, (0, 0));
        let later = NOW + 5 * MINUTE;
        assert_eq!(f.one::<Timestamp>("SELECT not_before AS x FROM sends").await, later);
        assert!(f.refetch(&job, NOW).await.is_none());
        let again = f.refetch(&job, later).await.unwrap();
        assert_eq!((again.attempts, again.first_attempt_at), (1, Some(NOW)));
        let fence = f.granted(&again, later).await;
        f.settled(&again, fence, Outcome::Accepted, later).await;
        assert_eq!(f.account_days().await, (0, 1));
        assert_eq!(f.campaign_days().await, (0, 1), "the campaign's slot is used once");
        assert_eq!(f.column::<i64>("SELECT fence AS x FROM send_attempts ORDER BY fence").await, [1, 3]);
    });
}

fn a_result_before_the_dot_keeps_its_slot_or_gives_it_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut given_back = result(&job, job.fence, Outcome::GivenBack, NOW);
        given_back.was_dot = false;
        assert_eq!(f.apply(&[given_back], NOW).await, [Applied::Done]);
        assert_eq!(f.account_days().await, (1, 0), "it goes later on the same slot");
        let mut not_composed = result(&job, job.fence + 1, Outcome::NotComposed, NOW);
        not_composed.was_dot = false;
        assert_eq!(f.apply(&[not_composed], NOW).await, [Applied::Done]);
        assert_eq!(f.sends().await, ["failed"]);
        assert_eq!(f.account_days().await, (0, 0));
    });
}

fn a_backoff_stops_the_account_and_an_acceptance_ends_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut unreachable = result(&job, job.fence, Outcome::Refused(ReplyAction::BackOffAccount), NOW);
        unreachable.was_dot = false;
        assert_eq!(f.apply(&[unreachable], NOW).await, [Applied::Done]);
        let pace = f.tenant().get_account(f.account_of(&job)).await.unwrap().pace;
        assert_eq!((pace.backoff_until, pace.backoff_failures), (Some(NOW + MINUTE), 1));
        assert!(f.refetch(&job, NOW).await.is_none());
        let probe = f.refetch(&job, NOW + MINUTE).await.unwrap();
        assert_eq!((probe.attempts, probe.account_failures), (0, 1));
        let fence = f.granted(&probe, NOW + MINUTE).await;
        f.settled(&probe, fence, Outcome::Accepted, NOW + MINUTE).await;
        let pace = f.tenant().get_account(f.account_of(&job)).await.unwrap().pace;
        // The time stays, past as it is: what waited for it is not late.
        assert_eq!((pace.backoff_until, pace.backoff_failures), (Some(NOW + MINUTE), 0));
    });
}

fn a_refused_log_in_stops_the_account_and_keeps_its_sends(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let mut refused = result(&job, job.fence, Outcome::Refused(ReplyAction::AuthFailed), NOW);
        refused.was_dot = false;
        assert_eq!(f.apply(&[refused], NOW).await, [Applied::Done]);
        assert_eq!(f.one::<String>("SELECT status AS x FROM email_accounts").await, "authentication_failed");
        assert_eq!(f.sends().await, ["queued"]);
        assert!(f.refetch(&job, NOW).await.is_none());
        super::scene::apply_setup(&f.store, &f.setup).await.unwrap();
        assert!(f.refetch(&job, NOW).await.is_some(), "a new set-up tries it again");
    });
}

fn a_final_failure_writes_a_dead_letter_and_ends_the_enrollment(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::FailPolicy), NOW).await;
        let letters = f.store.system().list_dead_letters(Default::default(), 10).await.unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].send_id, letters[0].tenant_id), (Some(job.send_id), Some(f.tenant_id)));
        assert_eq!((letters[0].error.as_str(), letters[0].attempt_count), (Reason::PolicyRefusal.as_str(), 1));
        assert_eq!(f.one::<String>("SELECT stop_reason AS x FROM campaign_leads").await, "policy_refusal");
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "active", "nobody is suppressed");
    });
}

fn an_unknown_outcome_is_sent_once_more_then_held_and_its_days_stay_charged(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Unknown, NOW).await;
        let again = f.refetch(&job, NOW).await.unwrap();
        assert_eq!((again.unknowns, again.fence), (1, fence));
        let second = f.granted(&again, NOW).await;
        f.settled(&again, second, Outcome::Unknown, NOW).await;
        assert_eq!(f.sends().await, ["held"]);
        assert_eq!(f.one::<i64>("SELECT unknowns AS x FROM sends").await, 2);
        assert_eq!(f.account_days().await, (0, 2));
        assert!(f.refetch(&job, NOW + HOUR).await.is_none());
    });
}

fn a_late_250_is_proof_for_a_held_send_and_nothing_else_is(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let mut held = result(&job, fence, Outcome::Unknown, NOW);
        held.transition.status = domain::send::SendStatus::Held;
        held.transition.not_before = None;
        assert_eq!(f.apply(&[held], NOW).await, [Applied::Done]);
        let refused = result(&job, fence, Outcome::Refused(ReplyAction::BounceHard), NOW);
        assert_eq!(f.apply(&[refused], NOW).await, [Applied::Stale]);
        assert_eq!(f.sends().await, ["held"]);
        f.settled(&job, fence, Outcome::Accepted, NOW + HOUR).await;
        assert_eq!(f.sends().await, ["sent"]);
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 2, "the sequence goes on");
    });
}

fn a_late_250_is_proof_before_a_second_dot_and_stale_after_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        for job in &jobs {
            let fence = f.granted(job, NOW).await;
            f.settled(job, fence, Outcome::Unknown, NOW).await;
        }
        let second = f.refetch(&jobs[1], NOW).await.unwrap();
        f.granted(&second, NOW).await;
        let late: Vec<_> = jobs.iter().map(|job| result(job, job.fence + 1, Outcome::Accepted, NOW)).collect();
        assert_eq!(f.apply(&late, NOW).await, [Applied::Done, Applied::Stale]);
        assert_eq!(f.dot(&jobs[0], NOW).await, DotAnswer::Refused, "what is proven is not sent again");
    });
}

fn one_bad_result_does_not_hold_up_the_others(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        let requests: Vec<_> = jobs.iter().map(|job| request(job, NOW)).collect();
        f.intend(&requests, NOW).await;
        let mut results: Vec<_> = jobs.iter().map(|job| result(job, job.fence + 1, Outcome::Accepted, NOW)).collect();
        // A step that is not there breaks the reference's foreign key.
        results[0].step_id = domain::ids::StepId::from_uuid(crate::engine::new_id());
        assert_eq!(f.apply(&results, NOW).await, [Applied::Done, Applied::Done]);
        assert_eq!(f.sends().await, ["sent", "sent"], "how a send ended is written without the rest");
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM inbox_message_refs").await, 1);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM send_attempts").await, 1);
    });
}

on_every_engine! {
    an_accepted_send_writes_reference_attempt_and_progress
    the_next_mail_follows_from_the_time_of_sending_in_the_same_thread
    a_result_with_an_old_fence_is_stale_and_changes_nothing
    a_result_given_twice_counts_once
    a_temporary_refusal_given_twice_counts_once
    an_unknown_result_given_twice_counts_once
    time_in_which_nothing_was_attempted_does_not_expire_a_send
    what_stopped_an_account_is_kept_in_words
    two_results_of_one_send_in_one_batch_count_once
    a_bounce_suppresses_the_address_and_cancels_the_leads_other_sends
    a_temporary_refusal_waits_and_gives_the_days_use_back
    a_result_before_the_dot_keeps_its_slot_or_gives_it_back
    a_backoff_stops_the_account_and_an_acceptance_ends_it
    a_refused_log_in_stops_the_account_and_keeps_its_sends
    a_final_failure_writes_a_dead_letter_and_ends_the_enrollment
    an_unknown_outcome_is_sent_once_more_then_held_and_its_days_stay_charged
    a_late_250_is_proof_for_a_held_send_and_nothing_else_is
    a_late_250_is_proof_before_a_second_dot_and_stale_after_it
    one_bad_result_does_not_hold_up_the_others
}
