//! The scheduler: finds due leads, has their sends planned and recorded, and hints at them.
//!
//! A crash anywhere in here loses nothing: the recorded row is the outbox, and P9 brings a hint that was not pushed.
//! Any number of schedulers may run at once. Not responsible for deciding (`domain::plan`) or for sending.
//! To add something that must happen regularly to campaigns: `tick`.

mod trials;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::forecast::Rhythm;
use domain::ids::{CampaignId, TenantId};
use domain::page::{Behind, turn_rank};
use domain::settle::loop_delay;
use domain::time::Timestamp;
use engines::queue::{Job, List, NO_EPOCH};
use engines::store::plan::PlanRequest;
use serde::Serialize;
use tokio::time::Instant;

use crate::context::Context;
use crate::fault_point;
use crate::lifecycle::Shutdown;
use crate::liveness::Loop;
use crate::recipients;

/// Real time between two turns.
const TICK: Duration = Duration::from_secs(1);
/// Enrollments in one transaction.
const PAGE: u32 = 500;
/// Of one campaign, a turn goes on to the next one behind the page with which it has recorded so many sends; about a second's work.
const SHARE: u64 = 20_000;

/// What one turn did, or several; the object that `scheduler --once --json` and the cron route answer with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Turn {
    /// Jobs that the queue took as new.
    pub(crate) enqueued: u64,
    /// Sends recorded in the ledger. More than `enqueued` where the queue did not answer: those are brought again.
    pub(crate) planned: u64,
    /// Due leads that were asked and have to wait for a window, an account or a limit.
    pub(crate) deferred: u64,
    /// Sends skipped with a reason.
    pub(crate) skipped: u64,
    /// Campaigns completed.
    pub(crate) completed: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// When those who wait can first have another answer, as long as nothing changes.
    #[serde(skip)]
    pub(crate) again_at: Option<Timestamp>,
}

/// Campaigns that have had their share of a turn, and where the next one goes on in them: it comes at once.
type LeftOff = HashMap<CampaignId, Behind>;

impl Turn {
    /// This one and the next.
    fn and(self, next: Self) -> Self {
        Self {
            enqueued: self.enqueued + next.enqueued,
            planned: self.planned + next.planned,
            deferred: self.deferred + next.deferred,
            skipped: self.skipped + next.skipped,
            completed: self.completed + next.completed,
            seconds: self.seconds + next.seconds,
            again_at: [self.again_at, next.again_at].into_iter().flatten().min(),
        }
    }
}

/// Turns until stopping is asked for.
pub(crate) async fn run(ctx: Arc<Context>, shutdown: Shutdown) {
    let (mut errors, mut left_off) = (0, LeftOff::new());
    let pulse = ctx.liveness.pulse(Loop::Scheduler);
    while !shutdown.is_stopping() {
        let goes_on = || {
            pulse.works();
            !shutdown.is_stopping()
        };
        let pause = match turn_over(&ctx, &goes_on, &mut left_off).await {
            Ok(turn) => {
                errors = 0;
                if turn.enqueued > 0 {
                    tracing::info!("Enqueued {} email jobs", turn.enqueued);
                }
                if left_off.is_empty() { TICK } else { Duration::ZERO }
            }
            Err(e) => {
                let pause = loop_delay(errors, e.is_transient(), ctx.clock.chance());
                errors += 1;
                tracing::warn!(error = %e, pause_ms = pause.as_millis(), "campaigns cannot be planned now");
                pause
            }
        };
        pulse.waits();
        shutdown.unless_stopping(tokio::time::sleep(pause)).await;
    }
}

/// Turns over every campaign that is worth planning, until all that is due is planned; idempotent, safe beside other turns.
///
/// # Errors
/// The database; what was recorded before stays recorded.
pub(crate) async fn enqueue_due_campaigns(ctx: &Context, goes_on: GoesOn<'_>) -> engines::error::Result<Turn> {
    let mut left_off = LeftOff::new();
    let mut all = turn_over(ctx, goes_on, &mut left_off).await?;
    while !left_off.is_empty() && goes_on() {
        all = all.and(turn_over(ctx, goes_on, &mut left_off).await?);
    }
    Ok(all)
}

/// Asked before each page, which has to end in time: whether to go on. A turn that is left off loses nothing.
type GoesOn<'a> = &'a (dyn Fn() -> bool + Sync);

/// One turn, as long as it may go on; `left_off` is the last one's, and then its own.
pub(crate) async fn turn_over(
    ctx: &Context,
    goes_on: GoesOn<'_>,
    left_off: &mut LeftOff,
) -> engines::error::Result<Turn> {
    // It goes by the time of all others; where that is not told now, the turn says what is missing.
    let _in_time = tokio::time::timeout(TICK, ctx.catch_up()).await;
    let began = Instant::now();
    let mut turn = Turn::default();
    let result = plan_campaigns(ctx, goes_on, &mut turn, left_off).await;
    // Also after an error: what was recorded before stays recorded.
    let metrics = &ctx.metrics.scheduler;
    for (counter, many) in [
        (&metrics.planned, turn.planned),
        (&metrics.enqueued, turn.enqueued),
        (&metrics.skipped, turn.skipped),
        (&metrics.deferred, turn.deferred),
        (&metrics.completed, turn.completed),
    ] {
        counter.inc_by(many);
    }
    metrics.turns.inc([if result.is_ok() { "done" } else { "failed" }]);
    metrics.turn.observe(began.elapsed());
    turn.seconds = (began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
    result.map(|()| turn)
}

/// How this process plans: what a forecast has to go by.
pub(crate) fn rhythm(ctx: &Context) -> Rhythm {
    Rhythm {
        tick: ctx.clock.span(TICK),
        // Far enough that a tick's worth of slots is there even when time runs faster.
        horizon: ctx.config.settings.scheduler.horizon.0.max(ctx.clock.span(TICK * 2)),
        page: PAGE as usize,
        warmup: ctx.config.settings.email_account.warmup.clone(),
    }
}

async fn plan_campaigns(
    ctx: &Context,
    goes_on: GoesOn<'_>,
    turn: &mut Turn,
    left_off: &mut LeftOff,
) -> engines::error::Result<()> {
    let system = ctx.store.system();
    let mut hints = Hints { ctx, epoch: epoch(ctx).await, jobs: Vec::new(), pushed: 0 };
    // First: who begins a round is due in this very turn, and late from when its round was to begin.
    begin_rounds(ctx, goes_on).await?;
    trials::decide(ctx).await?;
    // Before planning: room that this gives back is used in this very turn, as a forecast takes for granted. Planning goes on without.
    let swept = system.sweep(ctx.clock.now()).await;
    let result = plan_due(ctx, goes_on, &mut hints, turn, left_off).await;
    // Also after an error: what was recorded before stays recorded.
    hints.push().await;
    turn.enqueued = hints.pushed;
    result?;
    swept?;
    if !goes_on() {
        return Ok(());
    }
    for campaign_id in system.complete_campaigns(ctx.clock.now()).await? {
        turn.completed += 1;
        tracing::info!(%campaign_id, "campaign completed");
    }
    Ok(())
}

/// Plans every campaign that is worth it; what is recorded last is still to be pushed then.
async fn plan_due(
    ctx: &Context,
    goes_on: GoesOn<'_>,
    hints: &mut Hints<'_>,
    turn: &mut Turn,
    left_off: &mut LeftOff,
) -> engines::error::Result<()> {
    let now = ctx.clock.now();
    let mut due = ctx.store.system().due_campaigns(now, rhythm(ctx).horizon).await?;
    due.sort_by_key(|(_, campaign_id)| turn_rank(*campaign_id, now));
    // Of one that was paused meanwhile nothing is left.
    left_off.retain(|id, _| due.iter().any(|(_, campaign_id)| campaign_id == id));
    for (tenant_id, campaign_id) in due {
        // One campaign that cannot be planned must not stop the others.
        if let Err(e) = plan_campaign(ctx, (tenant_id, campaign_id), goes_on, hints, turn, left_off).await {
            if e.is_transient() {
                return Err(e);
            }
            tracing::error!(%tenant_id, %campaign_id, error = %e, "a campaign cannot be planned");
        }
    }
    Ok(())
}

/// Has recurring campaigns come back whose time has come. What is left off is gone on with in the next turn.
async fn begin_rounds(ctx: &Context, goes_on: GoesOn<'_>) -> engines::error::Result<()> {
    let system = ctx.store.system();
    for due in system.due_rounds(ctx.clock.now()).await? {
        let (mut began, mut after) = (0, None);
        while goes_on() {
            match system.begin_round(&due, after, PAGE, ctx.clock.now()).await {
                Ok(page) => {
                    began += page.began;
                    after = page.next;
                }
                Err(e) if e.is_transient() => return Err(e),
                // One campaign that cannot come back must not stop the others.
                Err(e) => {
                    let (tenant_id, campaign_id) = (due.tenant_id, due.campaign_id);
                    tracing::error!(%tenant_id, %campaign_id, error = %e, "a campaign's round cannot begin");
                    break;
                }
            }
            if after.is_none() {
                tracing::info!(campaign_id = %due.campaign_id, occurrence = %due.at, leads = began, "round begun");
                break;
            }
        }
    }
    Ok(())
}

/// The queue's epoch; none where it does not answer: then nobody waits for it again in this turn.
async fn epoch(ctx: &Context) -> Option<i64> {
    let epoch = ctx.queue.epoch(List::EmailSending).await;
    if let Err(e) = &epoch {
        tracing::warn!(error = %e, "hints cannot be pushed now: they are brought again from the ledger");
    }
    epoch.ok()
}

async fn plan_campaign(
    ctx: &Context,
    (tenant_id, campaign_id): (TenantId, CampaignId),
    goes_on: GoesOn<'_>,
    hints: &mut Hints<'_>,
    turn: &mut Turn,
    left_off: &mut LeftOff,
) -> engines::error::Result<()> {
    let Rhythm { horizon, warmup, .. } = rhythm(ctx);
    let (mut behind, mut has_looked_up, mut recorded) = (left_off.remove(&campaign_id), false, 0);
    while goes_on() {
        let now = ctx.clock.now();
        let hinted = hints.epoch.unwrap_or(NO_EPOCH);
        let request =
            PlanRequest { tenant_id, campaign_id, now, horizon, limit: PAGE, epoch: hinted, behind: behind.clone() };
        let new_id = || {
            fault_point::reach_inside("planning");
            ctx.clock.uuid_v7()
        };
        let system = ctx.store.system();
        // A page is pushed while the next one is planned.
        let (page, ()) = tokio::join!(system.plan_page(&request, &warmup, &new_id), hints.push());
        let page = page?;
        recorded += page.planned.len() as u64 + page.skipped + page.held;
        turn.planned += page.planned.len() as u64;
        turn.skipped += page.skipped;
        turn.deferred += page.deferred;
        turn.again_at = [turn.again_at, page.again_at].into_iter().flatten().min();
        fault_point::reach("recorded").await;
        hints.jobs = page.planned.iter().map(|hint| crate::hint::job(hint, now)).collect();
        // Those who waited for it are asked at once, since a turn that stands alone has no next one; but once in a campaign's turn, or
        // silent name servers would hold up all others for as long as it has new domains.
        if !has_looked_up && !page.unknown_domains.is_empty() {
            hints.push().await;
            if recipients::look_up(ctx, page.unknown_domains).await? > 0 {
                has_looked_up = true;
                continue;
            }
        }
        let Some(next) = page.next else { break };
        if recorded >= SHARE {
            left_off.insert(campaign_id, next);
            break;
        }
        behind = Some(next);
    }
    Ok(())
}

/// What a turn has recorded and not pushed yet.
struct Hints<'a> {
    ctx: &'a Context,
    /// The queue's; none = it does not answer, and is not asked again in this turn. What was recorded with it until then, a page at
    /// most, is brought when it has grown old.
    epoch: Option<i64>,
    jobs: Vec<Job>,
    /// How many the queue took as new so far.
    pushed: u64,
}

impl Hints<'_> {
    async fn push(&mut self) {
        let jobs = std::mem::take(&mut self.jobs);
        if jobs.is_empty() || self.epoch.is_none() {
            return;
        }
        match self.ctx.queue.push(List::EmailSending, jobs, self.ctx.clock.now()).await {
            Ok(new) => {
                self.pushed += new;
                self.ctx.jobs.notify_one();
            }
            // No error of the turn: the ledger holds the sends, and reconciliation brings their hints.
            Err(e) => {
                tracing::warn!(error = %e, "hints cannot be pushed now");
                self.epoch = None;
            }
        }
    }
}
