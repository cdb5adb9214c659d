//! `penguinmails explain`: why a lead's next mail of a campaign has not left, and when it will.
//!
//! Not responsible for the answer (`foresight/explained.rs`). To add a state: there.

use clap::Args;

use super::campaign::find;
use super::{Global, Outcome, block_on, output};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::foresight::explained::Explained;
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Say why a lead's next mail of a campaign has not left yet, and when it will
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails explain ana@acme.test --campaign Welcome
  penguinmails explain ana@acme.test --campaign Welcome --json")]
pub(crate) struct ExplainArgs {
    /// Address or id of the lead
    #[arg(value_name = "LEAD")]
    lead: String,
    /// Name or id of the campaign
    #[arg(long, value_name = "NAME|ID")]
    campaign: String,
    /// Name of the tenant, where two have a campaign of this name
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

impl ExplainArgs {
    pub(crate) fn run(&self, global: &Global) -> Outcome {
        let config = config::load(&global.options(), &Environment::of_process())?;
        telemetry::init(&config, &Clock::system());
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            let campaign = find(&ctx, &self.campaign, self.tenant.as_deref()).await?;
            let Some(explained) = Explained::of(&ctx, &campaign, &self.lead).await? else {
                // The lead is not named: an error holds no address.
                let problem = Problem::new("the tenant has no such lead").field("LEAD");
                return Err(InputErrors::from(problem.hint("an address or an id of `lead import`'s list")).into());
            };
            if global.json {
                output::print_json(&explained.object());
            } else {
                output::print(format_args!("{} in {}: {}", explained.lead, campaign.name, explained.text()));
            }
            Ok(Exit::Done)
        })?
    }
}
