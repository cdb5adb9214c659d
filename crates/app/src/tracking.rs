//! The public tracking API: pixel, click, unsubscribe, on its own listener; nothing else is on this port.
//!
//! Must be cheap and never down: a request is answered once its event is acknowledged by the queue, or by the spool
//! where the queue does not answer in time. Knows no store, save for `unsubscribe` and its one narrow call.
//! To add a route: its lines in `routes`, an arm in `answer`, its rule in the table of SPEC 2.

mod events;
mod pages;
mod responses;
mod spool;
mod unsubscribe;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use domain::event::{Event, EventType};
use domain::ids::EventId;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use mail::token::{Claims, Purpose, Verified};
use tokio::net::TcpListener;

use crate::context::Context;
use crate::lifecycle::Shutdown;
use crate::listener::{self, Bounds};
use crate::metrics::{Hit, Kind};
use crate::problem::InputErrors;
use crate::routes::{Listener, Route};
pub(crate) use events::push;

/// Most connections at once.
const CONNECTIONS: usize = 10_000;
/// How long one of them may live: a client that does not read must not keep its place for ever.
const LIFE: std::time::Duration = std::time::Duration::from_secs(600);

type Answer = Response<Full<Bytes>>;

/// What the requests of one tracker share.
struct Tracker {
    ctx: Arc<Context>,
    events: events::Recorder,
}

/// Binds the listener.
///
/// # Errors
/// Where the address is taken or not ours.
pub(crate) async fn bind(ctx: &Context) -> Result<TcpListener, InputErrors> {
    listener::bind(ctx.config.track_listen, Listener::Track.variable(), "tracking API").await
}

/// Serves until stopping is asked for, then finishes open requests.
pub(crate) async fn run(ctx: Arc<Context>, listener: TcpListener, shutdown: Shutdown) {
    let grace = ctx.config.settings.process.shutdown_grace.0;
    let (events, recorder) = events::start(&ctx);
    let drain = tokio::spawn(spool::drain(Arc::clone(&ctx), shutdown.clone()));
    let tracker = Arc::new(Tracker { ctx, events });
    let bounds = Bounds { connections: CONNECTIONS, life: LIFE, grace };
    let service = |peer| {
        let tracker = Arc::clone(&tracker);
        service_fn(move |request| {
            let tracker = Arc::clone(&tracker);
            async move { Ok::<_, Infallible>(answer(&tracker, request, peer).await) }
        })
    };
    listener::serve(listener, bounds, &shutdown, service).await;
    drop(tracker);
    let _recorder_gone = tokio::time::timeout(grace, recorder).await;
    drain.abort();
}

/// How many files of events wait in the spool.
pub(crate) fn spooled_files(ctx: &Context) -> usize {
    spool::count(ctx)
}

/// Whether an event could be spooled now.
///
/// # Errors
/// The folder cannot be made or written.
pub(crate) async fn check_spool(ctx: &Context) -> anyhow::Result<()> {
    spool::check(ctx).await
}

async fn answer(tracker: &Tracker, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let head = *request.method() == Method::HEAD;
    let mut answer = match Listener::Track.route(request.uri().path()) {
        Some(route @ (Route::Open | Route::Click)) if !get => {
            let kind = if route == Route::Open { Kind::Open } else { Kind::Click };
            tracker.count(kind, Hit::Refused);
            responses::method_not_allowed(route.methods())
        }
        Some(Route::Open) => open(tracker, &request, peer).await,
        Some(Route::Click) => click(tracker, &request, peer).await,
        Some(Route::Unsubscribe) => unsubscribe::answer(tracker, request, peer).await,
        Some(
            Route::Cron
            | Route::Health
            | Route::Ready
            | Route::Metrics
            | Route::Campaigns
            | Route::Campaign
            | Route::Forecast
            | Route::Calendar
            | Route::Explain,
        )
        | None => {
            tracker.count(Kind::Other, Hit::Refused);
            responses::not_found()
        }
    };
    if head {
        *answer.body_mut() = Full::default();
    }
    answer
}

async fn open(tracker: &Tracker, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
    match tracker.verify(request, Purpose::Open) {
        Verified::Valid(claims) => {
            tracker.record(EventType::Open, claims, request, peer).await;
            tracker.count(Kind::Open, Hit::Counted);
            responses::pixel()
        }
        Verified::Expired(_) => {
            tracker.count(Kind::Open, Hit::Expired);
            responses::pixel()
        }
        Verified::Invalid => {
            tracker.count(Kind::Open, Hit::Invalid);
            responses::invalid()
        }
    }
}

async fn click(tracker: &Tracker, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
    match tracker.verify(request, Purpose::Click) {
        Verified::Valid(claims) => {
            let url = claims.url.clone().unwrap_or_default();
            tracker.record(EventType::Click, claims, request, peer).await;
            tracker.count(Kind::Click, Hit::Counted);
            responses::redirect(&url)
        }
        // People click old mail: it still leads there.
        Verified::Expired(claims) => {
            tracker.count(Kind::Click, Hit::Expired);
            responses::redirect(&claims.url.unwrap_or_default())
        }
        Verified::Invalid => {
            tracker.count(Kind::Click, Hit::Invalid);
            responses::invalid()
        }
    }
}

impl Tracker {
    fn count(&self, kind: Kind, hit: Hit) {
        self.ctx.metrics.tracking.request(kind, hit);
    }

    fn verify<B>(&self, request: &Request<B>, purpose: Purpose) -> Verified {
        let token =
            request.uri().query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("token=")));
        self.ctx.keys.verify(token.unwrap_or(""), purpose, self.ctx.clock.now())
    }

    async fn record<B>(&self, event_type: EventType, claims: Claims, request: &Request<B>, peer: SocketAddr) {
        let event = self.event(event_type, claims, request, peer);
        self.events.record(event).await;
    }

    fn event<B>(&self, event_type: EventType, claims: Claims, request: &Request<B>, peer: SocketAddr) -> Event {
        let header = |name| {
            let value = request.headers().get(name).and_then(|v: &hyper::header::HeaderValue| v.to_str().ok());
            value.map(|text| text.chars().filter(|c| !c.is_control()).take(512).collect::<String>())
        };
        // The last address of the list is the one that our own proxy has seen.
        let forwarded = if self.ctx.config.settings.track.trust_forwarded_for {
            let last = request.headers().get_all("x-forwarded-for").iter().next_back();
            let ip = last.and_then(|list| list.to_str().ok()?.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
            ip.map(|ip| ip.to_string())
        } else {
            None
        };
        Event {
            event_id: Some(EventId::from_uuid(self.ctx.clock.uuid_v7())),
            event_type,
            tenant_id: claims.ids.tenant_id,
            lead_id: claims.ids.lead_id,
            campaign_id: claims.ids.campaign_id,
            step_id: claims.ids.step_id,
            url: claims.url,
            occurred_at: self.ctx.clock.now(),
            ip: Some(forwarded.unwrap_or_else(|| peer.ip().to_string())),
            user_agent: header("user-agent"),
            method: Some(request.method().as_str().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
