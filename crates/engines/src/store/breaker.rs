//! The breaker of email accounts: whoever wants to send the probe of one whose wait is over claims it, so that one goes.
//!
//! A claim is the account's wait, moved forward for a while: nobody's P3 grants a send of it meanwhile, and the claim of
//! a dead worker ends by itself. What the probe shows is a result like any other (`apply`). Not responsible for the
//! ladder (`domain::settle`). To add a way in which a claim ends: its statement, which names the wait that it expects.

use domain::email_account::Breaker;
use domain::ids::{EmailAccountId, TenantId};
use domain::time::Timestamp;

use super::SystemStore;
use super::fetch::SendJob;
use crate::db::{Access, Tx};
use crate::error::Result;
use crate::value::{Rows, Value};
use crate::{statements, values};

statements! {
    CLAIM = "UPDATE email_accounts SET backoff_until = r.until
        FROM {rows r(id uuid, tenant_id uuid, failures bigint, until timestamptz)}
        WHERE email_accounts.id = r.id AND email_accounts.tenant_id = r.tenant_id AND email_accounts.status = 'active'
            AND email_accounts.backoff_failures = r.failures
            AND (email_accounts.backoff_until IS NULL OR email_accounts.backoff_until <= $1)
        RETURNING email_accounts.id AS id";
    MOVE = "UPDATE email_accounts SET backoff_until = $1
        FROM {rows r(id uuid, tenant_id uuid, failures bigint, until timestamptz)}
        WHERE email_accounts.id = r.id AND email_accounts.tenant_id = r.tenant_id
            AND email_accounts.backoff_failures = r.failures AND email_accounts.backoff_until = r.until
        RETURNING email_accounts.id AS id";
    // Reconciliation brings what waited at once. One that somebody has under lock is being worked on.
    FREE_HINTS = "UPDATE sends SET hinted_at = NULL WHERE id IN (
            SELECT s.id FROM {rows r(id uuid, tenant_id uuid)}
                JOIN sends s ON s.email_account_id = r.id AND s.tenant_id = r.tenant_id
            WHERE s.open AND s.status IN ('planned', 'queued') AND s.hinted_at IS NOT NULL AND s.not_before <= $1
            {for update of s skip locked})";
}

/// An account whose probe is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The account.
    pub email_account_id: EmailAccountId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its failures in a row.
    pub failures: u32,
    /// When the claim ends by itself.
    pub until: Timestamp,
}

impl Probe {
    /// What a send that P3 granted needs before it may go; none where its account's breaker is closed.
    pub fn needed_by(job: &SendJob, until: Timestamp) -> Option<Self> {
        (job.breaker == Breaker::HalfOpen).then_some(Self {
            email_account_id: job.account.0,
            tenant_id: job.tenant_id,
            failures: job.account_failures,
            until,
        })
    }
}

impl SystemStore {
    /// Claims the probes of these accounts; those that are ours now. Of many that ask at once,
    /// in whatever process, one gets it.
    ///
    /// # Errors
    /// The database.
    pub async fn claim_probes(&self, wanted: &[Probe], now: Timestamp) -> Result<Vec<EmailAccountId>> {
        let mut tx = self.db.begin(Access::Write).await?;
        let claimed = tx.query_rows(&CLAIM, wanted.iter().map(row).collect(), values![now]).await?;
        tx.commit().await?;
        claimed.iter().map(|row| row.get("id")).collect()
    }

    /// Lengthens claims to `until`; those that are still ours.
    ///
    /// # Errors
    /// The database.
    pub async fn keep_probes(&self, probes: &[Probe], until: Timestamp) -> Result<Vec<EmailAccountId>> {
        let mut tx = self.db.begin(Access::Write).await?;
        let kept = move_claims(&mut tx, probes, until).await?;
        tx.commit().await?;
        Ok(kept)
    }

    /// Gives claims back whose probe showed nothing, so that the next one may go; where the probe's result has been
    /// written nothing changes. How many.
    ///
    /// # Errors
    /// The database.
    pub async fn end_probes(&self, probes: &[Probe], now: Timestamp) -> Result<usize> {
        let mut tx = self.db.begin(Access::Write).await?;
        let ended = move_claims(&mut tx, probes, now).await?;
        let waiting = probes.iter().filter(|p| ended.contains(&p.email_account_id));
        free_hints(&mut tx, waiting.map(|p| (p.email_account_id, p.tenant_id)), now).await?;
        tx.commit().await?;
        Ok(ended.len())
    }
}

fn row(p: &Probe) -> Vec<Value> {
    values![p.email_account_id, p.tenant_id, p.failures, p.until]
}

async fn move_claims(tx: &mut Tx, probes: &[Probe], until: Timestamp) -> Result<Vec<EmailAccountId>> {
    let moved = tx.query_rows(&MOVE, probes.iter().map(row).collect(), values![until]).await?;
    moved.iter().map(|row| row.get("id")).collect()
}

/// Lets what is due of these accounts get hints again, which their workers dropped while the accounts waited.
pub(super) async fn free_hints(
    tx: &mut Tx,
    accounts: impl Iterator<Item = (EmailAccountId, TenantId)>,
    now: Timestamp,
) -> Result<()> {
    let rows: Rows = accounts.map(|(id, tenant_id)| values![id, tenant_id]).collect();
    tx.execute_rows(&FREE_HINTS, rows, values![now]).await.map(drop)
}
