//! The configuration file: how to behave. Every key has a default; an unknown key is a problem.
//!
//! `example.toml` beside this file documents all of it and is what `config example` prints; a test holds it in step.
//! To add a setting: a field with its default here, its check in `check`, its paragraph in `example.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use domain::schedule::WarmupTable;
use domain::settle::RetryPolicy;
use serde::{Deserialize, Serialize};

use crate::duration::Period;
use crate::problem::Problems;
use crate::toml_input::{Document, Spot};

/// The documented example: every key at its default.
pub(crate) const EXAMPLE: &str = include_str!("example.toml");

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// Keys outside of any section.
    pub(crate) process: ProcessSettings,
    /// `[log]`.
    pub(crate) log: LogSettings,
    /// `[retry]`.
    pub(crate) retry: RetrySettings,
    /// `[email_account]`.
    pub(crate) email_account: EmailAccountSettings,
    /// `[scheduler]`.
    pub(crate) scheduler: SchedulerSettings,
    /// `[worker]`.
    pub(crate) worker: WorkerSettings,
    /// `[redis]`.
    pub(crate) redis: RedisSettings,
    /// `[smtp]`.
    pub(crate) smtp: SmtpClientSettings,
    /// `[recipients]`.
    pub(crate) recipients: RecipientSettings,
    /// `[track]`.
    pub(crate) track: TrackSettings,
    /// `[health]`.
    pub(crate) health: HealthSettings,
}

/// Keys outside of any section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessSettings {
    /// How long a token in a link is counted; unsubscribe links never expire.
    pub(crate) token_ttl_days: u32,
    /// How long a stop waits for open dialogues; at most ten minutes.
    pub(crate) shutdown_grace: Period,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogSettings {
    /// Whether there is a line for every job and event.
    pub(crate) jobs: bool,
    /// How lines look.
    pub(crate) format: LogFormat,
}

/// When a temporary refusal, and an account whose server cannot be reached, are tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RetrySettings {
    /// The wait after each counted attempt; the last one repeats.
    pub(crate) delays: Vec<Period>,
    /// How long after the first attempt a message is given up.
    pub(crate) expire: Period,
    /// How long an account waits by failed connections in a row; the last one repeats.
    pub(crate) account_delays: Vec<Period>,
}

/// Limits of new accounts for which a campaign file gives none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EmailAccountSettings {
    /// Most messages a day; none = no limit.
    pub(crate) daily_limit: Option<u32>,
    /// Least seconds between two messages.
    pub(crate) min_gap_seconds: u32,
    /// Stages of a young account.
    pub(crate) warmup: WarmupTable,
}

/// How far the scheduler looks ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SchedulerSettings {
    /// What is due within this time goes to the queue; the rest waits in the ledger.
    pub(crate) horizon: Period,
}

/// How much a worker does at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WorkerSettings {
    /// Most SMTP connections of one worker.
    pub(crate) connections: u32,
    /// Most SMTP connections to one account's server.
    pub(crate) connections_per_account: u32,
    /// Messages over one connection before it is closed.
    pub(crate) messages_per_connection: u32,
    /// How long a connection is used before it is closed.
    pub(crate) connection_age: Period,
    /// How long a job that is leased is nobody else's; it is extended while its job is in work.
    pub(crate) lease: Period,
    /// How long an unused connection is kept.
    pub(crate) idle: Period,
}

/// What is demanded of Redis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RedisSettings {
    /// Whether a Redis that may drop keys when memory runs short is refused; else it is warned of.
    pub(crate) strict: bool,
}

/// How the SMTP client treats servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SmtpClientSettings {
    /// Whether a password may go over a connection without TLS.
    pub(crate) allow_plain_auth: bool,
    /// Certificates (PEM) that are trusted besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

/// How recipients' providers are found, for tenants that limit them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RecipientSettings {
    /// Whom to ask for MX records; none = the host's own name servers.
    pub(crate) name_server: Option<SocketAddr>,
}

/// How the tracker sees its clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TrackSettings {
    /// Whether the client's address is taken from `X-Forwarded-For`.
    pub(crate) trust_forwarded_for: bool,
}

/// When a process calls itself ill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HealthSettings {
    /// How long a loop may be at one thing before it hangs.
    pub(crate) stall: Period,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { stall: Period::seconds(120) }
    }
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self { token_ttl_days: 90, shutdown_grace: Period::seconds(30) }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { jobs: true, format: LogFormat::Text }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        let policy = RetryPolicy::default();
        let periods = |waits: Vec<Duration>| waits.into_iter().map(Period).collect();
        Self {
            delays: periods(policy.delays),
            expire: Period(policy.expire),
            account_delays: periods(policy.account_delays),
        }
    }
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self { horizon: Period::seconds(60) }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            connections: 200,
            connections_per_account: 10,
            messages_per_connection: 100,
            connection_age: Period::seconds(600),
            lease: Period::seconds(60),
            idle: Period::seconds(30),
        }
    }
}

impl RetrySettings {
    /// As `domain::settle` wants it.
    pub(crate) fn policy(&self) -> RetryPolicy {
        let durations = |waits: &[Period]| waits.iter().map(|wait| wait.0).collect();
        RetryPolicy {
            delays: durations(&self.delays),
            expire: self.expire.0,
            account_delays: durations(&self.account_delays),
        }
    }
}

type Places = BTreeMap<String, Spot<()>>;

impl Settings {
    /// Reads and checks a file; what is bad is noted and stands at its default.
    pub(super) fn read(document: &Document<'_>, problems: &Problems) -> Self {
        let mut root = document.root(problems);
        let mut settings = Self::default();
        let (process, mut places) = root.fields();
        settings.process = process;
        macro_rules! sections {
            ($($name:ident)*) => {$(
                if let Some(mut section) = root.section(stringify!($name)) {
                    let (values, found) = section.fields();
                    settings.$name = values;
                    places.extend(found.into_iter().map(|(key, spot)| (format!("{}.{key}", stringify!($name)), spot)));
                    section.finish();
                }
            )*};
        }
        sections! { log retry email_account scheduler worker redis smtp recipients track health }
        root.finish();
        settings.check(&places, problems);
        settings
    }

    /// Notes values that are of the right type and still make no sense.
    fn check(&self, places: &Places, problems: &Problems) {
        const DAY: u64 = 86_400;
        let is_within = |period: Period, least: u64, most: u64| {
            (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&period.0)
        };
        let are_waits = |waits: &[Period]| {
            (1..=100).contains(&waits.len()) && waits.iter().all(|wait| is_within(*wait, 1, 30 * DAY))
        };
        let worker = &self.worker;
        let ca_file = self.smtp.ca_file.as_ref();
        for (key, is_good, rule) in [
            ("token_ttl_days", (1..=3650).contains(&self.process.token_ttl_days), "must be 1 to 3650 days"),
            ("shutdown_grace", is_within(self.process.shutdown_grace, 0, 600), "must be at most 10m"),
            ("retry.delays", are_waits(&self.retry.delays), "must hold 1 to 100 waits of 1s to 30d each"),
            (
                "retry.account_delays",
                are_waits(&self.retry.account_delays),
                "must hold 1 to 100 waits of 1s to 30d each",
            ),
            ("retry.expire", is_within(self.retry.expire, 1, 365 * DAY), "must be 1s to 365d"),
            (
                "email_account.daily_limit",
                self.email_account.daily_limit != Some(0),
                "must not be 0, or nothing would ever be sent (hint: leave it out for no limit)",
            ),
            ("email_account.min_gap_seconds", self.email_account.min_gap_seconds <= 86_400, "must be at most 86400"),
            ("scheduler.horizon", is_within(self.scheduler.horizon, 1, DAY), "must be 1s to 1d"),
            ("worker.connections", (1..=10_000).contains(&worker.connections), "must be 1 to 10000"),
            (
                "worker.connections_per_account",
                (1..=1000).contains(&worker.connections_per_account),
                "must be 1 to 1000",
            ),
            ("worker.messages_per_connection", worker.messages_per_connection >= 1, "must be at least 1"),
            ("worker.connection_age", is_within(worker.connection_age, 1, DAY), "must be 1s to 1d"),
            ("worker.lease", is_within(worker.lease, 1, 3600), "must be 1s to 1h"),
            ("worker.idle", is_within(worker.idle, 1, 600), "must be 1s to 10m"),
            ("health.stall", is_within(self.health.stall, 1, 3600), "must be 1s to 1h"),
            ("smtp.ca_file", ca_file.is_none_or(|path| path.is_file()), "is not a file that is there"),
        ] {
            if let (false, Some(spot)) = (is_good, places.get(key)) {
                problems.add(spot.problem(rule));
            }
        }
    }
}

/// Every key of the file, with its section: for the test that each is documented.
#[cfg(test)]
pub(super) fn keys() -> Vec<String> {
    fn of<T: Serialize>(section: &str, values: &T) -> Vec<String> {
        let value = serde_json::to_value(values).unwrap();
        value.as_object().unwrap().keys().map(|key| format!("{section}{key}")).collect()
    }
    let all = Settings::default();
    [
        of("", &all.process),
        of("log.", &all.log),
        of("retry.", &all.retry),
        of("email_account.", &all.email_account),
        of("scheduler.", &all.scheduler),
        of("worker.", &all.worker),
        of("redis.", &all.redis),
        of("smtp.", &all.smtp),
        of("recipients.", &all.recipients),
        of("track.", &all.track),
        of("health.", &all.health),
    ]
    .concat()
}
