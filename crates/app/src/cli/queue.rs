//! `penguinmails queue`: the arguments of looking at the queue and its dead letters.

use clap::Args;
use uuid::Uuid;

/// The queue and its dead letters
#[derive(Debug, clap::Subcommand)]
pub(crate) enum QueueCommand {
    /// Say how full each lane is, and how many dead letters there are
    #[command(after_help = "Example:\n  penguinmails queue status --json")]
    Status,
    /// List dead letters, the newest first, each with its reason
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
}
