//! Rounds: each lead goes through the sequence once a round, and begins the next one once, however many see to it at once.
//!
//! Not responsible for which occurrence is due (`domain::rounds`). To add a way to begin: a case that begins by it.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::campaign::Repeat;
use domain::event::EventType;
use domain::ids::{LeadId, SendId};
use domain::job::EmailJobPayload;
use domain::plan::Moment;
use domain::reason::Reason;
use domain::rounds::NotAgain;
use domain::schedule::WarmupTable;
use domain::send::SendStatus;
use domain::settle::Outcome;
use domain::step::{ConditionType, StepType};
use domain::time::Timestamp;
use engines::Store;
use engines::store::adopt::{AdoptRequest, Adopted};
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;
use engines::store::rounds::{Again, DueRound, RoundPage};
use engines::store::setup::{Setup, StepSetup};
use engines::values;

use super::scene::{DAY, HOUR, MINUTE, OWNER, Scene, apply_setup_at, email_step, last_result, result};
use crate::engine::{Engine, NOW, new_id, with_store, with_stores};
use crate::on_every_engine;

/// One mail a round, every day.
fn daily(setup: &mut Setup) {
    setup.steps.truncate(1);
    setup.settings.repeat = Some(Repeat::Daily);
}

/// One mail, once.
fn once(setup: &mut Setup) {
    setup.steps.truncate(1);
}

impl Scene {
    /// Sends what is due, as the last mail of its sequence; how many.
    async fn finish(&self, now: Timestamp) -> usize {
        let jobs = self.jobs(now).await;
        for job in &jobs {
            let fence = self.granted(job, now).await;
            self.apply(&[last_result(job, fence, now)], now).await;
        }
        jobs.len()
    }

    /// Begins every round that is due.
    async fn begin(&self, now: Timestamp) -> u64 {
        let mut began = 0;
        for due in self.store.system().due_rounds(now).await.unwrap() {
            began += self.store.system().begin_round(&due, None, 100, now).await.unwrap().began;
        }
        began
    }

    async fn again(&self, now: Timestamp) -> RoundPage {
        let finished = Again::Finished { after: None, limit: 100 };
        self.tenant().re_enroll(self.campaign_id, finished, now).await.unwrap()
    }

    async fn rounds(&self) -> Vec<i64> {
        self.column("SELECT round AS x FROM sends ORDER BY round").await
    }
}

fn each_occurrence_begins_one_round_for_who_has_finished(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, daily).await;
        assert_eq!(f.finish(NOW).await, 2);
        assert_eq!(f.begin(NOW + DAY - MINUTE).await, 0, "not before its time");
        let system = f.store.system();
        let due = system.due_rounds(NOW + DAY).await.unwrap();
        assert_eq!(due, [DueRound { tenant_id: f.tenant_id, campaign_id: f.campaign_id, at: NOW + DAY }]);
        assert_eq!((f.begin(NOW + DAY).await, f.begin(NOW + DAY).await), (2, 0), "once");
        assert_eq!(system.begin_round(&due[0], None, 100, NOW + DAY).await.unwrap(), RoundPage::default());
        let jobs = f.jobs(NOW + DAY).await;
        assert!(jobs.len() == 2 && jobs.iter().all(|job| job.thread_message_ids.is_none()), "threads stay in a round");
        assert_eq!(f.rounds().await, [1, 1, 2, 2]);
        for job in &jobs {
            let fence = f.granted(job, NOW + DAY).await;
            f.apply(&[last_result(job, fence, NOW + DAY)], NOW + DAY).await;
        }
        // Nobody looked for a week: one round begins late, not six.
        assert_eq!(f.begin(NOW + 8 * DAY + HOUR).await, 2);
        assert_eq!((f.finish(NOW + 8 * DAY + HOUR).await, f.begin(NOW + 8 * DAY + 2 * HOUR).await), (2, 0));
        assert_eq!(f.one::<i64>("SELECT MAX(round) AS x FROM campaign_leads").await, 3);
    });
}

fn who_is_under_way_at_an_occurrence_takes_the_next_one(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |s| s.settings.repeat = Some(Repeat::Daily)).await;
        let job = f.jobs(NOW).await.remove(0);
        let fence = f.granted(&job, NOW).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        assert_eq!((f.begin(NOW + DAY).await, f.begin(NOW + 2 * DAY).await), (0, 0), "its second mail is to come");
        assert_eq!(f.finish(NOW + 2 * DAY + HOUR).await, 1);
        assert_eq!(f.begin(NOW + 2 * DAY + 2 * HOUR).await, 0, "it had not finished when that occurrence came");
        assert_eq!(f.begin(NOW + 3 * DAY).await, 1);
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 1);
    });
}

fn a_campaign_is_completed_behind_its_last_round(engine: Engine) {
    with_store(engine, async |store: Store| {
        let twice = |s: &mut Setup| {
            daily(s);
            s.settings.repeat_count = Some(2);
        };
        let f = Scene::started(store, 1, twice).await;
        let system = f.store.system();
        assert_eq!(f.finish(NOW).await, 1);
        assert_eq!(system.complete_campaigns(NOW).await.unwrap(), []);
        assert_eq!(system.complete_campaigns(NOW + DAY).await.unwrap(), [], "its last round is to begin");
        assert_eq!(f.begin(NOW + DAY).await, 1);
        assert_eq!(system.complete_campaigns(NOW + DAY).await.unwrap(), []);
        assert_eq!(f.finish(NOW + DAY).await, 1);
        assert_eq!(system.complete_campaigns(NOW + DAY).await.unwrap(), [f.campaign_id]);
        assert_eq!(f.tenant().campaign_report(f.campaign_id).await.unwrap().sent, 2, "over all rounds");
        assert_eq!(f.again(NOW + 2 * DAY).await.began, 1, "a person opens it again");
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending");
        assert_eq!(f.finish(NOW + 2 * DAY).await, 1);
        assert_eq!(system.complete_campaigns(NOW + 2 * DAY).await.unwrap(), [f.campaign_id]);
    });
}

fn a_lead_begins_once_however_many_schedulers_see_to_it(engine: Engine) {
    const LEADS: usize = 150;
    let many = if engine == Engine::Postgres { 8 } else { 2 };
    with_stores(engine, many, async |stores: Vec<Store>| {
        let f = Scene::started(stores[0].clone(), LEADS, daily).await;
        let finished = "UPDATE campaign_leads SET status = 'completed', due_at = NULL, finished_at = $1";
        f.write(finished, values![NOW + HOUR]).await;
        let due = f.store.system().due_rounds(NOW + DAY).await.unwrap()[0];
        let begin = |store: Store| async move {
            let (mut began, mut after) = (0, None);
            loop {
                match store.system().begin_round(&due, after, 10, NOW + DAY).await {
                    Ok(page) => {
                        began += page.began;
                        after = page.next;
                        if after.is_none() {
                            return began;
                        }
                    }
                    Err(e) => assert!(e.is_transient(), "{e}"),
                }
            }
        };
        let begins: Vec<_> = stores.iter().map(|store| tokio::spawn(begin(store.clone()))).collect();
        let mut began = 0;
        for one in begins {
            began += one.await.unwrap();
        }
        assert_eq!(began, LEADS as u64);
        assert_eq!(f.column::<i64>("SELECT round AS x FROM campaign_leads").await, vec![2; LEADS]);
        assert_eq!(f.store.system().due_rounds(NOW + DAY).await.unwrap(), []);
    });
}

fn nobody_begins_again_who_gets_no_mail_or_was_stopped(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 7, daily).await;
        assert_eq!(f.finish(NOW).await, 7);
        for (n, status) in ["bounced", "unsubscribed", "complained", "replied"].into_iter().enumerate() {
            let sql = "UPDATE leads SET status = $1 WHERE email = $2";
            f.write(sql, values![status, format!("lead{n}@example.test")]).await;
        }
        let suppressed =
            "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, created_at, updated_at)
            VALUES ($1, $2, 'lead4@example.test', 'test', 'test', $3, $3, $3)";
        f.write(suppressed, values![new_id(), f.tenant_id, NOW]).await;
        let stopped = "UPDATE campaign_leads SET status = 'stopped', stop_reason = 'expired'
            WHERE lead_id = (SELECT id FROM leads WHERE email = 'lead5@example.test')";
        f.write(stopped, vec![]).await;
        let due = f.store.system().due_rounds(NOW + DAY).await.unwrap()[0];
        let page = f.store.system().begin_round(&due, None, 100, NOW + DAY).await.unwrap();
        let reasons = [
            Reason::LeadBounced,
            Reason::LeadUnsubscribed,
            Reason::LeadComplained,
            Reason::LeadReplied,
            Reason::Suppressed,
        ];
        let mut left: BTreeMap<NotAgain, u64> = reasons.map(|reason| (NotAgain::Excluded(reason), 1)).into();
        left.insert(NotAgain::Stopped(Some(Reason::Expired)), 1);
        assert_eq!((page.began, &page.left), (1, &left));
        let page = f.again(NOW + 2 * DAY).await;
        assert_eq!((page.began, page.left), (0, left), "nor by a person's word; the last one is under way");
        assert_eq!(f.finish(NOW + 2 * DAY).await, 1);
    });
}

fn a_held_mail_is_decided_about_before_its_lead_begins_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, daily).await;
        assert_eq!(f.finish(NOW).await, 1);
        f.write("UPDATE sends SET status = 'held', reason = 'restored'", vec![]).await;
        assert_eq!(f.again(NOW + HOUR).await.left, [(NotAgain::Waits, 1)].into());
        f.write("UPDATE sends SET status = 'sent', reason = NULL", vec![]).await;
        assert_eq!(f.again(NOW + HOUR).await.began, 1);
        assert_eq!(f.again(NOW + HOUR).await.began, 0, "it is under way");
    });
}

fn a_lead_that_is_added_again_begins_after_so_many_days(engine: Engine) {
    with_store(engine, async |store: Store| {
        let after = |s: &mut Setup| {
            once(s);
            s.settings.re_enroll_after_days = Some(30);
        };
        let f = Scene::started(store, 1, after).await;
        let add = async |now| {
            let lead = |n: u32| engines::store::leads::NewLead {
                email: format!("lead{n}@example.test"),
                ..engines::store::leads::NewLead::default()
            };
            f.import(vec![lead(0)], now).await
        };
        assert_eq!(add(NOW).await.began_again, 0, "it has not finished");
        assert_eq!(f.finish(NOW).await, 1);
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
        assert_eq!(add(NOW + 30 * DAY - MINUTE).await.began_again, 0);
        let added = add(NOW + 30 * DAY).await;
        assert_eq!((added.began_again, added.enrolled), (1, 0));
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending", "it opens again");
        assert_eq!(add(NOW + 60 * DAY).await.began_again, 0, "it is under way");
        assert_eq!(f.finish(NOW + 60 * DAY).await, 1);
        assert_eq!(f.rounds().await, [1, 2]);
    });
}

fn without_the_setting_adding_again_changes_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, once).await;
        assert_eq!(f.finish(NOW).await, 1);
        let before = f.one::<Timestamp>("SELECT updated_at AS x FROM campaign_leads").await;
        assert_eq!(f.enroll(0..1).await, 0);
        assert_eq!(f.one::<Timestamp>("SELECT updated_at AS x FROM campaign_leads").await, before);
        assert_eq!(f.one::<i64>("SELECT round AS x FROM campaign_leads").await, 1);
    });
}

fn what_comes_back_of_an_earlier_round_moves_nobody(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let job = f.jobs(NOW).await.remove(0);
        let fence = f.granted(&job, NOW).await;
        f.apply(&[last_result(&job, fence, NOW)], NOW).await;
        f.write("UPDATE sends SET status = 'failed', reason = 'expired'", vec![]).await;
        assert_eq!(f.again(NOW + HOUR).await.began, 1);
        assert_eq!(
            f.tenant().send_failed_again(f.campaign_id, None, None, 10, NOW + HOUR).await.unwrap().done.queued,
            1
        );
        let due = || f.column::<Option<Timestamp>>("SELECT due_at AS x FROM campaign_leads");
        assert_eq!(due().await, [Some(NOW + HOUR)], "it waits for its own round's mail");
        let old = f.refetch(&job, NOW + HOUR).await.unwrap();
        let fence = f.granted(&old, NOW + HOUR).await;
        f.settled(&old, fence, Outcome::Accepted, NOW + HOUR).await;
        assert_eq!(due().await, [Some(NOW + HOUR)]);
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 1);
        assert_eq!(f.column::<Option<String>>("SELECT thread_message_ids AS x FROM campaign_leads").await, [None]);
        assert_eq!(f.jobs(NOW + HOUR).await.len(), 1, "the same step, in the next round");
    });
}

fn conditions_ask_of_their_own_round(engine: Engine) {
    with_store(engine, async |store: Store| {
        let asks = |s: &mut Setup| {
            let condition = ConditionType::Opened.into();
            let step = StepSetup { step_type: StepType::Condition, condition, template: None, ..email_step("", 1.0) };
            s.steps = vec![email_step("Hello", 0.0), step, email_step("For you", 0.0)];
        };
        let f = Scene::started(store, 1, asks).await;
        let second = async |now: Timestamp, opens: bool| {
            let job = f.jobs(now).await.remove(0);
            let fence = f.granted(&job, now).await;
            let mut sent = result(&job, fence, Outcome::Accepted, now);
            let next = domain::step::Due { step_order: 2, at: now + HOUR };
            sent.transition.enrollment = domain::settle::EnrollmentEffect::MoveOn(Some(next));
            f.apply(&[sent], now).await;
            if opens {
                let opened = engines::store::events::StoredEvent { occurred_at: now, ..f.event(&job, EventType::Open) };
                assert_eq!(f.store.system().store_events(&[opened], now).await.unwrap().stored, 1);
            }
            f.finish(now + HOUR).await
        };
        assert_eq!(second(NOW, true).await, 1, "it was opened");
        assert_eq!(f.again(NOW + DAY).await.began, 1);
        assert_eq!(second(NOW + DAY, false).await, 0, "an open of the round before does not count");
        assert_eq!(f.again(NOW + 2 * DAY).await.began, 1);
        assert_eq!(second(NOW + 2 * DAY, true).await, 1);
    });
}

fn an_edited_sequence_is_gone_through_whole_in_the_next_round(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, once).await;
        assert_eq!(f.finish(NOW).await, 1);
        let setup =
            Setup { steps: vec![email_step("New", 0.0), email_step("Hello", 0.0)], update: true, ..f.setup.clone() };
        apply_setup_at(&f.store, &setup, NOW + HOUR).await.unwrap();
        assert_eq!(f.again(NOW + DAY).await.began, 1);
        let subjects = async |now| {
            let job = f.jobs(now).await.remove(0);
            let template = f.tenant().get_template(job.template.0).await.unwrap();
            let fence = f.granted(&job, now).await;
            let mut sent = result(&job, fence, Outcome::Accepted, now);
            let next = (job.step_order == 1).then_some(domain::step::Due { step_order: 2, at: now });
            sent.transition.enrollment = domain::settle::EnrollmentEffect::MoveOn(next);
            f.apply(&[sent], now).await;
            template.subject
        };
        assert_eq!((subjects(NOW + DAY).await, subjects(NOW + DAY + HOUR).await), ("New".into(), "Hello".into()));
    });
}

fn an_edit_counts_the_wait_from_where_the_round_began(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, once).await;
        assert_eq!(f.finish(NOW).await, 1);
        assert_eq!(f.again(NOW + 10 * DAY).await.began, 1);
        let setup = Setup { steps: vec![email_step("Hello", 5.0)], update: true, ..f.setup.clone() };
        apply_setup_at(&f.store, &setup, NOW + 10 * DAY).await.unwrap();
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, NOW + 10 * DAY + 5 * HOUR);
    });
}

fn another_rhythm_begins_no_round_of_times_that_are_past(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, once).await;
        assert_eq!(f.finish(NOW).await, 1);
        let mut setup = f.setup.clone();
        setup.settings.repeat = Some(Repeat::Weekly);
        apply_setup_at(&f.store, &setup, NOW + 10 * DAY).await.unwrap();
        assert_eq!(
            f.begin(NOW + 10 * DAY).await,
            0,
            "the occurrence after a week had passed before anybody asked for it"
        );
        assert_eq!(f.begin(NOW + 14 * DAY).await, 1);
    });
}

fn a_job_of_another_program_means_the_round_in_which_its_lead_is(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, once).await;
        let job = f.jobs(NOW).await.remove(0);
        let fence = f.granted(&job, NOW).await;
        f.apply(&[last_result(&job, fence, NOW)], NOW).await;
        let adopt = async |now: Timestamp| -> Adopted {
            let warmup = WarmupTable::default();
            let moment = Moment { now, horizon: Duration::from_secs(60) };
            let request = AdoptRequest { moment, epoch: 1, warmup: &warmup };
            f.store.system().adopt(&[payload(&job)], &request, &new_id).await.unwrap()[0]
        };
        assert_eq!(adopt(NOW).await, Adopted::Settled(job.send_id, SendStatus::Sent));
        assert_eq!(f.again(NOW + DAY).await.began, 1);
        let Adopted::Open(id) = adopt(NOW + DAY).await else { panic!("a mail of the next round") };
        assert!(id != job.send_id && f.rounds().await == [1, 2]);
        assert_eq!(adopt(NOW + DAY).await, Adopted::Open(id));
        assert_eq!(f.jobs(NOW + DAY).await.len(), 0, "planned once");
        assert_eq!(shown(&f, job.lead.id).await, Some(id), "the last round's is meant");
    });
}

async fn shown(f: &Scene, lead: LeadId) -> Option<SendId> {
    f.tenant().find_send_of_lead(f.campaign_id, lead, None).await.unwrap()
}

fn payload(job: &SendJob) -> EmailJobPayload {
    EmailJobPayload {
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        lead_id: job.lead.id,
        step_id: job.step_id,
        email_account_id: job.account.0,
        send_id: None,
        priority: None,
        not_before: None,
        attempt: None,
        max_attempts: None,
        enqueued_at: None,
    }
}

/// An event does not say of which round it is, and the lead has the first one's copy.
fn an_open_proves_nothing_of_a_later_round(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, daily).await;
        f.finish(NOW).await;
        f.begin(NOW + DAY).await;
        let job = f.jobs(NOW + DAY).await.remove(0);
        f.granted(&job, NOW + DAY).await;
        let open = StoredEvent { occurred_at: NOW + DAY + HOUR, ..f.event(&job, EventType::Open) };
        assert_eq!(f.store.system().store_events(&[open], NOW + DAY + HOUR).await.unwrap().stored, 1);
        let dots = f.store.system().dots_of(OWNER, 1).await.unwrap();
        assert_eq!(dots.iter().map(|dot| (dot.send_id, dot.has_proof)).collect::<Vec<_>>(), [(job.send_id, false)]);
    });
}

on_every_engine! {
    an_open_proves_nothing_of_a_later_round
    each_occurrence_begins_one_round_for_who_has_finished
    who_is_under_way_at_an_occurrence_takes_the_next_one
    a_campaign_is_completed_behind_its_last_round
    a_lead_begins_once_however_many_schedulers_see_to_it
    nobody_begins_again_who_gets_no_mail_or_was_stopped
    a_held_mail_is_decided_about_before_its_lead_begins_again
    a_lead_that_is_added_again_begins_after_so_many_days
    without_the_setting_adding_again_changes_nothing
    what_comes_back_of_an_earlier_round_moves_nobody
    conditions_ask_of_their_own_round
    an_edited_sequence_is_gone_through_whole_in_the_next_round
    an_edit_counts_the_wait_from_where_the_round_began
    another_rhythm_begins_no_round_of_times_that_are_past
    a_job_of_another_program_means_the_round_in_which_its_lead_is
}
