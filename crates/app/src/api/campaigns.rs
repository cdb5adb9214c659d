//! `GET /api/v1/campaigns`, `/api/v1/campaigns/{id}`: a tenant's campaigns page by page, and how one stands.
//!
//! Not responsible for what lies ahead of one (`api/foreseen.rs`). To add a figure: `store::status` and `report`.

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use domain::ids::CampaignId;
use engines::store::campaigns::CampaignName;
use serde_json::{Value, json};

use super::answer;
use super::caller::{Caller, Named};
use super::query::Query;
use super::refusal::Refusal;
use crate::report::ReportJson;

/// Campaigns of a page, where the query does not say.
const PAGE: u32 = 100;
/// Most campaigns of a page.
const MOST: u32 = 1_000;

/// `{campaigns: [{campaignId, name, status, scheduledAt}], next}`: `next` is what `after` has to be for the next page.
pub(super) async fn list(caller: Caller, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref(), &["limit", "after"])?;
    let limit = query.number("limit", 1..=MOST, PAGE)?;
    let after = query.id("after")?.map(CampaignId::from_uuid);
    // One more says whether there is a next page.
    let mut found = caller.store.list_campaigns(after, limit + 1).await?;
    let is_last = found.len() <= limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| !is_last).map(|campaign| campaign.id);
    let campaigns: Vec<Value> = found.iter().map(object).collect();
    Ok(answer(StatusCode::OK, &json!({ "campaigns": campaigns, "next": next })))
}

fn object(campaign: &CampaignName) -> Value {
    json!({
        "campaignId": campaign.id, "name": campaign.name, "status": campaign.status.as_str(),
        "scheduledAt": campaign.scheduled_at,
    })
}

/// The object of `campaign status --json`.
pub(super) async fn status(caller: Caller, named: Named, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Query::parse(query.as_deref(), &[])?;
    let campaign = caller.campaign(named).await?;
    let report = caller.store.campaign_report(campaign.id).await?;
    Ok(answer(StatusCode::OK, &ReportJson::new(&report, 0.0)))
}
