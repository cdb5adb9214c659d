//! The proof of delivery: every fault of `docs/design/faults.md` by its tests, then storms with seeds of their own.
//!
//! Not responsible for what a fault does (its test) or for what a storm is (`crates/app/tests/e2e/storm.rs`): it runs
//! them, reads what they print, and says what fired. To add a fault: a row of the page, and tests named by its number; a
//! kind of storm: its test there, and its place in `wanted`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::faults::Faults;
use crate::suite::{self, with_services};
use crate::{machine, machine::step};

/// Everything is struck, workers and connections as well.
const STORM: &str = "fp12_a_storm_loses_nothing_and_copies_only_what_is_unknown";
/// Redis and PostgreSQL alone are: there is no copy then.
const CALM_STORM: &str = "a_calm_storm_loses_nothing_and_copies_nothing";

/// What to prove.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Storms on each set of engines and each policy, each with a seed of its own; a quarter as many calm ones, where
    /// Redis and PostgreSQL alone are struck
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
    /// The first seed; the others count up from it. Not given: a random one, which is printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Workers killed in each storm
    #[arg(long, value_name = "N", default_value_t = 5)]
    kills: u32,
    /// Mails in each storm
    #[arg(long, value_name = "N", default_value_t = 1_500)]
    sends: u32,
    /// Sets of engines: sqlite; postgres, with the queue in a table; redis, with PostgreSQL behind it
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgres,redis")]
    engines: Vec<String>,
    /// Only the storms
    #[arg(long)]
    storms_only: bool,
    /// Print one JSON object instead of the tables
    #[arg(long)]
    json: bool,
}

/// Runs all; whether nothing was lost, nothing was sent twice without saying so, and every fault fired.
pub(crate) fn run(args: &ChaosArgs) -> anyhow::Result<bool> {
    machine::provision()?;
    let began = Instant::now();
    let (tried, storms, figures) = with_services(|env, folder| {
        let figures = folder.join("figures");
        let faults = if args.storms_only { None } else { Some(try_faults(&env, &figures)?) };
        Ok((faults, brew(args, &env)?, std::fs::read_to_string(figures).unwrap_or_default()))
    })?;
    // A test without a number, or one that did not come to its end, counts too.
    let (mut faults, succeeded) = tried.map_or((None, true), |(faults, succeeded)| (Some(faults), succeeded));
    if let Some(faults) = &mut faults {
        for storm in storms.iter().filter(|storm| storm["kind"] == "kills") {
            let engine = storm["engine"].as_str().map(str::to_lowercase);
            faults.add("FP12".to_owned(), engine.as_deref(), storm["ok"] == true);
        }
    }
    let found = faults.as_ref().map(|faults| (faults.gaps(&args.engines), faults.failed()));
    let (gaps, failed) = found.unwrap_or_default();
    let broken = storms.iter().filter(|storm| storm["ok"] != true).count();
    let seconds = began.elapsed().as_secs();
    if args.json {
        let figures: Vec<&str> = figures.lines().collect();
        let faults = faults.map(|faults| faults.json());
        let all = json!({ "faults": faults, "gaps": gaps, "figures": figures, "storms": storms, "seconds": seconds });
        println!("{all}");
    } else {
        print(faults.as_ref(), &figures, &storms);
        for line in &gaps {
            println!("{line}");
        }
        let (gaps, storms) = (gaps.len(), storms.len());
        println!("{failed} faults failed, {gaps} gaps, {broken} of {storms} storms failed, {seconds} s");
    }
    Ok(succeeded && failed == 0 && gaps.is_empty() && broken == 0)
}

/// Runs every test that is named by a number, and those that measure how fast what was interrupted goes on.
fn try_faults(env: &[(&'static str, String)], figures: &Path) -> anyhow::Result<(Faults, bool)> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast", "--"])
        .args(["fp", "fr", "fd", "fs"].iter().flat_map(|kind| (0..4).map(move |ten| format!("{kind}{ten}"))));
    // The storms that follow are FP12's.
    command
        .args(["recovery::", "--skip", STORM])
        .envs(env.iter().cloned())
        .env("TEST_FIGURES", figures)
        .env("RUST_TEST_THREADS", suite::threads().to_string())
        .env("REQUIRE_ENGINES", "sqlite,postgres,redis,redis-cluster");
    let mut found = Faults::default();
    let succeeded = lines(&mut command, |line| found.take(line))?;
    Ok((found, succeeded))
}

/// One storm of those that are wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    seed: u64,
    engine: &'a str,
    policy: &'a str,
    is_calm: bool,
}

/// A storm for each seed, set of engines and policy, and a calm one for each fourth seed, at least one, under the policy
/// that would copy. SQLite has no server that a calm one could strike.
fn wanted(first: u64, seeds: u64, engines: &[String]) -> Vec<Wanted<'_>> {
    let each =
        move |seeds: u64| (first..first + seeds).flat_map(|seed| engines.iter().map(move |e| (seed, e.as_str())));
    let of = |is_calm, policy| move |(seed, engine)| Wanted { seed, engine, policy, is_calm };
    let all = each(seeds).flat_map(|storm| ["resend", "hold"].map(|policy| of(false, policy)(storm)));
    let calm = each(seeds.div_ceil(4)).filter(|(_, engine)| *engine != "sqlite").map(of(true, "resend"));
    all.chain(calm).collect()
}

/// Every storm that is wanted; more at once than there are cores, since they mostly wait.
fn brew(args: &ChaosArgs, env: &[(&'static str, String)]) -> anyhow::Result<Vec<Value>> {
    if let Some(engine) = args.engines.iter().find(|engine| !["sqlite", "postgres", "redis"].contains(&engine.as_str()))
    {
        bail!("`{engine}` is no set of engines (hint: sqlite, postgres or redis)");
    }
    let random = || std::time::UNIX_EPOCH.elapsed().map_or(1, |t| u64::from(t.subsec_nanos()));
    let first = args.seed.unwrap_or_else(random);
    let wanted = wanted(first, args.seeds, &args.engines);
    // Built once, before they meet at cargo's lock, and as the faults were.
    let built = Command::new("cargo").args(["test", "--workspace", "--test", "e2e", "--no-run"]).status()?;
    anyhow::ensure!(built.success(), "the storms do not build");
    let (next, storms) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let brew_on = || -> anyhow::Result<()> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = wanted.get(n) else { return Ok(()) };
            let storm = brew_one(*one, args, env)?;
            eprintln!("storm {} of {}: {storm}", n + 1, wanted.len());
            storms.lock().expect("no thread panics while it holds this").insert(n, storm);
        }
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..suite::threads()).map(|_| scope.spawn(brew_on)).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("it returns its errors"))
    })?;
    Ok(storms.into_inner().expect("every thread has ended").into_values().collect())
}

/// One storm; what it printed is shown where it failed.
fn brew_one(one: Wanted<'_>, args: &ChaosArgs, env: &[(&'static str, String)]) -> anyhow::Result<Value> {
    let Wanted { seed, engine, policy, is_calm } = one;
    let mut command = Command::new("cargo");
    let test =
        if is_calm { format!("storm::calm::{engine}::{CALM_STORM}") } else { format!("storm::{engine}::{STORM}") };
    command.args(["test", "--workspace", "--test", "e2e", "--", "--exact", &test, "--nocapture"]);
    command.envs(env.iter().cloned()).env("REQUIRE_ENGINES", engine).env("STORM_POLICY", policy);
    command.env("STORM_SEED", seed.to_string()).env("STORM_KILLS", args.kills.to_string());
    command.env("STORM_SENDS", args.sends.to_string());
    let output = command.stdin(Stdio::null()).output().context("failed to start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let object = text.lines().find_map(|line| serde_json::from_str(line.split_once("STORM ")?.1).ok());
    let kind = if is_calm { "calm" } else { "kills" };
    let mut storm = object.unwrap_or_else(|| json!({ "engine": engine, "policy": policy, "kind": kind, "seed": seed }));
    storm["ok"] = (output.status.success() && storm["lost"] == 0).into();
    if storm["ok"] != true {
        eprintln!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(storm)
}

/// Runs a command and gives each line of its output; whether it succeeded.
fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> anyhow::Result<bool> {
    step(&format!("{command:?}").replace('"', ""));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("failed to start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        eprintln!("{line}");
        each(&line);
    }
    Ok(child.wait()?.success())
}

fn print(faults: Option<&Faults>, figures: &str, storms: &[Value]) {
    if let Some(faults) = faults {
        println!("\n{}\n\n{figures}\n{}", faults.table(), faults.summary());
    }
    println!(
        "\n| engines | policy | kind | seed | faults | lost | extra | unknown | held | longest wait for a message, s |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for storm in storms {
        let object = |key: &str| storm[key].as_object().into_iter().flatten();
        let fired: u64 = object("fired").filter_map(|(_, times)| times.as_u64()).sum();
        let slowest = object("next_message_seconds").filter_map(|(_, seconds)| seconds.as_f64()).fold(0.0, f64::max);
        let word = |key: &str| storm[key].as_str().unwrap_or("?").to_lowercase();
        println!(
            "| {} | {} | {} | {} | {fired} | {} | {} | {} | {} | {slowest:.1} |",
            word("engine"),
            word("policy"),
            word("kind"),
            storm["seed"],
            storm["lost"],
            storm["extra"],
            storm["unknown"],
            storm["held"],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_a_calm_storm_on_each_engine_with_a_server() {
        let engines = ["sqlite", "postgres", "redis"].map(str::to_owned);
        let calm = |seeds| wanted(7, seeds, &engines).into_iter().filter(|one| one.is_calm).collect::<Vec<_>>();
        assert_eq!(
            calm(1).iter().map(|one| (one.seed, one.engine)).collect::<Vec<_>>(),
            [(7, "postgres"), (7, "redis")]
        );
        assert_eq!((calm(20).len(), wanted(7, 20, &engines).len()), (10, 130));
        assert!(calm(20).iter().all(|one| one.policy == "resend"), "where a copy would show");
    }
}
