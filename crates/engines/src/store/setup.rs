//! Setting up a tenant's campaign in one transaction: tenant, company, accounts, templates, campaign, steps.
//!
//! Found by name (accounts by address), so running it again takes up what changed and doubles nothing. Leads come
//! apart, in batches (`leads`). A campaign that is there is edited under its exclusive lock: its steps by `sequence`, its
//! leads and planned mails by `places` and `starts`; the variants of its steps stand in `variants`. To add a part: its struct here, an upsert, a line in `apply_setup`.

pub(super) mod places;
pub(super) mod sequence;
pub(super) mod starts;
pub(super) mod variants;

use std::collections::BTreeSet;

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::email_account::SmtpSettings;
use domain::ids::{CampaignId, CompanyId, DomainId, EmailAccountId, TenantId};
use domain::pace::ProviderLimit;
use domain::rounds::Rounds;
use domain::step::{Condition, StepType};
use domain::time::{Timestamp, Zone};
use domain::trial::{Rule, Variant};
use uuid::Uuid;

use self::places::Circumstances;
use self::sequence::Target;
use super::apply::revive_sends;
use super::dot::days::wake_accounts;
use super::{Store, rounds, trials};
use crate::db::{Access, LockKind, Tx};
use crate::dialect::Statement;
use crate::error::{Error, Result};
use crate::value::{FromValue, Value};
use crate::{statements, values};

statements! {
    TENANT = "INSERT INTO tenants (id, name, max_per_second, provider_limits, created_at, updated_at) VALUES ($1, $2, $5, $7, $3, $3)
        ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at,
            max_per_second = CASE WHEN $4::boolean THEN tenants.max_per_second ELSE excluded.max_per_second END,
            provider_limits = CASE WHEN $6::boolean THEN tenants.provider_limits ELSE excluded.provider_limits END RETURNING id";
    // What is made of it is made anew when it changes: by a new address, not by each file that names it.
    COMPANY = "INSERT INTO companies (id, tenant_id, name, address, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
        ON CONFLICT (tenant_id, name) DO UPDATE SET address = excluded.address,
            updated_at = CASE WHEN companies.address = excluded.address THEN companies.updated_at ELSE excluded.updated_at END
        RETURNING id";
    DOMAIN = "INSERT INTO domains (id, tenant_id, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
        ON CONFLICT (tenant_id, name) DO UPDATE SET updated_at = excluded.updated_at RETURNING id";
    FIND_ACCOUNT = "SELECT id FROM email_accounts WHERE tenant_id = $1 AND lower(email) = lower($2::text)";
    INSERT_ACCOUNT = "INSERT INTO email_accounts (id, tenant_id, domain_id, email, from_name, reply_to, smtp_settings,
            daily_limit, min_gap_seconds, warmup_started_at, timezone, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
    IS_STOPPED = "SELECT id FROM email_accounts WHERE tenant_id = $1 AND id = $2
            AND (status = 'authentication_failed' OR (status = 'paused' AND status_reason IS NOT NULL))";
    // A new password or server is a reason to try a stopped account again.
    UPDATE_ACCOUNT = "UPDATE email_accounts SET from_name = $3, reply_to = $4, smtp_settings = COALESCE($5, smtp_settings),
            daily_limit = CASE WHEN $11::boolean THEN daily_limit ELSE $6::bigint END, min_gap_seconds = COALESCE($7, min_gap_seconds),
            warmup_started_at = CASE WHEN $12::boolean THEN warmup_started_at ELSE $8::timestamptz END,
            timezone = COALESCE($9, timezone), updated_at = $10, backoff_until = NULL,
            status_reason = CASE WHEN status IN ('authentication_failed', 'paused') THEN NULL ELSE status_reason END,
            status = CASE WHEN status = 'authentication_failed' OR (status = 'paused' AND status_reason IS NOT NULL)
                THEN 'active' ELSE status END
        WHERE tenant_id = $1 AND id = $2";
    // Before any of them is changed, as planning and the gate lock them.
    LOCK_ACCOUNTS = "SELECT a.id FROM email_accounts a WHERE a.tenant_id = $1 AND a.id {any $2} ORDER BY a.id {for update of a}";
    FIND_CAMPAIGN = "SELECT id FROM campaigns WHERE tenant_id = $1 AND name = $2";
    CAMPAIGN = "SELECT status, settings, scheduled_at FROM campaigns WHERE tenant_id = $1 AND id = $2";
    INSERT_CAMPAIGN = "INSERT INTO campaigns (id, tenant_id, company_id, name, description, scheduled_at, settings, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    UPDATE_CAMPAIGN = "UPDATE campaigns SET company_id = $3, description = $4, scheduled_at = COALESCE($5, scheduled_at),
            settings = $6, next_plan_at = NULL, updated_at = $7
        WHERE tenant_id = $1 AND id = $2 AND status NOT IN ('cancelled', 'archived') RETURNING scheduled_at";
    POOL = "INSERT INTO campaign_email_accounts (campaign_id, email_account_id, tenant_id, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $4) ON CONFLICT (campaign_id, email_account_id) DO NOTHING";
    LEAVE_POOL = "DELETE FROM campaign_email_accounts WHERE tenant_id = $1 AND campaign_id = $2 AND NOT (email_account_id {any $3})";
}

/// How often a setup is tried that meets another transaction in a deadlock or a race for one row.
const TRIES: u32 = 5;

/// All that a campaign needs besides its leads.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The tenant's name.
    pub tenant: String,
    /// How many messages a second it sends over all its campaigns.
    pub tenant_rate: TenantRate,
    /// How much it sends to single providers at most; none = what is stored stays.
    pub provider_limits: Option<Vec<ProviderLimit>>,
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
    /// Whether steps that are added, left out or moved are meant.
    pub update: bool,
    /// Whether leads who have finished go on with steps that stand behind their place now.
    pub reopen: bool,
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
    /// Address in From, by which the account is found.
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
    /// What an account that is there keeps, whatever is said here: that is for a new one.
    pub keeps: BTreeSet<Kept>,
}

/// What an account may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// `smtp_settings`: those that are given serve one process alone.
    Server,
    /// `daily_limit`: nothing is said of it, as of all that follow. Another campaign of the account may have set it.
    DailyLimit,
    /// `min_gap_seconds`.
    MinGap,
    /// `warmup_started_at`.
    Warmup,
    /// `timezone`.
    Zone,
}

/// A step of a setup.
#[derive(Clone, Debug)]
pub struct StepSetup {
    /// What its author calls it: by that it is known again, whatever else changes.
    pub key: Option<String>,
    /// Whether it is in use; a mail that is not is skipped and shown.
    pub is_active: bool,
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
    /// Subject, HTML and text templates of an email step; where it has variants, those of the first.
    pub template: Option<TemplateSetup>,
    /// Its variants, if it has some.
    pub trial: Option<TrialSetup>,
}

/// Several texts of one email step.
#[derive(Clone, Debug)]
pub struct TrialSetup {
    /// Two or more, in order, each with a key of its own.
    pub variants: Vec<VariantSetup>,
    /// How the winner is found; none = by a person.
    pub rule: Option<Rule>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct VariantSetup {
    /// Its key and weight.
    pub variant: Variant,
    /// Its sources.
    pub template: TemplateSetup,
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
    /// When the campaign starts, or started; none = a person has to start it.
    pub scheduled_at: Option<Timestamp>,
    /// Leads who have finished and would go on with steps that stand behind their place now, were they reopened.
    pub finished: u64,
}

/// Why a setup was refused; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The sequence is another than the one that is under way.
    #[error("the steps of the campaign `{campaign}` would change: {change} (hint: `--update` takes the new sequence)")]
    StepsChanged {
        /// The campaign's name.
        campaign: String,
        /// How they would.
        change: String,
    },
    /// It cannot be told which mail is which.
    #[error(
        "step {step} of the campaign `{campaign}` may be a changed one or a new one (hint: give the steps a `key`, or change texts in one run and the sequence in another)"
    )]
    StepsUnclear {
        /// The campaign's name.
        campaign: String,
        /// Number of the step in the file.
        step: usize,
    },
    /// The variant that everybody gets is not given any more.
    #[error(
        "step {step} of the campaign `{campaign}` leaves out the variant `{variant}`, which has won (hint: keep it, or leave out all variants to send everybody one text)"
    )]
    WinnerLeftOut {
        /// The campaign's name.
        campaign: String,
        /// Number of the step in the file.
        step: usize,
        /// The winner's key.
        variant: String,
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
    /// Finds or makes everything in one transaction; where that meets another one, it is tried again a few times.
    ///
    /// # Errors
    /// `StepsChanged`, `StepsUnclear`, `WinnerLeftOut`, `Ended`, or the database; nothing is written then.
    pub async fn apply_setup(
        &self,
        setup: &Setup,
        seal: &Seal<'_>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<SetupReport, SetupError> {
        for _ in 1..TRIES {
            match self.apply_setup_once(setup, seal, new_id, now).await {
                // Whoever met it waits for nothing of ours any more, so there is nothing to wait for.
                Err(SetupError::Database(Error::Conflict { .. })) => {}
                other => return other,
            }
        }
        self.apply_setup_once(setup, seal, new_id, now).await
    }

    async fn apply_setup_once(
        &self,
        setup: &Setup,
        seal: &Seal<'_>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<SetupReport, SetupError> {
        let mut tx = self.db.begin(Access::Write).await?;
        let rate = if let TenantRate::PerSecond(rate) = setup.tenant_rate { Some(rate) } else { None };
        let keeps_rate = setup.tenant_rate == TenantRate::Keep;
        let limits = setup.provider_limits.as_ref().filter(|limits| !limits.is_empty());
        let limits = limits.map(|limits| serde_json::json!(limits));
        let keeps_limits = setup.provider_limits.is_none();
        let tenant = values![new_id(), &setup.tenant, now, keeps_rate, rate, keeps_limits, limits];
        let tenant_id: TenantId = one(&mut tx, &TENANT, tenant).await?;
        let scope = Scope { setup, new_id, now, tenant_id };
        let known = find_campaign(&mut tx, &scope).await?;
        let params = values![new_id(), tenant_id, &setup.company, &setup.company_address, now];
        let company_id: CompanyId = one(&mut tx, &COMPANY, params).await?;
        lock_accounts(&mut tx, &scope).await?;
        let mut accounts = Vec::new();
        for index in 0..setup.accounts.len() {
            accounts.push(upsert_account(&mut tx, &scope, index, seal).await?);
        }
        let campaign_id = match &known {
            Some(known) => known.id,
            None => insert_campaign(&mut tx, &scope, company_id).await?,
        };
        let edit = sequence::write(&mut tx, &Target { scope: &scope, campaign_id, accounts: &accounts }).await?;
        let (mut scheduled_at, mut finished) = (setup.scheduled_at, 0);
        if let Some(known) = known {
            scheduled_at = update_campaign(&mut tx, &scope, company_id, known.id).await?;
            let is_due_anew = known.settings.as_ref() != Some(&setup.settings) || known.scheduled_at != scheduled_at;
            if is_due_anew && known.comes_back_otherwise(&setup.settings, scheduled_at) {
                rounds::count_anew(&mut tx, tenant_id, campaign_id, now).await?;
            }
            let circumstances = Circumstances { campaign_id, scheduled_at, is_due_anew };
            // Whether they still wait for a winner is asked anew. Before the days, which come last.
            trials::unpark(&mut tx, (tenant_id, campaign_id), None, now, now).await?;
            finished = places::follow(&mut tx, &scope, &edit, &circumstances).await?;
        }
        for account in &accounts {
            tx.execute(&POOL, values![campaign_id, *account, tenant_id, now]).await?;
        }
        let pool: Vec<Uuid> = accounts.iter().map(|id| id.uuid()).collect();
        tx.execute(&LEAVE_POOL, values![tenant_id, campaign_id, pool]).await?;
        // Their limits may be wider now, for other campaigns too.
        wake_accounts(&mut tx, tenant_id, accounts.iter().copied(), now).await?;
        tx.commit().await?;
        Ok(SetupReport { tenant_id, campaign_id, scheduled_at, finished })
    }
}

/// The id that a statement returns.
async fn one<T: FromValue>(tx: &mut Tx, statement: &'static Statement, params: Vec<Value>) -> Result<T> {
    one_column(tx, statement, params, "id").await
}

async fn one_column<T: FromValue>(
    tx: &mut Tx,
    statement: &'static Statement,
    params: Vec<Value>,
    column: &str,
) -> Result<T> {
    let row = tx.query_opt(statement, params).await?;
    row.ok_or(Error::Stale { what: statement.name, expected: 1, found: 0 })?.get(column)
}

/// Locks those of the accounts that are there, in order of their ids.
async fn lock_accounts(tx: &mut Tx, scope: &Scope<'_>) -> Result<()> {
    let mut known: Vec<Uuid> = Vec::new();
    for account in &scope.setup.accounts {
        if let Some(row) = tx.query_opt(&FIND_ACCOUNT, values![scope.tenant_id, &account.email]).await? {
            known.push(row.get("id")?);
        }
    }
    tx.query(&LOCK_ACCOUNTS, values![scope.tenant_id, known]).await.map(drop)
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
    let keeps = |kept| account.keeps.contains(&kept);
    let (from_name, reply_to) = (account.from_name.clone(), account.reply_to.clone());
    let (warmup, zone) = (account.warmup_started_at, account.timezone.name());
    if known.is_some() {
        let smtp = (!keeps(Kept::Server)).then_some(smtp);
        let gap = (!keeps(Kept::MinGap)).then_some(gap);
        let zone = (!keeps(Kept::Zone)).then_some(zone);
        let kept = (keeps(Kept::DailyLimit), keeps(Kept::Warmup));
        let params =
            values![tenant_id, id, from_name, reply_to, smtp, limit, gap, warmup, zone, scope.now, kept.0, kept.1];
        let was_stopped = tx.query_opt(&IS_STOPPED, values![tenant_id, id]).await?.is_some();
        tx.execute(&UPDATE_ACCOUNT, params).await?;
        if was_stopped {
            revive_sends(tx, tenant_id, id, scope.now).await?;
        }
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

/// A campaign that is there already.
struct Known {
    id: CampaignId,
    /// None where another program has written what cannot be read.
    settings: Option<CampaignSettings>,
    scheduled_at: Option<Timestamp>,
}

impl Known {
    /// Whether its rounds come at other times by these settings and this start than they did.
    fn comes_back_otherwise(&self, settings: &CampaignSettings, scheduled_at: Option<Timestamp>) -> bool {
        let was = self.settings.as_ref().and_then(|was| Rounds::of(was, self.scheduled_at, None));
        was != Rounds::of(settings, scheduled_at, None)
    }
}

/// The campaign of this name, under its exclusive lock from here on. Before the lock of any account, as the gate takes them.
async fn find_campaign(tx: &mut Tx, scope: &Scope<'_>) -> Result<Option<Known>, SetupError> {
    let name = &scope.setup.campaign;
    let Some(row) = tx.query_opt(&FIND_CAMPAIGN, values![scope.tenant_id, name]).await? else { return Ok(None) };
    let id: CampaignId = row.get("id")?;
    tx.lock(LockKind::Campaign, true, [id.uuid()]).await?;
    let row = tx.query_opt(&CAMPAIGN, values![scope.tenant_id, id]).await?;
    let row = row.ok_or_else(|| Error::NotFound { what: "campaign", id: id.to_string() })?;
    let status: CampaignStatus = row.get("status")?;
    if matches!(status, CampaignStatus::Cancelled | CampaignStatus::Archived) {
        return Err(SetupError::Ended(name.clone(), status.to_string()));
    }
    let settings = serde_json::from_value(row.get("settings")?).ok();
    Ok(Some(Known { id, settings, scheduled_at: row.get("scheduled_at")? }))
}

async fn insert_campaign(tx: &mut Tx, scope: &Scope<'_>, company_id: CompanyId) -> Result<CampaignId> {
    let setup = scope.setup;
    let id = CampaignId::from_uuid((scope.new_id)());
    let settings = serde_json::to_value(&setup.settings).unwrap_or_default();
    let (description, start) = (setup.description.clone(), setup.scheduled_at);
    let params = values![id, scope.tenant_id, company_id, &setup.campaign, description, start, settings, scope.now];
    tx.execute(&INSERT_CAMPAIGN, params).await?;
    Ok(id)
}

/// When the campaign starts or started.
async fn update_campaign(
    tx: &mut Tx,
    scope: &Scope<'_>,
    company_id: CompanyId,
    id: CampaignId,
) -> Result<Option<Timestamp>> {
    let setup = scope.setup;
    let settings = serde_json::to_value(&setup.settings).unwrap_or_default();
    let (description, start) = (setup.description.clone(), setup.scheduled_at);
    let params = values![scope.tenant_id, id, company_id, description, start, settings, scope.now];
    one_column(tx, &UPDATE_CAMPAIGN, params, "scheduled_at").await
}
