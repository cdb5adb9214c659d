//! Figures of the product beside its limits, in one run on one machine: what `cargo xtask bench` builds and calls.
//!
//! The product is measured from outside, as its users run it; peers go by the bare drivers. Not responsible for starting
//! servers (`xtask`). Nothing here judges times: a figure that misses its goal is printed so. To add a figure: a variant of
//! `Command` and a file beside `scheduler`.
#![expect(clippy::print_stdout, reason = "figures are what it prints")]

mod figures;
mod product;
mod raw;
mod scheduler;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Figures of the product beside its limits
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Planning, recording and pushing beside a raw insert; an idle turn; memory
    Scheduler(Options),
}

/// What every figure is asked.
#[derive(Debug, Args)]
struct Options {
    /// The program to measure
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// A PostgreSQL superuser's URL
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// Enrollments in the largest campaign; the smallest has a hundredth of them
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    leads: u64,
    /// Runs of each, interleaved with its limit
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Idle turns whose mean is one run's; a running scheduler takes one a second
    #[arg(long, value_name = "N", default_value_t = 8)]
    idle_turns: u32,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Command::Scheduler(options) = Cli::parse().command;
    match scheduler::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
