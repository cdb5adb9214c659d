//! `penguinmails campaign re-enroll`: leads who have finished a campaign go through its sequence again, by a person's word.
//!
//! Nobody who gets no mail any more (`domain::rounds`). All of them are done page by page: killed in the middle, the same
//! command goes on. To add a choice of leads: an argument here and a variant of `store::rounds::Again`.

use std::collections::BTreeMap;

use clap::Args;
use domain::campaign::CampaignStatus;
use domain::ids::CampaignId;
use domain::rounds::NotAgain;
use domain::time::Timestamp;
use engines::store::TenantStore;
use engines::store::rounds::{Again, RoundPage};
use serde_json::json;

use super::super::{Global, Outcome, block_on, output};
use super::{CampaignArgs, find};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Enrollments in one transaction.
const PAGE: u32 = 500;

/// Have leads who have finished a campaign begin a new round of it now
///
/// However lately they have finished. Never one who gets no mail any more, is under way, or was stopped before the end of
/// the sequence; those are counted with the reason. A completed campaign opens again. What was sent before stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails campaign re-enroll Welcome --lead ana@acme.test
  penguinmails campaign re-enroll Welcome --all-finished --json")]
pub(crate) struct ReEnrollArgs {
    #[command(flatten)]
    campaign: CampaignArgs,
    #[command(flatten)]
    who: Who,
}

/// Exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// Address or id of one lead
    #[arg(long, value_name = "LEAD")]
    lead: Option<String>,
    /// Everybody who has finished
    #[arg(long)]
    all_finished: bool,
}

pub(super) fn run(args: &ReEnrollArgs, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let campaign = find(&ctx, &args.campaign.campaign, args.campaign.tenant.as_deref()).await?;
        if matches!(campaign.status, CampaignStatus::Cancelled | CampaignStatus::Archived) {
            let text = format!("the campaign `{}` is {}: nobody begins it again", campaign.name, campaign.status);
            return Err(InputErrors::from(Problem::new(text)).into());
        }
        let (tenant, now) = (ctx.store.tenant(campaign.tenant_id), ctx.clock.now());
        let done = match &args.who.lead {
            Some(lead) => one(&tenant, campaign.id, lead, now).await?,
            None => all(&tenant, campaign.id, now).await?,
        };
        if global.json {
            let left = done.left.iter();
            let left = left.map(|(why, count)| json!({ "why": why.as_str(), "reason": why.reason(), "count": count }));
            let left: Vec<_> = left.collect();
            output::print_json(&json!({ "campaignId": campaign.id, "began": done.began, "left": left }));
        } else {
            output::print(format_args!("{}: leads who begin a new round: {}", campaign.name, done.began));
            for (why, count) in &done.left {
                output::print(format_args!("left as they are: {count}, since {why}"));
            }
        }
        Ok(Exit::Done)
    })?
}

async fn one(tenant: &TenantStore, id: CampaignId, lead: &str, now: Timestamp) -> Result<RoundPage, Failure> {
    let Some(lead) = tenant.find_enrolled_lead(id, lead).await? else {
        // The lead is not named: an error holds no address.
        let problem = Problem::new("the lead is not enrolled in this campaign").field("--lead");
        return Err(InputErrors::from(problem.hint("`lead import --campaign` enrolls it")).into());
    };
    Ok(tenant.re_enroll(id, Again::Lead(lead), now).await?)
}

async fn all(tenant: &TenantStore, id: CampaignId, now: Timestamp) -> Result<RoundPage, Failure> {
    let (mut began, mut left, mut after): (_, BTreeMap<NotAgain, u64>, _) = (0, BTreeMap::new(), None);
    loop {
        let page = tenant.re_enroll(id, Again::Finished { after, limit: PAGE }, now).await?;
        began += page.began;
        for (why, count) in page.left {
            *left.entry(why).or_default() += count;
        }
        after = page.next;
        if after.is_none() {
            return Ok(RoundPage { began, left, next: None });
        }
    }
}
