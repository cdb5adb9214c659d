//! Tries every fuzz target for a given time; `cargo test` tries each with a few thousand inputs only.
//!
//! Not responsible for what a target tries (`crates/mail/src/smtp/fuzz.rs` says how they are written). To add a
//! target: a test of a library whose name begins with `fuzz_`.

use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::Args;

use crate::machine::step;

/// The part that every target's path holds.
pub(crate) const EVERY_TARGET: &str = "fuzz_";

/// How long to try.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// For each target; as many targets as there are cores run at once
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Only targets whose path holds this
    #[arg(default_value = EVERY_TARGET)]
    target: String,
}

/// Runs them; whether none found anything.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<bool> {
    step(&format!("fuzzing, {} s for each target", args.seconds));
    Ok(command(args.seconds, &args.target).status().context("failed to start cargo")?.success())
}

/// Tries each target whose path holds `target` for so many seconds.
pub(crate) fn command(seconds: u64, target: &str) -> Command {
    let mut cargo = Command::new("cargo");
    // All of the workspace: what the suite has built is built with the features of all.
    cargo.args(["test", "--workspace", "--lib", "--"]);
    cargo.args([target, "--nocapture"]).stdin(Stdio::null());
    // The time alone is to end it. An input that fails is printed with the seed that makes it again.
    cargo.env("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1000).to_string());
    cargo.env("BOLERO_RANDOM_ITERATIONS", usize::MAX.to_string());
    cargo
}
