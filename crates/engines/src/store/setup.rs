//! Setting up a tenant's campaign in one transaction: tenant, company, accounts, templates, campaign, steps.
//!
//! Found by name (accounts by address), so running it again takes up what changed and doubles nothing. Leads come
//! apart, in batches (`leads`). To add a part: its struct here, an upsert, a line in `apply_setup`.

use domain::campaign::CampaignSettings;
use domain::email_account::SmtpSettings;
use domain::ids::{CampaignId, CompanyId, DomainId, EmailAccountId, StepId, TemplateId, TenantId};
use domain::step::{Condition, StepType};
use domain::time::{Timestamp, Zone};
use uuid::Uuid;

use super::Store;
use crate::db::{Access, Tx};
use crate::error::{Error, Result};
use crate::{statements, values};

statements! {
    TENANT = "INSERT INTO tenants (id, name, max_per_second, created_at, updated_at) VALUES ($1, $2, $5, $3, $3)
        ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at,
            max_per_second = CASE WHEN $4::boolean THEN tenants.max_per_second ELSE excluded.max_per_second END RETURNING id";
    COMPANY = "INSERT INTO companies (id, tenant_id, name, address, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
        ON CONFLICT (tenant_id, name) DO UPDATE SET address = excluded.address, updated_at = excluded.updated_at RETURNING id";
    DOMAIN = "INSERT INTO domains (id, tenant_id, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
        ON CONFLICT (tenant_id, name) DO UPDATE SET updated_at = excluded.updated_at RETURNING id";
    FIND_ACCOUNT = "SELECT id FROM email_accounts WHERE tenant_id = $1 AND lower(email) = lower($2::text)";
    INSERT_ACCOUNT = "INSERT INTO email_accounts (id, tenant_id, domain_id, email, from_name, reply_to, smtp_settings,
            daily_limit, min_gap_seconds, warmup_started_at, timezone, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
    // A new password or server is a reason to try a stopped account again.
    UPDATE_ACCOUNT = "UPDATE email_accounts SET from_name = $3, reply_to = $4, smtp_settings = COALESCE($5, smtp_settings), daily_limit = $6,
            min_gap_seconds = $7, warmup_started_at = $8, timezone = $9, updated_at = $10, backoff_until = NULL,
            status_reason = CASE WHEN status IN ('authentication_failed', 'paused') THEN NULL ELSE status_reason END,
            status = CASE WHEN status = 'authentication_failed' OR (status = 'paused' AND status_reason IS NOT NULL)
                THEN 'active' ELSE status END
        WHERE tenant_id = $1 AND id = $2";
    FIND_CAMPAIGN = "SELECT id, status FROM campaigns WHERE tenant_id = $1 AND name = $2";
    INSERT_CAMPAIGN = "INSERT INTO campaigns (id, tenant_id, company_id, name, description, scheduled_at, settings, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    UPDATE_CAMPAIGN = "UPDATE campaigns SET company_id = $3, description = $4, scheduled_at = COALESCE($5, scheduled_at),
            settings = $6, next_plan_at = NULL, updated_at = $7
        WHERE tenant_id = $1 AND id = $2";
    LIST_STEPS = "SELECT id, step_order, step_type, template_id FROM campaign_sequence_steps
        WHERE tenant_id = $1 AND campaign_id = $2 AND is_active ORDER BY step_order";
    TEMPLATE = "INSERT INTO templates (id, tenant_id, name, subject, content, content_text, is_started, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, true, $7, $7)
        ON CONFLICT (tenant_id, name) DO UPDATE SET subject = excluded.subject, content = excluded.content,
            content_text = excluded.content_text, updated_at = excluded.updated_at,
            version = templates.version + CASE WHEN templates.subject = excluded.subject
                AND templates.content = excluded.content
                AND COALESCE(templates.content_text, '') = COALESCE(excluded.content_text, '') THEN 0 ELSE 1 END
        RETURNING id";
    STEP = "INSERT INTO campaign_sequence_steps (id, tenant_id, campaign_id, step_order, step_type, email_account_id,
            template_id, wait_duration_hours, wait_until_date, condition_type, condition_value, condition_url,
            condition_within_hours, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
        ON CONFLICT (campaign_id, step_order) DO UPDATE SET step_type = excluded.step_type,
            email_account_id = excluded.email_account_id, template_id = excluded.template_id,
            wait_duration_hours = excluded.wait_duration_hours, wait_until_date = excluded.wait_until_date,
            condition_type = excluded.condition_type, condition_value = excluded.condition_value,
            condition_url = excluded.condition_url, condition_within_hours = excluded.condition_within_hours, is_active = true,
            updated_at = excluded.updated_at
        RETURNING id";
    SWITCH_OFF_STEPS = "UPDATE campaign_sequence_steps SET is_active = false, updated_at = $4
        WHERE tenant_id = $1 AND campaign_id = $2 AND step_order > $3";
    REOPEN_ENROLLMENTS = "UPDATE campaign_leads SET status = 'active', due_at = COALESCE(last_sent_at, $4), updated_at = $4
        WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'completed' AND next_step_order < $3";
    POOL = "INSERT INTO campaign_email_accounts (campaign_id, email_account_id, tenant_id, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $4) ON CONFLICT (campaign_id, email_account_id) DO NOTHING";
    LEAVE_POOL = "DELETE FROM campaign_email_accounts WHERE tenant_id = $1 AND campaign_id = $2 AND NOT (email_account_id {any $3})";
}

/// All that a campaign needs besides its leads.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The tenant's name.
    pub tenant: String,
    /// How many messages a second it sends over all its campaigns.
    pub tenant_rate: TenantRate,
    /// The company's name.
    pub company: String,
    /// Its postal address for the footer.
    pub company_address: String,
    /// The rotation pool.
    pub accounts: Vec<AccountSetup>,
    /// The campaign's name.
    pub campaign: String,
    /// What it is for.
    pub description: Option<String>,
    /// When it starts; none = when it is started.
    pub scheduled_at: Option<Timestamp>,
    /// Its settings.
    pub settings: CampaignSettings,
    /// Its steps, in order.
    pub steps: Vec<StepSetup>,
    /// Whether a changed number or kind of steps is meant.
    pub update: bool,
}

/// What a setup says of its tenant's rate, which all its campaigns share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum TenantRate {
    /// Nothing: the one that is stored stays.
    #[default]
    Keep,
    /// There is none.
    None,
    /// At most so many messages a second; above 0.
    PerSecond(f64),
}

/// An email account of a setup.
#[derive(Clone, Debug)]
pub struct AccountSetup {
    /// Address in From.
    pub email: String,
    /// Its domain.
    pub domain: String,
    /// Name in From.
    pub from_name: Option<String>,
    /// Address in Reply-To.
    pub reply_to: Option<String>,
    /// Most messages a day.
    pub daily_limit: Option<u32>,
    /// Least seconds between two messages.
    pub min_gap_seconds: u32,
    /// When warming up began.
    pub warmup_started_at: Option<Timestamp>,
    /// Zone of its days.
    pub timezone: Zone,
    /// Whether the server that is given serves one process alone: an account that is there keeps its own.
    pub keeps_server: bool,
}

/// A step of a setup.
#[derive(Clone, Debug)]
pub struct StepSetup {
    /// What it does.
    pub step_type: StepType,
    /// Elapsed hours after the previous message.
    pub wait_hours: f64,
    /// Not before this time.
    pub wait_until: Option<Timestamp>,
    /// What a condition asks.
    pub condition: Condition,
    /// Whether a false condition ends the enrollment.
    pub stop_if_false: bool,
    /// Index into `accounts` of the account that sends this step.
    pub account: Option<usize>,
    /// Subject, HTML and text templates of an email step.
    pub template: Option<TemplateSetup>,
}

/// Sources of a message.
#[derive(Clone, Debug)]
pub struct TemplateSetup {
    /// Subject.
    pub subject: String,
    /// HTML part.
    pub html: String,
    /// Text part; derived from the HTML where it is missing.
    pub text: Option<String>,
}

/// What a setup found or made.
#[derive(Clone, Debug)]
pub struct SetupReport {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The campaign.
    pub campaign_id: CampaignId,
}

/// Why a setup was refused; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The sequence has another shape than the one that is under way.
    #[error(
        "the campaign `{campaign}` has the steps {had}, the file has {has} (hint: `--update` takes the new sequence; leads who finished go on with added steps)"
    )]
    StepsChanged {
        /// The campaign's name.
        campaign: String,
        /// Kinds of the stored steps.
        had: String,
        /// Kinds of the given ones.
        has: String,
    },
    /// A campaign that a person ended.
    #[error("the campaign `{0}` is {1} (hint: give the campaign another name)")]
    Ended(String, String),
    /// The database.
    #[error(transparent)]
    Database(#[from] Error),
}

/// Gives an account's stored settings: the password is sealed to tenant and row, so both must be known.
pub type Seal<'a> = dyn Fn(TenantId, EmailAccountId, usize) -> SmtpSettings + Send + Sync + 'a;

struct Scope<'a> {
    setup: &'a Setup,
    new_id: &'a (dyn Fn() -> Uuid + Send + Sync),
    now: Timestamp,
    tenant_id: TenantId,
}

impl Store {
    /// Finds or makes everything in one transaction.
    ///
    /// # Errors
    /// `StepsChanged`, `Ended`, or the database; nothing is written then.
    pub async fn apply_setup(
        &self,
        setup: &Setup,
        seal: &Seal<'_>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<SetupReport, SetupError> {
        let mut tx = self.db.begin(Access::Write).await?;
        let rate = if let TenantRate::PerSecond(rate) = setup.tenant_rate { Some(rate) } else { None };
        let keeps_rate = setup.tenant_rate == TenantRate::Keep;
        let tenant = values![new_id(), &setup.tenant, now, keeps_rate, rate];
        let tenant_id: TenantId = one(&mut tx, &TENANT, tenant).await?;
        let scope = Scope { setup, new_id, now, tenant_id };
        let params = values![new_id(), tenant_id, &setup.company, &setup.company_address, now];
        let company_id: CompanyId = one(&mut tx, &COMPANY, params).await?;
        let mut accounts = Vec::new();
        for index in 0..setup.accounts.len() {
            accounts.push(upsert_account(&mut tx, &scope, index, seal).await?);
        }
        let campaign_id = upsert_campaign(&mut tx, &scope, company_id).await?;
        upsert_steps(&mut tx, &scope, campaign_id, &accounts).await?;
        for account in &accounts {
            tx.execute(&POOL, values![campaign_id, *account, tenant_id, now]).await?;
        }
        let pool: Vec<Uuid> = accounts.iter().map(|id| id.uuid()).collect();
        tx.execute(&LEAVE_POOL, values![tenant_id, campaign_id, pool]).await?;
        tx.commit().await?;
        Ok(SetupReport { tenant_id, campaign_id })
    }
}

async fn one<T: crate::value::FromValue>(
    tx: &mut Tx,
    statement: &'static crate::dialect::Statement,
    params: Vec<crate::value::Value>,
) -> Result<T> {
    let row = tx.query_opt(statement, params).await?;
    row.ok_or(Error::Stale { what: statement.name, expected: 1, found: 0 })?.get("id")
}

async fn upsert_account(tx: &mut Tx, scope: &Scope<'_>, index: usize, seal: &Seal<'_>) -> Result<EmailAccountId> {
    let account = &scope.setup.accounts[index];
    let tenant_id = scope.tenant_id;
    let params = values![(scope.new_id)(), tenant_id, &account.domain, scope.now];
    let domain_id: DomainId = one(tx, &DOMAIN, params).await?;
    let found = tx.query_opt(&FIND_ACCOUNT, values![tenant_id, &account.email]).await?;
    let known: Option<EmailAccountId> = found.map(|row| row.get("id")).transpose()?;
    let id = known.unwrap_or_else(|| EmailAccountId::from_uuid((scope.new_id)()));
    let smtp = serde_json::to_value(seal(tenant_id, id, index)).unwrap_or_default();
    let (limit, gap) = (account.daily_limit, account.min_gap_seconds);
    let (from_name, reply_to) = (account.from_name.clone(), account.reply_to.clone());
    let (warmup, zone) = (account.warmup_started_at, account.timezone.name());
    if known.is_some() {
        let smtp = (!account.keeps_server).then_some(smtp);
        let params = values![tenant_id, id, from_name, reply_to, smtp, limit, gap, warmup, zone, scope.now];
        tx.execute(&UPDATE_ACCOUNT, params).await?;
    } else {
        let params = values![
            id,
            tenant_id,
            domain_id,
            &account.email,
            from_name,
            reply_to,
            smtp,
            limit,
            gap,
            warmup,
            zone,
            scope.now
        ];
        tx.execute(&INSERT_ACCOUNT, params).await?;
    }
    Ok(id)
}

async fn upsert_campaign(tx: &mut Tx, scope: &Scope<'_>, company_id: CompanyId) -> Result<CampaignId, SetupError> {
    let setup = scope.setup;
    let settings = serde_json::to_value(&setup.settings).unwrap_or_default();
    let description = setup.description.clone();
    let Some(row) = tx.query_opt(&FIND_CAMPAIGN, values![scope.tenant_id, &setup.campaign]).await? else {
        let id = CampaignId::from_uuid((scope.new_id)());
        let params = values![
            id,
            scope.tenant_id,
            company_id,
            &setup.campaign,
            description,
            setup.scheduled_at,
            settings,
            scope.now
        ];
        tx.execute(&INSERT_CAMPAIGN, params).await?;
        return Ok(id);
    };
    let status: domain::campaign::CampaignStatus = row.get("status")?;
    if matches!(status, domain::campaign::CampaignStatus::Cancelled | domain::campaign::CampaignStatus::Archived) {
        return Err(SetupError::Ended(setup.campaign.clone(), status.to_string()));
    }
    let id: CampaignId = row.get("id")?;
    let params = values![scope.tenant_id, id, company_id, description, setup.scheduled_at, settings, scope.now];
    tx.execute(&UPDATE_CAMPAIGN, params).await?;
    Ok(id)
}

async fn upsert_steps(
    tx: &mut Tx,
    scope: &Scope<'_>,
    campaign_id: CampaignId,
    accounts: &[EmailAccountId],
) -> Result<(), SetupError> {
    let setup = scope.setup;
    let stored = tx.query(&LIST_STEPS, values![scope.tenant_id, campaign_id]).await?;
    let had: Vec<StepType> = stored.iter().map(|row| row.get("step_type")).collect::<Result<_>>()?;
    let has: Vec<StepType> = setup.steps.iter().map(|step| step.step_type).collect();
    if !had.is_empty() && had != has && !setup.update {
        let words = |kinds: &[StepType]| kinds.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", ");
        return Err(SetupError::StepsChanged { campaign: setup.campaign.clone(), had: words(&had), has: words(&has) });
    }
    for (order, step) in (1_u32..).zip(&setup.steps) {
        let template_id = match &step.template {
            Some(template) => Some(upsert_template(tx, scope, order, template).await?),
            None => None,
        };
        let account = step.account.and_then(|index| accounts.get(index)).copied();
        let stop = step.stop_if_false.then_some("stop");
        let params = values![
            (scope.new_id)(),
            scope.tenant_id,
            campaign_id,
            order,
            step.step_type,
            account,
            template_id,
            step.wait_hours,
            step.wait_until,
            step.condition.asks,
            stop,
            step.condition.url_part.clone(),
            step.condition.within.map(|within| within.as_secs_f64() / 3600.0),
            scope.now
        ];
        let _id: StepId = one(tx, &STEP, params).await?;
    }
    let last = u32::try_from(has.len()).unwrap_or(u32::MAX);
    tx.execute(&SWITCH_OFF_STEPS, values![scope.tenant_id, campaign_id, last, scope.now]).await?;
    if had.len() < has.len() && !had.is_empty() {
        tx.execute(&REOPEN_ENROLLMENTS, values![scope.tenant_id, campaign_id, last, scope.now]).await?;
    }
    Ok(())
}

async fn upsert_template(tx: &mut Tx, scope: &Scope<'_>, order: u32, template: &TemplateSetup) -> Result<TemplateId> {
    let name = format!("{} / step {order}", scope.setup.campaign);
    let params = values![
        (scope.new_id)(),
        scope.tenant_id,
        name,
        &template.subject,
        &template.html,
        template.text.clone(),
        scope.now
    ];
    one(tx, &TEMPLATE, params).await
}
