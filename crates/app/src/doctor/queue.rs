//! Redis, where the queue lies there: whether it answers, whether its settings may lose jobs, and whose it is.
//!
//! Stricter than the start of a process, which goes on with a warning: what is lost comes again from the ledger, but
//! events and other programs' jobs do not. To add a setting: a fact of `ServerSettings`, and its rule in `judge`.

use engines::queue::redis::{RedisQueue, ServerSettings};
use engines::{Error, Store};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::{Finding, Level, Scope};
use crate::problem::Problem;
use crate::queue::OLDEST_REDIS;

const CHECK: &str = "redis";

pub(super) async fn findings(scope: &Scope, store: Option<&Store>) -> Vec<Finding> {
    let Some(url) = &scope.config.redis else { return Vec::new() };
    let asked = async {
        let redis = RedisQueue::connect(url.expose_secret()).await?;
        Ok::<_, Error>((redis.servers().await?, redis.claimed_by().await?))
    };
    let mend = "check REDIS_URL (host, port, user, password), that Redis runs, and that it lets this host in";
    match tokio::time::timeout(scope.request.patience, asked).await {
        Ok(Ok((servers, holder))) => {
            let mut findings: Vec<Finding> = servers.iter().flat_map(judge).collect();
            findings.extend(judge_claim(holder, store).await);
            findings
        }
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

/// Whether this Redis serves the deployment of this database; none where the database does not say.
async fn judge_claim(holder: Option<Uuid>, store: Option<&Store>) -> Option<Finding> {
    let ours = store?.system().find_deployment().await.ok()?;
    Some(match holder {
        None => Finding::ok(CHECK, "serves no deployment yet: the next process that starts claims it"),
        Some(holder) if ours == Some(holder) => Finding::ok(CHECK, "serves this deployment"),
        Some(holder) => {
            let taken = Error::RedisTaken { holder };
            Finding::of_error(CHECK, Level::Problem, taken, "give each deployment a Redis of its own")
        }
    })
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
