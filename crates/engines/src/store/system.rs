//! Small questions over all tenants that belong to no verb of their own.
//!
//! To add one: here, if no other file of the store names its subject.

use super::SystemStore;
use crate::error::Result;
use crate::statements;

statements! {
    LATEST = "SELECT MAX({max seen_until, COALESCE(completed_at, seen_until)}) AS at FROM campaigns WHERE seen_until IS NOT NULL";
    DEAD_LETTERS = "SELECT COUNT(*) AS n FROM dead_letters WHERE replayed_at IS NULL";
}

impl SystemStore {
    /// The latest time that planning has seen: a process whose time ran faster must not leave the next one in its past.
    ///
    /// # Errors
    /// The database.
    pub async fn latest_time(&self) -> Result<Option<domain::time::Timestamp>> {
        let rows = self.db.read(&LATEST, vec![]).await?;
        rows.first().map_or(Ok(None), |row| row.get("at"))
    }

    /// How many dead letters wait.
    ///
    /// # Errors
    /// The database.
    pub async fn count_dead_letters(&self) -> Result<u64> {
        let rows = self.db.read(&DEAD_LETTERS, vec![]).await?;
        rows.first().map_or(Ok(0), |row| row.get("n"))
    }
}
