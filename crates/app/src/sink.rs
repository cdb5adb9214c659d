//! An SMTP server that takes all mail and sends none: for `demo`, for tries, and as the truth that tests judge by.
//!
//! Keeps messages as .eml files, writes a journal before it answers 250, and fails, delays or drops on demand.
//! Not responsible for being a mail server. To add a fault: `faults`; a command: `session`.

pub(crate) mod faults;
mod keep;
mod session;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::lifecycle::Shutdown;

pub(crate) use faults::Faults;

/// How a sink behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct SinkOptions {
    /// Where messages go as .eml files; none = they are dropped.
    pub(crate) folder: Option<PathBuf>,
    /// A journal of `Message-ID<TAB>recipient` lines, synced before each 250.
    pub(crate) journal: Option<PathBuf>,
    /// What goes wrong.
    pub(crate) faults: Faults,
    /// Told of every accepted message.
    pub(crate) told: Option<mpsc::UnboundedSender<Received>>,
}

/// A message that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// As it came, dots unstuffed.
    pub(crate) message: Arc<[u8]>,
}

/// What the sessions of one sink share.
pub(super) struct Sink {
    options: SinkOptions,
    keeper: keep::Keeper,
    received: AtomicU64,
}

/// A sink that listens.
pub(crate) struct Listening {
    listener: TcpListener,
    sink: Arc<Sink>,
}

impl Listening {
    /// Opens folder, journal and port.
    ///
    /// # Errors
    /// Where one of them cannot be had.
    pub(crate) async fn open(address: SocketAddr, options: SinkOptions) -> anyhow::Result<Self> {
        let keeper = keep::Keeper::open(&options)?;
        let listener = TcpListener::bind(address).await.map_err(|e| {
            anyhow::anyhow!("failed to listen on `{address}`: {e} (hint: --listen names another address or port)")
        })?;
        Ok(Self { listener, sink: Arc::new(Sink { options, keeper, received: AtomicU64::new(0) }) })
    }

    /// The address that it got.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until stopping is asked for; how many messages came, and which faults fired how often.
    pub(crate) async fn run(self, shutdown: Shutdown) -> (u64, Vec<(String, u64)>) {
        let mut sessions = tokio::task::JoinSet::new();
        while let Some(accepted) = shutdown.unless_stopping(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let sink = Arc::clone(&self.sink);
                    sessions.spawn(session::serve(sink, stream));
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a connection cannot be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
            // Finished sessions are let go, or the set would grow for ever.
            while sessions.try_join_next().is_some() {}
        }
        sessions.shutdown().await;
        (self.sink.received.load(Ordering::Acquire), self.sink.options.faults.fired())
    }
}

#[cfg(test)]
mod tests;
