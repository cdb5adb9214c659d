//! Opens the database that the configuration names, waits for it, and brings its schema up to date.
//!
//! Not responsible for any statement (`engines`). To add an engine: a variant of `config::Database` and an arm in `connect`.

use std::time::Duration;

use engines::Db;
use engines::migrate::{self, Report};
use secrecy::ExposeSecret as _;

use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::data_dir;
use crate::exit::Failure;
use crate::problem::{InputErrors, Problem};

/// How long a service may be away at start (SPEC 2).
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections that read beside SQLite's one writer.
const READERS: usize = 4;
/// Most connections of one process to PostgreSQL.
const CONNECTIONS: usize = 16;

/// An open database with the schema of this program, and what had to be applied.
///
/// # Errors
/// `Unreachable` after two minutes without an answer; `Input` where the address, the data directory or a schema that is
/// too new needs a person.
pub(crate) async fn open(config: &Config, clock: &Clock) -> Result<(Db, Report), Failure> {
    let db = connect(config)?;
    let started = tokio::time::Instant::now();
    let mut wait = Duration::from_millis(250);
    loop {
        match migrate::migrate(&db, clock.now()).await {
            Ok(report) => {
                if report.is_newer {
                    tracing::warn!(
                        version = report.version,
                        "a newer penguinmails has migrated the database: this one goes on until it is replaced"
                    );
                }
                return Ok((db, report));
            }
            Err(error) if error.is_transient() && started.elapsed() + wait < PATIENCE => {
                tracing::warn!(%error, wait_ms = wait.as_millis(), "Database does not answer, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(8));
            }
            Err(error) if error.is_transient() => {
                return Err(Failure::Unreachable(format!("gave up after {} s: {error}", PATIENCE.as_secs())));
            }
            Err(engines::Error::Schema(text)) => return Err(refused(Problem::new(text))),
            Err(error) => return Err(Failure::Internal(error.into())),
        }
    }
}

/// The same without asking it for anything.
///
/// # Errors
/// `Input` where the address or the data directory needs a person.
pub(crate) fn connect(config: &Config) -> Result<Db, Failure> {
    match &config.database {
        Database::Embedded(path) => {
            let wrong = |error: &dyn std::fmt::Display| {
                let problem = Problem::new(format!("failed to open `{}`: {error}", path.display())).field("--data");
                refused(
                    problem.hint("a directory that this user may write to; a damaged file is restored from a backup"),
                )
            };
            data_dir::create(&config.data).map_err(|error| wrong(&error))?;
            Db::open_sqlite(path, READERS).map_err(|error| match error {
                // Nobody tries again: a person has to do something.
                engines::Error::Unavailable(why) => wrong(&why),
                other => wrong(&other),
            })
        }
        Database::Postgres(url) => Db::open_postgres(url.expose_secret(), CONNECTIONS)
            .map_err(|error| refused(Problem::new(error).field("DATABASE_URL"))),
    }
}

fn refused(problem: Problem) -> Failure {
    InputErrors::from(problem).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Options, load};

    fn config<const N: usize>(data: &std::path::Path, env: [(&str, &str); N]) -> Config {
        let options = Options { data: data.to_owned(), file: None, log_addresses: false, log_format: None };
        load(&options, &Environment::from(env)).unwrap()
    }

    #[tokio::test]
    async fn the_second_start_has_nothing_to_apply() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("data"), []);
        let (_, first) = open(&config, &Clock::system()).await.unwrap();
        let (_, second) = open(&config, &Clock::system()).await.unwrap();
        assert!(!first.applied.is_empty() && second.applied.is_empty());
        assert_eq!(first.version, second.version);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_away_is_given_up_after_two_minutes() {
        let dir = tempfile::tempdir().unwrap();
        // Bound and dropped: a port on which nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("postgres://nobody@127.0.0.1:{port}/none");
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let config = config(dir.path(), [("DATABASE_URL", &url), ("JWT_SECRET", key), ("ENCRYPTION_KEY", key)]);
        let started = tokio::time::Instant::now();
        let failure = open(&config, &Clock::system()).await.err().unwrap();
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert!(started.elapsed() > Duration::from_secs(60), "it was tried again for a while");
    }

    #[tokio::test]
    async fn a_database_file_that_cannot_be_opened_is_a_problem_of_the_input() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("penguinmails.db")).unwrap();
        let failure = open(&config(dir.path(), []), &Clock::system()).await.err().unwrap();
        assert!(matches!(failure, Failure::Input(_)), "{failure}");
    }
}
