//! The queue with every call timed and every error counted, whichever engine is below.
//!
//! Not responsible for the contract (`engines::queue`) or for what is read of it at a scrape (`metrics::sample`).
//! To follow a new call of the contract: a method here that goes through `measure`.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use domain::time::Timestamp;
use engines::error::{Error, Result};
use engines::queue::{Depth, Job, Lane, Leased, List, Queue, Token, Verdict};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// A queue that is measured.
pub(crate) struct Measured {
    /// None yet where it is opened while others go on.
    queue: OnceLock<Arc<dyn Queue>>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// The same queue, measured.
    pub(crate) fn over(queue: Arc<dyn Queue>, metrics: &Arc<Metrics>) -> Arc<dyn Queue> {
        let measured = Self::later(metrics);
        measured.is_open(queue);
        measured
    }

    /// One that is not open yet: until `is_open` every call fails.
    pub(crate) fn later(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { queue: OnceLock::new(), metrics: Arc::clone(metrics) })
    }

    /// From now on calls go to this queue.
    pub(crate) fn is_open(&self, queue: Arc<dyn Queue>) {
        self.queue.get_or_init(|| queue);
    }

    fn queue(&self) -> Result<&dyn Queue> {
        self.queue.get().map(|queue| &**queue).ok_or_else(|| Error::Unavailable("the queue is not open yet".into()))
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
        self.measure("push", async { self.queue()?.push(list, jobs, now).await }).await
    }

    async fn lease(&self, list: List, owner: &str, max: usize, lease: Duration, now: Timestamp) -> Result<Vec<Leased>> {
        self.measure("lease", async { self.queue()?.lease(list, owner, max, lease, now).await }).await
    }

    async fn extend(
        &self,
        list: List,
        owner: &str,
        tokens: &[Token],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        self.measure("extend", async { self.queue()?.extend(list, owner, tokens, lease, now).await }).await
    }

    async fn settle(
        &self,
        list: List,
        owner: &str,
        verdicts: &[(Token, Verdict)],
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        self.measure("settle", async { self.queue()?.settle(list, owner, verdicts, now).await }).await
    }

    async fn reap(&self, list: List, dead: &[String], now: Timestamp) -> Result<u64> {
        self.measure("reap", async { self.queue()?.reap(list, dead, now).await }).await
    }

    async fn depth(&self, list: List, lane: Lane, now: Timestamp) -> Result<Depth> {
        self.measure("depth", async { self.queue()?.depth(list, lane, now).await }).await
    }

    async fn epoch(&self, list: List) -> Result<i64> {
        self.measure("epoch", async { self.queue()?.epoch(list).await }).await
    }

    async fn show_dead_letters(&self, copies: &[String]) -> Result<()> {
        self.measure("show_dead_letters", async { self.queue()?.show_dead_letters(copies).await }).await
    }
}
