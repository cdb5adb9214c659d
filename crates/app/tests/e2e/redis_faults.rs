//! Redis away, emptied, killed: the ledger brings everything again, once.

use std::collections::HashSet;

use crate::app::{App, Engine, Sink, number};

const SENDS: usize = 10_000;

fn imported(domain: &str, sends: usize) -> Option<(App, Sink)> {
    let mut app = App::new(Engine::Redis)?;
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let file = app.campaign(domain, (0..sends).map(|n| format!("l{n}")), 1, "");
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url];
    assert_eq!(app.json(&arguments).0, 0);
    Some((app, sink))
}

fn check_all_sent_once(app: &App, sink: &Sink, sends: usize) {
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    let (sent, unknown) = (number(&report, "sent") as usize, number(&report, "unknown"));
    assert_eq!((sent, unknown), (sends, 0), "{report}");
    let accepted = sink.accepted();
    let once: HashSet<&String> = accepted.iter().collect();
    assert_eq!((once.len(), accepted.len()), (sends, sends), "every message once");
}

#[test]
fn an_emptied_redis_is_filled_again_from_the_ledger() {
    let Some((app, sink)) = imported("flush.example", SENDS) else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("Enqueued", 1));
    while app.redis().ask(&["LLEN", "queue:email-sending"]).parse::<usize>().unwrap() < SENDS {}
    app.redis().ask(&["FLUSHALL"]);
    assert_eq!(app.redis().ask(&["LLEN", "queue:email-sending"]), "0", "the fault fired");
    let worker = app.spawn(&["worker"]).read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, SENDS);
}

#[test]
fn a_redis_that_is_killed_and_comes_back_stops_nothing_for_good() {
    let Some((mut app, sink)) = imported("killed.example", 2_000) else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 300));
    app.redis_mut().kill();
    assert!(worker.wait_for("redis does not answer", 1), "the fault fired");
    app.redis_mut().start_again();
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, 2_000);
}

#[test]
fn a_redis_that_is_absent_at_start_is_waited_for() {
    let Some((mut app, sink)) = imported("absent.example", 50) else { return };
    app.redis_mut().kill();
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Redis does not answer, trying again", 1), "{}", worker.seen.join(""));
    app.redis_mut().start_again();
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(worker.wait_for("Waiting for jobs...", 1));
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, 50);
}

#[test]
fn two_deployments_on_one_redis_are_told_apart() {
    let Some((mut other, _)) = imported("other.example", 1) else { return };
    let Some((app, _sink)) = imported("first.example", 1) else { return };
    other.set("REDIS_URL", &app.redis().url());
    let output = other.output(&["queue", "status"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("another deployment") && text.contains("REDIS_URL"), "{text}");
}

#[test]
fn a_redis_that_may_drop_jobs_is_warned_of_or_refused() {
    let Some((app, _sink)) = imported("evict.example", 1) else { return };
    app.redis().ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let warned = app.output(&["queue", "status"]);
    let text = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warned.status.success() && text.contains("noeviction"), "{text}");
    std::fs::write(app.path("strict.toml"), "[redis]\nstrict = true\n").unwrap();
    let refused = app.output(&["queue", "status", "--config", app.path("strict.toml").to_str().unwrap()]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
}
