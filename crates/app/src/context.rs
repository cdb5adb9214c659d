//! What every long-running part needs: configuration, secrets, ledger, queue, clock, keys, opened once and in order.
//!
//! Not responsible for what is done with them. To add a service: a field, opened and checked in `open`.

use std::sync::Arc;
use std::time::Duration;

use domain::time::Timestamp;
use engines::queue::Queue;
use engines::{Db, Store};
use mail::smtp::Trust;
use mail::token::TokenKeys;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::exit::Failure;
use crate::liveness::Liveness;
use crate::measured_queue::Measured;
use crate::metrics::Metrics;
use crate::restored::Witness;
use crate::secrets::{SealingKey, Secrets, complete};
use crate::{data_dir, database, queue};

/// How long a tracker waits for its services before it begins without them.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The parts that all others share.
pub(crate) struct Context {
    /// As it was checked at start.
    pub(crate) config: Config,
    /// The ledger.
    pub(crate) store: Store,
    /// The queue.
    pub(crate) queue: Arc<dyn Queue>,
    /// Process time and chance.
    pub(crate) clock: Clock,
    /// Keys of tokens and Message-IDs.
    pub(crate) keys: TokenKeys,
    /// Key of sealed passwords.
    pub(crate) sealing: SealingKey,
    /// Whom TLS to SMTP servers trusts.
    pub(crate) trust: Trust,
    /// This process, different from every other that ever ran.
    pub(crate) owner: String,
    /// The host's name.
    pub(crate) host: String,
    /// Opens the cron route; none = it refuses.
    pub(crate) cron: Option<SecretString>,
    /// What is counted and measured.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the loops turn.
    pub(crate) liveness: Liveness,
    /// What this process has committed.
    pub(crate) witness: Witness,
    /// Rung when this process knows of jobs that may be leased now.
    pub(crate) jobs: Notify,
}

/// What needs no service: secrets, keys, names.
struct Parts {
    secrets: Secrets,
    keys: TokenKeys,
    trust: Trust,
    metrics: Arc<Metrics>,
}

impl Parts {
    fn of(config: &Config) -> Result<Self, Failure> {
        data_dir::create(&config.data).map_err(anyhow::Error::from)?;
        let secrets = complete(&config.secrets, &config.data, config.is_embedded())?;
        let old: Vec<&[u8]> = secrets.jwt_old.iter().map(|s| s.expose_secret().as_bytes()).collect();
        let keys = TokenKeys::new(secrets.jwt.expose_secret().as_bytes(), &old).map_err(anyhow::Error::from)?;
        let trust = Trust::load(config.settings.smtp.ca_file.as_deref()).map_err(anyhow::Error::from)?;
        Ok(Self { secrets, keys, trust, metrics: Arc::new(Metrics::new()) })
    }

    /// The database, telling how its transactions end.
    fn observed(&self, db: Db) -> Db {
        let metrics = Arc::clone(&self.metrics);
        db.observed(Arc::new(move |seen| metrics.database.observe(seen)))
    }

    fn into_context(self, config: Config, store: Store, clock: Clock, queue: Arc<dyn Queue>) -> Arc<Context> {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        let name = config.worker_id.clone().unwrap_or_else(|| format!("worker-{host}-{}", std::process::id()));
        let instance: [u8; 4] = crate::clock::random_bytes();
        let owner = format!("{name}-{:08x}", u32::from_be_bytes(instance));
        Arc::new(Context {
            queue,
            store,
            clock,
            keys: self.keys,
            sealing: self.secrets.sealing,
            trust: self.trust,
            owner,
            host,
            cron: self.secrets.cron,
            metrics: self.metrics,
            liveness: Liveness::new(),
            witness: Witness::default(),
            jobs: Notify::new(),
            config,
        })
    }
}

/// A process that is further behind than this says so when it catches up.
const WORTH_TELLING: Duration = Duration::from_secs(60);

/// What is still being opened, and how that fails where a person has to mend something.
pub(crate) type Opening = JoinHandle<Result<(), Failure>>;

impl Context {
    /// Moves process time forward to the database's, embedded to the host's, where it fell behind: monotonic time drifts, and stands
    /// while the host is suspended, after which leases were over for all others and mail would leave at the wrong hour. Never backwards.
    ///
    /// # Errors
    /// The database.
    pub(crate) async fn catch_up(&self) -> engines::error::Result<()> {
        let present = self.store.db().server_time().await?;
        let present = present.unwrap_or_else(|| Clock::system().now());
        let behind = present.since(self.clock.now());
        if behind > WORTH_TELLING {
            tracing::warn!(
                "this process was {} s behind: its host was suspended, or a clock was set",
                behind.as_secs()
            );
        }
        self.clock.catch_up(present);
        Ok(())
    }

    /// Opens everything; `time_scale` makes process time run faster than real time.
    ///
    /// # Errors
    /// `Unreachable` where a service does not answer within two minutes.
    pub(crate) async fn open(config: Config, time_scale: f64) -> Result<Arc<Self>, Failure> {
        let parts = Parts::of(&config)?;
        let (db, _) = database::open(&config, &Clock::system()).await?;
        parts.metrics.began(Clock::system().now());
        let db = parts.observed(db);
        // Leases and due times go by the database's clock where there is one: hosts may disagree.
        let anchor = db.server_time().await?;
        let store = Store::new(db.clone());
        let anchor = match anchor {
            Some(server) => server,
            // Embedded, time does not go back behind what a worker has marked, also after a run in which it went faster. No time
            // that was written as one to come will do: a campaign that rests would take all to the end of its rest.
            None => Clock::system().now().max(store.system().latest_time().await?.unwrap_or(Timestamp::EPOCH)),
        };
        let clock = Clock::running(anchor, time_scale);
        let queue = Measured::over(queue::open(&config, db, &store, &clock).await?, &parts.metrics);
        Ok(parts.into_context(config, store, clock, queue))
    }

    /// Opens everything to go by a test's clock; `written` is rung whenever a transaction has written something.
    #[cfg(test)]
    pub(crate) async fn open_at(config: Config, clock: Clock, written: Arc<Notify>) -> Result<Arc<Self>, Failure> {
        let parts = Parts::of(&config)?;
        let (db, _) = database::open(&config, &clock).await?;
        let db = db.observed(Arc::new(move |seen| {
            if seen.access == engines::Access::Write {
                written.notify_one();
            }
        }));
        let store = Store::new(db.clone());
        let queue = queue::open(&config, db, &store, &clock).await?;
        Ok(parts.into_context(config, store, clock, queue))
    }

    /// For a tracker, which answers and spools without any service: what does not answer at once is opened while it
    /// serves, however long that takes. Until then it goes by the host's clock, and every call of the queue fails.
    ///
    /// # Errors
    /// What is wrong can be seen at once; what shows later is the opening's.
    pub(crate) async fn open_for_tracking(config: Config) -> Result<(Arc<Self>, Option<Opening>), Failure> {
        if config.is_embedded() {
            return Ok((Self::open(config, 1.0).await?, None));
        }
        if let Ok(opened) = tokio::time::timeout(AT_ONCE, Self::open(config.clone(), 1.0)).await {
            return Ok((opened?, None));
        }
        tracing::warn!("the tracker begins without its services: it answers, and events wait in the spool");
        let parts = Parts::of(&config)?;
        let db = parts.observed(database::connect(&config)?);
        let (store, clock, queue) = (Store::new(db.clone()), Clock::system(), Measured::later(&parts.metrics));
        let opening = tokio::spawn(open_later(config.clone(), db, clock.clone(), Arc::clone(&queue)));
        Ok((parts.into_context(config, store, clock, queue), Some(opening)))
    }
}

async fn open_later(config: Config, db: Db, clock: Clock, queue: Arc<Measured>) -> Result<(), Failure> {
    let store = Store::new(db.clone());
    loop {
        let opened = async {
            database::open(&config, &clock).await?;
            queue::open(&config, db.clone(), &store, &clock).await
        };
        match opened.await {
            Ok(opened) => {
                queue.is_open(opened);
                tracing::info!("all services answer now");
                return Ok(());
            }
            Err(Failure::Unreachable(why)) => tracing::warn!(why, "a service does not answer yet"),
            Err(failure) => return Err(failure),
        }
    }
}
