//! How fast what was interrupted goes on: a dead worker's jobs, a pause. Figures, beside what must hold however long it takes.
//!
//! Others stand beside their faults (`redis_faults`, `postgres_faults`). To add one: `app::figure`.

use std::time::{Instant, SystemTime};

use domain::time::Timestamp;
use serde_json::Value;

use crate::app::{App, Engine, Sink, figure, lines, number};
use crate::http::wait_long;

fn imported(engine: Engine, domain: &str, sends: usize, server: &[&str]) -> Option<(App, Sink)> {
    let mut app = App::new(engine)?;
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, server);
    let file = app.campaign(domain, (0..sends).map(|n| format!("l{n}")), 1, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], sends);
    Some((app, sink))
}

/// When the last message was accepted, by the receiver's clock, which is this host's.
fn last_accepted_at(sink: &Sink) -> Timestamp {
    let line = lines(&sink.folder.join("index.jsonl")).pop().expect("something was accepted");
    let accepted: Value = serde_json::from_str(&line).unwrap();
    serde_json::from_value(accepted["at"].clone()).unwrap()
}

fn a_dead_workers_jobs_are_taken_over(engine: Engine) {
    const SENDS: usize = 40;
    let Some((app, sink)) = imported(engine, "orphan.example", SENDS, &[]) else { return };
    let hold = app.path("hold");
    std::fs::write(&hold, "").unwrap();
    let at = [("FAULT_POINT", "fetched"), ("FAULT_POINT_HOLD", hold.to_str().unwrap())];
    let mut dead = app.spawn_with(&["worker"], &at);
    assert!(dead.wait_for("fault point reached: fetched", 1), "{}", dead.seen.join(""));
    let mut living = app.spawn(&["worker"]);
    assert!(living.wait_for("Waiting for jobs...", 1));
    let living = living.read_on();
    assert!(sink.accepted().len() < SENDS, "the dead one has jobs of its own");
    dead.kill();
    let killed = Instant::now();
    wait_long(|| (sink.accepted().len() >= SENDS).then_some(()));
    figure(
        &format!("a dead worker's jobs were all sent by another one, {engine:?}"),
        killed.elapsed().as_secs_f64(),
        15.0,
        "s",
    );
    assert!(living.stop().0.success());
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&report, "sent") as usize, number(&report, "unknown")), (SENDS, 0), "{report}");
    assert_eq!(sink.accepted().len(), SENDS);
}

fn a_pause_stops_ten_thousand_jobs(engine: Engine) {
    const SENDS: usize = 10_000;
    let Some((app, sink)) = imported(engine, "pause.example", SENDS, &["--delay", "20ms"]) else { return };
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 100));
    let worker = worker.read_on();
    assert_eq!(app.json(&["campaign", "pause", "Welcome"]).0, 0);
    let answered = Timestamp::from_micros(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap());
    assert!(worker.stop().0.success());
    let accepted = sink.accepted().len();
    assert!((100..SENDS).contains(&accepted), "it was paused in the middle: {accepted}");
    let after = last_accepted_at(&sink).since(answered).as_secs_f64();
    figure(&format!("last message after a pause was answered, {engine:?}"), after, 1.0, "s");

    // A worker that starts now sends nothing either.
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Waiting for jobs...", 1));
    assert!(worker.stop().0.success());
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((sink.accepted().len(), number(&report, "unknown")), (accepted, 0), "{report}");
}

crate::on_every_engine! {
    a_dead_workers_jobs_are_taken_over
    a_pause_stops_ten_thousand_jobs
}
