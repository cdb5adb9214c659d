//! Campaigns: reading one whole, and what people do to one (start, pause, resume, cancel).
//!
//! Whoever stops many sends takes the campaign's lock exclusively, which every dot takes shared: a pause that was
//! answered before a dot always wins. To add an action: its statements and a method that names the states it expects.

use std::time::Duration;

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::ids::{CampaignId, EmailAccountId, StepId};
use domain::plan::CampaignPlan;
use domain::reason::Reason;
use domain::rounds::Rounds;
use domain::schedule::wait_hours;
use domain::step::{Condition, Step};
use domain::time::Timestamp;

use super::apply::revive_sends;
use super::dot::days::{DayChanges, slot_columns, wake_accounts};
use super::dot::rate;
use super::{SystemStore, TenantStore, trials};
use crate::db::{Access, LockKind, Tx};
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

/// Which accounts go on with a campaign, `$2` of the tenant `$1`: its own that were paused for `$3`; a forecast asks the same.
macro_rules! resumed_accounts {
    () => {
        "tenant_id = $1 AND status = 'paused' AND status_reason = $3 AND (
            id IN (SELECT p.email_account_id FROM campaign_email_accounts p WHERE p.tenant_id = $1 AND p.campaign_id = $2)
            OR id IN (SELECT st.email_account_id FROM campaign_sequence_steps st
                WHERE st.tenant_id = $1 AND st.campaign_id = $2))"
    };
}
pub(super) use resumed_accounts;

statements! {
    GET = "SELECT c.id, c.tenant_id, c.name, c.status, c.settings, c.scheduled_at, c.rounds_seen_until, c.seen_until, c.updated_at AS edited_at, c.next_plan_at, c.sequence_changed_at, {max c.updated_at, co.updated_at} AS updated_at,
            co.name AS company_name, co.address AS company_address
        FROM campaigns c JOIN companies co ON co.id = c.company_id AND co.tenant_id = c.tenant_id WHERE c.tenant_id = $1 AND c.id = $2";
    STEPS = "SELECT id, step_order, step_type, email_account_id, template_id, wait_duration_hours, wait_until_date,
            condition_type, condition_value, condition_url, condition_within_hours, is_active, is_trial, trial_by,
            trial_after_hours, trial_sample_percent, trial_winner
        FROM campaign_sequence_steps WHERE tenant_id = $1 AND campaign_id = $2 AND removed_at IS NULL ORDER BY step_order";
    FIND = "SELECT c.id, c.tenant_id, c.name, c.status, c.scheduled_at, t.name AS tenant_name FROM campaigns c JOIN tenants t ON t.id = c.tenant_id
        WHERE (c.name = $1 OR c.id = $2::uuid) AND ($3::text IS NULL OR t.name = $3)
        ORDER BY c.created_at";
    // Waiting for the start is no lateness.
    START = "UPDATE campaigns SET status = CASE WHEN scheduled_at > $3 THEN 'scheduled' ELSE 'sending' END,
            scheduled_at = COALESCE(scheduled_at, $3), seen_until = $3, completed_at = NULL, next_plan_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND id = $2 AND status IN ('draft', 'completed')
            AND (status = 'draft' OR EXISTS (SELECT 1 FROM campaign_leads e WHERE e.tenant_id = $1
                AND e.campaign_id = campaigns.id AND e.status NOT IN ('completed', 'stopped')))";
    // A time, and one that has passed on every host: a page that was read before sees by it that somebody came, and that it is no rest
    // of another page (`plan`, `SAVE_CAMPAIGN`).
    PLAN_AT_ONCE = "UPDATE campaigns SET next_plan_at = $3 WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'sending')";
    REOPEN = "UPDATE campaigns SET status = 'sending', completed_at = NULL, next_plan_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND id = $2 AND status = 'completed'";
    PAUSE = "UPDATE campaigns SET status = 'paused', updated_at = $3
        WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'sending')";
    // One that has not begun waits for its start again. An edit may have given a start to come to one that has: it goes on.
    RESUME = "UPDATE campaigns SET status = CASE WHEN scheduled_at > $3 AND NOT EXISTS (SELECT 1 FROM campaign_leads e
                WHERE e.tenant_id = $1 AND e.campaign_id = campaigns.id AND e.highest_sent_step > 0)
            THEN 'scheduled' ELSE 'sending' END, status_reason = NULL, refusals_since = $3, seen_until = $3, next_plan_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND id = $2 AND status = 'paused'";
    // Whoever lets a campaign go on lets its accounts go on that refusals have paused; older refusals count no more.
    RESUME_ACCOUNTS = concat!("UPDATE email_accounts SET status = 'active', status_reason = NULL, refusals_since = $4, updated_at = $4
        WHERE ", resumed_accounts!(), " RETURNING id");
    IS_UNDER_WAY = "SELECT id FROM campaigns WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'sending', 'paused')";
    // Waiting for a pause is no lateness; hints that workers dropped meanwhile must come again at once.
    RESUME_SENDS = "UPDATE sends SET not_before = {max not_before, $3}, retry_since = $3, hinted_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued')";
    CANCEL = "UPDATE campaigns SET status = 'cancelled', updated_at = $3
        WHERE tenant_id = $1 AND id = $2 AND status NOT IN ('completed', 'cancelled', 'archived')";
    CANCEL_SENDS = concat!("UPDATE sends SET status = 'cancelled', open = false, reason = 'campaign_cancelled', settled_at = $3, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued')
        RETURNING ", slot_columns!());
    CANCEL_ENROLLMENTS = "UPDATE campaign_leads SET status = 'stopped', stop_reason = 'campaign_cancelled', due_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND status NOT IN ('completed', 'stopped')";
}

/// A campaign as people name it.
#[derive(Clone, Debug)]
pub struct CampaignName {
    /// Id of the row.
    pub id: CampaignId,
    /// Whose campaign it is.
    pub tenant_id: domain::ids::TenantId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: CampaignStatus,
    /// When it starts or started; none for a draft without a date.
    pub scheduled_at: Option<Timestamp>,
    /// The tenant's name.
    pub tenant_name: String,
}

/// All that sending needs of a campaign; cached by `updated_at`.
#[derive(Clone, Debug)]
pub struct CampaignBundle {
    /// What planning needs.
    pub plan: CampaignPlan,
    /// Its name.
    pub name: String,
    /// The company in the footer.
    pub company_name: String,
    /// Its postal address.
    pub company_address: String,
    /// When the row, or the company's, last changed.
    pub updated_at: Timestamp,
    /// When the row itself was last edited; planning and waking are no edits.
    pub edited_at: Timestamp,
    /// When it is planned next; none = at once.
    pub next_plan_at: Option<Timestamp>,
    /// When it starts or started; none for a draft without a date.
    pub scheduled_at: Option<Timestamp>,
    /// When the sequence was last edited; none = never.
    pub sequence_seen: Option<Timestamp>,
    /// When it comes back; none = it does not.
    pub rounds: Option<Rounds>,
}

/// Reads a campaign and its steps.
pub(super) async fn load(tx: &mut Tx, tenant_id: domain::ids::TenantId, id: CampaignId) -> Result<CampaignBundle> {
    let row = tx.query_opt(&GET, values![tenant_id, id]).await?;
    let row = row.ok_or_else(|| Error::NotFound { what: "campaign", id: id.to_string() })?;
    let steps = tx.query(&STEPS, values![tenant_id, id]).await?;
    let settings: serde_json::Value = row.get("settings")?;
    let settings: CampaignSettings = serde_json::from_value(settings).map_err(|e| Error::Column {
        column: "campaigns.settings".into(),
        problem: format!("of campaign `{id}` cannot be used: {e}"),
    })?;
    let rounds = Rounds::of(&settings, row.get("scheduled_at")?, row.get("rounds_seen_until")?);
    Ok(CampaignBundle {
        rounds,
        plan: CampaignPlan {
            id,
            status: row.get("status")?,
            settings,
            steps: steps.iter().map(step).collect::<Result<_>>()?,
            seen_until: row.get("seen_until")?,
            // Whoever plans reads it: a tenant may not.
            lost_time: None,
            trials: trials::load(tx, tenant_id, id, &steps).await?,
        },
        name: row.get("name")?,
        company_name: row.get("company_name")?,
        company_address: row.get("company_address")?,
        updated_at: row.get("updated_at")?,
        edited_at: row.get("edited_at")?,
        next_plan_at: row.get("next_plan_at")?,
        scheduled_at: row.get("scheduled_at")?,
        sequence_seen: row.get("sequence_changed_at")?,
    })
}

/// More than clocks of hosts are apart.
pub(super) const PASSED: Duration = Duration::from_secs(24 * 3600);

/// Has a campaign planned at once where somebody has come who is due, also where it rests. The last thing that a transaction does.
pub(super) async fn plan_at_once(
    tx: &mut Tx,
    (tenant_id, id): (domain::ids::TenantId, CampaignId),
    now: Timestamp,
) -> Result<()> {
    tx.execute(&PLAN_AT_ONCE, values![tenant_id, id, now - PASSED]).await.map(drop)
}

/// The same of one that was read with this status: a completed one opens again.
pub(super) async fn go_on(
    tx: &mut Tx,
    key: (domain::ids::TenantId, CampaignId),
    status: CampaignStatus,
    now: Timestamp,
) -> Result<()> {
    // Somebody else may have opened it meanwhile.
    if status == CampaignStatus::Completed && tx.execute(&REOPEN, values![key.0, key.1, now]).await? > 0 {
        return Ok(());
    }
    plan_at_once(tx, key, now).await
}

/// The step of a row that has all of its columns.
pub(super) fn step(row: &Row) -> Result<Step> {
    let id: StepId = row.get("id")?;
    let hours = |column: &str, hours| {
        let problem = |e| Error::Column {
            column: format!("campaign_sequence_steps.{column}"),
            problem: format!("of step `{id}`: {e}"),
        };
        wait_hours(hours).map_err(problem)
    };
    let wait = hours("wait_duration_hours", row.get("wait_duration_hours")?)?;
    let within: Option<f64> = row.get("condition_within_hours")?;
    let value: Option<String> = row.get("condition_value")?;
    Ok(Step {
        id,
        step_order: row.get("step_order")?,
        step_type: row.get("step_type")?,
        email_account_id: row.get("email_account_id")?,
        template_id: row.get("template_id")?,
        wait: wait.max(Duration::ZERO),
        wait_until: row.get("wait_until_date")?,
        condition: Condition {
            asks: row.get("condition_type")?,
            url_part: row.get("condition_url")?,
            within: within.map(|within| hours("condition_within_hours", within)).transpose()?,
        },
        stop_if_false: value.as_deref() == Some("stop"),
        is_active: row.get("is_active")?,
    })
}

/// The campaign of a row that has all of its columns.
pub(super) fn campaign_name(row: &Row) -> Result<CampaignName> {
    Ok(CampaignName {
        id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        name: row.get("name")?,
        status: row.get("status")?,
        scheduled_at: row.get("scheduled_at")?,
        tenant_name: row.get("tenant_name")?,
    })
}

impl SystemStore {
    /// Campaigns of this name or id, of one tenant where its name is given.
    ///
    /// # Errors
    /// The database.
    pub async fn find_campaigns(&self, name_or_id: &str, tenant: Option<&str>) -> Result<Vec<CampaignName>> {
        let id: Option<uuid::Uuid> = name_or_id.parse().ok();
        self.db.read(&FIND, values![name_or_id, id, tenant]).await?.iter().map(campaign_name).collect()
    }
}

impl TenantStore {
    /// A campaign with its steps and company.
    ///
    /// # Errors
    /// `NotFound`, or `Column` where its settings cannot be used.
    pub async fn get_campaign(&self, id: CampaignId) -> Result<CampaignBundle> {
        let mut tx = self.db.begin(Access::Read).await?;
        let bundle = load(&mut tx, self.tenant_id, id).await?;
        tx.commit().await?;
        Ok(bundle)
    }

    /// Starts a draft, or a completed campaign that got work again; false where neither was the case.
    ///
    /// # Errors
    /// The database.
    pub async fn start_campaign(&self, id: CampaignId, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin(Access::Write).await?;
        let changed = tx.execute(&START, values![self.tenant_id, id, now]).await?;
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Pauses; no dot is written after this returns. False where the campaign was not under way.
    ///
    /// # Errors
    /// The database.
    pub async fn pause_campaign(&self, id: CampaignId, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, true, [id.uuid()]).await?;
        let changed = tx.execute(&PAUSE, values![self.tenant_id, id, now]).await?;
        rate::free_slots(&mut tx, self.tenant_id, now).await?;
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Goes on after a pause; what waited for it is not late. So do those of its email accounts that refusals have
    /// paused. False where nothing of it was paused.
    ///
    /// # Errors
    /// The database.
    pub async fn resume_campaign(&self, id: CampaignId, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin(Access::Write).await?;
        if tx.query_opt(&IS_UNDER_WAY, values![self.tenant_id, id]).await?.is_none() {
            return Ok(false);
        }
        let mut changed = tx.execute(&RESUME, values![self.tenant_id, id, now]).await?;
        let accounts = tx.query(&RESUME_ACCOUNTS, values![self.tenant_id, id, Reason::RefusalRate, now]).await?;
        changed += accounts.len() as u64;
        if changed > 0 {
            tx.execute(&RESUME_SENDS, values![self.tenant_id, id, now]).await?;
            let accounts: Vec<EmailAccountId> = accounts.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
            // Other campaigns' mail waits there too.
            for account in &accounts {
                revive_sends(&mut tx, self.tenant_id, *account, now).await?;
            }
            wake_accounts(&mut tx, self.tenant_id, accounts, now).await?;
        }
        tx.commit().await?;
        Ok(changed > 0)
    }

    /// Ends the campaign: open sends are cancelled and give their slots back, enrollments stop. How many sends; none where it had ended before.
    ///
    /// # Errors
    /// The database.
    pub async fn cancel_campaign(&self, id: CampaignId, now: Timestamp) -> Result<Option<u64>> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, true, [id.uuid()]).await?;
        let changed = tx.execute(&CANCEL, values![self.tenant_id, id, now]).await?;
        let mut cancelled = None;
        if changed == 1 {
            // Before the sends, as the gate takes the tenant's lock.
            rate::free_slots(&mut tx, self.tenant_id, now).await?;
            let sends = tx.query(&CANCEL_SENDS, values![self.tenant_id, id, now]).await?;
            tx.execute(&CANCEL_ENROLLMENTS, values![self.tenant_id, id, now]).await?;
            let mut days = DayChanges::default();
            sends.iter().try_for_each(|send| days.free(send))?;
            days.write(&mut tx, now).await?;
            cancelled = Some(sends.len() as u64);
        }
        tx.commit().await?;
        Ok(cancelled)
    }
}
