//! Conditions: which reactions planning reads for them, and what it makes of the answers.

use std::time::Duration;

use domain::event::{EventType, Verdict};
use domain::settle::Outcome;
use domain::step::{Condition, ConditionType, StepType};
use engines::Store;
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;
use engines::store::plan::PlanPage;
use engines::store::setup::{Setup, StepSetup};
use engines::values;

use super::scene::{DAY, HOUR, Scene, email_step};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

/// A mail, then a condition 48 hours later, then a mail for those of whom it holds.
fn with_condition(condition: Condition) -> impl FnOnce(&mut Setup) {
    let step = StepSetup { step_type: StepType::Condition, condition, template: None, ..email_step("", 48.0) };
    move |setup| setup.steps = vec![email_step("Hello", 0.0), step, email_step("For you", 0.0)]
}

/// The campaign with so many leads, each with the first mail sent.
async fn sent(store: Store, leads: usize, condition: Condition) -> (Scene, Vec<SendJob>) {
    let f = Scene::started(store, leads, with_condition(condition)).await;
    let mut jobs = f.jobs(NOW).await;
    jobs.sort_by(|a, b| a.lead.email.cmp(&b.lead.email));
    for job in &jobs {
        let fence = f.granted(job, NOW).await;
        f.settled(job, fence, Outcome::Accepted, NOW).await;
    }
    (f, jobs)
}

/// A click of a person, so long after the mail.
fn click(f: &Scene, job: &SendJob, url: &str, after: Duration) -> StoredEvent {
    StoredEvent { url: Some(url.into()), occurred_at: NOW + after, ..f.event(job, EventType::Click) }
}

async fn store_events(f: &Scene, events: &[StoredEvent]) {
    assert_eq!(f.store.system().store_events(events, NOW).await.unwrap().stored, events.len() as u64);
}

/// Who gets the conditional mail, by the numbers of leads; the others must be skipped for the condition.
async fn passed(f: &Scene, jobs: &[SendJob], page: &PlanPage) -> Vec<usize> {
    let mut who: Vec<usize> =
        page.planned.iter().map(|hint| jobs.iter().position(|job| job.lead.id == hint.lead_id).unwrap()).collect();
    who.sort_unstable();
    let skipped: Vec<String> = f.column("SELECT reason AS x FROM sends WHERE status = 'skipped'").await;
    assert!(skipped.iter().all(|reason| reason == "condition_false"), "{skipped:?}");
    assert_eq!(who.len() + skipped.len(), jobs.len());
    who
}

fn a_click_on_the_link_counts_in_whatever_case_and_no_other(engine: Engine) {
    with_store(engine, async |store: Store| {
        let asks = Condition { url_part: Some("/Preise".into()), ..ConditionType::Clicked.into() };
        let (f, jobs) = sent(store, 4, asks).await;
        let scanner =
            StoredEvent { verdict: Verdict::Scanner, ..click(&f, &jobs[2], "https://shop.test/preise", HOUR) };
        let events = [
            click(&f, &jobs[0], "https://SHOP.test/PREISE?x=1", HOUR),
            click(&f, &jobs[1], "https://shop.test/news", HOUR),
            scanner,
        ];
        store_events(&f, &events).await;
        assert!(f.plan(NOW + 48 * HOUR - DAY).await.planned.is_empty(), "not asked before its time");
        let page = f.plan(NOW + 48 * HOUR).await;
        assert_eq!(passed(&f, &jobs, &page).await, [0]);
    });
}

fn the_negation_holds_for_everybody_else(engine: Engine) {
    with_store(engine, async |store: Store| {
        let asks = Condition { url_part: Some("/preise".into()), ..ConditionType::NotClicked.into() };
        let (f, jobs) = sent(store, 3, asks).await;
        let events = [
            click(&f, &jobs[0], "https://shop.test/preise", HOUR),
            click(&f, &jobs[1], "https://shop.test/news", HOUR),
        ];
        store_events(&f, &events).await;
        let page = f.plan(NOW + 48 * HOUR).await;
        assert_eq!(passed(&f, &jobs, &page).await, [1, 2]);
    });
}

/// An edit that adds nothing finds nobody who has finished before.
fn whose_last_mail_is_left_out_has_come_past_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _) = sent(store, 1, ConditionType::Opened.into()).await;
        f.plan(NOW + 48 * HOUR).await;
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaign_leads").await, "completed");
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 3);
    });
}

fn only_what_happened_within_its_hours_counts(engine: Engine) {
    with_store(engine, async |store: Store| {
        let asks = Condition { within: Some(24 * HOUR), ..ConditionType::Opened.into() };
        let (f, jobs) = sent(store, 3, asks).await;
        let open = |job: &SendJob, after| StoredEvent { occurred_at: NOW + after, ..f.event(job, EventType::Open) };
        // The first opened twice: the last time counts.
        let events =
            [open(&jobs[0], 30 * HOUR), open(&jobs[0], HOUR), open(&jobs[1], 23 * HOUR), open(&jobs[2], 24 * HOUR)];
        store_events(&f, &events).await;
        let page = f.plan(NOW + 48 * HOUR).await;
        assert_eq!(passed(&f, &jobs, &page).await, [0, 2]);
    });
}

fn of_a_reply_the_leads_status_tells(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |setup| {
            with_condition(ConditionType::Replied.into())(setup);
            setup.settings.stop_on_reply = false;
        })
        .await;
        let jobs = f.jobs(NOW).await;
        for job in &jobs {
            let fence = f.granted(job, NOW).await;
            f.settled(job, fence, Outcome::Accepted, NOW).await;
        }
        f.write("UPDATE leads SET status = 'replied' WHERE id = $1", values![jobs[1].lead.id]).await;
        let page = f.plan(NOW + 48 * HOUR).await;
        assert_eq!(passed(&f, &jobs, &page).await, [1]);
    });
}

on_every_engine! {
    whose_last_mail_is_left_out_has_come_past_it
    a_click_on_the_link_counts_in_whatever_case_and_no_other
    the_negation_holds_for_everybody_else
    only_what_happened_within_its_hours_counts
    of_a_reply_the_leads_status_tells
}
