//! Unsubscribing: a page that asks, and a POST that acts at once. The one place in tracking that knows the store.
//!
//! A GET changes nothing, since scanners follow links. The POST is committed before its answer, or spooled with a sync
//! where the database does not answer. Idempotent: a lead's way out of one mail counts once.

use std::net::SocketAddr;
use std::time::Duration;

use domain::event::{Event, EventType, Verdict};
use domain::ids::EventId;
use engines::store::events::StoredEvent;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request};
use mail::token::{Purpose, Verified};

use super::{Answer, Tracker, pages, responses, spool};
use crate::context::Context;
use crate::metrics::{Hit, Kind};
use crate::routes::Route;

/// Most bytes of a form.
const FORM: usize = 16 << 10;
/// How long a client may take to send it.
const FORM_LIMIT: Duration = Duration::from_secs(10);
/// How long the database may take before the spool has to do.
const LIMIT: Duration = Duration::from_secs(3);
/// How often the database is asked where others write about the same sends.
const TRIES: u32 = 5;

pub(super) async fn answer(tracker: &Tracker, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let act = match *request.method() {
        Method::GET | Method::HEAD => false,
        Method::POST => true,
        _ => {
            tracker.count(Kind::Unsubscribe, Hit::Refused);
            return responses::method_not_allowed(Route::Unsubscribe.methods());
        }
    };
    let Verified::Valid(claims) = tracker.verify(&request, Purpose::Unsubscribe) else {
        tracker.count(Kind::Unsubscribe, Hit::Invalid);
        return pages::invalid();
    };
    if !act {
        tracker.count(Kind::Unsubscribe, Hit::Page);
        return pages::confirm();
    }
    let event = tracker.event(EventType::Unsubscribe, claims, &request, peer);
    // What the form says does not matter: the token in the link does. It is read so that the connection can go on.
    let form = tokio::time::timeout(FORM_LIMIT, Limited::new(request.into_body(), FORM).collect());
    if !matches!(form.await, Ok(Ok(_))) {
        tracker.count(Kind::Unsubscribe, Hit::Refused);
        return pages::invalid();
    }
    let answer = act_on(&tracker.ctx, event).await;
    let hit = if answer.status().is_success() { Hit::Counted } else { Hit::Unavailable };
    tracker.count(Kind::Unsubscribe, hit);
    answer
}

async fn act_on(ctx: &Context, event: Event) -> Answer {
    match tokio::time::timeout(LIMIT, commit(ctx, &event)).await {
        Ok(Ok(())) => pages::done(),
        // The token is ours and its lead is gone: nothing is left to unsubscribe.
        Ok(Err(engines::Error::NotFound { .. })) => pages::done(),
        Ok(Err(e)) => {
            tracing::warn!(error = %e, "an unsubscribe goes to the spool");
            keep(ctx, event).await
        }
        Err(_) => {
            tracing::warn!("an unsubscribe goes to the spool: the database takes too long");
            keep(ctx, event).await
        }
    }
}

async fn keep(ctx: &Context, event: Event) -> Answer {
    match spool::append(ctx, &[event]).await {
        Ok(()) => pages::done(),
        Err(e) => {
            tracing::error!(error = %e, "an unsubscribe cannot be kept");
            responses::with(hyper::StatusCode::SERVICE_UNAVAILABLE, "Please try again in a minute.\n", &[])
        }
    }
}

async fn commit(ctx: &Context, event: &Event) -> engines::error::Result<()> {
    let id = event.event_id.unwrap_or_else(|| EventId::from_uuid(ctx.clock.uuid_v7()));
    let stored = StoredEvent {
        id,
        event_type: EventType::Unsubscribe,
        tenant_id: event.tenant_id,
        lead_id: event.lead_id,
        campaign_id: event.campaign_id,
        step_id: event.step_id,
        url: None,
        occurred_at: event.occurred_at,
        ip: event.ip.clone(),
        user_agent: event.user_agent.clone(),
        method: event.method.clone(),
        verdict: Verdict::Human,
    };
    let tenant = ctx.store.tenant(event.tenant_id);
    let mut tries = 1;
    loop {
        match tenant.unsubscribe(&stored, ctx.clock.uuid_v7(), ctx.clock.now()).await {
            // Somebody wrote about the same sends. In the spool it would be answered before it is in force.
            Err(engines::Error::Conflict { .. }) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

/// Commits a spooled event where it is an unsubscribe; a lead that is gone is no error.
pub(super) async fn commit_spooled(ctx: &Context, event: &Event) -> engines::error::Result<()> {
    if event.event_type != EventType::Unsubscribe {
        return Ok(());
    }
    match commit(ctx, event).await {
        Err(engines::Error::NotFound { .. }) => Ok(()),
        done => done,
    }
}
