//! Small questions over all tenants that belong to no verb of their own.
//!
//! To add one: here, if no other file of the store names its subject.

use super::SystemStore;
use crate::error::Result;
use crate::{statements, values};

statements! {
    NEXT_DUE = "SELECT MIN(due_at) AS at FROM campaign_leads e JOIN campaigns c ON c.id = e.campaign_id
        WHERE e.status = 'active' AND e.due_at IS NOT NULL AND c.status IN ('scheduled', 'sending')";
    ALIVE = "SELECT 1 AS one";
}

impl SystemStore {
    /// When the next enrollment is due, over all campaigns that are under way.
    ///
    /// # Errors
    /// The database.
    pub async fn next_due(&self) -> Result<Option<domain::time::Timestamp>> {
        let rows = self.db.read(&NEXT_DUE, vec![]).await?;
        rows.first().map_or(Ok(None), |row| row.get("at"))
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// `Unavailable` where it does not.
    pub async fn ping(&self) -> Result<()> {
        self.db.read(&ALIVE, values![]).await.map(drop)
    }
}
