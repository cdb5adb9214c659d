//! Events: stored once, leads counted once, foreign ones told, unsubscribing at once.

use domain::event::{EventType, Verdict};
use domain::ids::{EventId, TenantId};
use engines::Store;
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;

use super::fixture::Fixture;
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn event(job: &SendJob, event_type: EventType) -> StoredEvent {
    StoredEvent {
        id: EventId::from_uuid(new_id()),
        event_type,
        tenant_id: job.tenant_id,
        lead_id: job.lead.id,
        campaign_id: job.campaign.0,
        step_id: job.step_id,
        url: (event_type == EventType::Click).then(|| "https://x.test/".to_owned()),
        occurred_at: NOW,
        ip: None,
        user_agent: None,
        method: None,
        verdict: Verdict::Human,
    }
}

fn an_event_counts_once_and_a_lead_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let job = &fixture.jobs(NOW).await[0];
        let system = fixture.store.system();
        let (first, second) = (event(job, EventType::Open), event(job, EventType::Open));
        let batch = [first.clone(), second, event(job, EventType::Click)];
        assert_eq!(system.store_events(&batch, NOW).await.unwrap().stored, 3);
        assert_eq!(system.store_events(&[first], NOW).await.unwrap().stored, 0, "delivered twice");
        let report = fixture.report().await;
        assert_eq!((report.opens, report.clicks), (2, 1));
        let counts = fixture.store.tenant(fixture.tenant_id).list_event_counts(fixture.campaign_id).await.unwrap();
        let opens = counts.iter().find(|c| c.event_type == "open").unwrap();
        assert_eq!((opens.events, opens.leads), (2, 1));
    });
}

fn a_foreign_event_is_told_and_not_stored(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let job = &fixture.jobs(NOW).await[0];
        let foreign = StoredEvent { tenant_id: TenantId::from_uuid(new_id()), ..event(job, EventType::Open) };
        let report = fixture.store.system().store_events(std::slice::from_ref(&foreign), NOW).await.unwrap();
        assert_eq!((report.stored, report.foreign), (0, vec![foreign.id]));
        let elsewhere = fixture.store.tenant(foreign.tenant_id);
        assert!(elsewhere.unsubscribe(&event(job, EventType::Unsubscribe), new_id(), NOW).await.is_err());
        assert_eq!(fixture.intend(std::slice::from_ref(job), "w", NOW).await.len(), 1);
        assert_eq!(fixture.report().await.unsubscribes, 0);
    });
}

fn unsubscribing_cancels_what_is_queued_and_is_idempotent(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let jobs = fixture.jobs(NOW).await;
        let unsubscribe = event(&jobs[0], EventType::Unsubscribe);
        let tenant = fixture.store.tenant(fixture.tenant_id);
        for _ in 0..2 {
            tenant.unsubscribe(&unsubscribe, new_id(), NOW).await.unwrap();
        }
        let report = fixture.report().await;
        assert_eq!((report.unsubscribes, report.cancelled, report.pending), (1, 1, 0));
        assert_eq!(fixture.intend(&jobs, "w", NOW).await, [engines::store::dot::DotAnswer::Refused]);
        assert_eq!(fixture.store.system().complete_campaigns(NOW).await.unwrap().len(), 1);
        assert_eq!(fixture.import(1).await, 0, "importing the list again revives nobody");
    });
}

on_every_engine! {
    an_event_counts_once_and_a_lead_once
    a_foreign_event_is_told_and_not_stored
    unsubscribing_cancels_what_is_queued_and_is_idempotent
}
