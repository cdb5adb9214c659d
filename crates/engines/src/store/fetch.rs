//! P3: a read that gives the fence and all that assembly needs, for sends that may go now; and the cached parts
//! (account, template) that many sends share.
//!
//! No row back means: done, someone else's, or not now; P9 brings it again when this read would grant it.
//! To add a field for templates: the statement `FETCH` and `lead`.

use std::time::Duration;

use domain::email_account::{AccountPace, Breaker, EmailAccount, SmtpSettings};
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, SendId, StepId, TemplateId, TenantId};
use domain::lead::Lead;
use domain::time::{Timestamp, Zone};

use super::dot::Seen;
use super::{SystemStore, TenantStore};
use crate::db::Access;
use crate::error::{Error, Result};
use crate::value::{Row, Rows};
use crate::{statements, values};

/// When the time budget of a send's retries began.
macro_rules! budget_began_at {
    () => {
        "CASE WHEN s.retry_since > s.first_attempt_at THEN s.retry_since ELSE s.first_attempt_at END AS budget_began_at"
    };
}
pub(super) use budget_began_at;

/// The template of a send of the step `st`: its variant's, else the step's own. Of a variant that is not in use any more
/// nobody gets the text.
macro_rules! template_of {
    ($send:literal) => {
        concat!(
            "CASE WHEN ",
            $send,
            ".variant IS NULL THEN st.template_id ELSE COALESCE((SELECT v.template_id FROM campaign_step_variants v
                WHERE v.step_id = st.id AND v.tenant_id = st.tenant_id AND v.variant_key = ",
            $send,
            ".variant AND v.removed_at IS NULL), st.template_id) END"
        )
    };
}
pub(super) use template_of;

statements! {
    FETCH = concat!("SELECT s.id AS send_id, s.tenant_id, s.campaign_id, s.step_id, s.enrollment_id, s.email_account_id, st.step_order,
            s.fence, s.attempts, s.max_attempts, s.unknowns, s.first_attempt_at, ", budget_began_at!(), ",
            s.not_before, s.message_id, s.account_day, s.campaign_day,
            t.id AS template_id, t.version AS template_version, st.from_name_override,
            CASE WHEN s.variant IS NULL THEN st.subject_override END AS subject_override,
            {max c.updated_at, co.updated_at} AS campaign_updated_at, c.sequence_changed_at, a.updated_at AS account_updated_at,
            a.backoff_failures, a.backoff_until,
            CASE WHEN e.round = s.round THEN e.thread_message_ids END AS thread_message_ids,
            CASE WHEN e.round = s.round THEN e.thread_subject END AS thread_subject,
            l.id, l.email, l.name, l.first_name, l.last_name, l.company, l.job_title, l.phone, l.city, l.state, l.country,
            l.timezone, l.custom_fields, l.status, l.tracking_consent
        FROM {rows r(id uuid, tenant_id uuid)}
            JOIN {lookup sends s ON s.id = r.id AND s.tenant_id = r.tenant_id}
            JOIN campaigns c ON c.id = s.campaign_id AND c.tenant_id = s.tenant_id AND c.status = 'sending'
            JOIN companies co ON co.id = c.company_id
            JOIN email_accounts a ON a.id = s.email_account_id AND a.tenant_id = s.tenant_id AND a.status = 'active'
                AND (a.backoff_until IS NULL OR a.backoff_until <= $1)
            JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.is_active
            JOIN templates t ON t.id = ", template_of!("s"), " AND t.tenant_id = s.tenant_id
            JOIN campaign_leads e ON e.id = s.enrollment_id
            JOIN {lookup leads l ON l.id = s.lead_id AND l.tenant_id = s.tenant_id AND l.status IN ('active', 'replied')}
        WHERE s.open AND s.status IN ('planned', 'queued') AND s.not_before <= $1
            AND NOT EXISTS (SELECT 1 FROM suppression_list x WHERE x.email = lower(l.email)
                AND (x.tenant_id = s.tenant_id OR x.tenant_id IS NULL)
                AND (x.expires_at IS NULL OR x.expires_at > $1))");
    ACCOUNT = "SELECT id, tenant_id, email, from_name, reply_to, smtp_settings, status, status_reason, daily_limit,
            min_gap_seconds, warmup_started_at, timezone, last_slot_at, backoff_until, backoff_failures
        FROM email_accounts WHERE tenant_id = $1 AND id = $2";
    TEMPLATE = "SELECT subject, content, content_text, version FROM templates WHERE tenant_id = $1 AND id = $2";
    SOFT_BOUNCES = "SELECT COUNT(*) AS n FROM sends WHERE tenant_id = $1 AND lead_id = $2 AND NOT open AND status = 'bounced'
        AND reason = 'recipient_refused' AND settled_at > $3";
}

/// A send that may go now, with all that assembly needs besides the cached parts.
#[derive(Clone, Debug)]
pub struct SendJob {
    /// The ledger row.
    pub send_id: SendId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its campaign, and when that last changed.
    pub campaign: (CampaignId, Timestamp),
    /// Its account, and when that last changed.
    pub account: (EmailAccountId, Timestamp),
    /// Its template and version.
    pub template: (TemplateId, i64),
    /// Its step.
    pub step_id: StepId,
    /// The step's order now: an edit of the sequence may have moved it.
    pub step_order: u32,
    /// When the sequence was last edited; none = never.
    pub sequence_seen: Option<Timestamp>,
    /// Its enrollment.
    pub enrollment_id: EnrollmentId,
    /// The fence that a dot must find unchanged.
    pub fence: i64,
    /// Attempts that counted so far.
    pub attempts: u32,
    /// A bound that a job's payload asked for.
    pub max_attempts: Option<u32>,
    /// Unknown outcomes so far.
    pub unknowns: u32,
    /// When the first attempt was made.
    pub first_attempt_at: Option<Timestamp>,
    /// When its time budget began; none = with the attempt to come.
    pub budget_began_at: Option<Timestamp>,
    /// When it was meant to go.
    pub not_before: Timestamp,
    /// Fixed by the first attempt.
    pub message_id: Option<String>,
    /// The account day that holds its slot.
    pub account_day: Option<String>,
    /// The campaign day that holds its slot.
    pub campaign_day: Option<String>,
    /// Replaces the template's subject.
    pub subject_override: Option<String>,
    /// Replaces the account's name.
    pub from_name_override: Option<String>,
    /// Failed connections of the account in a row.
    pub account_failures: u32,
    /// Where they leave the account: half open, one send may go (`breaker`).
    pub breaker: Breaker,
    /// Message-IDs of the mails sent to the lead in this round of the campaign, oldest first, separated by spaces.
    pub thread_message_ids: Option<String>,
    /// Subject of the first of them.
    pub thread_subject: Option<String>,
    /// To whom.
    pub lead: Lead,
}

impl SendJob {
    /// Versions of what its message is made of.
    pub fn seen(&self) -> Seen {
        Seen { campaign: self.campaign.1, account: self.account.1, template: self.template }
    }
}

/// A template's sources.
#[derive(Clone, Debug)]
pub struct TemplateSource {
    /// Subject.
    pub subject: String,
    /// HTML part.
    pub html: String,
    /// Text part.
    pub text: Option<String>,
    /// Grows with every change.
    pub version: i64,
}

impl SystemStore {
    /// Reads the sends of these hints that may go now. One that cannot be used, since another program wrote a value
    /// that makes no sense, is left out and logged: it must not hold up the others.
    ///
    /// # Errors
    /// The database.
    pub async fn fetch(&self, hints: &[(TenantId, SendId)], now: Timestamp) -> Result<Vec<SendJob>> {
        let rows: Rows = hints.iter().map(|(tenant_id, send_id)| values![*send_id, *tenant_id]).collect();
        let mut tx = self.db.begin(Access::Read).await?;
        let found = tx.query_rows(&FETCH, rows, values![now]).await?;
        tx.commit().await?;
        let usable = |row: &Row| {
            send_job(row, now)
                .inspect_err(|e| {
                    let send_id = row.get::<SendId>("send_id").ok();
                    tracing::error!(send_id = send_id.map(tracing::field::display), error = %e, "a send cannot be read");
                })
                .ok()
        };
        Ok(found.iter().filter_map(usable).collect())
    }
}

fn send_job(row: &Row, now: Timestamp) -> Result<SendJob> {
    let backoff_until: Option<Timestamp> = row.get("backoff_until")?;
    Ok(SendJob {
        send_id: row.get("send_id")?,
        tenant_id: row.get("tenant_id")?,
        campaign: (row.get("campaign_id")?, row.get("campaign_updated_at")?),
        account: (row.get("email_account_id")?, row.get("account_updated_at")?),
        template: (row.get("template_id")?, row.get("template_version")?),
        step_id: row.get("step_id")?,
        step_order: row.get("step_order")?,
        sequence_seen: row.get("sequence_changed_at")?,
        enrollment_id: row.get("enrollment_id")?,
        fence: row.get("fence")?,
        attempts: row.get("attempts")?,
        max_attempts: row.get("max_attempts")?,
        unknowns: row.get("unknowns")?,
        first_attempt_at: row.get("first_attempt_at")?,
        budget_began_at: row.get("budget_began_at")?,
        // Waiting for the account is no lateness.
        not_before: row.get::<Timestamp>("not_before")?.max(backoff_until.unwrap_or(Timestamp::EPOCH)),
        message_id: row.get("message_id")?,
        account_day: row.get("account_day")?,
        campaign_day: row.get("campaign_day")?,
        subject_override: row.get("subject_override")?,
        from_name_override: row.get("from_name_override")?,
        account_failures: row.get("backoff_failures")?,
        breaker: Breaker::of(row.get("backoff_failures")?, backoff_until, now),
        thread_message_ids: row.get("thread_message_ids")?,
        thread_subject: row.get("thread_subject")?,
        lead: lead(row)?,
    })
}

/// The lead of a row that has all of its columns.
pub(super) fn lead(row: &Row) -> Result<Lead> {
    Ok(Lead {
        id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        email: row.get("email")?,
        name: row.get("name")?,
        first_name: row.get("first_name")?,
        last_name: row.get("last_name")?,
        company: row.get("company")?,
        job_title: row.get("job_title")?,
        phone: row.get("phone")?,
        city: row.get("city")?,
        state: row.get("state")?,
        country: row.get("country")?,
        timezone: row.get::<Option<String>>("timezone")?.and_then(|name| name.parse().ok()),
        custom_fields: row.get("custom_fields")?,
        status: row.get("status")?,
        tracking_consent: row.get("tracking_consent")?,
    })
}

/// The limits of an account from its row, one of many: another program's row that makes no sense must not hold up the
/// others. A zone that does not exist is UTC here; `get_account` refuses it, so the worker pauses such an account.
pub(super) fn account_pace(row: &Row) -> Result<AccountPace> {
    let saturated = |limit: i64| u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
    Ok(AccountPace {
        daily_limit: row.get::<Option<i64>>("daily_limit")?.map(saturated),
        min_gap: Duration::from_secs(u64::from(saturated(row.get("min_gap_seconds")?))),
        warmup_started_at: row.get("warmup_started_at")?,
        zone: row.get::<String>("timezone")?.parse().unwrap_or(Zone::UTC),
        last_slot_at: row.get("last_slot_at")?,
        backoff_until: row.get("backoff_until")?,
        backoff_failures: row.get("backoff_failures")?,
    })
}

impl TenantStore {
    /// An account with its server and limits.
    ///
    /// # Errors
    /// `NotFound`, or `Column` where its settings cannot be used.
    pub async fn get_account(&self, id: EmailAccountId) -> Result<EmailAccount> {
        let rows = self.db.read(&ACCOUNT, values![self.tenant_id, id]).await?;
        let row = rows.first().ok_or_else(|| Error::NotFound { what: "email account", id: id.to_string() })?;
        let smtp: serde_json::Value = row.get("smtp_settings")?;
        let smtp: SmtpSettings = serde_json::from_value(smtp).map_err(|e| Error::Column {
            column: "email_accounts.smtp_settings".into(),
            problem: format!("of account `{id}` cannot be used: {e}"),
        })?;
        Ok(EmailAccount {
            id,
            tenant_id: self.tenant_id,
            email: row.get("email")?,
            from_name: row.get("from_name")?,
            reply_to: row.get("reply_to")?,
            smtp,
            status: row.get("status")?,
            status_reason: row.get("status_reason")?,
            pace: AccountPace { zone: row.get("timezone")?, ..account_pace(row)? },
        })
    }

    /// A template's sources.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_template(&self, id: TemplateId) -> Result<TemplateSource> {
        let rows = self.db.read(&TEMPLATE, values![self.tenant_id, id]).await?;
        let row = rows.first().ok_or_else(|| Error::NotFound { what: "template", id: id.to_string() })?;
        Ok(TemplateSource {
            subject: row.get("subject")?,
            html: row.get("content")?,
            text: row.get("content_text")?,
            version: row.get("version")?,
        })
    }

    /// How many soft bounces a lead had since `since`.
    ///
    /// # Errors
    /// The database.
    pub async fn count_soft_bounces(&self, lead: domain::ids::LeadId, since: Timestamp) -> Result<u32> {
        let rows = self.db.read(&SOFT_BOUNCES, values![self.tenant_id, lead, since]).await?;
        rows.first().map_or(Ok(0), |row| row.get("n"))
    }
}
