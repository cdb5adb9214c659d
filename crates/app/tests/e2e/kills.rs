//! Five SIGKILLs of the worker at random moments of 5,000 sends, and a SIGTERM: counted in the receiver's journal.

use crate::app::{App, Engine, Sink, number};
use crate::http::wait_long;
use crate::truth::{Promise, Truth};

const SENDS: usize = 5_000;

fn imported(engine: Engine, domain: &str) -> Option<(App, Sink)> {
    let mut app = App::new(engine)?;
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let leads = (0..SENDS).map(|n| format!("l{n}"));
    let file = app.campaign(domain, leads, 1, "");
    let (exit, _) = app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    assert_eq!(exit, 0);
    Some((app, sink))
}

/// Random moments, a new seed for each run; printed, so that a failure can be told again.
fn moments() -> Vec<usize> {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.subsec_nanos()) as usize;
    let moments = (1..=5).map(|n| 50 + (seed / (n * 7919)) % 700).collect();
    println!("seed {seed}: killed after {moments:?} results");
    moments
}

fn five_kills_lose_nothing_and_copy_only_what_is_unknown(engine: Engine) {
    let Some((app, sink)) = imported(engine, "kill.example") else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    for results in moments() {
        let mut worker = app.spawn(&["worker"]);
        assert!(worker.wait_for("status=sent", results), "the kill must fire in the middle");
        worker.kill();
    }
    let last = app.spawn(&["worker"]).read_on();
    // What three killed workers had in hand is held: a person says that it may go.
    wait_long(|| {
        let (_, report) = app.json(&["campaign", "status", "Welcome"]);
        if number(&report, "held") > 0 {
            app.output(&["send", "resolve", "--campaign", "Welcome", "--reason", "poison", "--resend"]);
        }
        (number(&report, "held") + number(&report, "pending") == 0).then_some(())
    });
    assert!(scheduler.wait_for("campaign completed", 1), "{}", scheduler.seen.join(""));
    assert_eq!(last.stop().0.code(), Some(0));
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    let truth = Truth::of(&app, SENDS, sink.message_ids());
    println!("{engine:?}: lost {}, extra {}, unknown {}", truth.lost(), truth.extra(), truth.unknown());
    truth.keeps(Promise::Resend);
    assert_eq!((number(&report, "sent") as usize, number(&report, "unknown") as usize), (SENDS, truth.unknown()));
}

fn a_graceful_stop_in_the_middle_leaves_nothing_unknown(engine: Engine) {
    let Some((app, sink)) = imported(engine, "term.example") else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 700));
    let (exit, _) = worker.stop();
    assert_eq!(exit.code(), Some(0));
    let (_, middle) = app.json(&["campaign", "status", "Welcome"]);
    assert!((700..SENDS as u64).contains(&number(&middle, "sent")), "{middle}");
    assert_eq!(number(&middle, "unknown"), 0);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", SENDS - number(&middle, "sent") as usize));
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    Truth::of(&app, SENDS, sink.message_ids()).keeps(Promise::Calm);
}

fn a_scheduler_stops_between_two_pages(engine: Engine) {
    const LEADS: u64 = 1_200;
    let Some(app) = App::new(engine) else { return };
    let file = app.campaign("page.example", (0..LEADS).map(|n| format!("l{n}")), 1, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start"]).0, 0);
    let hold = app.path("hold");
    std::fs::write(&hold, "").unwrap();
    let at = [("FAULT_POINT", "recorded"), ("FAULT_POINT_HOLD", hold.to_str().unwrap())];
    let mut scheduler = app.spawn_with(&["scheduler"], &at);
    assert!(scheduler.wait_for("fault point reached: recorded", 1), "{}", scheduler.seen.join(""));
    scheduler.signal("-TERM");
    assert!(scheduler.wait_for("stopping", 1));
    std::fs::remove_file(&hold).unwrap();
    assert_eq!(scheduler.ended().0.code(), Some(0));
    let left = number(&app.json(&["scheduler", "--once"]).1, "planned");
    assert!((1..LEADS).contains(&left), "the page that was under way was recorded, and no other: {left} were left");
}

crate::on_every_engine! {
    a_scheduler_stops_between_two_pages
    five_kills_lose_nothing_and_copy_only_what_is_unknown
    a_graceful_stop_in_the_middle_leaves_nothing_unknown
}
