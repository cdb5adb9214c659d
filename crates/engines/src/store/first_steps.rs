//! The first steps of a draft that is about to start: due from now on, not from when its leads were imported.
//!
//! When each is due is `domain::first_step`'s decision. Not responsible for enrolling (`leads`) or starting
//! (`campaigns`). To move more than the due time: the columns of `MOVE`.

use domain::first_step::FirstStep;
use domain::ids::{EnrollmentId, LeadId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::TenantStore;
use crate::db::{Access, LockKind};
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    // In the order of the index of due times. Whoever was moved stands further behind, and is known by its `updated_at`.
    PAGE = "SELECT e.id, e.lead_id, e.due_at FROM campaign_leads e
        JOIN campaigns c ON c.id = e.campaign_id AND c.tenant_id = e.tenant_id
        WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND c.status = 'draft' AND e.status = 'active'
            AND e.due_at IS NOT NULL AND e.next_step_order = $3 AND e.updated_at < $4 AND (e.due_at, e.id) > ($5, $6)
        ORDER BY e.due_at, e.id LIMIT $7";
    MOVE = "UPDATE campaign_leads SET due_at = r.due_at, updated_at = $3 FROM {rows r(id uuid, due_at timestamptz)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = $1 AND campaign_leads.campaign_id = $2
            AND campaign_leads.status = 'active' AND campaign_leads.due_at IS NOT NULL AND campaign_leads.updated_at < $3";
}

/// Enrollments in one transaction.
const PAGE_SIZE: u32 = 2000;

impl TenantStore {
    /// Gives every lead of a draft that waits for its first step the due time that `first` says; how many.
    ///
    /// A page a transaction, so that memory does not grow with the list; cut off, it is called again. A campaign that
    /// is no draft (any more) is left alone.
    ///
    /// # Errors
    /// The database.
    pub async fn spread_first_steps(&self, first: &FirstStep, now: Timestamp) -> Result<u64> {
        let (mut moved, mut after) = (0, (Timestamp::from_micros(i64::MIN), Uuid::nil()));
        loop {
            let mut tx = self.db.begin(Access::Write).await?;
            // Shared with imports: nobody cancels the campaign meanwhile.
            tx.lock(LockKind::Campaign, false, [first.campaign_id.uuid()]).await?;
            let (campaign, order) = (first.campaign_id, first.due.step_order);
            let params = values![self.tenant_id, campaign, order, now, after.0, after.1, PAGE_SIZE];
            let page = tx.query(&PAGE, params).await?;
            let Some(last) = page.last() else { return tx.commit().await.map(|()| moved) };
            after = (last.get("due_at")?, last.get::<EnrollmentId>("id")?.uuid());
            let due =
                |row: &Row| Ok(values![row.get::<EnrollmentId>("id")?, first.due_of(row.get::<LeadId>("lead_id")?).at]);
            let rows = page.iter().map(due).collect::<Result<Rows>>()?;
            moved += tx.execute_rows(&MOVE, rows, values![self.tenant_id, campaign, now]).await?;
            tx.commit().await?;
        }
    }
}
