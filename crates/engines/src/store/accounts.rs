//! A tenant's email accounts as people see them: named, listed, stopped and let go on.
//!
//! Not responsible for what an account's server or a rule does to it (`apply`, `refusals`, `breaker`), or for its settings (`setup`).
//! To add a fact that people see: a column, and a field of `AccountRow`.

use domain::email_account::AccountStatus;
use domain::ids::EmailAccountId;
use domain::time::Timestamp;

use super::TenantStore;
use super::apply::revive_sends;
use super::dot::days::wake_accounts;
use crate::db::{Access, LockKind};
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

statements! {
    LIST = "SELECT id, email, status, status_reason, daily_limit, min_gap_seconds, backoff_until FROM email_accounts
        WHERE tenant_id = $1 AND status <> 'deleted' ORDER BY lower(email) LIMIT $2";
    FIND = "SELECT id, email, status, status_reason, daily_limit, min_gap_seconds, backoff_until FROM email_accounts
        WHERE tenant_id = $1 AND (lower(email) = lower($2::text) OR id = $3::uuid)";
    SET_STATUS = "UPDATE email_accounts SET status = $3, status_reason = $4, backoff_until = NULL, backoff_failures = 0,
            refusals_since = CASE WHEN $3 = 'active' THEN $5 ELSE refusals_since END, updated_at = $5
        WHERE tenant_id = $1 AND id = $2";
}

/// An account as its tenant sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Id of the row.
    pub id: EmailAccountId,
    /// Its address.
    pub email: String,
    /// Whether it may send.
    pub status: AccountStatus,
    /// Why it may not: the word of a rule's reason, or what its server said; none = a person has stopped it, or nobody.
    pub status_reason: Option<String>,
    /// Most mails a day; none = without limit.
    pub daily_limit: Option<u32>,
    /// Least seconds between two mails.
    pub min_gap_seconds: u32,
    /// Until when it waits after failures of its server.
    pub backoff_until: Option<Timestamp>,
}

fn account(row: &Row) -> Result<AccountRow> {
    Ok(AccountRow {
        id: row.get("id")?,
        email: row.get("email")?,
        status: row.get("status")?,
        status_reason: row.get("status_reason")?,
        daily_limit: row.get("daily_limit")?,
        min_gap_seconds: row.get("min_gap_seconds")?,
        backoff_until: row.get("backoff_until")?,
    })
}

impl TenantStore {
    /// The tenant's accounts by their addresses, without those that were deleted; at most `most`.
    ///
    /// # Errors
    /// The database.
    pub async fn list_email_accounts(&self, most: u32) -> Result<Vec<AccountRow>> {
        self.db.read(&LIST, values![self.tenant_id, most]).await?.iter().map(account).collect()
    }

    /// The account of this address, in any case of letters, or of this id.
    ///
    /// # Errors
    /// The database.
    pub async fn find_email_account(&self, address_or_id: &str) -> Result<Option<AccountRow>> {
        let id = uuid::Uuid::parse_str(address_or_id).ok();
        self.db.read(&FIND, values![self.tenant_id, address_or_id, id]).await?.first().map(account).transpose()
    }

    /// Sets an account's status; no dot from it is written after this returns, unless the status is `active`.
    ///
    /// # Errors
    /// `NotFound`, or the database.
    pub async fn set_account_status(
        &self,
        id: EmailAccountId,
        status: AccountStatus,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::EmailAccount, true, [id.uuid()]).await?;
        let changed = tx.execute(&SET_STATUS, values![self.tenant_id, id, status, reason, now]).await?;
        if changed == 0 {
            return Err(Error::NotFound { what: "email account", id: id.to_string() });
        }
        if status == AccountStatus::Active {
            revive_sends(&mut tx, self.tenant_id, id, now).await?;
            wake_accounts(&mut tx, self.tenant_id, [id], now).await?;
        }
        tx.commit().await
    }
}
