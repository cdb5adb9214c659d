//! An SMTP server that takes all mail and sends none: for `demo`, for tries, and as the truth that tests judge by.
//!
//! Keeps messages as .eml files, writes a journal before it answers 250, and fails, delays or drops on demand.
//! Not responsible for being a mail server. To add a fault: `fault`; a command: `session`; an extension: `offers`.

mod command;
mod fault;
mod journal;
mod keep;
mod offers;
pub(crate) mod plan;
pub(crate) mod script;
mod session;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::lifecycle::Shutdown;

pub(crate) use fault::{Faults, Rule};
pub(crate) use offers::{Extension, MAX_SIZE, Offers, Tls};

/// How long a session may take to end once the sink stops; what still runs then is cut.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What becomes of mail.
#[derive(Clone, Debug, Default)]
pub(crate) struct SinkOptions {
    /// Where messages go as .eml files, with an `index.jsonl`; none = they are dropped.
    pub(crate) folder: Option<PathBuf>,
    /// A journal of `Message-ID<TAB>recipient` lines, synced before each 250: two equal lines are two copies.
    pub(crate) journal: Option<PathBuf>,
    /// What goes wrong.
    pub(crate) faults: Faults,
    /// Told of every accepted message, once for each recipient.
    pub(crate) told: Option<mpsc::UnboundedSender<Received>>,
}

/// A message that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// As it came, dots unstuffed.
    pub(crate) message: Bytes,
}

/// What the sessions of one sink share.
struct Sink {
    faults: Faults,
    keeper: keep::Keeper,
    offers: Offers,
    clock: Clock,
}

/// A sink that listens.
pub(crate) struct Listening {
    listener: TcpListener,
    sink: Sink,
}

impl Listening {
    /// Opens folder, journal and port.
    ///
    /// # Errors
    /// Where one of them cannot be had.
    pub(crate) async fn open(address: SocketAddr, options: SinkOptions) -> anyhow::Result<Self> {
        let keeper = keep::Keeper::open(&options)
            .map_err(|e| anyhow::anyhow!("failed to open the folder or the journal of the sink: {e}"))?;
        let listener = TcpListener::bind(address).await.map_err(|e| {
            anyhow::anyhow!("failed to listen on `{address}`: {e} (hint: --listen names another address or port)")
        })?;
        let sink = Sink { faults: options.faults, keeper, offers: Offers::default(), clock: Clock::system() };
        Ok(Self { listener, sink })
    }

    /// Offers other than the default.
    pub(crate) fn offering(mut self, offers: Offers) -> Self {
        self.sink.offers = offers;
        self
    }

    /// Goes by a test's clock.
    #[cfg(test)]
    pub(crate) fn going_by(mut self, clock: Clock) -> Self {
        self.sink.clock = clock;
        self
    }

    /// The address that it got.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until stopping is asked for; how many messages came, and which faults fired how often.
    ///
    /// What is under way then is answered, for 5 s at most.
    pub(crate) async fn run(self, shutdown: Shutdown) -> (u64, Vec<(String, u64)>) {
        let sink = Arc::new(self.sink);
        let mut sessions = JoinSet::new();
        while let Some(accepted) = shutdown.unless_stopping(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    // Replies are gathered already; waiting for more of them (Nagle) costs 40 ms a message.
                    let _best_effort = stream.set_nodelay(true);
                    let session = session::Session::new(Arc::clone(&sink), shutdown.clone());
                    // A client that goes away ends its session; nothing of it was promised.
                    sessions.spawn(async move { session.run(wire::Wire::new(stream)).await.unwrap_or_default() });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            // Finished sessions are let go, or the set would grow for ever.
            while sessions.try_join_next().is_some() {}
        }
        drop(self.listener);
        let ended = async { while sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            sessions.shutdown().await;
        }
        (sink.keeper.received(), sink.faults.fired())
    }
}

#[cfg(test)]
mod tests;
