//! `GET, POST /api/cron/scheduler`: one turn of the scheduler for whoever knows `CRON_SECRET`.
//!
//! Idempotent, and safe beside the scheduler's own loop: the ledger plans each lead once. A turn that began goes on to
//! its end, also when its caller hangs up. Not responsible for the turn itself (`scheduler`).

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;

use super::{Shared, answer as respond, bearer, later, problem, with};
use crate::routes::Route;
use crate::scheduler;

/// How long a caller waits: for turns before its own, and for its own.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn answer(State(api): Shared, method: Method, headers: HeaderMap) -> Response {
    let response = tokio::time::timeout(LIMIT, run(&api, &method, &headers)).await.unwrap_or_else(|_| {
        problem(
            StatusCode::GATEWAY_TIMEOUT,
            "the turn takes longer than 5 minutes and goes on (hint: call again later)",
        )
    });
    // Codes of this route alone; others have no handle and need none.
    let code = match response.status() {
        StatusCode::OK => "200",
        StatusCode::UNAUTHORIZED => "401",
        StatusCode::METHOD_NOT_ALLOWED => "405",
        StatusCode::SERVICE_UNAVAILABLE => "503",
        StatusCode::GATEWAY_TIMEOUT => "504",
        _ => "500",
    };
    api.ctx.metrics.cron.requests.inc([code]);
    response
}

async fn run(api: &super::Api, method: &Method, headers: &HeaderMap) -> Response {
    if *method != Method::GET && *method != Method::POST {
        let refused = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST run the scheduler");
        return with(refused, header::ALLOW, Route::Cron.methods());
    }
    let Some(secret) = &api.ctx.cron else {
        let why = "CRON_SECRET is not set, so this route refuses (hint: openssl rand -base64 32, and start again)";
        return problem(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    if !is_authorized(headers, secret) {
        let refused = problem(StatusCode::UNAUTHORIZED, "Authorization: Bearer CRON_SECRET is missing or wrong");
        return with(refused, header::WWW_AUTHENTICATE, "Bearer");
    }
    let turn = Arc::clone(&api.turn).lock_owned().await;
    if api.shutdown.is_stopping() {
        return later("the process is stopping");
    }
    let (ctx, shutdown) = (Arc::clone(&api.ctx), api.shutdown.clone());
    let work = tokio::spawn(async move {
        let result = scheduler::enqueue_due_campaigns(&ctx, &|| !shutdown.is_stopping()).await;
        drop(turn);
        result
    });
    match work.await {
        Ok(Ok(turn)) => {
            tracing::info!("Enqueued {} email jobs", turn.enqueued);
            respond(StatusCode::OK, &turn)
        }
        Ok(Err(e)) => {
            tracing::warn!(error = %e, "campaigns cannot be planned now");
            later(
                "campaigns cannot be planned now (hint: /ready says what is missing; nothing that was planned is lost)",
            )
        }
        Err(e) => {
            tracing::error!(error = %e, "a turn of the scheduler ended by a fault of ours");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the turn ended by a fault of ours (hint: see the log)")
        }
    }
}

/// One `Authorization` header with the right token. Digests are compared, so that neither content nor length shows in
/// the time that it takes.
fn is_authorized(headers: &HeaderMap, secret: &SecretString) -> bool {
    let Some(token) = bearer(headers) else { return false };
    let hash = |text: &str| digest(&SHA256, text.as_bytes());
    let (theirs, ours) = (hash(token), hash(secret.expose_secret()));
    verify_slices_are_equal(theirs.as_ref(), ours.as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_right_token_lets_in() {
        let secret = SecretString::from("s3cret");
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            is_authorized(&headers, &secret)
        };
        assert!(check(&["Bearer s3cret"]) && check(&["bearer s3cret"]) && check(&["Bearer  s3cret"]));
        for bad in
            ["", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "Bearer S3CRET"]
        {
            assert!(!check(&[bad]), "{bad}");
        }
        assert!(!check(&[]) && !check(&["Bearer s3cret", "Bearer s3cret"]), "one header, no more");
    }
}
