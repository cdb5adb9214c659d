//! The proof of delivery: every fault of `docs/design/faults.md` by its tests, then storms with seeds of their own.
//!
//! Not responsible for what a fault does (its test) or for what a storm is (`crates/app/tests/e2e/storm.rs`): it runs
//! them, reads what they print, and says what fired. To add a fault: a row of the page, and a test named by its number.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::suite::with_services;
use crate::{machine, machine::step};

const PAGE: &str = include_str!("../../docs/design/faults.md");
/// What a row of the page says whose fault comes with a later part of the product.
const LATER: &str = "(later: ";
const STORM: &str = "fp12_a_storm_loses_nothing_and_copies_only_what_is_unknown";

/// What to prove.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Storms on each set of engines and each policy, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
    /// The first seed; the others count up from it. Not given: a random one, which is printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Workers killed in each storm
    #[arg(long, value_name = "N", default_value_t = 5)]
    kills: u32,
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

/// What became of the tests of one fault.
#[derive(Debug, Default)]
struct Tried {
    passed: u64,
    failed: u64,
}

/// Runs all; whether nothing was lost, nothing was sent twice without saying so, and every fault fired.
pub(crate) fn run(args: &ChaosArgs) -> anyhow::Result<bool> {
    machine::provision()?;
    let began = Instant::now();
    let (faults, storms) = with_services(|env, _| {
        let faults = if args.storms_only { None } else { Some(try_faults(&env)?) };
        Ok((faults, brew(args, &env)?))
    })?;
    let untried: Vec<&str> = faults
        .iter()
        .flat_map(|tried| rows().filter(|(no, _)| !tried.contains_key(*no)))
        .filter(|row| !is_later(row))
        .map(|(no, _)| no)
        .collect();
    let failed = faults.iter().flatten().filter(|(_, tried)| tried.failed > 0).count();
    let broken = storms.iter().filter(|storm| storm["ok"] != true).count();
    if args.json {
        let faults = faults.as_ref().map(|faults| {
            faults
                .iter()
                .map(|(no, tried)| json!({ "no": no, "passed": tried.passed, "failed": tried.failed }))
                .collect::<Vec<_>>()
        });
        println!(
            "{}",
            json!({ "faults": faults, "untried": untried, "storms": storms, "seconds": began.elapsed().as_secs() })
        );
    } else {
        print(faults.as_ref(), &storms);
        println!(
            "{failed} faults failed, {} have no test, {broken} of {} storms failed, {} s",
            untried.len(),
            storms.len(),
            began.elapsed().as_secs()
        );
    }
    Ok(failed == 0 && untried.is_empty() && broken == 0)
}

/// Number and name of each row of the page.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?;
        (number.starts_with('F') && number.len() == 4).then(|| (number, cells.next().unwrap_or_default()))
    })
}

/// Whether nobody can try the fault of this row yet.
fn is_later((_, fault): &(&str, &str)) -> bool {
    fault.contains(LATER)
}

/// Runs every test that is named by a number.
fn try_faults(env: &[(&'static str, String)]) -> anyhow::Result<BTreeMap<String, Tried>> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast", "--"])
        .args(["fp", "fr", "fd", "fs"].iter().flat_map(|kind| (0..4).map(move |ten| format!("{kind}{ten}"))));
    command
        .args(["--skip", STORM])
        .envs(env.iter().cloned())
        .env("REQUIRE_ENGINES", "sqlite,postgres,redis,redis-cluster");
    let mut found: BTreeMap<String, Tried> = BTreeMap::new();
    lines(&mut command, |line| {
        let Some((path, verdict)) = line.strip_prefix("test ").and_then(|test| test.split_once(" ... ")) else {
            return;
        };
        for number in numbers(path) {
            let tried = found.entry(number).or_default();
            *(if verdict.ends_with("ok") { &mut tried.passed } else { &mut tried.failed }) += 1;
        }
    })?;
    Ok(found)
}

/// The faults that a test's name speaks of: `fp06_and_fp07_…` two, `fp04_to_fp07_…` four.
fn numbers(path: &str) -> Vec<String> {
    let name = path.rsplit("::").next().unwrap_or(path);
    let words: Vec<&str> = name.split('_').collect();
    let number = |word: &str| {
        let (kind, digits) = (word.get(..2)?, word.get(2..)?);
        (["fp", "fr", "fd", "fs"].contains(&kind) && digits.len() == 2)
            .then_some((kind.to_uppercase(), digits.parse::<u32>().ok()?))
    };
    let mut found = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let Some((kind, last)) = number(word) else { continue };
        let first = match place.checked_sub(2).map(|before| (words[before], words[before + 1])) {
            Some((before, "to")) => number(before).map_or(last, |(_, first)| first + 1),
            _ => last,
        };
        found.extend((first..=last).map(|no| format!("{kind}{no:02}")));
    }
    found
}

/// One storm for each seed, set of engines and policy.
fn brew(args: &ChaosArgs, env: &[(&'static str, String)]) -> anyhow::Result<Vec<Value>> {
    let random = || std::time::UNIX_EPOCH.elapsed().map_or(1, |t| u64::from(t.subsec_nanos()));
    let first = args.seed.unwrap_or_else(random);
    let mut storms = Vec::new();
    for seed in first..first + args.seeds {
        for engine in &args.engines {
            if !["sqlite", "postgres", "redis"].contains(&engine.as_str()) {
                bail!("`{engine}` is no set of engines (hint: sqlite, postgres or redis)");
            }
            for policy in ["resend", "hold"] {
                let mut command = Command::new("cargo");
                let test = format!("storm::{engine}::{STORM}");
                command.args(["test", "-p", "penguinmails", "--test", "e2e", "--", "--exact", &test, "--nocapture"]);
                command.envs(env.iter().cloned()).env("REQUIRE_ENGINES", engine).env("STORM_POLICY", policy);
                command.env("STORM_SEED", seed.to_string()).env("STORM_KILLS", args.kills.to_string());
                let mut storm = json!({ "engine": engine, "policy": policy, "seed": seed });
                let succeeded = lines(&mut command, |line| {
                    if let Some((_, object)) = line.split_once("STORM ") {
                        storm = serde_json::from_str(object).unwrap_or(Value::Null);
                    }
                })?;
                storm["ok"] = (succeeded && storm["lost"] == 0).into();
                storms.push(storm);
            }
        }
    }
    Ok(storms)
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

fn print(faults: Option<&BTreeMap<String, Tried>>, storms: &[Value]) {
    if let Some(faults) = faults {
        println!("\n| no. | fault | tests that saw it fire | failed |\n|---|---|---|---|");
        for (number, name) in rows() {
            if !faults.contains_key(number) && is_later(&(number, name)) {
                println!("| {number} | {name} | later | |");
                continue;
            }
            let Tried { passed, failed } = faults.get(number).unwrap_or(&Tried { passed: 0, failed: 0 });
            println!("| {number} | {name} | {passed} | {failed} |");
        }
    }
    println!(
        "\n| engines | policy | seed | faults | lost | extra | unknown | held | longest wait for a message, s |\n|---|---|---|---|---|---|---|---|---|"
    );
    for storm in storms {
        let object = |key: &str| storm[key].as_object().into_iter().flatten();
        let fired: u64 = object("fired").filter_map(|(_, times)| times.as_u64()).sum();
        let slowest = object("next_message_seconds").filter_map(|(_, seconds)| seconds.as_f64()).fold(0.0, f64::max);
        let word = |key: &str| storm[key].as_str().unwrap_or("?").to_lowercase();
        println!(
            "| {} | {} | {} | {fired} | {} | {} | {} | {} | {slowest:.1} |",
            word("engine"),
            word("policy"),
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
    fn names_speak_of_one_fault_of_two_or_of_a_range() {
        assert_eq!(numbers("redis::faults::fr04_a_replica_refuses"), ["FR04"]);
        assert_eq!(numbers("fault_points::sqlite::fp06_and_fp07_under_hold"), ["FP06", "FP07"]);
        assert_eq!(numbers("fault_points::redis::fp04_to_fp07_a_worker"), ["FP04", "FP05", "FP06", "FP07"]);
        assert!(numbers("store::sqlite::a_case_of_fs_and_fp").is_empty());
    }

    #[test]
    fn a_row_says_what_it_waits_for() {
        assert!(is_later(&("FD09", "slow page (later: with the dashboard)")) && !is_later(&("FD01", "killed")));
        let waiting: Vec<&str> = rows().filter(is_later).map(|(number, _)| number).collect();
        assert_eq!(waiting, ["FD09"]);
    }

    #[test]
    fn the_page_has_every_fault_once() {
        let numbers: Vec<&str> = rows().map(|(number, _)| number).collect();
        let mut once = numbers.clone();
        once.dedup();
        assert_eq!((numbers.len(), once.len()), (75, 75));
    }
}
