//! P7: finished transitions are written down, many in one transaction; a late result changes nothing and says so.
//!
//! Not responsible for deciding: a transition comes from `domain::settle`. To add an effect: a field of `Transition`
//! there, and its statement and step here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, SendId, StepId, TenantId};
use domain::reason::Reason;
use domain::send::SendStatus;
use domain::settle::{AccountEffect, EnrollmentEffect, LeadEffect, Transition};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::SystemStore;
use super::breaker::free_hints;
use super::dot::days::{DayChanges, slot_columns};
use super::refusals::{self, Paused};
use crate::db::{Access, Tx};
use crate::error::Result;
use crate::value::{Rows, Value};
use crate::{statements, values};

/// The enrollment has not gone past the step of the send.
macro_rules! moves {
    () => {
        "(r.status = 'stopped' OR campaign_leads.next_step_order <= st.step_order)"
    };
}

/// It goes on, and what follows was said by another sequence than that of now, or is a mail that the lead has had before an
/// edit put it there. Never by times: no clock tells which of the two sequences a result was made by.
macro_rules! edited {
    () => {
        "(r.status <> 'stopped' AND campaign_leads.next_step_order <= st.step_order AND c.sequence_changed_at IS NOT NULL
            AND (r.sequence_seen IS NULL OR c.sequence_changed_at <> r.sequence_seen
                OR EXISTS (SELECT 1 FROM sends x JOIN campaign_sequence_steps n ON n.id = x.step_id AND n.tenant_id = x.tenant_id
                    WHERE x.campaign_id = c.id AND x.lead_id = campaign_leads.lead_id AND x.round = campaign_leads.round
                        AND NOT x.open AND r.status = 'active'
                        AND n.step_order = r.next_step_order)))"
    };
}

statements! {
    // A 250 is proof whenever it comes; anything else counts only while the send is still ours. What goes back to the
    // queue by a known outcome gets a new fence, so that the same result written again (the answer to a COMMIT was
    // lost) counts once; an unknown one keeps it, since a late 250 is still to be taken.
    SETTLE = "UPDATE sends SET status = r.status, open = r.open, reason = r.reason,
            fence = CASE WHEN r.open AND r.unknown = 0 THEN sends.fence + 1 ELSE sends.fence END,
            not_before = COALESCE(r.not_before, sends.not_before), hinted_at = NULL,
            attempts = sends.attempts + r.counted, unknowns = sends.unknowns + r.unknown, reply = r.reply, owner = NULL,
            account_day = CASE WHEN r.keeps_slot THEN sends.account_day ELSE NULL END,
            campaign_day = CASE WHEN r.keeps_slot THEN sends.campaign_day ELSE NULL END,
            message_id = COALESCE(sends.message_id, r.message_id),
            first_attempt_at = CASE WHEN r.counted = 1 THEN COALESCE(sends.first_attempt_at, r.started_at)
                ELSE sends.first_attempt_at END,
            settled_at = CASE WHEN r.open THEN NULL ELSE $1::timestamptz END, updated_at = $1::timestamptz
        FROM {rows r(id uuid, tenant_id uuid, fence bigint, status text, open boolean, reason text, not_before timestamptz,
            counted bigint, unknown bigint, reply text, keeps_slot boolean, message_id text, started_at timestamptz)}
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.fence = r.fence
            AND (sends.status = 'dot' OR (sends.status IN ('planned', 'queued') AND r.unknown = 0)
                OR (r.status = 'sent' AND sends.status = 'held'))
        RETURNING sends.id AS id";
    ATTEMPT = "INSERT INTO send_attempts (id, tenant_id, send_id, fence, owner, started_at, finished_at, stage, outcome,
            code, enhanced, reply, counted, transcript, created_at, updated_at)
        SELECT r.id, r.tenant_id, r.send_id, r.fence, r.owner, r.started_at, r.finished_at, r.stage, r.outcome,
            r.code, r.enhanced, r.reply, r.counted, r.transcript, r.finished_at, r.finished_at
        FROM {rows r(id uuid, tenant_id uuid, send_id uuid, fence bigint, owner text, started_at timestamptz,
            finished_at timestamptz, stage text, outcome text, code bigint, enhanced text, reply text, counted boolean,
            transcript text)}";
    OUTBOUND = "INSERT INTO inbox_message_refs (id, tenant_id, email_account_id, campaign_id, lead_id, step_id, direction,
            message_type, from_email, to_email, subject, message_id, status, processed_at, created_at, updated_at)
        SELECT r.id, r.tenant_id, r.email_account_id, r.campaign_id, r.lead_id, r.step_id, 'outbound',
            'email', r.from_email, r.to_email, r.subject, r.message_id, 'sent', $1::timestamptz, $1::timestamptz, $1::timestamptz
        FROM {rows r(id uuid, tenant_id uuid, email_account_id uuid, campaign_id uuid, lead_id uuid, step_id uuid,
            from_email text, to_email text, subject text, message_id text)}
        WHERE true ON CONFLICT (tenant_id, message_id, direction) DO NOTHING";
    // A send that another program asked for may be of a step behind the enrollment's place: that stays then. What follows was
    // said by the sequence as it was fetched: where that has changed since, planning walks on from this very step. So it does
    // where the next mail was had already, which only planning reads. A mail of an earlier round moves nobody.
    MOVE_ON = concat!("UPDATE campaign_leads SET
            next_step_order = CASE WHEN ", edited!(), " THEN st.step_order WHEN ", moves!(), " THEN r.next_step_order ELSE campaign_leads.next_step_order END,
            due_at = CASE WHEN ", edited!(), " THEN $1::timestamptz WHEN ", moves!(), " THEN r.due_at ELSE campaign_leads.due_at END,
            status = CASE WHEN ", edited!(), " THEN 'active' WHEN ", moves!(), " THEN r.status ELSE campaign_leads.status END,
            stop_reason = r.stop_reason,
            finished_at = CASE WHEN r.status <> 'active' AND ", moves!(), " THEN $1::timestamptz ELSE campaign_leads.finished_at END,
            highest_sent_step = CASE WHEN r.is_sent THEN {max highest_sent_step, st.step_order} ELSE highest_sent_step END,
            last_sent_at = COALESCE(r.sent_at, last_sent_at),
            thread_message_ids = CASE WHEN r.message_id IS NULL THEN thread_message_ids
                WHEN thread_message_ids IS NULL THEN r.message_id ELSE thread_message_ids || ' ' || r.message_id END,
            thread_subject = COALESCE(thread_subject, r.subject), updated_at = $1
        FROM {rows r(id uuid, tenant_id uuid, next_step_order bigint, due_at timestamptz, status text,
            stop_reason text, is_sent boolean, sent_at timestamptz, message_id text, subject text, step_id uuid, sequence_seen timestamptz,
            send_id uuid)},
            campaign_sequence_steps st, campaigns c, sends s
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = r.tenant_id AND campaign_leads.status = 'active'
            AND st.id = r.step_id AND st.tenant_id = r.tenant_id AND c.id = st.campaign_id AND c.tenant_id = r.tenant_id
            AND s.id = r.send_id AND s.tenant_id = r.tenant_id AND s.round = campaign_leads.round");
    COUNT_STEPS = "UPDATE campaign_sequence_steps SET executed_count = executed_count + r.sent, last_executed_at = $1
        FROM {rows r(id uuid, sent bigint)} WHERE campaign_sequence_steps.id = r.id";
    // No failure lowers the ladder: one that began before others may end after them. A wait that is over keeps its time:
    // what waited for it is not late; a probe's claim ends with its result. A wait without failures is a day's quota.
    ACCOUNT_STATE = "UPDATE email_accounts SET status = COALESCE(r.status, email_accounts.status), status_reason = COALESCE(r.reason, status_reason),
            backoff_until = CASE WHEN r.backoff_until IS NOT NULL AND email_accounts.backoff_failures = 0
                    THEN {max COALESCE(email_accounts.backoff_until, r.backoff_until), r.backoff_until}
                WHEN r.backoff_until IS NOT NULL THEN r.backoff_until
                WHEN email_accounts.backoff_until > $1 THEN $1 ELSE email_accounts.backoff_until END,
            backoff_failures = CASE WHEN r.backoff_until IS NULL THEN r.failures
                ELSE {max email_accounts.backoff_failures, r.failures} END,
            updated_at = CASE WHEN r.status IS NULL THEN updated_at ELSE $1::timestamptz END
        FROM {rows r(id uuid, tenant_id uuid, status text, reason text, backoff_until timestamptz, failures bigint)}
        WHERE email_accounts.id = r.id AND email_accounts.tenant_id = r.tenant_id AND email_accounts.status = 'active'";
    // Before the sends, as the gate does.
    LOCK_ACCOUNTS = "SELECT a.id FROM email_accounts a WHERE a.id {any $1} ORDER BY a.id {for update of a}";
    LEAD_STATUS = "UPDATE leads SET status = $3, updated_at = $4 WHERE tenant_id = $1 AND id = $2 AND status IN ('active', 'replied')";
    SUPPRESS = "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, created_at, updated_at)
        SELECT $1::uuid, tenant_id, lower(email), $4::text, $5::text, $6::timestamptz, $6::timestamptz, $6::timestamptz
        FROM leads WHERE tenant_id = $2 AND id = $3
        ON CONFLICT (tenant_id, email, scope) WHERE tenant_id IS NOT NULL DO UPDATE SET expires_at = NULL,
            reason = excluded.reason, source = excluded.source, added_at = excluded.added_at, updated_at = excluded.updated_at
            WHERE suppression_list.expires_at IS NOT NULL";
    CANCEL_SENDS = concat!("UPDATE sends SET status = 'cancelled', open = false, reason = $3, settled_at = $4, updated_at = $4
        WHERE tenant_id = $1 AND lead_id = $2 AND open AND status IN ('planned', 'queued')
        RETURNING ", slot_columns!());
    END_ENROLLMENTS = "UPDATE campaign_leads SET status = 'stopped', stop_reason = $3, due_at = NULL, updated_at = $4
        WHERE tenant_id = $1 AND lead_id = $2 AND status = 'active'";
    DEAD_LETTER = "INSERT INTO dead_letters (id, tenant_id, send_id, queue_name, payload, error, failed_at, attempt_count,
            original_priority, created_at, updated_at)
        SELECT r.id, s.tenant_id, s.id, 'queue:email-sending', r.payload, r.error, $1::timestamptz, s.attempts, s.priority,
            $1::timestamptz, $1::timestamptz
        FROM {rows r(id uuid, send_id uuid, payload text, error text)} JOIN sends s ON s.id = r.send_id";
    // Waiting for an account that was stopped is no lateness, and what waited goes on at once.
    REVIVE_SENDS = "UPDATE sends SET not_before = {max not_before, $3}, retry_since = $3, hinted_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND email_account_id = $2 AND open AND status IN ('planned', 'queued')";
}

/// One SMTP try, for `send_attempts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The stage of the dialogue in which it ended.
    pub stage: Cow<'static, str>,
    /// In a word, e.g. `accepted`, `refused`, `unknown`.
    pub outcome: Cow<'static, str>,
    /// The reply's code.
    pub code: Option<u16>,
    /// The reply's enhanced code.
    pub enhanced: Option<String>,
    /// The reply's text, bounded and cleaned.
    pub reply: Option<String>,
    /// The dialogue without secrets and bodies.
    pub transcript: Option<String>,
}

/// A result to write down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// The send.
    pub send_id: SendId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// To whom.
    pub lead_id: LeadId,
    /// Its step.
    pub step_id: StepId,
    /// The step's order.
    pub step_order: u32,
    /// Its enrollment.
    pub enrollment_id: EnrollmentId,
    /// Its account; none only where a person ends one that never had one.
    pub email_account_id: Option<EmailAccountId>,
    /// The fence that the result belongs to.
    pub fence: i64,
    /// The account day that is charged (after a dot) or reserved (before it).
    pub account_day: Option<String>,
    /// The campaign day, likewise.
    pub campaign_day: Option<String>,
    /// Whether the dot's intent was recorded.
    pub was_dot: bool,
    /// Which sequence says what follows: when it had last been edited; none = never, or as an earlier version wrote it.
    #[serde(default)]
    pub sequence_seen: Option<Timestamp>,
    /// What to write.
    pub transition: Transition,
    /// The try, where there was one.
    pub attempt: Option<AttemptRecord>,
    /// Message-ID, and the addresses and subject for the reference of a sent message.
    pub message: Option<OutboundMessage>,
}

/// What is kept of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutboundMessage {
    /// RFC 5322 Message-ID with its brackets.
    pub message_id: String,
    /// Address in From.
    pub from: String,
    /// Address in To.
    pub to: String,
    /// The rendered subject.
    pub subject: String,
}

/// Whether a result was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Written.
    Done,
    /// The send had left that state; nothing was changed.
    Stale,
    /// The database takes it in no form; nothing was changed.
    Refused,
}

/// What came of results.
#[derive(Debug, Default)]
pub struct Written {
    /// Of each result, in order, whether it was taken.
    pub applied: Vec<Applied>,
    /// What refusals among them have paused.
    pub paused: Vec<Paused>,
}

impl SystemStore {
    /// Writes results in one transaction; where one of them fails for a reason of its own, or two are about one
    /// enrollment, row by row. A row that fails is written once more without what is only for people to read (try and reference):
    /// how a send ended matters more. Given again, a result that is written already is stale.
    ///
    /// # Errors
    /// Transient errors of the database; the caller tries again with the same results.
    pub async fn apply(
        &self,
        results: &[Settled],
        owner: &str,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<Written> {
        let mut seen = HashSet::new();
        if results.iter().all(|r| seen.insert(r.enrollment_id)) {
            match self.apply_batch(results, owner, new_id, now).await {
                Err(e) if !e.is_transient() => {}
                other => return other,
            }
        }
        let mut written = Written::default();
        for result in results {
            let one = self.apply_one(result, owner, new_id, now).await?;
            written.applied.extend(one.applied);
            written.paused.extend(one.paused);
        }
        Ok(written)
    }

    async fn apply_one(
        &self,
        result: &Settled,
        owner: &str,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<Written> {
        let bare = Settled { attempt: None, message: None, ..result.clone() };
        for form in [result, &bare] {
            match self.apply_batch(std::slice::from_ref(form), owner, new_id, now).await {
                Ok(written) => return Ok(written),
                Err(e) if e.is_transient() => return Err(e),
                Err(e) => tracing::error!(send_id = %result.send_id, error = %e, "a result cannot be written as it is"),
            }
        }
        Ok(Written { applied: vec![Applied::Refused], paused: Vec::new() })
    }

    async fn apply_batch(
        &self,
        results: &[Settled],
        owner: &str,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<Written> {
        let mut tx = self.db.begin(Access::Write).await?;
        refusals::lock(&mut tx, results).await?;
        let accounts: BTreeSet<Uuid> =
            results.iter().filter(|r| r.transition.account.is_some()).filter_map(account_of).collect();
        if !accounts.is_empty() {
            tx.query(&LOCK_ACCOUNTS, values![accounts.into_iter().collect::<Vec<_>>()]).await?;
        }
        let rows: Rows = results.iter().map(settle_row).collect();
        let changed: Vec<SendId> =
            tx.query_rows(&SETTLE, rows, values![now]).await?.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        let done: Vec<&Settled> = results.iter().filter(|r| changed.contains(&r.send_id)).collect();
        write_attempts(&mut tx, &done, owner, new_id).await?;
        write_outbound(&mut tx, &done, new_id, now).await?;
        move_enrollments(&mut tx, &done, now).await?;
        write_accounts(&mut tx, &done, now).await?;
        write_dead_letters(&mut tx, &done, new_id, now).await?;
        // In the gate's order (accounts, sends, days), or the two would wait for each other.
        let mut days = DayChanges::default();
        for result in done.iter().filter(|r| r.transition.lead == Some(LeadEffect::Bounced)) {
            let exclusion = Exclusion { status: "bounced", reason: Reason::LeadBounced, source: "smtp" };
            let lead = (result.tenant_id, result.lead_id);
            exclude_lead(&mut tx, lead, &exclusion, new_id(), &mut days, now).await?;
        }
        for result in &done {
            give_back(&mut days, result);
        }
        // Behind accounts that refusals pause: whoever wakes a campaign waits for nobody.
        let paused = refusals::pause(&mut tx, &done, now).await?;
        days.write(&mut tx, now).await?;
        tx.commit().await?;
        let applied = |r: &Settled| if changed.contains(&r.send_id) { Applied::Done } else { Applied::Stale };
        Ok(Written { applied: results.iter().map(applied).collect(), paused })
    }
}

/// Whether the slot stays reserved: the send never came to its dot and goes later.
fn keeps_slot(result: &Settled) -> bool {
    result.transition.status.is_open() && !result.was_dot
}

fn settle_row(r: &Settled) -> Vec<Value> {
    let t = &r.transition;
    values![
        r.send_id,
        r.tenant_id,
        r.fence,
        t.status,
        t.status.is_open(),
        t.reason,
        t.not_before,
        i64::from(t.counted),
        i64::from(t.unknown),
        r.attempt.as_ref().and_then(|a| a.reply.clone()),
        keeps_slot(r),
        r.message.as_ref().map(|m| m.message_id.clone()),
        r.attempt.as_ref().map(|a| a.started_at),
    ]
}

pub(super) fn account_of(r: &Settled) -> Option<Uuid> {
    r.email_account_id.map(EmailAccountId::uuid)
}

fn give_back(days: &mut DayChanges, r: &Settled) {
    let (reserved, used) = match r.was_dot {
        true if r.transition.give_back => (0, -1),
        false if !keeps_slot(r) => (-1, 0),
        _ => return,
    };
    for (scope, id, day) in
        [("account", account_of(r), &r.account_day), ("campaign", Some(r.campaign_id.uuid()), &r.campaign_day)]
    {
        if let (Some(id), Some(day)) = (id, day) {
            days.add(scope, id, r.tenant_id, day, reserved, used);
        }
    }
}

async fn write_attempts(
    tx: &mut Tx,
    done: &[&Settled],
    owner: &str,
    new_id: &(dyn Fn() -> Uuid + Send + Sync),
) -> Result<()> {
    let rows = done
        .iter()
        .filter_map(|r| {
            let a = r.attempt.as_ref()?;
            Some(values![
                new_id(),
                r.tenant_id,
                r.send_id,
                r.fence,
                owner,
                a.started_at,
                a.finished_at,
                &*a.stage,
                &*a.outcome,
                a.code,
                a.enhanced.clone(),
                a.reply.clone(),
                r.transition.counted,
                a.transcript.clone(),
            ])
        })
        .collect();
    tx.execute_rows(&ATTEMPT, rows, vec![]).await.map(drop)
}

pub(super) async fn write_outbound(
    tx: &mut Tx,
    done: &[&Settled],
    new_id: &(dyn Fn() -> Uuid + Send + Sync),
    now: Timestamp,
) -> Result<()> {
    let sent = done.iter().filter(|r| r.transition.status == SendStatus::Sent);
    let mut steps: BTreeMap<StepId, i64> = BTreeMap::new();
    let mut rows = Vec::new();
    for r in sent {
        *steps.entry(r.step_id).or_default() += 1;
        if let (Some(m), Some(account)) = (&r.message, r.email_account_id) {
            rows.push(values![
                new_id(),
                r.tenant_id,
                account,
                r.campaign_id,
                r.lead_id,
                r.step_id,
                &m.from,
                &m.to,
                &m.subject,
                &m.message_id,
            ]);
        }
    }
    tx.execute_rows(&OUTBOUND, rows.into_iter().collect(), values![now]).await?;
    let counts = steps.into_iter().map(|(step, sent)| values![step, sent]).collect();
    tx.execute_rows(&COUNT_STEPS, counts, values![now]).await.map(drop)
}

pub(super) async fn move_enrollments(tx: &mut Tx, done: &[&Settled], now: Timestamp) -> Result<()> {
    let rows = done
        .iter()
        .filter_map(|r| {
            let sent = r.transition.status == SendStatus::Sent;
            let (next, status, why) = match r.transition.enrollment {
                EnrollmentEffect::Keep => return None,
                EnrollmentEffect::MoveOn(None) => (None, "completed", None),
                EnrollmentEffect::MoveOn(Some(next)) => (Some(next), "active", None),
                EnrollmentEffect::End(reason) => (None, "stopped", Some(reason)),
            };
            Some(values![
                r.enrollment_id,
                r.tenant_id,
                next.map_or(r.step_order, |due| due.step_order),
                next.map(|due| due.at),
                status,
                why,
                sent,
                sent.then_some(now),
                r.message.as_ref().filter(|_| sent).map(|m| m.message_id.clone()),
                r.message.as_ref().filter(|_| sent).map(|m| m.subject.clone()),
                r.step_id,
                r.sequence_seen,
                r.send_id,
            ])
        })
        .collect();
    tx.execute_rows(&MOVE_ON, rows, values![now]).await.map(drop)
}

/// One effect per account. The last one stands, but that none undoes what needs a person, and no wait shortens a longer one.
fn lasting_effects<'a>(done: &[&'a Settled]) -> BTreeMap<EmailAccountId, (&'a Settled, AccountEffect)> {
    let mut lasting: BTreeMap<EmailAccountId, (&Settled, AccountEffect)> = BTreeMap::new();
    for r in done {
        let (Some(effect), Some(account)) = (r.transition.account, r.email_account_id) else { continue };
        let stays = lasting.get(&account).is_some_and(|(_, before)| match (*before, effect) {
            (AccountEffect::AuthenticationFailed | AccountEffect::Paused, _) => true,
            (AccountEffect::BackOff { until: longer, .. }, AccountEffect::BackOff { until, .. }) => longer > until,
            _ => false,
        });
        if !stays {
            lasting.insert(account, (r, effect));
        }
    }
    lasting
}

async fn write_accounts(tx: &mut Tx, done: &[&Settled], now: Timestamp) -> Result<()> {
    let mut effects: BTreeMap<EmailAccountId, Vec<Value>> = BTreeMap::new();
    for (id, (r, effect)) in lasting_effects(done) {
        let none = Option::<&str>::None;
        let tenant_id = r.tenant_id;
        let row = match effect {
            AccountEffect::Recovered => values![id, tenant_id, none, none, Option::<Timestamp>::None, 0_i64],
            AccountEffect::BackOff { until, failures } => values![id, tenant_id, none, none, until, failures],
            AccountEffect::AuthenticationFailed => {
                values![
                    id,
                    tenant_id,
                    "authentication_failed",
                    why(r, "the server refused the log-in"),
                    Option::<Timestamp>::None,
                    0_i64
                ]
            }
            AccountEffect::Paused => {
                values![id, tenant_id, "paused", why(r, "no message can go by it"), Option::<Timestamp>::None, 0_i64]
            }
        };
        effects.insert(id, row);
    }
    tx.execute_rows(&ACCOUNT_STATE, effects.into_values().collect(), values![now]).await?;
    let recovered = done.iter().filter(|r| r.transition.account == Some(AccountEffect::Recovered));
    free_hints(tx, recovered.filter_map(|r| Some((r.email_account_id?, r.tenant_id))), now).await
}

/// What the server said, or what went wrong with it: a person has to mend it.
fn why(r: &Settled, otherwise: &str) -> String {
    let attempt = r.attempt.as_ref();
    let said = attempt.and_then(|a| Some(format!("{}: {}", a.stage, a.reply.as_deref()?)));
    said.unwrap_or_else(|| otherwise.to_owned())
}

async fn write_dead_letters(
    tx: &mut Tx,
    done: &[&Settled],
    new_id: &(dyn Fn() -> Uuid + Send + Sync),
    now: Timestamp,
) -> Result<()> {
    let rows = done
        .iter()
        .filter(|r| r.transition.dead_letter)
        .map(|r| {
            let payload = serde_json::json!({
                "tenantId": r.tenant_id, "campaignId": r.campaign_id, "leadId": r.lead_id, "stepId": r.step_id,
                "emailAccountId": r.email_account_id, "sendId": r.send_id,
            });
            let reason = r.transition.reason.map_or("failed", Reason::as_str);
            values![new_id(), r.send_id, payload.to_string(), reason]
        })
        .collect();
    tx.execute_rows(&DEAD_LETTER, rows, values![now]).await.map(drop)
}

/// Why a lead is excluded from now on.
pub(super) struct Exclusion {
    /// The lead's new status.
    pub(super) status: &'static str,
    /// The reason on its cancelled sends.
    pub(super) reason: Reason,
    /// Who said so.
    pub(super) source: &'static str,
}

/// Excludes a lead: status, suppression, its open sends cancelled, its enrollments ended, all in the caller's
/// transaction, so that the row lock on a send decides against a dot that is being granted. What the sends had reserved
/// goes to `days`, which the caller writes last.
pub(super) async fn exclude_lead(
    tx: &mut Tx,
    (tenant_id, lead_id): (TenantId, LeadId),
    exclusion: &Exclusion,
    suppression_id: Uuid,
    days: &mut DayChanges,
    now: Timestamp,
) -> Result<()> {
    tx.execute(&LEAD_STATUS, values![tenant_id, lead_id, exclusion.status, now]).await?;
    let params = values![suppression_id, tenant_id, lead_id, exclusion.status, exclusion.source, now];
    tx.execute(&SUPPRESS, params).await?;
    let sends = tx.query(&CANCEL_SENDS, values![tenant_id, lead_id, exclusion.reason, now]).await?;
    sends.iter().try_for_each(|send| days.free(send))?;
    tx.execute(&END_ENROLLMENTS, values![tenant_id, lead_id, exclusion.reason, now]).await.map(drop)
}

/// Has the mail of an account that may send again go at once, none of it late.
pub(super) async fn revive_sends(
    tx: &mut Tx,
    tenant_id: TenantId,
    account: EmailAccountId,
    now: Timestamp,
) -> Result<()> {
    tx.execute(&REVIVE_SENDS, values![tenant_id, account, now]).await.map(drop)
}
