//! What an email account's server does to its account, and not to the others: the breaker and its probe, fewer
//! connections for who asks for less, limits of connections, and a tarpit among fifty.

use std::time::{Duration, Instant};

use crate::app::{App, Engine, Sink, figure, number};
use crate::http::{get, sample, until, wait_long};

fn locals(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("l{n}"))
}

/// Writes a configuration file that every command of the app reads.
fn configure(app: &App, text: &str) -> String {
    let file = app.path("config.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The server says four times that it is closing: the account's first connections hear it, then probes, one at a time.
fn fs03_an_account_whose_wait_is_over_is_tried_with_one_send(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &["--fail", "connect=421,times=4"]);
    let file = app.campaign("probe.example", locals(8), 1, "");
    let config = configure(&app, "[worker]\nconnections_per_account = 3\n[retry]\naccount_delays = [\"1m\"]\n");
    let arguments = ["run", file.to_str().unwrap(), "--smtp", &sink.url, "--time-scale", "60", "--config", &config];
    let (status, log) = app.spawn(&arguments).ended();
    assert!(status.success(), "{}", log.join(""));
    let mut course = String::new();
    for line in &log {
        for (part, mark) in [("is tried again", 'p'), ("an email account stops", 'f'), ("status=sent", 's')] {
            course.extend(line.contains(part).then_some(mark));
        }
    }
    let wave = course.find('p').unwrap();
    assert!((1..=3).contains(&wave), "the first connections fail: {course}");
    let probes = "pf".repeat(4 - wave);
    assert_eq!(course[wave..], format!("{probes}p{}", "s".repeat(8)), "each probe alone, and all the others behind it");
    assert_eq!(sink.accepted().len(), 8);
    assert_eq!(sink.fired()["connect 421"], 4);
}

/// A server that takes two connections at once and says so; each connection takes five messages.
fn a_throttled_account_gets_fewer_connections_and_later_more_again(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &["--fail", "rcpt=450 4.2.1 rate limit exceeded,nth=5"]);
    let settings =
        "[worker]\nconnections_per_account = 2\nmessages_per_connection = 5\n[retry]\naccount_delays = [\"2s\"]\n";
    let config = configure(&app, settings);
    let file = app.campaign("slow-down.example", locals(60), 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], 60);
    let mut worker = app.spawn(&["worker", "--config", &config]);
    let address = worker.value_after("health listens address=");
    let worker = worker.read_on();
    let value = |name: &str| sample(&get(&address, "/metrics").body, &format!("penguinmails_{name}"));
    until(|| (value("smtp_accounts_slowed") == 1.0).then_some(()));
    assert!(sink.accepted().len() < 60, "it waits");
    wait_long(|| (sink.accepted().len() == 60).then_some(()));
    until(|| (value("smtp_accounts_slowed") == 0.0).then_some(()));
    assert_eq!(value("smtp_throttled_total"), 1.0, "halved once");
    assert!(value("smtp_connections_opened_total") >= 12.0, "five messages each");
    assert!(worker.stop().0.success());
    assert_eq!(sink.fired()["rcpt 450"], 1);
}

const FAST: usize = 49;
/// Mails of each account.
const EACH: usize = 10;

/// Fifty accounts with as many mails each, the last one at `slow`; how long it took until the mails of the others were
/// accepted at `fast`.
fn fifty(app: &App, fast: &Sink, slow: &Sink, settings: &str) -> Duration {
    let file = app.campaign("fifty.example", locals((FAST + 1) * EACH), 1, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = text.split_once("[[email_account]]").unwrap();
    let (_, tail) = rest.split_once("[campaign]").unwrap();
    let account = |n: usize| {
        let sink = if n < FAST { fast } else { slow };
        format!("[[email_account]]\nemail = \"a{n}@acme.test\"\nsmtp = \"{}\"\n", sink.url)
    };
    let accounts: String = (0..=FAST).map(account).collect();
    std::fs::write(&file, format!("{head}{accounts}[campaign]{tail}")).unwrap();
    let config = configure(app, settings);
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start"]).0, 0);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], (FAST + 1) * EACH);
    let mut worker = app.spawn_with(&["worker", "--config", &config], &[("LOG_LEVEL", "info")]);
    assert!(worker.wait_for("Waiting for jobs...", 1), "{}", worker.seen.join(""));
    let worker = worker.read_on();
    let begun = Instant::now();
    wait_long(|| (fast.accepted().len() >= FAST * EACH).then_some(()));
    let took = begun.elapsed();
    worker.kill();
    took
}

/// Its server takes every connection and says nothing, until the client gives up after a minute. In a worker of four
/// connections, which it could all have, the others are done before that.
///
/// `TARPIT_PAIRS=7` measures the median of as many pairs, one after the other, where a machine is noisy.
fn one_slow_account_among_fifty_takes_less_than_five_percent_of_the_others_rate(engine: Engine) {
    let beside = |settings: &str, fast: &[&str]| {
        let app = App::new(engine)?;
        let (fast, slow) = (Sink::start(&app, fast), Sink::named(&app, "-slow", &["--delay", "connect=5m"]));
        let took = fifty(&app, &fast, &slow, settings);
        let report = app.json(&["campaign", "status", "Welcome"]).1;
        assert_eq!(number(&report, "deferred"), 0, "the others waited until it was given up: {report}");
        assert_eq!((fast.accepted().len(), slow.accepted().len()), (FAST * EACH, 0));
        assert!(number(&slow.fired(), "connect 300000ms") > 0, "the tarpit was entered");
        Some(took)
    };
    if beside("[log]\njobs = false\n[worker]\nconnections = 4\n", &[]).is_none() {
        return;
    }
    // Servers that take three seconds for each message, on three connections: what is measured is who waits for whom, and
    // not this machine.
    let (settings, unhurried) = ("[log]\njobs = false\n[worker]\nconnections_per_account = 3\n", ["--delay", "dot=3s"]);
    let without = || {
        let app = App::new(engine).unwrap();
        let (fast, last) = (Sink::start(&app, &unhurried), Sink::named(&app, "-last", &[]));
        fifty(&app, &fast, &last, settings)
    };
    let ratio = |_| {
        let (with, without) = (beside(settings, &unhurried).unwrap(), without());
        println!("{engine:?}: {with:.1?} beside a tarpit, {without:.1?} without");
        with.as_secs_f64() / without.as_secs_f64()
    };
    let pairs = std::env::var("TARPIT_PAIRS").map_or(1, |pairs| pairs.parse().unwrap());
    let mut ratios: Vec<f64> = (0..pairs).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let what = format!("tarpit, {engine:?}: the mail of {FAST} accounts beside one takes, {pairs} pairs");
    figure(&what, ratios[ratios.len() / 2], 1.05, "times as long");
}

crate::on_every_engine! {
    fs03_an_account_whose_wait_is_over_is_tried_with_one_send
    a_throttled_account_gets_fewer_connections_and_later_more_again
    one_slow_account_among_fifty_takes_less_than_five_percent_of_the_others_rate
}
