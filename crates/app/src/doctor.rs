//! Looks an installation over: what is wrong with it, and how to mend each.
//!
//! Looks only: it makes no file, schema or secret and sends no mail. Not responsible for showing (`cli/doctor`).
//! To add a check: a file below with a function that gives its findings, and a line in `examine`.

mod accounts;
mod campaigns;
mod configuration;
mod data_dir;
mod database;
mod log_in;
mod names;
mod queue;
mod secrets;

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Config, Environment, Options, survey};
use crate::problem::{Problem, Problems};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// A service does not answer.
    Unreachable,
    /// Something has to be mended before mail goes out well.
    Problem,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which check, e.g. `database`.
    pub(crate) check: &'static str,
    /// How bad.
    pub(crate) level: Level,
    /// What was found, on one line.
    pub(crate) message: String,
    /// How to mend it; none where all is well.
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), mend: None }
    }

    fn new(check: &'static str, level: Level, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, level, message: message.into(), mend: Some(mend.into()) }
    }

    fn of_problem(check: &'static str, problem: Problem) -> Self {
        let (message, mend) = problem.into_parts();
        Self { check, level: Level::Problem, message, mend }
    }

    /// From one of our errors: its closing `(hint: …)` says how to mend it, else `mend` does.
    fn of_error(check: &'static str, level: Level, error: impl std::fmt::Display, mend: &str) -> Self {
        let (message, hint) = Problem::new(error).into_parts();
        Self::new(check, level, message, hint.unwrap_or_else(|| mend.to_owned()))
    }
}

/// How to look.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Options of every command.
    pub(crate) options: Options,
    /// Asked instead of the host's own name servers.
    pub(crate) name_server: Option<SocketAddr>,
    /// How long any server may take to answer.
    pub(crate) patience: Duration,
}

/// What the checks share.
struct Scope {
    request: Request,
    /// What is bad in it stands at its default.
    config: Config,
}

/// Every finding, check by check.
pub(crate) async fn examine(request: Request, env: &Environment) -> Vec<Finding> {
    let problems = Problems::default();
    let config = survey(&request.options, env, &problems);
    let problems = problems.into_vec();
    let is_good = |name: &str| !problems.iter().any(|problem| problem.is_about(name));
    let (database_is_named, redis_is_named) = (is_good("DATABASE_URL"), is_good("REDIS_URL"));
    let scope = Scope { request, config };
    let mut findings = configuration::findings(problems);
    findings.extend(secrets::findings(&scope));
    findings.extend(data_dir::findings(&scope));
    let store = if database_is_named { database::open(&scope, &mut findings).await } else { None };
    if redis_is_named {
        findings.extend(queue::findings(&scope, store.as_ref()).await);
    }
    if let Some(store) = store {
        findings.extend(campaigns::findings(&store).await);
        findings.extend(accounts::findings(&scope, &store).await);
    }
    findings
}
