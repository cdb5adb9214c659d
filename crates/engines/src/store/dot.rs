//! P5, the point of no return: the intent to write the final dot, compared and set on the fence, with the last word of
//! pause, suppression, account and limits; and the books of days that planning and the gate share.
//!
//! Races: whoever excludes one lead cancels its sends in its own transaction, so the row lock decides who was first.
//! Whoever stops many takes the lock of the campaign or account exclusively; the gate takes them shared, first thing.
//! Who takes room of a campaign's days takes their lock next, before any row: an account's row stands for its days. Behind
//! the accounts' rows come the lock of a tenant with a rate and that of one that limits providers, then the sends, the tenant's book, the days.
//! To add a last-moment check: the WHERE of `INTEND`, and its reason in `refusal`.

pub(super) mod days;
pub mod providers;
pub(super) mod rate;
pub(super) mod refusal;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use domain::ids::{CampaignId, EmailAccountId, SendId, TemplateId, TenantId};
use domain::pace::{AccountBook, CampaignBook, DayUse, Days, Deferral, ProviderBook, Reserved, TenantBook, admit};
use domain::plan::Moment;
use domain::reason::Reason;
use domain::schedule::WarmupTable;
use domain::time::{Timestamp, Zone};
use uuid::Uuid;

pub(super) use days::DayChanges;

use super::SystemStore;
use super::campaigns::CampaignBundle;
use super::fetch::{account_pace, template_of};
use super::restored::{Committed, ensure_standing};
use crate::db::{Access, LockKind, Tx};
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

/// What a book needs of an account, and its tenant's rate.
macro_rules! accounts {
    () => {
        "SELECT a.id, a.tenant_id, a.status, a.daily_limit, a.min_gap_seconds, a.warmup_started_at, a.timezone, a.last_slot_at,
            a.last_dot_at, a.backoff_until, a.backoff_failures, t.max_per_second, t.provider_limits
        FROM email_accounts a JOIN tenants t ON t.id = a.tenant_id WHERE a.id {any $1}"
    };
}

/// Campaign, company, account and template are as they were when the message was made.
macro_rules! is_as_seen {
    () => {
        "({max c.updated_at, co.updated_at} = r.campaign_seen AND a.updated_at = r.account_seen AND t.id = r.template_id
            AND t.version = r.template_version)"
    };
}

statements! {
    ACCOUNTS = concat!(accounts!(), " ORDER BY a.id {for update of a}");
    LIMITED_ACCOUNTS = concat!(accounts!(), "
            AND (a.daily_limit IS NOT NULL OR a.min_gap_seconds > 0 OR a.warmup_started_at IS NOT NULL
                OR t.max_per_second IS NOT NULL OR t.provider_limits IS NOT NULL)
        ORDER BY a.id {for update of a}");
    DAYS = "SELECT scope_id, day, reserved, used FROM pace_days WHERE scope = $1 AND scope_id {any $2} AND day >= $3";
    // A wait that began since P3 stands against it. Where P3 saw failures it is the probe's, whose claim is the wait.
    INTEND = concat!("UPDATE sends SET status = 'dot', fence = sends.fence + 1, owner = $1, account_day = r.dot_day,
            campaign_day = r.campaign_dot_day, provider = COALESCE(r.provider, sends.provider), message_id = COALESCE(sends.message_id, r.message_id),
            first_attempt_at = COALESCE(sends.first_attempt_at, r.dated_at), last_attempt_at = $2, updated_at = $2
        FROM {rows r(id uuid, tenant_id uuid, fence bigint, message_id text, dated_at timestamptz, dot_day text,
            campaign_dot_day text, account_failures bigint, stop_on_reply bigint, campaign_seen timestamptz,
            account_seen timestamptz, template_id uuid, template_version bigint, provider text)},
            campaigns c, companies co, email_accounts a, leads l, campaign_sequence_steps st, templates t
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.fence = r.fence
            AND sends.status IN ('planned', 'queued')
            AND c.id = sends.campaign_id AND c.tenant_id = sends.tenant_id AND c.status = 'sending'
            AND a.id = sends.email_account_id AND a.tenant_id = sends.tenant_id AND a.status = 'active'
            AND a.backoff_failures = r.account_failures
            AND (r.account_failures > 0 OR a.backoff_until IS NULL OR a.backoff_until <= $2)
            AND st.id = sends.step_id AND st.is_active
            AND co.id = c.company_id AND t.id = ", template_of!("sends"), " AND t.tenant_id = sends.tenant_id AND ", is_as_seen!(), "
            AND l.id = sends.lead_id AND l.tenant_id = sends.tenant_id AND (l.status = 'active' OR (l.status = 'replied' AND r.stop_on_reply = 0))
            AND NOT EXISTS (SELECT 1 FROM suppression_list s WHERE s.email = lower(l.email)
                AND (s.tenant_id = sends.tenant_id OR s.tenant_id IS NULL)
                AND (s.expires_at IS NULL OR s.expires_at > $2))
        RETURNING sends.id AS id, sends.fence AS fence");
    // Text or settings were changed since the message was made: it is made anew. No hint is out there any more.
    MAKE_ANEW = concat!("UPDATE sends SET hinted_at = NULL
        FROM {rows r(id uuid, tenant_id uuid, fence bigint, campaign_seen timestamptz, account_seen timestamptz,
            template_id uuid, template_version bigint)},
            campaigns c, companies co, email_accounts a, campaign_sequence_steps st, templates t
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.fence = r.fence
            AND sends.status IN ('planned', 'queued')
            AND c.id = sends.campaign_id AND c.tenant_id = sends.tenant_id AND c.status = 'sending'
            AND a.id = sends.email_account_id AND a.tenant_id = sends.tenant_id AND a.status = 'active'
            AND st.id = sends.step_id AND st.is_active
            AND co.id = c.company_id AND t.id = ", template_of!("sends"), " AND t.tenant_id = sends.tenant_id AND NOT ", is_as_seen!(), "
        RETURNING sends.id AS id, sends.fence AS fence");
    SAVE_LAST_DOT = "UPDATE email_accounts SET last_dot_at = r.at FROM {rows r(id uuid, at timestamptz)}
        WHERE email_accounts.id = r.id";
    POSTPONE = "UPDATE sends SET status = 'queued', owner = NULL, not_before = r.not_before, reason = r.reason,
            account_day = r.account_day, campaign_day = r.campaign_day, hinted_at = NULL, updated_at = $2
        FROM {rows r(id uuid, tenant_id uuid, fence bigint, not_before timestamptz, reason text, account_day text,
            campaign_day text)}
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.fence = r.fence AND sends.owner = $1
            AND sends.status = 'dot'";
    // The transaction in doubt may still be under way at the server: whoever waits for its locks sees how it ended.
    LOCK = "SELECT id, account_day, campaign_day FROM sends WHERE id {any $1} ORDER BY id {for update}";
    WITHDRAW = "UPDATE sends SET status = 'queued', owner = NULL, not_before = $2, hinted_at = NULL, account_day = NULL,
            campaign_day = NULL, reason = 'given_back', updated_at = $2
        FROM {rows r(id uuid, tenant_id uuid, fence bigint)}
        WHERE sends.id = r.id AND sends.tenant_id = r.tenant_id AND sends.fence = r.fence AND sends.owner = $1
            AND sends.status = 'dot' RETURNING sends.id AS id";
}

/// One connection's request to write its dot.
#[derive(Clone, Debug)]
pub struct DotRequest {
    /// The send.
    pub send_id: SendId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// Its account.
    pub email_account_id: EmailAccountId,
    /// The fence read at P3.
    pub fence: i64,
    /// Failed connections of the account in a row, as read at P3.
    pub account_failures: u32,
    /// The account day on which a slot is reserved, as read at P3.
    pub reserved_day: Option<String>,
    /// The campaign day on which it is reserved.
    pub campaign_day: Option<String>,
    /// The zone of the account's days: that of the dot is charged.
    pub account_zone: Zone,
    /// The zone of the campaign's days: that of the dot is charged as well.
    pub campaign_zone: Zone,
    /// The campaign's daily limit; none = no limit, and nothing is asked.
    pub campaign_limit: Option<u32>,
    /// Whether a lead that has replied gets no more of this campaign.
    pub stop_on_reply: bool,
    /// Fixed by the first attempt.
    pub message_id: String,
    /// The message's Date; fixed by the first attempt.
    pub dated_at: Timestamp,
    /// What the message was made of.
    pub seen: Seen,
}

impl DotRequest {
    /// The local days of account and campaign at `now`.
    fn days(&self, now: Timestamp) -> (String, String) {
        (self.account_zone.day(now), self.campaign_zone.day(now))
    }
}

/// Versions of what a message is made of, as read at P3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the campaign or its company last changed.
    pub campaign: Timestamp,
    /// When the account last changed.
    pub account: Timestamp,
    /// The template and its version.
    pub template: (TemplateId, i64),
}

/// The gate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DotAnswer {
    /// The intent is durable: write the dot. The new fence goes with the result.
    Granted {
        /// The fence that is now ours.
        fence: i64,
    },
    /// No dot.
    Refused,
    /// No dot: text or settings were changed since the message was made. The send stays as it is; read anew it may go.
    Outdated,
}

impl SystemStore {
    /// Records the intent to write these dots, in one transaction; the answers in order of the requests. Limits are asked of, and
    /// charged to, the days of `now`. `known` is what the caller has committed before.
    ///
    /// # Errors
    /// `WentBack` where the ledger does not have that any more, or the database. After `CommitInDoubt` no dot may be written, and `withdraw` must be asked until it answers.
    pub async fn dot_intent(
        &self,
        requests: &[DotRequest],
        owner: &str,
        warmup: &WarmupTable,
        known: &[Committed],
        now: Timestamp,
    ) -> Result<Vec<DotAnswer>> {
        let mut tx = self.db.begin(Access::Write).await?;
        ensure_standing(&mut tx, known).await?;
        tx.lock(LockKind::Campaign, false, requests.iter().map(|r| r.campaign_id.uuid())).await?;
        tx.lock(LockKind::EmailAccount, false, requests.iter().map(|r| r.email_account_id.uuid())).await?;
        let campaigns = read_campaign_books(&mut tx, requests, now).await?;
        let ids: Vec<Uuid> =
            requests.iter().map(|r| r.email_account_id.uuid()).collect::<BTreeSet<_>>().into_iter().collect();
        let limited = tx.query(&LIMITED_ACCOUNTS, values![ids]).await?;
        let accounts = with_days(&mut tx, &limited, now).await?;
        let tenants = rate::read(&mut tx, &limited, Timestamp::MAX).await?;
        let providers = providers::read(&mut tx, &limited, now).await?;
        // Two holders of one send may meet in one batch: the first asks, the others are refused.
        let mut seen = HashSet::new();
        let asked: Vec<&DotRequest> = requests.iter().filter(|r| seen.insert((r.send_id, r.fence))).collect();
        let recipients = providers::recipients(&mut tx, &asked, &providers, now).await?;
        let mut books = Books { accounts, campaigns, tenants, providers, recipients };
        let rows: Rows = asked
            .iter()
            .map(|r| {
                let (account_day, campaign_day) = r.days(now);
                let (fence, failures, stop_on_reply) = (r.fence, r.account_failures, i64::from(r.stop_on_reply));
                let Seen { campaign, account, template } = r.seen;
                values![
                    r.send_id,
                    r.tenant_id,
                    fence,
                    &r.message_id,
                    r.dated_at,
                    account_day,
                    campaign_day,
                    failures,
                    stop_on_reply,
                    campaign,
                    account,
                    template.0,
                    template.1,
                    books.provider_of(r),
                ]
            })
            .collect();
        let granted = tx.query_rows(&INTEND, rows, values![owner, now]).await?;
        let mut fences: Fences = granted
            .iter()
            .map(|row| {
                let fence: i64 = row.get("fence")?;
                Ok(((row.get("id")?, fence - 1), fence))
            })
            .collect::<Result<_>>()?;
        let outdated = make_anew(&mut tx, &asked, &fences).await?;
        let refused = books.admit_all(&asked, &mut fences, warmup, now);
        postpone(&mut tx, &refused, owner, now).await?;
        let mut changes = DayChanges::default();
        for refusal in &refused {
            changes.move_reservation(refusal);
        }
        for request in asked.iter().filter(|r| fences.contains_key(&(r.send_id, r.fence))) {
            changes.charge(request, now);
        }
        rate::save(&mut tx, books.tenants.iter().map(|(id, book)| (*id, book)), now).await?;
        changes.write(&mut tx, now).await?;
        let dots: Rows = books.accounts.values().map(|book| values![book.id, book.last_dot_at]).collect();
        tx.execute_rows(&SAVE_LAST_DOT, dots, vec![]).await?;
        tx.commit().await?;
        let answer = |r: &DotRequest| match fences.remove(&(r.send_id, r.fence)) {
            Some(fence) => DotAnswer::Granted { fence },
            None if outdated.contains(&(r.send_id, r.fence)) => DotAnswer::Outdated,
            None => DotAnswer::Refused,
        };
        Ok(requests.iter().map(answer).collect())
    }

    /// Takes intents back whose dot was surely not written: after a COMMIT in doubt, or at a graceful stop. How many.
    ///
    /// # Errors
    /// The database.
    pub async fn withdraw(&self, requests: &[DotRequest], owner: &str, now: Timestamp) -> Result<u64> {
        let rows: Rows = requests.iter().map(|r| values![r.send_id, r.tenant_id, r.fence + 1]).collect();
        let sends: Vec<Uuid> = requests.iter().map(|r| r.send_id.uuid()).collect();
        let mut tx = self.db.begin(Access::Write).await?;
        let mut charged: HashMap<SendId, [Option<String>; 2]> = HashMap::new();
        for row in tx.query(&LOCK, values![sends]).await? {
            charged.insert(row.get("id")?, [row.get("account_day")?, row.get("campaign_day")?]);
        }
        let withdrawn = tx.query_rows(&WITHDRAW, rows, values![owner, now]).await?;
        let ids: BTreeSet<SendId> = withdrawn.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        let mut changes = DayChanges::default();
        for request in requests.iter().filter(|r| ids.contains(&r.send_id)) {
            let (account, campaign) = (request.email_account_id.uuid(), request.campaign_id.uuid());
            let days = charged.remove(&request.send_id).unwrap_or_default();
            for ((scope, id), day) in [("account", account), ("campaign", campaign)].into_iter().zip(days) {
                day.iter().for_each(|day| changes.add(scope, id, request.tenant_id, day, 0, -1));
            }
        }
        changes.write(&mut tx, now).await?;
        tx.commit().await?;
        Ok(ids.len() as u64)
    }
}

/// The new fence of each granted request, by send and the fence that it came with.
type Fences = HashMap<(SendId, i64), i64>;

/// The books of those that have limits.
struct Books {
    accounts: BTreeMap<EmailAccountId, AccountBook>,
    campaigns: BTreeMap<CampaignId, CampaignBook>,
    tenants: BTreeMap<TenantId, TenantBook>,
    providers: BTreeMap<TenantId, ProviderBook>,
    /// Of the requests whose tenants limit providers.
    recipients: HashMap<SendId, providers::Asked>,
}

/// A request that its limits refuse.
struct Refusal<'a> {
    request: &'a DotRequest,
    deferral: Deferral,
    /// The account's day that holds its slot from now on.
    account_day: Option<String>,
    /// The campaign's.
    campaign_day: Option<String>,
}

impl<'a> Refusal<'a> {
    fn new(request: &'a DotRequest, deferral: Deferral) -> Self {
        let (account_day, campaign_day) = (request.reserved_day.clone(), request.campaign_day.clone());
        Self { request, deferral, account_day, campaign_day }
    }
}

impl Books {
    /// Asks the limits of each granted request, in order; those refused leave `fences`.
    fn admit_all<'a>(
        &mut self,
        requests: &[&'a DotRequest],
        fences: &mut Fences,
        warmup: &WarmupTable,
        now: Timestamp,
    ) -> Vec<Refusal<'a>> {
        let mut refused = Vec::new();
        // Those refused for the gap come back one gap after the other, not all at once.
        let mut waiting: HashMap<EmailAccountId, u32> = HashMap::new();
        for &request in requests {
            let key = (request.send_id, request.fence);
            if !fences.contains_key(&key) {
                continue;
            }
            let Err(mut refusal) = self.admit(request, warmup, now) else { continue };
            if let (Reason::AccountGap, Some(book)) =
                (refusal.deferral.reason, self.accounts.get(&request.email_account_id))
            {
                let ahead = waiting.entry(book.id).or_default();
                refusal.deferral.until = refusal.deferral.until + book.pace.min_gap * *ahead;
                *ahead += 1;
            }
            // Asked again tomorrow at the latest: a person may have raised the limit.
            refusal.deferral.until = refusal.deferral.until.min(now + Duration::from_secs(24 * 3600));
            self.move_room(&refusal);
            fences.remove(&key);
            refused.push(refusal);
        }
        refused
    }

    /// The provider of a request's recipient, where it has a limit.
    fn provider_of(&self, request: &DotRequest) -> Option<String> {
        let asked = self.recipients.get(&request.send_id)?;
        asked.recipient.provider().map(|name| name.as_ref().to_owned())
    }

    /// What its provider holds for a refused dot moves with it.
    fn move_room(&mut self, refusal: &Refusal<'_>) {
        let Some(asked) = self.recipients.get(&refusal.request.send_id) else { return };
        let book = self.providers.get_mut(&refusal.request.tenant_id).zip(asked.recipient.provider());
        let Some((book, name)) = book else { return };
        if let Some(before) = asked.reserved_at {
            book.release(name, before);
        }
        if refusal.account_day.is_some() {
            book.take(name, refusal.deferral.until);
        }
    }

    fn admit<'a>(&mut self, request: &'a DotRequest, warmup: &WarmupTable, now: Timestamp) -> Result<(), Refusal<'a>> {
        let reserved =
            Reserved { account_day: request.reserved_day.as_deref(), campaign_day: request.campaign_day.as_deref() };
        let mut account = self.accounts.get_mut(&request.email_account_id);
        let mut campaign = self.campaigns.get_mut(&request.campaign_id);
        let tenant = self.tenants.get_mut(&request.tenant_id);
        let asked = self.recipients.get(&request.send_id).map(|asked| (&asked.recipient, asked.reserved_at));
        let mut provider = None;
        if let Some((recipient, own)) = asked {
            let refused = |deferral| Refusal::new(request, deferral);
            recipient.not_known(now).map_or(Ok(()), Err).map_err(refused)?;
            let book = self.providers.get_mut(&request.tenant_id).zip(recipient.provider());
            if let Some((book, name)) = &book {
                book.check(name, own, now).map_err(refused)?;
            }
            provider = book.map(|(book, name)| (book, name, own));
        }
        let admitted = admit(account.as_deref_mut(), campaign.as_deref_mut(), tenant, reserved, warmup, now);
        if let (Ok(()), Some((book, name, own))) = (&admitted, provider) {
            book.count(name, own, now);
        }
        admitted.map_err(|deferral| {
            let mut refusal = Refusal::new(request, deferral);
            if matches!(deferral.reason, Reason::AccountCap | Reason::CampaignCap) {
                let day = |zone: &Zone| (deferral.until < Timestamp::MAX).then(|| zone.day(deferral.until));
                // Who has no limits has no book, and keeps what it had.
                refusal.account_day = account.map_or(refusal.account_day, |book| day(&book.pace.zone));
                refusal.campaign_day = campaign.map_or(refusal.campaign_day, |book| day(&book.zone));
            }
            refusal
        })
    }
}

/// Which of those that were not granted are only to be read and made anew.
async fn make_anew(tx: &mut Tx, asked: &[&DotRequest], granted: &Fences) -> Result<HashSet<(SendId, i64)>> {
    let refused = asked.iter().filter(|r| !granted.contains_key(&(r.send_id, r.fence)));
    let rows: Rows = refused
        .map(|r| {
            let Seen { campaign, account, template } = r.seen;
            values![r.send_id, r.tenant_id, r.fence, campaign, account, template.0, template.1]
        })
        .collect();
    let outdated = tx.query_rows(&MAKE_ANEW, rows, vec![]).await?;
    outdated.iter().map(|row| Ok((row.get("id")?, row.get("fence")?))).collect()
}

async fn postpone(tx: &mut Tx, refused: &[Refusal<'_>], owner: &str, now: Timestamp) -> Result<()> {
    let rows: Rows = refused
        .iter()
        .map(|Refusal { request: r, deferral, account_day, campaign_day }| {
            let days = (account_day.clone(), campaign_day.clone());
            values![r.send_id, r.tenant_id, r.fence + 1, deferral.until, deferral.reason, days.0, days.1]
        })
        .collect();
    tx.execute_rows(&POSTPONE, rows, values![owner, now]).await?;
    Ok(())
}

/// The books of the campaigns that have a limit, under lock; where none has, nothing is asked.
async fn read_campaign_books(
    tx: &mut Tx,
    requests: &[DotRequest],
    now: Timestamp,
) -> Result<BTreeMap<CampaignId, CampaignBook>> {
    // Who has read the campaign last knows its limit: requests that an edit has made outdated get no dot, and must not lend theirs to others.
    let mut newest: BTreeMap<CampaignId, &DotRequest> = BTreeMap::new();
    for request in requests {
        let known = newest.entry(request.campaign_id).or_insert(request);
        if request.seen.campaign > known.seen.campaign {
            *known = request;
        }
    }
    let limits: BTreeMap<CampaignId, (u32, &Zone)> =
        newest.into_iter().filter_map(|(id, r)| Some((id, (r.campaign_limit?, &r.campaign_zone)))).collect();
    if limits.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Uuid> = limits.keys().map(|id| id.uuid()).collect();
    tx.lock(LockKind::CampaignDays, true, ids.iter().copied()).await?;
    let mut days = read_days(tx, "campaign", &ids, now).await?;
    let book = |(id, (limit, zone)): (CampaignId, (u32, &Zone))| {
        let days = days.remove(&id.uuid()).unwrap_or_default();
        (id, CampaignBook { daily_limit: Some(limit), zone: zone.clone(), days })
    };
    Ok(limits.into_iter().map(book).collect())
}

/// The books of these accounts of one tenant, its own if it has a rate, and its providers' if it limits some, under lock.
pub(super) async fn read_books(
    tx: &mut Tx,
    ids: &BTreeSet<EmailAccountId>,
    moment: Moment,
) -> Result<(BTreeMap<EmailAccountId, AccountBook>, Option<TenantBook>, Option<ProviderBook>)> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = tx.query(&ACCOUNTS, values![ids]).await?;
    let accounts = with_days(tx, &rows, moment.now).await?;
    let tenants = rate::read(tx, &rows, moment.now + moment.horizon).await?;
    let providers = providers::read(tx, &rows, moment.now).await?;
    Ok((accounts, tenants.into_values().next(), providers.into_values().next()))
}

pub(super) async fn with_days(
    tx: &mut Tx,
    rows: &[Row],
    now: Timestamp,
) -> Result<BTreeMap<EmailAccountId, AccountBook>> {
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    let mut days = read_days(tx, "account", &ids, now).await?;
    rows.iter()
        .map(|row| {
            let id: EmailAccountId = row.get("id")?;
            let book = AccountBook {
                id,
                status: row.get("status")?,
                pace: account_pace(row)?,
                days: days.remove(&id.uuid()).unwrap_or_default(),
                last_dot_at: row.get("last_dot_at")?,
            };
            Ok((id, book))
        })
        .collect()
}

/// Takes the lock of a campaign's days where it has a limit; to be held before any row's.
pub(super) async fn lock_days(tx: &mut Tx, campaign: &CampaignBundle) -> Result<()> {
    let limited = campaign.plan.settings.daily_limit.map(|_| campaign.plan.id.uuid());
    tx.lock(LockKind::CampaignDays, true, limited).await
}

/// The first of the days around now: two days back covers every zone.
fn first_day(now: Timestamp) -> String {
    Zone::UTC.day(now - Duration::from_secs(2 * 24 * 3600))
}

/// Days around now.
pub(super) async fn read_days(tx: &mut Tx, scope: &str, ids: &[Uuid], now: Timestamp) -> Result<HashMap<Uuid, Days>> {
    let from = first_day(now);
    let mut found: HashMap<Uuid, Days> = HashMap::new();
    for row in tx.query(&DAYS, values![scope, ids.to_vec(), from]).await? {
        let day = DayUse { reserved: row.get("reserved")?, used: row.get("used")? };
        found.entry(row.get("scope_id")?).or_default().insert(row.get("day")?, day);
    }
    Ok(found)
}
