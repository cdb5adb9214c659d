//! Results (P7): collected from all connections, kept in the journal, written in group commits, then acknowledged at the
//! queue.
//!
//! A result is never dropped: while the database does not answer it stays in memory and in the journal. Two tasks, so that
//! a result reaches the journal while the batch before it is being committed. Not responsible for deciding what a result
//! does, or for those that the database does not take (`refused`). To add something that must follow a result: `log`.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use domain::ids::SendId;
use domain::reason::Reason;
use domain::send::SendStatus;
use domain::settle::loop_delay;
use engines::queue::{Token, Verdict};
use engines::store::apply::{Applied, Settled, Written};
use engines::store::refusals::Paused;
use engines::store::restored::Committed;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::LIST;
use super::gate::{Shut, Why};
use super::journal::{self, Journal, Kept};
use super::refused::{self, Refused};
use super::vital::Vital;
use crate::context::Context;
use crate::fault_point;
use crate::liveness::{Loop, Pulse};
use crate::metrics::word;
use crate::telemetry::JOBS;

/// Most results that reach the journal at once.
const BATCH: usize = 256;
/// Most such batches in one transaction.
const BATCHES: usize = 8;
/// Most jobs that go back as soon as the queue answers.
const OWED: usize = 10_000;
/// Real time without a result after which the journal is cleared, or found whole again.
const TIDY: Duration = Duration::from_secs(1);

/// What ends a job.
pub(super) struct Ending {
    /// None where the job came from the ledger itself, so that the queue knows nothing of it.
    pub(super) token: Option<Token>,
    /// What the ledger learns; none where it knows already or nothing happened.
    pub(super) settled: Option<Settled>,
    /// What the queue learns.
    pub(super) verdict: Verdict,
    /// Told when all is written.
    pub(super) done: oneshot::Sender<()>,
}

/// Endings on their way to the ledger, and where their results are kept until then.
struct Batch {
    endings: Vec<Ending>,
    settled: Vec<Settled>,
    /// None where there is no result, or the journal is broken.
    kept: Option<Kept>,
}

/// The lanes' end.
pub(super) struct Results {
    queue: mpsc::Sender<Ending>,
    /// Where results are kept once a task behind it has ended.
    last_resort: LastResort,
    /// Results that were handed over, or are refused, and are not written yet.
    open: Arc<AtomicUsize>,
    /// Whether the queue answers, so that it is worth telling it anything.
    acknowledges: Arc<AtomicBool>,
}

/// Starts the two tasks behind it.
pub(super) fn start(ctx: &Arc<Context>, gate: &Shut, vital: &mut Vital) -> Results {
    let (sender, queue) = mpsc::channel(BATCH * 4);
    let (batches, kept) = mpsc::channel(BATCHES);
    let (acknowledges, open) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    vital.start("journal", keep(Arc::clone(ctx), queue, batches, gate.clone()));
    vital.start("results", write(Arc::clone(ctx), kept, Arc::clone(&acknowledges), Arc::clone(&open)));
    let last_resort = LastResort { folder: journal::folder(ctx), owner: ctx.owner.clone() };
    Results { queue: sender, last_resort, open, acknowledges }
}

impl Results {
    /// Hands a result over; it returns when the result is durable.
    pub(super) async fn write(&self, token: Option<Token>, settled: Option<Settled>, verdict: Verdict) {
        let (done, written) = oneshot::channel();
        self.open.fetch_add(1, Ordering::AcqRel);
        let copy = settled.clone();
        let is_written = match self.queue.send(Ending { token, settled, verdict, done }).await {
            Ok(()) => written.await.is_ok(),
            Err(_) => false,
        };
        // Whether it reached the journal, nobody can say: written down twice it does no harm.
        if !is_written && let Some(result) = copy {
            self.last_resort.keep(result).await;
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// Says whether the queue answers: while it does not, results do not wait for it.
    pub(super) fn acknowledge(&self, answers: bool) {
        self.acknowledges.store(answers, Ordering::Release);
    }

    /// Waits for results that are still on their way to be written; false where some are not in time, and the journal
    /// keeps them.
    pub(super) async fn finish(&self, grace: Duration) -> bool {
        let drained = async {
            while self.open.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(grace, drained).await.is_ok()
    }
}

/// The journal of a worker whose own tasks have ended by a fault of ours.
struct LastResort {
    folder: PathBuf,
    owner: String,
}

impl LastResort {
    /// Keeps one result in a file of its own, that the next worker on this directory writes down.
    async fn keep(&self, result: Settled) {
        let (folder, owner, send_id) = (self.folder.clone(), self.owner.clone(), result.send_id);
        let kept = tokio::task::spawn_blocking(move || Journal::apart(folder, &owner, send_id).append(&[result])).await;
        match kept {
            Ok(Ok(_)) => tracing::error!(%send_id, "its result is kept for the next worker on this directory"),
            _ => tracing::error!(%send_id, "its result cannot be kept: it is unknown"),
        }
    }
}

/// Keeps results in the journal, then hands them to the writer.
async fn keep(ctx: Arc<Context>, mut queue: mpsc::Receiver<Ending>, batches: mpsc::Sender<Batch>, gate: Shut) {
    let mut journal = Journal::new(journal::folder(&ctx), &ctx.owner);
    let pulse = ctx.liveness.pulse(Loop::Journal);
    loop {
        let mut endings: Vec<Ending> = Vec::new();
        let received = tokio::time::timeout(TIDY, queue.recv_many(&mut endings, BATCH)).await;
        if received == Ok(0) {
            return;
        }
        pulse.works();
        let settled: Vec<Settled> = endings.iter_mut().filter_map(|ending| ending.settled.take()).collect();
        if !settled.is_empty() {
            fault_point::reach("journaling").await;
        }
        let (kept, settled, back) = append(journal, settled).await;
        journal = back;
        if let Err(e) = &kept {
            ctx.metrics.worker.journal_failures.inc();
            tracing::error!(error = %e, "no dot is written while the journal cannot be (hint: is the disk full?)");
        }
        gate.set(Why::Journal, kept.is_err());
        if !endings.is_empty() {
            let kept = kept.ok().flatten();
            if kept.is_some() {
                fault_point::reach("journaled").await;
            }
            if batches.send(Batch { endings, settled, kept }).await.is_err() {
                return;
            }
        }
        pulse.waits();
    }
}

/// Off the tasks that answer servers: a file system may take its time.
async fn append(mut journal: Journal, results: Vec<Settled>) -> (io::Result<Option<Kept>>, Vec<Settled>, Journal) {
    let written = tokio::task::spawn_blocking(move || {
        let kept = if results.is_empty() { journal.rest().map(|()| None) } else { journal.append(&results).map(Some) };
        (kept, results, journal)
    });
    written.await.expect("appending has no way to panic, and the runtime outlives its tasks")
}

/// Writes to the ledger what has come meanwhile, in one transaction, and what was refused where it is time again.
async fn write(
    ctx: Arc<Context>,
    mut batches: mpsc::Receiver<Batch>,
    acknowledges: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
) {
    let pulse = ctx.liveness.pulse(Loop::Results);
    let mut come: Vec<Batch> = Vec::with_capacity(BATCHES);
    let mut refused = Refused::default();
    let mut owed: Vec<(Token, Verdict)> = Vec::new();
    while receive(&mut batches, &mut come, again_at(&refused, &owed)).await {
        pulse.works();
        let before = refused.count();
        let (mut settled, mut kept) = refused.take_due(Instant::now());
        let mut endings: Vec<Ending> = Vec::new();
        for batch in come.drain(..) {
            endings.extend(batch.endings);
            settled.extend(batch.settled);
            kept.extend(batch.kept);
        }
        let told = settle(&ctx, &settled, &kept, &pulse).await;
        refused.keep(told.refused, kept, Instant::now(), ctx.clock.chance());
        open.fetch_add(refused.count(), Ordering::AcqRel);
        open.fetch_sub(before, Ordering::AcqRel);
        fault_point::reach("applied").await;
        owed.extend(endings.iter().filter_map(|ending| Some((ending.token?, ending.verdict))));
        if acknowledges.load(Ordering::Acquire) {
            acknowledge(&ctx, &mut owed).await;
        } else {
            keep_what_goes_back(&mut owed);
        }
        show_dead_letters(&ctx, &told.buried).await;
        for ending in endings {
            let _lane_gone = ending.done.send(());
        }
        pulse.waits();
    }
}

/// When there is something to do without a batch.
fn again_at(refused: &Refused, owed: &[(Token, Verdict)]) -> Option<Instant> {
    let telling = (!owed.is_empty()).then(|| Instant::now() + TIDY);
    refused.again_at().into_iter().chain(telling).min()
}

/// Waits for batches, no longer than until `again_at`; false where none can come any more.
async fn receive(batches: &mut mpsc::Receiver<Batch>, come: &mut Vec<Batch>, again_at: Option<Instant>) -> bool {
    let received = batches.recv_many(come, BATCHES);
    match again_at {
        None => received.await > 0,
        Some(at) => tokio::time::timeout_at(at, received).await != Ok(0),
    }
}

/// Tells the queue. What it does not hear is owed: a job that goes back would lose its lease by time, which counts
/// against it. That one is done, the ledger knows: a lost acknowledgement only brings a hint that P3 drops.
async fn acknowledge(ctx: &Context, owed: &mut Vec<(Token, Verdict)>) {
    if owed.is_empty() {
        return;
    }
    match ctx.queue.settle(LIST, &ctx.owner, owed, ctx.clock.now()).await {
        Ok(_) => owed.clear(),
        Err(e) => {
            tracing::warn!(error = %e, count = owed.len(), "jobs cannot be acknowledged now");
            keep_what_goes_back(owed);
        }
    }
}

/// Forgets what is done, and of the rest the oldest where there is too much.
fn keep_what_goes_back(owed: &mut Vec<(Token, Verdict)>) {
    owed.retain(|(_, verdict)| *verdict != Verdict::Ack);
    owed.drain(..owed.len().saturating_sub(OWED));
}

/// What came of results.
#[derive(Default)]
struct Told {
    /// Sends that became dead letters.
    buried: Vec<SendId>,
    /// Results that the ledger took in no form.
    refused: Vec<Settled>,
}

/// Writes results down, those that are refused as held.
async fn settle(ctx: &Context, settled: &[Settled], kept: &[Kept], pulse: &Pulse) -> Told {
    let mut told = write_down(ctx, settled, kept, pulse).await;
    let aside: Vec<Settled> = told.refused.iter().map(refused::aside).collect();
    let still: HashSet<SendId> = write_down(ctx, &aside, kept, pulse).await.refused.iter().map(|r| r.send_id).collect();
    told.refused.retain(|result| still.contains(&result.send_id));
    if !told.refused.is_empty() {
        tracing::error!(
            count = told.refused.len(),
            "results are kept: the database takes them in no form (hint: what it said stands above)"
        );
    }
    told
}

/// Writes results, counts and logs them.
async fn write_down(ctx: &Context, settled: &[Settled], kept: &[Kept], pulse: &Pulse) -> Told {
    let mut told = Told::default();
    if settled.is_empty() {
        return told;
    }
    let written = apply(ctx, settled, kept, pulse).await;
    warn_of(ctx, &written.paused);
    told.refused.extend(refused::among(settled, &written.applied).cloned());
    for (result, applied) in settled.iter().zip(written.applied) {
        count(ctx, result, applied);
        log(ctx, result, applied);
        if applied == Applied::Done && result.was_dot {
            let (send_id, campaign_id, fence) = (result.send_id, result.campaign_id, result.fence);
            ctx.witness.has_committed(Committed { send_id, campaign_id, fence, is_settled: true });
        }
        if applied == Applied::Done && result.transition.dead_letter {
            told.buried.push(result.send_id);
        }
    }
    told
}

/// Writes results; tries until the database takes them.
async fn apply(ctx: &Context, results: &[Settled], kept: &[Kept], pulse: &Pulse) -> Written {
    let new_id = || ctx.clock.uuid_v7();
    let mut errors = 0;
    loop {
        // Each try has to end in time; that there are many is not the loop's fault.
        pulse.works();
        match ctx.store.system().apply(results, &ctx.owner, &new_id, ctx.clock.now()).await {
            Ok(written) => return written,
            Err(e) => {
                if errors == 0 {
                    // It may be away for long: from now on they outlive the host too.
                    for batch in kept {
                        batch.sync().await;
                    }
                }
                // Each try is short, and a day's mail may wait for it: never the long pauses of a fault of ours.
                let pause = loop_delay(errors, true, ctx.clock.chance());
                errors += 1;
                tracing::warn!(error = %e, count = results.len(), "results are kept: the database does not take them");
                pulse.waits();
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Says what refusals have paused: a person has to look.
pub(super) fn warn_of(ctx: &Context, paused: &[Paused]) {
    let counts = &ctx.metrics.worker.auto_paused;
    let why = Reason::RefusalRate.for_people();
    for one in paused {
        match one {
            Paused::Campaign(campaign_id) => {
                counts.inc(["campaign"]);
                tracing::warn!(%campaign_id, "a campaign is paused: {why}");
            }
            Paused::EmailAccount(email_account_id) => {
                counts.inc(["email_account"]);
                tracing::warn!(%email_account_id, "an email account is paused: {why}");
            }
        }
    }
}

/// Counts what a result did to its send.
pub(super) fn count(ctx: &Context, result: &Settled, applied: Applied) {
    let metrics = &ctx.metrics.worker;
    match applied {
        Applied::Done => {}
        Applied::Stale => {
            metrics.stale.inc();
            return;
        }
        Applied::Refused => return,
    }
    let (transition, reason) = (&result.transition, word(result.transition.reason));
    metrics.settled.inc([transition.status.as_str(), reason]);
    if transition.unknown {
        metrics.unknown.inc();
    }
    if transition.dead_letter {
        metrics.dead_letters.inc([LIST.name(), reason]);
    }
}

/// Shows the letters of sends that failed for good to other programs.
async fn show_dead_letters(ctx: &Context, sends: &[SendId]) {
    if sends.is_empty() {
        return;
    }
    match ctx.store.system().dead_letters_of(sends).await {
        Ok(letters) => crate::dead_letter::show(ctx, &letters).await,
        Err(e) => tracing::warn!(error = %e, "copies of dead letters cannot be shown now"),
    }
}

fn log(ctx: &Context, result: &Settled, applied: Applied) {
    match applied {
        Applied::Done => {}
        Applied::Stale => {
            tracing::warn!(send_id = %result.send_id, "a result changed nothing: the send was settled before");
            return;
        }
        // The store has said why.
        Applied::Refused => return,
    }
    let status = result.transition.status;
    let reason = result.transition.reason.map(Reason::as_str);
    let attempt = result.attempt.as_ref();
    // Ids alone, unless the operator asked for addresses.
    let to = result.message.as_ref().filter(|_| ctx.config.log_addresses).map(|m| m.to.as_str());
    if status == SendStatus::Sent {
        let message_id = result.message.as_ref().map(|m| m.message_id.as_str());
        tracing::info!(target: JOBS, send_id = %result.send_id, message_id, status = %status, to, "Sent");
    } else {
        tracing::info!(
            target: JOBS,
            send_id = %result.send_id, status = %status, reason, to,
            stage = attempt.map(|a| &*a.stage), code = attempt.and_then(|a| a.code),
            enhanced = attempt.and_then(|a| a.enhanced.as_deref()),
            "Not sent"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::abandoned::{abandoned, journals};
    use super::super::journal::tests::result;
    use super::*;

    fn of(folder: &tempfile::TempDir, queue: mpsc::Sender<Ending>) -> Results {
        let last_resort = LastResort { folder: folder.path().into(), owner: "w".into() };
        Results { queue, last_resort, open: Arc::default(), acknowledges: Arc::default() }
    }

    #[test]
    fn of_what_the_queue_did_not_hear_what_goes_back_is_kept() {
        let token = |number| Token { id: uuid::Uuid::nil(), number };
        let now = domain::time::Timestamp::EPOCH;
        let back = |number| (token(number), Verdict::RetryAt(now));
        let mut owed = vec![back(1), (token(2), Verdict::Ack), back(3)];
        keep_what_goes_back(&mut owed);
        assert_eq!(owed, [back(1), back(3)]);
        owed.extend((4..).take(OWED).map(back));
        keep_what_goes_back(&mut owed);
        assert_eq!((owed.len(), owed[0]), (OWED, back(4)), "the oldest go first");
    }

    #[tokio::test]
    async fn a_result_outlives_the_tasks_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (gone, _) = mpsc::channel(1);
        of(&folder, gone).write(None, Some(result(1)), Verdict::Ack).await;
        let (sender, mut queue) = mpsc::channel(1);
        let results = of(&folder, sender);
        // As a panic does with what it had in hand.
        tokio::join!(results.write(None, Some(result(2)), Verdict::Ack), async { drop(queue.recv().await) });
        assert!(results.finish(Duration::ZERO).await, "nothing waits for them");
        let left = abandoned(journals(folder.path()));
        let mut ids: Vec<_> = left.iter().flat_map(|file| &file.results).map(|result| result.send_id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [result(1).send_id, result(2).send_id]);
        assert!(left.iter().all(|file| file.owner == "w"));
    }
}
