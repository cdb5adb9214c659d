//! While the queue does not answer: jobs straight from the ledger, so that a lost Redis stops no mail.
//!
//! The ledger marks what a worker took, so that workers share the work; only the fence decides who sends, as ever. The
//! marks are of no queue's epoch: reconciliation brings what is still open as soon as the queue answers. Other programs'
//! jobs and events lie in the queue and wait for it. To change who gets what: `Backlog`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::email_account::Breaker;
use domain::ids::SendId;
use engines::error::Result;
use engines::queue::Lane;
use engines::store::plan::Hint;
use engines::store::recover::LEDGER_EPOCH;

use super::recovery::STALE_HINT;
use super::{BATCH, Item, LIST, Worker, lane, probe};
use crate::context::Context;
use crate::liveness::Pulse;

/// Most hints that wait for their accounts' lanes.
const MOST: usize = 10_000;
/// How long a ledger with nothing new is left alone.
const IDLE: Duration = Duration::from_millis(250);
/// How long lanes that are full are left alone.
const FULL: Duration = Duration::from_millis(5);

/// Hints from the ledger that wait for their accounts' lanes, oldest first.
#[derive(Default)]
struct Backlog {
    hints: VecDeque<Hint>,
    known: HashSet<SendId>,
    /// When the ledger had nothing new.
    exhausted: Option<Instant>,
}

/// Works from the ledger until the queue answers, which it is asked every `pause`, or stopping is asked for.
pub(super) async fn run(worker: &Arc<Worker>, lanes: &mut lane::Lanes, pause: Duration, pulse: &Pulse) {
    worker.results.acknowledge(false);
    without_queue(worker, lanes, pause, pulse).await;
    worker.results.acknowledge(true);
}

async fn without_queue(worker: &Arc<Worker>, lanes: &mut lane::Lanes, pause: Duration, pulse: &Pulse) {
    let answers = answers(&worker.ctx, pause);
    tokio::pin!(answers);
    let mut backlog = Backlog::default();
    while !worker.shutdown.is_stopping() {
        pulse.works();
        let wait = match turn(worker, lanes, &mut backlog).await {
            Ok(0) if backlog.hints.is_empty() => IDLE,
            Ok(0) => FULL,
            Ok(_) => Duration::ZERO,
            Err(e) => {
                tracing::warn!(error = %e, "jobs cannot be taken from the ledger now");
                pause
            }
        };
        pulse.waits();
        tokio::select! {
            biased;
            () = &mut answers => {
                tracing::info!("the queue answers again: jobs come from it");
                return;
            }
            () = worker.shutdown.stopping() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Returns when a lane of the queue answers. Asks for nothing but its depth: a call that comes too late must take no
/// job.
async fn answers(ctx: &Context, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        for lane in LIST.lanes() {
            if ctx.queue.depth(LIST, *lane, ctx.clock.now()).await.is_ok() {
                return;
            }
        }
    }
}

/// One turn: how many jobs were handed to their lanes.
async fn turn(worker: &Arc<Worker>, lanes: &mut lane::Lanes, backlog: &mut Backlog) -> Result<usize> {
    backlog.fill(worker).await?;
    let taken = backlog.take(worker, lanes);
    if taken.is_empty() {
        return Ok(0);
    }
    let hints: Vec<_> = taken.iter().map(|hint| (hint.tenant_id, hint.send_id)).collect();
    let urgent: HashSet<SendId> = taken.iter().filter(|hint| is_urgent(hint)).map(|hint| hint.send_id).collect();
    // No row back: done, someone else's, or not now.
    let jobs = probe::fetch(worker, &hints).await?;
    let mut handed_out = 0;
    let mut missed = Vec::new();
    for job in jobs {
        let probed = (job.breaker == Breaker::HalfOpen).then_some(job.account.0);
        let Ok(permit) = Arc::clone(&worker.room).try_acquire_owned() else {
            missed.extend(probed);
            continue;
        };
        let send_id = job.send_id;
        if !worker.hold(send_id, None) {
            missed.extend(probed);
            continue;
        }
        let urgent = urgent.contains(&send_id);
        let item = Item { token: None, job, poison: false, urgent, _room: permit };
        match lanes.dispatch(worker, item) {
            Ok(()) => handed_out += 1,
            // Its mark in the ledger grows old, and it comes again.
            Err(lane::Full(_)) => {
                worker.release(send_id);
                missed.extend(probed);
            }
        }
    }
    probe::end(worker, missed).await;
    Ok(handed_out)
}

fn is_urgent(hint: &Hint) -> bool {
    LIST.lane(hint.priority) == Lane::High
}

impl Backlog {
    /// Takes what may go from the ledger, as much of each lane, so that none starves.
    async fn fill(&mut self, worker: &Worker) -> Result<()> {
        if self.exhausted.is_some_and(|at| at.elapsed() < IDLE) {
            return Ok(());
        }
        let before = self.hints.len();
        let ctx = &worker.ctx;
        let now = ctx.clock.now();
        let stale = now - ctx.clock.span(STALE_HINT);
        for lane in [Lane::High, Lane::Base, Lane::Low] {
            let room = MOST.saturating_sub(self.hints.len()).min(BATCH);
            let limit = u32::try_from(room).unwrap_or(0);
            for hint in ctx.store.system().reconcile(lane, LEDGER_EPOCH, stale, limit, now).await? {
                if self.known.insert(hint.send_id) {
                    self.hints.push_back(hint);
                }
            }
        }
        self.exhausted = (self.hints.len() == before).then(Instant::now);
        Ok(())
    }

    /// Takes out those that their accounts' lanes have room for, at most a batch.
    fn take(&mut self, worker: &Worker, lanes: &lane::Lanes) -> Vec<Hint> {
        let free = worker.room.available_permits();
        let mut before: HashMap<_, lane::Before> = HashMap::new();
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for hint in self.hints.drain(..) {
            let (account, urgent) = (hint.email_account_id, is_urgent(&hint));
            let before = before.entry(account).or_default();
            let free = free.saturating_sub(taken.len());
            let is_taken = free > 0
                && taken.len() < BATCH
                && lanes.takes(worker, account, urgent, *before, free)
                && !worker.holds(hint.send_id);
            if is_taken {
                *(if urgent { &mut before.urgent } else { &mut before.others }) += 1;
                self.known.remove(&hint.send_id);
                taken.push(hint);
            } else {
                left.push_back(hint);
            }
        }
        self.hints = left;
        taken
    }
}
