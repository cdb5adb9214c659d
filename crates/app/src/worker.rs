//! The worker: takes hints from the queue and hands messages over, each exactly once as nearly as SMTP allows.
//!
//! It reads as the path of one email: lease, fetch, compose and deliver on the account's lane, the gate before the dot,
//! the result. Beside it run heartbeat, recovery and reconciliation. Nothing is decided here: `domain` decides, `store`
//! writes down. To add a step: its file under `worker`, called from `run` or `deliver`.

mod cache;
mod deliver;
mod fallback;
mod gate;
mod intake;
mod journal;
mod lane;
mod log_in;
mod pace;
mod pooled;
mod probe;
mod recovery;
mod refused;
mod results;
mod stop;
mod vital;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::email_account::Breaker;
use domain::ids::SendId;
use domain::settle::loop_delay;
use engines::queue::{Leased, List, Token, Verdict};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::context::Context;
use crate::dead_letter;
use crate::exit::Exit;
use crate::fault_point;
use crate::lifecycle::Shutdown;
use crate::liveness::Loop;
use crate::restored;
pub(crate) use cache::Sender;
use intake::{Intake, Taken};
#[cfg(test)]
pub(crate) use recovery::reconcile_once;
use vital::Vital;

/// Real time that a database that does not answer gets when we stop, behind `shutdown_grace`; the journal keeps the rest.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Most jobs in one lease.
const BATCH: usize = 100;
/// Deliveries without a result after which a job is poison.
const POISON: u32 = 3;
const LIST: List = List::EmailSending;

/// What the parts of one worker share.
pub(super) struct Worker {
    ctx: Arc<Context>,
    shutdown: Shutdown,
    cache: cache::Cache,
    gate: gate::Gate,
    results: results::Results,
    probes: probe::Probes,
    /// Jobs that may be in work at once.
    room: Arc<Semaphore>,
    /// How many that are in all.
    capacity: usize,
    /// Lanes that hold jobs now.
    busy: AtomicUsize,
    /// Sends in work, with the leases that must be extended: none where the ledger itself gave the job.
    in_work: Mutex<HashMap<SendId, Option<Token>>>,
}

/// A job on its way through the worker; its permit gives the room back when it is dropped.
pub(super) struct Item {
    /// The lease; none where the job came from the ledger itself.
    token: Option<Token>,
    job: engines::store::fetch::SendJob,
    /// When the read began in which the ledger granted it.
    fetched_at: Instant,
    poison: bool,
    /// Of the high lane: it overtakes the others of its account within the worker too.
    urgent: bool,
    _room: OwnedSemaphorePermit,
}

/// Runs until stopping is asked for, then finishes what is open.
pub(crate) async fn run(ctx: Arc<Context>, shutdown: Shutdown) -> Exit {
    let mut vital = Vital::default();
    let worker = start(ctx, shutdown, &mut vital).await;
    tracing::info!("Waiting for jobs...");
    {
        let mut leasing = std::pin::pin!(lease_jobs(&worker));
        tokio::select! {
            () = &mut leasing => {}
            () = vital.one_ends() => {
                if !worker.gate.shut.has(gate::Why::WentBack) {
                    tracing::error!(tasks = ?vital.ended(), "a part of the worker has ended by a fault of ours: the process ends");
                }
                worker.shutdown.stop();
                if vital.ended().contains(&recovery::HEARTBEATS) {
                    // What is under way is awaited, for up to ten minutes, and nobody may take us for dead meanwhile.
                    tokio::spawn(recovery::heartbeats(Arc::clone(&worker)));
                }
                leasing.await;
            }
        }
    }
    let exit = finish(&worker).await;
    let is_whole = vital.ended().is_empty();
    vital.end();
    if worker.gate.shut.has(gate::Why::WentBack) {
        // As whoever is started now is told.
        return Exit::BadInput;
    }
    if !is_whole {
        return Exit::Internal;
    }
    if exit == Exit::Done {
        let (system, owner) = (worker.ctx.store.system(), &worker.ctx.owner);
        let removed = tokio::time::timeout(LAST_WORDS, system.remove_owner(owner, None)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!("the worker's row stays until another one removes it");
        }
    }
    exit
}

/// Makes the worker known, and starts what runs beside its leasing.
async fn start(ctx: Arc<Context>, shutdown: Shutdown, vital: &mut Vital) -> Arc<Worker> {
    let capacity = ctx.config.settings.worker.connections.saturating_mul(2).max(1) as usize;
    let gate = gate::start(&ctx, vital);
    let results = results::start(&ctx, &gate.shut, vital);
    let worker = Arc::new(Worker {
        cache: cache::Cache::default(),
        gate,
        results,
        probes: probe::Probes::default(),
        room: Arc::new(Semaphore::new(capacity)),
        capacity,
        busy: AtomicUsize::new(0),
        in_work: Mutex::new(HashMap::new()),
        shutdown,
        ctx,
    });
    // Before anything is sent, so that a backup that was made before is told from what follows.
    let _seen_by_the_task = restored::mark_or_tell(&worker.ctx).await;
    // First of all others: who leases must be seen to be alive.
    recovery::beat(&worker).await;
    let mut patience = refused::Patience::default();
    if let Err(e) = journal::abandoned::replay(&worker.ctx, &mut patience).await {
        tracing::warn!(error = %e, "results of dead workers cannot be written down yet");
    }
    vital.start(recovery::HEARTBEATS, recovery::heartbeats(Arc::clone(&worker)));
    vital.start("reap", recovery::reap(Arc::clone(&worker), patience));
    vital.start("reconcile", recovery::reconcile(Arc::clone(&worker)));
    vital.start("extend", extend_leases(Arc::clone(&worker)));
    vital.start("mark", mark_ledger(Arc::clone(&worker)));
    worker
}

/// Waits for open dialogues and their results.
async fn finish(worker: &Worker) -> Exit {
    let all = u32::try_from(worker.capacity).unwrap_or(u32::MAX);
    let grace = worker.ctx.config.settings.process.shutdown_grace.0;
    let finished = tokio::time::timeout(grace, worker.room.acquire_many(all)).await.is_ok();
    let all_written = worker.results.finish(LAST_WORDS).await;
    // Whoever restores a backup that was made since the last mark is told.
    let _in_time = tokio::time::timeout(LAST_WORDS, restored::mark_or_tell(&worker.ctx)).await;
    if !finished {
        tracing::error!("a dialogue was still open after the final dot: its send is unknown until it is settled");
    }
    if !all_written {
        tracing::error!("results could not be written in time: the next worker on this directory does it");
    }
    if finished && all_written { Exit::Done } else { Exit::Forced }
}

/// Ends, and the worker with it, where the ledger went back.
async fn mark_ledger(worker: Arc<Worker>) {
    restored::keep_marking(&worker.ctx, || worker.gate.shut.set(gate::Why::WentBack, true)).await;
}

/// Leases, fetches and hands jobs to their accounts' lanes until stopping is asked for.
async fn lease_jobs(worker: &Arc<Worker>) {
    let mut lanes = lane::Lanes::default();
    let mut idle = Duration::from_millis(5);
    let mut errors = 0;
    let mut owed = Vec::new();
    let pulse = worker.ctx.liveness.pulse(Loop::Lease);
    while !worker.shutdown.is_stopping() {
        // Room first: a lease that waits for room in memory is a lease that ends by time.
        let Some(Ok(first)) = worker.shutdown.unless_stopping(Arc::clone(&worker.room).acquire_owned()).await else {
            break;
        };
        let room = worker.room.available_permits().min(BATCH - 1) + 1;
        drop(first);
        pulse.works();
        let leased = match lease(worker, room, &mut owed).await {
            Ok(leased) => leased,
            Err(e) => {
                // Short, also where a person has to help: that the queue is back has to show within seconds.
                let pause = loop_delay(errors.min(1), true, worker.ctx.clock.chance());
                errors += 1;
                tracing::warn!(error = %e, "jobs cannot be leased now: the ledger gives them meanwhile");
                fallback::run(worker, &mut lanes, pause, &pulse).await;
                continue;
            }
        };
        let handed_out = hand_out(worker, &mut lanes, leased, &mut owed).await;
        pulse.waits();
        match handed_out {
            Ok(0) => {
                errors = 0;
                worker.shutdown.unless_stopping(tokio::time::timeout(idle, worker.ctx.jobs.notified())).await;
                idle = (idle * 2).min(Duration::from_millis(250));
            }
            Ok(_) => {
                idle = Duration::from_millis(5);
                errors = 0;
            }
            Err(e) => {
                let pause = loop_delay(errors, e.is_transient(), worker.ctx.clock.chance());
                errors += 1;
                tracing::warn!(error = %e, pause_ms = pause.as_millis(), "jobs cannot be worked on now");
                worker.shutdown.unless_stopping(tokio::time::sleep(pause)).await;
            }
        }
    }
}

/// Leases jobs; what stands in `owed` after an error of the last turn is given back before.
async fn lease(worker: &Worker, room: usize, owed: &mut Vec<(Token, Verdict)>) -> engines::error::Result<Vec<Leased>> {
    let ctx = &worker.ctx;
    let now = ctx.clock.now();
    if !owed.is_empty() {
        ctx.queue.settle(LIST, &ctx.owner, owed, now).await?;
        owed.clear();
    }
    let leased = ctx.queue.lease(LIST, &ctx.owner, room, worker.lease(), now).await?;
    ctx.metrics.worker.leased.inc_by(leased.len() as u64);
    Ok(leased)
}

/// Hands leased jobs to their accounts' lanes; how many were leased.
async fn hand_out(
    worker: &Arc<Worker>,
    lanes: &mut lane::Lanes,
    leased: Vec<Leased>,
    owed: &mut Vec<(Token, Verdict)>,
) -> engines::error::Result<usize> {
    let ctx = &worker.ctx;
    let now = ctx.clock.now();
    let count = leased.len();
    if leased.is_empty() {
        return Ok(0);
    }
    fault_point::reach("leased").await;
    // A ledger that does not answer is no job's fault: without this their leases would have to end first, and count.
    owed.extend(leased.iter().map(|job| (job.token, Verdict::RetryAt(now))));
    let fetched_at = Instant::now();
    let (mut verdicts, ready) = take_in(worker, leased).await?;
    owed.clear();
    fault_point::reach("fetched").await;
    // Probes that do not get to their lanes: another send may go for them.
    let mut missed = Vec::new();
    for (leased, job) in ready {
        let (token, send_id) = (leased.token, job.send_id);
        let probed = (job.breaker == Breaker::HalfOpen).then_some(job.account.0);
        let Ok(permit) = Arc::clone(&worker.room).try_acquire_owned() else {
            verdicts.push((token, Verdict::RetryAt(now)));
            missed.extend(probed);
            continue;
        };
        if !worker.hold(send_id, Some(token)) {
            // Another hint of a send that is in work here: the first one ends it.
            verdicts.push((token, Verdict::Ack));
            missed.extend(probed);
            continue;
        }
        let urgent = LIST.lane(leased.priority) == engines::queue::Lane::High;
        let item =
            Item { token: Some(token), job, fetched_at, poison: leased.expirations >= POISON, urgent, _room: permit };
        if let Err(lane::Full(wait)) = lanes.dispatch(worker, item) {
            // One slow account must not fill the worker.
            worker.release(send_id);
            verdicts.push((token, Verdict::RetryAt(now + ctx.clock.span(wait))));
            missed.extend(probed);
        }
    }
    probe::end(worker, missed).await;
    if !verdicts.is_empty()
        && let Err(e) = ctx.queue.settle(LIST, &ctx.owner, &verdicts, ctx.clock.now()).await
    {
        // A queue that does not answer is no job's fault either.
        owed.extend(verdicts);
        return Err(e);
    }
    Ok(count)
}

/// What the leased jobs are. Where the ledger refuses them together, each is taken alone, so that one bad row of another
/// program holds up no other job.
async fn take_in(worker: &Arc<Worker>, leased: Vec<Leased>) -> engines::error::Result<Taken> {
    let ctx = &worker.ctx;
    match Intake::take(worker, leased.clone()).await {
        Err(e) if !e.is_transient() => {}
        taken => return taken,
    }
    let mut all = Taken::default();
    for job in leased {
        match Intake::take(worker, vec![job.clone()]).await {
            Ok((verdicts, ready)) => {
                all.0.extend(verdicts);
                all.1.extend(ready);
            }
            Err(e) if e.is_transient() => return Err(e),
            Err(e) if job.expirations >= POISON => {
                dead_letter::bury(ctx, LIST, &[(&job, format!("cannot be worked on: {e}"))]).await?;
                all.0.push((job.token, Verdict::Ack));
            }
            // Its lease ends by time, which counts.
            Err(e) => tracing::error!(job_id = %job.token.id, error = %e, "a job cannot be worked on"),
        }
    }
    Ok(all)
}

/// Lengthens the leases of jobs in work, well before they end.
async fn extend_leases(worker: Arc<Worker>) {
    let ctx = &worker.ctx;
    let pulse = ctx.liveness.pulse(Loop::Extend);
    loop {
        pulse.waits();
        tokio::time::sleep(ctx.config.settings.worker.lease.0 / 3).await;
        pulse.works();
        probe::keep(&worker).await;
        let tokens: Vec<Token> = worker.held().values().copied().flatten().collect();
        if tokens.is_empty() {
            continue;
        }
        match ctx.queue.extend(LIST, &ctx.owner, &tokens, worker.lease(), ctx.clock.now()).await {
            Ok(stale) if stale.is_empty() => {}
            // No harm: only the fence decides who sends.
            Ok(stale) => {
                ctx.metrics.worker.leases_lost.inc_by(stale.len() as u64);
                tracing::debug!(count = stale.len(), "leases were lost");
            }
            Err(e) => tracing::warn!(error = %e, "leases cannot be extended now"),
        }
    }
}

impl Worker {
    /// Process time that a lease lasts; it is extended while its job is in work.
    fn lease(&self) -> Duration {
        self.ctx.clock.span(self.ctx.config.settings.worker.lease.0)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<SendId, Option<Token>>> {
        self.in_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a send into work; false where it is already.
    fn hold(&self, send_id: SendId, token: Option<Token>) -> bool {
        let mut held = self.held();
        if held.contains_key(&send_id) {
            return false;
        }
        held.insert(send_id, token);
        self.count(&held);
        true
    }

    /// Whether it is in work.
    fn holds(&self, send_id: SendId) -> bool {
        self.held().contains_key(&send_id)
    }

    fn release(&self, send_id: SendId) {
        let mut held = self.held();
        held.remove(&send_id);
        self.count(&held);
    }

    fn count(&self, held: &HashMap<SendId, Option<Token>>) {
        self.ctx.metrics.worker.in_work.set(i64::try_from(held.len()).unwrap_or(i64::MAX));
    }
}
