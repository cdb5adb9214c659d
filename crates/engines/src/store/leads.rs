//! Leads and their enrollment, in bulk.
//!
//! Not responsible for reading files. To add a lead's field: the struct, the statement and the migration.

use std::collections::HashSet;

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::first_step::FirstStep;
use domain::ids::{CampaignId, LeadId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::campaigns::go_on;
use super::{TenantStore, rounds};
use crate::db::{Access, LockKind, Tx};
use crate::error::{Error, Result};
use crate::value::{Rows, Value};
use crate::{statements, values};

/// An empty cell says nothing, so what is known stays; so does the status: a list must not revive who unsubscribed.
macro_rules! upsert {
    ($consent:literal) => {
        concat!(
            "INSERT INTO leads (id, tenant_id, email, name, first_name, last_name, company, job_title, phone, city,
            state, country, timezone, custom_fields, tracking_consent, created_at, updated_at)
        SELECT r.id, $1::uuid, r.email, r.name, r.first_name, r.last_name, r.company, r.job_title, r.phone, r.city,
            r.state, r.country, r.timezone, r.custom_fields, r.tracking_consent, $2::timestamptz, $2::timestamptz
        FROM {rows r(id uuid, email text, name text, first_name text, last_name text, company text, job_title text,
            phone text, city text, state text, country text, timezone text, custom_fields jsonb, tracking_consent boolean)}
        WHERE true
        ON CONFLICT (tenant_id, lower(email)) DO UPDATE SET name = COALESCE(excluded.name, leads.name),
            first_name = COALESCE(excluded.first_name, leads.first_name),
            last_name = COALESCE(excluded.last_name, leads.last_name),
            company = COALESCE(excluded.company, leads.company),
            job_title = COALESCE(excluded.job_title, leads.job_title), phone = COALESCE(excluded.phone, leads.phone),
            city = COALESCE(excluded.city, leads.city), state = COALESCE(excluded.state, leads.state),
            country = COALESCE(excluded.country, leads.country), timezone = COALESCE(excluded.timezone, leads.timezone),
            custom_fields = {merge leads.custom_fields, excluded.custom_fields},
            tracking_consent = ", $consent, ", updated_at = excluded.updated_at
        WHERE (leads.name, leads.first_name, leads.last_name, leads.company, leads.job_title, leads.phone, leads.city,
                leads.state, leads.country, leads.timezone, leads.custom_fields, leads.tracking_consent)
            IS DISTINCT FROM (COALESCE(excluded.name, leads.name), COALESCE(excluded.first_name, leads.first_name),
                COALESCE(excluded.last_name, leads.last_name), COALESCE(excluded.company, leads.company),
                COALESCE(excluded.job_title, leads.job_title), COALESCE(excluded.phone, leads.phone),
                COALESCE(excluded.city, leads.city), COALESCE(excluded.state, leads.state),
                COALESCE(excluded.country, leads.country), COALESCE(excluded.timezone, leads.timezone),
                {merge leads.custom_fields, excluded.custom_fields}, ", $consent, ")
        RETURNING id"
        )
    };
}

statements! {
    CAMPAIGN_STATUS = "SELECT status, settings FROM campaigns WHERE tenant_id = $1 AND id = $2";
    UPSERT = upsert!("excluded.tracking_consent");
    UPSERT_KEEPING_CONSENT = upsert!("leads.tracking_consent");
    // PostgreSQL's `lower` alone knows which row an address means. Not a join: each address is one look-up in the index.
    LEAD_IDS = "SELECT (SELECT l.id FROM leads l WHERE l.tenant_id = $1::uuid AND l.address = lower(r.email)) AS id
        FROM {rows r(email text)}";
    ENROLL = "INSERT INTO campaign_leads (id, tenant_id, campaign_id, lead_id, next_step_order, due_at, created_at, updated_at)
        SELECT r.id, $1::uuid, $2::uuid, r.lead_id, $3::bigint, r.due_at, $4::timestamptz, $4::timestamptz
        FROM {rows r(id uuid, lead_id uuid, due_at timestamptz)}
        WHERE true ON CONFLICT (campaign_id, lead_id) DO NOTHING";
    FIND_ENROLLED = "SELECT l.id FROM leads l JOIN campaign_leads e ON e.lead_id = l.id AND e.tenant_id = l.tenant_id
        WHERE l.tenant_id = $1 AND e.campaign_id = $2 AND (l.id = $3::uuid OR l.address = lower($4::text))";
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

/// What became of a batch of leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Leads that were not there.
    pub new: u64,
    /// Leads of whom something changed.
    pub updated: u64,
    /// Leads that were there just so; nothing was written for them.
    pub unchanged: u64,
    /// Enrollments that were not there.
    pub enrolled: u64,
    /// Enrollments that had finished, and begin a new round.
    pub began_again: u64,
}

impl std::ops::AddAssign for Imported {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.enrolled += other.enrolled;
        self.began_again += other.began_again;
    }
}

impl TenantStore {
    /// Inserts new leads, updates known ones by address, and enrolls them all in a campaign where one is given.
    ///
    /// One transaction for the whole batch (some thousands). The campaign comes with where a new enrollment starts; a
    /// lead who is enrolled already keeps its place, unless it has finished and the campaign says that it begins again. A
    /// campaign that was completed goes on with its new leads. A batch must not hold one address twice.
    ///
    /// # Errors
    /// `NotFound` where the campaign is not this tenant's, `Stale` where it was cancelled or archived, or the
    /// database; nothing of the batch is written then.
    pub async fn import_leads(
        &self,
        campaign: Option<&FirstStep>,
        mut leads: Vec<NewLead>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<Imported> {
        // Two imports at once must lock rows in one order.
        leads.sort_unstable_by(|a, b| a.email.cmp(&b.email));
        let mut tx = self.db.begin(Access::Write).await?;
        let locked = match campaign {
            Some(first) => Some(self.lock_campaign(&mut tx, first.campaign_id).await?),
            None => None,
        };
        let rows: Vec<(Uuid, NewLead)> = leads.into_iter().map(|lead| (new_id(), lead)).collect();
        let written = self.upsert(&mut tx, &rows, now).await?;
        let is_new = |id: &Uuid| written.contains(id);
        let new = rows.iter().filter(|(id, _)| is_new(id)).count() as u64;
        let mut imported = Imported {
            new,
            updated: written.len() as u64 - new,
            unchanged: (rows.len() - written.len()) as u64,
            ..Imported::default()
        };
        if let (Some(first), Some((status, settings))) = (campaign, locked) {
            let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(id, _)| is_new(id));
            let new = new.into_iter().map(|(id, _)| LeadId::from_uuid(id));
            let known = self.lead_ids(&mut tx, known.into_iter().map(|(_, lead)| lead.email)).await?;
            let began = rounds::of_known(&mut tx, (self.tenant_id, first, &settings), &known, now).await?;
            imported.began_again = began;
            imported.enrolled = self.enroll(&mut tx, first, new.chain(known), new_id, now).await?;
            if imported.enrolled + imported.began_again > 0 {
                go_on(&mut tx, (self.tenant_id, first.campaign_id), status, now).await?;
            }
        }
        tx.commit().await?;
        Ok(imported)
    }

    /// Ids of leads that are there, by their addresses.
    async fn lead_ids(&self, tx: &mut Tx, addresses: impl Iterator<Item = String>) -> Result<Vec<LeadId>> {
        let addresses: Rows = addresses.map(|address| values![address]).collect();
        let found = tx.query_rows(&LEAD_IDS, addresses, values![self.tenant_id]).await?;
        found.iter().map(|row| row.get("id")).collect()
    }

    /// How many of the leads were not enrolled before.
    async fn enroll(
        &self,
        tx: &mut Tx,
        first: &FirstStep,
        leads: impl Iterator<Item = LeadId>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<u64> {
        let enrollments: Rows = leads.map(|lead| values![new_id(), lead, first.due_of(lead).at]).collect();
        let params = values![self.tenant_id, first.campaign_id, first.due.step_order, now];
        tx.execute_rows(&ENROLL, enrollments, params).await
    }

    /// The lead of this id or address, if it is enrolled in the campaign.
    ///
    /// # Errors
    /// The database.
    pub async fn find_enrolled_lead(&self, campaign_id: CampaignId, id_or_address: &str) -> Result<Option<LeadId>> {
        let id: Option<Uuid> = id_or_address.parse().ok();
        let params = values![self.tenant_id, campaign_id, id, id_or_address];
        self.db.read(&FIND_ENROLLED, params).await?.first().map(|row| row.get("id")).transpose()
    }

    /// Shared with other imports and with planning, so that nobody completes or cancels the campaign meanwhile.
    async fn lock_campaign(&self, tx: &mut Tx, id: CampaignId) -> Result<(CampaignStatus, CampaignSettings)> {
        tx.lock(LockKind::Campaign, false, [id.uuid()]).await?;
        let row = tx.query_opt(&CAMPAIGN_STATUS, values![self.tenant_id, id]).await?;
        let row = row.ok_or_else(|| Error::NotFound { what: "campaign", id: id.to_string() })?;
        match row.get("status")? {
            CampaignStatus::Cancelled | CampaignStatus::Archived => {
                Err(Error::Stale { what: "the campaign", expected: 1, found: 0 })
            }
            // Settings that cannot be read begin nothing anew; whoever plans says what is wrong with them.
            status => Ok((status, serde_json::from_value(row.get("settings")?).unwrap_or_default())),
        }
    }

    /// Ids of the rows that were inserted or changed.
    async fn upsert(&self, tx: &mut Tx, rows: &[(Uuid, NewLead)], now: Timestamp) -> Result<HashSet<Uuid>> {
        let mut written = HashSet::with_capacity(rows.len());
        for (statement, says_consent) in [(&UPSERT, true), (&UPSERT_KEEPING_CONSENT, false)] {
            let part = rows.iter().filter(|(_, lead)| lead.tracking_consent.is_some() == says_consent);
            let part: Rows = part.map(|(id, lead)| lead_row(*id, lead)).collect();
            for row in tx.query_rows(statement, part, values![self.tenant_id, now]).await? {
                written.insert(row.get::<LeadId>("id")?.uuid());
            }
        }
        Ok(written)
    }
}

fn lead_row(id: Uuid, lead: &NewLead) -> Vec<Value> {
    values![
        id,
        &lead.email,
        lead.name.clone(),
        lead.first_name.clone(),
        lead.last_name.clone(),
        lead.company.clone(),
        lead.job_title.clone(),
        lead.phone.clone(),
        lead.city.clone(),
        lead.state.clone(),
        lead.country.clone(),
        lead.timezone.clone(),
        serde_json::Value::Object(lead.custom_fields.clone()),
        lead.tracking_consent.unwrap_or(true),
    ]
}
