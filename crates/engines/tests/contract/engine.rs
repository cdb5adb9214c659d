//! Engines under test: a fresh, migrated database for each case, on every engine that is there.
//!
//! PostgreSQL is found by `TEST_POSTGRES_URL` (a superuser's; each case has a database of its own, see `template`). Without it the
//! cases are skipped and say so in the file named by `TEST_SKIP_LOG`, unless `REQUIRE_ENGINES` names the engine:
//! then its absence is a failure. Nothing stays on the server but the product's two roles. To add an engine: a variant, an arm in `open`, a module in `on_every_engine!`.

pub mod template;

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
    match engine {
        Engine::Sqlite => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("test.db");
            template::copy_sqlite(&path);
            block_on(async { case(Db::open_sqlite(&path, 2).unwrap()).await });
        }
        Engine::Postgres => on_postgres(|url| async move { case(Db::open_postgres(&url, 8).unwrap()).await }),
    }
}

/// Runs a case of PostgreSQL alone on a fresh database, with its URL (a superuser's).
pub fn on_postgres<F: Future<Output = ()>>(case: impl FnOnce(String) -> F) {
    let Some(server) = service("postgres", "TEST_POSTGRES_URL") else { return };
    block_on(case(template::copy_postgres(&server)));
}

/// Runs to the end on a runtime of its own; what is connected ends with it.
fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
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

/// What a case has counted: printed, and kept for the report that closes the run.
pub fn figure(line: &str) {
    println!("figure: {line}");
    if let Ok(path) = std::env::var("TEST_FIGURES") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// The URL of another database of the same server.
pub fn with_database(server: &str, database: &str) -> String {
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{database}")
}

/// A plain connection; it ends with the client or the runtime.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A store on a fresh database.
pub fn with_store<F: Future<Output = ()>>(engine: Engine, case: impl FnOnce(Store) -> F) {
    run(engine, |db| case(Store::new(db)));
}

/// The stores of two processes on one fresh database.
pub fn with_two_stores<F: Future<Output = ()>>(engine: Engine, case: impl FnOnce(Store, Store) -> F) {
    with_stores(engine, 2, |mut stores| {
        let (other, one) = (stores.remove(1), stores.remove(0));
        case(one, other)
    });
}

/// The stores of so many processes on one fresh database.
pub fn with_stores<F: Future<Output = ()>>(engine: Engine, many: usize, case: impl FnOnce(Vec<Store>) -> F) {
    match engine {
        Engine::Sqlite => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("test.db");
            template::copy_sqlite(&path);
            let open = |_| Store::new(Db::open_sqlite(&path, 2).unwrap());
            block_on(async { case((0..many).map(open).collect()).await });
        }
        Engine::Postgres => on_postgres(|url| async move {
            let open = |_| Store::new(Db::open_postgres(&url, 8).unwrap());
            case((0..many).map(open).collect()).await;
        }),
    }
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

/// The same for cases of PostgreSQL alone, which take the URL of their database.
#[macro_export]
macro_rules! on_postgres_alone {
    ($($case:ident)*) => {
        mod postgres {
            $(#[test] fn $case() { $crate::engine::on_postgres(super::$case); })*
        }
    };
}
