//! `penguinmails campaign resend-failed`: puts a campaign's failed sends back to work.
//!
//! Never a bounced one, and none of a lead who gets no mail any more (`engines::store::resolve`). Done page by page:
//! killed in the middle, the same command goes on. To add a choice: an argument here and in `send_failed_again`.

use clap::Args;
use domain::campaign::CampaignStatus;
use domain::reason::Reason;
use serde_json::json;

use super::super::{Global, Outcome, block_on, output};
use super::{CampaignArgs, EXCLUDED, find};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Sends in one transaction.
const PAGE: u32 = 500;

/// Put the failed sends of a campaign back to work, with a fresh budget of attempts
///
/// Only those that failed: a bounced address stays suppressed, a held send waits for `send resolve`. A completed
/// campaign opens again. What was tried before stays in `send show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails campaign resend-failed Welcome
  penguinmails campaign resend-failed Welcome --reason policy_refusal --json")]
pub(crate) struct ResendArgs {
    #[command(flatten)]
    campaign: CampaignArgs,
    /// Only those that failed for this reason, e.g. expired, policy_refusal, content_refused, not_composed
    #[arg(long, value_name = "REASON")]
    reason: Option<Reason>,
}

pub(super) fn run(args: &ResendArgs, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let campaign = find(&ctx, &args.campaign.campaign, args.campaign.tenant.as_deref()).await?;
        if matches!(campaign.status, CampaignStatus::Cancelled | CampaignStatus::Archived) {
            let text = format!("the campaign `{}` is {}: nothing of it is sent again", campaign.name, campaign.status);
            return Err(InputErrors::from(Problem::new(text)).into());
        }
        let (tenant, now) = (ctx.store.tenant(campaign.tenant_id), ctx.clock.now());
        let (mut queued, mut excluded, mut after) = (0, 0, None);
        loop {
            let page = tenant.send_failed_again(campaign.id, args.reason, after, PAGE, now).await?;
            (queued, excluded, after) = (queued + page.done.queued, excluded + page.done.excluded, page.next);
            if after.is_none() {
                break;
            }
        }
        if global.json {
            output::print_json(&json!({ "campaignId": campaign.id, "queued": queued, "excluded": excluded }));
        } else {
            output::print(format_args!("{}: back at work: {queued} of the failed sends", campaign.name));
            if excluded > 0 {
                output::print(format_args!("left as they are: {excluded}, since {EXCLUDED}"));
            }
        }
        Ok(Exit::Done)
    })?
}
