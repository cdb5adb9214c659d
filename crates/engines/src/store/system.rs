//! Small questions over all tenants that belong to no verb of their own.
//!
//! To add one: here, if no other file of the store names its subject.

use domain::ids::{CampaignId, EmailAccountId, TenantId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::SystemStore;
use crate::error::{Error, Result};
use crate::{statements, values};

statements! {
    NAME_DEPLOYMENT = "INSERT INTO deployment (one, id, created_at, updated_at) VALUES (1, $1, $2, $2) ON CONFLICT (one) DO NOTHING";
    DEPLOYMENT = "SELECT id FROM deployment";
    FIND_TENANT = "SELECT id, name FROM tenants WHERE name = $1 OR id = $2::uuid";
    TENANTS = "SELECT name FROM tenants ORDER BY created_at, id LIMIT $1";
    ACCOUNTS = "SELECT id, tenant_id FROM email_accounts WHERE status <> 'deleted' ORDER BY tenant_id, created_at, id LIMIT $1";
    LIVE_CAMPAIGNS = "SELECT id, tenant_id, CASE WHEN status = 'paused' THEN status_reason END AS status_reason FROM campaigns WHERE status IN ('scheduled', 'sending', 'paused') ORDER BY tenant_id, created_at, id LIMIT $1";
    NEWEST_ACCOUNTS = "SELECT id, tenant_id, smtp_settings FROM email_accounts WHERE status = 'active' ORDER BY created_at DESC, id DESC LIMIT $1";
    DEAD_LETTERS = "SELECT COUNT(*) AS n FROM dead_letters WHERE replayed_at IS NULL";
}

impl SystemStore {
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

    /// The same without giving it one.
    ///
    /// # Errors
    /// The database.
    pub async fn find_deployment(&self) -> Result<Option<Uuid>> {
        let rows = self.db.read(&DEPLOYMENT, vec![]).await?;
        rows.first().map(|row| row.get("id")).transpose()
    }

    /// The tenant of this name or id, with its name.
    ///
    /// # Errors
    /// The database.
    pub async fn find_tenant(&self, name_or_id: &str) -> Result<Option<(TenantId, String)>> {
        let id: Option<Uuid> = name_or_id.parse().ok();
        let rows = self.db.read(&FIND_TENANT, values![name_or_id, id]).await?;
        rows.first().map(|row| Ok((row.get("id")?, row.get("name")?))).transpose()
    }

    /// Names of the first tenants, to show a person what there is.
    ///
    /// # Errors
    /// The database.
    pub async fn list_tenant_names(&self, limit: u32) -> Result<Vec<String>> {
        self.db.read(&TENANTS, values![limit]).await?.iter().map(|row| row.get("name")).collect()
    }

    /// Email accounts of all tenants that are not deleted, tenant by tenant.
    ///
    /// # Errors
    /// The database.
    pub async fn list_accounts(&self, limit: u32) -> Result<Vec<(TenantId, EmailAccountId)>> {
        let rows = self.db.read(&ACCOUNTS, values![limit]).await?;
        rows.iter().map(|row| Ok((row.get("tenant_id")?, row.get("id")?))).collect()
    }

    /// Campaigns of all tenants that have begun and not ended, tenant by tenant; with the reason of a rule's pause.
    ///
    /// # Errors
    /// The database.
    pub async fn list_live_campaigns(&self, limit: u32) -> Result<Vec<(TenantId, CampaignId, Option<String>)>> {
        let rows = self.db.read(&LIVE_CAMPAIGNS, values![limit]).await?;
        rows.iter().map(|row| Ok((row.get("tenant_id")?, row.get("id")?, row.get("status_reason")?))).collect()
    }

    /// How many dead letters wait.
    ///
    /// # Errors
    /// The database.
    pub async fn count_dead_letters(&self) -> Result<u64> {
        let rows = self.db.read(&DEAD_LETTERS, vec![]).await?;
        rows.first().map_or(Ok(0), |row| row.get("n"))
    }

    /// Sealed passwords of the newest active accounts, at most `limit`: whether the process's key still opens them.
    ///
    /// # Errors
    /// The database.
    pub async fn newest_passwords(&self, limit: u32) -> Result<Vec<(TenantId, EmailAccountId, String)>> {
        let mut found = Vec::new();
        for row in self.db.read(&NEWEST_ACCOUNTS, values![limit]).await? {
            // Settings that another program wrote wrongly are the worker's to report.
            let settings: serde_json::Value = row.get("smtp_settings")?;
            if let Some(password) = settings["password"].as_str() {
                found.push((row.get("tenant_id")?, row.get("id")?, password.to_owned()));
            }
        }
        Ok(found)
    }
}
