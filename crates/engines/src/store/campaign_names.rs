//! A tenant's campaigns as others name them: one by name or id, and all of them page by page.
//!
//! Not responsible for the same question over all tenants (`campaigns`) or for how a campaign stands (`status`). To add an
//! order or a filter: its statement here.

use domain::ids::CampaignId;
use uuid::Uuid;

use super::TenantStore;
use super::campaigns::{CampaignName, campaign_name};
use crate::error::Result;
use crate::{statements, values};

statements! {
    // Another campaign's name may be this one's id: an id says more.
    FIND = "SELECT c.id, c.tenant_id, c.name, c.status, c.scheduled_at, t.name AS tenant_name
        FROM campaigns c JOIN tenants t ON t.id = c.tenant_id
        WHERE c.tenant_id = $1 AND (c.name = $2 OR c.id = $3::uuid)
        ORDER BY CASE WHEN c.id = $3::uuid THEN 0 ELSE 1 END LIMIT 1";
    LIST = "SELECT c.id, c.tenant_id, c.name, c.status, c.scheduled_at, t.name AS tenant_name
        FROM campaigns c JOIN tenants t ON t.id = c.tenant_id
        WHERE c.tenant_id = $1 AND c.id > $2 ORDER BY c.id LIMIT $3";
}

impl TenantStore {
    /// The tenant's campaign of this name or id.
    ///
    /// # Errors
    /// The database.
    pub async fn find_campaign(&self, name_or_id: &str) -> Result<Option<CampaignName>> {
        let id: Option<Uuid> = name_or_id.parse().ok();
        let rows = self.db.read(&FIND, values![self.tenant_id, name_or_id, id]).await?;
        rows.first().map(campaign_name).transpose()
    }

    /// The tenant's campaigns behind `after` in the order of their ids, which is that of their making; at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn list_campaigns(&self, after: Option<CampaignId>, limit: u32) -> Result<Vec<CampaignName>> {
        let after = after.map_or(Uuid::nil(), CampaignId::uuid);
        self.db.read(&LIST, values![self.tenant_id, after, limit]).await?.iter().map(campaign_name).collect()
    }
}
