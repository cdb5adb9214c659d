//! Edits of a campaign whose mails are planned already, or in a worker's hand.
//!
//! Not responsible for leads that wait (`edits`).

use domain::reason::Reason;
use domain::settle::Outcome;
use domain::time::Timestamp;
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::DotAnswer;
use engines::store::setup::Setup;
use engines::values;

use super::edits::{three, x};
use super::scene::{HOUR, MINUTE, Scene, email_step, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

/// The campaign with the second mail of its only lead planned, and in a worker's hand.
async fn second_in_hand(store: Store) -> (Scene, engines::store::fetch::SendJob) {
    let f = Scene::started(store, 1, three).await;
    assert_eq!(f.send_all(NOW).await, ["A"]);
    let job = f.jobs(NOW + 48 * HOUR).await.remove(0);
    (f, job)
}

fn a_planned_mail_goes_with_the_text_of_the_moment(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        f.edit(NOW + 48 * HOUR, |s| s.steps[1] = email_step("B, better", 48.0)).await;
        let again = f.refetch(&job, NOW + 48 * HOUR).await.unwrap();
        assert_eq!((again.template.0, again.template.1), (job.template.0, job.template.1 + 1));
        assert_eq!(f.send(&again, NOW + 48 * HOUR).await, "B, better");
    });
}

/// What is changed, and how.
type NamedEdit = (&'static str, fn(&mut Setup));

/// What was read before an edit gets no dot, and costs nothing; read anew it goes at once.
fn what_is_in_hand_is_made_anew_where_text_or_settings_were_changed(engine: Engine) {
    let edits: [NamedEdit; 5] = [
        ("text", |s| s.steps[1] = email_step("B, better", 48.0)),
        ("settings", |s| s.settings.track_opens = false),
        ("the company's address", |s| s.company_address = "2 Side Street".into()),
        ("the sender's name", |s| s.accounts[0].from_name = Some("Ana".into())),
        ("the wait", |s| s.steps[1].wait_hours = 1.0),
    ];
    for (what, edit) in edits {
        with_store(engine, async |store: Store| {
            let (mut f, job) = second_in_hand(store).await;
            let now = NOW + 48 * HOUR;
            f.edit(now, edit).await;
            assert_eq!(f.dot(&job, now).await, DotAnswer::Outdated, "{what}");
            assert_eq!(f.one::<Option<Timestamp>>("SELECT hinted_at AS x FROM sends WHERE open").await, None, "{what}");
            let again = f.refetch(&job, now).await.unwrap();
            assert_eq!((again.fence, again.attempts, again.not_before), (job.fence, 0, job.not_before), "{what}");
            assert_ne!(again.seen(), job.seen(), "{what}");
            assert_eq!(f.account_days().await, (1, 1), "{what}: it keeps its slot");
            f.granted(&again, now).await;
            assert_eq!(f.dot(&job, now).await, DotAnswer::Refused, "{what}: the old one is nobody's any more");
        });
    }
}

fn a_longer_wait_puts_planned_mails_off_also_those_in_hand(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        let now = NOW + 48 * HOUR;
        f.edit(now, |s| s.steps[1].wait_hours = 72.0).await;
        assert_eq!(f.dot(&job, now).await, DotAnswer::Refused, "the worker that has it is told at the gate");
        assert!(f.refetch(&job, now).await.is_none());
        assert_eq!((f.place().await, f.account_days().await), ((2, Some(NOW + 72 * HOUR)), (0, 1)), "its slot is free");
        assert!(f.jobs(NOW + 71 * HOUR).await.is_empty());
        let later = f.jobs(NOW + 72 * HOUR).await.remove(0);
        assert_eq!((later.send_id, later.account.0), (job.send_id, job.account.0), "it is the same send");
        assert_eq!(f.send(&later, NOW + 72 * HOUR).await, "B");
        assert_eq!((f.sends().await, f.account_days().await), (vec!["sent".into(); 2], (0, 2)));
    });
}

fn a_shorter_wait_leaves_planned_mails_as_they_are(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        f.edit(NOW + 48 * HOUR, |s| s.steps[1].wait_hours = 1.0).await;
        assert_eq!(f.send(&job, NOW + 48 * HOUR).await, "B");
    });
}

fn a_mail_that_was_tried_keeps_its_time(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        f.write("UPDATE sends SET attempts = 1 WHERE id = $1", values![job.send_id]).await;
        f.edit(NOW + 48 * HOUR, |s| s.steps[1].wait_hours = 72.0).await;
        assert_eq!(f.send(&job, NOW + 48 * HOUR).await, "B");
    });
}

fn a_planned_mail_of_a_removed_or_switched_off_step_is_skipped(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        let now = NOW + 48 * HOUR;
        f.edit(now, |s| s.steps[1].is_active = false).await;
        assert_eq!(f.dot(&job, now).await, DotAnswer::Refused);
        assert_eq!(
            f.one::<Reason>("SELECT reason AS x FROM sends WHERE status = 'skipped'").await,
            Reason::StepInactive
        );
        f.plan(now).await;
        assert_eq!(f.place().await, (3, Some(now + 24 * HOUR)));
        f.edit(now, |s| drop(s.steps.remove(2))).await;
        assert_eq!(f.enrollment_status().await, "completed");
    });
}

fn a_dot_that_was_written_counts_whatever_was_edited(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        let now = NOW + 48 * HOUR;
        let fence = f.granted(&job, now).await;
        let sent = result(&job, fence, Outcome::Accepted, now);
        f.edit(now, |s| drop(s.steps.remove(1))).await;
        assert_eq!(f.sends().await, ["sent", "dot"]);
        assert_eq!(f.apply(&[sent], now + MINUTE).await, [Applied::Done]);
        f.plan(now + MINUTE).await;
        assert_eq!(f.place().await, (3, Some(now + MINUTE + 24 * HOUR)), "the lead goes on behind the removed step");
    });
}

fn a_planned_mail_goes_before_a_step_that_is_added_before_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        f.edit(NOW + 48 * HOUR, |s| s.steps.insert(1, x(1.0))).await;
        let again = f.refetch(&job, NOW + 48 * HOUR).await.unwrap();
        assert_eq!((again.step_order, f.send(&job, NOW + 48 * HOUR).await.as_str()), (3, "B"));
    });
}

fn what_a_closed_window_has_moved_is_asked_again_where_it_opens(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (mut f, job) = second_in_hand(store).await;
        let (now, tomorrow) = (NOW + 48 * HOUR, NOW + 72 * HOUR);
        let moved = "UPDATE sends SET status = 'queued', reason = 'window_closed', not_before = $2 WHERE id = $1";
        f.write(moved, values![job.send_id, tomorrow]).await;
        f.edit(now, |_| {}).await;
        assert!(f.refetch(&job, now).await.is_none(), "nothing was changed");
        f.edit(now, |s| s.settings.send_time_end = "20:00".parse().unwrap()).await;
        assert!(f.refetch(&job, now).await.is_some());
    });
}

on_every_engine! {
    what_is_in_hand_is_made_anew_where_text_or_settings_were_changed
    a_planned_mail_goes_with_the_text_of_the_moment
    a_longer_wait_puts_planned_mails_off_also_those_in_hand
    a_shorter_wait_leaves_planned_mails_as_they_are
    a_mail_that_was_tried_keeps_its_time
    a_planned_mail_of_a_removed_or_switched_off_step_is_skipped
    a_dot_that_was_written_counts_whatever_was_edited
    a_planned_mail_goes_before_a_step_that_is_added_before_it
    what_a_closed_window_has_moved_is_asked_again_where_it_opens
}
