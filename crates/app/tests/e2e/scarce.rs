//! FP16: what the host gives is used up: room on the disk, open files, memory. Work slows down and says why; nothing is
//! lost, and nobody panics.
//!
//! The limits are those of the process itself, so that nobody else's are touched. To add one: a case that sets it by
//! `spawn_within`, or while the process runs.

use std::collections::HashSet;

use crate::app::{App, Engine, Sink, number};
use crate::http::{get, sample, until};
use crate::tracker::{Client, one_mail};

/// A campaign of so many sends from so many accounts, started, with all of it planned and enqueued.
fn planned(engine: Engine, sends: usize, accounts: usize) -> Option<(App, Sink)> {
    let mut app = App::new(engine)?;
    app.set("LOG_LEVEL", "info");
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &[]);
    let mut extra = String::new();
    for n in 1..accounts {
        let account = format!("email = \"a{n}@acme.test\"\nsmtp = \"smtp://127.0.0.1:25?tls=none\"\n");
        extra.push_str(&format!("[[email_account]]\n{account}"));
    }
    let file = app.campaign("scarce.example", (0..sends).map(|n| format!("l{n}")), 1, &extra);
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    assert_eq!(app.json(&["scheduler", "--once"]).1["planned"], sends);
    Some((app, sink))
}

fn check_all_sent_once(app: &App, sink: &Sink, sends: usize, log: &[String]) {
    let (_, status) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&status, "sent") as usize, number(&status, "unknown")), (sends, 0), "{status}");
    let accepted = sink.accepted();
    assert_eq!((accepted.len(), accepted.iter().collect::<HashSet<_>>().len()), (sends, sends), "every message once");
    assert!(!log.iter().any(|line| line.contains("panicked")), "{}", log.join(""));
}

fn fp16_a_journal_without_room_stops_dots_until_there_is_some(engine: Engine) {
    const SENDS: usize = 800;
    let Some((app, sink)) = planned(engine, SENDS, 1) else { return };
    let mut worker = app.spawn_within("true", &["worker"]);
    let health = worker.value_after("health listens address=");
    assert!(worker.wait_for("status=sent", 100));
    worker.let_files_grow(false);
    assert!(worker.wait_for("no dot is written while the journal cannot be", 1), "{}", worker.seen.join(""));
    let worker = worker.read_on();
    let intents = |answer: &str| {
        let name = format!("penguinmails_dot_intents_total{{answer=\"{answer}\"}}");
        sample(&get(&health, "/metrics").body, &name)
    };
    until(|| (intents("unavailable") > 0.0).then_some(()));
    // Those that were asked for before may still be granted: it has to come to rest.
    let granted = until(|| {
        let (granted, asked) = (intents("granted"), intents("unavailable"));
        until(|| (intents("unavailable") > asked).then_some(()));
        (intents("granted") == granted).then_some(granted)
    });
    assert!(granted < SENDS as f64, "it came in the middle");
    worker.let_files_grow(true);
    until(|| (sink.accepted().len() == SENDS).then_some(()));
    let (exit, log) = worker.stop();
    assert_eq!(exit.code(), Some(0));
    check_all_sent_once(&app, &sink, SENDS, &log);
}

/// Fewer files than the accounts would have connections.
fn fp16_few_open_files_slow_a_worker_down_and_blame_no_account(engine: Engine) {
    const SENDS: usize = 240;
    let Some((app, sink)) = planned(engine, SENDS, 8) else { return };
    // What one account leaves is another's turn.
    let config = app.path("c.toml");
    std::fs::write(&config, "[worker]\nidle = \"1s\"\n").unwrap();
    let worker = app.spawn_within("ulimit -n 64", &["worker", "--config", config.to_str().unwrap()]).read_on();
    until(|| (sink.accepted().len() == SENDS).then_some(()));
    let (exit, log) = worker.stop();
    assert_eq!(exit.code(), Some(0), "{}", log.join(""));
    assert!(log.iter().any(|line| line.contains("Too many open files")), "the fault fired: {}", log.join(""));
    assert!(!log.iter().any(|line| line.contains("an email account stops for now")), "{}", log.join(""));
    check_all_sent_once(&app, &sink, SENDS, &log);
}

fn fp16_little_memory_is_enough(engine: Engine) {
    const SENDS: usize = 400;
    let Some((app, sink)) = planned(engine, SENDS, 4) else { return };
    // Of addresses, not of memory: the C library sets aside 64 MiB of them for each thread unless it is told not to.
    let limits = "ulimit -v 262144; export MALLOC_ARENA_MAX=2";
    let worker = app.spawn_within(limits, &["worker"]).read_on();
    until(|| (sink.accepted().len() == SENDS).then_some(()));
    let (exit, log) = worker.stop();
    assert_eq!(exit.code(), Some(0), "{}", log.join(""));
    check_all_sent_once(&app, &sink, SENDS, &log);
}

/// Neither Redis nor the disk takes an event: readers are led on, and it is counted when one of them does again.
#[test]
fn fp16_an_event_that_nothing_takes_waits_in_memory() {
    let Some(mut app) = App::new(Engine::Redis) else { return };
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let link = mail.links.iter().find(|link| link.contains("/api/track/click")).unwrap();
    let mut tracker = app.spawn_within("true", &["track"]);
    let address = tracker.value_after("address=").split(' ').next().unwrap().to_owned();
    app.redis_mut().kill();
    tracker.let_files_grow(false);
    let path = link.replace("http://127.0.0.1:8081", "");
    assert_eq!(Client::connect(&address).ask("GET", &path).status, 302);
    assert!(tracker.wait_for("events wait in memory", 2), "{}", tracker.seen.join(""));
    tracker.let_files_grow(true);
    until(|| {
        let spool = std::fs::read_dir(app.path("data/spool")).unwrap();
        spool.flatten().any(|file| file.path().extension().is_some_and(|e| e == "events")).then_some(())
    });
    app.redis_mut().start_again();
    app.set("LOG_LEVEL", "info");
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Received click event", 1));
    assert!(worker.stop().0.success());
    let (exit, log) = tracker.stop();
    assert!(exit.success() && !log.iter().any(|line| line.contains("panicked") || line.contains("are lost")));
    assert_eq!(number(&app.json(&["campaign", "status", "Welcome"]).1, "clicks"), 1);
}

/// Not on SQLite, whose file cannot grow either then.
mod journal {
    use crate::app::Engine;

    mod postgres {
        #[test]
        fn fp16_a_journal_without_room_stops_dots_until_there_is_some() {
            super::super::fp16_a_journal_without_room_stops_dots_until_there_is_some(super::Engine::Postgres);
        }
    }
    mod redis {
        #[test]
        fn fp16_a_journal_without_room_stops_dots_until_there_is_some() {
            super::super::fp16_a_journal_without_room_stops_dots_until_there_is_some(super::Engine::Redis);
        }
    }
}

/// Limits of the process, whatever its engines: that with the fewest files of its own, and that with the most.
mod sqlite {
    use crate::app::Engine;

    #[test]
    fn fp16_few_open_files_slow_a_worker_down_and_blame_no_account() {
        super::fp16_few_open_files_slow_a_worker_down_and_blame_no_account(Engine::Sqlite);
    }
    #[test]
    fn fp16_little_memory_is_enough() {
        super::fp16_little_memory_is_enough(Engine::Sqlite);
    }
}

mod redis {
    use crate::app::Engine;

    #[test]
    fn fp16_few_open_files_slow_a_worker_down_and_blame_no_account() {
        super::fp16_few_open_files_slow_a_worker_down_and_blame_no_account(Engine::Redis);
    }
    #[test]
    fn fp16_little_memory_is_enough() {
        super::fp16_little_memory_is_enough(Engine::Redis);
    }
}
