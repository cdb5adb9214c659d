//! `penguinmails serve`, `scheduler`, `worker`, `track`: the arguments of the long-running commands.

use clap::{Args, ValueEnum};

use super::time_scale::TimeScale;

/// A part that can run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Finds who is due and puts jobs on the queue
    Scheduler,
    /// Sends, and counts what was opened and clicked
    Worker,
    /// Answers pixels, links and unsubscribe pages
    Track,
}

/// Run all parts in one process, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails serve
  penguinmails serve --only scheduler,track
      Leave sending to `penguinmails worker` processes, on this host or others

Stop it with Ctrl-C or SIGTERM: open dialogues are awaited (shutdown_grace), nothing is lost.")]
pub(crate) struct ServeArgs {
    /// Run these parts alone, comma-separated
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

/// Find who is due and put jobs on the queue, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails scheduler
  penguinmails scheduler --once --json
      One turn, for cron: prints {\"enqueued\": N, …}")]
pub(crate) struct SchedulerArgs {
    /// Do one turn and end
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

/// Take jobs from the queue and send them, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails worker
  WORKER_ID=mail-3 EMAIL_TIMEOUT=10 penguinmails worker --config penguinmails.toml

Any number of workers may run, on any number of hosts that share one DATABASE_URL. Ends with 0, or with 4 where a
dialogue was still open when the time to stop was over.")]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

/// Answer the pixels, links and unsubscribe pages of sent mails, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails track
  TRACK_LISTEN=0.0.0.0:8081 PUBLIC_URL=https://t.acme.test penguinmails track")]
pub(crate) struct TrackArgs {}
