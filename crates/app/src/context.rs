//! What every long-running part needs: configuration, secrets, ledger, queue, clock, keys, opened once and in order.
//!
//! Not responsible for what is done with them. To add a service: a field, opened and checked in `open`.

use std::sync::Arc;

use domain::time::Timestamp;
use engines::Store;
use engines::queue::Queue;
use mail::smtp::Trust;
use mail::token::TokenKeys;
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Clock;
use crate::config::Config;
use crate::exit::Failure;
use crate::liveness::Liveness;
use crate::measured_queue::Measured;
use crate::metrics::Metrics;
use crate::secrets::{SealingKey, complete};
use crate::{data_dir, database, queue};

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
}

impl Context {
    /// Opens everything; `time_scale` makes process time run faster than real time.
    ///
    /// # Errors
    /// `Unreachable` where a service does not answer within two minutes.
    pub(crate) async fn open(config: Config, time_scale: f64) -> Result<Arc<Self>, Failure> {
        data_dir::create(&config.data).map_err(anyhow::Error::from)?;
        let secrets = complete(&config.secrets, &config.data, config.is_embedded())?;
        let old: Vec<&[u8]> = secrets.jwt_old.iter().map(|s| s.expose_secret().as_bytes()).collect();
        let keys = TokenKeys::new(secrets.jwt.expose_secret().as_bytes(), &old).map_err(anyhow::Error::from)?;
        let trust = Trust::load(config.settings.smtp.ca_file.as_deref()).map_err(anyhow::Error::from)?;
        let (db, _) = database::open(&config, &Clock::system()).await?;
        let metrics = Arc::new(Metrics::new());
        metrics.began(Clock::system().now());
        let observed = Arc::clone(&metrics);
        let db = db.observed(Arc::new(move |seen| observed.database.observe(seen)));
        // Leases and due times go by the database's clock where there is one: hosts may disagree.
        let anchor = db.server_time().await?;
        let store = Store::new(db.clone());
        let anchor = match anchor {
            Some(server) => server,
            // Embedded, time never goes backwards, also after a run in which it went faster.
            None => Clock::system().now().max(store.system().latest_time().await?.unwrap_or(Timestamp::EPOCH)),
        };
        let clock = Clock::running(anchor, time_scale);
        let queue = Measured::over(queue::open(&config, db, &store, &clock).await?, &metrics);
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        let name = config.worker_id.clone().unwrap_or_else(|| format!("worker-{host}-{}", std::process::id()));
        let instance: [u8; 4] = crate::clock::random_bytes();
        let owner = format!("{name}-{:08x}", u32::from_be_bytes(instance));
        Ok(Arc::new(Self {
            queue,
            store,
            clock,
            keys,
            sealing: secrets.sealing,
            trust,
            owner,
            host,
            cron: secrets.cron,
            metrics,
            liveness: Liveness::new(),
            config,
        }))
    }
}
