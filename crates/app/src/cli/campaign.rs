//! `penguinmails campaign`: looks at campaigns and steers them.
//!
//! Not responsible for reading campaign files (`campaign_file`). To add a verb: a variant and its file or function.

mod check;
mod failures;
mod forecast;
mod import;
mod re_enroll;
mod resend;
mod steer;
mod variants;
mod winner;

use std::path::PathBuf;

use clap::Args;
use engines::store::setup::SetupReport;

use super::{Global, Outcome, output};
use crate::campaign_file::smtp_url::{SmtpUrl, SmtpUrlError};
use crate::problem::{InputErrors, Problem};

pub(super) use steer::find;

/// Why what failed stays as it is.
pub(super) const EXCLUDED: &str = "the lead gets no mail any more, or the campaign has ended";

/// Campaigns
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Read a campaign file and everything it names, and say what it would do; writes nothing
    #[command(after_help = "\
Examples:
  penguinmails campaign check welcome/campaign.toml
  penguinmails campaign check welcome/campaign.toml --skip-bad-rows --json")]
    Check(FileArgs),
    Import(ImportArgs),
    /// Say how a campaign stands, in numbers that add up
    #[command(after_help = "Example:\n  penguinmails campaign status Welcome --json")]
    Status(CampaignArgs),
    /// Stop sending within a second, also what is queued; nothing is lost
    #[command(after_help = "Example:\n  penguinmails campaign pause Welcome")]
    Pause(CampaignArgs),
    /// Go on after a pause, or start a campaign that was imported without --start
    #[command(after_help = "Example:\n  penguinmails campaign resume Welcome")]
    Resume(CampaignArgs),
    /// End a campaign: what is not sent yet never will be
    #[command(after_help = "Example:\n  penguinmails campaign cancel Welcome --tenant Acme")]
    Cancel(CampaignArgs),
    /// Foresee day by day when mails leave, when the last one does, and what keeps it from being earlier
    ///
    /// As long as every mail is accepted, nobody reacts and nobody changes anything. A draft or paused campaign is taken as
    /// if it went on now. The object of --json has every mail with the addresses of its lead and account.
    #[command(after_help = "\
Examples:
  penguinmails campaign forecast Welcome
  penguinmails campaign forecast Welcome --json")]
    Forecast(CampaignArgs),
    Calendar(forecast::CalendarArgs),
    /// List every send that failed, bounced or is held, each with its reason
    #[command(after_help = "\
Examples:
  penguinmails campaign failures Welcome
  penguinmails campaign failures Welcome --json")]
    Failures(CampaignArgs),
    ResendFailed(resend::ResendArgs),
    /// Show how the variants of each step did, and which has won
    #[command(after_help = "\
Examples:
  penguinmails campaign variants Welcome
  penguinmails campaign variants Welcome --json")]
    Variants(CampaignArgs),
    Winner(winner::WinnerArgs),
    ReEnroll(re_enroll::ReEnrollArgs),
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self {
            Self::Check(args) => check::run(&args, global),
            Self::Import(args) => import::run(&args, global),
            Self::Status(args) => steer::run(&args, steer::Verb::Status, global),
            Self::Pause(args) => steer::run(&args, steer::Verb::Pause, global),
            Self::Resume(args) => steer::run(&args, steer::Verb::Resume, global),
            Self::Cancel(args) => steer::run(&args, steer::Verb::Cancel, global),
            Self::Forecast(args) => forecast::run(&args, global),
            Self::Calendar(args) => forecast::calendar(&args, global),
            Self::Failures(args) => failures::run(&args, global),
            Self::ResendFailed(args) => resend::run(&args, global),
            Self::Variants(args) => variants::run(&args, global),
            Self::Winner(args) => winner::run(&args, global),
            Self::ReEnroll(args) => re_enroll::run(&args, global),
        }
    }
}

/// A campaign file and how to read it: shared by `check`, `import` and `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileArgs {
    /// The campaign file (TOML); paths in it are relative to it
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Send everything over this server instead of the accounts' own: smtp://[user@]host[:port][?tls=none|starttls|implicit][&auth=xoauth2]
    #[arg(long, value_name = "URL")]
    smtp: Option<String>,
    /// Leave out bad rows of the list of leads instead of refusing it
    #[arg(long)]
    pub(crate) skip_bad_rows: bool,
}

/// Set a campaign up without running it, for processes that run apart
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails campaign import welcome/campaign.toml --start
      Set it up, and let scheduler, workers and tracker that share the database go on from there
  penguinmails campaign import welcome/campaign.toml --update
      Take a changed sequence of steps
  penguinmails campaign import welcome/campaign.toml --update --reopen --start
      Send an added step also to those who had finished")]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Start it at once; without this it waits for its `scheduled_at` or for `campaign resume`
    #[arg(long)]
    pub(crate) start: bool,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// What a file may change of a campaign that is there: shared by `import` and `run`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct EditArgs {
    /// Take steps that were added, left out or moved since the campaign was set up
    #[arg(long)]
    pub(crate) update: bool,
    /// Have leads who had finished go on with steps that were added behind them
    #[arg(long)]
    pub(crate) reopen: bool,
}

impl EditArgs {
    /// Says what the edit has left as it is, on stderr.
    pub(crate) fn tell(self, report: &SetupReport) {
        if report.finished > 0 {
            let finished = report.finished;
            output::note(format!(
                "{finished} leads had finished before the steps that were added (hint: --reopen sends those to them too)"
            ));
        }
    }
}

/// A campaign that is there already: for `status`, `pause`, `failures` and the like.
#[derive(Debug, Args)]
pub(crate) struct CampaignArgs {
    /// Name or id of the campaign
    #[arg(value_name = "NAME|ID")]
    pub(crate) campaign: String,
    /// Name of its tenant, where two tenants have a campaign of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
}

impl FileArgs {
    /// The server of `--smtp`. Not read by clap: its errors show the value, which may hold a password.
    ///
    /// # Errors
    /// It is no URL of an SMTP server.
    pub(crate) fn smtp(&self) -> Result<Option<SmtpUrl>, InputErrors> {
        let url = self.smtp.as_deref().map(str::parse).transpose();
        url.map_err(|error: SmtpUrlError| Problem::new(error).field("--smtp").into())
    }
}
