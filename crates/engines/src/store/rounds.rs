//! Rounds: enrollments that have finished go through their sequence again, since their campaign came back, their lead was
//! added again, or a person said so.
//!
//! A mail is sent once in each round; its row says in which. Not responsible for deciding who may begin or when a campaign
//! comes back (`domain::rounds`). To add a way to begin: who is asked for, read by `standings`, and given to `begin`.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::first_step::FirstStep;
use domain::ids::{CampaignId, EnrollmentId, LeadId, TenantId};
use domain::rounds::{NotAgain, Rounds, Standing, may_begin};
use domain::time::Timestamp;
use uuid::Uuid;

use super::campaigns::{go_on, load, plan_at_once};
use super::{SystemStore, TenantStore};
use crate::db::{Access, LockKind, Tx};
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

/// What `standing` reads of enrollments `e` of the tenant `$1`, at the time `$3`.
macro_rules! standing {
    () => {
        "SELECT e.id, e.lead_id, e.round, e.status, e.stop_reason, COALESCE(e.finished_at, e.updated_at) AS finished_at,
            l.status AS lead_status,
            EXISTS (SELECT 1 FROM sends s WHERE s.enrollment_id = e.id AND s.tenant_id = e.tenant_id
                AND (s.open OR s.status = 'held')) AS waits,
            EXISTS (SELECT 1 FROM suppression_list s WHERE s.email = lower(l.email)
                AND (s.tenant_id = e.tenant_id OR s.tenant_id IS NULL)
                AND (s.expires_at IS NULL OR s.expires_at > $3)) AS suppressed
        FROM campaign_leads e JOIN leads l ON l.id = e.lead_id AND l.tenant_id = e.tenant_id
        WHERE e.tenant_id = $1 AND e.campaign_id = $2"
    };
}

statements! {
    RECURRING = "SELECT id, tenant_id, settings, scheduled_at, rounds_seen_until FROM campaigns
        WHERE status = 'sending' AND settings ->> 'repeat' IS NOT NULL ORDER BY scheduled_at, id";
    RECURRING_AMONG = "SELECT id, settings, scheduled_at, rounds_seen_until FROM campaigns
        WHERE id {any $1} AND settings ->> 'repeat' IS NOT NULL";
    // By the index of who is enrolled. Of an occurrence ($6): whoever has finished by then and has not begun its round, so that
    // what was begun of it is asked no more. Locked, and not skipped where another holds it: who is passed over here would
    // miss the round.
    FINISHED = concat!(standing!(), " AND e.status <> 'active' AND e.lead_id > $4
            AND ($6::timestamptz IS NULL OR (COALESCE(e.finished_at, e.updated_at) <= $6
                AND (e.round_began_at IS NULL OR e.round_began_at < $6)))
        ORDER BY e.lead_id LIMIT $5 {for update of e}");
    OF_LEADS = concat!(standing!(), " AND e.lead_id {any $4} ORDER BY e.lead_id {for update of e}");
    // The account stays: it has written to the lead before.
    BEGIN = "UPDATE campaign_leads SET round = r.round + 1, status = 'active', stop_reason = NULL,
            next_step_order = r.step_order, due_at = r.due_at, highest_sent_step = 0, last_sent_at = NULL,
            thread_message_ids = NULL, thread_subject = NULL, round_began_at = $2, finished_at = NULL, updated_at = $3
        FROM {rows r(id uuid, round bigint, step_order bigint, due_at timestamptz)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = $1 AND campaign_leads.round = r.round
            AND campaign_leads.status <> 'active'";
    // An occurrence is over when all who may have begun its round.
    SEEN = "UPDATE campaigns SET rounds_seen_until = $3 WHERE tenant_id = $1 AND id = $2
        AND (rounds_seen_until IS NULL OR rounds_seen_until < $3)";
}

/// An occurrence of a recurring campaign whose round is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueRound {
    /// Whose campaign.
    pub tenant_id: TenantId,
    /// Which.
    pub campaign_id: CampaignId,
    /// The occurrence.
    pub at: Timestamp,
}

/// One page of beginning a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundPage {
    /// Enrollments that have begun it.
    pub began: u64,
    /// Those who gave a reason not to, by that reason.
    pub left: BTreeMap<NotAgain, u64>,
    /// Where to go on; none = that was all.
    pub next: Option<LeadId>,
}

/// Whom a person has begin again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// One lead.
    Lead(LeadId),
    /// A page of all who have finished, behind a lead.
    Finished {
        /// Where the page before ended.
        after: Option<LeadId>,
        /// Most enrollments in the page.
        limit: u32,
    },
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A round that is to begin.
struct Beginning<'a> {
    tenant_id: TenantId,
    /// The first step of those who begin it.
    first: &'a FirstStep,
    stop_on_reply: bool,
    /// When it begins: what a lead did before belongs to the round before.
    at: Timestamp,
    /// Only who had finished by then.
    finished_by: Option<Timestamp>,
    now: Timestamp,
}

impl SystemStore {
    /// Occurrences of recurring campaigns that have come and whose round has not begun: of each campaign the last one.
    ///
    /// # Errors
    /// The database.
    pub async fn due_rounds(&self, now: Timestamp) -> Result<Vec<DueRound>> {
        let mut due = Vec::new();
        for row in self.db.read(&RECURRING, vec![]).await? {
            let at = rounds(&row)?.and_then(|rounds| rounds.due(now));
            if let Some(at) = at {
                due.push(DueRound { tenant_id: row.get("tenant_id")?, campaign_id: row.get("id")?, at });
            }
        }
        Ok(due)
    }

    /// Campaigns under way whose next round is still to come.
    pub(super) async fn coming_back(&self) -> Result<Vec<Uuid>> {
        let rows = self.db.read(&RECURRING, vec![]).await?;
        let mut coming = Vec::new();
        for row in &rows {
            if rounds(row)?.and_then(|rounds| rounds.next()).is_some() {
                coming.push(row.get("id")?);
            }
        }
        Ok(coming)
    }

    /// Has one page of leads begin the round of an occurrence, in one transaction: those who had finished when it came, and
    /// no lead twice, however many do so at once. Behind the last page the occurrence is over.
    ///
    /// # Errors
    /// The database; nothing of the page is written then.
    pub async fn begin_round(
        &self,
        due: &DueRound,
        after: Option<LeadId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<RoundPage> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, false, [due.campaign_id.uuid()]).await?;
        let campaign = load(&mut tx, due.tenant_id, due.campaign_id).await?;
        // Paused, edited, or begun by another scheduler meanwhile.
        let is_due = campaign.rounds.as_ref().and_then(|rounds| rounds.due(now)) == Some(due.at);
        if campaign.plan.status != CampaignStatus::Sending || !is_due {
            tx.commit().await?;
            return Ok(RoundPage::default());
        }
        let mut page = RoundPage::default();
        if let Some(first) = FirstStep::of(&campaign.plan, due.at) {
            let beginning = Beginning {
                tenant_id: due.tenant_id,
                first: &first,
                stop_on_reply: campaign.plan.settings.stop_on_reply,
                at: due.at,
                finished_by: Some(due.at),
                now,
            };
            page = beginning.of_finished(&mut tx, after, limit, Some(due.at)).await?;
        }
        if page.next.is_none() {
            tx.execute(&SEEN, values![due.tenant_id, due.campaign_id, due.at]).await?;
        }
        if page.began > 0 {
            plan_at_once(&mut tx, (due.tenant_id, due.campaign_id), now).await?;
        }
        tx.commit().await?;
        Ok(page)
    }
}

impl TenantStore {
    /// A person's word: those who have finished begin a new round now, however lately they have. A completed campaign opens
    /// again.
    ///
    /// # Errors
    /// `NotFound`, `Stale` where the campaign was cancelled or archived, or the database; nothing is written then.
    pub async fn re_enroll(&self, id: CampaignId, again: Again, now: Timestamp) -> Result<RoundPage> {
        let mut tx = self.db.begin(Access::Write).await?;
        // Shared with imports: nobody completes or cancels the campaign meanwhile.
        tx.lock(LockKind::Campaign, false, [id.uuid()]).await?;
        let campaign = load(&mut tx, self.tenant_id, id).await?;
        if matches!(campaign.plan.status, CampaignStatus::Cancelled | CampaignStatus::Archived) {
            return Err(Error::Stale { what: "the campaign", expected: 1, found: 0 });
        }
        let Some(first) = FirstStep::of(&campaign.plan, now) else { return Ok(RoundPage::default()) };
        let beginning = Beginning {
            tenant_id: self.tenant_id,
            first: &first,
            stop_on_reply: campaign.plan.settings.stop_on_reply,
            at: now,
            finished_by: None,
            now,
        };
        let page = match again {
            Again::Lead(lead) => beginning.of_leads(&mut tx, &[lead]).await?,
            Again::Finished { after, limit } => beginning.of_finished(&mut tx, after, limit, None).await?,
        };
        if page.began > 0 {
            go_on(&mut tx, (self.tenant_id, id), campaign.plan.status, now).await?;
        }
        tx.commit().await?;
        Ok(page)
    }
}

/// Has leads begin again that are added again, where their campaign says after how many days; how many. The first thing that
/// is written of enrollments.
pub(super) async fn of_known(
    tx: &mut Tx,
    (tenant_id, first, settings): (TenantId, &FirstStep, &CampaignSettings),
    leads: &[LeadId],
    now: Timestamp,
) -> Result<u64> {
    let Some(days) = settings.re_enroll_after_days else { return Ok(0) };
    let beginning = Beginning {
        tenant_id,
        first,
        stop_on_reply: settings.stop_on_reply,
        at: now,
        finished_by: Some(now - DAY.saturating_mul(days.max(1))),
        now,
    };
    Ok(beginning.of_leads(tx, leads).await?.began)
}

/// Counts a campaign's occurrences from `now` on, since another rhythm or start was given: what would have come before by the
/// new one is no round.
pub(super) async fn count_anew(tx: &mut Tx, tenant_id: TenantId, id: CampaignId, now: Timestamp) -> Result<()> {
    tx.execute(&SEEN, values![tenant_id, id, now]).await.map(drop)
}

/// Those of these campaigns whose next round is still to come.
pub(super) async fn to_come(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let mut coming = Vec::new();
    for row in tx.query(&RECURRING_AMONG, values![ids.to_vec()]).await? {
        if rounds(&row)?.and_then(|rounds| rounds.next()).is_some() {
            coming.push(row.get("id")?);
        }
    }
    Ok(coming)
}

/// When the campaign of a row comes back; none also where its settings cannot be read, which whoever plans it says.
pub(super) fn rounds(row: &Row) -> Result<Option<Rounds>> {
    let Ok(settings) = serde_json::from_value::<CampaignSettings>(row.get("settings")?) else { return Ok(None) };
    Ok(Rounds::of(&settings, row.get("scheduled_at")?, row.get("rounds_seen_until")?))
}

/// An enrollment as it stands. A reason that another program wrote is none that lets it begin.
fn standing(row: &Row) -> Result<Standing> {
    let stop_reason: Option<String> = row.get("stop_reason")?;
    Ok(Standing {
        status: row.get("status")?,
        stop_reason: stop_reason.and_then(|word| word.parse().ok()),
        finished_at: row.get("finished_at")?,
        waits: row.get("waits")?,
        lead_status: row.get("lead_status")?,
        suppressed: row.get("suppressed")?,
    })
}

impl Beginning<'_> {
    async fn of_leads(&self, tx: &mut Tx, leads: &[LeadId]) -> Result<RoundPage> {
        let ids: Vec<Uuid> = leads.iter().map(|lead| lead.uuid()).collect();
        let rows = tx.query(&OF_LEADS, values![self.tenant_id, self.first.campaign_id, self.now, ids]).await?;
        self.begin(tx, &rows).await
    }

    /// A page of those who have finished; of an occurrence only who has not begun its round yet.
    async fn of_finished(
        &self,
        tx: &mut Tx,
        after: Option<LeadId>,
        limit: u32,
        occurrence: Option<Timestamp>,
    ) -> Result<RoundPage> {
        let after = after.map_or(Uuid::nil(), LeadId::uuid);
        let params = values![self.tenant_id, self.first.campaign_id, self.now, after, limit, occurrence];
        let rows = tx.query(&FINISHED, params).await?;
        let last = rows.last().filter(|_| rows.len() >= limit as usize);
        let next = last.map(|row| row.get("lead_id")).transpose()?;
        Ok(RoundPage { next, ..self.begin(tx, &rows).await? })
    }

    async fn begin(&self, tx: &mut Tx, rows: &[Row]) -> Result<RoundPage> {
        let (mut page, mut begins) = (RoundPage::default(), Vec::new());
        for row in rows {
            match may_begin(&standing(row)?, self.stop_on_reply, self.finished_by) {
                Ok(()) => {
                    let due = self.first.due_of(row.get("lead_id")?);
                    let round: i64 = row.get("round")?;
                    begins.push(values![row.get::<EnrollmentId>("id")?, round, due.step_order, due.at]);
                }
                Err(why) => *page.left.entry(why).or_default() += 1,
            }
        }
        let params = values![self.tenant_id, self.at, self.now];
        page.began = tx.execute_rows(&BEGIN, begins.into_iter().collect(), params).await?;
        Ok(page)
    }
}
