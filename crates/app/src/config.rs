//! The configuration of a process: environment and file, wholly checked before anything starts.
//!
//! The environment says where to run and holds the secrets (`environment`); the file says how to behave (`settings`).
//! No setting has two names. Not responsible for generating secrets (`secrets`).
//! To add a setting: see the file it belongs to; `.env.example` and `config example` are held in step by tests.

pub(crate) mod environment;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail::smtp::target::HostPolicy;
use secrecy::SecretString;

use crate::campaign_file::smtp_url::SmtpUrl;
use crate::problem::{InputErrors, Place, Problem, Problems};
use crate::toml_input::Document;
pub(crate) use environment::{Environment, GivenSecrets};
pub(crate) use settings::{EXAMPLE, LogFormat, Settings, WorkerSettings};

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// Whether logs may hold addresses.
    pub(crate) log_addresses: bool,
    /// How log lines look, whatever the file says.
    pub(crate) log_format: Option<LogFormat>,
}

/// Where the ledger lies.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// A SQLite file in the data directory.
    Embedded(PathBuf),
    /// `DATABASE_URL`.
    Postgres(SecretString),
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The data directory; it need not be there yet.
    pub(crate) data: PathBuf,
    /// Where the ledger lies.
    pub(crate) database: Database,
    /// Base of links in mails, without a slash at its end.
    pub(crate) public_url: String,
    /// Cron route, health, metrics.
    pub(crate) api_listen: SocketAddr,
    /// `/api/track` and `/unsubscribe`.
    pub(crate) track_listen: SocketAddr,
    /// Health and metrics of any process; none = off.
    pub(crate) health_listen: Option<SocketAddr>,
    /// What is logged: a level, or `target=level` pairs.
    pub(crate) log_level: String,
    /// Whether logs may hold addresses.
    pub(crate) log_addresses: bool,
    /// The first part of the worker's id.
    pub(crate) worker_id: Option<String>,
    /// Bound on connecting to an SMTP server.
    pub(crate) email_timeout: Duration,
    /// Which hosts that a tenant named may be connected to (SPEC 6). What the operator names is exempt.
    pub(crate) host_policy: HostPolicy,
    /// The address of Redis, where the queue lies there.
    pub(crate) redis: Option<SecretString>,
    /// A server that takes all mail of this process instead of the accounts' own: `run --smtp`.
    pub(crate) smtp: Option<SmtpUrl>,
    /// The secrets that were given; `secrets::complete` adds the others.
    pub(crate) secrets: GivenSecrets,
    /// The configuration file.
    pub(crate) settings: Settings,
}

impl Config {
    /// Whether everything lies in the data directory.
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.database, Database::Embedded(_))
    }
}

/// Reads and checks environment, configuration file and the secrets that lie in the data directory. Writes nothing.
///
/// # Errors
/// Everything that has to be mended, at once.
pub(crate) fn load(options: &Options, env: &Environment) -> Result<Config, InputErrors> {
    let problems = Problems::default();
    let config = survey(options, env, &problems);
    problems.into_result().map(|()| config)
}

/// As `load`, but goes on where something has to be mended: it is noted, and stands at its default.
pub(crate) fn survey(options: &Options, env: &Environment, problems: &Problems) -> Config {
    let mut config = environment::read(options, env, problems);
    read_secrets_file(&mut config, problems);
    if let Some(path) = &options.file {
        config.settings = read_settings(path, problems);
    }
    if let Some(format) = options.log_format {
        config.settings.log.format = format;
    }
    config
}

fn read_secrets_file(config: &mut Config, problems: &Problems) {
    let path = crate::secrets::file(&config.data);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            if let Err(why) = config.secrets.fill_from(&text) {
                problems.add(why.to_problem().at(Place::file(path.display().to_string())));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let problem = Problem::new(format!("failed to read: {error}")).at(Place::file(path.display().to_string()));
            problems.add(problem.hint("let this user read it, or name another directory with --data"));
        }
    }
    if !config.is_embedded() {
        config.secrets.require(problems);
    }
}

fn read_settings(path: &Path, problems: &Problems) -> Settings {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let hint = "`penguinmails config example` prints a file to start from";
            problems.add(
                Problem::new(format!("failed to read the configuration: {error}")).at(Place::file(name)).hint(hint),
            );
            return Settings::default();
        }
    };
    match Document::parse(&name, &text) {
        Ok(document) => Settings::read(&document, problems),
        Err(problem) => {
            problems.add(problem);
            Settings::default()
        }
    }
}

#[cfg(test)]
mod tests;
