//! Slots of a day are held by whoever is planned and by nobody else: what ends otherwise gives its slot back.
//!
//! Not responsible for mixes of all of them (`lives`). To add a way to end: a case that says how, and its move there.

use domain::settle::{Outcome, ReplyAction};
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::values;

use super::scene::{HOUR, Scene, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

/// Days whose reserved slots are not those of the sends that hold them: there must be none.
pub(super) const WRONG_DAYS: &str = "SELECT d.scope || ' ' || d.day || ': ' || d.reserved AS x FROM pace_days d
    WHERE d.reserved <> (SELECT COUNT(*) FROM sends s WHERE s.open AND s.status IN ('planned', 'queued') AND (
        (d.scope = 'account' AND s.email_account_id = d.scope_id AND s.account_day = d.day)
        OR (d.scope = 'campaign' AND s.campaign_id = d.scope_id AND s.campaign_day = d.day)))";

/// Two campaigns share an account with three slots a day. The first one took them; the second one waits until tomorrow.
async fn two_campaigns(store: Store) -> (Scene, Scene, Vec<SendJob>) {
    let shared = |name: &str| {
        let name = name.to_owned();
        move |s: &mut engines::store::setup::Setup| {
            s.accounts[0].daily_limit = Some(3);
            s.campaign = name;
        }
    };
    let first = Scene::started(store.clone(), 3, shared("First")).await;
    let jobs = first.jobs(NOW).await;
    assert_eq!(jobs.len(), 3);
    let second = Scene::draft(store, shared("Second")).await;
    let leads = (10..14).map(|n| engines::store::leads::NewLead {
        email: format!("lead{n}@example.test"),
        ..engines::store::leads::NewLead::default()
    });
    second.import(leads.collect(), NOW).await;
    assert!(second.tenant().start_campaign(second.campaign_id, NOW).await.unwrap());
    assert!(second.plan(NOW).await.planned.is_empty(), "the day is full");
    assert!(!is_due(&second).await, "nobody asks again before tomorrow");
    (first, second, jobs)
}

async fn is_due(f: &Scene) -> bool {
    f.due_campaigns(NOW).await.contains(&(f.tenant_id, f.campaign_id))
}

/// So many slots are free again, and the second campaign is asked for them.
async fn is_given_back(first: &Scene, second: &Scene, slots: usize) {
    assert_eq!(first.account_days().await, (3 - slots as i64, 0));
    assert_eq!(first.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
    assert!(is_due(second).await, "whoever waits is asked now");
    assert_eq!(second.plan(NOW).await.planned.len(), slots, "a later lead gets the slot");
    assert_eq!(first.account_days().await, (3, 0));
    assert_eq!(first.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
}

fn a_cancelled_campaign_gives_its_slots_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (first, second, _) = two_campaigns(store).await;
        assert_eq!(first.tenant().cancel_campaign(first.campaign_id, NOW).await.unwrap(), Some(3));
        is_given_back(&first, &second, 3).await;
    });
}

fn an_unsubscribed_lead_gives_its_slot_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (first, second, jobs) = two_campaigns(store).await;
        first.unsubscribe(&jobs[0], NOW).await;
        first.unsubscribe(&jobs[0], NOW).await;
        is_given_back(&first, &second, 1).await;
    });
}

fn a_step_that_is_switched_off_gives_its_slots_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (first, second, _) = two_campaigns(store).await;
        let off = "UPDATE campaign_sequence_steps SET is_active = false WHERE campaign_id = $1 AND step_order = 1";
        first.write(off, values![first.campaign_id]).await;
        assert_eq!(first.store.system().sweep(NOW).await.unwrap(), 3);
        is_given_back(&first, &second, 3).await;
    });
}

fn an_edit_that_switches_a_step_off_gives_its_slots_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut first, second, _) = two_campaigns(store).await;
        first.edit(NOW, |s| s.steps[0].is_active = false).await;
        is_given_back(&first, &second, 3).await;
    });
}

/// The first lead's mail was tried already, so it keeps its time and its slot.
fn an_edit_that_puts_mails_off_gives_their_slots_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut first, second, jobs) = two_campaigns(store).await;
        first.write("UPDATE sends SET attempts = 1 WHERE id = $1", values![jobs[0].send_id]).await;
        first.edit(NOW, |s| s.steps[0].wait_hours = 24.0).await;
        assert_eq!(first.column::<i64>("SELECT COUNT(*) AS x FROM sends WHERE email_account_id IS NULL").await, [2]);
        is_given_back(&first, &second, 2).await;
        assert!(first.plan(NOW + 23 * HOUR).await.planned.is_empty());
        assert_eq!(first.plan(NOW + 24 * HOUR).await.planned.len(), 2, "the next day has room for them");
        assert_eq!(first.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
    });
}

fn what_another_program_suppressed_or_ended_gives_its_slot_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (first, second, _) = two_campaigns(store).await;
        first.write("UPDATE leads SET status = 'complained' WHERE email = 'lead1@example.test'", vec![]).await;
        assert_eq!(first.store.system().sweep(NOW).await.unwrap(), 1);
        let reason = "SELECT reason AS x FROM sends WHERE status = 'cancelled'";
        assert_eq!(first.one::<String>(reason).await, "lead_complained");
        is_given_back(&first, &second, 1).await;
        first.write("UPDATE campaigns SET status = 'archived' WHERE id = $1", values![first.campaign_id]).await;
        assert_eq!(first.store.system().sweep(NOW).await.unwrap(), 2);
        assert_eq!(second.plan(NOW).await.planned.len(), 2);
        assert_eq!(first.account_days().await, (3, 0));
    });
}

/// The same lead has a send in both campaigns; the one bounces, so the other is cancelled.
fn a_bounce_gives_back_what_the_leads_other_mail_had_reserved(engine: Engine) {
    with_store(engine, async |store: Store| {
        let first = Scene::started(store.clone(), 2, |s| s.campaign = "First".into()).await;
        let second = Scene::started(store, 2, |s| s.campaign = "Second".into()).await;
        let jobs = first.jobs(NOW).await;
        assert_eq!(second.plan(NOW).await.planned.len(), 2);
        let fence = first.granted(&jobs[0], NOW).await;
        assert_eq!(first.account_days().await, (3, 1));
        first.settled(&jobs[0], fence, Outcome::Refused(ReplyAction::BounceHard), NOW).await;
        assert_eq!(first.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
        assert_eq!(first.account_days().await.0, 2, "one of each campaign");
    });
}

fn what_is_held_since_a_restore_gives_its_slot_back_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (first, second, jobs) = two_campaigns(store).await;
        first.granted(&jobs[0], NOW).await;
        let later = "UPDATE sends SET not_before = $2 WHERE id = $1";
        first.write(later, values![jobs[2].send_id, NOW + HOUR]).await;
        let system = first.store.system();
        assert_eq!(system.hold_restored(NOW, None, 10, NOW).await.unwrap().0, 2);
        assert_eq!(first.account_days().await, (1, 1), "a dot stays used and holds nothing");
        assert_eq!(first.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
        assert_eq!(second.plan(NOW).await.planned.len(), 1);
        // Sent again, it holds no slot of that day: the gate asks for room, and there is none.
        let mut again = result(&jobs[1], jobs[1].fence, Outcome::GivenBack, NOW);
        again.was_dot = false;
        assert_eq!(first.tenant().resolve_send(&again, &new_id, NOW).await.unwrap(), Applied::Done);
        let job = first.refetch(&jobs[1], NOW + HOUR).await.unwrap();
        assert_eq!((job.account_day.as_deref(), job.campaign_day.as_deref()), (None, None));
        assert_eq!(first.dot(&job, NOW + HOUR).await, DotAnswer::Refused);
        assert_eq!(first.column::<String>(WRONG_DAYS).await, [] as [String; 0]);
    });
}

on_every_engine! {
    a_cancelled_campaign_gives_its_slots_back
    an_unsubscribed_lead_gives_its_slot_back
    a_step_that_is_switched_off_gives_its_slots_back
    an_edit_that_switches_a_step_off_gives_its_slots_back
    an_edit_that_puts_mails_off_gives_their_slots_back
    what_another_program_suppressed_or_ended_gives_its_slot_back
    a_bounce_gives_back_what_the_leads_other_mail_had_reserved
    what_is_held_since_a_restore_gives_its_slot_back_once
}
