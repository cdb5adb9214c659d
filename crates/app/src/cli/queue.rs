//! `penguinmails queue`: looks at the queue and its dead letters, and puts those back to work.
//!
//! To add a verb: a variant of `QueueCommand` and its function.

use clap::Args;
use engines::queue::{Job, List};
use engines::store::dead_letters::Selection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::campaign::find;
use super::{Global, Outcome, block_on, output};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::dead_letter::copy;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

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
#[command(after_help = "Example:\n  penguinmails queue dead --limit 20")]
pub(crate) struct DeadArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
}

/// Which dead letters to replay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails queue replay 018f3a5e-0000-7000-8000-000000000001
  penguinmails queue replay --failed-of Welcome
  penguinmails queue replay --all")]
#[group(required = true, multiple = false, id = "which")]
pub(crate) struct ReplayArgs {
    /// One, by its id
    #[arg(value_name = "ID")]
    pub(crate) id: Option<Uuid>,
    /// The failed sends of a campaign, by its name or id
    #[arg(long, value_name = "CAMPAIGN")]
    pub(crate) failed_of: Option<String>,
    /// All
    #[arg(long)]
    pub(crate) all: bool,
    /// The tenant of the campaign, where two have one of that name
    #[arg(long, value_name = "NAME", requires = "failed_of")]
    pub(crate) tenant: Option<String>,
}

impl QueueCommand {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let config = config::load(&global.options(), &Environment::of_process())?;
        telemetry::init(&config, &Clock::system());
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            let (value, text) = match self {
                Self::Status => status(&ctx).await?,
                Self::Dead(args) => dead(&ctx, args.limit).await?,
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

async fn dead(ctx: &Context, limit: u32) -> Result<(Value, String), Failure> {
    let letters = ctx.store.system().list_dead_letters(Selection::default(), limit).await?;
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
    let campaign_id = match &args.failed_of {
        Some(name) => Some(find(ctx, name, args.tenant.as_deref()).await?.id),
        None => None,
    };
    let which = Selection { id: args.id, campaign_id };
    let now = ctx.clock.now();
    let system = ctx.store.system();
    let (mut replayed, payloads) = system.replay_sends(which, now).await?;
    for letter in payloads {
        let list = [List::EmailSending, List::Analytics].into_iter().find(|list| list.name() == letter.queue_name);
        let job = Job { id: letter.id, payload: letter.payload, priority: letter.original_priority, not_before: now };
        let list = list.unwrap_or(List::EmailSending);
        // Pushed before it is marked: a second push of the same id is a no-op, and a lost mark only asks again.
        ctx.queue.push(list, vec![job], now).await?;
        replayed += system.mark_replayed(letter.id, now).await?;
    }
    if let (Some(id), 0) = (args.id, replayed) {
        let problem = Problem::new(format!("no dead letter `{id}` waits (hint: `penguinmails queue dead` lists them)"));
        return Err(InputErrors::from(problem.field("ID")).into());
    }
    Ok((json!({ "replayed": replayed }), format!("{replayed} dead letters are back at work")))
}
