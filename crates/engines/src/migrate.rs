//! Migrations: one ordered list of files, applied once each, safe when several processes start together.
//!
//! Each migration and its row in `schema_migrations` are one transaction, so a kill leaves it applied or not.
//! To add one: the file in `migrations/` and a line in `MIGRATIONS`. On PostgreSQL its tables come under row-level
//! security by themselves (`row_security`); one that reads or changes rows begins with `SET LOCAL ROLE
//! penguinmails_system`, since the owner of the tables sees none.

mod row_security;

use domain::time::Timestamp;
use uuid::Uuid;

use crate::db::{Access, Db, LockKind};
use crate::dialect::{Dialect, Statement, translate};
use crate::error::{Error, Result};
use crate::{statements, values};

struct Migration {
    version: i64,
    name: &'static str,
    text: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            text: include_str!(concat!("../../../migrations/", $name, ".sql")),
        }),*]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    1 "0001_tenants_accounts_leads",
    2 "0002_campaigns",
    3 "0003_ledger",
    4 "0004_events",
    5 "0005_queue",
    6 "0006_deployment",
    7 "0007_lookups",
    8 "0008_failures",
    9 "0009_lanes",
    10 "0010_restored",
];

/// Made outside the list: it is what the list is recorded in.
const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version {bigint} PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL) {strict}";

statements! {
    APPLIED = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
    RECORD = "INSERT INTO schema_migrations (version, name, checksum, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)";
}

/// What a run of `migrate` did.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Names of the migrations that were applied now.
    pub applied: Vec<&'static str>,
    /// The schema's version afterwards.
    pub version: i64,
}

/// Applies what is missing.
///
/// # Errors
/// `Schema` where an applied migration has another checksum, a newer program has migrated further, or the login may
/// not do what is missing; the text says what an administrator does then.
pub async fn migrate(db: &Db, now: Timestamp) -> Result<Report> {
    let mut applied = Vec::new();
    let mut version = 0;
    for migration in MIGRATIONS {
        if apply(db, migration, now).await? {
            applied.push(migration.name);
        }
        version = migration.version;
    }
    row_security::secure(db, &tables()).await?;
    Ok(Report { applied, version })
}

/// The version of the database's schema (0 where there is none), and that of this program.
///
/// # Errors
/// The database.
pub async fn versions(db: &Db) -> Result<(i64, i64)> {
    let known = MIGRATIONS.last().map_or(0, |m| m.version);
    match db.read(&APPLIED, vec![]).await {
        Ok(rows) => Ok((rows.last().map_or(Ok(0), |row| row.get("version"))?, known)),
        // Refused only where its table is not there.
        Err(Error::Statement { .. }) => Ok((0, known)),
        Err(e) => Err(e),
    }
}

async fn apply(db: &Db, migration: &Migration, now: Timestamp) -> Result<bool> {
    let mut tx = db.begin(Access::Write).await?;
    tx.lock(LockKind::Schema, true, [Uuid::nil()]).await?;
    if !row_security::is_readable(&mut tx, db.dialect()).await? {
        tx.script(&translate(CREATE_TABLE, db.dialect())).await?;
    }
    let checksum = checksum(migration.text);
    for row in tx.query(&APPLIED, vec![]).await? {
        let version: i64 = row.get("version")?;
        let last = MIGRATIONS.last().map_or(0, |m| m.version);
        if version > last {
            return Err(Error::Schema(format!(
                "the database has migration `{version}`, this program knows up to `{last}` (hint: a newer version of penguinmails ran here; use that one)"
            )));
        }
        if version == migration.version {
            let stored: String = row.get("checksum")?;
            if stored != checksum {
                return Err(Error::Schema(format!(
                    "migration `{}` was changed after it was applied (hint: restore the file; a released migration is never edited)",
                    migration.name
                )));
            }
            tx.commit().await?;
            return Ok(false);
        }
    }
    tx.script(&translate(migration.text, db.dialect())).await?;
    tx.execute(&RECORD, values![migration.version, migration.name, checksum, now]).await?;
    tx.commit().await?;
    Ok(true)
}

/// Every table that the list makes.
fn tables() -> Vec<&'static str> {
    let texts = MIGRATIONS.iter().flat_map(|migration| migration.text.split("CREATE TABLE ").skip(1));
    texts.filter_map(|text| text.split_whitespace().next()).collect()
}

/// FNV-1a over the text: it guards against edits by mistake, not against attackers.
fn checksum(text: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// Every statement of the crate that a database of this kind knows, for the test that prepares them all.
pub fn all_statements(dialect: Dialect) -> Vec<&'static Statement> {
    let (security, identity) = match dialect {
        Dialect::Postgres => (row_security::STATEMENTS, crate::db::POSTGRES_STATEMENTS),
        Dialect::Sqlite => (&[][..], &[][..]),
    };
    [STATEMENTS, security, identity, crate::queue::table::STATEMENTS]
        .into_iter()
        .chain(crate::store::statements())
        .flatten()
        .copied()
        .collect()
}
