//! `penguinmails config example`: prints a configuration to start from.
//!
//! Not responsible for reading one (`crate::config`).

use super::{Global, Outcome, output};
use crate::config::{EXAMPLE, environment};
use crate::exit::Exit;

/// Configuration files
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print a documented configuration file with every setting at its default
    #[command(after_help = "\
Examples:
  penguinmails config example > penguinmails.toml && penguinmails --config penguinmails.toml …
  penguinmails config example --env > .env")]
    Example {
        /// Print the environment instead: where to run, and the secrets
        #[arg(long)]
        env: bool,
    },
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let Self::Example { env } = self;
        let text = if env { environment::example() } else { EXAMPLE.to_owned() };
        if global.json {
            output::print_json(&serde_json::json!({ "example": text }));
        } else {
            output::print(text.trim_end());
        }
        Ok(Exit::Done)
    }
}
