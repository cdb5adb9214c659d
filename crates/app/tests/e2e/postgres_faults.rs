//! PostgreSQL restarted and killed under a whole platform: its processes go on by themselves, and every message goes once.

use std::collections::HashSet;
use std::process::Command;
use std::time::Instant;

use crate::app::{App, Process, Reading, Sink, figure, number};
use crate::http::wait_long;
use crate::maildir::{self, Mail};
use crate::tracker::Tracker;

const SENDS: usize = 3_000;
const DOMAIN: &str = "restart.example";

/// The sink's journal as it grows: each line a message that was accepted, read without looking again and again.
pub struct Arrivals {
    tail: Process,
    read: usize,
}

impl Arrivals {
    pub fn at(sink: &Sink) -> Self {
        let mut command = Command::new("sh");
        let tail = Process::start(command.args(["-c", "exec tail -n +1 -f \"$0\" >&2"]).arg(&sink.journal));
        Self { tail, read: 0 }
    }

    pub fn wait_for(&mut self, count: usize) {
        assert!(self.tail.wait_for("", count - self.read));
        self.read = count;
    }

    /// How long after the server's return the first message arrived that was not there before.
    pub fn first_since(&mut self, returned: Instant, sink: &Sink) -> f64 {
        let there = sink.accepted().len();
        self.wait_for(there + 1);
        returned.elapsed().as_secs_f64()
    }
}

fn imported() -> Option<(App, Sink)> {
    let app = App::on_own_postgres()?;
    let sink = Sink::start(&app, &[]);
    let file = app.campaign(DOMAIN, (0..SENDS).map(|n| format!("lead{n}")), 1, "");
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url];
    assert_eq!(app.json(&arguments).0, 0);
    Some((app, sink))
}

/// Ends a process that must not have ended by itself; whether it has told of a database that was away.
fn has_noticed(process: Reading) -> bool {
    let (exit, log) = process.stop();
    assert_eq!(exit.code(), Some(0), "{}", log.join(""));
    log.iter().any(|line| line.contains("database cannot be reached") || line.contains("connection broke"))
}

/// Longer than leases of a second, than the twelve seconds after which a heartbeat that stands still is a death, and than
/// the fifteen of settling: workers that live are nobody's heirs.
#[test]
fn fd02_an_outage_far_longer_than_every_lease_makes_no_duplicate() {
    let Some(mut app) = App::on_own_postgres() else { return };
    let sink = Sink::start(&app, &["--delay", "50ms"]);
    let file = app.campaign("outage.example", (0..SENDS / 2).map(|n| format!("lead{n}")), 1, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    let config = app.path("short.toml");
    std::fs::write(&config, "[worker]\nlease = \"1s\"\n").unwrap();
    let worker = ["worker", "--config", config.to_str().unwrap()];
    let quiet = [("LOG_LEVEL", "warn")];
    let scheduler = app.spawn_with(&["scheduler"], &quiet).read_on();
    let mut workers = [app.spawn_with(&worker, &quiet), app.spawn_with(&worker, &quiet)];
    Arrivals::at(&sink).wait_for(SENDS / 8);
    app.postgres().kill();
    let began = Instant::now();
    for worker in &mut workers {
        assert!(worker.wait_for("the heartbeat cannot be written", 10), "{}", worker.seen.join(""));
    }
    let outage = began.elapsed().as_secs_f64();
    assert!(outage > 27.0, "longer than a death and its settling: {outage}");
    let middle = sink.accepted().len();
    assert!((SENDS / 8..SENDS / 2).contains(&middle), "the outage came in the middle: {middle}");
    app.postgres().start_again();
    let report = wait_long(|| {
        let (_, report) = app.json(&["campaign", "status", "Welcome"]);
        (number(&report, "sent") as usize == SENDS / 2).then_some(report)
    });
    for process in workers.map(Process::read_on).into_iter().chain([scheduler]) {
        assert_eq!(process.stop().0.code(), Some(0));
    }
    let accepted = sink.accepted();
    let once: HashSet<&String> = accepted.iter().collect();
    println!("an outage of {outage:.0} s: lost {}, extra {}", SENDS / 2 - once.len(), accepted.len() - once.len());
    figure("copies after an SQL outage longer than every lease", (accepted.len() - once.len()) as f64, 0.0, "");
    assert_eq!((once.len(), accepted.len(), number(&report, "unknown")), (SENDS / 2, SENDS / 2, 0), "{report}");
}

#[test]
fn fd01_and_fd02_a_platform_outlives_two_crashes_of_its_database() {
    let Some((mut app, sink)) = imported() else { return };
    let quiet = [("LOG_LEVEL", "warn")];
    let mut scheduler = app.spawn_with(&["scheduler"], &[("LOG_LEVEL", "info")]);
    let workers = [app.spawn_with(&["worker"], &quiet), app.spawn_with(&["worker"], &quiet)].map(Process::read_on);
    let mut tracker = Tracker::start(&app);
    let mut arrivals = Arrivals::at(&sink);
    let mut lives = HashSet::from([app.postgres().life()]);

    arrivals.wait_for(SENDS / 5);
    app.postgres().stop_at_once();
    app.postgres().start_again();
    let after_restart = arrivals.first_since(Instant::now(), &sink);
    lives.insert(app.postgres().life());

    arrivals.wait_for(SENDS / 2);
    app.postgres().kill();
    assert!(scheduler.wait_for("campaigns cannot be planned now", 1), "{}", scheduler.seen.join(""));
    let mail: Vec<Mail> = maildir::read(&[sink.folder.join("000001.eml")]);
    tracker.check_links(&mail);
    let middle = sink.accepted().len();
    assert!((SENDS / 2..SENDS).contains(&middle), "the kill fired in the middle: {middle}");
    app.postgres().start_again();
    let after_kill = arrivals.first_since(Instant::now(), &sink);
    lives.insert(app.postgres().life());

    assert!(scheduler.wait_for("campaign completed", 1), "{}", scheduler.seen.join(""));
    assert_eq!(lives.len(), 3, "both faults fired: {lives:?}");
    assert!(workers.map(has_noticed).into_iter().all(|noticed| noticed), "connections of both workers broke");
    assert_eq!((scheduler.stop().0.code(), tracker.process.stop().0.code()), (Some(0), Some(0)));
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    let (accepted, unknown) = (sink.accepted(), number(&report, "unknown"));
    let once: HashSet<&String> = accepted.iter().collect();
    let (lost, extra) = (SENDS - once.len(), accepted.len() - once.len());
    println!("lost {lost}, extra {extra}, unknown {unknown}");
    figure("first message after the return of a restarted PostgreSQL", after_restart, 10.0, "s");
    figure("first message after the return of a killed PostgreSQL", after_kill, 10.0, "s");
    // No owner died and no dialogue was cut: nobody may be taken for dead.
    assert_eq!((lost, extra, unknown, number(&report, "sent") as usize), (0, 0, 0, SENDS), "{report}");
}

/// With the queue in the database too: the leases of all jobs in work are over many times before it returns, and answers to
/// dots that stood open come while it is away.
#[test]
fn fd02_what_is_answered_in_an_outage_far_longer_than_every_lease_goes_once() {
    const SENDS: usize = 60;
    const OPEN: usize = 8;
    let Some(mut app) = App::on_own_postgres() else { return };
    app.set("REDIS_URL", "");
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &["--delay", &format!("accept=8s,times={OPEN}")]);
    let file = app.campaign("outage.example", (0..SENDS).map(|n| format!("lead{n}")), 1, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    assert_eq!(app.json(&["scheduler", "--once"]).1["planned"], SENDS);
    // Too little room for one worker to have all of them.
    let config = app.path("short.toml");
    std::fs::write(&config, "[worker]\nconnections = 4\nconnections_per_account = 4\nlease = \"2s\"\n").unwrap();
    let mut workers = [(), ()].map(|()| app.spawn(&["worker", "--config", config.to_str().unwrap()]));
    Arrivals::at(&sink).wait_for(OPEN);
    app.postgres().stop_at_once();
    let away = Instant::now();
    for worker in &mut workers {
        let kept = "results are kept: the database does not take them";
        assert!(worker.wait_for(kept, 1), "no answer came meanwhile: {}", worker.seen.join(""));
        // One each three seconds and a bit.
        assert!(worker.wait_for("the heartbeat cannot be written", 6), "{}", worker.seen.join(""));
    }
    assert_eq!(sink.accepted().len(), OPEN, "a dot without its intent");
    let outage = away.elapsed().as_secs_f64();
    assert!(outage > 15.0, "longer than a lease and a dead one's heartbeat: {outage}");
    app.postgres().start_again();
    let workers = workers.map(Process::read_on);
    let report = wait_long(|| {
        let (_, report) = app.json(&["campaign", "status", "Welcome"]);
        (number(&report, "pending") + number(&report, "deferred") == 0).then_some(report)
    });
    for worker in workers {
        let (exit, log) = worker.stop();
        assert_eq!(exit.code(), Some(0), "{}", log.join(""));
        assert!(!log.iter().any(|line| line.contains("an owner is dead")), "{}", log.join(""));
    }
    let (accepted, sent) = (sink.accepted(), number(&report, "sent") as usize);
    let once: HashSet<&String> = accepted.iter().collect();
    let extra = accepted.len() - once.len();
    println!("an outage of {outage:.0} s, the queue away with it: lost {}, extra {extra}", SENDS - once.len());
    figure("copies after an outage of the database with the queue in it", extra as f64, 0.0, "");
    assert_eq!((once.len(), extra, sent, number(&report, "unknown")), (SENDS, 0, SENDS, 0), "{report}");
}
