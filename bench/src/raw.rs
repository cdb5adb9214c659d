//! The limits of planning, by the bare driver in the same database, 500 leads in a transaction as planning writes them: an insert of the
//! same rows of the ledger alone, and with it the two other writes that each of them needs. The tables are copies with the same
//! columns and indexes, filled to the brim; no foreign keys, nothing is read or decided.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rusqlite::Connection;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Leads in one transaction.
const BATCH: usize = 500;
/// What planning writes to: the ledger, the lead's place in its sequence, and the queue where that is embedded.
const TABLES: [&str; 3] = ["sends", "campaign_leads", "queue_jobs"];
const COLUMNS: &str =
    "id, tenant_id, campaign_id, lead_id, step_id, enrollment_id, email_account_id, step_order, status, open,
    priority, not_before, hinted_at, hinted_epoch, account_day, campaign_day, created_at, updated_at";
const JOB_COLUMNS: &str = "id, list, lane, payload, priority, not_before, created_at, updated_at";
/// As long as a job of the product, which is text of ids.
const PAYLOAD_LENGTH: usize = 400;
const DAY: &str = "2026-01-01";
/// Microseconds of that day.
const MOMENT: i64 = 1_767_225_600_000_000;
/// Enrollments of the campaign that comes due later, in the order in which planning would read them.
const ENROLLMENTS: &str = "FROM campaign_leads WHERE campaign_id = (SELECT id FROM campaigns WHERE name = 'Later')";

/// Leads a second.
pub(crate) struct Limits {
    /// With an insert of the ledger's rows alone.
    pub(crate) inserted: f64,
    /// With all three writes.
    pub(crate) written: f64,
}

/// An id that counts up, as those of the product do.
fn id(n: usize) -> Uuid {
    Uuid::from_u128((n as u128) << 80 | 0x7000_8000_0000_0000_0000)
}

fn per_second(leads: usize, began: Instant) -> f64 {
    leads as f64 / began.elapsed().as_secs_f64()
}

/// Writes so many leads into a SQLite file.
pub(crate) fn sqlite(file: &Path, leads: usize) -> anyhow::Result<Limits> {
    let mut connection = Connection::open(file)?;
    // As the product opens it, but for foreign keys.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "OFF")?;
    TABLES.iter().try_for_each(|table| copy_sqlite_table(&connection, table))?;
    connection.execute_batch(&format!("INSERT INTO raw_campaign_leads SELECT * {ENROLLMENTS}"))?;
    let enrollments = connection
        .prepare("SELECT id, lead_id FROM raw_campaign_leads ORDER BY due_at, id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<([u8; 16], [u8; 16])>, _>>()?;
    ensure!(enrollments.len() >= leads, "the campaign `Later` has too few leads");
    let enrollments = &enrollments[..leads];
    let inserted = write_sqlite(&mut connection, enrollments, false)?;
    connection.execute_batch("DELETE FROM raw_sends")?;
    Ok(Limits { inserted, written: write_sqlite(&mut connection, enrollments, true)? })
}

fn write_sqlite(connection: &mut Connection, leads: &[([u8; 16], [u8; 16])], all: bool) -> anyhow::Result<f64> {
    let send = format!(
        "INSERT INTO raw_sends ({COLUMNS}) VALUES (?1, ?2, ?2, ?3, ?2, ?4, ?2, 1, 'planned', 1, 100, ?5, ?5, 0, ?6, ?6, ?5, ?5)"
    );
    let job = format!(
        "INSERT INTO raw_queue_jobs ({JOB_COLUMNS}) VALUES (?1, 'queue:email-sending', 1, ?2, 100, ?3, ?3, ?3)"
    );
    let (one, payload) = (id(0).into_bytes(), "x".repeat(PAYLOAD_LENGTH));
    let began = Instant::now();
    for (batch, part) in leads.chunks(BATCH).enumerate() {
        let transaction = connection.transaction()?;
        let mut sends = transaction.prepare_cached(&send)?;
        let mut places =
            transaction.prepare_cached("UPDATE raw_campaign_leads SET due_at = NULL, updated_at = ?2 WHERE id = ?1")?;
        let mut jobs = transaction.prepare_cached(&job)?;
        for (n, (enrollment, lead)) in part.iter().enumerate() {
            let send = id(batch * BATCH + n).into_bytes();
            sends.execute((send, one, lead, enrollment, MOMENT, DAY))?;
            if all {
                places.execute((enrollment, MOMENT))?;
                jobs.execute((send, &payload, MOMENT))?;
            }
        }
        drop((sends, places, jobs));
        transaction.commit()?;
    }
    Ok(per_second(leads.len(), began))
}

/// An empty table like this one, with all its indexes.
fn copy_sqlite_table(connection: &Connection, table: &str) -> anyhow::Result<()> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL")?;
    let texts = statement.query_map([table], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for text in texts {
        let named =
            |before: &str, after: &str| (format!("{before} {table}{after}"), format!("{before} raw_{table}{after}"));
        let words = [named("TABLE", ""), named("INDEX", "_"), named("ON", "")];
        let text = words.iter().fold(text, |text, (from, to)| text.replace(from, to));
        connection.execute_batch(&text).with_context(|| text.clone())?;
    }
    Ok(())
}

/// Writes so many leads into a PostgreSQL database.
pub(crate) fn postgres(url: &str, leads: usize) -> anyhow::Result<Limits> {
    with_postgres(url, async |client| {
        for table in TABLES {
            client.batch_execute(&format!("CREATE TABLE raw_{table} (LIKE {table} INCLUDING ALL)")).await?;
        }
        client.batch_execute(&format!("INSERT INTO raw_campaign_leads SELECT * {ENROLLMENTS}")).await?;
        let rows = client.query("SELECT id, lead_id FROM raw_campaign_leads ORDER BY due_at, id", &[]).await?;
        ensure!(rows.len() >= leads, "the campaign `Later` has too few leads");
        let enrollments: Vec<(Uuid, Uuid)> = rows[..leads].iter().map(|row| (row.get(0), row.get(1))).collect();
        let inserted = write_postgres(client, &enrollments, false).await?;
        client.batch_execute("TRUNCATE raw_sends").await?;
        Ok(Limits { inserted, written: write_postgres(client, &enrollments, true).await? })
    })
}

async fn write_postgres(client: &Client, leads: &[(Uuid, Uuid)], all: bool) -> anyhow::Result<f64> {
    let at = MOMENT as f64 / 1e6;
    // Look-ups at any size, as in planning (`Tx::plan_once`).
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await?;
    let sends = client
        .prepare(&format!(
            "INSERT INTO raw_sends ({COLUMNS})
             SELECT r.id, $1, $1, r.lead, $1, r.enrollment, $1, 1, 'planned', true, 100, r.at, r.at, 0, r.day, r.day, r.at, r.at
             FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[]) u(id, lead, enrollment, day),
                LATERAL (SELECT u.id, u.lead, u.enrollment, u.day, to_timestamp($6::float8) AS at) r"
        ))
        .await?;
    let places = client
        .prepare(
            "UPDATE raw_campaign_leads SET due_at = NULL, updated_at = to_timestamp($2::float8)
             FROM unnest($1::uuid[]) u(id) WHERE raw_campaign_leads.id = u.id",
        )
        .await?;
    let jobs = client
        .prepare(&format!(
            "INSERT INTO raw_queue_jobs ({JOB_COLUMNS})
             SELECT u.id, 'queue:email-sending', 1, u.payload, 100, to_timestamp($3::float8), to_timestamp($3::float8), to_timestamp($3::float8)
             FROM unnest($1::uuid[], $2::text[]) u(id, payload)"
        ))
        .await?;
    let payload = "x".repeat(PAYLOAD_LENGTH);
    let began = Instant::now();
    for (batch, part) in leads.chunks(BATCH).enumerate() {
        let ids: Vec<Uuid> = (0..part.len()).map(|n| id(batch * BATCH + n)).collect();
        let (enrollments, of_leads): (Vec<Uuid>, Vec<Uuid>) = part.iter().copied().unzip();
        let days = vec![DAY; part.len()];
        client.batch_execute("BEGIN").await?;
        client.execute(&sends, &[&id(0), &ids, &of_leads, &enrollments, &days, &at]).await?;
        if all {
            client.execute(&places, &[&enrollments, &at]).await?;
            client.execute(&jobs, &[&ids, &vec![payload.as_str(); part.len()], &at]).await?;
        }
        client.batch_execute("COMMIT").await?;
    }
    Ok(per_second(leads.len(), began))
}

/// Does at once what autovacuum does within minutes.
pub(crate) fn vacuum(url: &str) -> anyhow::Result<()> {
    statement(url, "VACUUM (ANALYZE)")
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
