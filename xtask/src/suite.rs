//! Runs everything against the services and counts: format, lints, tests; per engine, skipped, in all.
//!
//! Not responsible for starting services. To add a check: a line in `test`; an engine: its name in `ENGINES`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::faults::Faults;
use crate::machine::{self, step};
use crate::{fuzz, postfix, postgres, receivers, redis};

/// The process group of the suites, 0 while there is none: a signal to us alone must end them too.
static WORK: AtomicU32 = AtomicU32::new(0);

/// Engines, and the segment of a test's path that names each.
const ENGINES: [(&str, &str); 4] =
    [("sqlite", "sqlite"), ("postgres", "postgres"), ("redis", "redis"), ("redis-cluster", "redis_cluster")];
/// How long each fuzz target is tried.
const FUZZ_SECONDS: u64 = 60;
/// The suite that every queue has to pass: it is counted apart, since each must run the same cases.
const QUEUE_SUITE: &str = "queue";

/// What the suites said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    per_engine: BTreeMap<&'static str, u64>,
    /// The cases that each engine passed, by their names.
    queue_suite: BTreeMap<&'static str, BTreeSet<String>>,
    faults: Faults,
}

impl Counts {
    /// Takes one line of `cargo test`'s output.
    fn take(&mut self, line: &str) {
        self.faults.take(line);
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |word: &str| {
                let part = result.split([';', '.']).find(|part| part.trim().ends_with(word));
                part.and_then(|part| part.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
            };
            self.passed += number("passed");
            self.failed += number("failed");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((path, "ok")) = test.split_once(" ... ")
        {
            for (engine, segment) in ENGINES.iter().filter(|(_, name)| path.split("::").any(|part| part == *name)) {
                *self.per_engine.entry(engine).or_default() += 1;
                // A case stands right under its engine; a deeper path is a module's own test.
                let case = path.strip_prefix(&format!("{QUEUE_SUITE}::{segment}::"));
                if let Some(case) = case.filter(|case| !case.contains("::")) {
                    self.queue_suite.entry(engine).or_default().insert(case.to_owned());
                }
            }
        }
    }

    /// Cases of the queue suite that another engine passed and one of these did not, a line each; none passed is one too.
    fn missing_cases(&self, engines: &[&str]) -> Vec<String> {
        let all: BTreeSet<&String> = self.queue_suite.values().flatten().collect();
        if all.is_empty() {
            return vec!["no engine ran the queue suite".to_owned()];
        }
        let lacks = |engine: &str, case: &str| !self.queue_suite.get(engine).is_some_and(|own| own.contains(case));
        let lines = engines.iter().flat_map(|engine| {
            all.iter().filter(|case| lacks(engine, case)).map(move |case| format!("{engine} did not pass `{case}`"))
        });
        lines.collect()
    }
}

/// Formats, lints and tests; whether all is well.
pub(crate) fn test(engines: &[String], filter: &[String]) -> anyhow::Result<bool> {
    let mut times = Vec::new();
    let mut timed = |name: &'static str, started: Instant| times.push((name, started.elapsed()));
    let started = Instant::now();
    machine::provision()?;
    timed("provision", started);
    let started = Instant::now();
    let formatted = cargo(&["fmt", "--all", "--check"])?;
    let linted = cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    timed("format and lints", started);
    let started = Instant::now();
    let (counts, [skipped, figures], succeeded) = with_services(|env, folder| {
        let (skip_log, figures) = (folder.join("skipped"), folder.join("figures"));
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--no-fail-fast"]).args(filter).envs(env);
        command.env("RUST_TEST_THREADS", threads().to_string());
        command.env("TEST_SKIP_LOG", &skip_log).env("TEST_FIGURES", &figures);
        if std::env::var_os("REQUIRE_ENGINES").is_none() {
            command.env("REQUIRE_ENGINES", engines.join(","));
        }
        let (counts, succeeded) = run_and_count(&mut command)?;
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Ok((counts, [text(&skip_log), text(&figures)], succeeded))
    })?;
    timed("tests", started);
    // Whoever asks for a part wants that part.
    let fuzzed = if filter.is_empty() {
        let started = Instant::now();
        let (fuzzed, succeeded) = run_and_count(&mut fuzz::command(FUZZ_SECONDS, fuzz::EVERY_TARGET))?;
        timed("fuzz targets", started);
        println!("fuzz targets: {} passed in {FUZZ_SECONDS} s each", fuzzed.passed);
        succeeded && fuzzed.passed > 0
    } else {
        true
    };
    report(&counts, &skipped, &figures, &times);
    // A part that was asked for may leave engines out.
    let unlike = if filter.is_empty() { counts.missing_cases(&ENGINES.map(|(engine, _)| engine)) } else { vec![] };
    for line in &unlike {
        println!("queue suite: {line}");
    }
    let gaps =
        if filter.is_empty() { counts.faults.gaps(&ENGINES.map(|(engine, _)| engine.to_owned())) } else { vec![] };
    for line in &gaps {
        println!("faults: {line}");
    }
    if !formatted {
        println!("format: cargo fmt --all --check failed");
    }
    if !linted {
        println!("lints: cargo clippy failed");
    }
    if !fuzzed {
        println!("fuzz targets: one failed, or none was found");
    }
    // A suite that did not even build has no line of its own.
    let silent = !succeeded && counts.failed == 0;
    let broken: u64 =
        [silent, !formatted, !linted, !unlike.is_empty(), !gaps.is_empty(), !fuzzed].map(u64::from).iter().sum();
    println!("{} passed, {} failed", counts.passed, counts.failed + broken);
    Ok(counts.failed + broken == 0)
}

/// Runs one command beside the services.
pub(crate) fn env(command: &[String]) -> anyhow::Result<bool> {
    machine::provision()?;
    with_services(|env, _| {
        let status = Command::new(&command[0]).args(&command[1..]).envs(env).status();
        Ok(status.with_context(|| format!("failed to start `{}`", command[0]))?.success())
    })
}

/// Tests at once: most of the long ones wait for a heartbeat to stand still or for a hint to grow old.
pub(crate) fn threads() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

fn cargo(arguments: &[&str]) -> anyhow::Result<bool> {
    step(&format!("cargo {}", arguments.join(" ")));
    Ok(Command::new("cargo").args(arguments).stdin(Stdio::null()).status()?.success())
}

pub(crate) type Environment = Vec<(&'static str, String)>;

/// Starts the services, does the work, and takes them down again whatever happens.
pub(crate) fn with_services<T>(work: impl FnOnce(Environment, &Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    // An interrupted run must not leave services behind: the end of the work ends us in order.
    ctrlc::set_handler(|| {
        eprintln!("xtask: stopping");
        let work = WORK.load(Ordering::SeqCst);
        if work != 0 {
            let _ended_already = Command::new("kill").args(["-TERM", "--", &format!("-{work}")]).status();
        }
    })
    .context("failed to watch for signals")?;
    let folder = tempfile::Builder::new().prefix("penguinmails-test-").tempdir()?;
    // Other users (postgres, postfix) must get through to their folders.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = folder.path();
    let (_postgres, url) = postgres::start(path, postgres::Disk::Unawaited)?;
    let postfix = postfix::start(path)?;
    let redis = [redis::plain(path)?, redis::cluster(path)?, redis::sentinel(path)?];
    let aiosmtpd = receivers::aiosmtpd(path)?;
    let (smtp_server, authority) = receivers::smtp_server(path)?;
    let text = |path: &Path| path.display().to_string();
    let env = vec![
        ("PATH", programs_first()?),
        ("TEST_POSTGRES_URL", url),
        ("TEST_REDIS_URL", redis[0].url.clone()),
        ("TEST_REDIS_CLUSTER_URL", redis[1].url.clone()),
        ("TEST_REDIS_SENTINEL_URL", redis[2].url.clone()),
        ("TEST_POSTFIX_ADDR", postfix.address.clone()),
        ("TEST_POSTFIX_MAILDIR", text(&postfix.maildir)),
        ("TEST_AIOSMTPD_ADDR", aiosmtpd.address.clone()),
        ("TEST_AIOSMTPD_MAILDIR", text(&aiosmtpd.folder)),
        ("TEST_SMTP_SERVER_ADDR", smtp_server.address.clone()),
        ("TEST_SMTP_SERVER_DIR", text(&smtp_server.folder)),
        ("TEST_SMTP_SERVER_CA", text(&authority)),
        ("TEST_SMTP_SERVER_USER", receivers::USER.to_owned()),
        ("TEST_SMTP_SERVER_PASSWORD", receivers::PASSWORD.to_owned()),
        ("TEST_PROMTOOL", text(&machine::unpacked("promtool"))),
        ("TEST_FAKETIME", text(&machine::unpacked("libfaketime.so.1"))),
        ("TEST_NODE_PATH", text(&machine::cache().join("node/node_modules"))),
    ];
    work(env, path)
}

/// `PATH` with PostgreSQL's own programs in front: the `psql` that Debian puts there is a script, which takes longer to start than
/// what tests ask by it.
fn programs_first() -> anyhow::Result<String> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::join_paths([machine::postgres_programs()?].into_iter().chain(std::env::split_paths(&others)))?;
    all.into_string().map_err(|_| anyhow::anyhow!("PATH is no UTF-8 (hint: set one that is)"))
}

fn run_and_count(command: &mut Command) -> anyhow::Result<(Counts, bool)> {
    step("cargo test");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().context("failed to start cargo")?;
    WORK.store(child.id(), Ordering::SeqCst);
    let output = child.stdout.take().context("cargo has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        counts.take(&line);
        println!("{line}");
    }
    let succeeded = child.wait()?.success();
    WORK.store(0, Ordering::SeqCst);
    Ok((counts, succeeded))
}

fn report(counts: &Counts, skipped: &str, figures: &str, times: &[(&str, Duration)]) {
    println!();
    for (engine, _) in ENGINES {
        let tests = counts.per_engine.get(engine).copied().unwrap_or(0);
        let cases = counts.queue_suite.get(engine).map_or(0, BTreeSet::len);
        println!("{engine}: {tests} tests, {cases} of the queue suite");
    }
    println!("{}", counts.faults.summary());
    println!("skipped: {}", skipped.lines().count());
    for line in skipped.lines() {
        println!("  {line}");
    }
    println!("figures: {}", figures.lines().count());
    for line in figures.lines() {
        println!("  {line}");
    }
    for (name, time) in times {
        println!("{name}: {} s", time.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn lines_of_suites_are_summed_and_engines_told_by_path() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test queue::sqlite::a_case ... ok",
            "test queue::postgres::a_case ... ok",
            "test queue::postgres::b_case ... FAILED",
            "test queue::redis_cluster::a_case ... ok",
            "test redis::strangers::a_case ... ok",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.17s",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
        ] {
            counts.take(line);
        }
        assert_eq!((counts.passed, counts.failed), (7, 1));
        assert_eq!(counts.per_engine, [("sqlite", 1), ("postgres", 1), ("redis", 1), ("redis-cluster", 1)].into());
        let passed = counts.queue_suite.iter().map(|(engine, cases)| (*engine, cases.len()));
        assert_eq!(passed.collect::<Vec<_>>(), [("postgres", 1), ("redis-cluster", 1), ("sqlite", 1)]);
    }

    #[test]
    fn an_engine_that_runs_fewer_cases_of_the_queue_suite_is_told() {
        let mut counts = Counts::default();
        assert_eq!(counts.missing_cases(&["sqlite", "redis"]), ["no engine ran the queue suite"]);
        for engine in ["sqlite", "redis"] {
            counts.take(&format!("test queue::{engine}::a_case ... ok"));
        }
        assert_eq!(counts.missing_cases(&["sqlite", "redis"]), [""; 0]);
        // As many as the others, and not the same.
        counts.take("test queue::sqlite::b_case ... ok");
        counts.take("test queue::redis::c_case ... ok");
        let told = ["sqlite did not pass `c_case`", "redis did not pass `b_case`"];
        assert_eq!(counts.missing_cases(&["sqlite", "redis"]), told);
        assert_eq!(counts.missing_cases(&["postgres"]).len(), 3);
    }
}
