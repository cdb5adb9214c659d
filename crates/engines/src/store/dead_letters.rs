//! Dead letters: kept, listed, replayable.
//!
//! A dead letter of a send is replayed in the ledger (the send goes back to `queued`, its enrollment and campaign open
//! again); one of a payload that was never a send goes back to its queue as it is. To add a filter: `Selection`.

use domain::ids::{CampaignId, SendId, TenantId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use crate::db::{Access, Tx};
use crate::error::Result;
use crate::value::Row;
use crate::{statements, values};

statements! {
    INSERT = "INSERT INTO dead_letters (id, tenant_id, queue_name, payload, error, failed_at, attempt_count, original_priority, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $6, $6)
        ON CONFLICT (id) DO UPDATE SET error = excluded.error, failed_at = excluded.failed_at, replayed_at = NULL, updated_at = excluded.updated_at";
    LIST = "SELECT d.id, d.tenant_id, d.send_id, d.queue_name, d.payload, d.error, d.failed_at, d.attempt_count, d.original_priority,
            s.campaign_id
        FROM dead_letters d LEFT JOIN sends s ON s.id = d.send_id
        WHERE d.replayed_at IS NULL AND ($1::uuid IS NULL OR d.id = $1) AND ($2::uuid IS NULL OR s.campaign_id = $2)
        ORDER BY d.failed_at, d.id LIMIT $3";
    OF_SENDS = "SELECT d.id, d.tenant_id, d.send_id, d.queue_name, d.payload, d.error, d.failed_at, d.attempt_count, d.original_priority
        FROM dead_letters d WHERE d.replayed_at IS NULL AND d.send_id {any $1}";
    REPLAY = "UPDATE dead_letters SET replayed_at = $2, updated_at = $2 WHERE id = $1 AND replayed_at IS NULL";
    REQUEUE = "UPDATE sends SET status = 'queued', open = true, reason = NULL, attempts = 0, first_attempt_at = NULL,
            not_before = $2, hinted_at = NULL, settled_at = NULL, updated_at = $2
        WHERE id = $1 AND status = 'failed' RETURNING enrollment_id, campaign_id";
    REOPEN_ENROLLMENT = "UPDATE campaign_leads SET status = 'active', stop_reason = NULL, due_at = NULL, updated_at = $2
        WHERE id = $1 AND status = 'stopped'";
    REOPEN_CAMPAIGN = "UPDATE campaigns SET status = 'sending', completed_at = NULL, updated_at = $2 WHERE id = $1 AND status = 'completed'";
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Id of the row.
    pub id: Uuid,
    /// Whose it is, where that is known.
    pub tenant_id: Option<TenantId>,
    /// The send, where it was one.
    pub send_id: Option<SendId>,
    /// The list it came from.
    pub queue_name: String,
    /// The job as it was.
    pub payload: String,
    /// Why.
    pub error: String,
    /// When.
    pub failed_at: Timestamp,
    /// Attempts that counted.
    pub attempt_count: u32,
    /// 1 to 1000.
    pub original_priority: u16,
}

/// Which dead letters are meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// One.
    pub id: Option<Uuid>,
    /// Those of a campaign.
    pub campaign_id: Option<CampaignId>,
}

fn dead_letter(row: &Row) -> Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        send_id: row.get("send_id")?,
        queue_name: row.get("queue_name")?,
        payload: row.get("payload")?,
        error: row.get("error")?,
        failed_at: row.get("failed_at")?,
        attempt_count: row.get("attempt_count")?,
        original_priority: row.get("original_priority")?,
    })
}

impl SystemStore {
    /// Keeps a job that can never be done; before it is acknowledged, so that it is never lost. Buried again, after a
    /// replay or a lost acknowledgement, it is still one letter.
    ///
    /// # Errors
    /// The database.
    pub async fn bury(&self, letter: &DeadLetter) -> Result<()> {
        let params = values![
            letter.id,
            letter.tenant_id,
            &letter.queue_name,
            &letter.payload,
            &letter.error,
            letter.failed_at,
            letter.attempt_count,
            letter.original_priority,
        ];
        self.db.write(&INSERT, params).await.map(drop)
    }

    /// Dead letters that were not replayed, oldest first.
    ///
    /// # Errors
    /// The database.
    pub async fn list_dead_letters(&self, which: Selection, limit: u32) -> Result<Vec<DeadLetter>> {
        let params = values![which.id, which.campaign_id, limit];
        self.db.read(&LIST, params).await?.iter().map(dead_letter).collect()
    }

    /// The dead letters of these sends.
    ///
    /// # Errors
    /// The database.
    pub async fn dead_letters_of(&self, sends: &[SendId]) -> Result<Vec<DeadLetter>> {
        let ids: Vec<Uuid> = sends.iter().map(|id| id.uuid()).collect();
        self.db.read(&OF_SENDS, values![ids]).await?.iter().map(dead_letter).collect()
    }

    /// Replays dead letters of sends; the others are returned, for the caller to push and then to mark.
    ///
    /// # Errors
    /// The database; nothing is changed then.
    pub async fn replay_sends(&self, which: Selection, now: Timestamp) -> Result<(u64, Vec<DeadLetter>)> {
        let mut tx = self.db.begin(Access::Write).await?;
        let letters = tx.query(&LIST, values![which.id, which.campaign_id, i64::from(u32::MAX)]).await?;
        let mut replayed = 0;
        let mut payloads = Vec::new();
        for row in &letters {
            let letter = dead_letter(row)?;
            match letter.send_id {
                Some(send_id) => {
                    replayed += tx.execute(&REPLAY, values![letter.id, now]).await?;
                    requeue(&mut tx, send_id, now).await?;
                }
                None => payloads.push(letter),
            }
        }
        tx.commit().await?;
        Ok((replayed, payloads))
    }

    /// Marks one as replayed; 0 where it was before.
    ///
    /// # Errors
    /// The database.
    pub async fn mark_replayed(&self, id: Uuid, now: Timestamp) -> Result<u64> {
        let mut tx = self.db.begin(Access::Write).await?;
        let marked = tx.execute(&REPLAY, values![id, now]).await?;
        tx.commit().await?;
        Ok(marked)
    }
}

async fn requeue(tx: &mut Tx, send_id: SendId, now: Timestamp) -> Result<()> {
    if let Some(row) = tx.query_opt(&REQUEUE, values![send_id, now]).await? {
        tx.execute(&REOPEN_ENROLLMENT, values![row.get::<Uuid>("enrollment_id")?, now]).await?;
        tx.execute(&REOPEN_CAMPAIGN, values![row.get::<Uuid>("campaign_id")?, now]).await?;
    }
    Ok(())
}
