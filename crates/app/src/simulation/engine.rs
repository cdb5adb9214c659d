//! Where a simulation's ledger and queue lie: a file, or a fresh database of the PostgreSQL at `TEST_POSTGRES_URL`.
//!
//! Without that server its cases are skipped and say so in the file named by `TEST_SKIP_LOG`, unless `REQUIRE_ENGINES` names
//! it. Not responsible for what is lived on it. To add an engine: a variant, an arm in `Ledger::make` and in `config`.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::{self, Config, Environment, Options};

/// For all that is due at one moment.
pub(super) const WIDE: &str = "connections = 500\nconnections_per_account = 120";
/// For two mails of an account: its worker hands all others back.
pub(super) const NARROW: &str = "connections = 4\nconnections_per_account = 1";
const VARIABLE: &str = "TEST_POSTGRES_URL";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// A ledger of one simulation; nothing of it stays.
pub(super) struct Ledger(Option<Database>);

struct Database {
    server: String,
    name: String,
}

impl Ledger {
    /// A new one; none where the engine is missing.
    pub(super) fn make(engine: Engine) -> Option<Self> {
        if engine == Engine::Sqlite {
            return Some(Self(None));
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = server()?;
        let name = format!("pm_lived_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        psql(&server, &format!("CREATE DATABASE {name}"));
        Some(Self(Some(Database { server, name })))
    }

    /// What a process on it is configured by, its worker with `room`; its files lie in `folder`.
    pub(super) fn config(&self, folder: &Path, room: &str) -> Config {
        let file = folder.join("penguinmails.toml");
        std::fs::write(&file, format!("[worker]\n{room}\n[log]\njobs = false\n")).unwrap();
        let options = Options { data: folder.join("data"), file: Some(file), log_addresses: false, log_format: None };
        let env = match &self.0 {
            None => Environment::default(),
            Some(Database { server, name }) => {
                let (base, _) = server.rsplit_once('/').unwrap();
                Environment::from([
                    ("DATABASE_URL", format!("{base}/{name}").as_str()),
                    ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
                    ("ENCRYPTION_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
                    // The receiver is on this host.
                    ("ALLOW_PRIVATE_HOSTS", "*"),
                ])
            }
        };
        config::load(&options, &env).unwrap()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(Database { server, name }) = &self.0 {
            psql(server, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

fn server() -> Option<String> {
    if let Ok(url) = std::env::var(VARIABLE) {
        return Some(url);
    }
    let required = std::env::var("REQUIRE_ENGINES").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == "postgres"),
        "REQUIRE_ENGINES names postgres, but {VARIABLE} is not set (hint: run `cargo xtask test`)"
    );
    if let Ok(path) = std::env::var("TEST_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(log, "simulation: {VARIABLE} is not set").unwrap();
    }
    None
}

fn psql(url: &str, statement: &str) {
    let output = Command::new("psql").args(["-X", "-q", "-c", statement, url]).output().unwrap();
    assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
}
