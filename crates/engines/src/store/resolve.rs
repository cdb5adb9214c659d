//! What people do about sends that do not move on by themselves: a held one is resolved, failed ones are sent again.
//!
//! Not responsible for deciding (`domain::settle::resolve`) or for who has to decide (`sends` lists them). To add a way
//! back to the queue: its statement here, which names the state that it expects, under the lock of the campaign.

use std::collections::BTreeSet;

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::ids::{CampaignId, SendId, TenantId};
use domain::plan::exclusion;
use domain::reason::Reason;
use domain::settle::{EnrollmentEffect, may_send_again};
use domain::time::Timestamp;
use uuid::Uuid;

use super::TenantStore;
use super::apply::{Applied, Settled, move_enrollments, write_outbound};
use super::campaigns::PASSED;
use crate::db::{Access, LockKind, Tx};
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    // What is sent again keeps its fence where a dot of it is unknown: a late 250 is proof still. Without one it gets a
    // new fence, so that the result that held it, written again from a journal, changes nothing. Its slot was given back
    // when it was held: the gate asks for room.
    RESOLVE = "UPDATE sends SET status = $3::text, open = $4::boolean, reason = $5::text, hinted_at = NULL, owner = NULL,
            account_day = NULL, campaign_day = NULL,
            not_before = COALESCE($6::timestamptz, not_before),
            retry_since = CASE WHEN $4::boolean THEN $7::timestamptz ELSE retry_since END,
            fence = CASE WHEN $4::boolean AND unknowns = 0 THEN fence + 1 ELSE fence END,
            settled_at = CASE WHEN $4::boolean THEN NULL ELSE $7::timestamptz END, updated_at = $7::timestamptz
        WHERE tenant_id = $1 AND id = $2 AND status = 'held' AND fence = $8 AND ($4::boolean = false OR EXISTS (
            SELECT 1 FROM campaigns c WHERE c.id = sends.campaign_id AND c.tenant_id = $1
                AND c.status NOT IN ('cancelled', 'archived')))";
    CAMPAIGNS_OF = "SELECT DISTINCT campaign_id FROM sends WHERE id {any $1} AND ($2::uuid IS NULL OR tenant_id = $2)";
    FAILED_IDS = "SELECT id FROM sends WHERE tenant_id = $1 AND campaign_id = $2 AND NOT open AND reason IS NOT NULL
            AND status = 'failed' AND ($3::text IS NULL OR reason = $3) AND id > $4
        ORDER BY id LIMIT $5";
    FAILED = "SELECT s.id, s.tenant_id, s.enrollment_id, s.campaign_id, e.round = s.round AS is_of_its_round, c.status AS campaign_status, c.settings, l.status AS lead_status,
            EXISTS (SELECT 1 FROM suppression_list x WHERE x.email = lower(l.email)
                AND (x.tenant_id = s.tenant_id OR x.tenant_id IS NULL)
                AND (x.expires_at IS NULL OR x.expires_at > $3)) AS suppressed
        FROM sends s JOIN campaigns c ON c.id = s.campaign_id AND c.tenant_id = s.tenant_id
            JOIN leads l ON l.id = s.lead_id AND l.tenant_id = s.tenant_id
            JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
        WHERE s.id {any $1} AND ($2::uuid IS NULL OR s.tenant_id = $2) AND s.status = 'failed'
        ORDER BY s.id {for update of s}";
    // A new fence: the failure, written again from a journal, must not end the send a second time. Where it may have arrived
    // before, it keeps its Date, by which receivers know a copy.
    REQUEUE = "UPDATE sends SET status = 'queued', open = true, reason = NULL, attempts = 0, retry_since = $1,
            first_attempt_at = CASE WHEN unknowns = 0 THEN NULL ELSE first_attempt_at END, fence = fence + 1, not_before = $1, hinted_at = NULL, settled_at = NULL, updated_at = $1
        FROM {rows r(id uuid, tenant_id uuid)}
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.status = 'failed'";
    REOPEN_ENROLLMENTS = "UPDATE campaign_leads SET status = 'active', stop_reason = NULL, due_at = NULL, finished_at = NULL, updated_at = $1
        FROM {rows r(id uuid, tenant_id uuid)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = r.tenant_id AND campaign_leads.status = 'stopped'";
    // One that rests is asked again: the account that the lead keeps may have room.
    REOPEN_CAMPAIGNS = "UPDATE campaigns SET status = CASE WHEN status = 'completed' THEN 'sending' ELSE status END,
            updated_at = CASE WHEN status = 'completed' THEN $1 ELSE updated_at END, completed_at = NULL, next_plan_at = $2
        FROM {rows r(id uuid, tenant_id uuid)}
        WHERE campaigns.id = r.id AND campaigns.tenant_id = r.tenant_id AND status IN ('completed', 'scheduled', 'sending')";
    MARK_LETTERS = "UPDATE dead_letters SET replayed_at = $1, updated_at = $1 FROM {rows r(id uuid, tenant_id uuid)}
        WHERE dead_letters.send_id = r.id AND dead_letters.tenant_id = r.tenant_id AND dead_letters.replayed_at IS NULL";
}

/// How many sends went back to the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentAgain {
    /// On their way again.
    pub queued: u64,
    /// Left as they are: the lead gets no mail any more, or the campaign has ended.
    pub excluded: u64,
}

/// One page of `send_failed_again`.
#[derive(Clone, Copy, Debug)]
pub struct FailedPage {
    /// What was done.
    pub done: SentAgain,
    /// Where to go on; none = that was all.
    pub next: Option<SendId>,
}

impl TenantStore {
    /// Writes a person's decision about a held send; stale where it was settled since it was read, by a late 250 or by
    /// somebody else, or its campaign was cancelled.
    ///
    /// # Errors
    /// The database; nothing is changed then.
    pub async fn resolve_send(
        &self,
        resolved: &Settled,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
        now: Timestamp,
    ) -> Result<Applied> {
        let (id, t) = (resolved.send_id, &resolved.transition);
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, false, [resolved.campaign_id.uuid()]).await?;
        let open = t.status.is_open();
        let params = values![self.tenant_id, id, t.status, open, t.reason, t.not_before, now, resolved.fence];
        if tx.execute(&RESOLVE, params).await? == 0 {
            return Ok(Applied::Stale);
        }
        write_outbound(&mut tx, &[resolved], new_id, now).await?;
        move_enrollments(&mut tx, &[resolved], now).await?;
        if open || matches!(t.enrollment, EnrollmentEffect::MoveOn(Some(_))) {
            let campaign = [values![resolved.campaign_id, self.tenant_id]].into_iter().collect();
            reopen_campaigns(&mut tx, campaign, now).await?;
        }
        tx.commit().await?;
        Ok(Applied::Done)
    }

    /// Sends one page of a campaign's failed sends again, those of one reason where it is given; each page is one
    /// transaction, so what was cut off goes on where it was.
    ///
    /// # Errors
    /// The database; nothing of the page is changed then.
    pub async fn send_failed_again(
        &self,
        id: CampaignId,
        reason: Option<Reason>,
        after: Option<SendId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<FailedPage> {
        let after = after.map_or(Uuid::nil(), SendId::uuid);
        let rows = self.db.read(&FAILED_IDS, values![self.tenant_id, id, reason, after, limit]).await?;
        let ids: Vec<SendId> = rows.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        let next = ids.last().copied().filter(|_| ids.len() >= limit as usize);
        if ids.is_empty() {
            return Ok(FailedPage { done: SentAgain::default(), next });
        }
        let mut tx = self.db.begin(Access::Write).await?;
        let done = send_again(&mut tx, Some(self.tenant_id), &ids, now).await?;
        tx.commit().await?;
        Ok(FailedPage { done, next })
    }
}

/// Puts failed sends back to the queue with a fresh budget: their letters are replayed, their enrollments and campaigns
/// open again. Only those that may go; of one tenant where it is given. The first thing that the transaction does.
pub(super) async fn send_again(
    tx: &mut Tx,
    tenant_id: Option<TenantId>,
    sends: &[SendId],
    now: Timestamp,
) -> Result<SentAgain> {
    let ids: Vec<Uuid> = sends.iter().map(|id| id.uuid()).collect();
    // Nobody completes or cancels the campaigns meanwhile.
    let campaigns = tx.query(&CAMPAIGNS_OF, values![ids.clone(), tenant_id]).await?;
    let campaigns: Vec<Uuid> = campaigns.iter().map(|row| row.get("campaign_id")).collect::<Result<_>>()?;
    tx.lock(LockKind::Campaign, false, campaigns).await?;
    let mut excluded = 0;
    let (mut queued, mut enrollments, mut campaigns) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for row in tx.query(&FAILED, values![ids, tenant_id, now]).await? {
        if !may_go(&row)? {
            excluded += 1;
            continue;
        }
        let tenant: TenantId = row.get("tenant_id")?;
        queued.insert((row.get::<Uuid>("id")?, tenant));
        // Nobody waits for a mail of an earlier round.
        if row.get("is_of_its_round")? {
            enrollments.insert((row.get::<Uuid>("enrollment_id")?, tenant));
        }
        campaigns.insert((row.get::<Uuid>("campaign_id")?, tenant));
    }
    let count = queued.len() as u64;
    for (statement, ids) in [(&REQUEUE, queued.clone()), (&MARK_LETTERS, queued), (&REOPEN_ENROLLMENTS, enrollments)] {
        tx.execute_rows(statement, keys(ids), values![now]).await?;
    }
    reopen_campaigns(tx, keys(campaigns), now).await?;
    Ok(SentAgain { queued: count, excluded })
}

fn keys(ids: BTreeSet<(Uuid, TenantId)>) -> Rows {
    ids.into_iter().map(|(id, tenant)| values![id, tenant]).collect()
}

async fn reopen_campaigns(tx: &mut Tx, campaigns: Rows, now: Timestamp) -> Result<()> {
    tx.execute_rows(&REOPEN_CAMPAIGNS, campaigns, values![now, now - PASSED]).await.map(drop)
}

fn may_go(row: &Row) -> Result<bool> {
    let settings: serde_json::Value = row.get("settings")?;
    // Settings that cannot be read send nobody a mail whom another setting might exclude.
    let stop_on_reply = serde_json::from_value(settings).map_or(true, |s: CampaignSettings| s.stop_on_reply);
    let campaign: CampaignStatus = row.get("campaign_status")?;
    let against = exclusion(row.get("lead_status")?, row.get("suppressed")?, stop_on_reply);
    Ok(may_send_again(campaign, against).is_ok())
}
