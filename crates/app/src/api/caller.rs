//! Who asks a route under `/api/v1`: the tenant whose key stands in `Authorization: Bearer pm_…`.
//!
//! Asked of the ledger each time, so that a revoked key opens nothing from then on. A key that is unknown, revoked, wrong
//! or malformed gets one and the same answer. Not responsible for a key's form (`api_key`). To let a route be asked by
//! tenants alone: `Caller` among its arguments.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use domain::ids::TenantId;
use engines::store::TenantStore;
use engines::store::api_keys::FoundKey;
use engines::store::campaigns::CampaignName;

use super::refusal::Refusal;
use super::{Api, bearer};
use crate::api_key::ApiKey;

/// How exactly the last use of a key is known: each use would be a write else.
const COARSE: Duration = Duration::from_secs(3600);

/// What stands in a path in the place of a campaign: its name or id.
pub(super) type Named = Result<Path<String>, PathRejection>;

/// A tenant whose key was shown.
pub(super) struct Caller {
    /// Whose rows it may see.
    pub(super) tenant_id: TenantId,
    /// These rows and no others.
    pub(super) store: TenantStore,
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let key = bearer(&parts.headers).and_then(ApiKey::parse).ok_or(Refusal::Unauthorized)?;
        let found = api.ctx.store.system().find_api_key(key.prefix()).await?;
        let found = found.filter(|found| key.has_hash(&found.hash)).ok_or(Refusal::Unauthorized)?;
        let caller = Self { tenant_id: found.tenant_id, store: api.ctx.store.tenant(found.tenant_id) };
        caller.note_use(api, &found).await;
        Ok(caller)
    }
}

impl Caller {
    /// Notes when the key was used. Not worth a refusal: a full disk must not close the API.
    async fn note_use(&self, api: &Api, key: &FoundKey) {
        let now = api.ctx.clock.now();
        let unless_after = now - COARSE;
        if key.last_used_at.is_none_or(|at| at <= unless_after)
            && let Err(e) = self.store.note_api_key_used(key.id, now, unless_after).await
        {
            tracing::warn!(error = %e, key = %key.id, "the use of an API key was not noted");
        }
    }

    /// The tenant's campaign that a path names.
    ///
    /// # Errors
    /// `NoCampaign`, whoever else may have one, or the database.
    pub(super) async fn campaign(&self, named: Named) -> Result<CampaignName, Refusal> {
        let Ok(Path(name)) = named else { return Err(Refusal::NoCampaign) };
        // No name holds one, and a database may refuse to compare it.
        if name.chars().any(char::is_control) {
            return Err(Refusal::NoCampaign);
        }
        self.store.find_campaign(&name).await?.ok_or(Refusal::NoCampaign)
    }
}
