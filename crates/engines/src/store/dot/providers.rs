//! The books of tenants that limit providers: what each has got and will get, counted from the sends, under a lock, so that all
//! planners and gates of a tenant take turns.
//!
//! Who limits none pays nothing: the limits come with the accounts' rows. Since the sends are what is counted, whatever ends
//! one gives its room back by that. Not responsible for deciding whether there is room (`domain::pace`) or for asking name
//! servers (`app`). To add a state in which a send takes room: the WHERE of `TAKEN`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::ids::{LeadId, SendId, TenantId};
use domain::pace::{DayUse, ProviderBook, ProviderLimit, Recipient};
use domain::plan::Candidate;
use domain::provider::of_name;
use domain::time::Timestamp;

use super::DotRequest;
use crate::db::{Access, LockKind, Tx};
use crate::error::{Error, Result};
use crate::store::SystemStore;
use crate::value::{Row, Rows};
use crate::{statements, values};

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

statements! {
    // What has lost its slot holds no room; what was tried and may be tried again holds that of its next try.
    TAKEN = "SELECT x.provider, x.hour, CAST(SUM(x.reserved) AS bigint) AS reserved, CAST(SUM(x.used) AS bigint) AS used
        FROM (SELECT s.provider AS provider, {hour s.not_before} AS hour, 1 AS reserved, 0 AS used FROM sends s
            WHERE s.tenant_id = $1 AND s.provider IS NOT NULL AND s.open AND s.not_before >= $2
                AND s.status IN ('planned', 'queued') AND s.account_day IS NOT NULL
            UNION ALL SELECT s.provider, {hour s.last_attempt_at}, 0, 1 FROM sends s
            WHERE s.tenant_id = $1 AND s.provider IS NOT NULL AND s.last_attempt_at >= $2
                AND s.status IN ('dot', 'sent', 'held')) x
        GROUP BY x.provider, x.hour";
    OF_LEADS = "SELECT l.id, {domain l.email} AS domain, d.provider, d.stale_at
        FROM {rows r(id uuid)} JOIN {lookup leads l ON l.id = r.id AND l.tenant_id = $1}
            LEFT JOIN recipient_domains d ON d.domain = {domain l.email}";
    OF_SENDS = "SELECT s.id, s.not_before, s.account_day, {domain l.email} AS domain, d.provider, d.stale_at
        FROM {rows r(id uuid, tenant_id uuid)} JOIN sends s ON s.id = r.id AND s.tenant_id = r.tenant_id
            JOIN leads l ON l.id = s.lead_id AND l.tenant_id = s.tenant_id
            LEFT JOIN recipient_domains d ON d.domain = {domain l.email}";
    SAVE = "INSERT INTO recipient_domains (domain, provider, looked_up_at, stale_at, created_at, updated_at)
        SELECT r.domain, r.provider, $1::timestamptz, r.stale_at, $1::timestamptz, $1::timestamptz
        FROM {rows r(domain text, provider text, stale_at timestamptz)}
        WHERE true ON CONFLICT (domain) DO UPDATE SET provider = excluded.provider, looked_up_at = excluded.looked_up_at,
            stale_at = excluded.stale_at, updated_at = excluded.updated_at";
    SAVE_SILENCE = "INSERT INTO recipient_domains (domain, provider, looked_up_at, stale_at, created_at, updated_at)
        SELECT r.domain, r.provider, $1::timestamptz, r.stale_at, $1::timestamptz, $1::timestamptz
        FROM {rows r(domain text, provider text, stale_at timestamptz)}
        WHERE true ON CONFLICT (domain) DO UPDATE SET stale_at = excluded.stale_at, updated_at = excluded.updated_at";
}

/// The limits of a row that has `provider_limits` of its tenant; none where it has none.
///
/// # Errors
/// `Column` where another program wrote what makes no sense: nothing of the tenant may leave beyond what was meant.
pub(in crate::store) fn limits(row: &Row) -> Result<Option<Vec<ProviderLimit>>> {
    let Some(value) = row.get::<Option<serde_json::Value>>("provider_limits")? else { return Ok(None) };
    let limits: Vec<ProviderLimit> = serde_json::from_value(value).map_err(|e| Error::Column {
        column: "tenants.provider_limits".into(),
        problem: format!("cannot be used: {e}"),
    })?;
    Ok(Some(limits).filter(|limits| !limits.is_empty()))
}

/// The books of those tenants of these accounts that limit providers, under lock.
pub(in crate::store) async fn read(
    tx: &mut Tx,
    accounts: &[Row],
    now: Timestamp,
) -> Result<BTreeMap<TenantId, ProviderBook>> {
    let mut books = BTreeMap::new();
    for row in accounts {
        if let Some(limits) = limits(row)? {
            books.insert(row.get("tenant_id")?, ProviderBook::new(limits));
        }
    }
    if books.is_empty() {
        return Ok(books);
    }
    tx.lock(LockKind::ProviderRoom, true, books.keys().map(|id: &TenantId| id.uuid())).await?;
    for (tenant_id, book) in &mut books {
        count(tx, *tenant_id, book, now).await?;
    }
    Ok(books)
}

/// Notes in a book what the ledger says of today and the days to come.
pub(in crate::store) async fn count(
    tx: &mut Tx,
    tenant_id: TenantId,
    book: &mut ProviderBook,
    now: Timestamp,
) -> Result<()> {
    let today = Timestamp::from_micros(now.micros().div_euclid(DAY) * DAY);
    for row in tx.query(&TAKEN, values![tenant_id, today]).await? {
        let hour = DayUse { reserved: row.get("reserved")?, used: row.get("used")? };
        book.note(&row.get::<String>("provider")?, row.get("hour")?, hour);
    }
    Ok(())
}

/// Says of each candidate whose it is; the domains that somebody has to look up, some of them since long ago.
pub(in crate::store) async fn complete(
    tx: &mut Tx,
    tenant_id: TenantId,
    book: &ProviderBook,
    candidates: impl Iterator<Item = &mut Candidate>,
    now: Timestamp,
) -> Result<BTreeSet<String>> {
    let mut candidates: Vec<&mut Candidate> = candidates.collect();
    let rows: Rows = candidates.iter().map(|candidate| values![candidate.lead_id]).collect();
    let (mut found, mut unknown) = (HashMap::new(), BTreeSet::new());
    for row in tx.query_rows(&OF_LEADS, rows, values![tenant_id]).await? {
        let (provider, stale) = whose(&row, now)?;
        unknown.extend(stale);
        found.insert(row.get::<LeadId>("id")?, book.recipient(provider.as_deref()));
    }
    for candidate in &mut candidates {
        candidate.recipient = found.get(&candidate.lead_id).cloned().unwrap_or_default();
    }
    Ok(unknown)
}

/// The provider of a row, if it is known, and its domain, if somebody has to look it up.
fn whose(row: &Row, now: Timestamp) -> Result<(Option<String>, Option<String>)> {
    let stale_at: Option<Timestamp> = row.get("stale_at")?;
    let domain: Option<String> = stale_at.is_none_or(|at| at <= now).then(|| row.get("domain")).transpose()?;
    Ok((row.get("provider")?, domain))
}

/// What the gate knows of a send whose tenant limits providers.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Whose its recipient is.
    pub(super) recipient: Recipient,
    /// When its provider holds room for it.
    pub(super) reserved_at: Option<Timestamp>,
}

/// Whose the recipients of these requests are, of those whose tenants limit providers.
pub(super) async fn recipients(
    tx: &mut Tx,
    requests: &[&DotRequest],
    books: &BTreeMap<TenantId, ProviderBook>,
    now: Timestamp,
) -> Result<HashMap<SendId, Asked>> {
    let limited: HashMap<SendId, &ProviderBook> =
        requests.iter().filter_map(|r| Some((r.send_id, books.get(&r.tenant_id)?))).collect();
    let rows = requests.iter().filter(|r| limited.contains_key(&r.send_id));
    let rows: Rows = rows.map(|r| values![r.send_id, r.tenant_id]).collect();
    let mut found = HashMap::new();
    for row in tx.query_rows(&OF_SENDS, rows, vec![]).await? {
        let id: SendId = row.get("id")?;
        let Some(book) = limited.get(&id) else { continue };
        let (provider, _) = whose(&row, now)?;
        let is_reserved = row.get::<Option<String>>("account_day")?.is_some();
        let reserved_at = is_reserved.then(|| row.get("not_before")).transpose()?;
        found.insert(id, Asked { recipient: book.recipient(provider.as_deref()), reserved_at });
    }
    Ok(found)
}

/// What a name server, or its silence, said of a domain.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// In small letters.
    pub domain: String,
    /// Whose it is, as `domain::provider` names it; none = nobody answered: what was known stands, else its own name tells.
    pub provider: Option<String>,
    /// From then on it is to be looked up again; until that is done the provider stands.
    pub stale_at: Timestamp,
}

impl SystemStore {
    /// Keeps whose these domains are, for all tenants.
    ///
    /// # Errors
    /// The database.
    pub async fn save_recipient_domains(&self, found: &[LookedUp], now: Timestamp) -> Result<()> {
        // In one order, whoever saves: two at once would wait for each other.
        let found: BTreeMap<&str, &LookedUp> = found.iter().map(|one| (one.domain.as_str(), one)).collect();
        let (answered, silent): (Vec<_>, Vec<_>) = found.into_values().partition(|one| one.provider.is_some());
        let row = |one: &&LookedUp| {
            let provider = one.provider.clone().unwrap_or_else(|| of_name(&one.domain));
            values![&one.domain, provider, one.stale_at]
        };
        for (statement, some) in [(&SAVE, answered), (&SAVE_SILENCE, silent)] {
            let rows: Rows = some.iter().map(row).collect();
            let mut tx = self.db.begin(Access::Write).await?;
            tx.execute_rows(statement, rows, values![now]).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The domains of these sends' recipients that somebody has to look up.
    ///
    /// # Errors
    /// The database.
    pub async fn unknown_domains(&self, requests: &[DotRequest], now: Timestamp) -> Result<BTreeSet<String>> {
        let rows: Rows = requests.iter().map(|r| values![r.send_id, r.tenant_id]).collect();
        let mut tx = self.db.begin(Access::Read).await?;
        let found = tx.query_rows(&OF_SENDS, rows, vec![]).await?;
        tx.commit().await?;
        let mut unknown = BTreeSet::new();
        for row in &found {
            unknown.extend(whose(row, now)?.1);
        }
        Ok(unknown)
    }
}
