//! Opens the queue that the configuration names: a table in the database, or Redis; waits for it and looks it over.
//!
//! Not responsible for the queue's contract (`engines::queue`). To add an engine: a branch in `open`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use engines::queue::redis::RedisQueue;
use engines::queue::table::TableQueue;
use engines::queue::{List, Queue};
use engines::{Db, Error, Store};
use secrecy::ExposeSecret as _;

use crate::clock::Clock;
use crate::config::Config;
use crate::exit::Failure;
use crate::problem::{InputErrors, Problem};

/// How long Redis may be away at start (SPEC 2).
const PATIENCE: Duration = Duration::from_secs(120);
/// Real time between two looks at whom Redis serves.
const CLAIM: Duration = Duration::from_secs(2);
/// The oldest version that the queue is tried with.
pub(crate) const OLDEST_REDIS: u32 = 7;

/// An open queue.
///
/// # Errors
/// `Unreachable` after two minutes without an answer; `Input` where the address, a log-in, a setting or another
/// deployment on the same Redis needs a person.
pub(crate) async fn open(config: &Config, db: Db, store: &Store, clock: &Clock) -> Result<Arc<dyn Queue>, Failure> {
    let Some(url) = &config.redis else { return Ok(Arc::new(TableQueue::new(db))) };
    let redis = connect(url.expose_secret()).await?;
    look_over(&redis, config.settings.redis.strict).await?;
    let ours = store.system().deployment(clock.uuid_v7(), clock.now()).await?;
    let holder = redis.claim(ours).await.map_err(failure)?;
    if holder != ours {
        return Err(failure(Error::RedisTaken { holder }));
    }
    let redis = Arc::new(redis);
    tokio::spawn(keep_claim(Arc::downgrade(&redis)));
    Ok(redis)
}

/// Claims Redis again whenever it was emptied, for as long as anybody uses it, and says when somebody else was faster:
/// it is then used no more, as one that does not answer.
async fn keep_claim(redis: Weak<RedisQueue>) {
    let mut is_taken = false;
    loop {
        tokio::time::sleep(CLAIM).await;
        let Some(redis) = redis.upgrade() else { return };
        match redis.epoch(List::EmailSending).await {
            Ok(_) if is_taken => {
                tracing::info!("Redis serves this deployment again");
                is_taken = false;
            }
            Err(error @ Error::RedisTaken { .. }) if !is_taken => {
                tracing::error!(%error, "Redis is not used any more");
                is_taken = true;
            }
            // Whoever uses it says that it does not answer.
            _ => {}
        }
    }
}

async fn connect(url: &str) -> Result<RedisQueue, Failure> {
    let started = tokio::time::Instant::now();
    let mut wait = Duration::from_millis(250);
    loop {
        match RedisQueue::connect(url).await {
            Ok(redis) => return Ok(redis),
            Err(error) if error.is_transient() && started.elapsed() + wait < PATIENCE => {
                tracing::warn!(%error, wait_ms = wait.as_millis(), "Redis does not answer, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(8));
            }
            Err(error) => return Err(failure(error)),
        }
    }
}

fn failure(error: Error) -> Failure {
    if error.is_transient() {
        Failure::Unreachable(error.to_string())
    } else {
        refused(Problem::new(error).field("REDIS_URL"))
    }
}

/// Says what of the server's settings may lose jobs. The ledger brings them again, so it costs time and no mail.
async fn look_over(redis: &RedisQueue, strict: bool) -> Result<(), Failure> {
    let servers = match redis.servers().await {
        Ok(servers) => servers,
        // A log-in that may not ask is no reason to stop.
        Err(error) => {
            tracing::warn!(%error, "the settings of Redis cannot be read");
            return Ok(());
        }
    };
    for server in servers {
        let (address, policy) = (server.address.as_deref().unwrap_or(""), &server.maxmemory_policy);
        if server.may_evict() && strict {
            let problem = Problem::new(format!("maxmemory-policy is `{policy}`: Redis may drop jobs without an error"));
            let hint = "CONFIG SET maxmemory-policy noeviction, or `strict = false` under [redis]";
            return Err(refused(problem.field("REDIS_URL").hint(hint)));
        }
        if server.may_evict() {
            tracing::warn!(
                address,
                policy,
                "Redis may drop jobs without an error when memory runs short; they come again from the ledger, but \
                 events are lost (hint: CONFIG SET maxmemory-policy noeviction)"
            );
        }
        if server.is_lossy() {
            tracing::warn!(
                address,
                "Redis keeps no append-only file: a crash loses events that are not stored yet (hint: appendonly yes)"
            );
        }
        if server.major_version() < OLDEST_REDIS {
            tracing::warn!(
                address,
                version = server.version,
                "Redis is older than version {OLDEST_REDIS}: it is not tried"
            );
        }
    }
    Ok(())
}

fn refused(problem: Problem) -> Failure {
    InputErrors::from(problem).into()
}
