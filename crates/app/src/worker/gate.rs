//! The dot gate (P5): collects the requests of all connections and records their intents in group commits.
//!
//! No artificial wait: a round takes what is queued. After a COMMIT in doubt no dot is written, and the intents are
//! taken back until the database answers. Where it refuses a batch for a reason of its own, each is asked for alone, so that
//! one bad row takes no other along. Not responsible for the checks themselves (`store::dot`).
//! To add a reason to keep it shut for everybody: a bit in `Why`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::ids::SendId;
use domain::reason::Reason;
use domain::settle::loop_delay;
use domain::time::Timestamp;
use engines::store::dot::{DotAnswer, DotRequest};
use engines::store::restored::Committed;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::vital::Vital;
use crate::context::Context;
use crate::fault_point;
use crate::liveness::{Loop, Pulse};
use crate::recipients;

/// Most intents in one transaction.
const BATCH: usize = 256;
/// A heartbeat that could not be written for so long: nobody may think that we are alive, so no dot is written.
pub(super) const TOO_QUIET: Duration = Duration::from_secs(9);
/// An intent whose answer took so long is taken back: with the three seconds that the last heartbeat was old, more would
/// be too quiet, and others may judge it by now.
const TOO_LATE: Duration = Duration::from_secs(6);

/// Refusals in a row by the database itself after which a send is held for a person: what stands against all sends for a
/// moment is to hold none.
const REFUSALS: u32 = 3;
/// Most sends whose refusals are counted.
const MOST_REFUSALS: usize = 10_000;

/// The gate's answer to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The intent is durable; the fence goes with the result. The days of `at` are charged.
    Granted { fence: i64, at: Timestamp },
    /// The ledger says no, and holds why.
    Refused,
    /// What the message was made of was changed meanwhile.
    Outdated,
    /// Nobody could be asked: try again later.
    Unavailable,
    /// The database takes no intent of this send, for a reason of its own.
    NotTaken,
}

type Request = (DotRequest, oneshot::Sender<Answer>);

/// The connections' end.
pub(super) struct Gate {
    ctx: Arc<Context>,
    requests: mpsc::Sender<Request>,
    /// Shut for everybody.
    pub(super) shut: Shut,
}

/// Why the gate is shut for everybody.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// The journal cannot be written.
    Journal = 1,
    /// A task that the worker needs has ended: what its dialogues come to may be kept by nobody.
    Vital = 2,
    /// The ledger has lost what was committed to it: what it grants may have been sent.
    WentBack = 4,
}

/// Whether, and why, no dot may be written; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Shut(Arc<Reasons>);

#[derive(Debug)]
struct Reasons {
    bits: AtomicU8,
    /// When the last heartbeat was begun that was written.
    beat_at: Mutex<Instant>,
}

impl Default for Shut {
    fn default() -> Self {
        Self(Arc::new(Reasons { bits: AtomicU8::new(0), beat_at: Mutex::new(Instant::now()) }))
    }
}

impl Shut {
    /// Sets one reason; the gate is open when none is left.
    pub(super) fn set(&self, why: Why, holds: bool) {
        if holds {
            self.0.bits.fetch_or(why as u8, Ordering::AcqRel);
        } else {
            self.0.bits.fetch_and(!(why as u8), Ordering::AcqRel);
        }
    }

    /// Whether this reason holds.
    pub(super) fn has(&self, why: Why) -> bool {
        self.0.bits.load(Ordering::Acquire) & why as u8 != 0
    }

    /// A heartbeat that was begun then is written.
    pub(super) fn beat_at(&self, at: Instant) {
        *self.last_beat() = at;
    }

    /// Also where the heartbeat stands still, by the clock alone: a process that was stopped knows it before its next one.
    pub(super) fn is_shut(&self) -> bool {
        self.0.bits.load(Ordering::Acquire) != 0 || self.last_beat().elapsed() >= TOO_QUIET
    }

    fn last_beat(&self) -> MutexGuard<'_, Instant> {
        self.0.beat_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn start(ctx: &Arc<Context>, vital: &mut Vital) -> Gate {
    let (requests, queue) = mpsc::channel(BATCH * 4);
    vital.start("gate", run(Arc::clone(ctx), vital.gate(), queue));
    Gate { ctx: Arc::clone(ctx), requests, shut: vital.gate() }
}

impl Gate {
    /// Asks for one dot.
    pub(super) async fn ask(&self, request: DotRequest) -> Answer {
        let (metrics, asked) = (&self.ctx.metrics.worker, Instant::now());
        let answer = self.ask_ledger(request).await;
        metrics.intent.observe(asked.elapsed());
        metrics.intents.inc([match answer {
            Answer::Granted { .. } => "granted",
            Answer::Refused | Answer::Outdated => "refused",
            Answer::Unavailable => "unavailable",
            Answer::NotTaken => "not_taken",
        }]);
        answer
    }

    async fn ask_ledger(&self, request: DotRequest) -> Answer {
        if self.shut.is_shut() {
            return Answer::Unavailable;
        }
        let (reply, answer) = oneshot::channel();
        if self.requests.send((request, reply)).await.is_err() {
            return Answer::Unavailable;
        }
        answer.await.unwrap_or(Answer::Unavailable)
    }
}

async fn run(ctx: Arc<Context>, shut: Shut, mut queue: mpsc::Receiver<Request>) {
    let mut batch: Vec<Request> = Vec::with_capacity(BATCH);
    let mut refusals = Refusals::default();
    let pulse = ctx.liveness.pulse(Loop::Gate);
    let asking = Arc::new(Semaphore::new(1));
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        pulse.works();
        fault_point::reach("intending").await;
        let (requests, replies): (Vec<DotRequest>, Vec<_>) = batch.drain(..).unzip();
        let began = Instant::now();
        let mut answers = intend(&ctx, &requests, &mut refusals, &pulse).await;
        if began.elapsed() >= TOO_LATE || shut.is_shut() {
            // Before anybody hears it: a process that ends when all have heard leaves none behind.
            take_back(&ctx, &requests, &mut answers, &pulse).await;
        }
        let mut in_vain = Vec::new();
        for ((request, reply), answer) in requests.iter().zip(replies).zip(&answers) {
            // Where nobody hears it, its job panicked: no dot follows.
            if reply.send(*answer).is_err() && is_granted(answer) {
                in_vain.push(request.clone());
            }
        }
        if !in_vain.is_empty() {
            withdraw(&ctx, &in_vain, &pulse).await;
        }
        let outdated = answers.iter().filter(|answer| **answer == Answer::Outdated).count() as u64;
        ctx.metrics.worker.intents_refused.add(["outdated"], outdated);
        let refused = requests.into_iter().zip(answers).filter(|(_, answer)| *answer == Answer::Refused);
        let refused: Vec<DotRequest> = refused.map(|(request, _)| request).collect();
        match Arc::clone(&asking).try_acquire_owned() {
            // Beside the gate: no dot waits for it.
            Ok(turn) if !refused.is_empty() => {
                let ctx = Arc::clone(&ctx);
                tokio::spawn(async move {
                    count_refusals(&ctx, &refused).await;
                    drop(turn);
                });
            }
            Ok(_) => {}
            Err(_) => ctx.metrics.worker.intents_refused.add(["not_known"], refused.len() as u64),
        }
        pulse.waits();
    }
}

fn is_granted(answer: &Answer) -> bool {
    matches!(answer, Answer::Granted { .. })
}

/// Takes those back that were granted too late: no dot follows.
async fn take_back(ctx: &Context, requests: &[DotRequest], answers: &mut [Answer], pulse: &Pulse) {
    let mut granted = Vec::new();
    for (request, answer) in requests.iter().zip(answers).filter(|(_, answer)| is_granted(answer)) {
        granted.push(request.clone());
        *answer = Answer::Unavailable;
    }
    if !granted.is_empty() {
        withdraw(ctx, &granted, pulse).await;
    }
}

/// Asks why, after nobody waits for it any more.
async fn count_refusals(ctx: &Context, refused: &[DotRequest]) {
    let counts = &ctx.metrics.worker.intents_refused;
    match ctx.store.system().why_refused(refused, ctx.clock.now()).await {
        Ok(reasons) => {
            reasons.iter().for_each(|reason| counts.inc([reason.map_or("superseded", Reason::as_str)]));
            if reasons.contains(&Some(Reason::ProviderCap)) {
                look_up_recipients(ctx, refused).await;
            }
        }
        Err(e) => {
            counts.add(["not_known"], refused.len() as u64);
            tracing::debug!(error = %e, count = refused.len(), "nobody can say why dots were refused");
        }
    }
}

/// Limits may have come after the plan: whose these recipients are was asked by nobody then.
async fn look_up_recipients(ctx: &Context, refused: &[DotRequest]) {
    let unknown = match ctx.store.system().unknown_domains(refused, ctx.clock.now()).await {
        Ok(domains) => recipients::look_up(ctx, domains).await,
        Err(e) => Err(e),
    };
    if let Err(e) = unknown {
        tracing::warn!(error = %e, "recipients' domains cannot be looked up now");
    }
}

/// Asks for all at once, and where the database refuses that for a reason of its own, for each alone.
async fn intend(ctx: &Context, requests: &[DotRequest], refusals: &mut Refusals, pulse: &Pulse) -> Vec<Answer> {
    match record(ctx, requests, pulse).await {
        Ok(answers) => {
            refusals.forget(requests);
            answers
        }
        Err(e) if is_about_one(&e) => one_by_one(ctx, requests, refusals, pulse).await,
        Err(_) => vec![Answer::Unavailable; requests.len()],
    }
}

/// Whether one row may be to blame, and the others may go.
fn is_about_one(e: &engines::Error) -> bool {
    !e.is_transient() && !e.is_went_back()
}

async fn one_by_one(ctx: &Context, requests: &[DotRequest], refusals: &mut Refusals, pulse: &Pulse) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        pulse.works();
        match record(ctx, std::slice::from_ref(request), pulse).await {
            Ok(one) => {
                refusals.forget(std::slice::from_ref(request));
                answers.extend(one);
            }
            Err(e) if is_about_one(&e) => answers.push(refusals.count(request.send_id)),
            Err(_) => break,
        }
    }
    answers.resize(requests.len(), Answer::Unavailable);
    answers
}

/// Records intents in one transaction; after an error none of them is there, or they have been taken back.
async fn record(ctx: &Context, requests: &[DotRequest], pulse: &Pulse) -> engines::error::Result<Vec<Answer>> {
    let (warmup, known) = (&ctx.config.settings.email_account.warmup, ctx.witness.of_sends());
    let now = ctx.clock.now();
    let recorded = ctx.store.system().dot_intent(requests, &ctx.owner, warmup, &known, now).await;
    match recorded {
        Ok(answers) => {
            Ok(requests.iter().zip(answers).map(|(request, answer)| answered(ctx, request, answer, now)).collect())
        }
        Err(e) => {
            let send_id = (requests.len() == 1).then(|| tracing::field::display(requests[0].send_id));
            tracing::warn!(error = %e, count = requests.len(), send_id, "no dot is written: the intent cannot be recorded");
            if e.is_commit_in_doubt() {
                withdraw(ctx, requests, pulse).await;
            }
            if e.is_went_back() {
                ctx.witness.doubts.notify_one();
            }
            Err(e)
        }
    }
}

fn answered(ctx: &Context, request: &DotRequest, answer: DotAnswer, at: Timestamp) -> Answer {
    match answer {
        DotAnswer::Granted { fence } => {
            let (send_id, campaign_id) = (request.send_id, request.campaign_id);
            ctx.witness.has_committed(Committed { send_id, campaign_id, fence, is_settled: false });
            Answer::Granted { fence, at }
        }
        DotAnswer::Refused => Answer::Refused,
        DotAnswer::Outdated => Answer::Outdated,
    }
}

/// Sends whose intents the database refused for a reason of its own, and how often in a row.
#[derive(Default)]
struct Refusals(HashMap<SendId, u32>);

impl Refusals {
    /// One more; a person has to look at the last.
    fn count(&mut self, send_id: SendId) -> Answer {
        if self.0.len() >= MOST_REFUSALS {
            self.0.clear();
        }
        let times = self.0.entry(send_id).or_default();
        *times += 1;
        if *times < REFUSALS {
            return Answer::Unavailable;
        }
        self.0.remove(&send_id);
        Answer::NotTaken
    }

    /// The database took these, or said no as it should.
    fn forget(&mut self, requests: &[DotRequest]) {
        for request in requests {
            self.0.remove(&request.send_id);
        }
    }
}

/// Takes intents back until the database answers: without an answer nobody knows whether they are there.
async fn withdraw(ctx: &Context, requests: &[DotRequest], pulse: &Pulse) {
    for errors in 0.. {
        pulse.works();
        match ctx.store.system().withdraw(requests, &ctx.owner, ctx.clock.now()).await {
            Ok(_) => return,
            Err(e) => {
                let pause = loop_delay(errors, true, ctx.clock.chance());
                tracing::warn!(error = %e, "an intent in doubt cannot be taken back yet");
                pulse.waits();
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_given_up_at_its_third_refusal_in_a_row() {
        let (mut refusals, send_id) = (Refusals::default(), SendId::from_uuid(uuid::Uuid::from_u128(1)));
        let another = SendId::from_uuid(uuid::Uuid::from_u128(2));
        let answers: Vec<Answer> = [send_id, another, send_id, send_id, send_id].map(|id| refusals.count(id)).into();
        let (later, over) = (Answer::Unavailable, Answer::NotTaken);
        assert_eq!(answers, [later, later, later, over, later]);
    }
}
