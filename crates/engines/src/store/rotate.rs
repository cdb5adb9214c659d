//! Sends that are planned at an account which may not send any more go back to planning, where another may have them; so do
//! those that an edit puts off (`setup/places`).
//!
//! Such a send keeps its row, open and without account, slot and hint, under a new fence: whoever holds an old hint of it
//! changes nothing, and the gate refuses it. Its enrollment is due at once, and planning takes the row over
//! (`plan`, `INSERT_SENDS`). Not responsible for whose mail moves when it is planned anew (`domain::rotation`, the same
//! rule). To add a reason to move: the WHERE of `STRANDED`.

use domain::reason::Reason;
use domain::time::Timestamp;

use super::dot::DayChanges;
use crate::db::Tx;
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    // Asked first: where all accounts may send, no send is looked at.
    STOPPED = "SELECT id FROM email_accounts WHERE status <> 'active'";
    // What was tried, or may have arrived, is its account's for good: another copy from elsewhere would be no copy.
    STRANDED = "SELECT s.id, s.tenant_id, s.campaign_id, s.email_account_id, s.account_day, s.campaign_day
        FROM sends s JOIN campaigns c ON c.id = s.campaign_id AND c.status = 'sending'
            JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.email_account_id IS NULL
            JOIN campaign_leads e ON e.id = s.enrollment_id AND e.status = 'active' AND e.due_at IS NULL
                AND e.next_step_order = st.step_order AND e.round = s.round
        WHERE s.email_account_id {any $2}
            AND s.open AND s.status IN ('planned', 'queued') AND s.attempts = 0 AND s.unknowns = 0
            AND (e.highest_sent_step = 0 OR c.settings ->> 'follow_ups' = 'move')
            AND EXISTS (SELECT 1 FROM campaign_email_accounts p JOIN email_accounts b ON b.id = p.email_account_id
                WHERE p.campaign_id = s.campaign_id AND b.status = 'active')
        ORDER BY s.id LIMIT $1 {for update of s skip locked}";
    UNPLAN = "UPDATE sends SET status = 'planned', email_account_id = NULL, account_day = NULL, campaign_day = NULL,
            reason = $2, fence = sends.fence + 1, hinted_at = NULL, updated_at = $1
        FROM {rows r(id uuid, tenant_id uuid)}
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.open AND sends.status IN ('planned', 'queued')";
    // Also of one that a person sent again and that never had an account.
    PLAN_AGAIN = "UPDATE campaign_leads SET due_at = $1, email_account_id = NULL, updated_at = $1
        FROM sends s JOIN campaign_sequence_steps st ON st.id = s.step_id
        WHERE s.enrollment_id = campaign_leads.id AND st.step_order = campaign_leads.next_step_order AND s.round = campaign_leads.round AND s.open
            AND s.email_account_id IS NULL AND s.status IN ('planned', 'queued')
            AND campaign_leads.status = 'active' AND campaign_leads.due_at IS NULL";
}

/// Most sends that one sweep gives back: planning takes them over page by page.
const PAGE: i64 = 1_000;

/// Gives back what stands at accounts that may not send, where another account may; its slots go to `days`.
pub(super) async fn unplan(tx: &mut Tx, days: &mut DayChanges, now: Timestamp) -> Result<()> {
    let stopped: Vec<uuid::Uuid> =
        tx.query(&STOPPED, vec![]).await?.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    if !stopped.is_empty() {
        let stranded = tx.query(&STRANDED, values![PAGE, stopped]).await?;
        take_back(tx, days, &stranded, Reason::AccountInactive, now).await?;
    }
    tx.execute(&PLAN_AGAIN, values![now]).await.map(drop)
}

/// Takes account, slot and hint from planned sends, which are locked: rows of `id` and `slot_columns!`. Whoever has this done
/// gives their enrollments a due time.
pub(super) async fn take_back(
    tx: &mut Tx,
    days: &mut DayChanges,
    sends: &[Row],
    reason: Reason,
    now: Timestamp,
) -> Result<()> {
    sends.iter().try_for_each(|send| days.free(send))?;
    let row = |send: &Row| Ok(values![send.get::<uuid::Uuid>("id")?, send.get::<uuid::Uuid>("tenant_id")?]);
    let rows: Rows = sends.iter().map(row).collect::<Result<Vec<_>>>()?.into_iter().collect();
    tx.execute_rows(&UNPLAN, rows, values![now, reason]).await.map(drop)
}
