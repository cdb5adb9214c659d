//! Figures beside their limits: builds the product and `bench`, starts what they need, has `bench` measure.
//!
//! Not responsible for what is measured (`bench/src`). To add a figure: a command there; it is known here by its name.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::machine::{self, step};
use crate::postgres::{self, Disk};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Which figure: `scheduler`
    figure: String,
    /// Only whether all figures can be taken: small, and not optimized, as the suite does it
    #[arg(long)]
    quick: bool,
    /// Passed to the figure, e.g. `--leads 100000` or `--json`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Runs it; whether it could be measured.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<bool> {
    machine::provision()?;
    step("building what is measured");
    let build: &[&str] =
        if args.quick { &["test", "--workspace", "--no-run"] } else { &["build", "--workspace", "--release"] };
    let built = Command::new("cargo").args(build).stdin(Stdio::null()).status()?;
    ensure!(built.success(), "it does not build");
    let folder = tempfile::Builder::new().prefix("penguinmails-bench-").tempdir()?;
    // Another user (postgres) must get through to its folder.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (_postgres, url) = postgres::start(folder.path(), Disk::Awaited)?;
    let mut command = if args.quick {
        let mut test = Command::new("cargo");
        test.args(["test", "--workspace", "--test", "quick", "--", "--nocapture"]).env("TEST_POSTGRES_URL", &url);
        test
    } else {
        let programs = Path::new("target/release");
        let mut bench = Command::new(programs.join("bench"));
        bench.arg(&args.figure).arg("--program").arg(programs.join("penguinmails")).args(["--postgres", &url]);
        bench.args(&args.options);
        eprintln!("{}", description());
        bench
    };
    Ok(command.stdin(Stdio::null()).status().context("the figures do not start")?.success())
}

/// Machine and commit: what stands beside every table of figures.
fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{cores} cores, {}, commit {commit}", model.unwrap_or("unknown processor"))
}
