//! Redis, where the queue lies there: whether it answers, and whether its settings may lose jobs.
//!
//! Stricter than the start of a process, which goes on with a warning: what is lost comes again from the ledger, but
//! events and other programs' jobs do not. To add a setting: a fact of `ServerSettings`, and its rule in `judge`.

use engines::queue::redis::{RedisQueue, ServerSettings};
use secrecy::ExposeSecret as _;

use super::{Finding, Level, Scope};
use crate::problem::Problem;
use crate::queue::OLDEST_REDIS;

const CHECK: &str = "redis";

pub(super) async fn findings(scope: &Scope) -> Vec<Finding> {
    let Some(url) = &scope.config.redis else { return Vec::new() };
    let asked = async { RedisQueue::connect(url.expose_secret()).await?.servers().await };
    let mend = "check REDIS_URL (host, port, user, password), that Redis runs, and that it lets this host in";
    match tokio::time::timeout(scope.request.patience, asked).await {
        Ok(Ok(servers)) => servers.iter().flat_map(judge).collect(),
        Ok(Err(error)) => {
            // Its own hint speaks to a process that tries again.
            let (message, hint) = Problem::new(&error).into_parts();
            vec![match error.is_transient() {
                true => Finding::new(CHECK, Level::Unreachable, message, mend),
                false => Finding::new(CHECK, Level::Problem, message, hint.as_deref().unwrap_or(mend)),
            }]
        }
        Err(_) => {
            let text = format!("no answer within {} s", scope.request.patience.as_secs());
            vec![Finding::new(CHECK, Level::Unreachable, text, mend)]
        }
    }
}

fn judge(server: &ServerSettings) -> Vec<Finding> {
    let at = server.address.as_ref().map_or(String::new(), |address| format!("`{address}`: "));
    let problem = |text: String, mend: &str| Finding::new(CHECK, Level::Problem, format!("{at}{text}"), mend);
    let mut findings = Vec::new();
    if server.may_evict() {
        let policy = &server.maxmemory_policy;
        let text = format!("maxmemory-policy is `{policy}`: jobs and events may be dropped when memory runs short");
        findings.push(problem(text, "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"));
    }
    if server.is_lossy() {
        let text = "keeps no append-only file: a crash loses events and other programs' jobs".to_owned();
        findings.push(problem(text, "CONFIG SET appendonly yes, and the same in redis.conf"));
    }
    if server.major_version() < OLDEST_REDIS {
        let text = format!("{at}version {} is older than {OLDEST_REDIS}: it is not tried", server.version);
        findings.push(Finding::new(CHECK, Level::Warning, text, "upgrade Redis"));
    }
    if findings.is_empty() {
        let text = format!("{at}version {} answers, evicts nothing and keeps an append-only file", server.version);
        findings.push(Finding::ok(CHECK, text));
    }
    findings
}
