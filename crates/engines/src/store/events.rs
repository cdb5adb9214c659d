//! Tracking events: each stored once, counted once, and unsubscribing at once.
//!
//! Not responsible for judging who caused an event. To add a count: a key of `event_counts` and its row in `counts`.

use std::collections::{BTreeMap, HashSet};

use domain::event::{EventType, Verdict};
use domain::ids::{CampaignId, EventId, LeadId, StepId, TenantId};
use domain::reason::Reason;
use domain::time::Timestamp;
use uuid::Uuid;

use super::apply::{Exclusion, exclude_lead};
use super::dot::DayChanges;
use super::{SystemStore, TenantStore};
use crate::db::{Access, Tx};
use crate::error::{Error, Result};
use crate::value::Rows;
use crate::{statements, values};

statements! {
    // Only where lead, campaign and step belong to the tenant and to each other.
    INSERT = "INSERT INTO tracking_events (id, tenant_id, campaign_id, step_id, lead_id, type, url, occurred_at, received_at,
            ip, user_agent, method, verdict, created_at, updated_at)
        SELECT r.id, e.tenant_id, e.campaign_id, st.id, e.lead_id, r.type, r.url, r.occurred_at, $1::timestamptz,
            r.ip, r.user_agent, r.method, r.verdict, $1::timestamptz, $1::timestamptz
        FROM {rows r(id uuid, tenant_id uuid, campaign_id uuid, step_id uuid, lead_id uuid, type text, url text,
            occurred_at timestamptz, ip text, user_agent text, method text, verdict text)}
            JOIN campaign_leads e ON e.campaign_id = r.campaign_id AND e.lead_id = r.lead_id AND e.tenant_id = r.tenant_id
            JOIN campaign_sequence_steps st ON st.id = r.step_id AND st.campaign_id = r.campaign_id AND st.tenant_id = r.tenant_id
        WHERE true ON CONFLICT (id) DO NOTHING RETURNING id";
    KNOWN = "SELECT id FROM tracking_events WHERE id {any $1}";
    KNOWN_OWN = "SELECT id FROM tracking_events WHERE tenant_id = $1 AND id = $2";
    EARLIER = "SELECT r.id AS id FROM {rows r(id uuid, tenant_id uuid, campaign_id uuid, step_id uuid, lead_id uuid, type text, url text, verdict text)}
        WHERE EXISTS (SELECT 1 FROM tracking_events t WHERE t.tenant_id = r.tenant_id AND t.campaign_id = r.campaign_id
            AND t.lead_id = r.lead_id AND t.type = r.type AND t.step_id = r.step_id AND t.verdict = r.verdict AND COALESCE(t.url, '') = r.url)";
    COUNT = "INSERT INTO event_counts (campaign_id, step_id, type, verdict, url, tenant_id, events, leads, created_at, updated_at)
        SELECT r.campaign_id, r.step_id, r.type, r.verdict, r.url, r.tenant_id, r.events, r.leads, $1::timestamptz, $1::timestamptz
        FROM {rows r(campaign_id uuid, step_id uuid, type text, verdict text, url text, tenant_id uuid, events bigint, leads bigint)}
        WHERE true ON CONFLICT (campaign_id, step_id, type, verdict, url) DO UPDATE SET
            events = event_counts.events + excluded.events, leads = event_counts.leads + excluded.leads,
            updated_at = excluded.updated_at";
    MARK_OPENED = "UPDATE inbox_message_refs SET status = 'opened', updated_at = $1
        FROM {rows r(tenant_id uuid, lead_id uuid, step_id uuid)}
        WHERE inbox_message_refs.lead_id = r.lead_id AND inbox_message_refs.step_id = r.step_id
            AND inbox_message_refs.tenant_id = r.tenant_id AND direction = 'outbound' AND status = 'sent'";
}

/// An event with its verdict.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Makes it countable once.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// Whose mail it was.
    pub tenant_id: TenantId,
    /// Who did it.
    pub lead_id: LeadId,
    /// In which campaign.
    pub campaign_id: CampaignId,
    /// With the mail of which step.
    pub step_id: StepId,
    /// The link; clicks only.
    pub url: Option<String>,
    /// When.
    pub occurred_at: Timestamp,
    /// Client address.
    pub ip: Option<String>,
    /// Client name.
    pub user_agent: Option<String>,
    /// HTTP method.
    pub method: Option<String>,
    /// Who caused it.
    pub verdict: Verdict,
}

/// What became of a batch of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventReport {
    /// Stored now.
    pub stored: u64,
    /// Ids that belong to nothing of their tenant.
    pub foreign: Vec<EventId>,
    /// Those that the database takes in no company, and why.
    pub refused: Vec<(EventId, String)>,
}

impl SystemStore {
    /// Stores and counts events in one transaction; where one of them fails for a reason of its own, row by row. One
    /// that is known already is passed over.
    ///
    /// # Errors
    /// Transient errors of the database; the caller tries again with the same events.
    pub async fn store_events(&self, events: &[StoredEvent], now: Timestamp) -> Result<EventReport> {
        match self.store_batch(events, now).await {
            Err(e) if !e.is_transient() => {}
            other => return other,
        }
        let mut report = EventReport::default();
        for event in events {
            match self.store_batch(std::slice::from_ref(event), now).await {
                Ok(one) => {
                    report.stored += one.stored;
                    report.foreign.extend(one.foreign);
                }
                Err(e) if e.is_transient() => return Err(e),
                Err(e) => report.refused.push((event.id, e.to_string())),
            }
        }
        Ok(report)
    }

    async fn store_batch(&self, events: &[StoredEvent], now: Timestamp) -> Result<EventReport> {
        let mut tx = self.db.begin(Access::Write).await?;
        let earlier = earlier_leads(&mut tx, events).await?;
        let rows: Rows = events.iter().map(event_row).collect();
        let stored: HashSet<Uuid> =
            tx.query_rows(&INSERT, rows, values![now]).await?.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        let rest: Vec<Uuid> = events.iter().map(|e| e.id.uuid()).filter(|id| !stored.contains(id)).collect();
        let known: HashSet<Uuid> = if rest.is_empty() {
            HashSet::new()
        } else {
            tx.query(&KNOWN, values![rest.clone()]).await?.iter().map(|row| row.get("id")).collect::<Result<_>>()?
        };
        // One event may come twice in a batch: it counts the first time.
        let mut uncounted = stored.clone();
        let new: Vec<&StoredEvent> = events.iter().filter(|e| uncounted.remove(&e.id.uuid())).collect();
        count(&mut tx, &new, &earlier, now).await?;
        let opened = new
            .iter()
            .filter(|e| e.event_type == EventType::Open && e.verdict == Verdict::Human)
            .map(|e| values![e.tenant_id, e.lead_id, e.step_id])
            .collect();
        tx.execute_rows(&MARK_OPENED, opened, values![now]).await?;
        tx.commit().await?;
        let foreign = rest.into_iter().filter(|id| !known.contains(id)).map(EventId::from_uuid).collect();
        Ok(EventReport { stored: stored.len() as u64, foreign, refused: Vec::new() })
    }
}

fn event_row(e: &StoredEvent) -> Vec<crate::value::Value> {
    values![
        e.id,
        e.tenant_id,
        e.campaign_id,
        e.step_id,
        e.lead_id,
        e.event_type,
        e.url.clone(),
        e.occurred_at,
        e.ip.clone(),
        e.user_agent.clone(),
        e.method.clone(),
        e.verdict,
    ]
}

/// A row of `event_counts`.
type CountKey = (CampaignId, StepId, EventType, Verdict, String);
type LeadKey = (CampaignId, StepId, LeadId, EventType, Verdict, String);

fn lead_key(e: &StoredEvent) -> LeadKey {
    (e.campaign_id, e.step_id, e.lead_id, e.event_type, e.verdict, e.url.clone().unwrap_or_default())
}

/// Leads who caused the same kind of event before: they are not counted a second time.
async fn earlier_leads(tx: &mut Tx, events: &[StoredEvent]) -> Result<HashSet<LeadKey>> {
    let rows: Rows = events
        .iter()
        .map(|e| {
            let url = e.url.clone().unwrap_or_default();
            values![e.id, e.tenant_id, e.campaign_id, e.step_id, e.lead_id, e.event_type, url, e.verdict]
        })
        .collect();
    let found: HashSet<EventId> =
        tx.query_rows(&EARLIER, rows, vec![]).await?.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    Ok(events.iter().filter(|e| found.contains(&e.id)).map(lead_key).collect())
}

async fn count(tx: &mut Tx, new: &[&StoredEvent], earlier: &HashSet<LeadKey>, now: Timestamp) -> Result<()> {
    let mut seen = earlier.clone();
    let mut counts: BTreeMap<CountKey, (TenantId, i64, i64)> = BTreeMap::new();
    for event in new {
        let url = event.url.clone().unwrap_or_default();
        let key = (event.campaign_id, event.step_id, event.event_type, event.verdict, url);
        let entry = counts.entry(key).or_insert((event.tenant_id, 0, 0));
        entry.1 += 1;
        entry.2 += i64::from(seen.insert(lead_key(event)));
    }
    let rows = counts
        .into_iter()
        .map(|((campaign, step, kind, verdict, url), (tenant, events, leads))| {
            values![campaign, step, kind, verdict, url, tenant, events, leads]
        })
        .collect();
    tx.execute_rows(&COUNT, rows, values![now]).await.map(drop)
}

impl TenantStore {
    /// Unsubscribes a lead at once: status, suppression, queued mail cancelled, enrollments ended, event stored.
    ///
    /// Idempotent: a lead's way out of one mail counts once, however often it is asked for.
    ///
    /// # Errors
    /// `NotFound` where the ids belong to nothing of this tenant, or the database.
    pub async fn unsubscribe(&self, event: &StoredEvent, suppression_id: Uuid, now: Timestamp) -> Result<()> {
        let event = StoredEvent { tenant_id: self.tenant_id, ..event.clone() };
        let mut tx = self.db.begin(Access::Write).await?;
        let events = std::slice::from_ref(&event);
        let earlier = earlier_leads(&mut tx, events).await?;
        // Somebody who asks again has unsubscribed once; whoever was let in again since goes out again.
        if earlier.is_empty() {
            let stored = tx.query_rows(&INSERT, [event_row(&event)].into_iter().collect(), values![now]).await?;
            if stored.is_empty() && tx.query(&KNOWN_OWN, values![self.tenant_id, event.id]).await?.is_empty() {
                return Err(Error::NotFound { what: "lead of this campaign", id: event.lead_id.to_string() });
            }
            if !stored.is_empty() {
                count(&mut tx, &[&event], &earlier, now).await?;
            }
        }
        let exclusion =
            Exclusion { status: "unsubscribed", reason: Reason::LeadUnsubscribed, source: "unsubscribe_link" };
        let mut days = DayChanges::default();
        let lead = (self.tenant_id, event.lead_id);
        exclude_lead(&mut tx, lead, &exclusion, suppression_id, &mut days, now).await?;
        days.write(&mut tx, now).await?;
        tx.commit().await
    }
}
