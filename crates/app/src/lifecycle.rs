//! How long-running commands stop: the first signal asks them to finish, the second ends them at once.
//!
//! Not responsible for what finishing means to each part: they watch `Shutdown`. To add a reason to stop: `stop`.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;

/// Says when to stop; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// Nobody has asked yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// One that SIGTERM and SIGINT ask to stop; a second signal ends the process with exit code 4.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let asked = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if asked.is_stopping() {
                    tracing::warn!("second signal: ending at once");
                    std::process::exit(Exit::Forced as i32);
                }
                asked.stop();
                tracing::info!("stopping: open dialogues are awaited");
            }
        });
        Ok(shutdown)
    }

    /// Asks everybody to stop.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether somebody has asked.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until somebody asks.
    pub(crate) async fn stopping(&self) {
        let mut watched = self.0.subscribe();
        // The sender is `self`, so the channel cannot close meanwhile.
        let _closed = watched.wait_for(|stopping| *stopping).await;
    }

    /// `work`, unless stopping comes first.
    pub(crate) async fn unless_stopping<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stopping() => None,
            done = work => Some(done),
        }
    }
}
