//! The books of tenants that have a rate: read under a lock, so that all planners and gates of a tenant take turns.
//!
//! Who has no rate pays nothing: the rate comes with the accounts' rows. The lock is taken behind those rows, and the row
//! is written before days. Not responsible for spacing (`domain::pace`). To add what a tenant's book keeps: a column of
//! `tenant_pace`, in `READ`, `SAVE` and `book`.

use std::collections::BTreeMap;

use domain::ids::TenantId;
use domain::pace::{Rate, TenantBook};
use domain::time::Timestamp;
use uuid::Uuid;

use crate::db::{LockKind, Tx};
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    READ = "SELECT tenant_id, last_slot_at, window_at, dots FROM tenant_pace WHERE tenant_id {any $1}";
    SAVE = "INSERT INTO tenant_pace (tenant_id, last_slot_at, window_at, dots, created_at, updated_at)
        SELECT r.tenant_id, r.last_slot_at, r.window_at, r.dots, $1::timestamptz, $1::timestamptz
        FROM {rows r(tenant_id uuid, last_slot_at timestamptz, window_at timestamptz, dots bigint)}
        WHERE true ON CONFLICT (tenant_id) DO UPDATE SET last_slot_at = excluded.last_slot_at,
            window_at = excluded.window_at, dots = excluded.dots, updated_at = excluded.updated_at";
    FREE = "UPDATE tenant_pace SET last_slot_at = NULL, updated_at = $2 WHERE tenant_id = $1 AND last_slot_at > $2";
}

/// The books of those tenants of these accounts that have a rate, under lock. Slots are spaced up to `spaced_until`.
pub(in crate::store) async fn read(
    tx: &mut Tx,
    accounts: &[Row],
    spaced_until: Timestamp,
) -> Result<BTreeMap<TenantId, TenantBook>> {
    let mut rates: BTreeMap<TenantId, Rate> = BTreeMap::new();
    for row in accounts {
        if let Some(rate) = row.get::<Option<f64>>("max_per_second")?.and_then(Rate::per_second) {
            rates.insert(row.get("tenant_id")?, rate);
        }
    }
    if rates.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Uuid> = rates.keys().map(|id| id.uuid()).collect();
    tx.lock(LockKind::TenantRate, true, ids.iter().copied()).await?;
    let new = |rate| TenantBook { rate, last_slot_at: None, spaced_until, window_at: None, dots: 0 };
    let mut books: BTreeMap<TenantId, TenantBook> = rates.into_iter().map(|(id, rate)| (id, new(rate))).collect();
    for row in tx.query(&READ, values![ids]).await? {
        if let Some(book) = books.get_mut(&row.get("tenant_id")?) {
            book.last_slot_at = row.get("last_slot_at")?;
            book.window_at = row.get("window_at")?;
            book.dots = row.get("dots")?;
        }
    }
    Ok(books)
}

/// Keeps these books.
pub(in crate::store) async fn save(
    tx: &mut Tx,
    books: impl IntoIterator<Item = (TenantId, &TenantBook)>,
    now: Timestamp,
) -> Result<()> {
    let row = |(id, book): (TenantId, &TenantBook)| values![id, book.last_slot_at, book.window_at, book.dots];
    let rows: Rows = books.into_iter().map(row).collect();
    tx.execute_rows(&SAVE, rows, values![now]).await.map(drop)
}

/// Lets slots begin anew where many have lost theirs at once: else the tenant's other mail would wait behind holes. Those
/// that meet others' then are spaced by the gate. Under the tenant's lock: a planner that has read the book already would
/// write it back as it was.
pub(in crate::store) async fn free_slots(tx: &mut Tx, tenant_id: TenantId, now: Timestamp) -> Result<()> {
    tx.lock(LockKind::TenantRate, true, [tenant_id.uuid()]).await?;
    tx.execute(&FREE, values![tenant_id, now]).await.map(drop)
}
