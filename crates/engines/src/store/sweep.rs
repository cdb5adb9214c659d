//! The exits of open sends that can never go: what a switched-off step, an ended campaign, an excluded lead or an ended
//! sequence left open. Edits, cancels and the gate end most of them themselves; this finds what other programs leave behind.
//!
//! A turn costs the same however many sends are open: those that have to be looked at one by one are taken a page at a time, in
//! order of their leads, and where the last turn stopped is kept in the database for whoever has the next one. Not responsible for who is
//! alive (`recover`). To add an exit: its statement in `PAGED`, or in `DIRECT` where an index finds what it ends.

use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use super::dot::days::{DayChanges, slot_columns};
use super::rotate;
use crate::db::{Access, Tx};
use crate::dialect::Statement;
use crate::error::Result;
use crate::{statements, values};

/// Open sends that one turn looks at, and all others of the last one's lead: some 40 ms of a database's time.
const PAGE: i64 = 2_000;
/// What a turn takes a page at a time, and what it finds at once.
const PAGED: [&Statement; 2] = [&SKIP_INACTIVE, &CANCEL_EXCLUDED];
const DIRECT: [&Statement; 2] = [&CANCEL_ENDED, &SKIP_FORSAKEN];

statements! {
    // In order of an index, or PostgreSQL may read all sends for the first open one.
    SWEPT = "SELECT (SELECT lead_id FROM sweep_progress) AS lead_id,
        (SELECT id FROM sends WHERE open ORDER BY lead_id LIMIT 1) IS NOT NULL AS is_any_open";
    SAVE_SWEPT = "INSERT INTO sweep_progress (one, lead_id, created_at, updated_at) VALUES (1, $1, $2, $2)
        ON CONFLICT (one) DO UPDATE SET lead_id = excluded.lead_id, updated_at = excluded.updated_at";
    PAGE_END = "SELECT lead_id FROM sends WHERE open AND lead_id > $1 ORDER BY lead_id LIMIT 1 OFFSET $2";
    SKIP_INACTIVE = concat!("UPDATE sends SET status = 'skipped', open = false, reason = 'step_inactive', settled_at = $1, updated_at = $1
        WHERE open AND status IN ('planned', 'queued') AND lead_id > $2 AND lead_id <= $3
            AND step_id IN (SELECT id FROM campaign_sequence_steps WHERE NOT is_active OR step_type <> 'email')
        RETURNING enrollment_id, ", slot_columns!());
    // By the words of `domain::plan::exclusion`.
    CANCEL_EXCLUDED = concat!("UPDATE sends SET status = 'cancelled', open = false, settled_at = $1, updated_at = $1,
            reason = COALESCE((SELECT CASE l.status WHEN 'bounced' THEN 'lead_bounced' WHEN 'unsubscribed' THEN 'lead_unsubscribed'
                WHEN 'complained' THEN 'lead_complained' END FROM leads l WHERE l.id = sends.lead_id), 'suppressed')
        WHERE id IN (SELECT s.id FROM sends s JOIN leads l ON l.id = s.lead_id
            WHERE s.open AND s.status IN ('planned', 'queued') AND s.not_before <= $1 AND s.lead_id > $2 AND s.lead_id <= $3
                AND (l.status IN ('bounced', 'unsubscribed', 'complained')
                    OR EXISTS (SELECT 1 FROM suppression_list x WHERE x.email = lower(l.email)
                        AND (x.tenant_id = s.tenant_id OR x.tenant_id IS NULL)
                        AND (x.expires_at IS NULL OR x.expires_at > $1))))
        RETURNING enrollment_id, ", slot_columns!());
    // A dot that was under way when the campaign was cancelled comes back here when it was not taken.
    CANCEL_ENDED = concat!("UPDATE sends SET status = 'cancelled', open = false, reason = 'campaign_cancelled', settled_at = $1, updated_at = $1
        WHERE open AND status IN ('planned', 'queued')
            AND campaign_id IN (SELECT id FROM campaigns WHERE status IN ('cancelled', 'archived'))
        RETURNING enrollment_id, ", slot_columns!());
    // Taken from its account to be planned anew, and its lead's sequence ended before it, or its round did.
    SKIP_FORSAKEN = concat!("UPDATE sends SET status = 'skipped', open = false, settled_at = $1, updated_at = $1,
            reason = COALESCE((SELECT e.stop_reason FROM campaign_leads e WHERE e.id = sends.enrollment_id), 'step_inactive')
        WHERE open AND status IN ('planned', 'queued') AND email_account_id IS NULL
            AND enrollment_id IN (SELECT e.id FROM campaign_leads e WHERE e.status <> 'active' OR e.round <> sends.round)
        RETURNING enrollment_id, ", slot_columns!());
    // Reapers find owners by their heartbeats. One whose first could not be written, or that was declared dead too early and
    // went on, may have left a dot without one.
    NAME_OWNERS = "INSERT INTO workers (owner, host, pid, heartbeat, created_at, updated_at)
        SELECT DISTINCT s.owner, '', CAST(0 AS bigint), CAST(0 AS bigint), $1::timestamptz, $1::timestamptz FROM sends s
        WHERE s.open AND s.status = 'dot' AND s.lead_id > $2 AND s.lead_id <= $3
            AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.owner = s.owner)
        ON CONFLICT (owner) DO NOTHING";
    // An enrollment whose send ended without it (see above) goes on or ends. What was taken from its account holds nobody
    // up: planning comes to it.
    FREE_ENROLLMENTS = "UPDATE campaign_leads SET due_at = $1, updated_at = $1
        WHERE id {any $2} AND status = 'active' AND due_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM sends s WHERE s.enrollment_id = campaign_leads.id AND s.round = campaign_leads.round
                AND ((s.open AND s.email_account_id IS NOT NULL) OR s.status = 'held'))";
}

impl SystemStore {
    /// Ends open sends that can never go, gives their slots back and frees their enrollments; how many. Has planned again
    /// what stands at an account that may not send, where another may. Gives owners of dots a heartbeat that stands still where
    /// they have none.
    ///
    /// # Errors
    /// The database.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64> {
        let swept = self.db.read(&SWEPT, vec![]).await?;
        let (kept, is_any_open) = match swept.first() {
            Some(row) => (row.get("lead_id")?, row.get("is_any_open")?),
            None => (None, false),
        };
        // A place that was kept is given up first, or the next open send might lie before it.
        if !is_any_open && kept.is_none() {
            return Ok(0);
        }
        let mut tx = self.db.begin(Access::Write).await?;
        let after = kept.unwrap_or(Uuid::nil());
        let end: Option<Uuid> =
            tx.query(&PAGE_END, values![after, PAGE - 1]).await?.first().map(|row| row.get("lead_id")).transpose()?;
        let until = end.unwrap_or(Uuid::max());
        let mut ended: Vec<Uuid> = Vec::new();
        let mut days = DayChanges::default();
        let paged = PAGED.map(|statement| (statement, values![now, after, until]));
        for (statement, params) in paged.into_iter().chain(DIRECT.map(|statement| (statement, values![now]))) {
            for row in tx.query(statement, params).await? {
                ended.push(row.get("enrollment_id")?);
                days.free(&row)?;
            }
        }
        tx.execute(&NAME_OWNERS, values![now, after, until]).await?;
        let count = ended.len() as u64;
        free_enrollments(&mut tx, ended, now).await?;
        rotate::unplan(&mut tx, &mut days, now).await?;
        days.write(&mut tx, now).await?;
        if end != kept {
            tx.execute(&SAVE_SWEPT, values![end, now]).await?;
        }
        tx.commit().await?;
        Ok(count)
    }
}

/// Has enrollments go on whose send has ended without them.
pub(super) async fn free_enrollments(tx: &mut Tx, ids: Vec<Uuid>, now: Timestamp) -> Result<()> {
    if !ids.is_empty() {
        tx.execute(&FREE_ENROLLMENTS, values![now, ids]).await?;
    }
    Ok(())
}
