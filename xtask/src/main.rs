//! Chores of this repository: `cargo xtask test` provisions real services, runs every test on every engine, tears all down.
//!
//! Needs a Debian machine with a Rust toolchain and root (or sudo without a password); everything else is found or
//! installed. Not part of the product. To add a chore: a variant of `Command`; a service: a file beside `postgres`.
#![expect(clippy::print_stdout, reason = "a chore's result is what it prints")]

mod bench;
mod chaos;
mod faults;
mod fuzz;
mod machine;
mod postfix;
mod postgres;
mod receivers;
mod redis;
mod service;
mod suite;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Chores of this repository
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Format, lint and test everything against real services; ends with `N passed, N failed`
    Test(TestArgs),
    /// Prove delivery: every fault by its tests, then storms of kills, cuts and floods; prints what fired and what was lost
    Chaos(chaos::ChaosArgs),
    /// Measure the product beside its limits, in one run on this machine; prints ratios
    Bench(bench::BenchArgs),
    /// Try the fuzz targets for some time each; ends with a failure and its seed where one is found
    Fuzz(fuzz::FuzzArgs),
    /// Start the same services, run a command with their addresses in its environment, tear them down
    Env(EnvArgs),
}

/// What to test.
#[derive(Debug, Args)]
struct TestArgs {
    /// Engines that must be there, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgres,redis,redis-cluster")]
    engines: Vec<String>,
    /// Passed to `cargo test`, e.g. a part of a test's name
    #[arg(last = true)]
    filter: Vec<String>,
}

/// What to run.
#[derive(Debug, Args)]
struct EnvArgs {
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(args) => suite::test(&args.engines, &args.filter),
        Command::Chaos(args) => chaos::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Env(args) => suite::env(&args.command),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
