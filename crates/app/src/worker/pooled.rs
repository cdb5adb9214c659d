//! A connection that is counted for as long as it is open, and how long that may be.
//!
//! Not responsible for what is said over it (`deliver`) or for how many an account has (`lane`).
//! To add a reason to close one: a limit in `Keep`.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use mail::smtp::Connection;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::config::WorkerSettings;
use crate::context::Context;

/// How long connections are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    messages: u32,
    age: Duration,
    idle: Duration,
}

impl From<&WorkerSettings> for Keep {
    fn from(settings: &WorkerSettings) -> Self {
        Self { messages: settings.messages_per_connection, age: settings.connection_age.0, idle: settings.idle.0 }
    }
}

impl Keep {
    /// How long a task waits for its next message: with a connection no longer than this may live.
    pub(super) fn patience(&self, age: Option<Duration>) -> Duration {
        age.map_or(self.idle, |age| self.idle.min(self.age.saturating_sub(age)))
    }

    /// Whether one of this age that was given so many messages takes no other.
    fn is_over(&self, messages: u32, age: Duration) -> bool {
        messages >= self.messages || age >= self.age
    }
}

/// An open connection of a lane.
pub(super) struct Pooled {
    connection: Connection,
    opened_at: Instant,
    counted: Counted,
}

/// One of the open ones; dropped with its connection, wherever that happens.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Pooled {
    pub(super) fn new(ctx: &Context, connection: Connection) -> Self {
        let metrics = &ctx.metrics.worker;
        metrics.connections_opened.inc();
        metrics.connections.inc();
        Self { connection, opened_at: Instant::now(), counted: Counted(metrics.connections.clone()) }
    }

    /// How long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// Whether it takes no other message.
    pub(super) fn is_over(&self, keep: Keep) -> bool {
        !self.connection.is_usable() || keep.is_over(self.connection.delivered(), self.age())
    }

    /// Says goodbye.
    pub(super) async fn quit(self) {
        self.connection.quit().await;
        drop(self.counted);
    }
}

impl Deref for Pooled {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keep() -> Keep {
        Keep { messages: 3, age: 60 * SECOND, idle: 10 * SECOND }
    }

    #[test]
    fn a_connection_ends_by_its_messages_or_by_its_age() {
        for (messages, age, is_over) in [(2, 59, false), (3, 0, true), (0, 60, true), (4, 61, true)] {
            assert_eq!(keep().is_over(messages, age * SECOND), is_over, "{messages} messages in {age} s");
        }
    }

    #[test]
    fn an_unused_one_waits_for_its_idle_time_and_never_beyond_its_age() {
        for (age, wait) in [(None, 10), (Some(0), 10), (Some(50), 10), (Some(55), 5), (Some(60), 0), (Some(90), 0)] {
            assert_eq!(keep().patience(age.map(|age| age * SECOND)), wait * SECOND, "{age:?}");
        }
    }
}
