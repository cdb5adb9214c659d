//! Dead letters: kept, listed, replayable.
//!
//! A dead letter of a send is replayed in the ledger (`resolve` sends it again); one of a payload that was never a send
//! goes back to its queue as it is. To add a filter: `Selection`.

use std::collections::BTreeMap;

use domain::ids::{CampaignId, SendId, TenantId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use super::resolve::{self, SentAgain};
use crate::db::Access;
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    INSERT = "INSERT INTO dead_letters (id, tenant_id, queue_name, payload, error, failed_at, attempt_count, original_priority, created_at, updated_at)
        SELECT r.id, r.tenant_id, r.queue_name, r.payload, r.error, r.failed_at, r.attempt_count, r.original_priority, r.failed_at, r.failed_at
        FROM {rows r(id uuid, tenant_id uuid, queue_name text, payload text, error text, failed_at timestamptz,
            attempt_count bigint, original_priority bigint)}
        WHERE true
        ON CONFLICT (id) DO UPDATE SET error = excluded.error, failed_at = excluded.failed_at, replayed_at = NULL, updated_at = excluded.updated_at";
    LIST = "SELECT d.id, d.tenant_id, d.send_id, d.queue_name, d.payload, d.error, d.failed_at, d.attempt_count, d.original_priority
        FROM dead_letters d
        WHERE d.replayed_at IS NULL AND (d.failed_at, d.id) > ($4, $5) AND ($1::uuid IS NULL OR d.id = $1)
            AND ($2::uuid IS NULL OR EXISTS (SELECT 1 FROM sends s WHERE s.id = d.send_id AND s.campaign_id = $2))
        ORDER BY d.failed_at, d.id LIMIT $3";
    OF_SENDS = "SELECT d.id, d.tenant_id, d.send_id, d.queue_name, d.payload, d.error, d.failed_at, d.attempt_count, d.original_priority
        FROM dead_letters d WHERE d.replayed_at IS NULL AND d.send_id {any $1}";
    // One that was buried again since it was read waits for another replay.
    MARK = "UPDATE dead_letters SET replayed_at = $1, updated_at = $1 FROM {rows r(id uuid, failed_at timestamptz)}
        WHERE dead_letters.id = r.id AND dead_letters.failed_at = r.failed_at AND dead_letters.replayed_at IS NULL";
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
    /// Those behind the one that failed then and has this id: the next page.
    pub after: Option<(Timestamp, Uuid)>,
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
    /// Keeps jobs that can never be done, in one statement; before they are acknowledged, so that none is lost. One that is
    /// buried again, after a replay or a lost acknowledgement, is still one letter.
    ///
    /// # Errors
    /// The database; none is kept then.
    pub async fn bury(&self, letters: &[DeadLetter]) -> Result<()> {
        // PostgreSQL takes no row twice in one statement.
        let once: BTreeMap<Uuid, &DeadLetter> = letters.iter().map(|letter| (letter.id, letter)).collect();
        let rows: Rows = once
            .values()
            .map(|letter| {
                values![
                    letter.id,
                    letter.tenant_id,
                    &letter.queue_name,
                    &letter.payload,
                    &letter.error,
                    letter.failed_at,
                    letter.attempt_count,
                    letter.original_priority,
                ]
            })
            .collect();
        let mut tx = self.db.begin(Access::Write).await?;
        tx.execute_rows(&INSERT, rows, vec![]).await?;
        tx.commit().await
    }

    /// The first dead letters of the selection that were not replayed, oldest first.
    ///
    /// # Errors
    /// The database.
    pub async fn list_dead_letters(&self, which: Selection, limit: u32) -> Result<Vec<DeadLetter>> {
        let (at, id) = which.after.unwrap_or((Timestamp::from_micros(i64::MIN), Uuid::nil()));
        let params = values![which.id, which.campaign_id, limit, at, id];
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

    /// Sends those of these letters' sends again that may go; letters of none are for the caller to push and to mark.
    ///
    /// # Errors
    /// The database; nothing is changed then.
    pub async fn replay_sends(&self, letters: &[DeadLetter], now: Timestamp) -> Result<SentAgain> {
        let sends: Vec<SendId> = letters.iter().filter_map(|letter| letter.send_id).collect();
        if sends.is_empty() {
            return Ok(SentAgain::default());
        }
        let mut tx = self.db.begin(Access::Write).await?;
        let done = resolve::send_again(&mut tx, None, &sends, now).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Marks letters as replayed that are still as they were read; how many.
    ///
    /// # Errors
    /// The database.
    pub async fn mark_replayed(&self, letters: &[DeadLetter], now: Timestamp) -> Result<u64> {
        let rows: Rows = letters.iter().map(|letter| values![letter.id, letter.failed_at]).collect();
        let mut tx = self.db.begin(Access::Write).await?;
        let marked = tx.execute_rows(&MARK, rows, values![now]).await?;
        tx.commit().await?;
        Ok(marked)
    }
}
