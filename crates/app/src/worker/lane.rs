//! Lanes: one per email account, each with its own few connections, so that a slow server holds up nobody else.
//!
//! Not responsible for a message's dialogue (`deliver`). To change how connections are kept: `serve`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use domain::ids::EmailAccountId;
use engines::queue::Verdict;
use tokio::sync::{Mutex, mpsc};

use super::pooled::Pooled;
use super::{Item, Worker, deliver};

/// The lanes of a worker.
#[derive(Default)]
pub(super) struct Lanes(HashMap<EmailAccountId, Arc<Lane>>);

/// One account's jobs and connections.
pub(super) struct Lane {
    jobs: mpsc::Sender<Item>,
    queue: Mutex<mpsc::Receiver<Item>>,
    /// Tasks that serve the lane, and how many of them wait for a job.
    tasks: AtomicUsize,
    idle: AtomicUsize,
    /// The account may not send now: what waits goes back to the ledger.
    blocked: AtomicBool,
}

/// The lane takes no more now.
pub(super) struct Full;

impl Lanes {
    /// Hands a job to its account's lane.
    pub(super) fn dispatch(&mut self, worker: &Arc<Worker>, item: Item) -> Result<(), Full> {
        let most = worker.ctx.config.settings.worker.connections_per_account.max(1) as usize;
        let lane = self.0.entry(item.job.account.0).or_insert_with(|| {
            let (jobs, queue) = mpsc::channel(most * 2);
            Arc::new(Lane {
                jobs,
                queue: Mutex::new(queue),
                tasks: AtomicUsize::new(0),
                idle: AtomicUsize::new(0),
                blocked: AtomicBool::new(false),
            })
        });
        // P3 has granted it, so the account may send again.
        lane.blocked.store(false, Ordering::Release);
        lane.jobs.try_send(item).map_err(|_| Full)?;
        if lane.idle.load(Ordering::Acquire) == 0 && lane.tasks.load(Ordering::Acquire) < most {
            tokio::spawn(serve(Arc::clone(worker), Serving::begin(Arc::clone(lane))));
        }
        Ok(())
    }
}

impl Lane {
    /// Says that the account may not send now.
    pub(super) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    async fn next(&self, wait: Duration) -> Option<Item> {
        self.idle.fetch_add(1, Ordering::AcqRel);
        let item = tokio::time::timeout(wait, async { self.queue.lock().await.recv().await }).await;
        self.idle.fetch_sub(1, Ordering::AcqRel);
        item.ok().flatten()
    }
}

/// A task that serves a lane: counted while it lives, also where it ends by a panic.
struct Serving(Arc<Lane>);

impl Serving {
    fn begin(lane: Arc<Lane>) -> Self {
        lane.tasks.fetch_add(1, Ordering::AcqRel);
        Self(lane)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A job in work: its lease is extended while it lives, also no longer than a panic.
struct InWork<'a>(&'a Worker, engines::queue::Token);

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

/// Serves a lane with one connection until there is nothing to do for a while.
async fn serve(worker: Arc<Worker>, mut serving: Serving) {
    let lane = Arc::clone(&serving.0);
    let settings = &worker.ctx.config.settings.worker;
    let mut connection: Option<Pooled> = None;
    loop {
        let next = worker.shutdown.unless_stopping(lane.next(settings.idle.0)).await;
        let item = match next {
            Some(Some(item)) => item,
            // Stopping: what has not begun goes back.
            None => match lane.queue.lock().await.try_recv() {
                Ok(item) => item,
                Err(_) => break,
            },
            Some(None) => {
                drop(serving);
                // A job may have come meanwhile: whoever brought it saw us idle and began no other task. Where the
                // queue is locked, another task waits in it.
                let left = lane.queue.try_lock().ok().and_then(|mut queue| queue.try_recv().ok());
                serving = Serving::begin(Arc::clone(&lane));
                let Some(item) = left else { break };
                item
            }
        };
        let token = item.token;
        let in_work = InWork(&worker, token);
        if worker.shutdown.is_stopping() {
            let now = worker.ctx.clock.now();
            worker.results.write(token, None, Verdict::RetryAt(now)).await;
        } else if lane.blocked.load(Ordering::Acquire) {
            worker.results.write(token, None, Verdict::Ack).await;
        } else {
            deliver::run(&worker, &lane, item, &mut connection).await;
        }
        drop(in_work);
        if let Some(open) = connection.take_if(|c| !c.is_usable() || c.delivered() >= settings.messages_per_connection)
        {
            open.quit().await;
        }
    }
    drop(serving);
    if let Some(open) = connection {
        open.quit().await;
    }
}
