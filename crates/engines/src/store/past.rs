//! Which mails leads have had although an edit has put their steps ahead of them: one read for a whole page of leads, and none
//! where the sequence was never edited.
//!
//! Not responsible for what follows from it (`domain::plan::Past`). To add something that an edit leaves behind: a column of
//! `ENDED`.

use std::collections::HashMap;

use domain::ids::{CampaignId, LeadId, TenantId};
use domain::plan::Candidate;

use super::campaigns::CampaignBundle;
use crate::db::Tx;
use crate::error::Result;
use crate::value::Rows;
use crate::{statements, values};

statements! {
    // Of the lead's own round: what it had in an earlier one it gets again. A held one has no end yet, but its row is there: nothing else can be planned for its step.
    ENDED = "SELECT s.lead_id, st.step_order, COALESCE(s.settled_at, s.updated_at) AS ended_at, e.last_sent_at
        FROM {rows r(lead_id uuid, from_order bigint)}
            JOIN sends s ON s.campaign_id = $2 AND s.lead_id = r.lead_id AND s.tenant_id = $1 AND NOT s.open
            JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.tenant_id = s.tenant_id AND st.step_order >= r.from_order
            JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id AND e.round = s.round";
}

/// Completes candidates with the mails from their steps on that have ended.
pub(super) async fn complete(
    tx: &mut Tx,
    (tenant_id, campaign_id): (TenantId, CampaignId),
    campaign: &CampaignBundle,
    candidates: &mut [Candidate],
) -> Result<()> {
    if campaign.sequence_seen.is_none() || candidates.is_empty() {
        return Ok(());
    }
    let asked: Rows = candidates.iter().map(|c| values![c.lead_id, c.due.step_order]).collect();
    let mut of_lead: HashMap<LeadId, &mut Candidate> = candidates.iter_mut().map(|c| (c.lead_id, c)).collect();
    for row in tx.query_rows(&ENDED, asked, values![tenant_id, campaign_id]).await? {
        if let Some(candidate) = of_lead.get_mut(&row.get("lead_id")?) {
            candidate.past.ended.insert(row.get("step_order")?, row.get("ended_at")?);
            candidate.past.last_sent_at = row.get("last_sent_at")?;
        }
    }
    Ok(())
}
