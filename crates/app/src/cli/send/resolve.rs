//! `penguinmails send resolve`: a person's decision about a held send.
//!
//! Not responsible for what it does (`held`, `domain::settle::resolve`) or for writing it (`engines::store::resolve`).
//! To add a decision: a flag here and a variant of `Decision`.

use clap::Args;
use domain::campaign::CampaignStatus;
use domain::settle::Decision;
use engines::store::apply::Applied;
use serde_json::json;

use super::super::{Global, Outcome, block_on, output};
use super::Which;
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::held;
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Decide about a send that is held: the ledger cannot know whether it has arrived
///
/// Ask the recipient's server, or look into the account's folder of sent mail; `send show` has the Message-ID.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails send resolve 018f3a5e-0000-7000-8000-000000000001 --sent
      It has arrived: the lead goes on with the next step
  penguinmails send resolve --campaign Welcome --lead ana@acme.test --resend
      It has not: once more, as the same message; cut off again, it is held again
  penguinmails send resolve 018f3a5e-0000-7000-8000-000000000001 --cancel
      Leave it; the lead goes on with the next step")]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// One of the three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DecisionArgs {
    /// It has arrived
    #[arg(long)]
    sent: bool,
    /// It has not arrived: send it again
    #[arg(long)]
    resend: bool,
    /// It is over, whatever became of it
    #[arg(long)]
    cancel: bool,
}

impl DecisionArgs {
    fn decision(&self) -> Decision {
        match (self.sent, self.resend) {
            (true, _) => Decision::Sent,
            (_, true) => Decision::Resend,
            _ => Decision::Cancel,
        }
    }
}

pub(super) fn run(args: &ResolveArgs, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let (tenant, id) = args.which.find(&ctx).await?;
        let now = ctx.clock.now();
        let send = tenant.get_send(id, now).await?;
        let campaign = tenant.get_campaign(send.campaign_id).await?;
        let resolved = held::decide(&send, &campaign, args.decision.decision(), now)
            .map_err(|why| InputErrors::from(Problem::new(format!("the send `{id}` cannot be resolved: {why}"))))?;
        let status = resolved.transition.status;
        if tenant.resolve_send(&resolved, &|| ctx.clock.uuid_v7(), now).await? != Applied::Done {
            let status = tenant.get_send(id, now).await?.status;
            let text = format!("the send `{id}` changed meanwhile, and nothing was done: it is {status} now");
            return Err(InputErrors::from(Problem::new(text).hint("`penguinmails send show` tells more")).into());
        }
        if global.json {
            output::print_json(&json!({ "sendId": id, "state": status }));
        } else {
            output::print(format_args!("send {id}: {status}"));
            if send.campaign_status == CampaignStatus::Paused && status.is_open() {
                output::note("it waits: its campaign is paused");
            }
        }
        Ok(Exit::Done)
    })?
}
