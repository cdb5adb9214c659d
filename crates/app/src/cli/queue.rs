//! `penguinmails queue`: looks at the queue and its dead letters, and puts those back to work.
//!
//! To add a verb: a variant of `QueueCommand` and its function.

use clap::Args;
use domain::ids::CampaignId;
use domain::time::Timestamp;
use engines::queue::{Job, List};
use engines::store::dead_letters::{DeadLetter, Selection};
use serde_json::{Value, json};
use uuid::Uuid;

use super::campaign::{EXCLUDED, find};
use super::{Global, Outcome, block_on, output};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::dead_letter::copy;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Letters that are replayed at once.
const PAGE: u32 = 500;

/// The queue and its dead letters
#[derive(Debug, clap::Subcommand)]
pub(crate) enum QueueCommand {
    /// Say how full each lane is, and how many dead letters there are
    #[command(after_help = "Example:\n  penguinmails queue status --json")]
    Status,
    /// List dead letters, the oldest first, each with its reason
    Dead(DeadArgs),
    /// Put dead letters back to work
    Replay(ReplayArgs),
}

/// Which dead letters to list.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails queue dead --limit 20
  penguinmails queue dead --campaign Welcome --json")]
pub(crate) struct DeadArgs {
    /// Those of a campaign's sends, by its name or id
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) campaign: Option<String>,
    /// The tenant of the campaign, where two have one of that name
    #[arg(long, value_name = "NAME", requires = "campaign")]
    pub(crate) tenant: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
}

/// Which dead letters to replay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails queue replay 018f3a5e-0000-7000-8000-000000000001
  penguinmails queue replay --campaign Welcome
  penguinmails queue replay --all")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    which: LettersArgs,
    /// The tenant of the campaign, where two have one of that name
    #[arg(long, value_name = "NAME", requires = "campaign")]
    tenant: Option<String>,
}

/// One, a campaign's, or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LettersArgs {
    /// One, by its id
    #[arg(value_name = "ID")]
    pub(crate) id: Option<Uuid>,
    /// Those of a campaign's sends, by its name or id
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) campaign: Option<String>,
    /// All
    #[arg(long)]
    pub(crate) all: bool,
}

impl QueueCommand {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let config = config::load(&global.options(), &Environment::of_process())?;
        telemetry::init(&config, &Clock::system());
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            let (value, text) = match self {
                Self::Status => status(&ctx).await?,
                Self::Dead(args) => dead(&ctx, &args).await?,
                Self::Replay(args) => replay(&ctx, &args).await?,
            };
            if global.json {
                output::print_json(&value);
            } else {
                output::print(text);
            }
            Ok(Exit::Done)
        })?
    }
}

async fn status(ctx: &Context) -> Result<(Value, String), Failure> {
    let mut lanes = Vec::new();
    let mut text = String::new();
    for list in [List::EmailSending, List::Analytics] {
        for lane in list.lanes() {
            let depth = ctx.queue.depth(list, *lane, ctx.clock.now()).await?;
            let name = format!("{}{}", list.name(), lane.suffix());
            text.push_str(&format!(
                "{name}: {} ready, {} delayed, {} leased\n",
                depth.ready, depth.delayed, depth.leased
            ));
            lanes.push(json!({ "name": name, "ready": depth.ready, "delayed": depth.delayed, "leased": depth.leased }));
        }
    }
    let dead = ctx.store.system().count_dead_letters().await?;
    text.push_str(&format!("dead letters: {dead}"));
    Ok((json!({ "lanes": lanes, "deadLetters": dead }), text))
}

async fn of_campaign(ctx: &Context, name: Option<&str>, tenant: Option<&str>) -> Result<Option<CampaignId>, Failure> {
    match name {
        Some(name) => Ok(Some(find(ctx, name, tenant).await?.id)),
        None => Ok(None),
    }
}

async fn dead(ctx: &Context, args: &DeadArgs) -> Result<(Value, String), Failure> {
    let campaign_id = of_campaign(ctx, args.campaign.as_deref(), args.tenant.as_deref()).await?;
    let which = Selection { campaign_id, ..Selection::default() };
    let letters = ctx.store.system().list_dead_letters(which, args.limit).await?;
    let value: Vec<Value> = letters.iter().map(copy).collect();
    let mut text = String::new();
    for letter in &letters {
        let send = letter.send_id.map_or(String::new(), |id| format!(" send {id}"));
        let (id, at, error) = (letter.id, letter.failed_at, &letter.error);
        text.push_str(&format!("{id} {at} {}{send}: {error}\n", letter.queue_name));
    }
    if letters.is_empty() {
        text.push_str("no dead letters");
    }
    Ok((json!({ "deadLetters": value }), text.trim_end().to_owned()))
}

async fn replay(ctx: &Context, args: &ReplayArgs) -> Result<(Value, String), Failure> {
    let campaign_id = of_campaign(ctx, args.which.campaign.as_deref(), args.tenant.as_deref()).await?;
    let mut which = Selection { id: args.which.id, campaign_id, after: None };
    let (now, system) = (ctx.clock.now(), ctx.store.system());
    // As many as there were: what is buried again meanwhile waits for the next replay.
    let mut left = system.count_dead_letters().await?;
    let (mut replayed, mut excluded) = (0, 0);
    while left > 0 {
        let letters = system.list_dead_letters(which, PAGE.min(u32::try_from(left).unwrap_or(PAGE))).await?;
        let Some(last) = letters.last() else { break };
        which.after = Some((last.failed_at, last.id));
        left = left.saturating_sub(letters.len() as u64);
        let (sends, payloads): (Vec<DeadLetter>, _) = letters.into_iter().partition(|letter| letter.send_id.is_some());
        let again = system.replay_sends(&sends, now).await?;
        excluded += again.excluded;
        replayed += again.queued + push(ctx, &payloads, now).await?;
    }
    if let (Some(id), 0) = (args.which.id, replayed) {
        let problem = match excluded {
            0 => format!("no dead letter `{id}` waits (hint: `penguinmails queue dead` lists them)"),
            _ => format!("the dead letter `{id}` stays, since {EXCLUDED}"),
        };
        return Err(InputErrors::from(Problem::new(problem).field("ID")).into());
    }
    let mut text = format!("{replayed} dead letters are back at work");
    if excluded > 0 {
        text.push_str(&format!("\nleft as they are: {excluded}, since {EXCLUDED}"));
    }
    Ok((json!({ "replayed": replayed, "excluded": excluded }), text))
}

/// Puts jobs that were never sends back onto their lists as they were; how many were not buried again since.
async fn push(ctx: &Context, letters: &[DeadLetter], now: Timestamp) -> Result<u64, Failure> {
    for list in [List::EmailSending, List::Analytics] {
        let is_analytics = |letter: &DeadLetter| letter.queue_name == List::Analytics.name();
        let jobs: Vec<Job> = letters
            .iter()
            .filter(|letter| is_analytics(letter) == (list == List::Analytics))
            .map(|letter| Job {
                id: letter.id,
                payload: letter.payload.clone(),
                priority: letter.original_priority,
                not_before: now,
            })
            .collect();
        if !jobs.is_empty() {
            // Pushed before they are marked: a second push of an id is a no-op, and a lost mark only asks again.
            ctx.queue.push(list, jobs, now).await?;
        }
    }
    Ok(ctx.store.system().mark_replayed(letters, now).await?)
}
