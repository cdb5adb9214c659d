//! Beside the work: heartbeat, taking over from the dead (P8), and bringing hints again (P9).
//!
//! Not responsible for who is dead (`watch`) or for what becomes of a send (`domain::settle`).
//! To add a leftover to clean up: a step in `bury_owner`.

mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::campaign::OnUnknown;
use domain::ids::SendId;
use domain::settle::{Attempted, Outcome, settle};
use domain::time::Zone;
use engines::queue::{Lane, List, UNKNOWN_EPOCH};
use engines::store::apply::Settled;
use engines::store::recover::OpenDot;

use self::watch::Watch;
use super::gate::TOO_QUIET;
use super::journal::abandoned::{self, Replay};
use super::refused::Patience;
use super::{LIST, Worker};
use crate::context::Context;
use crate::fault_point;
use crate::held;
use crate::liveness::Loop;

/// The task of the heartbeats.
pub(super) const HEARTBEATS: &str = "heartbeat";
/// Real time between two heartbeats.
const BEAT: Duration = Duration::from_secs(3);
/// Real time between two looks at owners: with the twelve seconds of standing still, a dead one's jobs go on within fifteen.
const LOOK: Duration = Duration::from_secs(1);
/// Looks that are left out at most while another worker of this directory reads journals: one that is stopped in the middle
/// must not keep everybody's dots open.
const OTHERS_LOOKS: u32 = 30;
/// Real time between two passes of reconciliation that find nothing.
const RECONCILE: Duration = Duration::from_secs(2);
/// A hint that is older is pushed again.
pub(super) const STALE_HINT: Duration = Duration::from_secs(60);
/// Most hints in a lane of the queue that reconciliation tops up to.
const OUTSTANDING: u64 = 10_000;
/// Most hints of a lane in one turn.
const TURN: u32 = 1_000;

/// One heartbeat; whether it was written.
pub(super) async fn beat(worker: &Worker) -> bool {
    let ctx = &worker.ctx;
    let written = ctx.store.system().heartbeat(&ctx.owner, &ctx.host, std::process::id(), ctx.clock.now()).await;
    if let Err(e) = &written {
        tracing::warn!(error = %e, "the heartbeat cannot be written");
    }
    written.is_ok()
}

/// Heartbeats for ever; the gate is shut while they fail.
pub(super) async fn heartbeats(worker: Arc<Worker>) {
    let mut last = Instant::now();
    let pulse = worker.ctx.liveness.pulse(Loop::Heartbeat);
    loop {
        pulse.works();
        fault_point::reach("beating").await;
        // The gate has to be shut in time also where the database hangs.
        let left = Some(TOO_QUIET.saturating_sub(last.elapsed())).filter(|left| !left.is_zero());
        let begun = Instant::now();
        let in_time = tokio::time::timeout(left.unwrap_or(TOO_QUIET), beat(&worker)).await.unwrap_or(false);
        if in_time {
            last = begun;
            worker.gate.shut.beat_at(begun);
        }
        pulse.waits();
        // Leases are written by this process's clock and ended by others'. Nothing waits for it: the next beat is due.
        let catching_up = tokio::time::timeout(BEAT, worker.ctx.catch_up());
        let (_in_time, ()) = tokio::join!(catching_up, tokio::time::sleep(BEAT));
    }
}

/// Watches owners and takes over from the dead, for ever; `patience` knows of what they left at the start.
pub(super) async fn reap(worker: Arc<Worker>, mut patience: Patience) {
    let ctx = &worker.ctx;
    let mut watch = Watch::default();
    let (mut waited, mut proven) = (0, None);
    let pulse = ctx.liveness.pulse(Loop::Reap);
    loop {
        pulse.waits();
        tokio::time::sleep(LOOK).await;
        pulse.works();
        let owners = match ctx.store.system().list_owners().await {
            Ok(owners) => owners,
            Err(_) => {
                watch.is_cut_off(Instant::now());
                continue;
            }
        };
        let mut dead = watch.dead(&owners, &ctx.owner, Instant::now());
        // Before anybody's dots are judged: a result may be known after all.
        match abandoned::replay(ctx, &mut patience).await {
            Ok(Replay::Done) => waited = 0,
            Ok(Replay::ByAnother) => waited += 1,
            Err(e) => {
                tracing::warn!(error = %e, "results of dead workers cannot be written down now");
                continue;
            }
        }
        let owners: Vec<String> = dead.iter().map(|(owner, _)| owner.clone()).collect();
        for list in [List::EmailSending, List::Analytics] {
            if let Err(e) = ctx.queue.reap(list, &owners, ctx.clock.now()).await {
                tracing::warn!(error = %e, "leases cannot be ended now");
            }
        }
        if (1..=OTHERS_LOOKS).contains(&waited) && !dead.is_empty() {
            tracing::info!(owners = dead.len(), "dead owners' dots wait: another worker reads their journals");
            dead.clear();
        }
        for (owner, heartbeat) in dead {
            pulse.works();
            if let Err(e) = bury_owner(ctx, (&owner, heartbeat), &patience.known_of(&owner)).await {
                tracing::warn!(error = %e, owner, "a dead owner's sends cannot be taken over now");
            }
            watch.forget(&owner);
        }
        match held::settle_proven(ctx, proven).await {
            Ok(next) => proven = next,
            Err(e) => tracing::warn!(error = %e, "held sends that have arrived cannot be settled now"),
        }
        worker.ctx.jobs.notify_one();
    }
}

/// Settles what a dead owner left in `dot`: unknown. Those whose results are `known`, though the ledger does not take them
/// yet, stay, and the owner's row with them. One whose heartbeat has moved since lives, and its dots may be new.
async fn bury_owner(
    ctx: &Context,
    (owner, heartbeat): (&str, i64),
    known: &HashSet<SendId>,
) -> engines::error::Result<()> {
    let system = ctx.store.system();
    let mut dots = system.dots_of(owner, heartbeat).await?;
    dots.retain(|dot| !known.contains(&dot.send_id));
    if known.is_empty() || !dots.is_empty() {
        tracing::warn!(owner, unknown = dots.len(), "an owner is dead: its open dots are unknown");
    }
    let now = ctx.clock.now();
    let results: Vec<Settled> = dots.into_iter().map(|dot| unknown(ctx, dot, now)).collect();
    if !results.is_empty() {
        // Nobody has refused any: nothing is paused by it.
        let written = system.apply(&results, owner, &|| ctx.clock.uuid_v7(), now).await?;
        for (result, applied) in results.iter().zip(written.applied) {
            super::results::count(ctx, result, applied);
        }
    }
    system.remove_owner(owner, Some(heartbeat)).await
}

fn unknown(ctx: &Context, dot: OpenDot, now: domain::time::Timestamp) -> Settled {
    let attempted = Attempted {
        attempts: dot.attempts,
        unknowns: dot.unknowns,
        budget_began_at: dot.budget_began_at,
        max_attempts: dot.max_attempts,
        // It has arrived: held for the moment that `held::settle_proven` takes, and never sent again.
        on_unknown: if dot.has_proof { OnUnknown::Hold } else { dot.on_unknown },
        account_failures: 0,
        account_zone: Zone::UTC,
        soft_bounces: 0,
        next: None,
    };
    let policy = ctx.config.settings.retry.policy();
    dot.settled(settle(Outcome::Unknown, &attempted, &policy, now, ctx.clock.chance()))
}

/// Brings hints again that P3 would grant and nobody holds, for ever.
pub(super) async fn reconcile(worker: Arc<Worker>) {
    let ctx = &worker.ctx;
    let pulse = ctx.liveness.pulse(Loop::Reconcile);
    loop {
        pulse.works();
        let brought = reconcile_once(ctx).await;
        pulse.waits();
        match brought {
            Ok(0) => tokio::time::sleep(RECONCILE).await,
            Ok(pushed) => {
                ctx.metrics.worker.hints_renewed.inc_by(pushed);
                tracing::debug!(pushed, "hints were brought again");
                worker.ctx.jobs.notify_one();
                if pushed < u64::from(TURN) {
                    tokio::time::sleep(RECONCILE / 4).await;
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, "hints cannot be brought again now");
                tokio::time::sleep(RECONCILE).await;
            }
        }
    }
}

/// One pass over all lanes, each with a budget of its own; fails where no lane answers.
pub(crate) async fn reconcile_once(ctx: &Context) -> engines::error::Result<u64> {
    // Where the epoch's own lane alone is away, the others go on; what they get counts as lost once it is known.
    let epoch = ctx.queue.epoch(LIST).await.unwrap_or(UNKNOWN_EPOCH);
    let lane = |lane| reconcile_lane(ctx, lane, epoch);
    let (high, base, low) = tokio::join!(lane(Lane::High), lane(Lane::Base), lane(Lane::Low));
    let (mut brought, mut failure, mut well) = (0, None, false);
    for answer in [high, base, low] {
        match answer {
            Ok(count) => (brought, well) = (brought + count, true),
            Err(e) => failure = Some(e),
        }
    }
    match failure {
        Some(e) if !well => Err(e),
        Some(e) => {
            tracing::debug!(error = %e, "hints of one lane cannot be brought again now");
            Ok(brought)
        }
        None => Ok(brought),
    }
}

async fn reconcile_lane(ctx: &Context, lane: Lane, epoch: i64) -> engines::error::Result<u64> {
    let now = ctx.clock.now();
    let depth = ctx.queue.depth(LIST, lane, now).await?;
    let room = OUTSTANDING.saturating_sub(depth.ready + depth.delayed);
    let limit = TURN.min(u32::try_from(room).unwrap_or(TURN));
    if limit == 0 {
        return Ok(0);
    }
    let stale = now - ctx.clock.span(STALE_HINT);
    let hints = ctx.store.system().reconcile(lane, epoch, stale, limit, now).await?;
    let count = hints.len() as u64;
    ctx.queue.push(LIST, hints.iter().map(|hint| crate::hint::job(hint, now)).collect(), now).await?;
    Ok(count)
}
