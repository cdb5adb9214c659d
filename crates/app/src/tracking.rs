//! The public tracking API: pixel, click, unsubscribe, on its own listener; nothing else is on this port.
//!
//! Must be cheap and never down: a request is answered once its event is acknowledged by the queue, or by the spool
//! where the queue does not answer in time. Knows no store, save for `unsubscribe` and its one narrow call.
//! To add a route: an arm in `answer`, its rule in the table of SPEC 2.

mod events;
mod pages;
mod responses;
mod spool;
mod unsubscribe;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::event::{Event, EventType};
use domain::ids::EventId;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use mail::token::{Claims, Purpose, Verified};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::lifecycle::Shutdown;
pub(crate) use events::push;

/// Most connections at once.
const CONNECTIONS: usize = 10_000;
/// How long a client may take to say what it wants.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// What the requests of one tracker share.
struct Tracker {
    ctx: Arc<Context>,
    events: events::Recorder,
}

/// Binds the listener; the address that it got.
///
/// # Errors
/// Where the address is taken or not ours.
pub(crate) async fn bind(ctx: &Context) -> anyhow::Result<TcpListener> {
    let address = ctx.config.track_listen;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        anyhow::anyhow!("failed to listen on `{address}`: {e} (hint: TRACK_LISTEN names another address or port)")
    })?;
    tracing::info!(address = %listener.local_addr()?, "tracking API listens");
    Ok(listener)
}

/// Serves until stopping is asked for, then finishes open requests.
pub(crate) async fn run(ctx: Arc<Context>, listener: TcpListener, shutdown: Shutdown) {
    let grace = ctx.config.settings.process.shutdown_grace.0;
    let (events, recorder) = events::start(&ctx);
    let drain = tokio::spawn(spool::drain(Arc::clone(&ctx), shutdown.clone()));
    let tracker = Arc::new(Tracker { ctx, events });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(Ok(permit)) = shutdown.unless_stopping(Arc::clone(&room).acquire_owned()).await {
        let Some(accepted) = shutdown.unless_stopping(listener.accept()).await else { break };
        match accepted {
            Ok((stream, peer)) => {
                let (tracker, shutdown) = (Arc::clone(&tracker), shutdown.clone());
                tokio::spawn(async move {
                    serve(tracker, stream, peer, shutdown).await;
                    drop(permit);
                });
            }
            Err(e) => {
                // Out of file descriptors: accepting at once again would spin.
                tracing::warn!(error = %e, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(grace, room.acquire_many(all)).await.is_err() {
        tracing::warn!("requests were still open when the tracker stopped");
    }
    drop(tracker);
    let _recorder_gone = tokio::time::timeout(grace, recorder).await;
    drain.abort();
}

async fn serve(tracker: Arc<Tracker>, stream: TcpStream, peer: SocketAddr, shutdown: Shutdown) {
    let _best_effort = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let tracker = Arc::clone(&tracker);
        async move { Ok::<_, Infallible>(answer(&tracker, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

async fn answer(tracker: &Tracker, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let path = request.uri().path();
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let head = *request.method() == Method::HEAD;
    let mut answer = match path {
        "/api/track/open" | "/api/track/click" if !get => responses::method_not_allowed("GET, HEAD"),
        "/api/track/open" => open(tracker, &request, peer).await,
        "/api/track/click" => click(tracker, &request, peer).await,
        "/unsubscribe" => unsubscribe::answer(tracker, request, peer).await,
        _ => responses::not_found(),
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
            responses::pixel()
        }
        Verified::Expired(_) => responses::pixel(),
        Verified::Invalid => responses::invalid(),
    }
}

async fn click(tracker: &Tracker, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
    match tracker.verify(request, Purpose::Click) {
        Verified::Valid(claims) => {
            let url = claims.url.clone().unwrap_or_default();
            tracker.record(EventType::Click, claims, request, peer).await;
            responses::redirect(&url)
        }
        // People click old mail: it still leads there.
        Verified::Expired(claims) => responses::redirect(&claims.url.unwrap_or_default()),
        Verified::Invalid => responses::invalid(),
    }
}

impl Tracker {
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
