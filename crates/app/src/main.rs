//! The binary `penguinmails`: reads the command line, runs one command, ends with its exit code.
//!
//! Everything else lies in the modules: `cli` has one file a subcommand. To add a command: see `cli`.

mod campaign_file;
mod cli;
mod clock;
mod config;
mod data_dir;
mod database;
mod duration;
mod exit;
mod leads_csv;
mod problem;
mod secrets;
mod telemetry;
mod toml_input;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
