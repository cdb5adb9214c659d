//! A ledger that was restored from an older backup: how that is seen, at a start and by those that are running, and how what
//! it may have lost is held for people.
//!
//! It has forgotten what was sent since the backup. Not responsible for judging the signs (`app/restored.rs`) or for
//! deciding what is held of those whose next mail had not been planned (`domain::plan`). To add what a restored ledger has
//! to hold: a page of it here, called by `penguinmails restored`.

use domain::ids::{CampaignId, EnrollmentId, SendId};
use domain::ledger::still_has;
use domain::lost_time::LostTime;
use domain::send::SendStatus;
use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use super::dot::days::{DayChanges, slot_columns};
use crate::db::{Access, Tx};
use crate::error::{Error, Result, ensure_changed};
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    SIGNS = "SELECT seen_at, server FROM deployment";
    // What is there is later where time ran faster in another process, and earlier than the caller's own last mark only
    // where the ledger went back: that stays to be seen by all others.
    SEE = "UPDATE deployment SET seen_at = {max COALESCE(seen_at, $1), $1}
        WHERE $2::timestamptz IS NULL OR seen_at >= $2 RETURNING seen_at";
    DOUBT = "UPDATE deployment SET seen_at = {min COALESCE(seen_at, $1), $1}, updated_at = $2";
    // A campaign that is gone was deleted with its sends.
    STANDING = "SELECT r.id AS id, s.status AS status, s.fence AS fence FROM {rows r(id uuid, campaign_id uuid)}
        JOIN campaigns c ON c.id = r.campaign_id LEFT JOIN sends s ON s.id = r.id";
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

/// What a process knows to be in the ledger, since its COMMIT was answered: a send's dot, and where it is settled, the
/// result of that dot. The database orders commits, so what was committed before the latest is there where that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The send.
    pub send_id: SendId,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// The fence of its dot.
    pub fence: i64,
    /// Whether that dot's result is written down.
    pub is_settled: bool,
}

/// Checks that the ledger has what was committed to it.
///
/// # Errors
/// `WentBack` where it has not, or the database.
pub(super) async fn ensure_standing(tx: &mut Tx, known: &[Committed]) -> Result<()> {
    if known.is_empty() {
        return Ok(());
    }
    let rows: Rows = known.iter().map(|one| values![one.send_id, one.campaign_id]).collect();
    for row in tx.query_rows(&STANDING, rows, vec![]).await? {
        let send_id: SendId = row.get("id")?;
        let (status, fence): (Option<SendStatus>, Option<i64>) = (row.get("status")?, row.get("fence")?);
        let mut same = known.iter().filter(|one| one.send_id == send_id);
        if !same.all(|one| still_has(status.zip(fence), one.fence, one.is_settled)) {
            return Err(Error::WentBack);
        }
    }
    Ok(())
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

    /// The latest time that a worker has marked: a process whose time ran faster must not leave the next one in its past.
    ///
    /// # Errors
    /// The database.
    pub async fn latest_time(&self) -> Result<Option<Timestamp>> {
        Ok(self.signs().await?.seen_at)
    }

    /// Marks the ledger with the present; the latest mark, once it is durable. None where no deployment was named yet.
    /// `last` is the caller's own mark before this one, `known` what it has committed since it began.
    ///
    /// # Errors
    /// `WentBack`, and nothing is marked, where the ledger does not have these any more; or the database.
    pub async fn mark(
        &self,
        now: Timestamp,
        last: Option<Timestamp>,
        known: &[Committed],
    ) -> Result<Option<Timestamp>> {
        let mut tx = self.db.begin(Access::Write).await?;
        ensure_standing(&mut tx, known).await?;
        let marked = tx.query_opt(&SEE, values![now, last]).await?;
        if marked.is_none() && last.is_some() {
            return Err(Error::WentBack);
        }
        tx.commit().await?;
        marked.as_ref().map(|row| row.get("seen_at")).transpose()
    }

    /// Takes the mark back to `seen`, as far as it is later: so that all who have marked the ledger since, or noted a later
    /// mark, see that it has lost something.
    ///
    /// # Errors
    /// The database.
    pub async fn doubt(&self, seen: Timestamp, now: Timestamp) -> Result<()> {
        self.db.write(&DOUBT, values![seen, now]).await.map(drop)
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
