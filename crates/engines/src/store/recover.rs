//! P8 and P9: who is alive, what a dead owner left behind, and which sends need a hint again.
//!
//! Judging that an owner is dead is the worker's (it watches heartbeats stand still); what becomes of a send is
//! `domain::settle`'s. To add a kind of leftover: its statement and a method here.

use domain::campaign::{CampaignSettings, OnUnknown};
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, SendId, StepId, TenantId};
use domain::settle::Transition;
use domain::time::Timestamp;
use uuid::Uuid;

use super::apply::Settled;
use super::fetch::budget_began_at;
use super::plan::Hint;
use super::{SystemStore, rounds};
use crate::db::{Access, LockKind};
use crate::error::Result;
use crate::queue::Lane;
use crate::value::Row;
use crate::{statements, values};

/// The epoch of hints that a worker took from the ledger itself, while the queue did not answer: no queue's, so that
/// they count as lost once it answers.
pub const LEDGER_EPOCH: i64 = -1;

/// Every enrollment has ended and every send is final, none held. Scalar and in order, not `EXISTS`: PostgreSQL makes joins of those
/// and reads all enrollments for them, a third of a second each turn where there are a million; the order is an index's. From its end,
/// since planning leaves dead entries of new leads, who have no account, at its beginning.
macro_rules! completable {
    () => {
        "status = 'sending'
            AND (SELECT e.id FROM campaign_leads e WHERE e.campaign_id = campaigns.id AND e.status NOT IN ('completed', 'stopped')
                ORDER BY COALESCE(e.email_account_id, {nil}) DESC LIMIT 1) IS NULL
            AND (SELECT e.campaign_id FROM campaign_leads e WHERE e.campaign_id >= campaigns.id ORDER BY e.campaign_id LIMIT 1) = campaigns.id
            AND NOT COALESCE((SELECT s.campaign_id FROM sends s WHERE s.campaign_id >= campaigns.id AND s.open ORDER BY s.campaign_id LIMIT 1)
                = campaigns.id, false)
            AND (SELECT s.id FROM sends s WHERE s.campaign_id = campaigns.id AND NOT s.open AND s.status = 'held' LIMIT 1) IS NULL"
    };
}

/// Somebody has the message: what only it could tell happened after its dot. A scanner proves nothing, since servers look
/// at a message that they refuse then; nor does anything prove a later round's, since no event says of which round it is, and
/// the lead has an earlier one's copy.
macro_rules! proof {
    () => {
        "EXISTS (SELECT 1 FROM tracking_events t WHERE t.tenant_id = s.tenant_id AND t.campaign_id = s.campaign_id
                AND t.lead_id = s.lead_id AND t.step_id = s.step_id AND t.verdict <> 'scanner'
                AND t.occurred_at >= s.last_attempt_at AND s.round = 1)"
    };
}

statements! {
    HEARTBEAT = "INSERT INTO workers (owner, host, pid, heartbeat, created_at, updated_at) VALUES ($1, $2, $3, 1, $4, $4)
        ON CONFLICT (owner) DO UPDATE SET heartbeat = workers.heartbeat + 1, updated_at = excluded.updated_at";
    OWNERS = "SELECT owner, heartbeat FROM workers";
    REMOVE_OWNER = "DELETE FROM workers WHERE owner = $1 AND ($2::bigint IS NULL OR heartbeat = $2) AND NOT EXISTS (SELECT 1 FROM sends WHERE owner = $1 AND open)";
    DOTS = concat!("SELECT s.id, s.tenant_id, s.campaign_id, s.lead_id, s.step_id, st.step_order, s.enrollment_id, s.email_account_id,
            s.fence, s.attempts, s.max_attempts, s.unknowns, s.account_day, s.campaign_day, c.settings, ",
            budget_began_at!(), ", ", proof!(), " AS has_proof
        FROM sends s JOIN campaigns c ON c.id = s.campaign_id JOIN campaign_sequence_steps st ON st.id = s.step_id
        WHERE s.open AND s.status = 'dot' AND s.owner = $1
            AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.owner = s.owner AND w.heartbeat <> $2)");
    PROVEN = concat!("SELECT s.id, s.tenant_id FROM sends s
        WHERE NOT s.open AND s.reason IN ('unknown', 'result_refused') AND s.status = 'held' AND s.id > $1 AND ", proof!(), "
        ORDER BY s.id LIMIT $2");
    RECONCILE = "UPDATE sends SET hinted_at = $1, hinted_epoch = $2 WHERE id IN (
            SELECT s.id FROM sends s JOIN campaigns c ON c.id = s.campaign_id JOIN email_accounts a ON a.id = s.email_account_id
            WHERE s.open AND s.status IN ('planned', 'queued') AND s.not_before <= $1
                AND s.priority BETWEEN $5 AND $6
                AND (s.hinted_at IS NULL OR s.hinted_at <= $3 OR s.hinted_epoch <> $2)
                AND c.status = 'sending' AND a.status = 'active' AND (a.backoff_until IS NULL OR a.backoff_until <= $1)
            ORDER BY s.priority, s.not_before, s.id LIMIT $4 {for update of s skip locked})
        RETURNING id, tenant_id, campaign_id, lead_id, step_id, email_account_id, priority, not_before";
    // Between two rounds a campaign is asked nothing that costs as much as it has sent.
    COMPLETABLE = concat!("SELECT id FROM campaigns WHERE NOT (id {any $1}) AND ", completable!());
    COMPLETE = concat!("UPDATE campaigns SET status = 'completed', completed_at = $1, updated_at = $1
        WHERE id {any $2} AND ", completable!(), " RETURNING id");
}

/// A send in `dot` whose owner is dead: its outcome is unknown.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the ledger's columns, as `settle` and `apply` take them")]
pub struct OpenDot {
    pub send_id: SendId,
    pub tenant_id: TenantId,
    pub campaign_id: CampaignId,
    pub lead_id: LeadId,
    pub step_id: StepId,
    pub step_order: u32,
    pub enrollment_id: EnrollmentId,
    pub email_account_id: EmailAccountId,
    pub fence: i64,
    pub attempts: u32,
    pub max_attempts: Option<u32>,
    pub unknowns: u32,
    pub budget_began_at: Option<Timestamp>,
    pub account_day: Option<String>,
    pub campaign_day: Option<String>,
    pub on_unknown: OnUnknown,
    /// Whether somebody has the message.
    pub has_proof: bool,
}

impl OpenDot {
    /// What is written down of it: there was no try that anybody could tell of.
    pub fn settled(self, transition: Transition) -> Settled {
        Settled {
            send_id: self.send_id,
            tenant_id: self.tenant_id,
            campaign_id: self.campaign_id,
            lead_id: self.lead_id,
            step_id: self.step_id,
            step_order: self.step_order,
            enrollment_id: self.enrollment_id,
            email_account_id: Some(self.email_account_id),
            fence: self.fence,
            account_day: self.account_day,
            campaign_day: self.campaign_day,
            was_dot: true,
            // It moves nobody.
            sequence_seen: None,
            transition,
            attempt: None,
            message: None,
        }
    }
}

impl SystemStore {
    /// Says that `owner` is alive.
    ///
    /// # Errors
    /// The database.
    pub async fn heartbeat(&self, owner: &str, host: &str, pid: u32, now: Timestamp) -> Result<()> {
        self.db.write(&HEARTBEAT, values![owner, host, pid, now]).await.map(drop)
    }

    /// Every owner with its heartbeat's count; one that does not grow for long enough is dead.
    ///
    /// # Errors
    /// The database.
    pub async fn list_owners(&self) -> Result<Vec<(String, i64)>> {
        let rows = self.db.read(&OWNERS, vec![]).await?;
        rows.iter().map(|row| Ok((row.get("owner")?, row.get("heartbeat")?))).collect()
    }

    /// Forgets an owner that has nothing open any more; where a heartbeat is given, only one that still stands there.
    ///
    /// # Errors
    /// The database.
    pub async fn remove_owner(&self, owner: &str, heartbeat: Option<i64>) -> Result<()> {
        self.db.write(&REMOVE_OWNER, values![owner, heartbeat]).await.map(drop)
    }

    /// The sends that `owner` left in `dot`; none where its heartbeat does not stand at `heartbeat` any more, since it
    /// lives then and its dots may be new.
    ///
    /// # Errors
    /// The database.
    pub async fn dots_of(&self, owner: &str, heartbeat: i64) -> Result<Vec<OpenDot>> {
        self.db.read(&DOTS, values![owner, heartbeat]).await?.iter().map(open_dot).collect()
    }

    /// Sends that are held since nobody knew whether they had arrived, or since their results were not taken, and that have
    /// arrived: somebody opened them or followed a link; at most `limit` of those behind `after`.
    ///
    /// # Errors
    /// The database.
    pub async fn list_proven(&self, after: Option<SendId>, limit: u32) -> Result<Vec<(TenantId, SendId)>> {
        let after = after.map_or(Uuid::nil(), SendId::uuid);
        let rows = self.db.read(&PROVEN, values![after, limit]).await?;
        rows.iter().map(|row| Ok((row.get("tenant_id")?, row.get("id")?))).collect()
    }

    /// Marks and returns sends of a lane that may go now and have no hint of this epoch since `stale`; at most `limit`,
    /// the most urgent first, of those the ones that have been due for longest.
    ///
    /// # Errors
    /// The database.
    pub async fn reconcile(
        &self,
        lane: Lane,
        epoch: i64,
        stale: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Hint>> {
        let priorities = lane.priorities();
        let params = values![now, epoch, stale, limit, *priorities.start(), *priorities.end()];
        let mut hints: Vec<Hint> = self.db.write(&RECONCILE, params).await?.iter().map(hint).collect::<Result<_>>()?;
        // RETURNING promises no order.
        hints.sort_by_key(|hint| (hint.priority, hint.not_before, hint.send_id));
        Ok(hints)
    }

    /// Completes campaigns whose every send is final, none held, whose every enrollment has ended, and which do not come back;
    /// which.
    ///
    /// # Errors
    /// The database.
    pub async fn complete_campaigns(&self, now: Timestamp) -> Result<Vec<CampaignId>> {
        let found = self.db.read(&COMPLETABLE, values![self.coming_back().await?]).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = found.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        // Asked again under the lock: an import that enrolls somebody right now holds it, and is seen then.
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, true, ids.iter().copied()).await?;
        let coming = rounds::to_come(&mut tx, &ids).await?;
        let ids: Vec<Uuid> = ids.into_iter().filter(|id| !coming.contains(id)).collect();
        let completed = tx.query(&COMPLETE, values![now, ids]).await?;
        tx.commit().await?;
        completed.iter().map(|row| row.get("id")).collect()
    }
}

fn open_dot(row: &Row) -> Result<OpenDot> {
    let settings: serde_json::Value = row.get("settings")?;
    Ok(OpenDot {
        send_id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        campaign_id: row.get("campaign_id")?,
        lead_id: row.get("lead_id")?,
        step_id: row.get("step_id")?,
        step_order: row.get("step_order")?,
        enrollment_id: row.get("enrollment_id")?,
        email_account_id: row.get("email_account_id")?,
        fence: row.get("fence")?,
        attempts: row.get("attempts")?,
        max_attempts: row.get("max_attempts")?,
        unknowns: row.get("unknowns")?,
        budget_began_at: row.get("budget_began_at")?,
        account_day: row.get("account_day")?,
        campaign_day: row.get("campaign_day")?,
        has_proof: row.get("has_proof")?,
        // Settings that cannot be read allow no second copy, and hold up nobody else's sends.
        on_unknown: serde_json::from_value(settings).map_or(OnUnknown::Hold, |s: CampaignSettings| s.on_unknown),
    })
}

fn hint(row: &Row) -> Result<Hint> {
    Ok(Hint {
        send_id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        campaign_id: row.get("campaign_id")?,
        lead_id: row.get("lead_id")?,
        step_id: row.get("step_id")?,
        email_account_id: row.get("email_account_id")?,
        priority: row.get("priority")?,
        not_before: row.get("not_before")?,
    })
}
