//! Events: stored once, each lead counted once, strangers told, unsubscribing at once and idempotent.

use domain::event::{EventType, Verdict};
use domain::ids::{EventId, LeadId, StepId};
use engines::dialect::Dialect;
use engines::store::dot::DotAnswer;
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;
use engines::{Error, Store};

use super::scene::Scene;
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

/// Events and leads of all counts of a type.
async fn counts(f: &Scene, kind: &str) -> (u64, u64) {
    let counts = f.tenant().list_event_counts(f.campaign_id).await.unwrap();
    let of_kind = counts.iter().filter(|c| c.event_type == kind);
    of_kind.fold((0, 0), |(events, leads), c| (events + c.events, leads + c.leads))
}

fn an_event_is_stored_once_however_often_it_comes(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let open = f.event(&job, EventType::Open);
        let system = f.store.system();
        let first = system.store_events(&[open.clone(), open.clone()], NOW).await.unwrap();
        assert_eq!((first.stored, first.foreign), (1, vec![]));
        let again = system.store_events(&[open], NOW).await.unwrap();
        assert_eq!((again.stored, again.foreign), (0, vec![]));
        assert_eq!(counts(&f, "open").await, (1, 1));
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM tracking_events").await, 1);
    });
}

fn a_lead_is_counted_once_per_link_and_verdict(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        let click = |job, url: &str| StoredEvent { url: Some(url.into()), ..f.event(job, EventType::Click) };
        let system = f.store.system();
        let batch =
            [click(&jobs[0], "https://a.test"), click(&jobs[0], "https://a.test"), click(&jobs[1], "https://a.test")];
        system.store_events(&batch, NOW).await.unwrap();
        system.store_events(&[click(&jobs[0], "https://a.test")], NOW).await.unwrap();
        assert_eq!(counts(&f, "click").await, (4, 2));
        system.store_events(&[click(&jobs[0], "https://b.test")], NOW).await.unwrap();
        let robot = StoredEvent { verdict: Verdict::Scanner, ..click(&jobs[0], "https://a.test") };
        system.store_events(&[robot], NOW).await.unwrap();
        assert_eq!(counts(&f, "click").await, (6, 4));
        let report = f.tenant().campaign_report(f.campaign_id).await.unwrap();
        assert_eq!(report.clicks, 5, "robots are not in the report");
    });
}

fn ids_that_belong_to_nothing_are_reported_and_the_rest_is_stored(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let good = f.event(&job, EventType::Open);
        let no_lead = StoredEvent { lead_id: LeadId::from_uuid(new_id()), ..f.event(&job, EventType::Open) };
        let no_step = StoredEvent { step_id: StepId::from_uuid(new_id()), ..f.event(&job, EventType::Open) };
        let report = f.store.system().store_events(&[no_lead.clone(), good, no_step.clone()], NOW).await.unwrap();
        assert_eq!((report.stored, report.foreign), (1, vec![no_lead.id, no_step.id]));
        assert_eq!(counts(&f, "open").await, (1, 1));
    });
}

/// An event that the database refuses for a reason of its own. A count that is full is one on both databases; SQLite
/// takes any text and number that an event can hold, PostgreSQL no NUL.
async fn refused_events(f: &Scene, job: &SendJob) -> Vec<StoredEvent> {
    let full = StoredEvent { url: Some("https://full.test".into()), ..f.event(job, EventType::Click) };
    f.store.system().store_events(std::slice::from_ref(&full), NOW).await.unwrap();
    f.write("UPDATE event_counts SET events = 9223372036854775807 WHERE url = 'https://full.test'", vec![]).await;
    let mut refused = vec![StoredEvent { id: EventId::from_uuid(new_id()), ..full }];
    if f.store.db().dialect() == Dialect::Postgres {
        refused.push(StoredEvent { user_agent: Some("a\0b".into()), ..f.event(job, EventType::Open) });
    }
    refused
}

fn a_refused_event_is_named_and_the_rest_is_stored_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let refused = refused_events(&f, &job).await;
        let foreign = StoredEvent { lead_id: LeadId::from_uuid(new_id()), ..f.event(&job, EventType::Open) };
        let good = [f.event(&job, EventType::Open), f.event(&job, EventType::Open)];
        let batch = [&good[..1], &refused, &[foreign.clone(), good[0].clone()], &good[1..]].concat();
        for stored in [2, 0] {
            let report = f.store.system().store_events(&batch, NOW).await.unwrap();
            assert_eq!((report.stored, report.foreign), (stored, vec![foreign.id]));
            let (ids, reasons): (Vec<_>, Vec<_>) = report.refused.into_iter().unzip();
            assert_eq!(ids, refused.iter().map(|event| event.id).collect::<Vec<_>>());
            assert!(reasons.iter().all(|why| why.contains("was refused") && !why.contains("full.test")), "{reasons:?}");
            assert_eq!(counts(&f, "open").await, (2, 1), "nothing of them is counted twice");
            assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM tracking_events").await, 3);
        }
    });
}

fn a_human_open_marks_the_message(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, domain::settle::Outcome::Accepted, NOW).await;
        let prefetch = StoredEvent { verdict: Verdict::Prefetch, ..f.event(&job, EventType::Open) };
        f.store.system().store_events(&[prefetch], NOW).await.unwrap();
        assert_eq!(f.one::<String>("SELECT status AS x FROM inbox_message_refs").await, "sent");
        f.store.system().store_events(&[f.event(&job, EventType::Open)], NOW).await.unwrap();
        assert_eq!(f.one::<String>("SELECT status AS x FROM inbox_message_refs").await, "opened");
    });
}

fn an_unsubscribe_ends_all_that_the_lead_would_get(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        f.unsubscribe(&job, NOW).await;
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "unsubscribed");
        assert_eq!(f.one::<String>("SELECT source AS x FROM suppression_list").await, "unsubscribe_link");
        assert_eq!(f.sends().await, ["cancelled"]);
        assert_eq!(f.one::<String>("SELECT stop_reason AS x FROM campaign_leads").await, "lead_unsubscribed");
    });
}

fn unsubscribing_again_changes_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let event = f.event(&job, EventType::Unsubscribe);
        let tenant = f.tenant();
        let (a, b) = tokio::join!(tenant.unsubscribe(&event, new_id(), NOW), tenant.unsubscribe(&event, new_id(), NOW));
        a.unwrap();
        b.unwrap();
        assert_eq!(counts(&f, "unsubscribe").await, (1, 1));
        f.unsubscribe(&job, NOW).await;
        assert_eq!(counts(&f, "unsubscribe").await, (1, 1), "another click of the same lead");
        f.write("UPDATE leads SET status = 'active'", vec![]).await;
        f.unsubscribe(&job, NOW).await;
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "unsubscribed", "let in again, out again");
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM suppression_list").await, 1);
    });
}

fn an_unsubscribe_and_a_dot_at_once_leave_no_doubt(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let (answer, ()) = tokio::join!(f.dot(&job, NOW), f.unsubscribe(&job, NOW));
        let expected = if answer == DotAnswer::Refused { "cancelled" } else { "dot" };
        assert_eq!(f.sends().await, [expected]);
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "unsubscribed");
    });
}

fn a_foreign_unsubscribe_is_not_found(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let stranger = f.stranger().await;
        let event = f.event(&job, EventType::Unsubscribe);
        let refused = stranger.unsubscribe(&event, new_id(), NOW).await.unwrap_err();
        assert!(matches!(refused, Error::NotFound { .. }), "{refused}");
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM suppression_list").await, 0);
        f.granted(&job, NOW).await;
    });
}

on_every_engine! {
    an_event_is_stored_once_however_often_it_comes
    a_lead_is_counted_once_per_link_and_verdict
    ids_that_belong_to_nothing_are_reported_and_the_rest_is_stored
    a_refused_event_is_named_and_the_rest_is_stored_once
    a_human_open_marks_the_message
    an_unsubscribe_ends_all_that_the_lead_would_get
    unsubscribing_again_changes_nothing
    an_unsubscribe_and_a_dot_at_once_leave_no_doubt
    a_foreign_unsubscribe_is_not_found
}
