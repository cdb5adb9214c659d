//! The command line: what it understands, and which module does it.
//!
//! A result goes to stdout, once; progress, logs and errors go to stderr. With `--json` stdout holds one object, an
//! `{"error": …}` included. To add a subcommand: a file under `cli` with its arguments and `run`, and a line in `Command`.

mod account;
mod api_key;
mod campaign;
mod config;
mod demo;
mod doctor;
mod events;
mod explain;
mod lead;
mod migrate;
pub(crate) mod output;
mod queue;
mod restored;
mod run;
mod schema;
mod secret;
mod send;
mod serve;
mod sink;
mod tenant;
mod time_scale;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{LogFormat, Options};
use crate::exit::{Exit, Failure};
use crate::telemetry;

/// How a command ends.
pub(crate) type Outcome = Result<Exit, Failure>;

const EXAMPLES: &str = "\
Examples:
  penguinmails demo
      Watch a whole campaign in a minute, with nothing installed
  penguinmails run welcome/campaign.toml
      Send a campaign and wait until it is done
  penguinmails campaign check welcome/campaign.toml
      Read a campaign file, its templates and its leads, and say what it would do
  penguinmails config example > penguinmails.toml
      Start a configuration file

Exit codes:
  0 done   1 internal error   2 bad input or configuration   3 done, but not every send was accepted
  4 stopped by force          5 a service can't be reached

Environment and secrets: penguinmails config example --env";

/// Sends the campaigns of PenguinMails: plans who is due, sends over each account's own SMTP server, counts what is
/// opened and clicked.
#[derive(Debug, Parser)]
#[command(name = "penguinmails", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where ledger, queue and secrets lie; several processes on one host may share it
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "./penguinmails-data",
        help_heading = "Global options"
    )]
    pub(crate) data: PathBuf,
    /// Configuration file (see `penguinmails config example`)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Let logs hold email addresses; without it they hold ids alone
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) log_addresses: bool,
    /// How log lines look, whatever `log.format` says: text, or one JSON object a line
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) log_format: Option<LogFormat>,
}

impl Global {
    /// What the configuration is read with.
    pub(crate) fn options(&self) -> Options {
        Options {
            data: self.data.clone(),
            file: self.config.clone(),
            log_addresses: self.log_addresses,
            log_format: self.log_format,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Run(run::RunArgs),
    Serve(serve::ServeArgs),
    Scheduler(serve::SchedulerArgs),
    Worker(serve::WorkerArgs),
    Track(serve::TrackArgs),
    #[command(subcommand)]
    Campaign(campaign::Command),
    #[command(subcommand)]
    Account(account::Command),
    Explain(explain::ExplainArgs),
    #[command(subcommand)]
    Send(send::Command),
    #[command(subcommand)]
    Lead(lead::Command),
    #[command(subcommand)]
    Events(events::Command),
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    #[command(subcommand, name = "api-key")]
    ApiKey(api_key::Command),
    Doctor(doctor::Doctor),
    Migrate(migrate::Migrate),
    Restored(restored::RestoredArgs),
    Sink(Box<sink::SinkArgs>),
    #[command(subcommand)]
    Secret(secret::Command),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Schema(schema::Command),
}

impl Command {
    fn run(self, global: &Global) -> Outcome {
        match self {
            Self::Demo(args) => args.run(global),
            Self::Run(args) => args.run(global),
            Self::Serve(args) => args.run(global),
            Self::Scheduler(args) => args.run(global),
            Self::Worker(args) => args.run(global),
            Self::Track(args) => args.run(global),
            Self::Lead(command) => command.run(global),
            Self::Explain(args) => args.run(global),
            Self::Send(command) => command.run(global),
            Self::Events(command) => command.run(global),
            Self::Queue(command) => command.run(global),
            Self::Campaign(command) => command.run(global),
            Self::Account(command) => command.run(global),
            Self::ApiKey(command) => command.run(global),
            Self::Sink(args) => args.run(global),
            Self::Doctor(command) => command.run(global),
            Self::Migrate(command) => command.run(global),
            Self::Restored(args) => args.run(global),
            Self::Secret(command) => command.run(global),
            Self::Config(command) => command.run(global),
            Self::Schema(command) => command.run(global),
        }
    }
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> Exit {
    let cli = match Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command.run(&cli.global) {
        Ok(exit) => exit,
        Err(failure) => {
            if cli.global.json {
                output::print_json(&failure.to_json());
            }
            match &failure {
                _ if telemetry::is_json(cli.global.log_format) => {
                    output::note(serde_json::json!({ "level": "ERROR", "message": failure.to_string() }));
                }
                Failure::Input(errors) => output::note(errors),
                Failure::Unreachable(_) | Failure::Internal(_) => output::note(format_args!("error: {failure}")),
            }
            failure.exit()
        }
    }
}

/// Runs what a command does asynchronously, on as many threads as the machine has cores.
pub(crate) fn block_on<F: Future>(work: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    Ok(runtime.block_on(work))
}

/// Help and version are answers; anything else is a command line that a person has to mend.
fn usage(error: &clap::Error) -> Exit {
    let is_answer = !error.use_stderr();
    // Nothing is left to tell where even this cannot be printed.
    let _ = error.print();
    if is_answer {
        return Exit::Done;
    }
    if std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
        output::print_json(&Failure::Input(crate::problem::Problem::new(message).into()).to_json());
    }
    Exit::BadInput
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
