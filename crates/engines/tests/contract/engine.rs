//! Engines under test: a fresh, migrated database for each case, on every engine that is there.
//!
//! PostgreSQL is found by `TEST_POSTGRES_URL` (a superuser's; each case makes a database of its own). Without it the
//! cases are skipped and say so in the file named by `TEST_SKIP_LOG`, unless `REQUIRE_ENGINES` names the engine:
//! then its absence is a failure. To add an engine: a variant, an arm in `open`, a module in `on_every_engine!`.

use std::future::Future;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::time::Timestamp;
use engines::{Db, Store};
use uuid::Uuid;

/// 2026-03-02T12:00:00Z, a Monday: the present of every case unless it says otherwise.
pub const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_452_800);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Ids that grow, different in every case and process.
pub fn new_id() -> Uuid {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u64_pair(u64::from(std::process::id()) << 32 | 0x0000_7000, 0x8000_0000_0000_0000 | n)
}

/// A runtime for one case.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs a case on a fresh database and removes it.
pub fn run<F: Future<Output = ()>>(engine: Engine, case: impl FnOnce(Db) -> F) {
    let runtime = runtime();
    match engine {
        Engine::Sqlite => {
            let dir = tempfile::tempdir().unwrap();
            let db = Db::open_sqlite(&dir.path().join("test.db"), 2).unwrap();
            runtime.block_on(async {
                engines::migrate::migrate(&db, NOW).await.unwrap();
                case(db).await;
            });
        }
        Engine::Postgres => {
            let Some(server) = service("postgres", "TEST_POSTGRES_URL") else { return };
            runtime.block_on(async {
                let database = format!("pm_test_{}", new_id().simple());
                admin(&server, &format!("CREATE DATABASE {database}")).await;
                let db = Db::open_postgres(&with_database(&server, &database), 8).unwrap();
                engines::migrate::migrate(&db, NOW).await.unwrap();
                let guard = DropDatabase { server: server.clone(), database };
                case(db).await;
                drop(guard);
            });
        }
    }
}

/// Drops the database even when the case panics; on a thread of its own, since a panic leaves the runtime.
struct DropDatabase {
    server: String,
    database: String,
}

impl Drop for DropDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        let server = self.server.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(admin(&server, &statement));
        });
        dropped.join().unwrap();
    }
}

/// The address of a service that only some machines have.
///
/// Without it the case is skipped and says so, unless `REQUIRE_ENGINES` names the engine.
pub fn service(engine: &str, variable: &str) -> Option<String> {
    if let Ok(url) = std::env::var(variable) {
        return Some(url);
    }
    let required = std::env::var("REQUIRE_ENGINES").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == engine),
        "REQUIRE_ENGINES names {engine}, but {variable} is not set (hint: run `cargo xtask test`)"
    );
    if let Ok(path) = std::env::var("TEST_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(log, "{engine}: {variable} is not set").unwrap();
    }
    eprintln!("SKIPPED: {variable} is not set");
    None
}

fn with_database(server: &str, database: &str) -> String {
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{database}")
}

async fn admin(server: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
}

/// A store on a fresh database.
pub fn with_store<F: Future<Output = ()>>(engine: Engine, case: impl FnOnce(Store) -> F) {
    run(engine, |db| case(Store::new(db)));
}

/// Makes a module per engine with one test per case, so that test paths name the engine.
#[macro_export]
macro_rules! on_every_engine {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case($crate::engine::Engine::Sqlite); })*
        }
        mod postgres {
            $(#[test] fn $case() { super::$case($crate::engine::Engine::Postgres); })*
        }
    };
}
