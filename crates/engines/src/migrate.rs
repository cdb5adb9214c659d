//! Migrations: one ordered list of files, applied once each, safe when several processes start together.
//!
//! Each migration and its row in `schema_migrations` are one transaction, so a kill leaves it applied or not.
//! To add one: the file (or one for each database) in `migrations/` and a line in `MIGRATIONS`. On PostgreSQL its tables come under row-level
//! security by themselves (`row_security`); one that reads or changes rows begins with `SET LOCAL ROLE
//! penguinmails_system`, since the owner of the tables sees none. One that takes away what older programs use is named
//! `…_needs_N`: programs that know migration N have lived without it, and all before are refused.

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
    sqlite: &'static str,
    postgres: &'static str,
}

impl Migration {
    fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}

/// `in_two` behind the name: the databases have a file each.
macro_rules! migrations {
    (@of $version:literal $name:literal) => { migrations!(@from $version $name ".sql" ".sql") };
    (@of $version:literal $name:literal in_two) => { migrations!(@from $version $name ".sqlite.sql" ".postgres.sql") };
    (@from $version:literal $name:literal $sqlite:literal $postgres:literal) => {
        Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/", $name, $sqlite)),
            postgres: include_str!(concat!("../../../migrations/", $name, $postgres)),
        }
    };
    ($($version:literal $name:literal $($in_two:ident)?),* $(,)?) => {
        &[$(migrations!(@of $version $name $($in_two)?)),*]
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
    10 "0010_unknown",
    11 "0011_refusals",
    12 "0012_restored",
    13 "0013_tenant_rate",
    14 "0014_sequences",
    15 "0015_arrived",
    16 "0016_retry_since",
    17 "0017_kept_accounts",
    18 "0018_edits",
    19 "0019_rounds_needs_19" in_two,
    20 "0020_trials",
    21 "0021_api_keys",
    22 "0022_provider_limits",
    23 "0023_sweep_progress",
    24 "0024_lines",
    25 "0025_lines_of_all",
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
    /// Whether a newer program has migrated further: the schema has what this one does not know.
    pub is_newer: bool,
}

/// How the schema of a database and this program stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The schema's; 0 where there is none.
    pub found: i64,
    /// This program's.
    pub known: i64,
    /// What a program must know to run on this schema.
    pub needed: i64,
}

impl Versions {
    /// Whether this program may run here: nothing is missing, and what it does not know takes nothing away.
    pub fn fits(self) -> bool {
        self.found >= self.known && self.known >= self.needed
    }
}

/// Applies what is missing. What a newer program has applied besides is left alone, so that old and new may run beside
/// each other while one replaces the other.
///
/// # Errors
/// `Schema` where an applied migration has another checksum, a newer program has taken away what this one needs, or the
/// login may not do what is missing; the text says what an administrator does then.
pub async fn migrate(db: &Db, now: Timestamp) -> Result<Report> {
    let mut applied = Vec::new();
    for migration in MIGRATIONS {
        if apply(db, migration, now).await? {
            applied.push(migration.name);
        }
    }
    let versions = versions(db).await?;
    if !versions.fits() {
        return Err(Error::Schema(format!(
            "the database has migration `{}`, this program knows up to `{}` (hint: a newer version of penguinmails ran here; use that one)",
            versions.found, versions.known
        )));
    }
    row_security::secure(db, &tables()).await?;
    Ok(Report { applied, version: versions.found, is_newer: versions.found > versions.known })
}

/// How the database's schema and this program stand to each other.
///
/// # Errors
/// The database.
pub async fn versions(db: &Db) -> Result<Versions> {
    let mut versions = Versions { found: 0, known: known(), needed: 0 };
    match db.read(&APPLIED, vec![]).await {
        Ok(rows) => {
            for row in rows {
                versions.found = row.get("version")?;
                versions.needed = versions.needed.max(needed(&row.get::<String>("name")?));
            }
            Ok(versions)
        }
        // Refused only where its table is not there.
        Err(Error::Statement { .. }) => Ok(versions),
        Err(e) => Err(e),
    }
}

/// The last migration of this program.
fn known() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

/// What a program must know where this migration is applied.
fn needed(name: &str) -> i64 {
    name.rsplit_once("_needs_").map_or(0, |(_, version)| version.parse().unwrap_or(i64::MAX))
}

async fn apply(db: &Db, migration: &Migration, now: Timestamp) -> Result<bool> {
    let mut tx = db.begin(Access::Write).await?;
    tx.lock(LockKind::Schema, true, [Uuid::nil()]).await?;
    if !row_security::is_readable(&mut tx, db.dialect()).await? {
        tx.script(&translate(CREATE_TABLE, db.dialect())).await?;
    }
    let text = migration.text(db.dialect());
    let checksum = checksum(text);
    for row in tx.query(&APPLIED, vec![]).await? {
        let version: i64 = row.get("version")?;
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
    tx.script(&translate(text, db.dialect())).await?;
    tx.execute(&RECORD, values![migration.version, migration.name, checksum, now]).await?;
    tx.commit().await?;
    Ok(true)
}

/// Every table that the list makes, as PostgreSQL has it.
fn tables() -> Vec<&'static str> {
    let texts = MIGRATIONS.iter().flat_map(|migration| migration.postgres.split("CREATE TABLE ").skip(1));
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

#[cfg(test)]
mod tests;
