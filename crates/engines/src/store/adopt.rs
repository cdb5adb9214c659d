//! P11: jobs of other programs become ours. A bare five-id job gets its ledger row, by (campaign, lead, step), before
//! anything else is done with it; what does not belong together is refused by field.
//!
//! Not responsible for reading payloads (`domain::job`) or for deciding when a job goes (`domain::plan_job`).
//! To add a rule for other programs' jobs: a check in `check` that names its field.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use domain::campaign::CampaignStatus;
use domain::email_account::AccountStatus;
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, SendId, StepId, TenantId};
use domain::job::EmailJobPayload;
use domain::pace::{Recipient, Slot};
use domain::plan::{Candidate, Moment, Past, Plan, plan_job};
use domain::reason::Reason;
use domain::schedule::WarmupTable;
use domain::send::SendStatus;
use domain::step::{Due, Reactions, Step, StepType};
use domain::time::Timestamp;
use uuid::Uuid;

use super::campaigns::{CampaignBundle, load};
use super::plan::{SendRow, books_of, insert_sends, save_slots, variant};
use super::restored::lost_time;
use super::{SystemStore, dot};
use crate::db::{Access, LockKind, Tx};
use crate::error::{Error, Result};
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    OWN_LEADS = "SELECT id FROM leads WHERE tenant_id = $1 AND id {any $2}";
    OWN_ACCOUNTS = "SELECT id, status FROM email_accounts WHERE tenant_id = $1 AND id {any $2}";
    // A job names no round: it means the one in which the lead is.
    KNOWN = "SELECT s.id, s.lead_id, s.step_id, s.status FROM sends s
            JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id AND e.round = s.round
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND s.lead_id {any $3}";
    IN_LEDGER = "SELECT s.id FROM {rows r(id uuid, tenant_id uuid)} JOIN sends s ON s.id = r.id AND s.tenant_id = r.tenant_id";
    ENROLL = "INSERT INTO campaign_leads (id, tenant_id, campaign_id, lead_id, next_step_order, created_at, updated_at)
        SELECT r.id, $1::uuid, $2::uuid, r.lead_id, r.step_order, $3::timestamptz, $3::timestamptz
        FROM {rows r(id uuid, lead_id uuid, step_order bigint)}
        WHERE true ON CONFLICT (campaign_id, lead_id) DO NOTHING";
    FACTS = "SELECT e.id, e.lead_id, l.status AS lead_status, l.timezone,
            EXISTS (SELECT 1 FROM suppression_list s WHERE s.email = lower(l.email)
                AND (s.tenant_id = e.tenant_id OR s.tenant_id IS NULL)
                AND (s.expires_at IS NULL OR s.expires_at > $4)) AS suppressed
        FROM campaign_leads e JOIN leads l ON l.id = e.lead_id AND l.tenant_id = e.tenant_id
        WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.lead_id {any $3} ORDER BY e.id {for update of e}";
    // The enrollment waits for the job where it has not gone past its step.
    WAIT = "UPDATE campaign_leads SET due_at = NULL, email_account_id = COALESCE(campaign_leads.email_account_id, r.email_account_id),
            updated_at = $2
        FROM {rows r(id uuid, step_order bigint, email_account_id uuid)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = $1 AND campaign_leads.status = 'active'
            AND campaign_leads.next_step_order <= r.step_order";
    // Whoever waits for a step before has its own mails still ahead of it: nothing was sent.
    GO_ON = "UPDATE campaign_leads SET next_step_order = r.next_step_order, due_at = r.due_at, status = r.status, updated_at = $2,
            finished_at = CASE WHEN r.status = 'active' THEN NULL ELSE $2::timestamptz END
        FROM {rows r(id uuid, step_order bigint, next_step_order bigint, due_at timestamptz, status text)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = $1 AND campaign_leads.status = 'active'
            AND campaign_leads.next_step_order = r.step_order";
}

/// What became of another program's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// The ledger has an open row for it: from now on it is a hint like any other.
    Open(SendId),
    /// The ledger has settled that send already: nothing is sent.
    Settled(SendId, SendStatus),
    /// The ledger has a row for it now, and nothing is sent: its reason stands there.
    Skipped(SendId),
    /// Not a job: a field breaks a rule.
    Refused {
        /// The field's name in the payload.
        field: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
}

/// What all jobs of one call share.
#[derive(Clone, Copy, Debug)]
pub struct AdoptRequest<'a> {
    /// The present, and how far ahead planning grants slots.
    pub moment: Moment,
    /// The queue's generation.
    pub epoch: i64,
    /// The warm-up ramp.
    pub warmup: &'a WarmupTable,
}

/// Times that a group is tried before its conflict is the caller's.
const TRIES: u32 = 3;

/// Jobs of one campaign with their places in the caller's list.
type Group<'a> = Vec<(usize, &'a EmailJobPayload)>;

impl SystemStore {
    /// Gives each job its ledger row, one transaction per campaign; the answers in order of the jobs.
    ///
    /// What exists already wins over what the payload says. A job that has to wait (pause, window, cap) is recorded
    /// like any other, so it may be acknowledged as soon as this returns.
    ///
    /// # Errors
    /// The database; what was recorded before stays recorded, and asking again changes nothing.
    pub async fn adopt(
        &self,
        jobs: &[EmailJobPayload],
        request: &AdoptRequest<'_>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
    ) -> Result<Vec<Adopted>> {
        let mut groups: BTreeMap<(TenantId, CampaignId), Group<'_>> = BTreeMap::new();
        for (place, job) in jobs.iter().enumerate() {
            groups.entry((job.tenant_id, job.campaign_id)).or_default().push((place, job));
        }
        let mut answers = HashMap::new();
        for ((tenant_id, campaign_id), group) in groups {
            // Asked again where a scheduler was quicker: what it planned is found then.
            let mut tries = 1;
            let answered = loop {
                match self.adopt_group(tenant_id, campaign_id, &group, request, new_id).await {
                    Err(Error::Conflict { .. }) if tries < TRIES => tries += 1,
                    answered => break answered?,
                }
            };
            answers.extend(answered);
        }
        // Each place has its answer, or one job would be taken for another.
        let unanswered = Adopted::Refused { field: "leadId", rule: "names a lead that the ledger cannot enroll" };
        Ok((0..jobs.len()).map(|place| answers.remove(&place).unwrap_or(unanswered)).collect())
    }

    /// Which of these sends the ledger knows, in whatever state.
    ///
    /// # Errors
    /// The database.
    pub async fn list_known(&self, sends: &[(TenantId, SendId)]) -> Result<HashSet<SendId>> {
        let rows: Rows = sends.iter().map(|(tenant_id, send_id)| values![*send_id, *tenant_id]).collect();
        let mut tx = self.db.begin(Access::Read).await?;
        let known = tx.query_rows(&IN_LEDGER, rows, vec![]).await?;
        tx.commit().await?;
        known.iter().map(|row| row.get("id")).collect()
    }

    async fn adopt_group(
        &self,
        tenant_id: TenantId,
        campaign_id: CampaignId,
        group: &Group<'_>,
        request: &AdoptRequest<'_>,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
    ) -> Result<HashMap<usize, Adopted>> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, false, [campaign_id.uuid()]).await?;
        let mut campaign = match load(&mut tx, tenant_id, campaign_id).await {
            Ok(campaign) => campaign,
            Err(Error::NotFound { .. }) => return Ok(all_refused(group, "must name a campaign of the tenant")),
            // One campaign that cannot be read must not hold up the others' jobs.
            Err(Error::Column { .. }) => {
                return Ok(all_refused(group, "names a campaign whose settings cannot be used"));
            }
            Err(e) => return Err(e),
        };
        campaign.plan.lost_time = lost_time(&mut tx).await?;
        dot::lock_days(&mut tx, &campaign).await?;
        let own = Own::read(&mut tx, tenant_id, campaign_id, group).await?;
        let mut answers = HashMap::new();
        let mut fresh = Vec::new();
        for (place, job) in group {
            match check(&campaign, &own, job) {
                Ok(step) => fresh.push((*place, *job, step)),
                Err(answer) => drop(answers.insert(*place, answer)),
            }
        }
        if !fresh.is_empty() {
            let recorded = record(&mut tx, &campaign, tenant_id, &fresh, request, new_id).await?;
            answers.extend(recorded);
        }
        tx.commit().await?;
        Ok(answers)
    }
}

fn all_refused(group: &Group<'_>, rule: &'static str) -> HashMap<usize, Adopted> {
    group.iter().map(|(place, _)| (*place, Adopted::Refused { field: "campaignId", rule })).collect()
}

/// What of the jobs' ids is the tenant's, and which sends exist.
struct Own {
    leads: HashSet<LeadId>,
    accounts: HashMap<EmailAccountId, AccountStatus>,
    sends: HashMap<(LeadId, StepId), (SendId, SendStatus)>,
}

impl Own {
    async fn read(tx: &mut Tx, tenant_id: TenantId, campaign_id: CampaignId, group: &Group<'_>) -> Result<Self> {
        let leads: Vec<Uuid> = group.iter().map(|(_, job)| job.lead_id.uuid()).collect();
        let accounts: Vec<Uuid> = group.iter().map(|(_, job)| job.email_account_id.uuid()).collect();
        let known = tx.query(&KNOWN, values![tenant_id, campaign_id, leads.clone()]).await?;
        let leads = tx.query(&OWN_LEADS, values![tenant_id, leads]).await?;
        let accounts = tx.query(&OWN_ACCOUNTS, values![tenant_id, accounts]).await?;
        Ok(Self {
            leads: leads.iter().map(|row| row.get("id")).collect::<Result<_>>()?,
            accounts: accounts.iter().map(|row| Ok((row.get("id")?, row.get("status")?))).collect::<Result<_>>()?,
            sends: known
                .iter()
                .map(|row| Ok(((row.get("lead_id")?, row.get("step_id")?), (row.get("id")?, row.get("status")?))))
                .collect::<Result<_>>()?,
        })
    }
}

/// The step of a job that is to be recorded; else what it is.
fn check<'a>(campaign: &'a CampaignBundle, own: &Own, job: &EmailJobPayload) -> std::result::Result<&'a Step, Adopted> {
    let refused = |field, rule| Err(Adopted::Refused { field, rule });
    // The ledger wins over what the payload says: its account may have been deleted since.
    if let Some((id, status)) = own.sends.get(&(job.lead_id, job.step_id)) {
        return Err(if status.is_open() { Adopted::Open(*id) } else { Adopted::Settled(*id, *status) });
    }
    if !own.leads.contains(&job.lead_id) {
        return refused("leadId", "must name a lead of the tenant");
    }
    let Some(step) = campaign.plan.steps.iter().find(|step| step.id == job.step_id) else {
        return refused("stepId", "must name a step of the campaign");
    };
    if step.step_type != StepType::Email {
        return refused("stepId", "must name an email step");
    }
    if step.template_id.is_none() {
        return refused("stepId", "names a step without a template");
    }
    match own.accounts.get(&job.email_account_id) {
        None => return refused("emailAccountId", "must name an email account of the tenant"),
        Some(AccountStatus::Deleted) => return refused("emailAccountId", "names a deleted email account"),
        Some(_) => {}
    }
    match campaign.plan.status {
        CampaignStatus::Scheduled | CampaignStatus::Sending | CampaignStatus::Paused => Ok(step),
        CampaignStatus::Draft => refused("campaignId", "names a campaign that was not started"),
        CampaignStatus::Completed => refused("campaignId", "names a completed campaign"),
        CampaignStatus::Cancelled | CampaignStatus::Archived => refused("campaignId", "names a cancelled campaign"),
    }
}

/// Writes the rows of new jobs with their slots, and has their enrollments wait for them.
async fn record(
    tx: &mut Tx,
    campaign: &CampaignBundle,
    tenant_id: TenantId,
    jobs: &[(usize, &EmailJobPayload, &Step)],
    request: &AdoptRequest<'_>,
    new_id: &(dyn Fn() -> Uuid + Send + Sync),
) -> Result<HashMap<usize, Adopted>> {
    let (campaign_id, moment) = (campaign.plan.id, request.moment);
    let mut enrollments = enroll(tx, campaign_id, tenant_id, jobs, moment.now, new_id).await?;
    let accounts: BTreeSet<EmailAccountId> = jobs.iter().map(|(_, job, _)| job.email_account_id).collect();
    let mut books = books_of(tx, campaign, &accounts, moment).await?;
    if let Some(book) = &books.providers {
        // Nobody plans them again: the gate has whoever is not known looked up.
        dot::providers::complete(tx, tenant_id, book, enrollments.values_mut(), moment.now).await?;
    }
    let mut answers = HashMap::new();
    let mut rows: Vec<NewRow> = Vec::new();
    let mut seen: HashMap<(LeadId, StepId), Adopted> = HashMap::new();
    for (place, job, step) in jobs {
        // The same job twice in one batch is one send.
        if let Some(first) = seen.get(&(job.lead_id, job.step_id)) {
            answers.insert(*place, *first);
            continue;
        }
        let Some(candidate) = enrollments.get(&job.lead_id) else { continue };
        // A hint of lost time that the queue still has, or has got back: its send may have been sent.
        let lost = job.not_before.filter(|at| campaign.plan.lost_time.is_some_and(|lost| lost.holds(*at)));
        let at = lost.unwrap_or_else(|| job.not_before.unwrap_or(moment.now).max(moment.now));
        let candidate = Candidate { due: Due { step_order: step.step_order, at }, ..candidate.clone() };
        let account = job.email_account_id;
        let plan = plan_job(&campaign.plan, step, &candidate, account, &mut books, request.warmup, moment);
        let mut new = new_row(&plan, job, &candidate, moment.now, (new_id(), campaign.plan.settings.priority));
        new.0.variant = variant(&campaign.plan, new.0.goes(), (job.step_id, job.lead_id));
        let id = SendId::from_uuid(new.0.id);
        let answer = if new.0.open { Adopted::Open(id) } else { Adopted::Skipped(id) };
        seen.insert((job.lead_id, job.step_id), answer);
        answers.insert(*place, answer);
        rows.push(new);
    }
    save_slots(tx, tenant_id, &books, &accounts, moment.now).await?;
    reserve(tx, tenant_id, campaign_id, &rows, moment.now).await?;
    move_enrollments(tx, tenant_id, &rows, moment.now).await?;
    let rows: Vec<SendRow> = rows.into_iter().map(|(row, _)| row).collect();
    let new: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
    let inserted = insert_sends(tx, (tenant_id, campaign_id), request.epoch, moment.now, rows).await?;
    if inserted.values().filter(|id| new.contains(id)).count() < new.len() {
        // A scheduler planned one of these steps since they were looked up: all is undone and asked again.
        return Err(Error::Conflict { statement: "INSERT_SENDS", code: "planned meanwhile".into() });
    }
    Ok(answers)
}

/// Makes missing enrollments, and reads what planning needs of all, under lock.
async fn enroll(
    tx: &mut Tx,
    campaign_id: CampaignId,
    tenant_id: TenantId,
    jobs: &[(usize, &EmailJobPayload, &Step)],
    now: Timestamp,
    new_id: &(dyn Fn() -> Uuid + Send + Sync),
) -> Result<HashMap<LeadId, Candidate>> {
    let mut firsts: BTreeMap<LeadId, u32> = BTreeMap::new();
    for (_, job, step) in jobs {
        let first = firsts.entry(job.lead_id).or_insert(step.step_order);
        *first = step.step_order.min(*first);
    }
    let rows: Rows = firsts.iter().map(|(lead, order)| values![new_id(), *lead, *order]).collect();
    tx.execute_rows(&ENROLL, rows, values![tenant_id, campaign_id, now]).await?;
    let leads: Vec<Uuid> = firsts.keys().map(|lead| lead.uuid()).collect();
    let found = tx.query(&FACTS, values![tenant_id, campaign_id, leads, now]).await?;
    found.iter().map(|row| Ok((row.get("lead_id")?, candidate(row, now)?))).collect()
}

fn candidate(row: &Row, now: Timestamp) -> Result<Candidate> {
    Ok(Candidate {
        enrollment_id: row.get("id")?,
        lead_id: row.get("lead_id")?,
        due: Due { step_order: 0, at: now },
        email_account_id: None,
        lead_status: row.get("lead_status")?,
        lead_zone: row.get::<Option<String>>("timezone")?.and_then(|name| name.parse().ok()),
        suppressed: row.get("suppressed")?,
        // Conditions before the step are the other program's business.
        // It goes from the account that the job names.
        is_new: false,
        reactions: Reactions::default(),
        past: Past::default(),
        recipient: Recipient::Unlimited,
    })
}

/// A ledger row, and what comes next in the sequence where it is skipped.
type NewRow = (SendRow, Option<Due>);

fn new_row(
    plan: &Plan,
    job: &EmailJobPayload,
    candidate: &Candidate,
    now: Timestamp,
    (id, priority): (Uuid, u16),
) -> NewRow {
    let due = candidate.due.at;
    let (slot, reason, not_before): (Option<Slot>, Option<Reason>, Timestamp) = match plan {
        Plan::Send { slot, .. } => (Some(slot.clone()), None, slot.at),
        // A person has to change something first: looked at whenever that has happened.
        Plan::Defer(deferral) if deferral.until == Timestamp::MAX => (None, Some(deferral.reason), due),
        Plan::Defer(deferral) => (None, Some(deferral.reason), deferral.until.max(due)),
        Plan::Skip { reason, .. } | Plan::End { reason, .. } => (None, Some(*reason), due),
        Plan::Hold { .. } => (None, Some(Reason::Restored), due),
        Plan::Move { .. } => (None, None, due),
    };
    let (open, next) = match plan {
        Plan::Skip { next, .. } => (false, *next),
        Plan::Hold { .. } => (false, None),
        _ => (true, None),
    };
    let row = SendRow {
        id,
        lead_id: job.lead_id,
        step_id: job.step_id,
        enrollment_id: candidate.enrollment_id,
        email_account_id: Some(job.email_account_id),
        step_order: candidate.due.step_order,
        open,
        reason,
        priority: job.priority.unwrap_or(priority),
        max_attempts: job.max_attempts,
        not_before,
        // The job itself is the hint of what may go at once; reconciliation brings the others in their time.
        hinted_at: (open && not_before <= now).then_some(now),
        slot,
        variant: None,
        provider: candidate.recipient.provider().map(|name| name.as_ref().to_owned()),
    };
    (row, next)
}

async fn reserve(
    tx: &mut Tx,
    tenant_id: TenantId,
    campaign_id: CampaignId,
    rows: &[NewRow],
    now: Timestamp,
) -> Result<()> {
    let mut days = dot::DayChanges::default();
    for (row, _) in rows {
        if let (Some(account), Some(slot)) = (row.email_account_id, &row.slot) {
            days.add("account", account.uuid(), tenant_id, &slot.account_day, 1, 0);
            days.add("campaign", campaign_id.uuid(), tenant_id, &slot.campaign_day, 1, 0);
        }
    }
    days.write(tx, now).await
}

async fn move_enrollments(tx: &mut Tx, tenant_id: TenantId, rows: &[NewRow], now: Timestamp) -> Result<()> {
    // One row per enrollment: of two steps of one lead in one batch it waits for the later one, and passes the first by itself. What
    // it comes to then has its row, and is passed as well.
    let mut waits: BTreeMap<EnrollmentId, (u32, Option<EmailAccountId>)> = BTreeMap::new();
    let mut moves: BTreeMap<EnrollmentId, (u32, Option<Due>)> = BTreeMap::new();
    for (row, next) in rows {
        if row.goes() {
            let place = waits.entry(row.enrollment_id).or_insert((row.step_order, row.email_account_id));
            place.0 = place.0.max(row.step_order);
        } else {
            let first = moves.entry(row.enrollment_id).or_insert((row.step_order, *next));
            if row.step_order < first.0 {
                *first = (row.step_order, *next);
            }
        }
    }
    moves.retain(|enrollment, _| !waits.contains_key(enrollment));
    let moves: Rows = moves
        .into_iter()
        .map(|(id, (order, next))| {
            let status = if next.is_some() { "active" } else { "completed" };
            values![id, order, next.map_or(order, |due| due.step_order), next.map(|due| due.at), status]
        })
        .collect();
    tx.execute_rows(&GO_ON, moves, values![tenant_id, now]).await?;
    let waits: Rows = waits.into_iter().map(|(id, (order, account))| values![id, order, account]).collect();
    tx.execute_rows(&WAIT, waits, values![tenant_id, now]).await.map(drop)
}
