//! `GET /api/v1/campaigns/{id}/forecast`, `/calendar`, `/explain`: what lies ahead of a campaign, or of one of its leads.
//!
//! The objects of the commands' `--json`, from the same functions. A forecast holds its leads in memory and takes a core
//! for seconds, so each tenant has one at a time, and a process few. Not responsible for foreseeing (`foresight`). To add
//! a question: a function here that asks in its turn.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use domain::ids::TenantId;
use serde_json::Value;

use super::caller::{Caller, Named};
use super::query::Query;
use super::refusal::Refusal;
use super::{Api, Shared, answer};
use crate::exit::Failure;
use crate::fault_point;
use crate::foresight::explained::Explained;
use crate::foresight::outlook::Shown;

/// Forecasts that a process makes at once: mail goes out beside them.
const AT_ONCE: usize = 2;
/// How long a caller waits.
const LIMIT: Duration = Duration::from_secs(300);
/// Mails of a calendar where the query does not say, as on the command line.
const CALENDAR: u32 = 20;
/// Most mails of a calendar.
const LONGEST: u32 = 1_000;

pub(super) async fn forecast(
    State(api): Shared,
    caller: Caller,
    named: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Query::parse(query.as_deref(), &[])?;
    let campaign = caller.campaign(named).await?;
    let ctx = Arc::clone(&api.ctx);
    let work = async move { Ok(Shown::foresee(&ctx, campaign, usize::MAX).await?.forecast()) };
    in_turn(&api, caller.tenant_id, work).await
}

pub(super) async fn calendar(
    State(api): Shared,
    caller: Caller,
    named: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let most = Query::parse(query.as_deref(), &["limit"])?.number("limit", 1..=LONGEST, CALENDAR)?;
    let campaign = caller.campaign(named).await?;
    let ctx = Arc::clone(&api.ctx);
    let work = async move { Ok(Shown::foresee(&ctx, campaign, most as usize).await?.calendar()) };
    in_turn(&api, caller.tenant_id, work).await
}

pub(super) async fn explain(
    State(api): Shared,
    caller: Caller,
    named: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref(), &["lead"])?;
    let lead = query.required("lead", "an address or id: explain?lead=ana@acme.test")?.to_owned();
    let campaign = caller.campaign(named).await?;
    let ctx = Arc::clone(&api.ctx);
    let work = async move {
        let explained = Explained::of(&ctx, &campaign, &lead).await?;
        explained.map(|explained| explained.object()).ok_or(Refusal::NoLead)
    };
    in_turn(&api, caller.tenant_id, work).await
}

/// Does the work as this tenant's turn. It goes on to its end when its caller hangs up or has waited too long, and so
/// does the turn: whoever asks again and again has one forecast made, not many.
async fn in_turn(
    api: &Api,
    tenant_id: TenantId,
    work: impl Future<Output = Result<Value, Refusal>> + Send + 'static,
) -> Result<Response, Refusal> {
    let turn = Turns::take(&api.foreseeing, tenant_id).ok_or(Refusal::Busy)?;
    let work = tokio::spawn(async move {
        fault_point::reach("foreseeing").await;
        let result = work.await;
        drop(turn);
        result
    });
    let done = tokio::time::timeout(LIMIT, work).await.map_err(|_| Refusal::TooLong)?;
    let value = done.map_err(|e| Failure::Internal(e.into()))??;
    Ok(answer(StatusCode::OK, &value))
}

/// The tenants whose forecasts are being made by this process.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashSet<TenantId>>);

/// A tenant's turn: over when it is dropped.
#[derive(Debug)]
struct Turn {
    turns: Arc<Turns>,
    tenant_id: TenantId,
}

impl Turns {
    /// None where the tenant's turn is not over yet, or too many others have one.
    fn take(turns: &Arc<Self>, tenant_id: TenantId) -> Option<Turn> {
        let mut taken = turns.taken();
        let is_free = taken.len() < AT_ONCE && taken.insert(tenant_id);
        is_free.then(|| Turn { turns: Arc::clone(turns), tenant_id })
    }

    /// A set is whole after any panic.
    fn taken(&self) -> MutexGuard<'_, HashSet<TenantId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.taken().remove(&self.tenant_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_one_turn_and_a_process_few() {
        let tenant = |n| TenantId::from_uuid(uuid::Uuid::from_u128(n));
        let turns = Arc::<Turns>::default();
        let first = Turns::take(&turns, tenant(1)).unwrap();
        assert!(Turns::take(&turns, tenant(1)).is_none(), "it has one");
        let second = Turns::take(&turns, tenant(2)).unwrap();
        assert!(Turns::take(&turns, tenant(3)).is_none(), "others have all of them");
        drop(first);
        let third = Turns::take(&turns, tenant(3)).unwrap();
        assert!(Turns::take(&turns, tenant(2)).is_none() && Turns::take(&turns, tenant(1)).is_none());
        drop((second, third));
        assert!(turns.taken().is_empty());
    }
}
