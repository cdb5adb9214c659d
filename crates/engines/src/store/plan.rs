//! P1: planning in one transaction. Reads due enrollments and the books of their accounts under lock, lets
//! `domain::page` decide, and writes sends, reservations and progress together. The row is the outbox.
//!
//! Not responsible for deciding anything. To add a fact that planning needs: the statement `DUE` and `candidate`;
//! one that only conditions ask for: `reactions`; one that only edits make: `past`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use domain::campaign::CampaignStatus;
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, SendId, StepId, TenantId};
use domain::pace::{CampaignBook, Recipient, Slot};
use domain::page::{Behind, Move, NewSend, Page, Place, next_part, senders};
use domain::plan::{Books, CampaignPlan, Candidate, Moment, Past};
use domain::reason::Reason;
use domain::schedule::WarmupTable;
use domain::step::{Due, Reactions, next_due};
use domain::time::Timestamp;
use uuid::Uuid;

use super::campaigns::{CampaignBundle, load};
use super::dot::days::given_back;
use super::restored::lost_time;
use super::{SystemStore, dot, past, reactions};
use crate::db::{Access, LockKind, Tx};
use crate::error::Result;
use crate::value::{Row, Rows, Value};
use crate::{statements, values};

/// What `candidate` reads, where it is due at `$due` and the present is `$now`; the forecast reads the same.
macro_rules! candidate_columns {
    ($due:literal, $now:literal) => {
        concat!(
            "e.id, e.lead_id, e.email_account_id, e.next_step_order, e.highest_sent_step = 0 AS is_new, ",
            $due,
            " AS due_at, l.status AS lead_status, l.timezone,
            EXISTS (SELECT 1 FROM suppression_list s WHERE s.email = lower(l.email)
                AND (s.tenant_id = e.tenant_id OR s.tenant_id IS NULL)
                AND (s.expires_at IS NULL OR s.expires_at > ",
            $now,
            ")) AS suppressed"
        )
    };
}
/// Enrollments, and with which `JOIN` their leads.
macro_rules! candidate_tables {
    ($enrollments:literal, $join:literal) => {
        concat!(
            " FROM ",
            $enrollments,
            " e ",
            $join,
            " {lookup leads l ON l.id = e.lead_id AND l.tenant_id = e.tenant_id}"
        )
    };
}
pub(super) use {candidate_columns, candidate_tables};

/// Whether a campaign's row is as it was when its page began at `$8`, or rests already.
macro_rules! is_as_read {
    () => {
        "updated_at = $6 AND (next_plan_at IS NOT DISTINCT FROM $7::timestamptz OR next_plan_at > $8::timestamptz)"
    };
}

/// How often a campaign in which nobody is due is planned all the same, only for `seen_until`: who comes due later is late from that
/// time on, whatever turns have seen, and whom an edit or another program makes due in the past is late by so much more at most.
const SEEN_EVERY: Duration = Duration::from_secs(10);

statements! {
    // The first who is due is looked up in the order of `DUE`, hence in its index: for an `EXISTS`, PostgreSQL may read all who are active.
    // Of one whose rest was ended early, `seen_until` lies ahead.
    DUE_CAMPAIGNS = "SELECT id, tenant_id FROM campaigns
        WHERE status IN ('scheduled', 'sending') AND (scheduled_at IS NULL OR scheduled_at <= $1)
            AND (next_plan_at IS NULL OR next_plan_at <= $1)
            AND (status = 'scheduled' OR seen_until IS NULL OR seen_until <= $2 OR seen_until > $1
                OR (SELECT e.due_at FROM campaign_leads e WHERE e.campaign_id = campaigns.id AND e.status = 'active'
                    AND e.due_at IS NOT NULL ORDER BY e.due_at, e.id LIMIT 1) <= $3)
        ORDER BY scheduled_at, id";
    // Found and locked first, and only then joined, so that the order of the index and the limit hold whatever statistics say. Who has
    // no lead of his tenant counts against the limit too, and is let go by who reads.
    DUE = concat!("SELECT ", candidate_columns!("e.due_at", "$4"), candidate_tables!("(SELECT e.* FROM campaign_leads e
            WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.status = 'active' AND e.due_at IS NOT NULL
                AND e.due_at <= $3 AND (e.due_at, e.id) > ($5, $6)
            ORDER BY e.due_at, e.id LIMIT $7 {for update of e skip locked})", "LEFT JOIN"), "
        ORDER BY e.due_at, e.id");
    // The same of some lines, in which somebody may still get a slot (`Line`); `{nil}` for all who may have any account. Active ones in
    // the words of their index (see its migration). Only who is in the part is locked: the lines are read further than that;
    // and is looked up by id alone, whatever plan was made while there was nothing.
    DUE_OF_LINES = concat!("SELECT ", candidate_columns!("e.due_at", "$4"), candidate_tables!("(SELECT e.* FROM (SELECT x.id
                FROM {each r(account uuid, known bigint)} (SELECT e.id, e.due_at FROM campaign_leads e
                    WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.status NOT IN ('completed', 'stopped') AND e.due_at IS NOT NULL
                        AND COALESCE(e.email_account_id, {nil}) = {of r.account}
                        AND CASE WHEN e.highest_sent_step > 0 THEN 1 ELSE 0 END = {of r.known}
                        AND e.due_at <= $3 AND (e.due_at, e.id) > ($5, $6)
                    ORDER BY e.due_at, e.id LIMIT $7) x
                ORDER BY x.due_at, x.id LIMIT $7) y JOIN campaign_leads e ON e.id = y.id
            WHERE CASE WHEN e.tenant_id = $1 AND e.status = 'active' THEN e.due_at <= $3 ELSE false END {for update of e skip locked})", "LEFT JOIN"), "
        ORDER BY e.due_at, e.id");
    // An account that left the pool still serves the leads that it wrote to before. Neither a join nor an equality: in order, each
    // account is one look-up in the index of lines, however many leads keep it, or others.
    SENDERS = "SELECT x.id, x.in_pool FROM (SELECT a.id AS id,
                EXISTS (SELECT 1 FROM campaign_email_accounts p WHERE p.campaign_id = $2 AND p.email_account_id = a.id) AS in_pool,
                COALESCE((SELECT COALESCE(e.email_account_id, {nil}) FROM campaign_leads e
                    WHERE e.campaign_id = $2 AND e.status NOT IN ('completed', 'stopped') AND COALESCE(e.email_account_id, {nil}) >= a.id
                    ORDER BY COALESCE(e.email_account_id, {nil}) LIMIT 1) = a.id, false) AS is_kept
            FROM email_accounts a WHERE a.tenant_id = $1) x
        WHERE x.in_pool OR x.is_kept";
    // A row without an account has lost it (`rotate`): it is planned anew, and keeps its variant. Any other that is there
    // stays as it is. The round is the one in which the enrollment is, whose row the caller has locked. That row holds tenant,
    // campaign and lead of the send: the ledger has no references to these of its own.
    INSERT_SENDS = "INSERT INTO sends (id, tenant_id, campaign_id, lead_id, step_id, enrollment_id, email_account_id, step_order,
            status, open, reason, priority, max_attempts, not_before, hinted_at, hinted_epoch, account_day, campaign_day,
            variant, provider, settled_at, created_at, updated_at, round)
        SELECT r.id, $1::uuid, $2::uuid, r.lead_id, r.step_id, r.enrollment_id, r.email_account_id, r.step_order,
            CASE WHEN r.open THEN 'planned' WHEN r.reason = 'restored' THEN 'held' ELSE 'skipped' END, r.open, r.reason, r.priority, r.max_attempts, r.not_before,
            r.hinted_at, $3::bigint, r.account_day, r.campaign_day, r.variant, r.provider,
            CASE WHEN r.open THEN NULL ELSE $4::timestamptz END, $4::timestamptz, $4::timestamptz, e.round
        FROM {rows r(id uuid, lead_id uuid, step_id uuid, enrollment_id uuid, email_account_id uuid, step_order bigint,
            open boolean, reason text, priority bigint, max_attempts bigint, not_before timestamptz,
            hinted_at timestamptz, account_day text, campaign_day text, variant text, provider text)}
            JOIN {lookup campaign_leads e ON e.id = r.enrollment_id AND e.tenant_id = $1 AND e.campaign_id = $2 AND e.lead_id = r.lead_id}
        WHERE true ON CONFLICT (campaign_id, lead_id, step_id, round) DO UPDATE SET email_account_id = excluded.email_account_id,
            status = excluded.status, open = excluded.open, reason = excluded.reason, fence = sends.fence + 1,
            not_before = excluded.not_before, hinted_at = excluded.hinted_at, hinted_epoch = excluded.hinted_epoch,
            account_day = excluded.account_day, campaign_day = excluded.campaign_day, provider = excluded.provider, message_id = NULL,
            first_attempt_at = NULL, variant = COALESCE(sends.variant, excluded.variant), settled_at = excluded.settled_at, updated_at = excluded.updated_at
            WHERE sends.open AND sends.status IN ('planned', 'queued') AND sends.email_account_id IS NULL
                AND sends.attempts = 0 AND sends.unknowns = 0
        RETURNING id, lead_id, step_id";
    // Another program's job of the step, which has its account and its moment.
    STILL_TO_LEAVE = "SELECT s.enrollment_id FROM {rows r(enrollment_id uuid, step_id uuid)}
            JOIN {lookup campaign_leads e ON e.id = r.enrollment_id AND e.tenant_id = $1 AND e.campaign_id = $2}
            JOIN sends s ON s.enrollment_id = e.id AND s.tenant_id = e.tenant_id AND s.step_id = r.step_id AND s.round = e.round
        WHERE s.open AND s.email_account_id IS NOT NULL";
    // The page holds these rows. Without statistics PostgreSQL would take two plain conditions for ones that leave no row, and go through
    // all of the input for each enrollment.
    MOVE_ENROLLMENTS = "UPDATE campaign_leads SET next_step_order = r.next_step_order, due_at = r.due_at,
            email_account_id = COALESCE(r.email_account_id, campaign_leads.email_account_id),
            status = r.status, stop_reason = r.stop_reason, updated_at = $2,
            finished_at = CASE WHEN r.status = 'active' THEN NULL ELSE $2::timestamptz END
        FROM {rows r(id uuid, next_step_order bigint, due_at timestamptz, email_account_id uuid, status text, stop_reason text)}
        WHERE campaign_leads.id = r.id
            AND CASE WHEN campaign_leads.tenant_id = $1 THEN campaign_leads.status = 'active' ELSE false END";
    SAVE_SLOTS = "UPDATE email_accounts SET last_slot_at = r.last_slot_at FROM {rows r(id uuid, last_slot_at timestamptz)}
        WHERE email_accounts.id = r.id AND email_accounts.tenant_id = $1";
    // Other programs' jobs that came before the start: waiting for it is no lateness.
    BEGIN_SENDS = "UPDATE sends SET not_before = $3, retry_since = $3, hinted_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued') AND not_before < $3";
    // One that was edited, or that somebody came to, since it was read does not rest: what it would rest for may be gone, or hold the
    // others alone. A rest that another planner has written meanwhile is none of these.
    SAVE_CAMPAIGN = concat!("UPDATE campaigns SET status = 'sending', next_plan_at = CASE WHEN ", is_as_read!(), " THEN $3::timestamptz END,
            seen_until = COALESCE(CASE WHEN ", is_as_read!(), " THEN $4::timestamptz ELSE $5::timestamptz END, seen_until)
        WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'sending')");
}

/// Who is asked for in one page.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// Whose campaign.
    pub tenant_id: TenantId,
    /// Which.
    pub campaign_id: CampaignId,
    /// The present.
    pub now: Timestamp,
    /// Slots are granted this far ahead.
    pub horizon: Duration,
    /// Most enrollments in the page.
    pub limit: u32,
    /// The queue's generation at which the caller will push.
    pub epoch: i64,
    /// The previous page of this turn; none = it is the first.
    pub behind: Option<Behind>,
}

/// A hint about a send, to be pushed.
#[derive(Clone, Debug)]
pub struct Hint {
    /// The ledger row.
    pub send_id: SendId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// In which campaign.
    pub campaign_id: CampaignId,
    /// To whom.
    pub lead_id: LeadId,
    /// Which step.
    pub step_id: StepId,
    /// From which account.
    pub email_account_id: EmailAccountId,
    /// 1 to 1000.
    pub priority: u16,
    /// Not before.
    pub not_before: Timestamp,
}

/// What one page of planning did.
#[derive(Clone, Debug, Default)]
pub struct PlanPage {
    /// Sends that were recorded, to be pushed.
    pub planned: Vec<Hint>,
    /// Sends that were skipped.
    pub skipped: u64,
    /// Sends that are held, since they may have been sent in lost time.
    pub held: u64,
    /// Leads that were looked at and have to wait for their window, an account or a limit.
    pub deferred: u64,
    /// Where to go on within this turn; none = nothing more is due now.
    pub next: Option<Behind>,
    /// When those who wait can first have another answer, as long as nothing changes; none = nobody waits.
    pub again_at: Option<Timestamp>,
    /// Domains of leads that somebody has to look up; only where the tenant limits providers.
    pub unknown_domains: BTreeSet<String>,
}

/// A row of `sends` as it is first written: planned where it is open, else held where it may have been sent in lost time,
/// else skipped.
pub(super) struct SendRow {
    pub(super) id: Uuid,
    pub(super) lead_id: LeadId,
    pub(super) step_id: StepId,
    pub(super) enrollment_id: EnrollmentId,
    pub(super) email_account_id: Option<EmailAccountId>,
    pub(super) step_order: u32,
    pub(super) open: bool,
    pub(super) reason: Option<Reason>,
    pub(super) priority: u16,
    pub(super) max_attempts: Option<u32>,
    pub(super) not_before: Timestamp,
    /// None: reconciliation brings the hint.
    pub(super) hinted_at: Option<Timestamp>,
    pub(super) slot: Option<Slot>,
    /// Which of its step's variants it is; none where the step has none, or nothing is to be sent.
    pub(super) variant: Option<String>,
    /// The provider that holds room for it.
    pub(super) provider: Option<String>,
}

impl SendRow {
    /// Whether it goes, or may have gone.
    pub(super) fn goes(&self) -> bool {
        self.open || self.reason == Some(Reason::Restored)
    }
}

/// The variant of a send that goes, or may have gone.
pub(super) fn variant(plan: &CampaignPlan, goes: bool, (step, lead): (StepId, LeadId)) -> Option<String> {
    plan.variant(step, lead).filter(|_| goes).map(str::to_owned)
}

/// Inserts sends of one campaign; the ids of those that are planned now, by lead and step. One that had lost its account
/// keeps its id.
pub(super) async fn insert_sends(
    tx: &mut Tx,
    (tenant_id, campaign_id): (TenantId, CampaignId),
    epoch: i64,
    now: Timestamp,
    sends: Vec<SendRow>,
) -> Result<HashMap<(LeadId, StepId), Uuid>> {
    let row = |send: SendRow| {
        let (account_day, campaign_day) = send.slot.map(|slot| (slot.account_day, slot.campaign_day)).unzip();
        values![
            send.id,
            send.lead_id,
            send.step_id,
            send.enrollment_id,
            send.email_account_id,
            send.step_order,
            send.open,
            send.reason,
            send.priority,
            send.max_attempts,
            send.not_before,
            send.hinted_at,
            account_day,
            campaign_day,
            send.variant,
            send.provider,
        ]
    };
    let rows: Rows = sends.into_iter().map(row).collect();
    let params = values![tenant_id, campaign_id, epoch, now];
    let written = tx.query_rows(&INSERT_SENDS, rows, params).await?;
    written.iter().map(|row| Ok(((row.get("lead_id")?, row.get("step_id")?), row.get("id")?))).collect()
}

/// A page that was decided, on its way into the ledger.
struct Writing<'a> {
    request: &'a PlanRequest,
    campaign: &'a CampaignBundle,
    candidates: Vec<Candidate>,
    books: Books,
    /// What to write.
    page: Page,
    /// The ids of the page's sends, in their order.
    ids: Vec<Uuid>,
}

impl SystemStore {
    /// Campaigns that are worth planning: they run, do not rest until later, and somebody is due before the horizon's end, or the
    /// campaign starts, or no turn has seen it for ten seconds.
    ///
    /// # Errors
    /// The database.
    pub async fn due_campaigns(&self, now: Timestamp, horizon: Duration) -> Result<Vec<(TenantId, CampaignId)>> {
        let rows = self.db.read(&DUE_CAMPAIGNS, values![now, now - SEEN_EVERY, now + horizon]).await?;
        rows.iter().map(|row| Ok((row.get("tenant_id")?, row.get("id")?))).collect()
    }

    /// Plans one page of a campaign's due enrollments. Two planners at once take different enrollments.
    ///
    /// # Errors
    /// The database; nothing of the page is written then.
    pub async fn plan_page(
        &self,
        request: &PlanRequest,
        warmup: &WarmupTable,
        new_id: &(dyn Fn() -> Uuid + Send + Sync),
    ) -> Result<PlanPage> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.plan_once().await?;
        tx.lock(LockKind::Campaign, false, [request.campaign_id.uuid()]).await?;
        let mut campaign = load(&mut tx, request.tenant_id, request.campaign_id).await?;
        // Paused, or given a later start, since the turn began.
        let is_to_start = campaign.scheduled_at.is_some_and(|starts| starts > request.now);
        if !matches!(campaign.plan.status, CampaignStatus::Scheduled | CampaignStatus::Sending) || is_to_start {
            tx.commit().await?;
            return Ok(PlanPage::default());
        }
        campaign.plan.lost_time = lost_time(&mut tx).await?;
        dot::lock_days(&mut tx, &campaign).await?;
        let moment = Moment { now: request.now, horizon: request.horizon };
        let (mut page, after) = Page::behind(request.behind.clone(), moment);
        let goes_by_others = page.goes_by_others();
        let (pool, accounts) = read_senders(&mut tx, request, &campaign).await?;
        let mut part = Part { many: next_part(0, request.limit as usize), after, is_full: false };
        let lines = open_lines(&page, &campaign, &accounts);
        let mut candidates = part.read(&mut tx, request, &campaign, lines).await?;
        let mut books = Books { pool, ..books_of(&mut tx, &campaign, &accounts, moment).await? };
        let taken = books.taken();
        let (mut unknown_domains, mut first) = (BTreeSet::new(), 0);
        let finished = loop {
            if let Some(book) = &books.providers {
                let asked = candidates[first..].iter_mut();
                unknown_domains
                    .extend(dot::providers::complete(&mut tx, request.tenant_id, book, asked, request.now).await?);
            }
            page.decide(&campaign.plan, (&mut candidates, first), &mut books, warmup, moment);
            if page.stop.is_some() || !part.is_full {
                break true;
            }
            first = candidates.len();
            part.many = next_part(first, request.limit as usize);
            if part.many == 0 {
                break false;
            }
            let lines = open_lines(&page, &campaign, &accounts);
            candidates.extend(part.read(&mut tx, request, &campaign, lines).await?);
        };
        let ids = page.sends.iter().map(|_| new_id()).collect();
        let mut writing = Writing { request, campaign: &campaign, candidates, books, page, ids };
        let inserted = writing.insert_sends(&mut tx).await?;
        if campaign.plan.status == CampaignStatus::Scheduled {
            tx.execute(&BEGIN_SENDS, values![request.tenant_id, request.campaign_id, request.now]).await?;
        }
        writing.correct_conflicts(&mut tx, &inserted).await?;
        writing.write_progress(&mut tx).await?;
        // Behind the rows of accounts and sends, before its own slots are written: the order of the gate and of give-backs.
        // What was given back since pages before this one were refused is not known here: the next turn asks anew.
        let until = match writing.page.stop.and_then(|_| writing.page.again_at(moment)) {
            Some(_) if goes_by_others => None,
            Some(_) if given_back(&mut tx, request.campaign_id, &writing.books, taken, request.now).await? => None,
            until => until,
        };
        writing.write_days(&mut tx, &inserted).await?;
        // Nobody looks at the campaign before then: waiting for its limits is no lateness.
        // Nor is a campaign seen whose round is to begin: its leads are late from when that was.
        let begins = campaign.rounds.as_ref().and_then(|rounds| rounds.due(request.now)).is_some();
        let seen = (finished && !begins).then_some(until.map_or(request.now, |until| until.max(request.now)));
        let seen_now = (finished && !begins).then_some(request.now);
        let (edited, woken) = (campaign.edited_at, campaign.next_plan_at);
        let key = (request.tenant_id, request.campaign_id);
        let params = values![key.0, key.1, until, seen, seen_now, edited, woken, request.now];
        tx.execute(&SAVE_CAMPAIGN, params).await?;
        let next = part.after.filter(|_| !finished).map(|place| writing.page.next(&campaign.plan, place));
        let result = writing.report(&inserted, next, moment);
        tx.commit().await?;
        Ok(PlanPage { unknown_domains, ..result })
    }
}

/// A part of a page, in the order in which candidates came due.
struct Part {
    /// Most candidates in it.
    many: usize,
    /// Where the one before ended.
    after: Option<Place>,
    /// Whether there were as many due: then there may be more.
    is_full: bool,
}

impl Part {
    /// Reads and locks it: of these lines, where some are not to be read any more, else of all.
    async fn read(
        &mut self,
        tx: &mut Tx,
        request: &PlanRequest,
        campaign: &CampaignBundle,
        lines: Option<Rows>,
    ) -> Result<Vec<Candidate>> {
        let (after_at, after_id) =
            self.after.map_or((Timestamp::from_micros(i64::MIN), Uuid::nil()), |(at, id)| (at, id.uuid()));
        let ids = (request.tenant_id, request.campaign_id);
        let until = request.now + request.horizon;
        let params = values![ids.0, ids.1, until, request.now, after_at, after_id, self.many as i64];
        let rows = match lines {
            Some(lines) => tx.query_rows(&DUE_OF_LINES, lines, params).await?,
            None => tx.query(&DUE, params).await?,
        };
        let mut due: Vec<(Place, &Row)> =
            rows.iter().map(|row| Ok(((row.get("due_at")?, row.get("id")?), row))).collect::<Result<_>>()?;
        // SQLite reads each line as far as the whole part may go.
        due.sort_by_key(|(place, _)| *place);
        due.truncate(self.many);
        self.is_full = due.len() == self.many;
        self.after = due.last().map(|(place, _)| *place).or(self.after);
        let mut candidates = Vec::with_capacity(due.len());
        for (_, row) in due {
            // Without a lead it is another program's mistake, and nobody's mail.
            if row.get::<Option<String>>("lead_status")?.is_some() {
                candidates.push(candidate(row)?);
            }
        }
        reactions::complete(tx, ids, &campaign.plan.steps, &mut candidates).await?;
        past::complete(tx, ids, campaign, &mut candidates).await?;
        Ok(candidates)
    }
}

pub(super) fn candidate(row: &Row) -> Result<Candidate> {
    let lead_status = row.get("lead_status")?;
    Ok(Candidate {
        enrollment_id: row.get("id")?,
        lead_id: row.get("lead_id")?,
        due: Due { step_order: row.get("next_step_order")?, at: row.get("due_at")? },
        email_account_id: row.get("email_account_id")?,
        is_new: row.get("is_new")?,
        lead_status,
        // A zone that other programs wrote wrongly must not stop the campaign: the campaign's own zone serves.
        lead_zone: row.get::<Option<String>>("timezone")?.and_then(|name| name.parse().ok()),
        suppressed: row.get("suppressed")?,
        // What else conditions ask is read for those who have one ahead (`reactions`).
        reactions: Reactions { replied: lead_status == domain::lead::LeadStatus::Replied, ..Reactions::default() },
        // Read where the sequence was edited (`past`).
        past: Past::default(),
        recipient: Recipient::Unlimited,
    })
}

/// The lines in which somebody may still get a slot; none = all of them.
fn open_lines(page: &Page, campaign: &CampaignBundle, accounts: &BTreeSet<EmailAccountId>) -> Option<Rows> {
    let closed = page.closed_lines(&campaign.plan)?;
    let lines = accounts.iter().flat_map(|id| [(*id, true), (*id, false)]);
    let open = lines.filter(|line| !closed.contains_key(line));
    let open = open.map(|(id, is_known)| values![id, i64::from(is_known)]);
    // Without an account are new leads, and follow-ups that were taken from a stopped one.
    Some(open.chain([0, 1].map(|is_known| values![Uuid::nil(), is_known])).collect())
}

/// The accounts among which new leads are spread, and all that the campaign's mail may go from.
async fn read_senders(
    tx: &mut Tx,
    request: &PlanRequest,
    campaign: &CampaignBundle,
) -> Result<(Vec<EmailAccountId>, BTreeSet<EmailAccountId>)> {
    let (mut pool, mut kept): (Vec<EmailAccountId>, Vec<EmailAccountId>) = (Vec::new(), Vec::new());
    for row in tx.query(&SENDERS, values![request.tenant_id, request.campaign_id]).await? {
        let list = if row.get("in_pool")? { &mut pool } else { &mut kept };
        list.push(row.get("id")?);
    }
    let accounts = senders(&campaign.plan, &pool, kept);
    Ok((pool, accounts))
}

/// The books of these accounts, of the campaign and of its tenant, under lock; nobody is in the pool.
pub(super) async fn books_of(
    tx: &mut Tx,
    campaign: &CampaignBundle,
    accounts: &BTreeSet<EmailAccountId>,
    moment: Moment,
) -> Result<Books> {
    let (accounts, tenant, providers) = dot::read_books(tx, accounts, moment).await?;
    let settings = &campaign.plan.settings;
    let days = dot::read_days(tx, "campaign", &[campaign.plan.id.uuid()], moment.now).await?;
    Ok(Books {
        accounts,
        pool: Vec::new(),
        campaign: CampaignBook {
            daily_limit: settings.daily_limit,
            zone: settings.timezone.clone(),
            days: days.into_values().next().unwrap_or_default(),
        },
        tenant,
        providers,
    })
}

/// Keeps the last slot of each of these accounts, and the tenant's.
pub(super) async fn save_slots(
    tx: &mut Tx,
    tenant_id: TenantId,
    books: &Books,
    used: &BTreeSet<EmailAccountId>,
    now: Timestamp,
) -> Result<()> {
    let accounts = used.iter().filter_map(|id| books.accounts.get(id));
    let slots: Rows = accounts.map(|book| values![book.id, book.pace.last_slot_at]).collect();
    tx.execute_rows(&SAVE_SLOTS, slots, values![tenant_id]).await?;
    dot::rate::save(tx, books.tenant.iter().map(|book| (tenant_id, book)), now).await
}

impl Writing<'_> {
    /// The page's sends with their ids.
    fn sends(&self) -> impl Iterator<Item = (&NewSend, Uuid)> {
        self.page.sends.iter().zip(self.ids.iter().copied())
    }

    /// The ids of those that are planned now; `ids` are the ledger's afterwards.
    async fn insert_sends(&mut self, tx: &mut Tx) -> Result<HashSet<Uuid>> {
        let rows = self.sends().map(|(send, id)| self.send_row(send, id)).collect();
        let request = self.request;
        let campaign = (request.tenant_id, request.campaign_id);
        let written = insert_sends(tx, campaign, request.epoch, request.now, rows).await?;
        for (send, id) in self.page.sends.iter().zip(&mut self.ids) {
            *id = written.get(&(self.candidates[send.candidate].lead_id, send.step_id)).copied().unwrap_or(*id);
        }
        Ok(written.into_values().collect())
    }

    fn send_row(&self, send: &NewSend, id: Uuid) -> SendRow {
        let candidate = &self.candidates[send.candidate];
        let now = self.request.now;
        let slot = send.slot.clone();
        SendRow {
            id,
            lead_id: candidate.lead_id,
            step_id: send.step_id,
            enrollment_id: candidate.enrollment_id,
            email_account_id: send.account,
            step_order: send.step_order,
            open: slot.is_some(),
            reason: send.reason,
            priority: self.campaign.plan.settings.priority,
            max_attempts: None,
            not_before: slot.as_ref().map_or(if send.is_held() { candidate.due.at } else { now }, |slot| slot.at),
            hinted_at: slot.is_some().then_some(now),
            variant: variant(&self.campaign.plan, slot.is_some() || send.is_held(), (send.step_id, candidate.lead_id)),
            slot,
            provider: candidate.recipient.provider().map(|name| name.as_ref().to_owned()),
        }
    }

    /// A send that existed already: its slot goes back, and its enrollment waits for it where it is still to leave, else moves past
    /// the step.
    async fn correct_conflicts(&mut self, tx: &mut Tx, inserted: &HashSet<Uuid>) -> Result<()> {
        let conflicts: Vec<&NewSend> = self
            .page
            .sends
            .iter()
            .zip(&self.ids)
            .filter(|(_, id)| !inserted.contains(*id))
            .map(|(send, _)| send)
            .collect();
        if conflicts.is_empty() {
            return Ok(());
        }
        let rows: Rows =
            conflicts.iter().map(|send| values![self.candidates[send.candidate].enrollment_id, send.step_id]).collect();
        let params = values![self.request.tenant_id, self.request.campaign_id];
        let open = tx.query_rows(&STILL_TO_LEAVE, rows, params).await?;
        let open: HashSet<EnrollmentId> = open.iter().map(|row| row.get("enrollment_id")).collect::<Result<_>>()?;
        for send in conflicts {
            match (&send.account, &send.slot) {
                (Some(account), Some(slot)) => {
                    if let Some(book) = self.books.accounts.get_mut(account)
                        && let Some(day) = book.days.get_mut(&slot.account_day)
                    {
                        day.reserved = day.reserved.saturating_sub(1);
                    }
                    if let Some(day) = self.books.campaign.days.get_mut(&slot.campaign_day) {
                        day.reserved = day.reserved.saturating_sub(1);
                    }
                }
                _ if send.is_held() => {}
                _ => continue,
            }
            let candidate = &self.candidates[send.candidate];
            let waits = open.contains(&candidate.enrollment_id);
            let next = if waits {
                Some(Due { step_order: send.step_order, at: self.request.now })
            } else {
                next_due(&self.campaign.plan.steps, send.step_order, candidate.due.at)
            };
            self.page.moves.insert(send.candidate, Move { next, account: None, stopped: None, waits });
        }
        Ok(())
    }

    async fn write_progress(&self, tx: &mut Tx) -> Result<()> {
        let request = self.request;
        let rows: Rows = self.page.moves.iter().map(|(index, to)| self.move_row(*index, to)).collect();
        tx.execute_rows(&MOVE_ENROLLMENTS, rows, values![request.tenant_id, request.now]).await?;
        let planned = self.page.sends.iter().filter(|send| send.slot.is_some());
        let used: BTreeSet<EmailAccountId> = planned.filter_map(|send| send.account).collect();
        if used.is_empty() {
            return Ok(());
        }
        save_slots(tx, request.tenant_id, &self.books, &used, request.now).await
    }

    async fn write_days(&self, tx: &mut Tx, inserted: &HashSet<Uuid>) -> Result<()> {
        let request = self.request;
        let mut changes = dot::DayChanges::default();
        for (send, _) in self.sends().filter(|(_, id)| inserted.contains(id)) {
            let (Some(account), Some(slot)) = (&send.account, &send.slot) else { continue };
            changes.add("account", account.uuid(), request.tenant_id, &slot.account_day, 1, 0);
            changes.add("campaign", request.campaign_id.uuid(), request.tenant_id, &slot.campaign_day, 1, 0);
        }
        changes.write(tx, request.now).await
    }

    fn move_row(&self, index: usize, to: &Move) -> Vec<Value> {
        let candidate = &self.candidates[index];
        let status = match (to.stopped, to.next) {
            (Some(_), _) => "stopped",
            (None, None) => "completed",
            (None, Some(_)) => "active",
        };
        values![
            candidate.enrollment_id,
            to.next.map_or(candidate.due.step_order, |due| due.step_order),
            to.next.filter(|_| !to.waits).map(|due| due.at),
            to.account,
            status,
            to.stopped,
        ]
    }

    fn report(&self, inserted: &HashSet<Uuid>, next: Option<Behind>, moment: Moment) -> PlanPage {
        let request = self.request;
        let done = || self.sends().filter(|(_, id)| inserted.contains(id));
        let planned = done()
            .filter_map(|(send, id)| {
                let slot = send.slot.as_ref()?;
                Some(Hint {
                    send_id: SendId::from_uuid(id),
                    tenant_id: request.tenant_id,
                    campaign_id: request.campaign_id,
                    lead_id: self.candidates[send.candidate].lead_id,
                    step_id: send.step_id,
                    email_account_id: send.account?,
                    priority: self.campaign.plan.settings.priority,
                    not_before: slot.at,
                })
            })
            .collect();
        let held = done().filter(|(send, _)| send.is_held()).count() as u64;
        let skipped = done().filter(|(send, _)| send.slot.is_none()).count() as u64 - held;
        let deferred = self.page.deferrals.len() as u64;
        let again_at = self.page.again_at(moment);
        PlanPage { planned, skipped, held, deferred, next, again_at, unknown_domains: BTreeSet::new() }
    }
}
