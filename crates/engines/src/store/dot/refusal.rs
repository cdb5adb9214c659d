//! Why dots were refused, asked after the fact: for counts and logs, never for a decision.
//!
//! Not responsible for refusing (`dot`). The answer may be younger than the refusal; that is good enough to count.
//! To add a last-moment check of the gate: its column in `WHY` and its line in `why_not`.

use std::collections::HashMap;

use domain::campaign::CampaignStatus;
use domain::email_account::{AccountStatus, Breaker};
use domain::ids::SendId;
use domain::plan::exclusion;
use domain::reason::Reason;
use domain::send::SendStatus;
use domain::time::Timestamp;

use super::DotRequest;
use crate::db::Access;
use crate::error::Result;
use crate::store::SystemStore;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    WHY = "SELECT s.id AS id, s.status AS status, s.fence AS fence, s.reason AS reason, c.status AS campaign_status,
            a.status AS account_status, a.backoff_until, a.backoff_failures, st.is_active AS step_active, l.status AS lead_status,
            EXISTS (SELECT 1 FROM suppression_list x WHERE x.email = lower(l.email)
                AND (x.tenant_id = s.tenant_id OR x.tenant_id IS NULL)
                AND (x.expires_at IS NULL OR x.expires_at > $1)) AS suppressed
        FROM {rows r(id uuid, tenant_id uuid)} JOIN sends s ON s.id = r.id AND s.tenant_id = r.tenant_id
            JOIN campaigns c ON c.id = s.campaign_id JOIN email_accounts a ON a.id = s.email_account_id
            JOIN leads l ON l.id = s.lead_id JOIN campaign_sequence_steps st ON st.id = s.step_id";
}

impl SystemStore {
    /// Why these requests got no dot, in their order; none where somebody else has the send by now.
    ///
    /// # Errors
    /// The database.
    pub async fn why_refused(&self, requests: &[DotRequest], now: Timestamp) -> Result<Vec<Option<Reason>>> {
        let rows: Rows = requests.iter().map(|r| values![r.send_id, r.tenant_id]).collect();
        let mut tx = self.db.begin(Access::Read).await?;
        let found = tx.query_rows(&WHY, rows, values![now]).await?;
        let by_send: HashMap<SendId, &Row> =
            found.iter().map(|row| Ok((row.get("id")?, row))).collect::<Result<_>>()?;
        requests.iter().map(|r| by_send.get(&r.send_id).map_or(Ok(None), |row| why_not(row, r, now))).collect()
    }
}

fn why_not(row: &Row, asked: &DotRequest, now: Timestamp) -> Result<Option<Reason>> {
    let (status, fence): (SendStatus, i64) = (row.get("status")?, row.get("fence")?);
    let stored: Option<Reason> = row.get::<Option<String>>("reason")?.and_then(|word| word.parse().ok());
    match status {
        // Ended meanwhile, or postponed by the gate itself, which raises the fence by one.
        SendStatus::Cancelled | SendStatus::Skipped => return Ok(stored),
        SendStatus::Queued if fence == asked.fence + 1 => return Ok(stored),
        SendStatus::Planned | SendStatus::Queued if fence == asked.fence => {}
        _ => return Ok(None),
    }
    let (campaign, account): (CampaignStatus, AccountStatus) =
        (row.get("campaign_status")?, row.get("account_status")?);
    let step = (!row.get::<bool>("step_active")?).then_some(Reason::StepInactive);
    let lead = exclusion(row.get("lead_status")?, row.get("suppressed")?, asked.stop_on_reply);
    let failures = row.get("backoff_failures")?;
    let is_open = Breaker::of(failures, row.get("backoff_until")?, now) != Breaker::Closed;
    let backoff = (is_open || failures != asked.account_failures).then_some(Reason::AccountBackoff);
    Ok(campaign.why_not().or(account.why_not()).or(step).or(lead).or(backoff))
}
