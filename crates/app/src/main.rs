//! The binary `penguinmails`: reads the command line, runs one command, ends with its exit code.
//!
//! Everything else lies in the modules: `cli` has one file a subcommand. To add a command: see `cli`.

mod analytics;
mod api;
mod api_key;
mod audience;
mod campaign_file;
mod campaign_run;
mod cli;
mod clock;
mod config;
mod context;
mod data_dir;
mod database;
mod dead_letter;
mod doctor;
mod duration;
mod exit;
mod fault_point;
mod foresight;
mod held;
mod hint;
mod lead_import;
mod leads_csv;
mod lifecycle;
mod listener;
mod liveness;
mod measured_queue;
mod memory;
mod metrics;
mod name_server;
mod problem;
mod queue;
mod recipients;
mod report;
mod restored;
mod routes;
mod scheduler;
mod secrets;
mod setup;
#[cfg(test)]
mod simulation;
mod sink;
mod telemetry;
mod toml_input;
mod tracking;
mod worker;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
