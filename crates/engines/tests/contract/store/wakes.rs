//! A campaign that rests is asked again as soon as something changes that it rests for, also while it is being planned.
//!
//! Not responsible for what gives a slot back (`slots`). To add something that wakes: a case of its own, and where it may meet
//! a planner, one with `meanwhile`.

use domain::email_account::AccountStatus;
use domain::ids::EmailAccountId;
use domain::schedule::WarmupTable;
use domain::settle::{Outcome, ReplyAction};
use engines::dialect::Statement;
use engines::store::apply::Applied;
use engines::store::plan::PlanRequest;
use engines::{Access, Store, values};

use super::scene::{HOUR, MINUTE, OWNER, Scene, account, result};
use crate::chance::Chance;
use crate::engine::{Engine, NOW, figure, new_id, with_two_stores};
use crate::on_every_engine;

/// Of three slots a day the first campaign has two, so the second one gets one and rests.
async fn two_campaigns(first: Store, second: Store) -> (Scene, Scene) {
    let shared = |name: &str| {
        let name = name.to_owned();
        move |s: &mut engines::store::setup::Setup| {
            s.accounts[0].daily_limit = Some(3);
            s.campaign = name;
        }
    };
    let first = Scene::started(first, 2, shared("First")).await;
    let second = Scene::draft(second, shared("Second")).await;
    assert_eq!(second.enroll(10..13).await, 3);
    assert!(second.tenant().start_campaign(second.campaign_id, NOW).await.unwrap());
    (first, second)
}

async fn is_due(f: &Scene) -> bool {
    f.due_campaigns(NOW).await.contains(&(f.tenant_id, f.campaign_id))
}

/// Plans a page, and has something done by another process when it has been decided and is not written yet; on SQLite, where
/// planning is alone, that comes right behind it.
async fn meanwhile(engine: Engine, f: &Scene, work: impl Future<Output = ()> + Send + 'static) -> usize {
    let (work, begun) = (std::sync::Mutex::new(Some(work)), std::sync::Mutex::new(None));
    let runtime = tokio::runtime::Handle::current();
    let id = || {
        if let Some(work) = work.lock().unwrap().take() {
            match engine {
                Engine::Postgres => tokio::task::block_in_place(|| runtime.block_on(work)),
                Engine::Sqlite => *begun.lock().unwrap() = Some(runtime.spawn(work)),
            }
        }
        new_id()
    };
    let (tenant_id, campaign_id, horizon) = (f.tenant_id, f.campaign_id, 10 * MINUTE);
    let request = PlanRequest { tenant_id, campaign_id, now: NOW, horizon, limit: 100, epoch: 1, behind: None };
    let page = f.store.system().plan_page(&request, &WarmupTable::default(), &id).await.unwrap();
    assert!(work.lock().unwrap().is_none(), "it was done meanwhile");
    let begun = begun.lock().unwrap().take();
    if let Some(begun) = begun {
        begun.await.unwrap();
    }
    page.planned.len()
}

fn a_slot_given_back_while_a_page_is_planned_wakes_its_campaign(engine: Engine) {
    with_two_stores(engine, async move |store: Store, other: Store| {
        let (first, second) = two_campaigns(other, store).await;
        let job = first.jobs(NOW).await.remove(0);
        let unsubscribes = async move { first.unsubscribe(&job, NOW).await };
        assert_eq!(meanwhile(engine, &second, unsubscribes).await, 1);
        assert!(is_due(&second).await, "a slot is free again");
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        assert!(!is_due(&second).await, "nobody asks again before tomorrow");
    });
}

fn an_edit_while_a_page_is_planned_wakes_its_campaign(engine: Engine) {
    with_two_stores(engine, async move |store: Store, other: Store| {
        let (first, second) = two_campaigns(other, store).await;
        assert_eq!(first.jobs(NOW).await.len(), 2);
        let later = NOW + MINUTE;
        let edit = "UPDATE campaigns SET next_plan_at = NULL, updated_at = $2 WHERE id = $1";
        let id = second.campaign_id;
        let edits = async move { first.write(edit, values![id, later]).await };
        assert_eq!(meanwhile(engine, &second, edits).await, 1);
        assert!(is_due(&second).await, "it may have other limits now");
        assert!(second.plan(NOW).await.planned.is_empty());
        assert!(!is_due(&second).await);
    });
}

/// An import or an event that is being written refers to the campaign's row: nobody is to pass it by for that.
fn a_campaign_to_which_rows_are_added_is_woken_as_well(engine: Engine) {
    static REFER: Statement = Statement::new("REFER", "SELECT id FROM campaigns WHERE id = $1 {for key share}");
    with_two_stores(engine, async move |store: Store, other: Store| {
        let (first, second) = two_campaigns(other, store).await;
        let job = first.jobs(NOW).await.remove(0);
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        assert!(!is_due(&second).await);
        let mut refers = None;
        if engine == Engine::Postgres {
            let mut tx = second.store.db().begin(Access::Write).await.unwrap();
            tx.query(&REFER, values![second.campaign_id]).await.unwrap();
            refers = Some(tx);
        }
        first.unsubscribe(&job, NOW).await;
        assert!(is_due(&second).await);
        drop(refers);
    });
}

/// It rests when none of the accounts that its mail may go from has a slot: also not one that left the pool.
fn a_campaign_does_not_rest_while_a_lead_keeps_an_account_with_room(engine: Engine) {
    with_two_stores(engine, async |store: Store, _: Store| {
        let f = Scene::started(store, 4, |s| {
            s.accounts[0].daily_limit = Some(1);
            s.accounts.push(account("ben@acme.test"));
        })
        .await;
        for keep in [
            "DELETE FROM campaign_email_accounts WHERE email_account_id = (SELECT id FROM email_accounts WHERE email = 'ben@acme.test')",
            "UPDATE campaign_leads SET email_account_id = (SELECT id FROM email_accounts WHERE email = 'ana@acme.test')",
            "UPDATE campaign_leads SET email_account_id = (SELECT id FROM email_accounts WHERE email = 'ben@acme.test')
                WHERE lead_id = (SELECT id FROM leads WHERE email = 'lead3@example.test')",
        ] {
            f.write(keep, vec![]).await;
        }
        let later = "UPDATE campaign_leads SET due_at = $1 WHERE lead_id = (SELECT id FROM leads WHERE email = 'lead3@example.test')";
        f.write(later, values![NOW + HOUR]).await;
        assert_eq!(f.plan(NOW).await.planned.len(), 1, "the pool's day is full");
        let due = f.due_campaigns(NOW + HOUR).await;
        assert_eq!(due, [(f.tenant_id, f.campaign_id)]);
        assert_eq!(f.plan(NOW + HOUR).await.planned.len(), 1, "ben has room");
        assert!(!f.due_campaigns(NOW + HOUR).await.is_empty(), "and has it still");
    });
}

/// A slot of the full day that the first campaign's mail held comes free by itself, one way after the other.
fn what_a_result_or_a_withdrawn_intent_gives_back_wakes_who_waits(engine: Engine) {
    with_two_stores(engine, async |store: Store, other: Store| {
        let (first, second) = two_campaigns(other, store).await;
        let jobs = first.jobs(NOW).await;
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        first.granted(&jobs[0], NOW).await;
        assert!(!is_due(&second).await, "a dot gives nothing back");
        let request = first.request(&jobs[0], NOW);
        assert_eq!(first.store.system().withdraw(&[request], OWNER, NOW).await.unwrap(), 1);
        assert!(is_due(&second).await, "the intent was taken back");
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        assert!(!is_due(&second).await);
        // Refused before its dot, and for good.
        let mut refused = result(&jobs[1], jobs[1].fence, Outcome::Refused(ReplyAction::BounceHard), NOW);
        refused.was_dot = false;
        assert_eq!(first.apply(&[refused], NOW).await, [Applied::Done]);
        assert!(is_due(&second).await, "the refused one has left its slot");
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        assert_eq!(second.account_days().await, (3, 0));
    });
}

/// What failed at its dot gives back what it used.
fn a_refused_dot_gives_its_slot_back_to_who_waits(engine: Engine) {
    with_two_stores(engine, async |store: Store, other: Store| {
        let (first, second) = two_campaigns(other, store).await;
        let job = first.jobs(NOW).await.remove(0);
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        let fence = first.granted(&job, NOW).await;
        first.settled(&job, fence, Outcome::Refused(ReplyAction::BounceHard), NOW).await;
        assert!(is_due(&second).await);
    });
}

/// A campaign that rests for something else is left alone: its account's day had room before.
fn a_day_that_had_room_wakes_nobody(engine: Engine) {
    with_two_stores(engine, async |store: Store, other: Store| {
        let spaced = |name: &str| {
            let name = name.to_owned();
            move |s: &mut engines::store::setup::Setup| {
                (s.accounts[0].daily_limit, s.accounts[0].min_gap_seconds) = (Some(9), 3_600);
                s.campaign = name;
            }
        };
        let first = Scene::started(other, 1, spaced("First")).await;
        let job = first.jobs(NOW).await.remove(0);
        let second = Scene::draft(store, spaced("Second")).await;
        assert_eq!(second.enroll(10..13).await, 3);
        assert!(second.tenant().start_campaign(second.campaign_id, NOW).await.unwrap());
        assert!(second.plan(NOW).await.planned.is_empty(), "the gap is not over");
        first.unsubscribe(&job, NOW).await;
        assert_eq!(second.account_days().await, (0, 0), "it was given back");
        assert!(!is_due(&second).await);
    });
}

/// The account is not in the second campaign's pool: a step names it, or a lead keeps it.
fn who_uses_an_account_otherwise_than_by_its_pool_is_woken_as_well(engine: Engine) {
    for use_it in [
        "UPDATE campaign_sequence_steps SET email_account_id = (SELECT id FROM email_accounts WHERE email = 'ana@acme.test')
            WHERE campaign_id = $1",
        "UPDATE campaign_leads SET email_account_id = (SELECT id FROM email_accounts WHERE email = 'ana@acme.test')
            WHERE campaign_id = $1",
    ] {
        with_two_stores(engine, async move |store: Store, other: Store| {
            let (first, second) = two_campaigns(other, store).await;
            second.write(use_it, values![second.campaign_id]).await;
            second.write("DELETE FROM campaign_email_accounts WHERE campaign_id = $1", values![second.campaign_id]).await;
            let job = first.jobs(NOW).await.remove(0);
            assert_eq!(second.plan(NOW).await.planned.len(), 1);
            assert!(!is_due(&second).await);
            first.unsubscribe(&job, NOW).await;
            assert!(is_due(&second).await, "{use_it}");
            assert_eq!(second.plan(NOW).await.planned.len(), 1);
        });
    }
}

/// Both campaigns have an account of their own that a person has stopped, and one that is full.
fn an_account_that_is_started_wakes_who_may_send_from_it(engine: Engine) {
    with_two_stores(engine, async |store: Store, _: Store| {
        let f = Scene::started(store, 3, |s| {
            s.accounts[0].daily_limit = Some(1);
            s.accounts.push(account("ben@acme.test"));
        })
        .await;
        let ben = f.one("SELECT id AS x FROM email_accounts WHERE email = 'ben@acme.test'").await;
        let ben = EmailAccountId::from_uuid(ben);
        for (stop, reason) in [(AccountStatus::Paused, None), (AccountStatus::Paused, Some("refusal_rate"))] {
            f.tenant().set_account_status(ben, stop, reason, NOW).await.unwrap();
            f.plan(NOW).await;
            let far = "UPDATE campaigns SET next_plan_at = $1";
            f.write(far, values![NOW + HOUR]).await;
            assert!(!is_due(&f).await);
            match reason {
                None => f.tenant().set_account_status(ben, AccountStatus::Active, None, NOW).await.unwrap(),
                Some(_) => assert!(f.tenant().resume_campaign(f.campaign_id, NOW).await.unwrap()),
            }
            assert!(is_due(&f).await, "{reason:?}");
        }
        assert_eq!(f.plan(NOW).await.planned.len(), 2);
    });
}

/// Some work before, so that two meet anywhere in each other's transactions.
async fn begin_late(f: &Scene, reads: u64) {
    for _ in 0..reads {
        is_due(f).await;
    }
}

/// As before a round: nothing is planned, nobody has unsubscribed.
static AS_BEFORE: [Statement; 6] = [
    Statement::new("AS_BEFORE", "DELETE FROM sends"),
    Statement::new("AS_BEFORE", "DELETE FROM pace_days"),
    Statement::new("AS_BEFORE", "DELETE FROM suppression_list"),
    Statement::new("AS_BEFORE", "UPDATE leads SET status = 'active'"),
    Statement::new("AS_BEFORE", "UPDATE campaigns SET next_plan_at = NULL"),
    Statement::new(
        "AS_BEFORE",
        "UPDATE campaign_leads SET status = 'active', stop_reason = NULL, next_step_order = 1, due_at = created_at",
    ),
];

/// Two processes at once, at random moments: who waits either gets the slot or is asked again.
fn no_wake_up_is_lost_at_any_moment(engine: Engine) {
    const ROUNDS: u64 = 300;
    with_two_stores(engine, async move |store: Store, other: Store| {
        let (first, second) = two_campaigns(other, store).await;
        let (first, second) = (std::sync::Arc::new(first), std::sync::Arc::new(second));
        let (mut seen, mut woken) = (0, 0);
        for seed in 0..ROUNDS {
            let mut chance = Chance::new(seed);
            let mut tx = second.store.db().begin(Access::Write).await.unwrap();
            for statement in &AS_BEFORE {
                tx.execute(statement, vec![]).await.unwrap();
            }
            tx.commit().await.unwrap();
            let job = first.jobs(NOW).await.remove(0);
            let late = [chance.below(6), chance.below(6)];
            let (giver, planner) = (std::sync::Arc::clone(&first), std::sync::Arc::clone(&second));
            let gives = tokio::spawn(async move {
                begin_late(&giver, late[0]).await;
                giver.unsubscribe(&job, NOW).await;
            });
            let plans = tokio::spawn(async move {
                begin_late(&planner, late[1]).await;
                planner.plan(NOW).await.planned.len()
            });
            gives.await.unwrap();
            let planned = plans.await.unwrap();
            let taken = second.account_days().await.0;
            assert_eq!(taken, 1 + planned as i64);
            let due = is_due(&second).await;
            assert!(due || taken == 3, "round {seed}: a slot is free, and nobody asks for it");
            seen += u64::from(planned == 2);
            woken += u64::from(planned == 1);
        }
        assert!(seen + woken == ROUNDS);
        let engine = format!("{engine:?}").to_lowercase();
        figure(&format!("wake-ups {engine} rounds {ROUNDS}, seen {seen}, woken {woken}"));
    });
}

on_every_engine! {
    a_slot_given_back_while_a_page_is_planned_wakes_its_campaign
    an_edit_while_a_page_is_planned_wakes_its_campaign
    a_campaign_to_which_rows_are_added_is_woken_as_well
    a_campaign_does_not_rest_while_a_lead_keeps_an_account_with_room
    what_a_result_or_a_withdrawn_intent_gives_back_wakes_who_waits
    a_refused_dot_gives_its_slot_back_to_who_waits
    a_day_that_had_room_wakes_nobody
    who_uses_an_account_otherwise_than_by_its_pool_is_woken_as_well
    an_account_that_is_started_wakes_who_may_send_from_it
    no_wake_up_is_lost_at_any_moment
}
