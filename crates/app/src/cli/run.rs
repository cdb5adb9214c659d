//! `penguinmails run FILE`: the arguments.

use clap::Args;

use super::campaign::FileArgs;
use super::time_scale::TimeScale;
use crate::duration::Period;

/// Send a campaign: set it up, run until it is done, say what became of every send
///
/// Takes the campaign file, does all the set-up in the data directory and runs scheduler and worker in this process.
/// Run again, it goes on where it was and sends nothing twice: tenant and campaign are found by name, leads by address;
/// new leads and changed texts are taken up.
///
/// Ends with 0 when every send was accepted, with 3 when some were not or only a person can move the rest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails run welcome/campaign.toml
      Send it, over each account's own server
  penguinmails run welcome/campaign.toml --smtp smtp://127.0.0.1:2525?tls=none --time-scale 3600
      Try it against a local server (`penguinmails sink`), an hour a second
  penguinmails run welcome/campaign.toml --for 2h --json
      Run for two hours at most, and print the numbers as JSON")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Stop after this time even if sends are left, e.g. 90s, 10m, 2h; the next run goes on
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) length: Option<Period>,
    /// Take a changed number or kind of steps of a campaign that is under way
    #[arg(long)]
    pub(crate) update: bool,
    #[command(flatten)]
    pub(crate) time: TimeScale,
}
