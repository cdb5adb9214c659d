//! `penguinmails send resolve`: a person's decision about a held send.
//!
//! Not responsible for what it does (`held`, `domain::settle::resolve`) or for writing it (`engines::store::resolve`).
//! To add a decision: a flag here and a variant of `Decision`.

use clap::Args;
use domain::campaign::CampaignStatus;
use domain::reason::Reason;
use domain::send::SendStatus;
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
      Leave it; the lead goes on with the next step
  penguinmails send resolve --campaign Welcome --reason restored --resend
      Every one that a restored backup held: the mail server's log shows that none of them went")]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    which: Which,
    /// Instead of a lead: every send of --campaign that is held for this reason, e.g. restored
    #[arg(long, value_name = "REASON", requires = "campaign", conflicts_with = "lead")]
    reason: Option<Reason>,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// Sends in one read.
const PAGE: u32 = 500;

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
        match args.reason {
            Some(reason) => all(&ctx, args, reason, global).await,
            None => one(&ctx, args, global).await,
        }
    })?
}

async fn one(ctx: &Context, args: &ResolveArgs, global: &Global) -> Outcome {
    let (tenant, id) = args.which.find(ctx).await?;
    let now = ctx.clock.now();
    let send = tenant.get_send(id, now).await?;
    let campaign = tenant.get_campaign(send.campaign_id).await?;
    let lost = ctx.store.system().find_lost_time().await?;
    let resolved = held::decide(&send, &campaign, args.decision.decision(), lost, now)
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
}

/// Every send of the campaign that is held for this reason; killed in the middle, the same command goes on.
async fn all(ctx: &Context, args: &ResolveArgs, reason: Reason, global: &Global) -> Outcome {
    let (tenant, campaign) = args.which.find_campaign(ctx).await?;
    let bundle = tenant.get_campaign(campaign).await?;
    let lost = ctx.store.system().find_lost_time().await?;
    let (mut resolved, mut left, mut after) = (0_u64, 0_u64, None);
    loop {
        let page = tenant.list_failures(campaign, after, PAGE).await?;
        after = page.last().map(|row| row.send_id);
        for row in page.iter().filter(|row| row.status == SendStatus::Held && row.reason == reason.as_str()) {
            let now = ctx.clock.now();
            let send = tenant.get_send(row.send_id, now).await?;
            // One that may not go, or has no account, waits on.
            let written = match held::decide(&send, &bundle, args.decision.decision(), lost, now) {
                Ok(decision) => tenant.resolve_send(&decision, &|| ctx.clock.uuid_v7(), now).await? == Applied::Done,
                Err(_) => false,
            };
            *(if written { &mut resolved } else { &mut left }) += 1;
        }
        if after.is_none() {
            break;
        }
    }
    if global.json {
        output::print_json(&json!({ "campaignId": campaign, "resolved": resolved, "left": left }));
    } else {
        output::print(format_args!("{}: {resolved} held sends resolved", bundle.name));
        if left > 0 {
            output::print(format_args!("left as they are: {left}; `penguinmails send resolve ID` says why"));
        }
    }
    Ok(Exit::Done)
}
