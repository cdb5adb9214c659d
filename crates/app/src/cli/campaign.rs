//! `penguinmails campaign`: looks at campaigns and steers them.
//!
//! Not responsible for reading campaign files (`campaign_file`). To add a verb: a variant and its file or function.

mod check;

use std::path::PathBuf;

use clap::Args;

use super::{Global, Outcome};
use crate::campaign_file::smtp_url::SmtpUrl;

/// Campaigns
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Read a campaign file and everything it names, and say what it would do; writes nothing
    #[command(after_help = "\
Examples:
  penguinmails campaign check welcome/campaign.toml
  penguinmails campaign check welcome/campaign.toml --skip-bad-rows --json")]
    Check(FileArgs),
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self {
            Self::Check(args) => check::run(&args, global),
        }
    }
}

/// A campaign file and how to read it: shared by `check`, `import` and `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileArgs {
    /// The campaign file (TOML); paths in it are relative to it
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Send everything over this server instead of the accounts' own: smtp://[user@]host[:port][?tls=none|starttls|implicit]
    #[arg(long, value_name = "URL", value_parser = parse_smtp)]
    pub(crate) smtp: Option<SmtpUrl>,
    /// Leave out bad rows of the list of leads instead of refusing it
    #[arg(long)]
    pub(crate) skip_bad_rows: bool,
}

/// The hint goes on a line of its own, as clap prints its own tips.
fn parse_smtp(text: &str) -> Result<SmtpUrl, String> {
    text.parse().map_err(|error: crate::campaign_file::smtp_url::SmtpUrlError| error.to_string())
}
