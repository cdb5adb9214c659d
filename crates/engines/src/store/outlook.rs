//! What a forecast begins with: a tenant's live campaigns, their waiting leads, open sends and the books of their accounts,
//! read as planning sees them, without its locks and in one transaction.
//!
//! Not responsible for foreseeing (`domain::forecast`). To add a fact that planning goes by: `plan::candidate`, which both
//! use, and here whatever holds it.

use std::collections::{BTreeSet, HashMap};

use domain::forecast::{OpenSend, Prospect, Shared};
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, TenantId};
use domain::pace::{CampaignBook, ProviderBook, Rate, TenantBook};
use domain::plan::{CampaignPlan, Candidate, exclusion};
use domain::reason::Reason;
use domain::send::SendStatus;
use domain::time::Timestamp;
use uuid::Uuid;

use super::campaigns::load;
use super::plan::candidate;
use super::restored::lost_time;
use super::{SystemStore, TenantStore, dot, past, reactions, trials};
use crate::db::{Access, Tx};
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

/// Rows in one read.
const PAGE: u32 = 5_000;

statements! {
    // The one that is asked for also where it is not under way.
    LIVE = "SELECT id, scheduled_at, next_plan_at FROM campaigns
        WHERE tenant_id = $1 AND (status IN ('scheduled', 'sending') OR id = $2) ORDER BY scheduled_at, id";
    WAITING = concat!("SELECT ", super::plan::candidate_columns!("e.due_at", "$3"), super::plan::candidate_tables!("campaign_leads", "JOIN"), "
        WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.status = 'active' AND e.due_at IS NOT NULL
            AND (e.due_at, e.id) > ($4, $5) ORDER BY e.due_at, e.id LIMIT $6");
    // One that has lost its account and whose lead is due is planned anew: the lead waits for it.
    OPEN = concat!("SELECT ", super::plan::candidate_columns!("s.not_before", "$3"), ", s.id AS send_id, st.step_order,
            s.status, s.reason, s.not_before, s.email_account_id AS send_account_id, s.account_day, s.campaign_day,
            e.status = 'active' AND e.round = s.round AS moves_on",
        super::plan::candidate_tables!("campaign_leads", "JOIN"), " JOIN sends s ON s.enrollment_id = e.id AND s.tenant_id = e.tenant_id
            JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.tenant_id = s.tenant_id
        WHERE e.tenant_id = $1 AND s.campaign_id = $2 AND s.open AND (s.email_account_id IS NOT NULL OR e.due_at IS NULL)
            AND s.id > $4 ORDER BY s.id LIMIT $5");
    // Due is when it has finished. Who waits for a person begins no round before.
    FINISHED = concat!("SELECT ", super::plan::candidate_columns!("COALESCE(e.finished_at, e.updated_at)", "$3"), super::plan::candidate_tables!("campaign_leads", "JOIN"), "
        WHERE e.tenant_id = $1 AND e.campaign_id = $2
            AND (e.status = 'completed' OR (e.status = 'stopped' AND e.stop_reason = 'condition_false'))
            AND NOT EXISTS (SELECT 1 FROM sends s WHERE s.enrollment_id = e.id AND s.tenant_id = e.tenant_id
                AND (s.open OR s.status = 'held'))
            AND e.lead_id > $4 ORDER BY e.lead_id LIMIT $5");
    HELD = "SELECT COUNT(*) AS n FROM sends WHERE tenant_id = $1 AND campaign_id = $2 AND NOT open AND status = 'held'";
    POOL = "SELECT email_account_id FROM campaign_email_accounts WHERE tenant_id = $1 AND campaign_id = $2";
    ACCOUNTS = "SELECT id, status, daily_limit, min_gap_seconds, warmup_started_at, timezone, last_slot_at, last_dot_at,
            backoff_until, backoff_failures
        FROM email_accounts WHERE tenant_id = $1 AND id {any $2} ORDER BY id";
    RESUMED = concat!("SELECT id FROM email_accounts WHERE ", super::campaigns::resumed_accounts!());
    RATE = "SELECT t.max_per_second, t.provider_limits, p.last_slot_at, p.window_at, p.dots
        FROM tenants t LEFT JOIN tenant_pace p ON p.tenant_id = t.id WHERE t.id = $1";
    ENROLLMENT = "SELECT e.id, e.status, e.stop_reason, e.last_sent_at, l.email
        FROM leads l LEFT JOIN campaign_leads e ON e.lead_id = l.id AND e.tenant_id = l.tenant_id AND e.campaign_id = $2
        WHERE l.tenant_id = $1 AND (l.id = $3::uuid OR l.address = lower($4::text))";
    LAST_SEND = "SELECT st.step_order, s.status, s.reason, s.settled_at
        FROM sends s JOIN campaign_sequence_steps st ON st.id = s.step_id AND st.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.enrollment_id = $2 AND NOT s.open ORDER BY s.settled_at DESC, st.step_order DESC LIMIT 1";
    LEAD_ADDRESSES = "SELECT id, email FROM leads WHERE tenant_id = $1 AND id {any $2}";
    ACCOUNT_ADDRESSES = "SELECT id, email FROM email_accounts WHERE tenant_id = $1 AND id {any $2}";
}

/// All that shares accounts with a campaign, as planning sees it.
#[derive(Debug)]
pub struct Prospects {
    /// The campaigns.
    pub campaigns: Vec<Prospect>,
    /// Which of them was asked for.
    pub asked: usize,
    /// The books that they share.
    pub shared: Shared,
    /// Accounts that refusals have paused and that go on with the campaign that was asked for, when it is resumed.
    pub resumed: Vec<EmailAccountId>,
}

/// Where a lead stands in a campaign.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its address.
    pub email: String,
    /// Its enrollment; none = it is not enrolled.
    pub enrollment: Option<(EnrollmentId, EnrollmentStanding)>,
}

/// Where an enrollment stands.
#[derive(Clone, Debug)]
pub struct EnrollmentStanding {
    /// `active`, `completed` or `stopped`.
    pub status: String,
    /// Why it was stopped.
    pub stop_reason: Option<Reason>,
    /// When a mail was sent to it last.
    pub last_sent_at: Option<Timestamp>,
    /// Step, status and reason of the send that ended last.
    pub last_send: Option<(u32, SendStatus, Option<Reason>)>,
}

impl SystemStore {
    /// Reads what a forecast of this campaign begins with.
    ///
    /// # Errors
    /// `NotFound`, or the database.
    pub async fn prospects(&self, tenant_id: TenantId, asked: CampaignId, now: Timestamp) -> Result<Prospects> {
        let mut tx = self.db.begin(Access::Read).await?;
        let live = tx.query(&LIVE, values![tenant_id, asked]).await?;
        let lost_time = lost_time(&mut tx).await?;
        let (mut campaigns, mut ids) = (Vec::with_capacity(live.len()), BTreeSet::new());
        let limits = tx.query_opt(&RATE, values![tenant_id]).await?;
        let providers = read_providers(&mut tx, tenant_id, limits.as_ref(), now).await?;
        let mut place = None;
        for row in &live {
            let id: CampaignId = row.get("id")?;
            if id == asked {
                place = Some(campaigns.len());
            }
            let mut prospect = read_prospect(&mut tx, tenant_id, row, now).await?;
            if let Some(book) = &providers {
                let of_open = prospect.open.iter_mut().map(|send| &mut send.candidate);
                // Who has finished comes back in a round to come.
                let candidates = prospect.waiting.iter_mut().chain(&mut prospect.finished).chain(of_open);
                foresee_recipients(&mut tx, tenant_id, book, candidates, now).await?;
            }
            prospect.plan.lost_time = lost_time;
            ids.extend(prospect.senders());
            campaigns.push(prospect);
        }
        let asked = place.ok_or_else(|| Error::NotFound { what: "campaign", id: asked.to_string() })?;
        let ids: Vec<Uuid> = ids.into_iter().map(EmailAccountId::uuid).collect();
        let rows = tx.query(&ACCOUNTS, values![tenant_id, ids]).await?;
        let accounts = dot::with_days(&mut tx, &rows, now).await?;
        let resumed = tx.query(&RESUMED, values![tenant_id, campaigns[asked].plan.id, Reason::RefusalRate]).await?;
        let resumed = resumed.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        let tenant = limits.as_ref().map(tenant_book).transpose()?.flatten();
        tx.commit().await?;
        Ok(Prospects { campaigns, asked, shared: Shared { accounts, tenant, providers }, resumed })
    }
}

/// What the providers that the tenant limits have got and will get.
async fn read_providers(
    tx: &mut Tx,
    tenant_id: TenantId,
    tenant: Option<&Row>,
    now: Timestamp,
) -> Result<Option<ProviderBook>> {
    let Some(limits) = tenant.map(dot::providers::limits).transpose()?.flatten() else { return Ok(None) };
    let mut book = ProviderBook::new(limits);
    dot::providers::count(tx, tenant_id, &mut book, now).await?;
    Ok(Some(book))
}

/// Whose the recipients are.
async fn foresee_recipients(
    tx: &mut Tx,
    tenant_id: TenantId,
    book: &ProviderBook,
    candidates: impl Iterator<Item = &mut Candidate>,
    now: Timestamp,
) -> Result<()> {
    let mut candidates: Vec<&mut Candidate> = candidates.collect();
    for some in candidates.chunks_mut(PAGE as usize) {
        dot::providers::complete(tx, tenant_id, book, some.iter_mut().map(|one| &mut **one), now).await?;
    }
    Ok(())
}

fn tenant_book(row: &Row) -> Result<Option<TenantBook>> {
    let rate = row.get::<Option<f64>>("max_per_second")?.and_then(Rate::per_second);
    let Some(rate) = rate else { return Ok(None) };
    Ok(Some(TenantBook {
        rate,
        last_slot_at: row.get("last_slot_at")?,
        // Whoever plans says how far it looks.
        spaced_until: Timestamp::MAX,
        window_at: row.get("window_at")?,
        dots: row.get::<Option<u32>>("dots")?.unwrap_or(0),
    }))
}

async fn read_prospect(tx: &mut Tx, tenant_id: TenantId, row: &Row, now: Timestamp) -> Result<Prospect> {
    let id: CampaignId = row.get("id")?;
    let campaign = load(tx, tenant_id, id).await?;
    let plan = campaign.plan.clone();
    let pool = tx.query(&POOL, values![tenant_id, id]).await?;
    let days = dot::read_days(tx, "campaign", &[id.uuid()], now).await?;
    let settings = &plan.settings;
    let book = CampaignBook {
        daily_limit: settings.daily_limit,
        zone: settings.timezone.clone(),
        days: days.into_values().next().unwrap_or_default(),
    };
    let mut waiting = Vec::new();
    let mut after = (Timestamp::from_micros(i64::MIN), Uuid::nil());
    loop {
        let page = tx.query(&WAITING, values![tenant_id, id, now, after.0, after.1, PAGE]).await?;
        let mut some = page.iter().map(candidate).collect::<Result<Vec<_>>>()?;
        reactions::complete(tx, (tenant_id, id), &plan.steps, &mut some).await?;
        past::complete(tx, (tenant_id, id), &campaign, &mut some).await?;
        waiting.extend(some);
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = (last.get("due_at")?, last.get("id")?),
            _ => break,
        }
    }
    let held = tx.query(&HELD, values![tenant_id, id]).await?;
    let (mut open, mut without_account) = (Vec::new(), 0);
    let mut after = Uuid::nil();
    loop {
        let page = tx.query(&OPEN, values![tenant_id, id, now, after, PAGE]).await?;
        let mut some = page.iter().map(on_its_way).collect::<Result<Vec<_>>>()?;
        reactions::complete(tx, (tenant_id, id), &plan.steps, &mut some).await?;
        past::complete(tx, (tenant_id, id), &campaign, &mut some).await?;
        for (row, candidate) in page.iter().zip(some) {
            match open_send(row, candidate, now)? {
                Some(send) => open.push(send),
                None => without_account += 1,
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.get("send_id")?,
            _ => break,
        }
    }
    let starts_at: Option<Timestamp> = row.get("scheduled_at")?;
    let trials = trials::foreseeable(tx, tenant_id, &plan).await?;
    let finished =
        if campaign.rounds.is_some() { read_finished(tx, (tenant_id, id), &plan, now).await? } else { Vec::new() };
    Ok(Prospect {
        rounds: campaign.rounds,
        finished,
        plan,
        trials,
        starts_at: starts_at.filter(|at| *at > now),
        next_plan_at: row.get("next_plan_at")?,
        waiting,
        stranded: held.first().map_or(Ok(0), |row| row.get::<u64>("n"))? + without_account,
        open,
        pool: pool.iter().map(|row| row.get("email_account_id")).collect::<Result<_>>()?,
        book,
    })
}

/// Those who may begin the campaign's next round.
async fn read_finished(
    tx: &mut Tx,
    (tenant_id, id): (TenantId, CampaignId),
    plan: &CampaignPlan,
    now: Timestamp,
) -> Result<Vec<Candidate>> {
    let (mut finished, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let page = tx.query(&FINISHED, values![tenant_id, id, now, after, PAGE]).await?;
        let some = page.iter().map(candidate).collect::<Result<Vec<_>>>()?;
        let may = |who: &Candidate| exclusion(who.lead_status, who.suppressed, plan.settings.stop_on_reply).is_none();
        finished.extend(some.into_iter().filter(may));
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.get::<LeadId>("lead_id")?.uuid(),
            _ => return Ok(finished),
        }
    }
}

/// An enrollment at the step of its open send.
fn on_its_way(row: &Row) -> Result<Candidate> {
    let mut candidate = candidate(row)?;
    candidate.due.step_order = row.get("step_order")?;
    Ok(candidate)
}

/// One whose dot is under way leaves now; one without an account never does.
fn open_send(row: &Row, candidate: Candidate, now: Timestamp) -> Result<Option<OpenSend>> {
    let Some(account) = row.get::<Option<EmailAccountId>>("send_account_id")? else { return Ok(None) };
    let is_dot = row.get::<SendStatus>("status")? == SendStatus::Dot;
    let not_before: Timestamp = row.get("not_before")?;
    Ok(Some(OpenSend {
        candidate,
        account,
        at: if is_dot { now } else { not_before },
        is_dot,
        moves_on: row.get("moves_on")?,
        reason: row.get("reason")?,
        days: (row.get("account_day")?, row.get("campaign_day")?),
    }))
}

impl TenantStore {
    /// Where the lead of this id or address stands in a campaign; none = the tenant has no such lead.
    ///
    /// # Errors
    /// The database.
    pub async fn find_standing(&self, campaign_id: CampaignId, id_or_address: &str) -> Result<Option<Standing>> {
        let id: Option<Uuid> = id_or_address.parse().ok();
        let mut tx = self.db.begin(Access::Read).await?;
        let found = tx.query_opt(&ENROLLMENT, values![self.tenant_id, campaign_id, id, id_or_address]).await?;
        let Some(row) = found else { return Ok(None) };
        let mut standing = Standing { email: row.get("email")?, enrollment: None };
        if let Some(id) = row.get::<Option<EnrollmentId>>("id")? {
            let last = tx.query_opt(&LAST_SEND, values![self.tenant_id, id]).await?;
            let last_send = last
                .map(|last| Ok((last.get("step_order")?, last.get("status")?, last.get::<Option<Reason>>("reason")?)));
            let enrollment = EnrollmentStanding {
                status: row.get("status")?,
                stop_reason: row.get("stop_reason")?,
                last_sent_at: row.get("last_sent_at")?,
                last_send: last_send.transpose()?,
            };
            standing.enrollment = Some((id, enrollment));
        }
        tx.commit().await?;
        Ok(Some(standing))
    }

    /// The addresses of these leads, a thousand in one read.
    ///
    /// # Errors
    /// The database.
    pub async fn lead_addresses(&self, ids: impl IntoIterator<Item = LeadId>) -> Result<HashMap<LeadId, String>> {
        let ids: Vec<Uuid> = ids.into_iter().map(LeadId::uuid).collect();
        let mut found = HashMap::with_capacity(ids.len());
        for some in ids.chunks(1_000) {
            let rows = self.db.read(&LEAD_ADDRESSES, values![self.tenant_id, some.to_vec()]).await?;
            for row in rows {
                found.insert(row.get("id")?, row.get("email")?);
            }
        }
        Ok(found)
    }

    /// The addresses of these email accounts.
    ///
    /// # Errors
    /// The database.
    pub async fn account_addresses(
        &self,
        ids: impl IntoIterator<Item = EmailAccountId>,
    ) -> Result<HashMap<EmailAccountId, String>> {
        let ids: Vec<Uuid> = ids.into_iter().map(EmailAccountId::uuid).collect();
        let rows = self.db.read(&ACCOUNT_ADDRESSES, values![self.tenant_id, ids]).await?;
        rows.iter().map(|row| Ok((row.get("id")?, row.get("email")?))).collect()
    }
}
