//! Edits of a sequence under way: who gets which mail, and when, row by row of the guide's table.
//!
//! Not responsible for mails that are planned already (`edits_planned`), nor for who is who (`domain::sequence`).

use domain::ids::SendId;
use domain::settle::{EnrollmentEffect, Outcome};
use domain::step::{StepType, next_due};
use domain::time::Timestamp;
use engines::Store;
use engines::store::fetch::SendJob;
use engines::store::setup::{Setup, SetupError, SetupReport, StepSetup};
use engines::values;

use super::scene::{DAY, HOUR, Scene, account, apply_setup, apply_setup_at, email_step, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

impl Scene {
    /// Applies the changed set-up at `now`, meant as it is.
    pub async fn edit(&mut self, now: Timestamp, change: impl FnOnce(&mut Setup)) -> SetupReport {
        self.setup.update = true;
        change(&mut self.setup);
        apply_setup_at(&self.store, &self.setup, now).await.unwrap()
    }

    /// Sends what may go at `now`, and has its leads go on as the sequence says; subjects in order of leads.
    pub async fn send_all(&self, now: Timestamp) -> Vec<String> {
        let mut jobs = self.jobs(now).await;
        jobs.sort_by(|a, b| a.lead.email.cmp(&b.lead.email));
        let mut subjects = Vec::new();
        for job in &jobs {
            subjects.push(self.send(job, now).await);
        }
        subjects
    }

    /// Sends one; its subject.
    pub async fn send(&self, job: &SendJob, now: Timestamp) -> String {
        let fence = self.granted(job, now).await;
        let mut sent = result(job, fence, Outcome::Accepted, now);
        let steps = self.tenant().get_campaign(self.campaign_id).await.unwrap().plan.steps;
        sent.transition.enrollment = EnrollmentEffect::MoveOn(next_due(&steps, job.step_order, now));
        self.apply(&[sent], now).await;
        self.tenant().get_template(job.template.0).await.unwrap().subject
    }

    /// Where the only lead waits, and until when.
    pub async fn place(&self) -> (i64, Option<Timestamp>) {
        let due = self.one("SELECT due_at AS x FROM campaign_leads").await;
        (self.one("SELECT next_step_order AS x FROM campaign_leads").await, due)
    }

    pub async fn enrollment_status(&self) -> String {
        self.one("SELECT status AS x FROM campaign_leads").await
    }
}

/// A, B two days later, C a day after that.
pub fn three(setup: &mut Setup) {
    setup.steps = three_steps();
}

fn three_steps() -> Vec<StepSetup> {
    vec![email_step("A", 0.0), email_step("B", 48.0), email_step("C", 24.0)]
}

pub fn x(wait_hours: f64) -> StepSetup {
    email_step("X", wait_hours)
}

fn nothing_moves_where_nothing_was_changed(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 3, three).await;
        assert_eq!(f.send_all(NOW).await.len(), 3);
        f.plan(NOW + 48 * HOUR).await;
        let rows = async |f: &Scene| {
            let all = f.dump().await;
            let of = |name: &str| all.iter().find(|(table, _)| table == name).unwrap().1.clone();
            (of("campaign_leads"), of("sends"), of("pace_days"))
        };
        let before = rows(&f).await;
        let report = f.edit(NOW + 49 * HOUR, |_| {}).await;
        assert_eq!((report.finished, before), (0, rows(&f).await));
    });
}

fn an_added_step_is_got_by_who_has_not_been_there(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, three).await;
        assert_eq!(f.send_all(NOW).await, ["A"]);
        f.edit(NOW + HOUR, |s| s.steps.insert(1, x(10.0))).await;
        assert_eq!(f.place().await, (2, Some(NOW + 10 * HOUR)), "counted from the mail before");
        assert_eq!(f.send_all(NOW + 10 * HOUR).await, ["X"]);
        // Another one, behind it.
        f.edit(NOW + 11 * HOUR, |s| s.steps.insert(1, email_step("Y", 0.0))).await;
        assert_eq!(f.place().await, (4, Some(NOW + 58 * HOUR)));
        assert_eq!(f.send_all(NOW + 58 * HOUR).await, ["B"]);
        assert_eq!(f.send_all(NOW + 82 * HOUR).await, ["C"]);
        assert_eq!(f.enrollment_status().await, "completed");
        let orders: Vec<i64> = f.column("SELECT step_order AS x FROM campaign_sequence_steps ORDER BY 1").await;
        assert_eq!((orders, f.sends().await.len()), (vec![1, 2, 3, 4, 5], 4));
    });
}

fn an_added_last_step_is_got_by_who_had_finished_only_where_that_is_asked(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 2, |s| s.steps.truncate(1)).await;
        assert_eq!(f.send_all(NOW).await.len(), 2);
        f.write("UPDATE leads SET status = 'unsubscribed' WHERE email LIKE 'lead1%'", vec![]).await;
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
        let report = f.edit(NOW + HOUR, |s| s.steps.push(x(10.0))).await;
        assert_eq!(report.finished, 2);
        assert!(f.plan(NOW + DAY).await.planned.is_empty());
        let report = f.edit(NOW + 2 * HOUR, |s| s.reopen = true).await;
        assert_eq!(report.finished, 0);
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending");
        assert_eq!(f.due_campaigns(NOW + 10 * HOUR).await.len(), 1);
        assert!(f.plan(NOW + 9 * HOUR).await.planned.is_empty(), "its wait counts from the mail before");
        assert_eq!(f.send_all(NOW + 10 * HOUR).await, ["X"], "and nobody gets it who may get none");
    });
}

fn a_reopened_campaign_was_completed_and_not_late(engine: Engine) {
    with_store(engine, async |store: Store| {
        let bounded = |s: &mut Setup| {
            s.steps.truncate(1);
            s.settings.max_lateness = Some(2.0);
        };
        let mut f = Scene::started(store, 1, bounded).await;
        assert_eq!(f.send_all(NOW).await.len(), 1);
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
        let later = NOW + 30 * DAY;
        let add = |s: &mut Setup| {
            s.steps.push(x(10.0));
            s.reopen = true;
        };
        f.edit(later, add).await;
        assert_eq!(f.send_all(later).await, ["X"]);
    });
}

fn a_removed_step_is_passed_over_and_kept_where_the_ledger_knows_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 2, three).await;
        assert_eq!(f.send_all(NOW).await, ["A", "A"]);
        // One of the two is sent B.
        let job = f.jobs(NOW + 48 * HOUR).await.remove(0);
        f.send(&job, NOW + 48 * HOUR).await;
        f.edit(NOW + 49 * HOUR, |s| drop(s.steps.remove(1))).await;
        assert_eq!(f.sends().await, ["sent", "sent", "sent", "skipped"], "the planned one is not sent any more");
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends WHERE status = 'skipped'").await, "step_inactive");
        let due: Vec<Timestamp> = f.column("SELECT due_at AS x FROM campaign_leads ORDER BY due_at").await;
        assert_eq!(due, [NOW + 24 * HOUR, NOW + 72 * HOUR], "each a day after what it was sent last");
        assert_eq!(f.account_days().await, (0, 3), "the slot of the skipped one is free");
        assert_eq!(f.send_all(NOW + 50 * HOUR).await, ["C"]);
        assert_eq!(f.send_all(NOW + 72 * HOUR).await, ["C"]);
        assert_eq!(f.tenant().get_campaign(f.campaign_id).await.unwrap().plan.steps.len(), 2);
        assert_eq!(
            f.one::<i64>("SELECT step_order AS x FROM campaign_sequence_steps WHERE removed_at IS NOT NULL").await,
            2
        );
    });
}

fn a_removed_step_that_nobody_was_sent_leaves_no_gap(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, three).await;
        assert_eq!(f.send_all(NOW).await, ["A"]);
        f.edit(NOW + HOUR, |s| drop(s.steps.remove(1))).await;
        assert_eq!(f.place().await, (2, Some(NOW + 24 * HOUR)));
        // It comes back as a new one, behind C.
        f.edit(NOW + HOUR, |s| s.steps.push(email_step("B", 1.0))).await;
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_sequence_steps").await, 3);
        assert_eq!(f.send_all(NOW + 24 * HOUR).await, ["C"]);
        assert_eq!(f.send_all(NOW + 25 * HOUR).await, ["B"]);
    });
}

fn a_step_that_comes_back_is_sent_to_nobody_twice(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, three).await;
        f.send_all(NOW).await;
        assert_eq!(f.send_all(NOW + 48 * HOUR).await, ["B"]);
        f.edit(NOW + 49 * HOUR, |s| drop(s.steps.remove(1))).await;
        f.edit(NOW + 49 * HOUR, |s| s.steps.push(email_step("B", 0.0))).await;
        assert_eq!(f.send_all(NOW + 72 * HOUR).await, ["C"]);
        assert!(f.send_all(NOW + 73 * HOUR).await.is_empty());
        assert_eq!((f.sends().await.len(), f.enrollment_status().await.as_str()), (3, "completed"));
    });
}

fn a_step_switched_off_is_skipped_and_shown_until_it_is_on_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 2, three).await;
        f.send_all(NOW).await;
        let report = f.edit(NOW + HOUR, |s| s.steps[1].is_active = false).await;
        assert_eq!(report.finished, 0);
        assert_eq!(f.plan(NOW + 48 * HOUR).await.skipped, 2);
        assert_eq!(
            f.column::<String>("SELECT reason AS x FROM sends WHERE status = 'skipped'").await,
            ["step_inactive"; 2]
        );
        f.edit(NOW + 49 * HOUR, |s| s.steps[1].is_active = true).await;
        f.enroll(2..3).await;
        assert_eq!(f.send_all(NOW + 72 * HOUR).await, ["C", "C", "A"], "whoever passed it does not get it");
        assert_eq!(f.send_all(NOW + 120 * HOUR).await, ["B"]);
    });
}

fn steps_in_another_order_are_each_got_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 2, three).await;
        f.send_all(NOW).await;
        let job = f.jobs(NOW + 48 * HOUR).await.remove(0);
        f.send(&job, NOW + 48 * HOUR).await;
        // The other one's B is planned: it goes first.
        f.edit(NOW + 48 * HOUR, |s| s.steps.swap(1, 2)).await;
        f.enroll(2..3).await;
        let mut sent = Vec::new();
        for hours in [48, 72, 73, 96, 97, 120, 121, 144, 145, 168] {
            sent.extend(f.send_all(NOW + hours * HOUR).await);
        }
        sent.sort();
        assert_eq!(sent.iter().filter(|s| *s == "A").count(), 1);
        let per_lead: Vec<i64> =
            f.column("SELECT COUNT(*) AS x FROM sends WHERE status = 'sent' GROUP BY lead_id, step_id").await;
        assert!(per_lead.iter().all(|copies| *copies == 1), "{per_lead:?}");
        let new: Vec<String> = f
            .column(
                "SELECT t.subject AS x FROM sends s JOIN campaign_sequence_steps st ON st.id = s.step_id
                JOIN templates t ON t.id = st.template_id JOIN leads l ON l.id = s.lead_id
                WHERE l.email = 'lead2@example.test' ORDER BY s.settled_at",
            )
            .await;
        assert_eq!(new, ["A", "C", "B"]);
        let first: Vec<String> = f
            .column(
                "SELECT t.subject AS x FROM sends s JOIN campaign_sequence_steps st ON st.id = s.step_id
                JOIN templates t ON t.id = st.template_id JOIN leads l ON l.id = s.lead_id
                WHERE l.email <> 'lead2@example.test' ORDER BY t.subject",
            )
            .await;
        assert_eq!(first.iter().filter(|s| *s == "C").count(), 1, "who had passed both places gets C still: {first:?}");
    });
}

fn a_changed_wait_counts_for_who_waits_for_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, three).await;
        f.send_all(NOW).await;
        assert_eq!(f.place().await, (2, Some(NOW + 48 * HOUR)));
        f.edit(NOW + HOUR, |s| s.steps[1].wait_hours = 72.5).await;
        assert_eq!(f.place().await, (2, Some(NOW + 72 * HOUR + HOUR / 2)));
        f.edit(NOW + HOUR, |s| s.steps[1].wait_hours = 2.0).await;
        assert_eq!(f.place().await, (2, Some(NOW + 2 * HOUR)));
        f.edit(NOW + HOUR, |s| s.steps[1].wait_until = Some(NOW + 5 * DAY)).await;
        assert_eq!(f.place().await, (2, Some(NOW + 5 * DAY)));
        f.edit(NOW + HOUR, |s| s.steps[2].wait_hours = 1.0).await;
        assert_eq!(f.place().await, (2, Some(NOW + 5 * DAY)), "another step's wait is not its own");
        let wait = StepSetup { step_type: StepType::Wait, template: None, ..email_step("", 6.0) };
        f.edit(NOW + HOUR, |s| {
            s.steps[1].wait_until = None;
            s.steps.insert(1, wait);
        })
        .await;
        assert_eq!(f.place().await, (3, Some(NOW + 8 * HOUR)), "a wait that was added counts too");
    });
}

fn the_first_mails_wait_counts_from_the_start_or_from_enrollment(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, |s| s.scheduled_at = Some(NOW + HOUR)).await;
        f.edit(NOW, |s| s.steps[0].wait_hours = 5.0).await;
        assert_eq!(f.place().await, (1, Some(NOW + 6 * HOUR)));
        f.edit(NOW, |s| s.scheduled_at = Some(NOW + 2 * HOUR)).await;
        assert_eq!(f.place().await, (1, Some(NOW + 7 * HOUR)));
    });
}

fn new_settings_are_asked_at_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let local = |s: &mut Setup| {
            s.settings.send_time_start = "15:00".parse().unwrap();
            s.settings.timezone_strategy = domain::campaign::TimezoneStrategy::RecipientLocal;
        };
        let mut f = Scene::started(store, 1, local).await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert_eq!(f.place().await, (1, Some(NOW + 3 * HOUR)), "moved into the window");
        f.edit(NOW, |s| s.settings.send_time_start = "13:00".parse().unwrap()).await;
        f.plan(NOW).await;
        assert_eq!(f.place().await, (1, Some(NOW + HOUR)));
        f.edit(NOW, |s| s.settings = domain::campaign::CampaignSettings::default()).await;
        assert_eq!(f.plan(NOW).await.planned.len(), 1);
    });
}

fn every_edit_has_the_campaign_planned_and_read_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, |s| s.settings.send_time_start = "15:00".parse().unwrap()).await;
        f.plan(NOW).await;
        assert!(f.due_campaigns(NOW).await.is_empty(), "its window is closed");
        f.edit(NOW + HOUR, |s| s.accounts.push(account("bob@acme.test"))).await;
        assert_eq!(f.due_campaigns(NOW + HOUR).await.len(), 1);
        // What workers keep of a campaign goes by this.
        assert_eq!(f.tenant().get_campaign(f.campaign_id).await.unwrap().updated_at, NOW + HOUR);
        f.plan(NOW + HOUR).await;
        assert!(f.due_campaigns(NOW + HOUR).await.is_empty());
        assert_eq!(f.enroll(0..2).await, 1, "leads that the list leaves out stay, new ones come");
        assert_eq!(f.due_campaigns(NOW + HOUR).await.len(), 1);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_leads").await, 2);
    });
}

fn a_new_account_takes_new_leads_and_none_that_has_one(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, |_| {}).await;
        f.send_all(NOW).await;
        f.edit(NOW, |s| s.accounts = vec![account("bob@acme.test")]).await;
        f.enroll(1..2).await;
        let from = async |f: &Scene| -> Vec<String> {
            f.column(
                "SELECT a.email AS x FROM sends s JOIN email_accounts a ON a.id = s.email_account_id ORDER BY s.id",
            )
            .await
        };
        f.send_all(NOW).await;
        assert_eq!(from(&f).await, ["ana@acme.test", "bob@acme.test"]);
        f.send_all(NOW + 48 * HOUR).await;
        let mut last = from(&f).await.split_off(2);
        last.sort();
        assert_eq!(last, ["ana@acme.test", "bob@acme.test"], "a lead keeps its account");
    });
}

fn an_unclear_edit_is_refused_and_keys_make_it_clear(engine: Engine) {
    with_store(engine, async |store: Store| {
        let keyed = |key: &str, subject: &str, wait| StepSetup { key: Some(key.into()), ..email_step(subject, wait) };
        let mut f = Scene::started(store, 1, three).await;
        f.send_all(NOW).await;
        f.setup.update = true;
        f.setup.steps[1] = email_step("B, better", 48.0);
        f.setup.steps.insert(1, x(1.0));
        let refused = apply_setup(&f.store, &f.setup).await.unwrap_err();
        assert!(matches!(refused, SetupError::StepsUnclear { step: 2, .. }), "{refused}");
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_sequence_steps").await, 3, "nothing was written");
        f.edit(NOW, |s| s.steps = vec![keyed("a", "A", 0.0), keyed("b", "B", 48.0), keyed("c", "C", 24.0)]).await;
        f.edit(NOW, |s| {
            s.steps = vec![keyed("a", "A", 0.0), x(1.0), keyed("b", "B, better", 48.0), keyed("c", "C", 24.0)];
        })
        .await;
        assert_eq!(f.send_all(NOW + HOUR).await, ["X"]);
        assert_eq!(f.send_all(NOW + 49 * HOUR).await, ["B, better"]);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_sequence_steps").await, 4);
    });
}

fn a_result_under_way_during_an_edit_goes_on_in_the_new_sequence(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, three).await;
        let job = f.jobs(NOW).await.remove(0);
        let fence = f.granted(&job, NOW).await;
        // It says, as it was read before the edit: B is next, in 48 hours. Its try begins behind the edit, by its clock.
        let sent = result(&job, fence, Outcome::Accepted, NOW + 2 * HOUR);
        f.edit(NOW + HOUR, |s| s.steps.insert(1, x(10.0))).await;
        assert_eq!(f.apply(&[sent], NOW + HOUR).await, [engines::store::apply::Applied::Done]);
        f.plan(NOW + HOUR).await;
        assert_eq!(f.place().await, (2, Some(NOW + 11 * HOUR)), "X is next, in ten hours");
        assert_eq!(f.account_days().await, (0, 1), "walking on takes no slot");
        assert_eq!(f.column::<SendId>("SELECT id AS x FROM sends").await, [job.send_id]);
        f.write("UPDATE campaigns SET sequence_changed_at = $1", values![NOW]).await;
        assert_eq!(f.send_all(NOW + 11 * HOUR).await, ["X"]);
        assert_eq!(f.place().await, (3, Some(NOW + 59 * HOUR)));
    });
}

fn a_step_that_was_had_is_passed_at_once_wherever_it_stands_now(engine: Engine) {
    with_store(engine, async |store: Store| {
        let four = |s: &mut Setup| s.steps = [three_steps(), vec![email_step("D", 10.0)]].concat();
        let mut f = Scene::started(store, 1, four).await;
        f.send_all(NOW).await;
        assert_eq!(f.send_all(NOW + 48 * HOUR).await, ["B"]);
        f.edit(NOW + 49 * HOUR, |s| s.steps.swap(1, 2)).await;
        assert_eq!(f.send_all(NOW + 72 * HOUR).await, ["C"]);
        f.plan(NOW + 72 * HOUR).await;
        assert_eq!(f.place().await, (4, Some(NOW + 82 * HOUR)), "D follows C, as if B were not there");
        let slots = f.account_days().await;
        assert_eq!(slots, (0, 3), "B was given no slot");
        assert_eq!(f.send_all(NOW + 82 * HOUR).await, ["D"]);
        assert_eq!((f.sends().await.len(), f.enrollment_status().await.as_str()), (4, "completed"));
    });
}

/// B is put off behind X, X is taken out again, and the lead's sequence ends before B.
fn a_mail_that_was_put_off_holds_up_nobody(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 1, three).await;
        assert_eq!(f.send_all(NOW).await, ["A"]);
        f.plan(NOW + 48 * HOUR).await;
        let later = |s: &mut StepSetup| s.wait_hours = 100.0;
        f.edit(NOW + 48 * HOUR, |s| {
            s.steps.insert(1, x(60.0));
            later(&mut s.steps[2]);
        })
        .await;
        let put_off = "SELECT COUNT(*) AS x FROM sends WHERE open AND email_account_id IS NULL";
        assert_eq!(f.one::<i64>(put_off).await, 1, "B was planned, and comes later");
        f.plan(NOW + 60 * HOUR).await;
        assert_eq!(f.place().await, (2, None), "X is planned");
        f.edit(NOW + 60 * HOUR, |s| drop(s.steps.remove(1))).await;
        f.plan(NOW + 60 * HOUR).await;
        assert_eq!(f.place().await.1, Some(NOW + 100 * HOUR), "it waits for B");
        f.write("UPDATE campaign_leads SET status = 'stopped', due_at = NULL, stop_reason = 'replied'", vec![]).await;
        f.store.system().sweep(NOW + 61 * HOUR).await.unwrap();
        let skipped = f.column::<String>("SELECT status AS x FROM sends WHERE reason = 'replied'").await;
        assert_eq!((skipped, f.one::<i64>(put_off).await), (vec!["skipped".to_owned()], 0), "nothing stays open");
    });
}

on_every_engine! {
    a_step_that_was_had_is_passed_at_once_wherever_it_stands_now
    a_mail_that_was_put_off_holds_up_nobody
    nothing_moves_where_nothing_was_changed
    an_added_step_is_got_by_who_has_not_been_there
    an_added_last_step_is_got_by_who_had_finished_only_where_that_is_asked
    a_reopened_campaign_was_completed_and_not_late
    a_removed_step_is_passed_over_and_kept_where_the_ledger_knows_it
    a_removed_step_that_nobody_was_sent_leaves_no_gap
    a_step_that_comes_back_is_sent_to_nobody_twice
    a_step_switched_off_is_skipped_and_shown_until_it_is_on_again
    steps_in_another_order_are_each_got_once
    a_changed_wait_counts_for_who_waits_for_it
    the_first_mails_wait_counts_from_the_start_or_from_enrollment
    new_settings_are_asked_at_once
    every_edit_has_the_campaign_planned_and_read_again
    a_new_account_takes_new_leads_and_none_that_has_one
    an_unclear_edit_is_refused_and_keys_make_it_clear
    a_result_under_way_during_an_edit_goes_on_in_the_new_sequence
}
