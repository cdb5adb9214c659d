//! The dot gate (P5): collects the requests of all connections and records their intents in group commits.
//!
//! No artificial wait: a round takes what is queued. After a COMMIT in doubt no dot is written, and the intents are
//! taken back until the database answers. Not responsible for the checks themselves (`store::dot`).
//! To add a reason to keep it shut for everybody: a bit in `Why`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use domain::reason::Reason;
use domain::settle::loop_delay;
use engines::store::dot::{DotAnswer, DotRequest};
use tokio::sync::{mpsc, oneshot};

use super::vital::Vital;
use crate::context::Context;
use crate::fault_point;
use crate::liveness::{Loop, Pulse};

/// Most intents in one transaction.
const BATCH: usize = 256;

/// The gate's answer to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The intent is durable; the fence goes with the result.
    Granted(i64),
    /// The ledger says no, and holds why.
    Refused,
    /// Nobody could be asked: try again later.
    Unavailable,
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
    /// Our heartbeat stands still: others may take us for dead.
    Heartbeat = 1,
    /// The journal cannot be written.
    Journal = 2,
    /// A task that the worker needs has ended: what its dialogues come to may be kept by nobody.
    Vital = 4,
}

/// Whether, and why, no dot may be written; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shut(Arc<AtomicU8>);

impl Shut {
    /// Sets one reason; the gate is open when none is left.
    pub(super) fn set(&self, why: Why, holds: bool) {
        if holds {
            self.0.fetch_or(why as u8, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!(why as u8), Ordering::AcqRel);
        }
    }

    fn is_shut(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

pub(super) fn start(ctx: &Arc<Context>, vital: &mut Vital) -> Gate {
    let (requests, queue) = mpsc::channel(BATCH * 4);
    vital.add("gate", tokio::spawn(run(Arc::clone(ctx), queue)));
    Gate { ctx: Arc::clone(ctx), requests, shut: Shut::default() }
}

impl Gate {
    /// Asks for one dot.
    pub(super) async fn ask(&self, request: DotRequest) -> Answer {
        let (metrics, asked) = (&self.ctx.metrics.worker, Instant::now());
        let answer = self.ask_ledger(request).await;
        metrics.intent.observe(asked.elapsed());
        metrics.intents.inc([match answer {
            Answer::Granted(_) => "granted",
            Answer::Refused => "refused",
            Answer::Unavailable => "unavailable",
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

async fn run(ctx: Arc<Context>, mut queue: mpsc::Receiver<Request>) {
    let mut batch: Vec<Request> = Vec::with_capacity(BATCH);
    let pulse = ctx.liveness.pulse(Loop::Gate);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        pulse.works();
        fault_point::reach("intending").await;
        let (requests, replies): (Vec<DotRequest>, Vec<_>) = batch.drain(..).unzip();
        let answers = intend(&ctx, &requests, &pulse).await;
        let mut unheard = Vec::new();
        for ((request, reply), answer) in requests.iter().zip(replies).zip(&answers) {
            let is_gone = reply.send(*answer).is_err();
            if is_gone && matches!(answer, Answer::Granted(_)) {
                unheard.push(request.clone());
            }
        }
        if !unheard.is_empty() {
            // Its job panicked: no dot follows.
            withdraw(&ctx, &unheard, &pulse).await;
        }
        let refused = requests.into_iter().zip(answers).filter(|(_, answer)| *answer == Answer::Refused);
        count_refusals(&ctx, refused.map(|(request, _)| request).collect()).await;
        pulse.waits();
    }
}

/// Asks why, after nobody waits for it any more.
async fn count_refusals(ctx: &Context, refused: Vec<DotRequest>) {
    if refused.is_empty() {
        return;
    }
    let counts = &ctx.metrics.worker.intents_refused;
    match ctx.store.system().why_refused(&refused, ctx.clock.now()).await {
        Ok(reasons) => reasons.iter().for_each(|reason| counts.inc([reason.map_or("superseded", Reason::as_str)])),
        Err(e) => {
            counts.add(["not_known"], refused.len() as u64);
            tracing::debug!(error = %e, count = refused.len(), "nobody can say why dots were refused");
        }
    }
}

async fn intend(ctx: &Context, requests: &[DotRequest], pulse: &Pulse) -> Vec<Answer> {
    let warmup = &ctx.config.settings.email_account.warmup;
    match ctx.store.system().dot_intent(requests, &ctx.owner, warmup, ctx.clock.now()).await {
        Ok(answers) => answers
            .into_iter()
            .map(|answer| match answer {
                DotAnswer::Granted { fence } => Answer::Granted(fence),
                DotAnswer::Refused => Answer::Refused,
            })
            .collect(),
        Err(e) => {
            tracing::warn!(error = %e, count = requests.len(), "no dot is written: the intent cannot be recorded");
            if e.is_commit_in_doubt() {
                withdraw(ctx, requests, pulse).await;
            }
            vec![Answer::Unavailable; requests.len()]
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
