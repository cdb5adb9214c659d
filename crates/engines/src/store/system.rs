//! Small questions over all tenants that belong to no verb of their own.
//!
//! To add one: here, if no other file of the store names its subject.

use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use crate::error::{Error, Result};
use crate::{statements, values};

statements! {
    LATEST = "SELECT MAX({max seen_until, COALESCE(completed_at, seen_until)}) AS at FROM campaigns WHERE seen_until IS NOT NULL";
    NAME_DEPLOYMENT = "INSERT INTO deployment (one, id, created_at, updated_at) VALUES (1, $1, $2, $2) ON CONFLICT (one) DO NOTHING";
    DEPLOYMENT = "SELECT id FROM deployment";
    DEAD_LETTERS = "SELECT COUNT(*) AS n FROM dead_letters WHERE replayed_at IS NULL";
}

impl SystemStore {
    /// The latest time that planning has seen: a process whose time ran faster must not leave the next one in its past.
    ///
    /// # Errors
    /// The database.
    pub async fn latest_time(&self) -> Result<Option<Timestamp>> {
        let rows = self.db.read(&LATEST, vec![]).await?;
        rows.first().map_or(Ok(None), |row| row.get("at"))
    }

    /// The id of this deployment, which is everybody's on this database: `new` where it had none.
    ///
    /// # Errors
    /// The database.
    pub async fn deployment(&self, new: Uuid, now: Timestamp) -> Result<Uuid> {
        self.db.write(&NAME_DEPLOYMENT, values![new, now]).await?;
        let rows = self.db.read(&DEPLOYMENT, vec![]).await?;
        let missing = || Error::NotFound { what: "deployment", id: "1".into() };
        rows.first().ok_or_else(missing)?.get("id")
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
