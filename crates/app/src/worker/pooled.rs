//! A connection that is counted for as long as it is open.
//!
//! Not responsible for what is said over it (`deliver`) or for how long it is kept (`lane`).

use std::ops::{Deref, DerefMut};

use mail::smtp::Connection;
use prometheus_client::metrics::gauge::Gauge;

use crate::context::Context;

/// An open connection of a lane.
pub(super) struct Pooled {
    connection: Connection,
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
        Self { connection, counted: Counted(metrics.connections.clone()) }
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
