//! How a campaign stands, in numbers that add up.
//!
//! Not responsible for showing them. To add a number: a statement here and a field of `CampaignReport`.

use domain::campaign::CampaignStatus;
use domain::ids::CampaignId;
use domain::reason::Reason;
use domain::time::{Timestamp, Zone};
use domain::trial::PARKED;

use super::TenantStore;
use super::rounds::rounds;
use crate::db::Access;
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

statements! {
    CAMPAIGN = "SELECT name, status, status_reason, completed_at, settings, scheduled_at, rounds_seen_until FROM campaigns WHERE tenant_id = $1 AND id = $2";
    STATES = "SELECT CASE WHEN status = 'queued' AND reason IS NOT NULL AND reason <> 'given_back' THEN 'deferred'
                WHEN open THEN 'pending' ELSE status END AS state,
            reason, COUNT(*) AS n, CAST(COALESCE(SUM(unknowns), 0) AS bigint) AS unknowns
        FROM sends WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY 1, 2";
    WAITING = "SELECT COUNT(*) AS n FROM campaign_leads e WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.status NOT IN ('completed', 'stopped')
        AND NOT EXISTS (SELECT 1 FROM sends s WHERE s.tenant_id = $1 AND s.enrollment_id = e.id AND s.round = e.round AND (s.open OR s.status = 'held'))";
    // They are pending too; only their leads wait for something that has a name.
    PARKED_LEADS = "SELECT COUNT(*) AS n FROM campaign_leads
        WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'active' AND due_at = $3";
    EVENTS = "SELECT type, CAST(SUM(events) AS bigint) AS n FROM event_counts
        WHERE tenant_id = $1 AND campaign_id = $2 AND verdict = 'human' GROUP BY type";
    LINKS = "SELECT st.step_order, ec.type, ec.verdict, ec.url, ec.events, ec.leads
        FROM event_counts ec JOIN campaign_sequence_steps st ON st.id = ec.step_id AND st.tenant_id = ec.tenant_id
        WHERE ec.tenant_id = $1 AND ec.campaign_id = $2 ORDER BY st.step_order, ec.events DESC";
    ACCOUNTS_ABLE = "SELECT COUNT(*) AS n FROM campaign_email_accounts p JOIN email_accounts a ON a.id = p.email_account_id AND a.tenant_id = p.tenant_id
        WHERE p.tenant_id = $1 AND p.campaign_id = $2 AND a.status = 'active'";
}

/// A state, a reason and how many sends are in it for that reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// The state's name in the report.
    pub state: String,
    /// The reason's word; empty where there is none.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Counts of one step and link by verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCount {
    /// The step's order.
    pub step_order: u32,
    /// What happened.
    pub event_type: String,
    /// Who caused it.
    pub verdict: String,
    /// The link; empty for opens.
    pub url: String,
    /// Events.
    pub events: u64,
    /// Different leads.
    pub leads: u64,
}

/// The numbers of `run --json`: the states from `sent` to `pending` add up to `planned`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the contract of `run --json`")]
pub struct CampaignReport {
    pub campaign_id: CampaignId,
    pub name: String,
    pub status: CampaignStatus,
    /// Why a rule has paused it; none where a person did.
    pub status_reason: Option<String>,
    pub completed_at: Option<Timestamp>,
    pub sent: u64,
    pub deferred: u64,
    pub bounced: u64,
    pub failed: u64,
    pub held: u64,
    pub skipped: u64,
    pub cancelled: u64,
    /// On their way, and one for each lead who waits for the next step.
    pub pending: u64,
    /// Dialogues that were cut after the dot; not rows.
    pub unknown: u64,
    pub opens: u64,
    pub clicks: u64,
    pub unsubscribes: u64,
    pub reasons: Vec<ReasonCount>,
    /// Whether any account of the pool may send.
    pub has_active_account: bool,
    /// When its next round begins, with the zone in which people read that; none where none does, or it is not under way.
    pub next_round: Option<(Timestamp, Zone)>,
}

impl CampaignReport {
    /// All sends that are known to come or have come.
    pub fn planned(&self) -> u64 {
        self.sent
            + self.deferred
            + self.bounced
            + self.failed
            + self.held
            + self.skipped
            + self.cancelled
            + self.pending
    }
}

impl TenantStore {
    /// How a campaign stands now, read in one transaction.
    ///
    /// # Errors
    /// `NotFound`, or the database.
    pub async fn campaign_report(&self, id: CampaignId) -> Result<CampaignReport> {
        let key = || values![self.tenant_id, id];
        let mut tx = self.db.begin(Access::Read).await?;
        let row = tx.query_opt(&CAMPAIGN, key()).await?;
        let row = row.ok_or_else(|| Error::NotFound { what: "campaign", id: id.to_string() })?;
        let mut report = CampaignReport {
            campaign_id: id,
            name: row.get("name")?,
            status: row.get("status")?,
            status_reason: row.get("status_reason")?,
            completed_at: row.get("completed_at")?,
            sent: 0,
            deferred: 0,
            bounced: 0,
            failed: 0,
            held: 0,
            skipped: 0,
            cancelled: 0,
            pending: 0,
            unknown: 0,
            opens: 0,
            clicks: 0,
            unsubscribes: 0,
            reasons: Vec::new(),
            has_active_account: false,
            next_round: next_round(&row)?,
        };
        for row in tx.query(&STATES, key()).await? {
            report.add_state(&row.get::<String>("state")?, row.get("reason")?, row.get("n")?, row.get("unknowns")?);
        }
        for row in tx.query(&WAITING, key()).await? {
            report.pending += row.get::<u64>("n")?;
        }
        for row in tx.query(&PARKED_LEADS, values![self.tenant_id, id, PARKED]).await? {
            let (state, reason) = ("pending".to_owned(), Reason::AbWinner.as_str().to_owned());
            let waiting = ReasonCount { state, reason, count: row.get("n")? };
            report.reasons.extend(Some(waiting).filter(|waiting| waiting.count > 0));
        }
        for row in tx.query(&EVENTS, key()).await? {
            let n = row.get("n")?;
            match row.get::<String>("type")?.as_str() {
                "open" => report.opens = n,
                "click" => report.clicks = n,
                _ => report.unsubscribes = n,
            }
        }
        for row in tx.query(&ACCOUNTS_ABLE, key()).await? {
            report.has_active_account = row.get::<u64>("n")? > 0;
        }
        tx.commit().await?;
        report.reasons.sort_by(|a, b| (&a.state, &a.reason).cmp(&(&b.state, &b.reason)));
        Ok(report)
    }

    /// Events per step and link.
    ///
    /// # Errors
    /// The database.
    pub async fn list_event_counts(&self, id: CampaignId) -> Result<Vec<EventCount>> {
        let rows = self.db.read(&LINKS, values![self.tenant_id, id]).await?;
        rows.iter()
            .map(|row| {
                Ok(EventCount {
                    step_order: row.get("step_order")?,
                    event_type: row.get("type")?,
                    verdict: row.get("verdict")?,
                    url: row.get("url")?,
                    events: row.get("events")?,
                    leads: row.get("leads")?,
                })
            })
            .collect()
    }
}

/// When a campaign that is under way comes back.
fn next_round(row: &Row) -> Result<Option<(Timestamp, Zone)>> {
    let is_under_way = row.get::<CampaignStatus>("status")? == CampaignStatus::Sending;
    let rounds = rounds(row)?.filter(|_| is_under_way);
    Ok(rounds.and_then(|rounds| Some((rounds.next()?, rounds.zone().clone()))))
}

impl CampaignReport {
    fn add_state(&mut self, state: &str, reason: Option<String>, count: u64, unknowns: u64) {
        let slot = match state {
            "sent" => &mut self.sent,
            "deferred" => &mut self.deferred,
            "bounced" => &mut self.bounced,
            "failed" => &mut self.failed,
            "held" => &mut self.held,
            "skipped" => &mut self.skipped,
            "cancelled" => &mut self.cancelled,
            _ => &mut self.pending,
        };
        *slot += count;
        self.unknown += unknowns;
        // A send that went in the end keeps no reason in the report: nothing is to be explained.
        if let Some(reason) = reason.filter(|_| state != "sent") {
            self.reasons.push(ReasonCount { state: state.to_owned(), reason, count });
        }
    }
}
