//! Lanes: one per email account, each with its own few connections, so that a slow server holds up nobody else.
//!
//! While others have work a lane holds no more of the worker's room than its share, and never more than it leaves free, so
//! that slow servers leave room to the others. Its connections are as many as its server takes (`domain::concurrency`). Urgent jobs wait in a line of their own, which is served first: behind those that were leased before them they would
//! wait for several dialogues, or be handed back. Not responsible for a message's dialogue (`deliver`). To change how connections are kept: `serve`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use domain::concurrency::Concurrency;
use domain::email_account::Breaker;
use domain::ids::{EmailAccountId, SendId};
use domain::settle::Outcome;
use domain::time::Timestamp;
use engines::queue::Verdict;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::log_in::LogIn;
use super::pace::Pace;
use super::pooled::{Keep, Pooled};
use super::stop::{BeingWritten, Stop};
use super::{Item, Worker, deliver, probe};

/// The lanes of a worker.
#[derive(Default)]
pub(super) struct Lanes(HashMap<EmailAccountId, Arc<Lane>>);

/// One account's jobs and connections.
pub(super) struct Lane {
    urgent: mpsc::Sender<Item>,
    jobs: mpsc::Sender<Item>,
    lines: Mutex<Lines>,
    /// Jobs in its lines and in work.
    held: AtomicUsize,
    concurrency: std::sync::Mutex<Concurrency>,
    pace: std::sync::Mutex<Pace>,
    /// Tasks that serve the lane, and how many of them wait for a job.
    tasks: AtomicUsize,
    idle: AtomicUsize,
    /// What stopped the account: what was fetched before goes back to the ledger.
    stop: Stop,
    /// Who may log in.
    pub(super) log_in: LogIn,
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

/// The lane takes no more now; real time after which it may have room.
pub(super) struct Full(pub(super) Duration);

impl Lanes {
    /// Whether the account's lane takes one more job now, where so many more of its `urgent` and its other jobs are to
    /// come before it, and so much of the worker's room is free.
    pub(super) fn takes(
        &self,
        worker: &Worker,
        account: EmailAccountId,
        urgent: bool,
        before: Before,
        free: usize,
    ) -> bool {
        let (held, line) = match self.0.get(&account) {
            Some(lane) => (lane.held.load(Ordering::Acquire), lane.line(urgent).capacity()),
            None => (0, room_of(worker)),
        };
        line > if urgent { before.urgent } else { before.others }
            && is_fair(worker, held, held + before.urgent + before.others, free)
    }

    /// Hands a job to its account's lane.
    pub(super) fn dispatch(&mut self, worker: &Arc<Worker>, item: Item) -> Result<(), Full> {
        let lane = self.0.entry(item.job.account.0).or_insert_with(|| Arc::new(Lane::new(worker)));
        // Its own place counts as free.
        let held = lane.held.load(Ordering::Acquire);
        if !is_fair(worker, held, held, worker.room.available_permits() + 1) {
            return Err(lane.full(worker));
        }
        lane.hold(worker);
        if lane.line(item.urgent).try_send(item).is_err() {
            lane.release(worker);
            return Err(lane.full(worker));
        }
        if lane.idle.load(Ordering::Acquire) == 0 && lane.tasks.load(Ordering::Acquire) < lane.limit() {
            tokio::spawn(serve(Arc::clone(worker), Serving::begin(Arc::clone(lane))));
        }
        Ok(())
    }
}

/// Jobs of a lane that are to be handed to it first.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    pub(super) urgent: usize,
    pub(super) others: usize,
}

/// Whether a lane that holds `held` jobs may take one more behind so many.
fn is_fair(worker: &Worker, held: usize, behind: usize, free: usize) -> bool {
    let others = worker.busy.load(Ordering::Acquire).saturating_sub(usize::from(held > 0));
    behind < share(worker.capacity, free, others)
}

/// How much of a worker's room a lane may hold, where so much of it is free and so many other lanes have work: an equal
/// part, and no more than it leaves free. A lane alone may have two in any case, one in work and one behind it.
fn share(room: usize, free: usize, others: usize) -> usize {
    match others {
        0 => free.max(2),
        _ => free.min(room / (others + 1)).max(1),
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
    fn new(worker: &Worker) -> Self {
        let (urgent, urgent_line) = mpsc::channel(room_of(worker));
        let (jobs, line) = mpsc::channel(room_of(worker));
        let most = u32::try_from(connections(worker)).unwrap_or(u32::MAX);
        Self {
            urgent,
            jobs,
            lines: Mutex::new(Lines { urgent: urgent_line, jobs: line }),
            held: AtomicUsize::new(0),
            concurrency: std::sync::Mutex::new(Concurrency::new(most)),
            pace: std::sync::Mutex::new(Pace::new(Instant::now())),
            tasks: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            stop: Stop::default(),
            log_in: LogIn::default(),
        }
    }

    fn hold(&self, worker: &Worker) {
        if self.held.fetch_add(1, Ordering::AcqRel) == 0 {
            self.pace().begins(Instant::now());
            worker.busy.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn release(&self, worker: &Worker) {
        if self.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            worker.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn line(&self, urgent: bool) -> &mpsc::Sender<Item> {
        if urgent { &self.urgent } else { &self.jobs }
    }

    fn concurrency(&self) -> std::sync::MutexGuard<'_, Concurrency> {
        self.concurrency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, worker: &Worker) -> Full {
        Full(self.pace().wait(Instant::now(), worker.ctx.clock.chance()))
    }

    /// Most connections now.
    fn limit(&self) -> usize {
        usize::try_from(self.concurrency().limit()).unwrap_or(usize::MAX)
    }

    /// Learns from the end of an attempt how many connections the server takes.
    pub(super) fn learn(&self, worker: &Worker, outcome: Outcome, started_at: Timestamp) {
        let (metrics, now) = (&worker.ctx.metrics.worker, worker.ctx.clock.now());
        let mut concurrency = self.concurrency();
        let was_slowed = concurrency.is_slowed();
        if concurrency.learn(outcome, started_at, now) {
            metrics.throttled.inc();
        }
        match (was_slowed, concurrency.is_slowed()) {
            (false, true) => drop(metrics.slowed.inc()),
            (true, false) => drop(metrics.slowed.dec()),
            _ => {}
        }
    }

    /// Stops the account here; the ledger knows when the guard is dropped.
    pub(super) fn stop(&self) -> BeingWritten<'_> {
        self.stop.begin()
    }

    /// Whether a job may go that the ledger granted in a read which began at `fetched_at`.
    pub(super) fn allows(&self, fetched_at: Instant) -> bool {
        self.stop.allows(fetched_at)
    }

    async fn next(&self, wait: Duration) -> Option<Item> {
        self.idle.fetch_add(1, Ordering::AcqRel);
        let _idle = Idle(&self.idle);
        tokio::time::timeout(wait, async { self.lines.lock().await.next().await }).await.ok().flatten()
    }
}

impl Lane {
    /// The next job for a task that no longer waits for one; none where there is none, or where another task waits.
    async fn look(&self) -> Option<Item> {
        loop {
            match self.lines.try_lock() {
                Ok(mut lines) => return lines.try_next(),
                Err(_) if self.idle.load(Ordering::Acquire) > 0 => return None,
                // Another one looks as we do, and may have looked before the job came.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// A task that waits for a job: no longer counted when its wait ends, also where it is broken off.
struct Idle<'a>(&'a AtomicUsize);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A task that serves a lane: counted while it lives, also where it ends by a panic.
struct Serving {
    lane: Arc<Lane>,
    counts: bool,
}

impl Serving {
    fn begin(lane: Arc<Lane>) -> Self {
        lane.tasks.fetch_add(1, Ordering::AcqRel);
        Self { lane, counts: true }
    }

    /// Steps down where the lane has more tasks than it may have now; those that stay serve its lines.
    fn is_surplus(&mut self) -> bool {
        let limit = self.lane.limit();
        let fewer = |tasks: usize| (tasks > limit).then(|| tasks - 1);
        let is_surplus = self.lane.tasks.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok();
        self.counts &= !is_surplus;
        is_surplus
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.counts {
            self.lane.tasks.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A job in work: it is held, and its lease extended, while it lives, also no longer than a panic.
struct InWork<'a>(&'a Worker, &'a Lane, SendId);

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.1.pace().ends_one(Instant::now());
        self.1.release(self.0);
        self.0.release(self.2);
    }
}

/// Serves a lane with one connection until there is nothing to do for a while.
async fn serve(worker: Arc<Worker>, mut serving: Serving) {
    let lane = Arc::clone(&serving.lane);
    let keep = Keep::from(&worker.ctx.config.settings.worker);
    let mut connection: Option<Pooled> = None;
    while !serving.is_surplus() {
        let patience = keep.patience(connection.as_ref().map(Pooled::age));
        let next = worker.shutdown.unless_stopping(lane.next(patience)).await;
        let item = match next {
            Some(Some(item)) => item,
            // Stopping: what has not begun goes back.
            None => match lane.lines.lock().await.try_next() {
                Some(item) => item,
                None => break,
            },
            Some(None) => {
                drop(serving);
                // A job may have come meanwhile: whoever brought it saw us idle and began no other task.
                let left = lane.look().await;
                serving = Serving::begin(Arc::clone(&lane));
                let Some(item) = left else { break };
                item
            }
        };
        let token = item.token;
        let in_work = InWork(&worker, &lane, item.job.send_id);
        let probed = (item.job.breaker == Breaker::HalfOpen).then_some(item.job.account.0);
        if worker.shutdown.is_stopping() {
            let now = worker.ctx.clock.now();
            worker.results.write(token, None, Verdict::RetryAt(now)).await;
        } else if !lane.allows(item.fetched_at) {
            worker.results.write(token, None, Verdict::Ack).await;
        } else {
            deliver::run(&worker, &lane, item, &mut connection).await;
        }
        drop(in_work);
        probe::end(&worker, probed).await;
        if let Some(open) = connection.take_if(|open| open.is_over(keep)) {
            open.quit().await;
        }
    }
    drop(serving);
    if let Some(open) = connection {
        open.quit().await;
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    /// How many places each of `lanes` slow servers gets of a room, and what is left, where they ask in turn for ever.
    fn shares(room: usize, lanes: usize) -> (Vec<usize>, usize) {
        let (mut held, mut free) = (vec![0_usize; lanes], room);
        loop {
            let before = free;
            for lane in 0..lanes {
                let others = held.iter().enumerate().filter(|(other, held)| *other != lane && **held > 0).count();
                if free > 0 && held[lane] < share(room, free, others) {
                    held[lane] += 1;
                    free -= 1;
                }
            }
            if free == before {
                return (held, free);
            }
        }
    }

    #[test]
    fn slow_lanes_leave_room_to_others() {
        for (room, lanes, each, left) in [(16, 1, 8, 8), (400, 1, 200, 200), (16, 3, 4, 4), (4, 1, 2, 2), (2, 1, 2, 0)]
        {
            assert_eq!(shares(room, lanes), (vec![each; lanes], left), "{lanes} lanes in a room of {room}");
        }
        assert_eq!(share(16, 1, 15), 1, "a lane with nothing to do takes the last place");
    }

    #[test]
    fn while_others_have_work_a_lane_has_an_equal_part() {
        for (room, free, others, most) in [(16, 16, 49, 1), (400, 300, 49, 8), (400, 3, 49, 3), (400, 100, 1, 100)] {
            assert_eq!(share(room, free, others), most, "{free} of {room} free, {others} others");
        }
    }
}
