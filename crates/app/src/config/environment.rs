//! The environment: where to run, and the secrets.
//!
//! One table says what each variable means; `.env.example` is made from it. Empty counts as not set, so that a
//! compose file may pass a variable on. To add one: a row in `VARIABLES`, its check in `read`, a line in SPEC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use engines::queue::redis::RedisQueue;
use ipnet::IpNet;
use mail::smtp::target::HostPolicy;
use secrecy::SecretString;

use super::{Config, Database, Options, Settings};
use crate::problem::{Problem, Problems};
use crate::secrets::decode_key;

/// A variable that the program reads.
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it stands at when it is not set, or else how a value looks.
    pub(crate) example: &'static str,
    /// What it means.
    pub(crate) doc: &'static str,
}

const fn variable(name: &'static str, example: &'static str, doc: &'static str) -> Variable {
    Variable { name, example, doc }
}

/// Every variable, in the order in which a person meets them.
pub(crate) const VARIABLES: &[Variable] = &[
    variable(
        "DATABASE_URL",
        "postgres://penguinmails@127.0.0.1:5432/penguinmails",
        "PostgreSQL 15 or newer. Not set: everything lies in the data directory (SQLite). Alone, it holds the queue too.",
    ),
    variable(
        "REDIS_URL",
        "redis://127.0.0.1:6379",
        "The queue in Redis 7 or newer, also rediss://, redis+sentinel://a,b/master and redis+cluster://a,b. Not set: a table.",
    ),
    variable(
        "JWT_SECRET",
        "",
        "Signs the tokens in links: at least 32 bytes (openssl rand -base64 32). Without DATABASE_URL it is generated into DIR/secrets.env.",
    ),
    variable("JWT_SECRETS_OLD", "", "Earlier values of JWT_SECRET, comma-separated: their tokens still verify."),
    variable(
        "ENCRYPTION_KEY",
        "",
        "Seals passwords in the database: 32 bytes in base64 (openssl rand -base64 32). Generated like JWT_SECRET.",
    ),
    variable("CRON_SECRET", "", "Bearer token of /api/cron/scheduler. Not set with DATABASE_URL: the route refuses."),
    variable(
        "PUBLIC_URL",
        "http://127.0.0.1:8081",
        "Base of the links in mails: where the tracker is seen from outside.",
    ),
    variable(
        "API_LISTEN",
        "127.0.0.1:8080",
        "Where `serve` answers the cron route, /api/v1, /health, /ready and /metrics.",
    ),
    variable("TRACK_LISTEN", "127.0.0.1:8081", "Where /api/track and /unsubscribe listen."),
    variable(
        "HEALTH_LISTEN",
        "127.0.0.1:8082",
        "Where any process answers /health, /ready and /metrics; each on a host its own. Not set: nowhere.",
    ),
    variable("LOG_LEVEL", "info", "off, error, warn, info, debug or trace; or target=level pairs, comma-separated."),
    variable("WORKER_ID", "", "First part of this worker's id. Not set: worker-{hostname}-{pid}."),
    variable("EMAIL_TIMEOUT", "30", "Seconds to connect to an SMTP server; the stages behind have their own limits."),
    variable(
        "ALLOW_PRIVATE_HOSTS",
        "10.0.0.0/8,192.168.0.0/16",
        "Private networks where tenants' servers may lie: CIDRs, or * for all. Not set: none with DATABASE_URL, else all.",
    ),
];

/// The text of `.env.example`.
pub(crate) fn example() -> String {
    let mut text = String::from(
        "# Environment of PenguinMails: where to run, and the secrets. How to behave stands in a configuration file:\n\
         # see `penguinmails config example`. Every variable may be left out; empty counts as not set.\n",
    );
    for variable in VARIABLES {
        text += &format!("\n# {}\n#{}={}\n", variable.doc, variable.name, variable.example);
    }
    text
}

/// Variables by name. Values that are not UTF-8 count as not set.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// The value, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Secrets as far as environment and `secrets.env` give them, each in its right form.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenSecrets {
    /// `JWT_SECRET`.
    pub(crate) jwt: Option<SecretString>,
    /// `JWT_SECRETS_OLD`.
    pub(crate) jwt_old: Vec<SecretString>,
    /// `ENCRYPTION_KEY`, in base64.
    pub(crate) encryption: Option<SecretString>,
    /// `CRON_SECRET`.
    pub(crate) cron: Option<SecretString>,
}

/// A secret that cannot be used; the value never stands in the text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// `JWT_SECRET`, or an old one.
    #[error("shorter than 32 bytes (hint: openssl rand -base64 32)")]
    Short(&'static str),
    /// `ENCRYPTION_KEY`.
    #[error("not 32 bytes in base64 (hint: openssl rand -base64 32)")]
    NotAKey,
    /// A line of the file.
    #[error("line {0} is not NAME=value with a known name (hint: remove the line)")]
    Line(usize),
}

impl SecretError {
    /// As a problem of the variable that it is about.
    pub(crate) fn to_problem(&self) -> Problem {
        match self {
            Self::Short(name) => Problem::new(self).field(*name),
            Self::NotAKey => Problem::new(self).field("ENCRYPTION_KEY"),
            Self::Line(_) => Problem::new(self),
        }
    }
}

impl GivenSecrets {
    /// Whether nothing is left to generate.
    pub(crate) fn is_complete(&self) -> bool {
        self.jwt.is_some() && self.encryption.is_some() && self.cron.is_some()
    }

    /// Takes from the text of a `secrets.env` what the environment did not give.
    ///
    /// # Errors
    /// A line that is none, or a secret that cannot be used.
    pub(crate) fn fill_from(&mut self, text: &str) -> Result<(), SecretError> {
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or(SecretError::Line(i + 1))?;
            self.fill(name.trim(), value.trim()).ok_or(SecretError::Line(i + 1))??;
        }
        Ok(())
    }

    /// None where the name is not one of ours.
    fn fill(&mut self, name: &str, value: &str) -> Option<Result<(), SecretError>> {
        let (slot, checked) = match name {
            "JWT_SECRET" => (&mut self.jwt, long_enough("JWT_SECRET", value)),
            "ENCRYPTION_KEY" => (&mut self.encryption, decode_key(value).map(|_| ()).ok_or(SecretError::NotAKey)),
            "CRON_SECRET" => (&mut self.cron, Ok(())),
            _ => return None,
        };
        Some(checked.map(|()| {
            slot.get_or_insert_with(|| value.into());
        }))
    }

    fn read(env: &Environment, problems: &Problems) -> Self {
        let mut given = Self::default();
        for name in crate::secrets::NAMES {
            if let Some(Err(error)) = env.get(name).and_then(|value| given.fill(name, value)) {
                problems.add(error.to_problem());
            }
        }
        for old in env.get("JWT_SECRETS_OLD").into_iter().flat_map(|list| list.split(',')).map(str::trim) {
            match long_enough("JWT_SECRETS_OLD", old) {
                Ok(()) => given.jwt_old.push(old.into()),
                Err(error) => problems.add(error.to_problem()),
            }
        }
        given
    }

    /// Notes what processes on several hosts must be given because they must agree on it.
    pub(super) fn require(&self, problems: &Problems) {
        let needed = [("JWT_SECRET", self.jwt.is_none()), ("ENCRYPTION_KEY", self.encryption.is_none())];
        // One that is there and cannot be used was noted before: it is not missing besides.
        for (name, _) in needed.into_iter().filter(|(name, is_missing)| *is_missing && !problems.hold(name)) {
            let problem = Problem::new("not set, and all processes on one DATABASE_URL must share it").field(name);
            problems.add(problem.hint("openssl rand -base64 32, the same value for every process"));
        }
    }
}

fn long_enough(name: &'static str, value: &str) -> Result<(), SecretError> {
    if value.len() >= 32 { Ok(()) } else { Err(SecretError::Short(name)) }
}

/// Reads every variable; a bad one is noted and stands at its default.
pub(super) fn read(options: &Options, env: &Environment, problems: &Problems) -> Config {
    let database = database(options, env, problems);
    let is_embedded = matches!(database, Database::Embedded(_));
    let reader = Reader { env, problems };
    Config {
        data: options.data.clone(),
        database,
        redis: redis(env, problems),
        public_url: reader.read("PUBLIC_URL", public_url).unwrap_or_else(|| "http://127.0.0.1:8081".into()),
        api_listen: reader.read("API_LISTEN", listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
        track_listen: reader.read("TRACK_LISTEN", listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8081))),
        health_listen: reader.read("HEALTH_LISTEN", listen),
        log_level: reader.read("LOG_LEVEL", log_level).unwrap_or_else(|| "info".into()),
        log_addresses: options.log_addresses,
        worker_id: reader.read("WORKER_ID", worker_id),
        email_timeout: reader.read("EMAIL_TIMEOUT", seconds).unwrap_or(Duration::from_secs(30)),
        host_policy: reader.read("ALLOW_PRIVATE_HOSTS", host_policy).unwrap_or(if is_embedded {
            HostPolicy::AllowAll
        } else {
            HostPolicy::Public(Vec::new())
        }),
        smtp: None,
        secrets: GivenSecrets::read(env, problems),
        settings: Settings::default(),
    }
}

struct Reader<'a> {
    env: &'a Environment,
    problems: &'a Problems,
}

impl Reader<'_> {
    /// The value of `name`, unless it is not set or bad. `check` says what is wrong, with a hint.
    fn read<T>(&self, name: &str, check: fn(&str) -> Result<T, String>) -> Option<T> {
        let result = check(self.env.get(name)?).map_err(|text| Problem::new(text).field(name));
        self.problems.ok(result)
    }
}

fn database(options: &Options, env: &Environment, problems: &Problems) -> Database {
    let embedded = Database::Embedded(options.data.join("penguinmails.db"));
    match (env.get("DATABASE_URL"), env.get("REDIS_URL")) {
        (None, None) => embedded,
        (None, Some(_)) => {
            let problem = Problem::new("given without DATABASE_URL: the ledger cannot lie in Redis").field("REDIS_URL");
            problems.add(problem.hint("set DATABASE_URL too, or leave both out to run in the data directory"));
            embedded
        }
        (Some(url), _) => {
            if let Err(text) = database_url(url) {
                problems.add(Problem::new(text).field("DATABASE_URL"));
            }
            Database::Postgres(SecretString::from(url))
        }
    }
}

fn redis(env: &Environment, problems: &Problems) -> Option<SecretString> {
    let url = env.get("REDIS_URL")?;
    if let Err(why) = RedisQueue::check_address(url) {
        problems.add(Problem::new(why).field("REDIS_URL"));
    }
    Some(url.into())
}

/// The form alone; the driver reads the rest.
fn database_url(url: &str) -> Result<(), String> {
    let hint = "(hint: postgres://user@host:5432/database)";
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else {
        let scheme: String = url.split_once("://").map_or("", |(scheme, _)| scheme).chars().take(16).collect();
        return Err(format!("scheme `{scheme}` is not PostgreSQL's {hint}"));
    };
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    // A socket directory may stand in the query instead.
    if host.is_empty() && !rest.contains("host=") {
        return Err(format!("no host {hint}"));
    }
    Ok(())
}

fn public_url(text: &str) -> Result<String, String> {
    let hint = "(hint: an address as it is seen from outside, e.g. https://t.acme.test)";
    if text.contains('@') {
        // Not shown: it may hold a password.
        return Err(format!("has a user or password in it {hint}"));
    }
    let url = text.parse::<hyper::Uri>().ok();
    let what = match url.as_ref().map(|url| (url.scheme_str(), url.authority(), url.query())) {
        _ if text.contains('#') => "has a fragment",
        None => "is not a URL",
        Some((None, ..) | (_, None, _)) => "is not a whole URL",
        Some((Some("http" | "https"), Some(_), None)) => return Ok(text.trim_end_matches('/').to_owned()),
        Some((Some("http" | "https"), Some(_), Some(_))) => "has a query",
        Some((Some(_), ..)) => "is neither http nor https",
    };
    Err(format!("`{text}` {what} {hint}"))
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address to listen on (hint: IP:port, e.g. 127.0.0.1:8080 or [::]:8080)")
    })
}

fn log_level(text: &str) -> Result<String, String> {
    let hint = "(hint: off, error, warn, info, debug, trace, or target=level pairs)";
    if crate::telemetry::is_filter(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a log level {hint}"))
    }
}

fn worker_id(text: &str) -> Result<String, String> {
    let is_plain = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_plain {
        return Ok(text.to_owned());
    }
    Err("not a plain name (hint: at most 64 letters, digits, dots, dashes and underscores)".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match u64::from_str(text) {
        Ok(seconds @ 1..=600) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is not a number of seconds from 1 to 600")),
    }
}

fn host_policy(text: &str) -> Result<HostPolicy, String> {
    if text.trim() == "*" {
        return Ok(HostPolicy::AllowAll);
    }
    let network = |part: &str| {
        let part = part.trim();
        let host = || part.parse::<std::net::IpAddr>().map(IpNet::from);
        part.parse::<IpNet>().or_else(|_| host()).map_err(|_| {
            format!(
                "`{part}` is not a network (hint: a comma-separated list such as 10.0.0.0/8,fd00::/8, or * for all)"
            )
        })
    };
    text.split(',').map(network).collect::<Result<_, _>>().map(HostPolicy::Public)
}
