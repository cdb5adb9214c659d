//! `penguinmails campaign status|pause|resume|cancel`: looks at one campaign, or acts on it.
//!
//! To add a verb: a variant of `Verb`, its arm in `act`.

use domain::campaign::CampaignStatus;
use engines::store::campaigns::CampaignName;

use super::super::{Global, Outcome, block_on, output};
use super::CampaignArgs;
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::report::{self, ReportJson};
use crate::{setup, telemetry};

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Status,
    Pause,
    Resume,
    Cancel,
}

pub(super) fn run(args: &CampaignArgs, verb: Verb, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
        act(&ctx, &campaign, verb).await?;
        let tenant = ctx.store.tenant(campaign.tenant_id);
        let seen = tenant.campaign_report(campaign.id).await?;
        if global.json {
            output::print_json(&ReportJson::new(&seen, 0.0));
        } else if verb == Verb::Status {
            output::print(report::table(&seen));
            for count in tenant.list_event_counts(campaign.id).await? {
                let url = if count.url.is_empty() { String::new() } else { format!(" {}", count.url) };
                output::print(format_args!(
                    "step {}: {} {} by {} leads ({}){url}",
                    count.step_order, count.events, count.event_type, count.leads, count.verdict
                ));
            }
        } else {
            output::print(format_args!("{}: {}", seen.name, report::status(&seen)));
        }
        Ok(Exit::Done)
    })?
}

/// The one campaign of this name or id.
///
/// # Errors
/// `Input` where there is none, or more than one.
pub(in crate::cli) async fn find(ctx: &Context, name: &str, tenant: Option<&str>) -> Result<CampaignName, Failure> {
    let mut found = ctx.store.system().find_campaigns(name, tenant).await?;
    let refuse = |problem: Problem| Err(InputErrors::from(problem).into());
    match (found.pop(), found.is_empty()) {
        (None, _) => {
            refuse(Problem::new(format!("there is no campaign `{name}`")).hint("is --data the right directory?"))
        }
        (Some(one), true) => Ok(one),
        (Some(one), false) => {
            let tenants: Vec<String> = found.iter().chain([&one]).map(|c| c.tenant_name.clone()).collect();
            let problem = Problem::new(format!("several tenants have a campaign `{name}`: {}", tenants.join(", ")));
            refuse(problem.hint("--tenant NAME says which"))
        }
    }
}

async fn act(ctx: &Context, campaign: &CampaignName, verb: Verb) -> Result<(), Failure> {
    let tenant = ctx.store.tenant(campaign.tenant_id);
    let now = ctx.clock.now();
    let done = match verb {
        Verb::Status => true,
        Verb::Pause => tenant.pause_campaign(campaign.id, now).await?,
        Verb::Resume if campaign.status == CampaignStatus::Draft => {
            setup::start(&tenant, campaign.id, campaign.scheduled_at, now).await?
        }
        Verb::Resume => tenant.resume_campaign(campaign.id, now).await?,
        Verb::Cancel => tenant.cancel_campaign(campaign.id, now).await?.is_some(),
    };
    if done {
        return Ok(());
    }
    let wanted = match verb {
        Verb::Status | Verb::Pause => "only one that is scheduled or sending can be paused",
        Verb::Resume => "only one that is paused itself or in its email accounts, or was never started, can be resumed",
        Verb::Cancel => "it has ended already",
    };
    let problem = Problem::new(format!("the campaign `{}` is {}: {wanted}", campaign.name, campaign.status));
    Err(InputErrors::from(problem).into())
}
