//! P5: who may write the final dot, and who was first.

use std::time::Duration;

use domain::campaign::CampaignStatus;
use domain::email_account::AccountStatus;
use domain::settle::{Outcome, ReplyAction};
use domain::time::{Timestamp, Zone};
use engines::db::LockKind;
use engines::dialect::Dialect;
use engines::store::dot::DotAnswer;
use engines::{Access, Store, values};

use super::scene::{DAY, HOUR, MINUTE, OWNER, Scene, request, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

fn a_granted_dot_is_durable_and_turns_the_reservation_into_use(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        assert_eq!(fence, job.fence + 1);
        assert_eq!(f.sends().await, ["dot"]);
        assert_eq!(f.one::<String>("SELECT owner AS x FROM sends").await, OWNER);
        assert_eq!(f.one::<i64>("SELECT fence AS x FROM sends").await, fence);
        assert_eq!(f.account_days().await, (0, 1));
        assert_eq!(f.campaign_days().await, (0, 1));
    });
}

fn a_stale_fence_is_refused(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let withdrawn = [request(&job, NOW)];
        f.granted(&job, NOW).await;
        assert_eq!(f.store.system().withdraw(&withdrawn, OWNER, NOW).await.unwrap(), 1);
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
        let fresh = f.refetch(&job, NOW).await.unwrap();
        assert_eq!(f.granted(&fresh, NOW).await, job.fence + 2);
    });
}

fn two_holders_of_one_send_get_one_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let (a, b) = tokio::join!(f.dot(&job, NOW), f.dot(&job, NOW));
        let granted = [a, b].into_iter().filter(|answer| *answer != DotAnswer::Refused).count();
        assert_eq!(granted, 1);
        assert_eq!(f.account_days().await, (0, 1));
    });
}

fn two_holders_of_one_send_in_one_batch_get_one_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |s| s.accounts[0].daily_limit = Some(5)).await;
        let answers = f.intend(&[request(&job, NOW), request(&job, NOW)], NOW).await;
        assert_eq!(answers, [DotAnswer::Granted { fence: job.fence + 1 }, DotAnswer::Refused]);
        assert_eq!(f.account_days().await, (0, 1));
    });
}

fn a_pause_answered_before_the_dot_wins(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        assert!(f.tenant().pause_campaign(f.campaign_id, NOW).await.unwrap());
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
        assert!(f.refetch(&job, NOW).await.is_none());
        assert!(f.tenant().resume_campaign(f.campaign_id, NOW).await.unwrap());
        f.granted(&job, NOW).await;
    });
}

/// The pause has its lock and has changed nothing yet when the dot asks: the dot must wait and then lose.
fn a_pause_under_way_is_waited_for_and_wins(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let f = std::sync::Arc::new(f);
        let mut pause = f.store.db().begin(Access::Write).await.unwrap();
        pause.lock(LockKind::Campaign, true, [f.campaign_id.uuid()]).await.unwrap();
        let dot = tokio::spawn({
            let (f, job) = (f.clone(), job.clone());
            async move { f.dot(&job, NOW).await }
        });
        if f.store.db().dialect() == Dialect::Postgres {
            let waiting = "SELECT COUNT(*) AS x FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted";
            while f.one::<i64>(waiting).await == 0 {
                assert!(!dot.is_finished(), "the dot did not wait for the pause");
            }
        }
        static PAUSE: engines::dialect::Statement =
            engines::dialect::Statement::new("PAUSE", "UPDATE campaigns SET status = 'paused', updated_at = $1");
        assert_eq!(pause.execute(&PAUSE, values![NOW]).await.unwrap(), 1);
        pause.commit().await.unwrap();
        assert_eq!(dot.await.unwrap(), DotAnswer::Refused);
        assert_eq!(f.sends().await, ["planned"]);
    });
}

/// The connection broke during COMMIT, and the server is still at it when the intent is taken back.
fn an_intent_whose_commit_is_still_under_way_is_waited_for_and_taken_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let f = std::sync::Arc::new(f);
        static INTEND: engines::dialect::Statement = engines::dialect::Statement::new(
            "INTEND",
            "UPDATE sends SET status = 'dot', fence = fence + 1, owner = $1, updated_at = $2",
        );
        let mut in_doubt = f.store.db().begin(Access::Write).await.unwrap();
        assert_eq!(in_doubt.execute(&INTEND, values![OWNER, NOW]).await.unwrap(), 1);
        let withdrawn = tokio::spawn({
            let (f, job) = (f.clone(), job.clone());
            async move { f.store.system().withdraw(&[request(&job, NOW)], OWNER, NOW).await.unwrap() }
        });
        if f.store.db().dialect() == Dialect::Postgres {
            // A wait for another transaction has no database of its own.
            let waiting =
                "SELECT COUNT(*) AS x FROM pg_locks w WHERE NOT w.granted AND EXISTS (SELECT 1 FROM pg_locks l
                JOIN pg_database d ON d.oid = l.database WHERE l.pid = w.pid AND d.datname = current_database())";
            while f.one::<i64>(waiting).await == 0 {
                assert!(!withdrawn.is_finished(), "the withdrawal did not wait for the COMMIT");
            }
        }
        in_doubt.commit().await.unwrap();
        assert_eq!(withdrawn.await.unwrap(), 1);
        assert_eq!(f.sends().await, ["queued"]);
    });
}

fn a_pause_and_a_dot_at_once_never_both_win_late(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let tenant = f.tenant();
        let (answer, paused) = tokio::join!(f.dot(&job, NOW), tenant.pause_campaign(f.campaign_id, NOW));
        assert!(paused.unwrap());
        let expected = if answer == DotAnswer::Refused { "planned" } else { "dot" };
        assert_eq!(f.sends().await, [expected]);
        let status = f.tenant().get_campaign(f.campaign_id).await.unwrap().plan.status;
        assert_eq!(status, CampaignStatus::Paused);
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
    });
}

fn a_cancel_answered_before_the_dot_wins(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        assert_eq!(f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap(), Some(1));
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
        assert_eq!(f.sends().await, ["cancelled"]);
        assert_eq!(f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap(), None);
    });
}

fn a_stopped_account_is_refused_until_it_is_active_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let id = f.account_of(&job);
        f.tenant().set_account_status(id, AccountStatus::Paused, Some("by hand"), NOW).await.unwrap();
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
        f.tenant().set_account_status(id, AccountStatus::Active, None, NOW).await.unwrap();
        f.granted(&job, NOW).await;
    });
}

fn an_unsubscribe_answered_before_the_dot_wins(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        f.unsubscribe(&job, NOW).await;
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
        assert_eq!(f.sends().await, ["cancelled"]);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "lead_unsubscribed");
    });
}

fn a_suppression_by_another_program_is_seen_at_the_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let sql = "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, expires_at, created_at, updated_at)
            VALUES ($1, $2, 'lead0@example.test', 'complaint', 'api', $3, $4, $3, $3)";
        f.write(sql, values![crate::engine::new_id(), f.tenant_id, NOW, NOW + MINUTE]).await;
        assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused);
        assert!(f.refetch(&job, NOW).await.is_none());
        f.granted(&f.refetch(&job, NOW + MINUTE).await.unwrap(), NOW + MINUTE).await;
    });
}

fn a_dot_is_charged_to_the_day_that_its_limits_were_asked_of(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |s| s.accounts[0].daily_limit = Some(2)).await;
        let midnight = NOW + DAY / 2;
        let second = Duration::from_secs(1);
        let used = async |now: Timestamp| {
            let day = Zone::UTC.day(now);
            let sql = "SELECT day AS x FROM pace_days WHERE scope = 'account' AND used > 0";
            assert_eq!(f.column::<String>(sql).await, [day]);
        };
        let jobs = f.jobs(NOW).await;
        // Asked before midnight, recorded behind it.
        let late = request(&jobs[0], midnight - second);
        assert_ne!(f.intend(&[late], midnight + second).await, [DotAnswer::Refused]);
        used(midnight + second).await;
    });
}

fn a_dot_that_is_taken_back_behind_midnight_frees_its_own_day(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |s| s.accounts[0].daily_limit = Some(2)).await;
        let midnight = NOW + DAY / 2;
        let second = Duration::from_secs(1);
        let asked = [request(&job, midnight - second)];
        assert_ne!(f.intend(&asked, midnight - second).await, [DotAnswer::Refused]);
        assert_eq!(f.account_days().await, (0, 1));
        assert_eq!(f.store.system().withdraw(&asked, OWNER, midnight + second).await.unwrap(), 1);
        assert_eq!(f.column::<i64>("SELECT used AS x FROM pace_days WHERE used <> 0").await, [] as [i64; 0]);
    });
}

fn a_dot_on_a_day_that_is_full_waits_for_the_next(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |s| s.accounts[0].daily_limit = Some(2)).await;
        let late = f.jobs(NOW).await;
        let tomorrow = NOW + DAY;
        let mut jobs = f.jobs(tomorrow).await;
        assert_eq!((late.len(), jobs.len()), (2, 2));
        assert_eq!(f.dot(&late[0], tomorrow).await, DotAnswer::Refused, "tomorrow's slots are all reserved");
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends WHERE status = 'queued'").await, "account_cap");
        let until: Timestamp = f.one("SELECT not_before AS x FROM sends WHERE status = 'queued'").await;
        assert_eq!(until, NOW + DAY + DAY / 2, "midnight");
        f.granted(&jobs.remove(0), tomorrow).await;
        assert_eq!(f.dot(&late[1], tomorrow).await, DotAnswer::Refused);
        f.granted(&jobs.remove(0), tomorrow).await;
        assert_eq!(f.one::<i64>("SELECT MAX(used) AS x FROM pace_days WHERE scope = 'account'").await, 2);
    });
}

/// A temporary answer loses it its slot, and another has that: its next try has the next day's, whoever else is planned for it.
fn who_is_tried_again_is_not_overtaken(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 6, |s| s.accounts[0].daily_limit = Some(1)).await;
        let first = f.jobs(NOW).await.remove(0);
        let fence = f.granted(&first, NOW).await;
        f.apply(&[result(&first, fence, Outcome::Refused(ReplyAction::Retry), NOW)], NOW).await;
        let other = f.jobs(NOW + MINUTE).await.remove(0);
        f.granted(&other, NOW + MINUTE).await;
        let again = f.refetch(&first, NOW + HOUR).await.unwrap();
        assert_eq!(f.dot(&again, NOW + HOUR).await, DotAnswer::Refused);
        let midnight = NOW + DAY / 2;
        assert!(f.plan(midnight).await.planned.is_empty(), "the day's one slot is taken");
        f.granted(&f.refetch(&again, midnight).await.unwrap(), midnight).await;
    });
}

/// Also for those who have their slots.
fn a_limit_that_is_lowered_holds_on_the_same_day(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |_| {}).await;
        let mut jobs = f.jobs(NOW).await;
        f.write("UPDATE email_accounts SET daily_limit = 1", vec![]).await;
        for half_days in 0..9 {
            let now = NOW + DAY / 2 * half_days;
            let mut left = Vec::new();
            for job in jobs {
                let granted = match f.refetch(&job, now).await {
                    Some(due) => f.dot(&due, now).await != DotAnswer::Refused,
                    None => false,
                };
                left.extend(Some(job).filter(|_| !granted));
            }
            jobs = left;
        }
        assert!(jobs.is_empty(), "{} have not left", jobs.len());
        let used = f.column::<i64>("SELECT used AS x FROM pace_days WHERE scope = 'account' ORDER BY day").await;
        assert_eq!(used, [1; 4]);
    });
}

fn a_dot_within_the_gap_gets_a_new_slot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |s| s.accounts[0].min_gap_seconds = 60).await;
        let page = f.plan(NOW).await;
        let soon = NOW + 5 * MINUTE;
        let jobs = f.fetch(&page.planned, soon).await;
        let requests = [request(&jobs[0], soon), request(&jobs[1], soon)];
        let answers = f.intend(&requests, soon).await;
        assert_eq!(answers[1], DotAnswer::Refused);
        assert_ne!(answers[0], DotAnswer::Refused);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends WHERE status = 'queued'").await, "account_gap");
        let until: Timestamp = f.one("SELECT not_before AS x FROM sends WHERE status = 'queued'").await;
        assert_eq!(until, soon + MINUTE);
        assert_eq!(f.account_days().await, (1, 1), "its slot stays reserved");
        f.granted(&f.refetch(&jobs[1], until).await.unwrap(), until).await;
    });
}

fn a_withdrawn_intent_may_go_again_and_its_use_is_given_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let requests = [request(&job, NOW)];
        assert_eq!(f.store.system().withdraw(&requests, "another", NOW).await.unwrap(), 0, "not its own");
        assert_eq!(f.store.system().withdraw(&requests, OWNER, NOW).await.unwrap(), 1);
        assert_eq!(f.store.system().withdraw(&requests, OWNER, NOW).await.unwrap(), 0);
        assert_eq!(f.sends().await, ["queued"]);
        assert_eq!(f.account_days().await, (0, 0));
        let again = f.refetch(&job, NOW).await.unwrap();
        assert_eq!((again.fence, again.attempts), (fence, 0));
        f.granted(&again, NOW).await;
        assert_eq!(f.account_days().await, (0, 1));
        assert_eq!(f.campaign_days().await, (0, 1), "the campaign's slot is used once");
    });
}

fn the_first_attempts_message_id_stays(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = Scene::one_dot(store, |_| {}).await;
        f.store.system().withdraw(&[request(&job, NOW)], OWNER, NOW).await.unwrap();
        let again = f.refetch(&job, NOW + MINUTE).await.unwrap();
        assert_eq!(again.first_attempt_at, Some(NOW));
        let mut second = request(&again, NOW + MINUTE);
        second.message_id = "<other@acme.test>".into();
        assert_ne!(f.intend(&[second], NOW + MINUTE).await, [DotAnswer::Refused]);
        let kept: String = f.one("SELECT message_id AS x FROM sends").await;
        assert_eq!(kept, super::scene::message_id(&job));
    });
}

fn those_refused_for_the_gap_come_back_one_after_the_other(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        f.write("UPDATE email_accounts SET min_gap_seconds = 60", vec![]).await;
        let requests: Vec<_> = jobs.iter().map(|job| request(job, NOW)).collect();
        let granted = f.intend(&requests, NOW).await;
        assert_eq!(granted.iter().filter(|answer| **answer != DotAnswer::Refused).count(), 1);
        let times: Vec<Timestamp> =
            f.column("SELECT not_before AS x FROM sends WHERE status = 'queued' ORDER BY not_before").await;
        assert_eq!(times, [NOW + MINUTE, NOW + 2 * MINUTE, NOW + 3 * MINUTE]);
    });
}

fn a_send_that_cannot_be_read_does_not_hold_up_the_others(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let page = f.plan(NOW).await;
        // No number of attempts: another program's mistake.
        f.write("UPDATE sends SET attempts = 5000000000 WHERE id = $1", engines::values![page.planned[0].send_id])
            .await;
        let found = f.fetch(&page.planned, NOW).await;
        assert_eq!(found.iter().map(|job| job.send_id).collect::<Vec<_>>(), [page.planned[1].send_id]);
    });
}

on_every_engine! {
    those_refused_for_the_gap_come_back_one_after_the_other
    a_send_that_cannot_be_read_does_not_hold_up_the_others
    a_granted_dot_is_durable_and_turns_the_reservation_into_use
    a_stale_fence_is_refused
    two_holders_of_one_send_get_one_dot
    two_holders_of_one_send_in_one_batch_get_one_dot
    a_pause_answered_before_the_dot_wins
    a_pause_under_way_is_waited_for_and_wins
    an_intent_whose_commit_is_still_under_way_is_waited_for_and_taken_back
    a_pause_and_a_dot_at_once_never_both_win_late
    a_cancel_answered_before_the_dot_wins
    a_stopped_account_is_refused_until_it_is_active_again
    an_unsubscribe_answered_before_the_dot_wins
    a_suppression_by_another_program_is_seen_at_the_dot
    a_dot_is_charged_to_the_day_that_its_limits_were_asked_of
    a_dot_that_is_taken_back_behind_midnight_frees_its_own_day
    a_dot_on_a_day_that_is_full_waits_for_the_next
    who_is_tried_again_is_not_overtaken
    a_limit_that_is_lowered_holds_on_the_same_day
    a_dot_within_the_gap_gets_a_new_slot
    a_withdrawn_intent_may_go_again_and_its_use_is_given_back
    the_first_attempts_message_id_stays
}
