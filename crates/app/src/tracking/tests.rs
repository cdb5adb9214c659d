//! What becomes of an event when the queue does not take it; routes are tested from outside (`tests/e2e/tracker.rs`).

use domain::event::{Event, EventType};
use domain::ids::{CampaignId, EventId, LeadId, StepId, TenantId};
use engines::Db;
use engines::queue::table::TableQueue;
use engines::queue::{Lane, List};

use super::{events, spool};
use crate::config::{self, Environment, Options};
use crate::context::Context;

async fn context(data: &std::path::Path) -> Context {
    let options = Options { data: data.to_owned(), file: None, log_addresses: false, log_format: None };
    let config = config::load(&options, &Environment::default()).unwrap();
    std::sync::Arc::into_inner(Context::open(config, 1.0).await.unwrap()).unwrap()
}

fn event(ctx: &Context) -> Event {
    let id = ctx.clock.uuid_v7();
    Event {
        event_id: Some(EventId::from_uuid(id)),
        event_type: EventType::Open,
        tenant_id: TenantId::from_uuid(id),
        lead_id: LeadId::from_uuid(id),
        campaign_id: CampaignId::from_uuid(id),
        step_id: StepId::from_uuid(id),
        url: None,
        occurred_at: ctx.clock.now(),
        ip: None,
        user_agent: None,
        method: None,
    }
}

async fn ready(ctx: &Context) -> u64 {
    ctx.queue.depth(List::Analytics, Lane::Base, ctx.clock.now()).await.unwrap().ready
}

#[tokio::test]
async fn an_event_that_the_queue_refuses_is_spooled_and_drained_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut broken = context(dir.path()).await;
    // A database without the queue's table refuses every push.
    broken.queue = std::sync::Arc::new(TableQueue::new(Db::open_sqlite(&dir.path().join("empty.db"), 1).unwrap()));
    let broken = std::sync::Arc::new(broken);
    let (recorder, _task) = events::start(&broken);
    recorder.record(event(&broken)).await;
    let spooled = std::fs::read_dir(dir.path().join("spool")).unwrap().count();
    assert_eq!(spooled, 1, "the fault fired and the event is durable");
    let mut committed = spool::Committed::default();
    assert!(spool::drain_once(&broken, &mut committed).await.is_err(), "it waits while the queue refuses");

    let whole = context(dir.path()).await;
    assert_eq!((spool::drain_once(&whole, &mut committed).await.unwrap(), ready(&whole).await), (1, 1));
    assert_eq!((spool::drain_once(&whole, &mut committed).await.unwrap(), ready(&whole).await), (0, 1));
}

#[tokio::test]
async fn what_is_wrong_with_one_file_is_set_aside_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(dir.path()).await;
    spool::append(&ctx, &[event(&ctx)]).await.unwrap();
    let folder = dir.path().join("spool");
    std::fs::create_dir(folder.join("0.events")).unwrap();
    let good = serde_json::to_string(&event(&ctx)).unwrap();
    let mixed = [b"\xff\xfe\n".as_slice(), good.as_bytes(), b"\nno event\n"].concat();
    std::fs::write(folder.join("1.events"), mixed).unwrap();
    assert_eq!(spool::drain_once(&ctx, &mut spool::Committed::default()).await.unwrap(), 2);
    assert_eq!((ready(&ctx).await, spool::count(&ctx)), (2, 0));
    assert!(folder.join("0.unreadable").is_dir());
    assert_eq!(std::fs::read_to_string(folder.join("1.unreadable")).unwrap().lines().count(), 2);
    assert_eq!(ctx.metrics.tracking.set_aside.get(), 3);
}
