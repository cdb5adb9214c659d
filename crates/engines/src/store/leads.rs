//! Leads and their enrollment, in bulk.
//!
//! Not responsible for reading files. To add a lead's field: the struct, the statement and the migration.

use domain::ids::{CampaignId, LeadId};
use domain::step::Due;
use domain::time::Timestamp;
use uuid::Uuid;

use super::TenantStore;
use crate::db::Access;
use crate::error::{Error, Result};
use crate::value::Rows;
use crate::{statements, values};

statements! {
    OWN_CAMPAIGN = "SELECT id FROM campaigns WHERE tenant_id = $1 AND id = $2";
    // The status stays: importing a list must not revive somebody who unsubscribed.
    UPSERT = "INSERT INTO leads (id, tenant_id, email, name, first_name, last_name, company, job_title, phone, city,
            state, country, timezone, custom_fields, tracking_consent, created_at, updated_at)
        SELECT r.id, $1::uuid, r.email, r.name, r.first_name, r.last_name, r.company, r.job_title, r.phone, r.city,
            r.state, r.country, r.timezone, r.custom_fields, r.tracking_consent, $2::timestamptz, $2::timestamptz
        FROM {rows r(id uuid, email text, name text, first_name text, last_name text, company text, job_title text,
            phone text, city text, state text, country text, timezone text, custom_fields jsonb, tracking_consent boolean)}
        WHERE true
        ON CONFLICT (tenant_id, lower(email)) DO UPDATE SET name = excluded.name, first_name = excluded.first_name,
            last_name = excluded.last_name, company = excluded.company, job_title = excluded.job_title,
            phone = excluded.phone, city = excluded.city, state = excluded.state, country = excluded.country,
            timezone = excluded.timezone, custom_fields = excluded.custom_fields,
            tracking_consent = excluded.tracking_consent, updated_at = excluded.updated_at
        RETURNING id";
    ENROLL = "INSERT INTO campaign_leads (id, tenant_id, campaign_id, lead_id, next_step_order, due_at, created_at, updated_at)
        SELECT r.id, $1::uuid, $2::uuid, r.lead_id, $3::bigint, $4::timestamptz, $5::timestamptz, $5::timestamptz
        FROM {rows r(id uuid, lead_id uuid)}
        WHERE true ON CONFLICT (campaign_id, lead_id) DO NOTHING RETURNING id";
}

/// A lead as a list gives it. See `domain::lead::Lead` for the fields.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields of `domain::lead::Lead`, as they come from a list")]
pub struct NewLead {
    pub email: String,
    pub name: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub company: Option<String>,
    pub job_title: Option<String>,
    pub phone: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub country: Option<String>,
    pub timezone: Option<String>,
    pub custom_fields: serde_json::Map<String, serde_json::Value>,
    pub tracking_consent: Option<bool>,
}

impl TenantStore {
    /// Inserts new leads, updates known ones by address, and enrolls them all; how many enrollments are new.
    ///
    /// One transaction for the whole batch (some thousands). `first` is where a new enrollment starts; a lead who is
    /// enrolled already keeps its place. A batch must not hold one address twice.
    ///
    /// # Errors
    /// `NotFound` where the campaign is not this tenant's, or the database; nothing of the batch is written then.
    pub async fn import_leads(
        &self,
        campaign_id: CampaignId,
        leads: Vec<NewLead>,
        first: Due,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<u64> {
        let rows: Rows = leads
            .into_iter()
            .map(|lead| {
                values![
                    new_id(),
                    lead.email,
                    lead.name,
                    lead.first_name,
                    lead.last_name,
                    lead.company,
                    lead.job_title,
                    lead.phone,
                    lead.city,
                    lead.state,
                    lead.country,
                    lead.timezone,
                    serde_json::Value::Object(lead.custom_fields),
                    lead.tracking_consent.unwrap_or(true),
                ]
            })
            .collect();
        let mut tx = self.db.begin(Access::Write).await?;
        if tx.query_opt(&OWN_CAMPAIGN, values![self.tenant_id, campaign_id]).await?.is_none() {
            return Err(Error::NotFound { what: "campaign", id: campaign_id.to_string() });
        }
        let found = tx.query_rows(&UPSERT, rows, values![self.tenant_id, now]).await?;
        let enrollments: Rows = found
            .iter()
            .map(|row| Ok(values![new_id(), row.get::<LeadId>("id")?]))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .collect();
        let params = values![self.tenant_id, campaign_id, first.step_order, first.at, now];
        let enrolled = tx.query_rows(&ENROLL, enrollments, params).await?;
        tx.commit().await?;
        Ok(enrolled.len() as u64)
    }
}
