//! Lanes: one per email account, each with its own few connections, so that a slow server holds up nobody else.
//!
//! Urgent jobs wait in a line of their own, which is served first: behind those that were leased before them they would
//! wait for several dialogues, or be handed back. Not responsible for a message's dialogue (`deliver`). To change how connections are kept: `serve`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use domain::ids::{EmailAccountId, SendId};
use engines::queue::Verdict;
use tokio::sync::{Mutex, mpsc};

use super::pooled::Pooled;
use super::{Item, Worker, deliver};

/// The lanes of a worker.
#[derive(Default)]
pub(super) struct Lanes(HashMap<EmailAccountId, Arc<Lane>>);

/// One account's jobs and connections.
pub(super) struct Lane {
    urgent: mpsc::Sender<Item>,
    jobs: mpsc::Sender<Item>,
    lines: Mutex<Lines>,
    /// Tasks that serve the lane, and how many of them wait for a job.
    tasks: AtomicUsize,
    idle: AtomicUsize,
    /// The account may not send now: what waits goes back to the ledger.
    blocked: AtomicBool,
}

/// Who waits in a lane.
struct Lines {
    urgent: mpsc::Receiver<Item>,
    jobs: mpsc::Receiver<Item>,
}

impl Lines {
    /// The next one, as soon as there is one; none never comes, since the lane keeps both ends.
    async fn next(&mut self) -> Option<Item> {
        tokio::select! {
            biased;
            item = self.urgent.recv() => item,
            item = self.jobs.recv() => item,
        }
    }

    /// The next one, where one waits.
    fn try_next(&mut self) -> Option<Item> {
        self.urgent.try_recv().or_else(|_| self.jobs.try_recv()).ok()
    }
}

/// The lane takes no more now.
pub(super) struct Full;

impl Lanes {
    /// How many jobs the account's lane takes now.
    pub(super) fn room(&self, worker: &Worker, account: EmailAccountId, urgent: bool) -> usize {
        let Some(lane) = self.0.get(&account) else { return room_of(worker) };
        if urgent { lane.urgent.capacity() } else { lane.jobs.capacity() }
    }

    /// Hands a job to its account's lane.
    pub(super) fn dispatch(&mut self, worker: &Arc<Worker>, item: Item) -> Result<(), Full> {
        let most = connections(worker);
        let lane = self.0.entry(item.job.account.0).or_insert_with(|| {
            let (urgent, urgent_line) = mpsc::channel(room_of(worker));
            let (jobs, line) = mpsc::channel(room_of(worker));
            Arc::new(Lane {
                urgent,
                jobs,
                lines: Mutex::new(Lines { urgent: urgent_line, jobs: line }),
                tasks: AtomicUsize::new(0),
                idle: AtomicUsize::new(0),
                blocked: AtomicBool::new(false),
            })
        });
        // P3 has granted it, so the account may send again.
        lane.blocked.store(false, Ordering::Release);
        let line = if item.urgent { &lane.urgent } else { &lane.jobs };
        line.try_send(item).map_err(|_| Full)?;
        if lane.idle.load(Ordering::Acquire) == 0 && lane.tasks.load(Ordering::Acquire) < most {
            tokio::spawn(serve(Arc::clone(worker), Serving::begin(Arc::clone(lane))));
        }
        Ok(())
    }
}

/// Most connections of an account.
fn connections(worker: &Worker) -> usize {
    worker.ctx.config.settings.worker.connections_per_account.max(1) as usize
}

/// Jobs that wait in an empty lane at most.
fn room_of(worker: &Worker) -> usize {
    connections(worker) * 2
}

impl Lane {
    /// Says that the account may not send now.
    pub(super) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    async fn next(&self, wait: Duration) -> Option<Item> {
        self.idle.fetch_add(1, Ordering::AcqRel);
        let item = tokio::time::timeout(wait, async { self.lines.lock().await.next().await }).await;
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
struct InWork<'a>(&'a Worker, SendId);

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
            None => match lane.lines.lock().await.try_next() {
                Some(item) => item,
                None => break,
            },
            Some(None) => {
                drop(serving);
                // A job may have come meanwhile: whoever brought it saw us idle and began no other task. Where the
                // lines are locked, another task waits in them.
                let left = lane.lines.try_lock().ok().and_then(|mut lines| lines.try_next());
                serving = Serving::begin(Arc::clone(&lane));
                let Some(item) = left else { break };
                item
            }
        };
        let token = item.token;
        let in_work = InWork(&worker, item.job.send_id);
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
