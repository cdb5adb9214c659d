//! The limit of planning: an insert of the same rows into a table with the same columns and indexes, by the bare driver, in
//! the same database, 500 rows in a transaction as planning writes them. No foreign keys, nothing read, nothing decided.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use rusqlite::Connection;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Rows in one transaction.
const BATCH: u64 = 500;
const COLUMNS: &str =
    "id, tenant_id, campaign_id, lead_id, step_id, enrollment_id, email_account_id, step_order, status, open,
    priority, not_before, hinted_at, hinted_epoch, account_day, campaign_day, created_at, updated_at";
const DAY: &str = "2026-01-01";
/// Microseconds of that day.
const MOMENT: i64 = 1_767_225_600_000_000;

/// Ids that count up, as those of the product do: each table's own.
fn id(table: u128, n: u64) -> Uuid {
    Uuid::from_u128(u128::from(n) << 80 | 0x7000_8000_0000_0000_0000 | table)
}

/// Batches of so many rows, as their first and the one behind their last.
fn batches(rows: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..rows.div_ceil(BATCH)).map(move |n| (n * BATCH, ((n + 1) * BATCH).min(rows)))
}

/// Inserts so many rows into a SQLite file; rows a second.
pub(crate) fn sqlite(file: &Path, rows: u64) -> anyhow::Result<f64> {
    let mut connection = Connection::open(file)?;
    // As the product opens it, but for foreign keys.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "OFF")?;
    copy_sqlite_table(&connection)?;
    let text = format!(
        "INSERT INTO raw_sends ({COLUMNS}) VALUES (?1, ?2, ?2, ?3, ?2, ?4, ?2, 1, 'planned', 1, 100, ?5, ?5, 0, ?6, ?6, ?5, ?5)"
    );
    let began = Instant::now();
    for (first, end) in batches(rows) {
        let transaction = connection.transaction()?;
        let mut statement = transaction.prepare_cached(&text)?;
        for n in first..end {
            let [send, one, lead, enrollment] = [id(1, n), id(2, 0), id(3, n), id(4, n)].map(Uuid::into_bytes);
            statement.execute((send, one, lead, enrollment, MOMENT, DAY))?;
        }
        drop(statement);
        transaction.commit()?;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

/// An empty table like `sends`, with all its indexes.
fn copy_sqlite_table(connection: &Connection) -> anyhow::Result<()> {
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = 'sends' AND sql IS NOT NULL")?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for text in texts {
        let words =
            [("TABLE sends", "TABLE raw_sends"), ("INDEX sends_", "INDEX raw_sends_"), ("ON sends", "ON raw_sends")];
        let text = words.iter().fold(text, |text, (from, to)| text.replace(from, to));
        connection.execute_batch(&text).with_context(|| text.clone())?;
    }
    Ok(())
}

/// Inserts so many rows into a PostgreSQL database; rows a second.
pub(crate) fn postgres(url: &str, rows: u64) -> anyhow::Result<f64> {
    with_postgres(url, async |client| {
        client.batch_execute("CREATE TABLE raw_sends (LIKE sends INCLUDING ALL)").await?;
        let text = format!(
            "INSERT INTO raw_sends ({COLUMNS})
             SELECT r.id, $1, $1, r.lead, $1, r.enrollment, $1, 1, 'planned', true, 100, r.at, r.at, 0, r.day, r.day, r.at, r.at
             FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[]) u(id, lead, enrollment, day),
                LATERAL (SELECT u.id, u.lead, u.enrollment, u.day, to_timestamp($6::float8) AS at) r"
        );
        let statement = client.prepare(&text).await?;
        let seconds = MOMENT as f64 / 1e6;
        let began = Instant::now();
        for (first, end) in batches(rows) {
            let ids = |table| (first..end).map(|n| id(table, n)).collect::<Vec<_>>();
            let days = vec![DAY; (end - first) as usize];
            client.execute(&statement, &[&id(2, 0), &ids(1), &ids(3), &ids(4), &days, &seconds]).await?;
        }
        Ok(rows as f64 / began.elapsed().as_secs_f64())
    })
}

/// Makes an empty database; its URL.
pub(crate) fn make_database(server: &str, name: &str) -> anyhow::Result<String> {
    statement(server, &format!("CREATE DATABASE {name}"))?;
    let (base, _) = server.rsplit_once('/').context("the URL names no database")?;
    Ok(format!("{base}/{name}"))
}

/// Drops it again.
pub(crate) fn drop_database(server: &str, name: &str) -> anyhow::Result<()> {
    statement(server, &format!("DROP DATABASE {name}"))
}

fn statement(url: &str, text: &str) -> anyhow::Result<()> {
    with_postgres(url, async |client| Ok(client.batch_execute(text).await?))
}

fn with_postgres<T>(url: &str, work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("PostgreSQL does not answer")?;
        let speaking = tokio::spawn(connection);
        let result = work(&client).await;
        drop(client);
        speaking.await??;
        result
    })
}
