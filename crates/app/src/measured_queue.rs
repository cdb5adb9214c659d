//! The queue with every call timed and every error counted, whichever engine is below.
//!
//! Not responsible for the contract (`engines::queue`) or for what is read of it at a scrape (`metrics::sample`).
//! To follow a new call of the contract: a method here that goes through `measure`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::time::Timestamp;
use engines::error::Result;
use engines::queue::{Depth, Job, Leased, List, Queue, Token, Verdict};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// A queue that is measured.
pub(crate) struct Measured {
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// The same queue, measured.
    pub(crate) fn over(queue: Arc<dyn Queue>, metrics: &Arc<Metrics>) -> Arc<dyn Queue> {
        Arc::new(Self { queue, metrics: Arc::clone(metrics) })
    }

    async fn measure<T>(&self, call: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let result = work.await;
        let metrics = &self.metrics.queue;
        metrics.calls.observe([call], began.elapsed());
        if let Err(e) = &result {
            metrics.errors.inc([e.kind()]);
        }
        result
    }
}

#[async_trait]
impl Queue for Measured {
    async fn push(&self, list: List, jobs: Vec<Job>, now: Timestamp) -> Result<u64> {
        self.measure("push", self.queue.push(list, jobs, now)).await
    }

    async fn lease(&self, list: List, owner: &str, max: usize, lease: Duration, now: Timestamp) -> Result<Vec<Leased>> {
        self.measure("lease", self.queue.lease(list, owner, max, lease, now)).await
    }

    async fn extend(
        &self,
        list: List,
        owner: &str,
        tokens: &[Token],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        self.measure("extend", self.queue.extend(list, owner, tokens, lease, now)).await
    }

    async fn settle(
        &self,
        list: List,
        owner: &str,
        verdicts: &[(Token, Verdict)],
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        self.measure("settle", self.queue.settle(list, owner, verdicts, now)).await
    }

    async fn reap(&self, list: List, dead: &[String], now: Timestamp) -> Result<u64> {
        self.measure("reap", self.queue.reap(list, dead, now)).await
    }

    async fn depth(&self, list: List, now: Timestamp) -> Result<Vec<Depth>> {
        self.measure("depth", self.queue.depth(list, now)).await
    }

    async fn epoch(&self, list: List) -> Result<i64> {
        self.measure("epoch", self.queue.epoch(list)).await
    }

    async fn show_dead_letters(&self, copies: &[String]) -> Result<()> {
        self.measure("show_dead_letters", self.queue.show_dead_letters(copies)).await
    }
}
