//! `penguinmails restored`: after a backup was restored, holds what may have been sent since it was made.
//!
//! Killed in the middle, the same command goes on; until it has ended, nothing is sent. Not responsible for seeing that
//! the ledger was restored (`restored`). To hold more: a step in `hold`.

use clap::Args;
use domain::lost_time::LostTime;
use domain::time::Timestamp;
use engines::queue::NO_EPOCH;
use engines::store::plan::PlanRequest;
use serde_json::json;

use super::{Global, Outcome, block_on, output};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::restored::{self, Evidence};
use crate::telemetry;

/// Rows in one transaction.
const PAGE: u32 = 500;

/// After a backup was restored: hold what may have been sent since it was made
///
/// The ledger has forgotten what was sent after the backup. Every send that is not final and could have left by now is
/// held, and so is that of every lead whose next mail was due by now: people decide about them (`campaign status`, `send
/// resolve`). What is due later goes as ever. Stop all other processes before. Nothing is sent from a ledger that looks
/// restored until this has run; run it also where nothing could show it, as after the whole data directory was restored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails restored --since 2026-03-02T09:00:00Z
      Restored from a backup of nine o'clock
  penguinmails restored --since 2026-03-02T09:00:00Z --until 2026-03-02T10:30:00Z
      The same, and nothing was running any more after half past ten
  penguinmails restored --nothing-lost
      The database has moved, or failed over, with all it had")]
pub(crate) struct RestoredArgs {
    /// When the backup was made, or earlier; RFC 3339 with an offset
    #[arg(long, value_name = "TIME", required_unless_present = "nothing_lost")]
    since: Option<Timestamp>,
    /// When the last process stopped that worked on what is lost; now where it is left out
    #[arg(long, value_name = "TIME", requires = "since")]
    until: Option<Timestamp>,
    /// The ledger has all that was ever committed: hold nothing, and send again from this server
    #[arg(long, conflicts_with = "since")]
    nothing_lost: bool,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    sends: u64,
    leads: u64,
}

impl RestoredArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let config = config::load(&global.options(), &Environment::of_process())?;
        telemetry::init(&config, &Clock::system());
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            let evidence = Evidence::gather(&ctx).await?;
            let now = ctx.clock.now();
            let Some(since) = self.since else {
                accept(&ctx, &evidence).await?;
                if global.json {
                    output::print_json(&json!({ "held": 0, "sends": 0, "leads": 0 }));
                } else {
                    output::print("Nothing is held: the ledger is taken for complete.");
                }
                return Ok(Exit::Done);
            };
            let lost = lost_time(since, self.until, &evidence, now)?;
            let held = hold(&ctx, lost).await?;
            accept(&ctx, &evidence).await?;
            if global.json {
                output::print_json(&json!({
                    "since": lost.since, "until": lost.until,
                    "held": held.sends + held.leads, "sends": held.sends, "leads": held.leads,
                }));
            } else {
                output::print(format_args!(
                    "Held: {} sends that were planned, and the next mail of {} leads. They may have been sent between {} and {}.",
                    held.sends, held.leads, lost.since, lost.until
                ));
                output::note(
                    "`penguinmails campaign status` shows them, `penguinmails send resolve` decides about them",
                );
            }
            Ok(Exit::Done)
        })?
    }
}

/// The time of which the ledger knows nothing.
fn lost_time(
    since: Timestamp,
    until: Option<Timestamp>,
    evidence: &Evidence,
    now: Timestamp,
) -> Result<LostTime, InputErrors> {
    let refuse = |field, text: &str| Err(Problem::new(text).field(field).into());
    let until = until.unwrap_or(now);
    match () {
        () if since > now => refuse("--since", "lies in the future (hint: it is when the backup was made)"),
        () if until > now => refuse("--until", "lies in the future (hint: leave it out for now)"),
        () if until < since => refuse("--until", "lies before --since"),
        // A later word of a person's does not make the ledger know more than it does.
        () => Ok(LostTime { since: since.min(evidence.ledger.seen_at.unwrap_or(since)), until }),
    }
}

/// Planning is told first: from then on nothing of lost time can be planned otherwise, whatever becomes of this process.
async fn hold(ctx: &Context, lost: LostTime) -> Result<Held, Failure> {
    let (system, mut held) = (ctx.store.system(), Held::default());
    system.lose(lost, ctx.clock.now()).await?;
    let mut after = None;
    loop {
        let (count, next) = system.hold_restored(lost.until, after, PAGE, ctx.clock.now()).await?;
        (held.sends, after) = (held.sends + count, next);
        if after.is_none() {
            break;
        }
    }
    let mut after = None;
    loop {
        let (_, next) = system.postpone_restored(lost.since, after, PAGE, ctx.clock.now()).await?;
        after = next;
        if after.is_none() {
            break;
        }
    }
    // Up to the end of lost time and no further: what is due since then is the scheduler's.
    let (now, horizon) = (lost.until, std::time::Duration::ZERO);
    for (tenant_id, campaign_id) in system.due_campaigns(now, horizon).await? {
        let mut behind = None;
        loop {
            let request = PlanRequest { tenant_id, campaign_id, now, horizon, limit: PAGE, epoch: NO_EPOCH, behind };
            let warmup = &ctx.config.settings.email_account.warmup;
            let page = system.plan_page(&request, warmup, &|| ctx.clock.uuid_v7()).await?;
            (held.leads, behind) = (held.leads + page.held, page.next);
            if behind.is_none() {
                break;
            }
        }
    }
    Ok(held)
}

/// From here on the ledger is the true one: ahead of what this directory has seen, and on this server.
async fn accept(ctx: &Context, evidence: &Evidence) -> Result<(), Failure> {
    let now = ctx.clock.now();
    let seen = evidence.noted.map_or(now, |noted| noted.max(now));
    ctx.store.system().accept(evidence.server.as_deref(), seen, now).await?;
    Ok(restored::mark(ctx).await?)
}
