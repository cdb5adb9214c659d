//! What a process counts is what the receiver got, and Prometheus' own tool has nothing to say against the text.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::app::{App, Engine, Process, Sink, service};
use crate::http::{get, sample, until};
use crate::tracker::Tracker;

fn names(process: &mut Process, what: &str) -> String {
    process.value_after(&format!("{what} listens address="))
}

fn counters_equal_what_the_receiver_got(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &[]);
    let mut who: Vec<String> = (0..60).map(|n| format!("l{n}")).collect();
    who.extend(["unknown+a", "spam+a", "greylist+a", "silent-once+a"].map(str::to_owned));
    let file = app.campaign("count.example", who, 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    let mut scheduler = app.spawn(&["scheduler"]);
    let planner = names(&mut scheduler, "health");
    let mut worker = app.spawn(&["worker"]);
    let address = names(&mut worker, "health");
    // All that can end has ended: the cut one is sent once more, the greylisted one waits for minutes.
    assert!(worker.wait_for("status=sent", 61), "{}", worker.seen.join(""));
    let ends = [
        "{status=\"bounced\",reason=\"unknown_recipient\"}",
        "{status=\"failed\",reason=\"policy_refusal\"}",
        "{status=\"queued\",reason=\"temporary_refusal\"}",
    ]
    .map(|labels| format!("penguinmails_sends_settled_total{labels}"));
    let read = until(|| {
        let text = get(&address, "/metrics").body;
        ends.iter().all(|name| sample(&text, name) == 1.0).then_some(text)
    });
    let value = |name: &str| sample(&read, &format!("penguinmails_{name}"));
    assert_eq!(sink.accepted().len(), 62, "60 and two copies of the one that was cut");
    assert_eq!(value("sends_settled_total{status=\"sent\",reason=\"\"}"), 61.0);
    assert_eq!(value("smtp_deliveries_total{outcome=\"accepted\"}"), 61.0);
    assert_eq!(value("smtp_replies_total{stage=\"dot\",class=\"2xx\"}"), 61.0);
    assert_eq!((value("sends_unknown_total"), value("smtp_deliveries_total{outcome=\"unknown\"}")), (1.0, 1.0));
    assert_eq!(value("dead_letters_total{queue=\"queue:email-sending\",reason=\"policy_refusal\"}"), 1.0);
    assert_eq!(value("dead_letters_waiting"), 1.0);
    assert_eq!(value("smtp_stage_duration_seconds_count{stage=\"banner\"}"), value("smtp_connections_opened_total"));
    assert!(value("jobs_leased_total") >= 65.0 && value("dot_intents_total{answer=\"granted\"}") >= 62.0);
    assert_eq!((value("results_stale_total"), value("queue_errors_total{kind=\"redis_unavailable\"}")), (0.0, 0.0));
    assert!(value("queue_call_duration_seconds_count{call=\"lease\"}") > 0.0);
    assert!(value("database_transaction_duration_seconds_count{access=\"write\"}") > 0.0);
    let planned = get(&planner, "/metrics").body;
    let value = |name: &str| sample(&planned, &format!("penguinmails_scheduler_{name}"));
    assert_eq!((value("sends_planned_total"), value("sends_enqueued_total")), (64.0, 64.0));
    assert!(value("turns_total{result=\"done\"}") >= 1.0);
    assert!(worker.stop().0.success() && scheduler.stop().0.success());
}

fn a_paused_campaigns_dots_are_counted_by_their_reason(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &["--delay", "200ms"]);
    let file = app.campaign("paused.example", (0..1500).map(|n| format!("l{n}")), 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    app.json(&["scheduler", "--once"]);
    let mut worker = app.spawn(&["worker"]);
    let address = names(&mut worker, "health");
    assert!(worker.wait_for("status=sent", 20));
    let worker = worker.read_on();
    let paused = "penguinmails_dot_intents_refused_total{reason=\"campaign_paused\"}";
    // A pause may meet a moment in which nothing is on its way to its dot: then the next one does.
    until(|| {
        assert_eq!(app.json(&["campaign", "pause", "Welcome"]).0, 0);
        let refused = sample(&get(&address, "/metrics").body, paused) > 0.0;
        assert_eq!(app.json(&["campaign", "resume", "Welcome"]).0, 0);
        refused.then_some(())
    });
    assert!(worker.stop().0.success());
}

fn hits_and_events_are_counted(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &[]);
    let mail = crate::tracker::one_mail(&app, &sink);
    let mut tracker = Tracker::start(&app);
    let hits = names(&mut tracker.process, "health");
    for link in mail.links.iter().filter(|link| link.contains("/api/track/")) {
        tracker.ask("GET", &link.replace("http://127.0.0.1:8081", ""));
    }
    for (method, path) in [("GET", "/api/track/open?token=x"), ("POST", "/api/track/click"), ("GET", "/elsewhere")] {
        tracker.ask(method, path);
    }
    tracker.ask("GET", &mail.unsubscribe.trim_matches(['<', '>']).replace("http://127.0.0.1:8081", ""));
    let text = get(&hits, "/metrics").body;
    for (kind, answer, expected) in [
        ("open", "counted", 1.0),
        ("click", "counted", 2.0),
        ("open", "invalid", 1.0),
        ("click", "refused", 1.0),
        ("other", "refused", 1.0),
        ("unsubscribe", "page", 1.0),
        ("unsubscribe", "counted", 0.0),
    ] {
        let name = format!("penguinmails_tracking_requests_total{{kind=\"{kind}\",answer=\"{answer}\"}}");
        assert_eq!(sample(&text, &name), expected, "{name}");
    }
    let waiting = "penguinmails_queue_jobs{queue=\"queue:analytics-processing\",lane=\"base\",state=\"ready\"}";
    assert_eq!(sample(&text, waiting), 3.0);
    let mut worker = app.spawn(&["worker"]);
    let address = names(&mut worker, "health");
    assert!(worker.wait_for(" event for lead ", 3));
    let text = get(&address, "/metrics").body;
    let events = |result: &str| sample(&text, &format!("penguinmails_events_total{{result=\"{result}\"}}"));
    assert_eq!((events("stored"), events("duplicate"), events("foreign")), (3.0, 0.0, 0.0));
    assert!(worker.stop().0.success() && tracker.process.stop().0.success());
}

/// What `promtool check metrics` says about a text; nothing where all is well.
fn checked(promtool: &str, text: &str) -> String {
    let mut command = Command::new(promtool);
    let mut child = command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!("{}{}", if output.status.success() { "" } else { "failed: " }, String::from_utf8(said).unwrap())
}

fn promtool_finds_nothing_wrong_with_any_process(engine: Engine) {
    let Some(promtool) = service("TEST_PROMTOOL") else { return };
    let Some(mut app) = App::new(engine) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &[]);
    crate::tracker::one_mail(&app, &sink);
    for part in ["worker", "scheduler", "track", "serve"] {
        let mut process = app.spawn(&[part]);
        let listeners: &[&str] = if part == "serve" { &["cron API", "health"] } else { &["health"] };
        for what in listeners {
            let address = names(&mut process, what);
            let answer = get(&address, "/metrics");
            assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            assert_eq!(checked(&promtool, &answer.body), "", "{part}");
            assert!(sample(&answer.body, "process_resident_memory_bytes") > 1e6);
            assert!(sample(&answer.body, "process_start_time_seconds") > 1e9);
            assert!(sample(&answer.body, "process_open_fds") > 3.0);
        }
        assert!(process.stop().0.success());
    }
    let wrong = "# HELP a_count x\n# TYPE a_count counter\na_count 1\n";
    assert!(!checked(&promtool, wrong).is_empty(), "the tool does find what is wrong");
}

crate::on_every_engine! {
    counters_equal_what_the_receiver_got
    a_paused_campaigns_dots_are_counted_by_their_reason
    hits_and_events_are_counted
    promtool_finds_nothing_wrong_with_any_process
}
