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
mod impaired;
mod lane;
mod link;
mod script;
mod settings;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::time::Timestamp;
use redis::{Cmd, FromRedisValue, RedisError, Value};
use uuid::Uuid;

use self::address::Address;
use self::impaired::Impaired;
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
    impaired: Impaired,
    claim: Mutex<Claim>,
}

/// Whom this Redis serves.
#[derive(Default)]
struct Claim {
    /// Whom it has to serve; none where nobody asked.
    ours: Option<Uuid>,
    /// Whom it serves instead.
    other: Option<Uuid>,
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
        let queue = Self { link, draw: AtomicUsize::new(0), impaired: Impaired::default(), claim: Mutex::default() };
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
    /// Two deployments on one Redis would take each other's jobs: while it is another's, every call fails with
    /// `RedisTaken`. `epoch` claims again, since an emptied Redis is nobody's.
    ///
    /// # Errors
    /// As the calls of the queue.
    pub async fn claim(&self, instance: Uuid) -> Result<Uuid> {
        self.claimed().ours = Some(instance);
        let key = instance_key();
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(instance.to_string()).arg("NX").arg("GET");
        let holder = match self.command("claim", &set).await? {
            Value::Nil => instance,
            other => holder(key, other)?,
        };
        self.claimed().other = Some(holder).filter(|holder| *holder != instance);
        Ok(holder)
    }

    /// Whom this Redis serves, without claiming it; none where nobody has.
    ///
    /// # Errors
    /// As the calls of the queue.
    pub async fn claimed_by(&self) -> Result<Option<Uuid>> {
        let key = instance_key();
        match self.command("claim", redis::cmd("GET").arg(&key)).await? {
            Value::Nil => Ok(None),
            other => holder(key, other).map(Some),
        }
    }

    fn claimed(&self) -> std::sync::MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_claim(&self) -> Result<()> {
        self.claimed().other.map_or(Ok(()), |holder| Err(Error::RedisTaken { holder }))
    }

    async fn command(&self, call: &'static str, command: &Cmd) -> Result<Value> {
        self.link.query(command).await.map_err(|e| answer::error(call, &e))
    }

    /// Runs a script on a Redis that is ours.
    async fn run(&self, script: &'static Script, keys: &[&str], arguments: impl Fn(&mut Cmd)) -> Result<Value> {
        self.check_claim()?;
        self.run_anyhow(script, keys, arguments).await
    }

    /// Runs a script, whoever's the Redis is; a key of another type is named.
    async fn run_anyhow(&self, script: &'static Script, keys: &[&str], arguments: impl Fn(&mut Cmd)) -> Result<Value> {
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

    /// Leases from one lane. A doubtful one is asked for its depth first: a call that nobody waits for any more may still
    /// take jobs, and other lanes do not wait for long.
    async fn lease_from(
        &self,
        request: &LeaseRequest<'_>,
        lane: Lane,
        wanted: usize,
        is_doubtful: bool,
    ) -> Result<Vec<Leased>> {
        if wanted == 0 {
            return Ok(Vec::new());
        }
        if is_doubtful {
            let probe = tokio::time::timeout(impaired::PROBE, self.depth_lane(request.list, lane, request.now));
            probe.await.unwrap_or_else(|_| Err(Error::RedisUnavailable("a lane takes too long".into())))?;
        }
        self.lease_lane(request, lane, wanted).await
    }
}

fn instance_key() -> String {
    format!("{{{}}}:instance", List::EmailSending.name())
}

fn holder(key: String, value: Value) -> Result<Uuid> {
    let text: String = read("claim", value)?;
    Uuid::try_parse(&text).map_err(|_| Error::RedisKey { key, problem: "holds no UUID".into() })
}

/// Asks all lanes of a list at once; their answers in the order of `List::lanes`.
async fn on_lanes<T, F: Future<Output = Result<T>>>(list: List, call: impl Fn(Lane) -> F) -> Vec<Result<T>> {
    match list.lanes() {
        [only] => vec![call(*only).await],
        _ => <[_; 3]>::from(tokio::join!(call(Lane::High), call(Lane::Base), call(Lane::Low))).into(),
    }
}

/// What all lanes said; the first failure where one failed.
fn all<T>(answers: Vec<Result<T>>) -> Result<Vec<T>> {
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
        let pushed = on_lanes(list, async |lane| self.push_lane(list, lane, &by_lane[lane as usize], now).await).await;
        Ok(all(pushed)?.into_iter().sum())
    }

    async fn lease(&self, list: List, owner: &str, max: usize, lease: Duration, now: Timestamp) -> Result<Vec<Leased>> {
        let start = self.draw.fetch_add(max, Ordering::Relaxed);
        let request = &LeaseRequest { list, owner, until: now + lease, now };
        let asked = self.impaired.lanes_to_ask(list);
        let shares = shares(list.lanes(), start, max);
        let share = |lane| shares.iter().find(|(of, _)| *of == lane && asked.contains(&lane)).map_or(0, |(_, n)| *n);
        let is_impaired = |lane| self.impaired.is(list, lane);
        let answers =
            on_lanes(list, async |lane| self.lease_from(request, lane, share(lane), is_impaired(lane)).await).await;
        let (mut jobs, mut more, mut failed, mut any_answered) = (Vec::new(), Vec::new(), Vec::new(), false);
        for (lane, answer) in list.lanes().iter().copied().zip(answers) {
            match answer {
                Ok(found) => {
                    if share(lane) > 0 {
                        any_answered = true;
                        self.impaired.is_well(list, lane);
                    }
                    // A lane that gave less than it was asked for is empty.
                    if found.len() == share(lane) && asked.contains(&lane) && list.lanes().len() > 1 {
                        more.push(lane);
                    }
                    jobs.extend(found);
                }
                Err(e) => failed.push((lane, e)),
            }
        }
        // What an empty lane left over goes to the others, the most urgent first; each is doubtful where one did not
        // answer, since it may be the same server.
        let is_doubtful = failed.iter().any(|(_, e)| e.is_transient());
        for lane in more {
            match self.lease_from(request, lane, max - jobs.len(), is_doubtful || is_impaired(lane)).await {
                Ok(found) => {
                    any_answered = true;
                    jobs.extend(found);
                }
                Err(e) => failed.push((lane, e)),
            }
        }
        if any_answered {
            // What is leased must reach its holder, and a lane that cannot be read is no fault of the others.
            failed.iter().for_each(|(lane, e)| self.impaired.note(list, *lane, e));
            return Ok(jobs);
        }
        self.impaired.forget(list);
        failed.into_iter().next().map_or(Ok(jobs), |(_, e)| Err(e))
    }

    async fn extend(
        &self,
        list: List,
        owner: &str,
        tokens: &[Token],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        let answers = on_lanes(list, async |lane| self.extend_lane(list, lane, owner, tokens, now + lease).await).await;
        Ok(all(answers)?.concat())
    }

    async fn settle(
        &self,
        list: List,
        owner: &str,
        verdicts: &[(Token, Verdict)],
        _now: Timestamp,
    ) -> Result<Vec<Token>> {
        let answers = on_lanes(list, async |lane| self.settle_lane(list, lane, owner, verdicts).await).await;
        Ok(all(answers)?.concat())
    }

    async fn reap(&self, list: List, dead: &[String], now: Timestamp) -> Result<u64> {
        let answers = on_lanes(list, async |lane| self.reap_lane(list, lane, dead, now).await).await;
        Ok(all(answers)?.into_iter().sum())
    }

    async fn depth(&self, list: List, lane: Lane, now: Timestamp) -> Result<Depth> {
        self.depth_lane(list, lane, now).await
    }

    async fn epoch(&self, list: List) -> Result<i64> {
        let key = LaneKeys::epoch(list);
        let value = self.run_anyhow(&script::EPOCH, &[&key], |_| {}).await?;
        let ours = self.claimed().ours;
        if let Some(ours) = ours {
            self.claim(ours).await?;
            self.check_claim()?;
        }
        read(script::EPOCH.name, value)
    }

    async fn show_dead_letters(&self, copies: &[String]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        self.check_claim()?;
        let mut push = redis::cmd("LPUSH");
        push.arg(DEAD_LETTERS_KEY).arg(copies);
        self.command("showing dead letters", &push).await?;
        let mut trim = redis::cmd("LTRIM");
        trim.arg(DEAD_LETTERS_KEY).arg(0).arg(DEAD_LETTERS - 1);
        self.command("showing dead letters", &trim).await.map(drop)
    }
}
