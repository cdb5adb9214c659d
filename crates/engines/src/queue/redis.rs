//! The queue in Redis: jobs lie on the lists whose names are a contract with other programs, so anybody can LPUSH one.
//!
//! The contract stands in `queue.rs`. Per lane: the list itself, and under its name as hash tag `…:delayed` (a sorted
//! set of records by due time: jobs that are not due yet, came back, or whose payload does not say their id),
//! `…:leases:OWNER` and `…:ends:OWNER` (what an owner holds and until when), `…:owners` (when to look at each) and
//! `…:known` (ids that a second push passes over). One script call per lane and batch, never one over several lanes: on a Cluster they lie apart.
//! Nothing in here is the only copy of anything: Redis may be emptied at any time.
//! To change a call: its script, its function here, and a case in the suite.

mod address;
mod answer;
mod element;
mod lane;
mod link;
mod script;
mod settings;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::time::Timestamp;
use redis::{Cmd, FromRedisValue, RedisError, Value};
use uuid::Uuid;

use self::address::Address;
use self::lane::{LaneKeys, LeaseRequest};
use self::link::Link;
use self::script::Script;
use super::{Depth, Job, Lane, Leased, List, Queue, Token, Verdict, shares};
use crate::error::{Error, Result};

pub use self::settings::ServerSettings;

/// Copies of dead letters that are kept for other programs.
const DEAD_LETTERS: isize = 10_000;
const DEAD_LETTERS_KEY: &str = "deadletter:queue";

/// The queue in Redis.
pub struct RedisQueue {
    link: Link,
    /// Where the next lease begins in the draw of lanes: single leases must be fair as well.
    draw: AtomicUsize,
    /// A lane could not be leased from, and that was said.
    is_impaired: AtomicBool,
}

impl RedisQueue {
    /// Connects to Redis, and again whenever the connection breaks. Answers take ten seconds at most.
    ///
    /// | form | |
    /// |---|---|
    /// | `redis://[[user]:password@]host[:port][/database]` | one server |
    /// | `redis+sentinel://[[user]:password@]host[:port],…/master[/database]` | the master that these Sentinels name |
    /// | `redis+cluster://[[user]:password@]host[:port],…` | the Cluster that these nodes belong to |
    ///
    /// `rediss…` is the same over TLS. Options: `?ca=FILE` trusts the authorities in this PEM file instead of the
    /// host's own; `sentinel_user` and `sentinel_password` are the log-in for the Sentinels. User, password and values
    /// are percent-encoded.
    ///
    /// # Errors
    /// `RedisAddress` where the URL is wrong, `RedisUnavailable` where nobody answers yet, `RedisRefused` where a
    /// log-in or certificate is not accepted. None of them holds the URL.
    pub async fn connect(url: &str) -> Result<Self> {
        let link = Link::new(Address::parse(url)?.open()?);
        let queue = Self { link, draw: AtomicUsize::new(0), is_impaired: AtomicBool::new(false) };
        queue.ping().await?;
        Ok(queue)
    }

    /// Checks an address without connecting.
    ///
    /// # Errors
    /// `RedisAddress`.
    pub fn check_address(url: &str) -> Result<()> {
        Address::parse(url).map(drop)
    }

    /// Whether Redis answers.
    ///
    /// # Errors
    /// As the calls of the queue.
    pub async fn ping(&self) -> Result<()> {
        self.command("ping", &redis::cmd("PING")).await.map(drop)
    }

    /// What each master says of its version, its eviction and its persistence: one server, or all of a Cluster.
    ///
    /// # Errors
    /// As the calls of the queue; also where the log-in may not ask.
    pub async fn servers(&self) -> Result<Vec<ServerSettings>> {
        settings::read_all(&self.link).await
    }

    /// Says that this Redis serves the deployment `instance`; whose it is: ours, or that of an earlier caller.
    ///
    /// Two deployments on one Redis would take each other's jobs: whoever finds another one's id must not go on.
    ///
    /// # Errors
    /// As the calls of the queue.
    pub async fn claim(&self, instance: Uuid) -> Result<Uuid> {
        let key = format!("{{{}}}:instance", List::EmailSending.name());
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(instance.to_string()).arg("NX").arg("GET");
        match self.command("claim", &set).await? {
            Value::Nil => Ok(instance),
            other => {
                let text: String = read("claim", other)?;
                let wrong = |_| Error::RedisKey { key, problem: "holds no UUID".into() };
                Uuid::try_parse(&text).map_err(wrong)
            }
        }
    }

    async fn command(&self, call: &'static str, command: &Cmd) -> Result<Value> {
        self.link.query(command).await.map_err(|e| answer::error(call, &e))
    }

    /// Runs a script; a key of another type is named.
    async fn run(&self, script: &'static Script, keys: &[&str], arguments: impl Fn(&mut Cmd)) -> Result<Value> {
        match script.run(&self.link, keys, arguments).await {
            Ok(value) => Ok(value),
            Err(e) if answer::is_wrong_type(&e) => Err(self.find_wrong_key(script.name, keys, &e).await),
            Err(e) => Err(answer::error(script.name, &e)),
        }
    }

    async fn find_wrong_key(&self, call: &'static str, keys: &[&str], e: &RedisError) -> Error {
        for key in keys {
            let mut command = redis::cmd("TYPE");
            let Ok(value) = self.command(call, command.arg(key)).await else { continue };
            let found: String = read(call, value).unwrap_or_default();
            let expected = LaneKeys::type_of(key);
            if found != expected && found != "none" {
                return Error::RedisKey { key: (*key).to_owned(), problem: format!("is a {found}, not a {expected}") };
            }
        }
        answer::error(call, e)
    }

    /// Says once that a lane is impaired, and once that it is well again: leases are drawn many times a second.
    fn note(&self, error: Option<&Error>) {
        let was_impaired = self.is_impaired.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_impaired => {
                tracing::warn!(%error, "jobs of one lane cannot be leased now; the other lanes go on");
            }
            None if was_impaired => tracing::info!("jobs of all lanes can be leased again"),
            _ => {}
        }
    }
}

/// Asks all lanes at once.
async fn on_lanes<T, F: Future<Output = Result<T>>>(call: impl Fn(Lane) -> F) -> [Result<T>; 3] {
    tokio::join!(call(Lane::High), call(Lane::Base), call(Lane::Low)).into()
}

/// What all lanes said; the first failure where one failed.
fn all<T>(answers: [Result<T>; 3]) -> Result<Vec<T>> {
    answers.into_iter().collect()
}

fn read<T: FromRedisValue>(call: &'static str, value: Value) -> Result<T> {
    redis::from_redis_value(value).map_err(|e| answer::error(call, &e.into()))
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, list: List, jobs: Vec<Job>, now: Timestamp) -> Result<u64> {
        let mut by_lane: [Vec<Job>; 3] = Default::default();
        for job in jobs {
            by_lane[list.lane(job.priority) as usize].push(job);
        }
        let by_lane = &by_lane;
        let pushed = on_lanes(async |lane| self.push_lane(list, lane, &by_lane[lane as usize], now).await).await;
        Ok(all(pushed)?.into_iter().sum())
    }

    async fn lease(&self, list: List, owner: &str, max: usize, lease: Duration, now: Timestamp) -> Result<Vec<Leased>> {
        let start = self.draw.fetch_add(max, Ordering::Relaxed);
        let shares = shares(list.lanes(), start, max);
        let request = &LeaseRequest { list, owner, until: now + lease, now };
        let share = |lane| shares.iter().find(|(of, _)| *of == lane).map_or(0, |(_, share)| *share);
        let answers = on_lanes(async |lane| self.lease_lane(request, lane, share(lane)).await).await;
        let (mut jobs, mut more, mut failure) = (Vec::new(), Vec::new(), None);
        for (lane, answer) in [Lane::High, Lane::Base, Lane::Low].into_iter().zip(answers) {
            match answer {
                Ok(found) => {
                    // A lane that gave less than it was asked for is empty.
                    if found.len() == share(lane) && list.lanes().len() > 1 {
                        more.push(lane);
                    }
                    jobs.extend(found);
                }
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        // What an empty lane left over goes to the others, the most urgent first; not while nobody may answer, since
        // each of them would cost another time limit.
        if failure.as_ref().is_some_and(Error::is_transient) {
            more.clear();
        }
        for lane in more {
            match self.lease_lane(request, lane, max - jobs.len()).await {
                Ok(found) => jobs.extend(found),
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        self.note(failure.as_ref());
        match failure {
            // What is leased must reach its holder, also when another lane cannot be read.
            Some(failure) if jobs.is_empty() => Err(failure),
            _ => Ok(jobs),
        }
    }

    async fn extend(
        &self,
        list: List,
        owner: &str,
        tokens: &[Token],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        let answers = on_lanes(async |lane| self.extend_lane(list, lane, owner, tokens, now + lease).await).await;
        Ok(all(answers)?.concat())
    }

    async fn settle(
        &self,
        list: List,
        owner: &str,
        verdicts: &[(Token, Verdict)],
        _now: Timestamp,
    ) -> Result<Vec<Token>> {
        let answers = on_lanes(async |lane| self.settle_lane(list, lane, owner, verdicts).await).await;
        Ok(all(answers)?.concat())
    }

    async fn reap(&self, list: List, dead: &[String], now: Timestamp) -> Result<u64> {
        let answers = on_lanes(async |lane| self.reap_lane(list, lane, dead, now).await).await;
        Ok(all(answers)?.into_iter().sum())
    }

    async fn depth(&self, list: List, now: Timestamp) -> Result<Vec<Depth>> {
        let depths = all(on_lanes(async |lane| self.depth_lane(list, lane, now).await).await)?;
        let lanes = list.lanes();
        Ok([Lane::High, Lane::Base, Lane::Low]
            .into_iter()
            .zip(depths)
            .filter(|(lane, _)| lanes.contains(lane))
            .map(|(_, depth)| depth)
            .collect())
    }

    async fn epoch(&self, list: List) -> Result<i64> {
        let key = LaneKeys::epoch(list);
        let value = self.run(&script::EPOCH, &[&key], |_| {}).await?;
        read(script::EPOCH.name, value)
    }

    async fn show_dead_letters(&self, copies: &[String]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let mut push = redis::cmd("LPUSH");
        push.arg(DEAD_LETTERS_KEY).arg(copies);
        self.command("showing dead letters", &push).await?;
        let mut trim = redis::cmd("LTRIM");
        trim.arg(DEAD_LETTERS_KEY).arg(0).arg(DEAD_LETTERS - 1);
        self.command("showing dead letters", &trim).await.map(drop)
    }
}
