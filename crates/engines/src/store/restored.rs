//! A ledger that was restored from an older backup: how that is seen, and how what it may have lost is held for people.
//!
//! It has forgotten what was sent since the backup. Not responsible for judging the signs (`app/restored.rs`) or for
//! deciding what is held of those whose next mail had not been planned (`domain::plan`). To add what a restored ledger has
//! to hold: a page of it here, called by `penguinmails restored`.

use domain::ids::{EnrollmentId, SendId};
use domain::lost_time::LostTime;
use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use super::dot::days::{DayChanges, slot_columns};
use crate::db::{Access, Tx};
use crate::error::{Result, ensure_changed};
use crate::value::Row;
use crate::{statements, values};

statements! {
    SIGNS = "SELECT seen_at, server FROM deployment";
    // What is there is later where time ran faster in another process.
    SEE = "UPDATE deployment SET seen_at = {max COALESCE(seen_at, $1), $1} RETURNING seen_at";
    NAME_SERVER = "UPDATE deployment SET server = $1, updated_at = $2 WHERE server IS NULL";
    LOST_TIME = "SELECT lost_since, lost_until FROM deployment WHERE lost_since IS NOT NULL AND lost_until IS NOT NULL";
    LOSE = "UPDATE deployment SET lost_since = $1, lost_until = $2, updated_at = $3";
    PLAN_ALL_AGAIN = "UPDATE campaigns SET next_plan_at = NULL, updated_at = $1 WHERE status IN ('scheduled', 'sending')";
    ACCEPT = "UPDATE deployment SET server = COALESCE($1, server), seen_at = {max COALESCE(seen_at, $2), $2}, updated_at = $3";
    // A dot has used its days: it holds no slot.
    HOLD = concat!("UPDATE sends SET status = 'held', open = false, reason = 'restored', owner = NULL, hinted_at = NULL,
            account_day = CASE WHEN status = 'dot' THEN NULL ELSE account_day END,
            campaign_day = CASE WHEN status = 'dot' THEN NULL ELSE campaign_day END,
            settled_at = $3, updated_at = $3
        WHERE open AND id IN (SELECT id FROM sends WHERE open AND not_before <= $1 AND id > $2 ORDER BY id LIMIT $4)
        RETURNING id, ", slot_columns!());
    POSTPONE = "UPDATE campaign_leads SET due_at = $1, updated_at = $3
        WHERE status = 'active' AND due_at < $1 AND id IN (SELECT id FROM campaign_leads
            WHERE status = 'active' AND due_at IS NOT NULL AND due_at < $1 AND id > $2 ORDER BY id LIMIT $4)
        RETURNING id";
}

/// What tells a restored ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The latest time at which a process has marked it.
    pub seen_at: Option<Timestamp>,
    /// The server on which it was accepted; none on SQLite, and where the server does not say.
    pub server: Option<String>,
}

/// Reads of which time this ledger knows nothing.
pub(super) async fn lost_time(tx: &mut Tx) -> Result<Option<LostTime>> {
    tx.query_opt(&LOST_TIME, vec![]).await?.as_ref().map(read_lost_time).transpose()
}

fn read_lost_time(row: &Row) -> Result<LostTime> {
    Ok(LostTime { since: row.get("lost_since")?, until: row.get("lost_until")? })
}

impl SystemStore {
    /// What the ledger says of itself; nothing where no deployment was named yet.
    ///
    /// # Errors
    /// The database.
    pub async fn signs(&self) -> Result<Signs> {
        let rows = self.db.read(&SIGNS, vec![]).await?;
        let signs = |row: &Row| Ok(Signs { seen_at: row.get("seen_at")?, server: row.get("server")? });
        rows.first().map_or(Ok(Signs::default()), signs)
    }

    /// Marks the ledger with the present; the latest mark, once it is durable. None where no deployment was named yet.
    ///
    /// # Errors
    /// The database.
    pub async fn mark(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        self.db.write(&SEE, values![now]).await?.first().map(|row| row.get("seen_at")).transpose()
    }

    /// Remembers the server of a ledger that had none.
    ///
    /// # Errors
    /// The database.
    pub async fn name_server(&self, server: &str, now: Timestamp) -> Result<()> {
        self.db.write(&NAME_SERVER, values![server, now]).await.map(drop)
    }

    /// Of which time this ledger knows nothing.
    ///
    /// # Errors
    /// The database.
    pub async fn find_lost_time(&self) -> Result<Option<LostTime>> {
        self.db.read(&LOST_TIME, vec![]).await?.first().map(read_lost_time).transpose()
    }

    /// Says of which time the ledger knows nothing: from here on planning holds what was due in it. In place of an
    /// earlier one.
    ///
    /// # Errors
    /// `Stale` where no deployment was named, or the database.
    pub async fn lose(&self, lost: LostTime, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin(Access::Write).await?;
        let told = tx.execute(&LOSE, values![lost.since, lost.until, now]).await?;
        ensure_changed("deployment", told, 1)?;
        tx.execute(&PLAN_ALL_AGAIN, values![now]).await?;
        tx.commit().await
    }

    /// Holds one page of the sends that are not final and could have left by `until`, and gives their slots back; how many, and where to go on.
    ///
    /// # Errors
    /// The database; nothing of the page is changed then.
    pub async fn hold_restored(
        &self,
        until: Timestamp,
        after: Option<SendId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<(u64, Option<SendId>)> {
        let after = after.map_or(Uuid::nil(), SendId::uuid);
        let mut tx = self.db.begin(Access::Write).await?;
        let ids = tx.query(&HOLD, values![until, after, now, limit]).await?;
        let mut days = DayChanges::default();
        ids.iter().try_for_each(|send| days.free(send))?;
        days.write(&mut tx, now).await?;
        tx.commit().await?;
        let last = ids.iter().map(|row| row.get("id")).collect::<Result<Vec<SendId>>>()?.into_iter().max();
        Ok((ids.len() as u64, last.filter(|_| ids.len() >= limit as usize)))
    }

    /// Makes one page of those whose next mail was due before `since`, and had not been planned, due then: it cannot
    /// have left earlier. How many, and where to go on.
    ///
    /// # Errors
    /// The database; nothing of the page is changed then.
    pub async fn postpone_restored(
        &self,
        since: Timestamp,
        after: Option<EnrollmentId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<(u64, Option<EnrollmentId>)> {
        let after = after.map_or(Uuid::nil(), EnrollmentId::uuid);
        let ids = self.db.write(&POSTPONE, values![since, after, now, limit]).await?;
        let last = ids.iter().map(|row| row.get("id")).collect::<Result<Vec<EnrollmentId>>>()?.into_iter().max();
        Ok((ids.len() as u64, last.filter(|_| ids.len() >= limit as usize)))
    }

    /// Takes the ledger as it stands for the true one, on this server, from `seen` on.
    ///
    /// # Errors
    /// The database.
    pub async fn accept(&self, server: Option<&str>, seen: Timestamp, now: Timestamp) -> Result<()> {
        self.db.write(&ACCEPT, values![server, seen, now]).await.map(drop)
    }
}
