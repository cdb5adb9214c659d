//! `penguinmails events push-sample`: tracking events as the tracker would queue them, without a mail or a reader.
//!
//! For trying a deployment: do events get from the queue into the tables? To add a kind: `domain::event::EventType`.

use clap::Args;
use domain::event::{Event, EventType};
use domain::ids::EventId;
use domain::step::StepType;
use engines::queue::List;
use engines::store::campaigns::CampaignName;
use serde_json::json;

use super::campaign::find;
use super::run::quieten;
use super::{Global, Outcome, block_on, output};
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::tracking;

/// Events in one push.
const BATCH: usize = 500;
/// A browser: its events count as a person's.
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// An address of documentation (RFC 5737): no client has it.
const IP: &str = "192.0.2.1";

/// Tracking events
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    PushSample(SampleArgs),
}

/// Push sample events onto the analytics queue, as if a reader had opened, clicked or unsubscribed
///
/// A worker stores and counts them like any other: try it on a campaign that is no real one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails events push-sample --type open --campaign Welcome --lead ana@acme.test
  penguinmails events push-sample --type click --campaign Welcome --lead ana@acme.test --step 2 \\
      --url https://acme.test/offer --count 100 --json")]
pub(crate) struct SampleArgs {
    /// What happened: open, click or unsubscribe
    #[arg(long = "type", value_name = "TYPE")]
    event_type: EventType,
    /// Id or address of a lead of the campaign
    #[arg(long, value_name = "ID|ADDRESS")]
    lead: String,
    /// Name or id of the campaign
    #[arg(long, value_name = "NAME|ID")]
    campaign: String,
    /// Name of its tenant, where two tenants have a campaign of this name
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Number or id of the step whose mail it was; the first mail where it is left out
    #[arg(long, value_name = "N|ID")]
    step: Option<String>,
    /// The link that was followed
    #[arg(long, value_name = "URL", default_value = "https://example.com/")]
    url: String,
    /// How many events, each with an id of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let Self::PushSample(args) = self;
        let env = Environment::of_process();
        let mut config = config::load(&global.options(), &env)?;
        if !args.url.starts_with("https://") && !args.url.starts_with("http://") {
            let problem = Problem::new(format!("`{}` is neither http nor https", args.url)).field("--url");
            return Err(InputErrors::from(problem).into());
        }
        quieten(&mut config, &env);
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
            let sample = args.sample(&ctx, &campaign).await?;
            args.push(&ctx, &sample).await?;
            let (queue, what) = (List::Analytics.name(), args.event_type);
            if global.json {
                output::print_json(&json!({ "pushed": args.count, "queue": queue, "event": sample }));
            } else {
                let text = serde_json::to_string(&sample).expect("an event is plain strings and numbers");
                let s = if args.count == 1 { "" } else { "s" };
                output::print(format_args!("Pushed {} {what} event{s} onto {queue}, such as\n{text}", args.count));
            }
            Ok(Exit::Done)
        })?
    }
}

impl SampleArgs {
    /// The first of the events, its ids looked up and known to belong together.
    async fn sample(&self, ctx: &Context, campaign: &CampaignName) -> Result<Event, Failure> {
        let tenant = ctx.store.tenant(campaign.tenant_id);
        let refuse = |text: String, field: &str| {
            let problem = Problem::new(text).field(field);
            Failure::from(InputErrors::from(problem))
        };
        let lead = tenant.find_enrolled_lead(campaign.id, &self.lead).await?;
        let lead = lead.ok_or_else(|| {
            let hint = "(hint: `lead import --campaign` enrolls a list)";
            refuse(format!("the campaign `{}` has no such lead {hint}", campaign.name), "--lead")
        })?;
        let steps = tenant.get_campaign(campaign.id).await?.plan.steps;
        let mut mails = steps.iter().filter(|step| step.step_type == StepType::Email);
        let step = match &self.step {
            None => mails.next(),
            Some(wanted) => mails.find(|step| {
                step.step_order.to_string() == *wanted || step.id.to_string().eq_ignore_ascii_case(wanted)
            }),
        };
        let step = step.ok_or_else(|| {
            let wanted = self.step.as_deref().unwrap_or("1");
            refuse(format!("the campaign `{}` has no mail at step `{wanted}`", campaign.name), "--step")
        })?;
        Ok(Event {
            event_id: Some(EventId::from_uuid(ctx.clock.uuid_v7())),
            event_type: self.event_type,
            tenant_id: campaign.tenant_id,
            lead_id: lead,
            campaign_id: campaign.id,
            step_id: step.id,
            url: (self.event_type == EventType::Click).then(|| self.url.clone()),
            occurred_at: ctx.clock.now(),
            ip: Some(IP.to_owned()),
            user_agent: Some(USER_AGENT.to_owned()),
            method: Some("GET".to_owned()),
        })
    }

    async fn push(&self, ctx: &Context, sample: &Event) -> Result<(), Failure> {
        let mut left = self.count as usize;
        let mut first = sample.event_id;
        while left > 0 {
            let count = left.min(BATCH);
            let id = || EventId::from_uuid(ctx.clock.uuid_v7());
            let events: Vec<Event> =
                (0..count).map(|_| Event { event_id: first.take().or_else(|| Some(id())), ..sample.clone() }).collect();
            tracking::push(ctx, &events).await?;
            left -= count;
        }
        Ok(())
    }
}
