//! `penguinmails migrate`: brings the schema up to date, as every other command does when it starts.

use super::{Global, Outcome, block_on, output};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::exit::Exit;
use crate::{database, telemetry};

/// Bring the database's schema up to date
///
/// Safe to run twice, and by two processes at once. Every other command does the same when it opens the database; this
/// one is for deployments that want it done, and seen, beforehand.
///
/// On PostgreSQL it also makes the roles `penguinmails_app` (one tenant's rows) and `penguinmails_system` (all rows),
/// neither of which can log in, and keeps every table of tenants closed by row-level security. The login of
/// `DATABASE_URL` owns the tables and may create roles, or is granted both by an administrator; logins of the other
/// commands need membership in both roles alone (and USAGE on a schema other than `public`).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penguinmails migrate
  DATABASE_URL=postgres://penguinmails@db/penguinmails penguinmails migrate --json")]
pub(crate) struct Migrate {}

impl Migrate {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let config = config::load(&global.options(), &Environment::of_process())?;
        let clock = Clock::system();
        telemetry::init(&config, &clock);
        let (_, report) = block_on(database::open(&config, &clock))??;
        if global.json {
            output::print_json(&serde_json::json!({ "applied": report.applied, "version": report.version }));
        } else if report.applied.is_empty() {
            output::print(format_args!("Schema is up to date at version {}.", report.version));
        } else {
            output::print(format_args!(
                "Schema is at version {}; applied: {}.",
                report.version,
                report.applied.join(", ")
            ));
        }
        Ok(Exit::Done)
    }
}
