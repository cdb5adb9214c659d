//! The HTTP API for operators and other programs: cron route, health, readiness, metrics, and tenants' campaigns.
//!
//! On its own listeners, never on the tracker's port: `API_LISTEN` has all of it, `HEALTH_LISTEN` what watches the process.
//! Routes under `/api/v1` are asked with a tenant's key (`caller`) and refuse in one way (`refusal`).
//! Bodies, heads, time and connections are bounded. Knows the queue by its contract alone. Not responsible for
//! accepting connections (`listener`) or for a turn (`scheduler`). To add a resource: a file here, an arm in `handler`.

mod caller;
mod campaigns;
mod cron;
mod foreseen;
mod health;
mod query;
mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get};
use axum::{Json, Router};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::context::Context;
use crate::lifecycle::Shutdown;
use crate::listener::{self, Bounds};
use crate::problem::InputErrors;
use crate::routes::{Listener, Route};

/// Most bytes of a request's body; no route here reads one.
const BODY: usize = 64 << 10;
/// How long health, readiness and metrics may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Longer than any answer takes: a client that does not read its answer must not keep its place for ever.
const LIFE: Duration = Duration::from_secs(600);
const CONNECTIONS: usize = 256;
/// How long open requests may take after all parts have ended.
const GRACE: Duration = Duration::from_secs(1);

/// What must answer for the process to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Database, schema, queue and secrets.
    Everything,
    /// Queue or spool: a tracker goes on answering without a database.
    QueueOrSpool,
}

/// What the requests share.
pub(crate) struct Api {
    ctx: Arc<Context>,
    needs: Needs,
    /// Asked to stop: not ready any more, and no new turn begins.
    shutdown: Shutdown,
    /// One turn at a time: those who wait find nothing left to do.
    turn: Arc<Mutex<()>>,
    /// Forecasts under way.
    foreseeing: Arc<foreseen::Turns>,
}

type Shared = State<Arc<Api>>;

impl Api {
    pub(crate) fn new(ctx: &Arc<Context>, needs: Needs, shutdown: &Shutdown) -> Arc<Self> {
        let (ctx, shutdown) = (Arc::clone(ctx), shutdown.clone());
        Arc::new(Self { ctx, needs, shutdown, turn: Arc::default(), foreseeing: Arc::default() })
    }
}

/// Binds one of the API's listeners.
///
/// # Errors
/// Where the address is taken or not ours.
pub(crate) async fn bind(address: SocketAddr, of: Listener) -> Result<TcpListener, InputErrors> {
    let what = if of == Listener::Api { "cron API" } else { "health" };
    listener::bind(address, of.variable(), what).await
}

/// Serves until `over` is said, which is after the parts have ended: whoever watches sees how they stop.
pub(crate) async fn run(api: Arc<Api>, listener: TcpListener, of: Listener, over: Shutdown) {
    let service = TowerToHyperService::new(router(api, of));
    let bounds = Bounds { connections: CONNECTIONS, life: LIFE, grace: GRACE };
    listener::serve(listener, bounds, &over, |_| service.clone()).await;
}

fn router(api: Arc<Api>, of: Listener) -> Router {
    let handled = of.routes().filter_map(|route| Some((route.path(), handler(route)?)));
    let all = handled.fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    all.fallback(not_found).layer(RequestBodyLimitLayer::new(BODY)).with_state(api)
}

/// Who answers a route; none where it is the tracker.
fn handler(route: Route) -> Option<MethodRouter<Arc<Api>>> {
    let limit = TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, LIMIT);
    match route {
        Route::Health => Some(get(health::health).layer(limit)),
        Route::Ready => Some(get(health::ready).layer(limit)),
        Route::Metrics => Some(get(health::metrics).layer(limit)),
        // Its time limit is its own: a turn goes on when nobody waits for it any more.
        Route::Cron => Some(any(cron::answer)),
        Route::Campaigns => Some(get(campaigns::list).layer(limit)),
        Route::Campaign => Some(get(campaigns::status).layer(limit)),
        // Their time limit is their own: a forecast goes on when nobody waits for it any more.
        Route::Forecast => Some(get(foreseen::forecast)),
        Route::Calendar => Some(get(foreseen::calendar)),
        Route::Explain => Some(get(foreseen::explain)),
        Route::Open | Route::Click | Route::Unsubscribe => None,
    }
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "no such route")
}

/// The token of the one `Authorization: Bearer` header; none where there is another one, or more than one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    // RFC 9110 11.1: the scheme's name has no case.
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start())
}

/// `{"error": …}`, never kept by a cache.
fn problem(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({ "error": text }))
}

fn answer(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// What is away now may be back in a few seconds.
fn later(why: &str) -> Response {
    with(problem(StatusCode::SERVICE_UNAVAILABLE, why), header::RETRY_AFTER, "5")
}
