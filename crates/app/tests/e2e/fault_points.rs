//! The worker and the scheduler killed, stopped or overtaken at exactly one point of one email's path (FAULTS FP02 to
//! FP10, FP18), judged by what the receiver holds.
//!
//! Each case runs its points side by side, since a dead worker is noticed after twelve seconds. To add a point: its name
//! in `fault_point.rs` of the product, and what is expected of it here.

use std::path::PathBuf;

use serde_json::Value;

use crate::app::{App, Engine, Process, Reading, Sink, number};
use crate::http::wait_long;
use crate::maildir;
use crate::tracker::Tracker;

/// What the ledger and the receiver say in the end.
#[derive(Debug, PartialEq, Eq)]
struct End {
    copies: usize,
    sent: u64,
    held: u64,
    unknown: u64,
}

const ONCE: End = End { copies: 1, sent: 1, held: 0, unknown: 0 };
const NEVER: End = End { copies: 0, sent: 0, held: 1, unknown: 1 };

/// A campaign with one lead, started.
struct Scene {
    app: App,
    sink: Sink,
    hold: PathBuf,
}

impl Scene {
    fn new(engine: Engine, extra: &str) -> Option<Self> {
        let mut app = App::new(engine)?;
        app.set("LOG_LEVEL", "info");
        let sink = Sink::start(&app, &[]);
        let file = app.campaign("point.example", ["ana".to_owned()], 1, extra);
        assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
        let hold = app.path("hold");
        std::fs::write(&hold, "").unwrap();
        Some(Self { app, sink, hold })
    }

    /// A process that stands still at `point`, where it has arrived.
    fn held_at(&self, part: &str, point: &str) -> Process {
        let hold = self.hold.to_str().unwrap();
        let mut process = self.app.spawn_with(&[part], &[("FAULT_POINT", point), ("FAULT_POINT_HOLD", hold)]);
        let line = format!("fault point reached: {point}");
        assert!(process.wait_for(&line, 1), "the fault did not fire: {}", process.seen.join(""));
        process
    }

    /// A worker that stands still there, with the send planned before.
    fn worker_at(&self, point: &str) -> Process {
        assert_eq!(self.app.json(&["scheduler", "--once"]).1["planned"], 1);
        self.held_at("worker", point)
    }

    /// A worker that runs on.
    fn next_worker(&self) -> Reading {
        let mut worker = self.app.spawn(&["worker"]);
        assert!(worker.wait_for("Waiting for jobs...", 1), "{}", worker.seen.join(""));
        worker.read_on()
    }

    fn release(&self) {
        std::fs::remove_file(&self.hold).unwrap();
    }

    fn status(&self) -> Value {
        self.app.json(&["campaign", "status", "Welcome"]).1
    }

    /// Looks until nothing waits, which only a running worker can bring about.
    fn settled(&self) -> End {
        wait_long(|| {
            let status = self.status();
            let waits = number(&status, "pending") + number(&status, "deferred");
            (waits == 0 && number(&status, "planned") == 1).then(|| End {
                copies: self.sink.accepted().len(),
                sent: number(&status, "sent"),
                held: number(&status, "held"),
                unknown: number(&status, "unknown"),
            })
        })
    }
}

/// Runs a case for each of these points at once.
fn side_by_side<T: Sync>(points: &[(&'static str, T)], case: impl Fn(&'static str, &T) + Sync) {
    std::thread::scope(|scope| {
        let running: Vec<_> = points.iter().map(|(point, end)| scope.spawn(|| case(point, end))).collect();
        for (case, (point, _)) in running.into_iter().zip(points) {
            assert!(case.join().is_ok(), "at `{point}`");
        }
    });
}

fn fp04_to_fp07_a_worker_killed_at_any_point_loses_nothing(engine: Engine) {
    let twice = End { copies: 2, unknown: 1, ..ONCE };
    let points = [
        ("leased", ONCE),
        ("fetched", ONCE),
        ("asking", ONCE),
        ("granted", End { unknown: 1, ..ONCE }),
        ("answered", twice),
        ("journaled", ONCE),
        ("applied", ONCE),
    ];
    side_by_side(&points, |point, end| killed(engine, "", point, end));
}

fn fp06_and_fp07_under_hold_a_kill_makes_no_copy(engine: Engine) {
    let kept = End { copies: 1, ..NEVER };
    let points = [("granted", NEVER), ("answered", kept), ("journaled", ONCE)];
    side_by_side(&points, |point, end| killed(engine, "on_unknown = \"hold\"", point, end));
}

fn killed(engine: Engine, extra: &str, point: &str, end: &End) {
    let Some(scene) = Scene::new(engine, extra) else { return };
    scene.worker_at(point).kill();
    let worker = scene.next_worker();
    assert_eq!(&scene.settled(), end);
    let (exit, log) = worker.stop();
    assert!(exit.success());
    let replayed =
        log.iter().any(|line| line.contains("journal of a dead worker was written down") && line.contains("new=1"));
    assert_eq!(replayed, point == "journaled", "{}", log.join(""));
}

/// The worker dies with the answer in hand; a person opens the mail, before its end is noticed or when it is held.
fn a_mail_that_was_opened_is_neither_sent_again_nor_held(engine: Engine) {
    side_by_side(&[("resend", true), ("hold", false)], |policy, is_opened_first| {
        let Some(scene) = Scene::new(engine, &format!("on_unknown = \"{policy}\"")) else { return };
        scene.worker_at("answered").kill();
        let open = || {
            let mail = maildir::read_folder(&scene.sink.folder, "point.example").remove(0);
            let pixel = mail.links.iter().find(|link| link.contains("/api/track/open")).unwrap();
            let path = pixel.trim_start_matches("http://127.0.0.1:8081").replace("&amp;", "&");
            let mut tracker = Tracker::start(&scene.app);
            assert_eq!(tracker.ask("GET", &path).status, 200);
            assert_eq!(tracker.process.stop().0.code(), Some(0));
        };
        let once = End { unknown: 1, ..ONCE };
        if *is_opened_first {
            open();
        }
        let worker = scene.next_worker();
        if !is_opened_first {
            assert_eq!(scene.settled(), End { copies: 1, ..NEVER });
            open();
        }
        wait_long(|| (scene.settled() == once).then_some(()));
        assert!(worker.stop().0.success());
    });
}

fn fp02_a_scheduler_killed_before_its_hint_is_healed_by_reconciliation(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    scene.held_at("scheduler", "recorded").kill();
    let worker = scene.next_worker();
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

fn fp09_a_graceful_stop_at_any_point_leaves_nothing_unknown(engine: Engine) {
    let points =
        ["leased", "fetched", "asking", "granted", "answered", "journaled", "applied"].map(|point| (point, ()));
    side_by_side(&points, |point, ()| {
        let Some(scene) = Scene::new(engine, "") else { return };
        let stopping = scene.worker_at(point);
        stopping.signal("-TERM");
        scene.release();
        let (exit, log) = stopping.ended();
        assert_eq!(exit.code(), Some(0), "{}", log.join(""));
        let worker = scene.next_worker();
        assert_eq!(scene.settled(), ONCE);
        assert!(worker.stop().0.success());
    });
}

fn fp10_an_owner_that_was_overtaken_is_refused_at_the_gate(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    let slow = scene.worker_at("asking");
    slow.signal("-STOP");
    let worker = scene.next_worker();
    assert_eq!(scene.settled(), ONCE);
    scene.release();
    slow.signal("-CONT");
    let (_, log) = slow.stop();
    assert!(log.iter().any(|line| line.contains("fault point left: asking")), "{}", log.join(""));
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

fn fp18_whoever_stops_a_send_before_its_dot_wins(engine: Engine) {
    let none = |status: &Value| (number(status, "sent"), number(status, "unknown")) == (0, 0);
    let points = [("fetched", "pause"), ("asking", "pause"), ("fetched", "cancel"), ("asking", "cancel")];
    side_by_side(&points, |point, answer| {
        let Some(scene) = Scene::new(engine, "") else { return };
        let worker = scene.worker_at(point);
        assert_eq!(scene.app.json(&["campaign", answer, "Welcome"]).0, 0);
        scene.release();
        let (exit, log) = worker.stop();
        assert!(exit.success() && log.iter().any(|line| line.contains("fault point left")), "{}", log.join(""));
        assert!(none(&scene.status()) && scene.sink.accepted().is_empty(), "a dot after the answer");
        if *answer == "pause" {
            assert_eq!(scene.app.json(&["campaign", "resume", "Welcome"]).0, 0);
            let worker = scene.next_worker();
            assert_eq!(scene.settled(), ONCE);
            assert!(worker.stop().0.success());
        }
    });
}

fn a_job_that_three_workers_died_over_waits_for_a_person(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    scene.worker_at("fetched").kill();
    for _ in 0..2 {
        scene.held_at("worker", "fetched").kill();
    }
    let worker = scene.next_worker();
    assert_eq!(scene.settled(), End { unknown: 0, ..NEVER });
    let send = &scene.app.json(&["campaign", "failures", "Welcome"]).1["failures"][0];
    assert_eq!((send["state"].as_str(), send["reason"].as_str()), (Some("held"), Some("poison")));
    let id = send["sendId"].as_str().unwrap();
    let shown = scene.app.json(&["send", "show", id]).1;
    assert_eq!(
        (shown["why"].as_str(), shown["attempts"].as_array().map(Vec::len)),
        (Some("three tries ended without a result"), Some(0))
    );
    assert_eq!(scene.app.json(&["send", "resolve", id, "--resend"]).0, 0);
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

crate::on_every_engine! {
    fp02_a_scheduler_killed_before_its_hint_is_healed_by_reconciliation
    fp04_to_fp07_a_worker_killed_at_any_point_loses_nothing
    fp06_and_fp07_under_hold_a_kill_makes_no_copy
    a_mail_that_was_opened_is_neither_sent_again_nor_held
    fp09_a_graceful_stop_at_any_point_leaves_nothing_unknown
    fp18_whoever_stops_a_send_before_its_dot_wins
    a_job_that_three_workers_died_over_waits_for_a_person
}

/// Not on SQLite: there a process that is stopped may hold the file's one write lock, and nobody overtakes it.
mod overtaken {
    use crate::app::Engine;

    mod postgres {
        #[test]
        fn fp10_an_owner_that_was_overtaken_is_refused_at_the_gate() {
            super::super::fp10_an_owner_that_was_overtaken_is_refused_at_the_gate(super::Engine::Postgres);
        }
    }
    mod redis {
        #[test]
        fn fp10_an_owner_that_was_overtaken_is_refused_at_the_gate() {
            super::super::fp10_an_owner_that_was_overtaken_is_refused_at_the_gate(super::Engine::Redis);
        }
    }
}
