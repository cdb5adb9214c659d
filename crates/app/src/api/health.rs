//! `GET /health`, `/ready`, `/metrics`: whether the process lives, whether it can work, and what it has counted.
//!
//! Liveness asks nobody else: a database that is away is no reason to restart. Readiness asks each thing that the
//! process needs and names it. Neither holds secrets or addresses. To add a dependency: its line in `dependencies`.

use std::future::Future;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use engines::queue::{Lane, List};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{Api, Needs, Shared, answer};
use crate::context::Context;
use crate::liveness::{Loop, State as Turning};
use crate::secrets::Cell;
use crate::tracking;

/// How long a dependency may take to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Accounts that are looked at: one that was sealed with another key must not make everybody unready.
const ACCOUNTS: u32 = 20;

pub(super) async fn health(State(api): Shared) -> Response {
    let limit = api.ctx.config.settings.health.stall.0;
    let stopping = api.shutdown.is_stopping();
    let mut loops = Map::new();
    let mut alive = true;
    for of in Loop::ALL {
        let why = match api.ctx.liveness.state(of) {
            Turning::Absent => continue,
            Turning::Waiting => None,
            Turning::Busy(since) if since <= limit => None,
            Turning::Busy(since) => Some(format!("at one thing for {} s", since.as_secs())),
            // Loops end when the process does.
            Turning::Ended if stopping => None,
            Turning::Ended => Some("ended by a fault of ours (hint: see the log)".to_owned()),
        };
        alive &= why.is_none();
        loops.insert(of.as_str().to_owned(), verdict(why));
    }
    let (code, status) = if alive { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    answer(code, &json!({ "status": status, "loops": loops }))
}

pub(super) async fn ready(State(api): Shared) -> Response {
    let found = dependencies(&api).await;
    let is_ok = |name: &str| found.get(name).is_none_or(|verdict| verdict["ok"] == true);
    let all = found.values().all(|verdict| verdict["ok"] == true);
    let enough = match api.needs {
        Needs::Everything => all,
        Needs::QueueOrSpool => is_ok("secrets") && (is_ok("queue") || is_ok("spool")),
    };
    let (code, status) = match (api.shutdown.is_stopping(), enough, all) {
        (true, ..) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (false, true, false) => (StatusCode::OK, "degraded"),
        (false, true, true) => (StatusCode::OK, "ready"),
    };
    answer(code, &json!({ "status": status, "dependencies": found }))
}

pub(super) async fn metrics(State(api): Shared) -> Response {
    api.ctx.metrics.sample(&api.ctx).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.ctx.metrics.text()).into_response()
}

fn verdict(why: Option<String>) -> Value {
    why.map_or_else(|| json!({ "ok": true }), |why| json!({ "ok": false, "why": why }))
}

async fn dependencies(api: &Api) -> Map<String, Value> {
    let ctx = &*api.ctx;
    let (database, schema, queue, secrets) = tokio::join!(
        within(async { ctx.store.system().count_dead_letters().await.map(drop).map_err(|e| e.to_string()) }),
        within(check_schema(ctx)),
        within(async { queue(ctx).await.map_err(|e| e.to_string()) }),
        within(check_secrets(ctx)),
    );
    let mut found = Map::new();
    for (name, why) in [("database", database), ("schema", schema), ("queue", queue), ("secrets", secrets)] {
        found.insert(name.to_owned(), verdict(why));
    }
    if api.needs == Needs::QueueOrSpool {
        let spool = within(async { tracking::check_spool(ctx).await.map_err(|e| e.to_string()) }).await;
        found.insert("spool".to_owned(), verdict(spool));
    }
    found
}

/// Why not, if so.
async fn within(check: impl Future<Output = Result<(), String>>) -> Option<String> {
    match timeout(LIMIT, check).await {
        Ok(result) => result.err(),
        Err(_) => Some(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

async fn check_schema(ctx: &Context) -> Result<(), String> {
    let versions = engines::migrate::versions(ctx.store.db()).await.map_err(|e| e.to_string())?;
    if versions.fits() {
        return Ok(());
    }
    Err(format!(
        "the database has migration `{}`, this program `{}` (hint: the same version of penguinmails everywhere)",
        versions.found, versions.known
    ))
}

async fn queue(ctx: &Context) -> engines::error::Result<()> {
    ctx.queue.epoch(List::EmailSending).await?;
    ctx.queue.depth(List::Analytics, Lane::Base, ctx.clock.now()).await.map(drop)
}

/// Whether the key opens what other processes have sealed. That secrets are there was checked at start.
async fn check_secrets(ctx: &Context) -> Result<(), String> {
    // Without a database nobody can tell, and the database has its own line.
    let Ok(sealed) = ctx.store.system().newest_passwords(ACCOUNTS).await else { return Ok(()) };
    let opens = |(tenant_id, id, password): &(domain::ids::TenantId, domain::ids::EmailAccountId, String)| {
        ctx.sealing.open(Cell::smtp_password(tenant_id.uuid(), id.uuid()), password).is_ok()
    };
    if sealed.is_empty() || sealed.iter().any(opens) {
        return Ok(());
    }
    Err("ENCRYPTION_KEY opens no password in the database (hint: all processes on one DATABASE_URL must share it)"
        .to_owned())
}
