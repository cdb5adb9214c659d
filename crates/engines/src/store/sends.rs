//! Sends as people look at them: one with all that was tried, and those of a campaign that did not go.
//!
//! Not responsible for changing any (`resolve`). To add a fact: its column in `GET` and a field of `SendDetail`.

use domain::campaign::CampaignStatus;
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, SendId, StepId, TenantId};
use domain::lead::Lead;
use domain::send::SendStatus;
use domain::time::Timestamp;
use uuid::Uuid;

use super::fetch::template_of;
use super::{SystemStore, TenantStore};
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

statements! {
    TENANT_OF = "SELECT tenant_id FROM sends WHERE id = $1";
    OF_LEAD = "SELECT s.id FROM sends s JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND s.lead_id = $3 AND ($4::bigint IS NULL OR st.step_order = $4)
        ORDER BY s.round DESC, st.step_order DESC LIMIT 1";
    GET = concat!("SELECT s.id AS send_id, s.campaign_id, c.name AS campaign_name, c.status AS campaign_status, s.step_id, st.step_order,
            s.enrollment_id, s.email_account_id, a.email AS account_email, s.status AS send_status, s.reason, s.fence, s.owner,
            s.priority, s.not_before, s.attempts, s.max_attempts, s.unknowns, s.first_attempt_at, s.last_attempt_at,
            s.message_id, s.reply, s.settled_at, s.created_at,
            COALESCE(CASE WHEN s.variant IS NULL THEN st.subject_override END, t.subject) AS subject,
            CASE WHEN e.round = s.round THEN e.thread_subject END AS thread_subject, s.variant,
            EXISTS (SELECT 1 FROM suppression_list x WHERE x.email = lower(l.email)
                AND (x.tenant_id = s.tenant_id OR x.tenant_id IS NULL)
                AND (x.expires_at IS NULL OR x.expires_at > $3)) AS suppressed,
            l.id, l.tenant_id, l.email, l.name, l.first_name, l.last_name, l.company, l.job_title, l.phone, l.city, l.state,
            l.country, l.timezone, l.custom_fields, l.status, l.tracking_consent
        FROM sends s JOIN campaigns c ON c.id = s.campaign_id AND c.tenant_id = s.tenant_id
            JOIN leads l ON l.id = s.lead_id AND l.tenant_id = s.tenant_id
            JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
            JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.tenant_id = s.tenant_id
            LEFT JOIN templates t ON t.id = ", template_of!("s"), " AND t.tenant_id = s.tenant_id
            LEFT JOIN email_accounts a ON a.id = s.email_account_id AND a.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.id = $2");
    ATTEMPTS = "SELECT id, fence, owner, started_at, finished_at, stage, outcome, code, enhanced, reply, counted, transcript
        FROM send_attempts WHERE tenant_id = $1 AND send_id = $2 ORDER BY started_at DESC, id DESC LIMIT $3";
    FAILURES = "SELECT s.id, s.lead_id, st.step_order, s.status, s.reason, s.attempts, s.unknowns, s.settled_at, a.code, a.enhanced
        FROM sends s JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.tenant_id = s.tenant_id
            LEFT JOIN send_attempts a ON a.tenant_id = s.tenant_id AND a.id = (SELECT x.id FROM send_attempts x
            WHERE x.send_id = s.id AND x.code IS NOT NULL ORDER BY x.started_at DESC, x.id DESC LIMIT 1)
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND NOT s.open AND s.reason IS NOT NULL
            AND s.status IN ('failed', 'bounced', 'held') AND s.id > $3
        ORDER BY s.id LIMIT $4";
}

/// A send with what it belongs to.
#[derive(Clone, Debug)]
pub struct SendDetail {
    /// The ledger row.
    pub send_id: SendId,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// The campaign's name.
    pub campaign_name: String,
    /// Where the campaign stands.
    pub campaign_status: CampaignStatus,
    /// Its step.
    pub step_id: StepId,
    /// The step's order.
    pub step_order: u32,
    /// Its enrollment.
    pub enrollment_id: EnrollmentId,
    /// Its account; none for one that was skipped before it had one.
    pub email_account_id: Option<EmailAccountId>,
    /// The account's address.
    pub account_email: Option<String>,
    /// Where it stands.
    pub status: SendStatus,
    /// Why it is not simply on its way, or sent: `domain::reason`'s word, unless another program wrote it.
    pub reason: Option<String>,
    /// How often somebody took it in hand.
    pub fence: i64,
    /// Who wrote its dot, until the result.
    pub owner: Option<String>,
    /// 1 to 1000.
    pub priority: u16,
    /// Not sent before.
    pub not_before: Timestamp,
    /// Attempts that counted.
    pub attempts: u32,
    /// A bound that a job's payload asked for.
    pub max_attempts: Option<u32>,
    /// Unknown outcomes.
    pub unknowns: u32,
    /// When the first attempt was made.
    pub first_attempt_at: Option<Timestamp>,
    /// When the last dot was granted.
    pub last_attempt_at: Option<Timestamp>,
    /// Fixed by the first attempt.
    pub message_id: Option<String>,
    /// What the server said last.
    pub reply: Option<String>,
    /// When it ended, or was held.
    pub settled_at: Option<Timestamp>,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// Which of its step's variants it is; none where the step has none.
    pub variant: Option<String>,
    /// Source of its subject.
    pub subject: Option<String>,
    /// Subject of the thread that it follows.
    pub thread_subject: Option<String>,
    /// Whether its address is suppressed.
    pub suppressed: bool,
    /// To whom.
    pub lead: Lead,
}

/// One try, as it was recorded.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The fence that it held.
    pub fence: i64,
    /// Who tried.
    pub owner: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The stage of the dialogue in which it ended.
    pub stage: String,
    /// In a word.
    pub outcome: String,
    /// The reply's code.
    pub code: Option<u16>,
    /// The reply's enhanced code.
    pub enhanced: Option<String>,
    /// The reply's text, or what went wrong. Servers write addresses into it.
    pub reply: Option<String>,
    /// Whether it counted against the budget.
    pub counted: bool,
    /// The dialogue: stages and codes, no text.
    pub transcript: Option<String>,
}

/// A send that failed, bounced or is held.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The ledger row.
    pub send_id: SendId,
    /// To whom.
    pub lead_id: LeadId,
    /// The step's order.
    pub step_order: u32,
    /// Which of the three.
    pub status: SendStatus,
    /// Why: `domain::reason`'s word, unless another program wrote it.
    pub reason: String,
    /// Attempts that counted.
    pub attempts: u32,
    /// Unknown outcomes.
    pub unknowns: u32,
    /// When it ended, or was held.
    pub settled_at: Option<Timestamp>,
    /// The code of the last reply, where a server answered.
    pub code: Option<u16>,
    /// Its enhanced code.
    pub enhanced: Option<String>,
}

impl SystemStore {
    /// Whose send this is.
    ///
    /// # Errors
    /// The database.
    pub async fn find_tenant_of_send(&self, id: SendId) -> Result<Option<TenantId>> {
        self.db.read(&TENANT_OF, values![id]).await?.first().map(|row| row.get("tenant_id")).transpose()
    }
}

impl TenantStore {
    /// The send of a lead in a campaign: that of the step of this order, or of the last one that has one.
    ///
    /// # Errors
    /// The database.
    pub async fn find_send_of_lead(
        &self,
        campaign_id: CampaignId,
        lead_id: LeadId,
        step_order: Option<u32>,
    ) -> Result<Option<SendId>> {
        let params = values![self.tenant_id, campaign_id, lead_id, step_order];
        self.db.read(&OF_LEAD, params).await?.first().map(|row| row.get("id")).transpose()
    }

    /// A send with what it belongs to.
    ///
    /// # Errors
    /// `NotFound`, or the database.
    pub async fn get_send(&self, id: SendId, now: Timestamp) -> Result<SendDetail> {
        let rows = self.db.read(&GET, values![self.tenant_id, id, now]).await?;
        detail(rows.first().ok_or_else(|| Error::NotFound { what: "send", id: id.to_string() })?)
    }

    /// The newest `limit` tries of a send, oldest first.
    ///
    /// # Errors
    /// The database.
    pub async fn list_attempts(&self, id: SendId, limit: u32) -> Result<Vec<Attempt>> {
        let rows = self.db.read(&ATTEMPTS, values![self.tenant_id, id, limit]).await?;
        rows.iter().rev().map(attempt).collect()
    }

    /// A page of a campaign's sends that failed, bounced or are held, in order of planning, behind `after`.
    ///
    /// # Errors
    /// The database.
    pub async fn list_failures(&self, id: CampaignId, after: Option<SendId>, limit: u32) -> Result<Vec<Failure>> {
        let after = after.map_or(Uuid::nil(), SendId::uuid);
        self.db.read(&FAILURES, values![self.tenant_id, id, after, limit]).await?.iter().map(failure).collect()
    }
}

fn detail(row: &Row) -> Result<SendDetail> {
    Ok(SendDetail {
        send_id: row.get("send_id")?,
        campaign_id: row.get("campaign_id")?,
        campaign_name: row.get("campaign_name")?,
        campaign_status: row.get("campaign_status")?,
        step_id: row.get("step_id")?,
        step_order: row.get("step_order")?,
        enrollment_id: row.get("enrollment_id")?,
        email_account_id: row.get("email_account_id")?,
        account_email: row.get("account_email")?,
        status: row.get("send_status")?,
        reason: row.get("reason")?,
        fence: row.get("fence")?,
        owner: row.get("owner")?,
        priority: row.get("priority")?,
        not_before: row.get("not_before")?,
        attempts: row.get("attempts")?,
        max_attempts: row.get("max_attempts")?,
        unknowns: row.get("unknowns")?,
        first_attempt_at: row.get("first_attempt_at")?,
        last_attempt_at: row.get("last_attempt_at")?,
        message_id: row.get("message_id")?,
        reply: row.get("reply")?,
        settled_at: row.get("settled_at")?,
        planned_at: row.get("created_at")?,
        variant: row.get("variant")?,
        subject: row.get("subject")?,
        thread_subject: row.get("thread_subject")?,
        suppressed: row.get("suppressed")?,
        lead: super::fetch::lead(row)?,
    })
}

fn attempt(row: &Row) -> Result<Attempt> {
    Ok(Attempt {
        fence: row.get("fence")?,
        owner: row.get("owner")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        stage: row.get("stage")?,
        outcome: row.get("outcome")?,
        code: row.get("code")?,
        enhanced: row.get("enhanced")?,
        reply: row.get("reply")?,
        counted: row.get("counted")?,
        transcript: row.get("transcript")?,
    })
}

fn failure(row: &Row) -> Result<Failure> {
    Ok(Failure {
        send_id: row.get("id")?,
        lead_id: row.get("lead_id")?,
        step_order: row.get("step_order")?,
        status: row.get("status")?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        unknowns: row.get("unknowns")?,
        settled_at: row.get("settled_at")?,
        code: row.get("code")?,
        enhanced: row.get("enhanced")?,
    })
}
