//! The analytics consumer: takes events from their queue, judges who caused them, and has them stored and counted once.
//!
//! At least once from the queue, once in the ledger: an event's id decides. Not responsible for the judgement itself
//! (`domain::verdict`). To add a field of events: `domain::event` and `stored`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::event::{Event, EventType};
use domain::ids::EventId;
use domain::settle::loop_delay;
use domain::verdict::judge;
use engines::queue::{Leased, List, Token, Verdict};
use engines::store::events::StoredEvent;

use crate::context::Context;
use crate::dead_letter::bury;
use crate::fault_point;
use crate::lifecycle::Shutdown;
use crate::liveness::Loop;
use crate::telemetry::JOBS;

/// Most events in one transaction.
const BATCH: usize = 500;
/// Characters that are kept of a User-Agent.
const AGENT: usize = 512;
/// Real time that a lease lasts.
const LEASE: Duration = Duration::from_secs(60);
const LIST: List = List::Analytics;
const FOREIGN: &str = "fields `tenantId`, `campaignId`, `stepId`, `leadId` do not belong together";
const REFUSED: &str = "the database does not take this event";

/// Consumes until stopping is asked for.
pub(crate) async fn run(ctx: Arc<Context>, shutdown: Shutdown) {
    let mut idle = Duration::from_millis(20);
    let mut errors = 0;
    let pulse = ctx.liveness.pulse(Loop::Analytics);
    while !shutdown.is_stopping() {
        pulse.works();
        let pause = match run_once(&ctx).await {
            Ok(0) => {
                errors = 0;
                idle = (idle * 2).min(Duration::from_millis(500));
                idle
            }
            Ok(_) => {
                (idle, errors) = (Duration::from_millis(20), 0);
                continue;
            }
            Err(e) => {
                // Also where a person has to help: it must not show late that they did.
                let pause = loop_delay(errors, true, ctx.clock.chance());
                errors += 1;
                tracing::warn!(error = %e, pause_ms = pause.as_millis(), "events cannot be stored now");
                pause
            }
        };
        pulse.waits();
        shutdown.unless_stopping(tokio::time::sleep(pause)).await;
    }
}

/// One batch: how many events were taken from the queue.
///
/// # Errors
/// The database; the events come again when their lease ends.
pub(crate) async fn run_once(ctx: &Context) -> engines::error::Result<usize> {
    let leased = ctx.queue.lease(LIST, &ctx.owner, BATCH, ctx.clock.span(LEASE), ctx.clock.now()).await?;
    let counts = &ctx.metrics.tracking.events;
    let mut events: Vec<(StoredEvent, &Leased)> = Vec::new();
    let mut dead: Vec<(&Leased, String)> = Vec::new();
    for job in &leased {
        match stored(job) {
            Ok(event) => events.push((event, job)),
            Err(why) => dead.push((job, why)),
        }
    }
    counts.add(["malformed"], dead.len() as u64);
    let (asked_out, events): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|(event, _)| event.event_type == EventType::Unsubscribe);
    for (event, job) in asked_out {
        if let Some(why) = unsubscribe(ctx, &event).await? {
            dead.push((job, why));
        }
    }
    if !events.is_empty() {
        dead.extend(store(ctx, &events).await?);
    }
    bury(ctx, LIST, &dead).await?;
    let acks: Vec<(Token, Verdict)> = leased.iter().map(|job| (job.token, Verdict::Ack)).collect();
    if !acks.is_empty() {
        fault_point::reach("stored").await;
        ctx.queue.settle(LIST, &ctx.owner, &acks, ctx.clock.now()).await?;
    }
    Ok(leased.len())
}

/// Stores and counts; what the ledger never takes, with the reason.
async fn store<'a>(
    ctx: &Context,
    events: &[(StoredEvent, &'a Leased)],
) -> engines::error::Result<Vec<(&'a Leased, String)>> {
    let batch: Vec<StoredEvent> = events.iter().map(|(event, _)| event.clone()).collect();
    let report = ctx.store.system().store_events(&batch, ctx.clock.now()).await?;
    let (foreign, refused) = (report.foreign.len() as u64, report.refused.len() as u64);
    let counts = &ctx.metrics.tracking.events;
    counts.add(["stored"], report.stored);
    counts.add(["foreign"], foreign);
    counts.add(["refused"], refused);
    counts.add(["duplicate"], (batch.len() as u64).saturating_sub(report.stored + foreign + refused));
    let refused: HashMap<EventId, String> = report.refused.into_iter().collect();
    let mut dead = Vec::new();
    for (event, job) in events {
        if let Some(why) = refused.get(&event.id) {
            dead.push((*job, format!("{REFUSED}: {why}")));
        } else if report.foreign.contains(&event.id) {
            dead.push((*job, FOREIGN.to_owned()));
        } else {
            log(event);
        }
    }
    Ok(dead)
}

/// Another program's word that a lead wants out; our own tracker has committed its own before, and a second time
/// changes nothing. Why the ledger never takes it, if so.
async fn unsubscribe(ctx: &Context, event: &StoredEvent) -> engines::error::Result<Option<String>> {
    let tenant = ctx.store.tenant(event.tenant_id);
    let (result, why) = match tenant.unsubscribe(event, ctx.clock.uuid_v7(), ctx.clock.now()).await {
        Ok(()) => ("stored", None),
        Err(engines::Error::NotFound { .. }) => ("foreign", Some(FOREIGN.to_owned())),
        Err(e) if !e.is_transient() => ("refused", Some(format!("{REFUSED}: {e}"))),
        Err(e) => return Err(e),
    };
    ctx.metrics.tracking.events.inc([result]);
    if why.is_none() {
        log(event);
    }
    Ok(why)
}

fn stored(job: &Leased) -> Result<StoredEvent, String> {
    let event = job.whole().and_then(Event::parse).map_err(|e| e.to_string())?;
    let verdict = judge(event.event_type, event.user_agent.as_deref(), event.method.as_deref());
    Ok(StoredEvent {
        // A stranger's event without an id is known by its job: it comes again under the same one.
        id: event.event_id.unwrap_or_else(|| EventId::from_uuid(job.token.id)),
        event_type: event.event_type,
        tenant_id: event.tenant_id,
        lead_id: event.lead_id,
        campaign_id: event.campaign_id,
        step_id: event.step_id,
        url: event.url.filter(|_| event.event_type == EventType::Click),
        occurred_at: event.occurred_at,
        ip: event.ip,
        user_agent: event.user_agent.map(|agent| agent.chars().filter(|c| !c.is_control()).take(AGENT).collect()),
        method: event.method,
        verdict,
    })
}

fn log(event: &StoredEvent) {
    match event.event_type {
        EventType::Open => tracing::info!(target: JOBS, "Received open event for lead {}", event.lead_id),
        EventType::Click => tracing::info!(target: JOBS, "Received click event for lead {}", event.lead_id),
        EventType::Unsubscribe => tracing::info!(target: JOBS, "Received unsubscribe event for lead {}", event.lead_id),
    }
}
