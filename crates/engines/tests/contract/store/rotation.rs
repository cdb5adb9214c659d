//! Accounts that stop: who has got no mail yet moves to another of the pool, follow-ups wait or move.
//!
//! Not responsible for choosing among accounts (`domain::plan`). To add a reason to stay or to move: a case here.

use std::collections::HashSet;

use domain::campaign::FollowUps;
use domain::email_account::AccountStatus;
use domain::ids::{EmailAccountId, LeadId, SendId};
use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::store::setup::Setup;

use super::scene::{DAY, HOUR, MINUTE, Scene, account, email_step, message_id, result};
use super::slots::WRONG_DAYS;
use crate::engine::{Engine, NOW, new_id, with_store, with_two_stores};
use crate::on_every_engine;

/// Two accounts share new leads.
async fn two_accounts(store: Store, leads: usize, edit: impl FnOnce(&mut Setup)) -> Scene {
    Scene::started(store, leads, |s| {
        s.accounts.push(account("bob@acme.test"));
        edit(s);
    })
    .await
}

async fn set(f: &Scene, id: EmailAccountId, status: AccountStatus) {
    f.tenant().set_account_status(id, status, Some("by hand"), NOW).await.unwrap();
}

async fn sweep(f: &Scene, now: Timestamp) {
    assert_eq!(f.store.system().sweep(now).await.unwrap(), 0, "nothing has ended");
    assert_eq!(f.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
}

/// Every send and its account.
async fn accounts(f: &Scene) -> Vec<(SendId, Option<EmailAccountId>)> {
    let ids = f.column::<SendId>("SELECT id AS x FROM sends ORDER BY id").await;
    let accounts = f.column("SELECT email_account_id AS x FROM sends ORDER BY id").await;
    ids.into_iter().zip(accounts).collect()
}

fn planned_first_mails_move_to_an_account_that_may_send(engine: Engine) {
    use AccountStatus::{AuthenticationFailed, Deleted, Paused, Suspended};
    for status in [Paused, AuthenticationFailed, Suspended, Deleted] {
        with_store(engine, async |store: Store| {
            let f = two_accounts(store, 4, |_| {}).await;
            let jobs = f.jobs(NOW).await;
            let stopped = jobs[0].account.0;
            let (gone, stay): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.account.0 == stopped);
            assert_eq!((gone.len(), stay.len()), (2, 2));
            let other = stay[0].account.0;
            set(&f, stopped, status).await;
            sweep(&f, NOW).await;
            assert_eq!(f.account_days().await, (2, 0), "the slots of the stopped account are free");
            assert!(f.refetch(gone[0], NOW).await.is_none(), "no hint brings it");
            let moved = f.plan(NOW).await.planned;
            let rows: HashSet<SendId> = moved.iter().map(|hint| hint.send_id).collect();
            assert_eq!(rows, gone.iter().map(|job| job.send_id).collect(), "the same rows");
            assert!(moved.iter().all(|hint| hint.email_account_id == other));
            assert_eq!(f.account_days().await, (4, 0));
            assert_eq!(f.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
            // Whoever holds what was read before changes nothing.
            assert_eq!(f.dot(gone[0], NOW).await, DotAnswer::Refused);
            let mut old = result(gone[0], gone[0].fence, Outcome::NotComposed, NOW);
            old.was_dot = false;
            assert_eq!(f.apply(&[old], NOW).await, [Applied::Stale]);
            for job in f.fetch(&moved, NOW).await {
                assert_eq!((job.account.0, job.fence), (other, gone[0].fence + 2));
                f.granted(&job, NOW).await;
            }
            assert_eq!(f.sends().await.len(), 4, "one for each lead");
            let kept: Vec<EmailAccountId> = f.column("SELECT email_account_id AS x FROM campaign_leads").await;
            assert_eq!(kept, [other; 4], "each keeps it from now on");
        });
    }
}

fn they_move_also_where_an_edit_has_renumbered_their_step(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = two_accounts(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        f.edit(NOW, |s| s.steps.insert(0, email_step("Before", 0.0))).await;
        set(&f, jobs[0].account.0, AccountStatus::Paused).await;
        sweep(&f, NOW).await;
        let moved = f.plan(NOW).await.planned;
        assert_eq!(moved.iter().map(|hint| hint.send_id).collect::<Vec<_>>(), [jobs[0].send_id]);
        assert_eq!(moved[0].email_account_id, jobs[1].account.0);
    });
}

fn what_was_tried_or_may_have_arrived_stays(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = two_accounts(store, 6, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        let stopped = jobs[0].account.0;
        let own: Vec<_> = jobs.iter().filter(|job| job.account.0 == stopped).collect();
        for (job, outcome) in own.iter().zip([Outcome::Refused(ReplyAction::Retry), Outcome::Unknown]) {
            let fence = f.granted(job, NOW).await;
            f.settled(job, fence, outcome, NOW).await;
        }
        let fence = f.granted(own[2], NOW).await;
        set(&f, stopped, AccountStatus::Paused).await;
        let before = accounts(&f).await;
        sweep(&f, NOW + HOUR).await;
        assert!(f.plan(NOW + HOUR).await.planned.is_empty());
        assert_eq!(accounts(&f).await, before);
        f.settled(own[2], fence, Outcome::Accepted, NOW).await;
    });
}

fn with_no_other_account_or_one_of_its_own_it_waits(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = two_accounts(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        let before = accounts(&f).await;
        for job in &jobs {
            set(&f, job.account.0, AccountStatus::Paused).await;
        }
        sweep(&f, NOW).await;
        assert_eq!(accounts(&f).await, before, "nobody else may send");
        set(&f, jobs[0].account.0, AccountStatus::Active).await;
        assert_eq!(f.refetch(&jobs[0], NOW).await.unwrap().fence, jobs[0].fence, "it goes on as it was");
    });
    with_store(engine, async |store: Store| {
        let f = two_accounts(store, 2, |s| s.steps[0].account = Some(0)).await;
        let jobs = f.jobs(NOW).await;
        set(&f, jobs[0].account.0, AccountStatus::Paused).await;
        let before = accounts(&f).await;
        sweep(&f, NOW).await;
        assert_eq!(accounts(&f).await, before, "the step names its account");
    });
}

/// One lead got its first mail; its account stops before the second is planned, or after.
async fn follow_up(store: Store, follow_ups: FollowUps, is_planned: bool) -> (Scene, SendJob) {
    let f = two_accounts(store, 1, |s| s.settings.follow_ups = follow_ups).await;
    let first = f.jobs(NOW).await.remove(0);
    let fence = f.granted(&first, NOW).await;
    f.settled(&first, fence, Outcome::Accepted, NOW).await;
    let later = NOW + 2 * DAY;
    if is_planned {
        assert_eq!(f.plan(later).await.planned[0].email_account_id, first.account.0);
    }
    set(&f, first.account.0, AccountStatus::Suspended).await;
    sweep(&f, later).await;
    (f, first)
}

fn follow_ups_wait_for_their_account(engine: Engine) {
    for is_planned in [false, true] {
        with_store(engine, async |store: Store| {
            let (f, first) = follow_up(store, FollowUps::Wait, is_planned).await;
            let later = NOW + 2 * DAY;
            assert!(f.plan(later).await.planned.is_empty());
            set(&f, first.account.0, AccountStatus::Active).await;
            sweep(&f, later).await;
            f.plan(later).await;
            let waits: Vec<EmailAccountId> = f.column("SELECT email_account_id AS x FROM sends WHERE open").await;
            assert_eq!(waits, [first.account.0]);
        });
    }
}

fn follow_ups_move_in_their_thread(engine: Engine) {
    for is_planned in [false, true] {
        with_store(engine, async |store: Store| {
            let (f, first) = follow_up(store, FollowUps::Move, is_planned).await;
            let later = NOW + 2 * DAY;
            let job = f.jobs(later).await.remove(0);
            assert_eq!((job.account.0 == first.account.0, job.step_order), (false, 2));
            assert_eq!(job.thread_message_ids, Some(message_id(&first)));
            assert_eq!(job.thread_subject.as_deref(), Some("Hello"));
            f.granted(&job, later).await;
        });
    }
}

fn what_is_planned_anew_is_judged_anew(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = two_accounts(store, 1, |_| {}).await;
        let job = f.jobs(NOW).await.remove(0);
        set(&f, job.account.0, AccountStatus::Paused).await;
        sweep(&f, NOW).await;
        f.write("UPDATE leads SET status = 'replied'", vec![]).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.skipped), (0, 1));
        assert_eq!(f.sends().await, ["skipped"]);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "lead_replied");
        assert_eq!(f.account_days().await, (0, 0));
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
    });
}

fn what_waits_for_an_account_ends_with_its_lead_or_campaign(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = two_accounts(store, 4, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        set(&f, jobs[0].account.0, AccountStatus::Paused).await;
        sweep(&f, NOW).await;
        f.unsubscribe(&jobs[0], NOW).await;
        assert_eq!(f.sends().await.iter().filter(|status| *status == "cancelled").count(), 1);
        assert_eq!(f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap(), Some(3));
        assert_eq!((f.account_days().await, f.campaign_days().await), ((0, 0), (0, 0)));
    });
}

/// Held since a restore while no account could be said, and sent again by a person: planning finds one.
fn what_never_had_an_account_is_planned_when_it_is_sent_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = two_accounts(store, 1, |_| {}).await;
        let job = f.jobs(NOW).await.remove(0);
        let held = "UPDATE sends SET status = 'held', open = false, email_account_id = NULL, account_day = NULL,
            campaign_day = NULL, reason = 'restored'";
        f.write(held, vec![]).await;
        f.write("UPDATE pace_days SET reserved = 0", vec![]).await;
        let mut again = result(&job, job.fence, Outcome::GivenBack, NOW);
        again.was_dot = false;
        assert_eq!(f.tenant().resolve_send(&again, &new_id, NOW).await.unwrap(), Applied::Done);
        assert!(f.plan(NOW).await.planned.is_empty());
        sweep(&f, NOW).await;
        let planned = f.plan(NOW).await.planned;
        assert_eq!(planned.iter().map(|hint| hint.send_id).collect::<Vec<_>>(), [job.send_id]);
        f.granted(&f.refetch(&job, NOW).await.unwrap(), NOW).await;
    });
}

/// Accounts stop and go on while two planners, two sweeps and a gate are at work: each lead gets its mail once.
fn accounts_that_come_and_go_lose_and_repeat_nothing(engine: Engine) {
    with_two_stores(engine, async |one: Store, other: Store| {
        let f = two_accounts(one, 30, |s| s.steps.truncate(1)).await;
        let g = Scene { store: other, setup: f.setup.clone(), ..f };
        let ids: Vec<EmailAccountId> = f.column("SELECT id AS x FROM email_accounts ORDER BY id").await;
        let (mut sent, mut rows, mut moved): (HashSet<LeadId>, Vec<_>, usize) = (HashSet::new(), Vec::new(), 0);
        let mut now = NOW;
        for turn in 0..40_usize {
            now = now + MINUTE;
            // One of them stops every third turn, and goes on in the turn before.
            let status = if turn % 3 == 2 { AccountStatus::Active } else { AccountStatus::Paused };
            set(&f, ids[turn / 3 % 2], status).await;
            let (f_system, g_system) = (f.store.system(), g.store.system());
            let (_, _, x, y) = tokio::join!(f.plan(now), g.plan(now), f_system.sweep(now), g_system.sweep(now));
            assert_eq!((x.unwrap(), y.unwrap()), (0, 0));
            assert_eq!(f.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
            let before = std::mem::replace(&mut rows, accounts(&f).await);
            moved +=
                before.iter().filter(|(id, account)| account.is_some() && !rows.contains(&(*id, *account))).count();
            let open = f.column::<SendId>("SELECT id AS x FROM sends WHERE open ORDER BY id").await;
            let hints: Vec<_> = open.into_iter().map(|id| (f.tenant_id, id)).collect();
            let Some(job) = f_system.fetch(&hints, now).await.unwrap().pop() else { continue };
            let (answer, swept) = tokio::join!(f.dot(&job, now), g_system.sweep(now));
            swept.unwrap();
            if let DotAnswer::Granted { fence } = answer {
                f.apply(&[super::scene::last_result(&job, fence, now)], now).await;
                assert!(sent.insert(job.lead.id), "a second mail");
            }
        }
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM sends").await, 30, "a row for each lead");
        assert!(sent.len() >= 25 && moved > 30, "{} were sent, {moved} moved", sent.len());
    });
}

on_every_engine! {
    planned_first_mails_move_to_an_account_that_may_send
    they_move_also_where_an_edit_has_renumbered_their_step
    what_was_tried_or_may_have_arrived_stays
    with_no_other_account_or_one_of_its_own_it_waits
    follow_ups_wait_for_their_account
    follow_ups_move_in_their_thread
    what_is_planned_anew_is_judged_anew
    what_waits_for_an_account_ends_with_its_lead_or_campaign
    what_never_had_an_account_is_planned_when_it_is_sent_again
    accounts_that_come_and_go_lose_and_repeat_nothing
}
