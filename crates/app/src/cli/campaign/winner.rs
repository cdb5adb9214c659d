//! `penguinmails campaign winner`: a person chooses the variant that everybody gets from now on.
//!
//! Not responsible for showing how variants did (`variants`).

use clap::Args;
use engines::store::trials::Declared;
use serde_json::json;

use super::super::{Global, Outcome, block_on, output};
use super::find;
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Choose the variant of a step that all leads get whose mail is not planned yet
///
/// Also before a rule has chosen, or in place of what it chose. Mails that are planned, up to a minute ahead, keep theirs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails campaign winner Welcome --step 1 --variant b
  penguinmails campaign winner Welcome --step 1 --variant b --json")]
pub(crate) struct WinnerArgs {
    /// Name or id of the campaign
    #[arg(value_name = "NAME|ID")]
    campaign: String,
    /// Number of the step, as `campaign variants` shows it
    #[arg(long, value_name = "N")]
    step: u32,
    /// Key of the variant
    #[arg(long, value_name = "KEY")]
    variant: String,
    /// Name of its tenant, where two tenants have a campaign of this name
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

pub(super) fn run(args: &WinnerArgs, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
        let tenant = ctx.store.tenant(campaign.tenant_id);
        let declared = tenant.declare_winner(campaign.id, args.step, &args.variant, ctx.clock.now()).await?;
        let (before, waited) = match declared {
            Declared::Done(before, waited) => (before, waited),
            Declared::NoStep => return refuse("--step", format!("step {} has no variants", args.step), None),
            Declared::NoVariant(known) => {
                let what = format!("step {} has no variant `{}`", args.step, args.variant);
                return refuse("--variant", what, Some(format!("one of {}", known.join(", "))));
            }
        };
        if global.json {
            output::print_json(&json!({
                "campaignId": campaign.id, "step": args.step, "winner": args.variant, "before": before, "waited": waited,
            }));
        } else {
            let instead = before.filter(|before| *before != args.variant);
            let instead = instead.map_or(String::new(), |before| format!(" in place of `{before}`"));
            let (name, step, variant) = (&campaign.name, args.step, &args.variant);
            output::print(format_args!(
                "{name}: from now on everybody gets `{variant}` of step {step}{instead}; {waited} leads waited for it"
            ));
        }
        Ok(Exit::Done)
    })?
}

fn refuse(field: &str, what: String, hint: Option<String>) -> Result<Exit, Failure> {
    let problem = Problem::new(what).field(field);
    let hint = hint.unwrap_or_else(|| "`penguinmails campaign variants` shows those that have".to_owned());
    Err(InputErrors::from(problem.hint(hint)).into())
}
