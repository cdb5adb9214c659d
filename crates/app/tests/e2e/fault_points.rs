//! The worker and the scheduler killed, stopped or overtaken at exactly one point of one email's path (FAULTS FP01 to
//! FP11, FP18) or of an event's (FP14), judged by what the receiver holds.
//!
//! Each case runs its points side by side, since a dead worker is noticed after twelve seconds. To add a point: its name
//! in `fault_point.rs` of the product, and what is expected of it here.

use serde_json::Value;

use crate::app::{Engine, number};
use crate::http::{until, wait_long};
use crate::maildir;
use crate::scene::{End, NEVER, ONCE, Scene, side_by_side};
use crate::tracker::{Tracker, one_mail};

/// With Redis the last of them has another program's job, which is not acknowledged when the worker dies.
fn fp04_to_fp08_a_worker_killed_at_any_point_loses_nothing(engine: Engine) {
    let twice = End { copies: 2, unknown: 1, ..ONCE };
    let points = [
        ("leased", ONCE),
        ("fetched", ONCE),
        ("asking", ONCE),
        ("intending", ONCE),
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
    let is_strangers = engine == Engine::Redis && point == "applied";
    if is_strangers {
        scene.push_job();
        scene.held_at("worker", point).kill();
    } else {
        scene.worker_at(point).kill();
    }
    let mut worker = scene.app.spawn(&["worker"]);
    let sign = if is_strangers { "settled=sent" } else { "Waiting for jobs..." };
    assert!(worker.wait_for(sign, 1), "{}", worker.seen.join(""));
    let worker = worker.read_on();
    assert_eq!(&scene.settled(), end);
    let (exit, log) = worker.stop();
    assert!(exit.success());
    let replayed =
        log.iter().any(|line| line.contains("journal of a dead worker was written down") && line.contains("new=1"));
    assert_eq!(replayed, point == "journaled", "{}", log.join(""));
}

/// Somebody else has its journal in hand for longer than it takes to bury its owner, and then ends without a word.
fn a_journal_that_another_worker_reads_keeps_its_dots_from_becoming_unknown(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    scene.worker_at("journaled").kill();
    let lock = std::fs::File::create(scene.app.path("data/journal/reading.lock")).unwrap();
    lock.lock().unwrap();
    let mut worker = scene.app.spawn(&["worker"]);
    assert!(worker.wait_for("dead owners' dots wait", 2), "{}", worker.seen.join(""));
    drop(lock);
    let worker = worker.read_on();
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

/// Behind the gate nobody knows whether the dot was written; the worker lives, and other jobs with it.
fn a_panic_behind_the_gate_is_that_jobs_failure(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 1);
    let mut worker = scene.app.spawn_with(&["worker"], &[("FAULT_POINT", "granted"), ("FAULT_POINT_PANIC", "1")]);
    assert!(worker.wait_for("a job panicked", 1), "{}", worker.seen.join(""));
    let worker = worker.read_on();
    assert_eq!(scene.settled(), End { unknown: 1, ..ONCE });
    assert!(worker.stop().0.success());
}

/// The worker dies with the answer in hand; a person opens the mail, before its end is noticed or when it is held.
fn a_mail_that_was_opened_is_neither_sent_again_nor_held(engine: Engine) {
    side_by_side(&[("resend", true), ("hold", false)], |policy, is_opened_first| {
        let Some(scene) = Scene::new(engine, &format!("on_unknown = \"{policy}\"")) else { return };
        scene.worker_at("answered").kill();
        let open = || {
            let mail = maildir::read_folder(&scene.sink.folder, "one.example").remove(0);
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

fn fp01_a_scheduler_killed_before_its_commit_leaves_nothing(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    scene.held_at("scheduler", "planning").kill();
    let worker = scene.next_worker();
    assert_eq!(scene.app.count_rows("sends"), 0);
    // None was recorded, so this is planned now. The server may still be giving back what the dead one held.
    until(|| (scene.app.json(&["scheduler", "--once"]).1["planned"] == 1).then_some(()));
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

fn fp02_a_scheduler_killed_before_its_hint_is_healed_by_reconciliation(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    scene.held_at("scheduler", "recorded").kill();
    let worker = scene.next_worker();
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

fn fp09_a_graceful_stop_at_any_point_leaves_nothing_unknown(engine: Engine) {
    let points = ["leased", "fetched", "asking", "intending", "granted", "answered", "journaled", "applied"]
        .map(|point| (point, ()));
    side_by_side(&points, |point, ()| {
        let Some(scene) = Scene::new(engine, "") else { return };
        let mut stopping = scene.worker_at(point);
        stopping.signal("-TERM");
        assert!(stopping.wait_for("stopping: open dialogues are awaited", 1), "{}", stopping.seen.join(""));
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

/// What waits twelve seconds for a dead owner, side by side. Not on SQLite, where a process that stands still may hold the
/// file's one write lock: the event alone.
fn fp11_and_fp14_a_dead_owners_dot_is_unknown_and_its_event_counts_once(engine: Engine) {
    let dots = [("granted", "on_unknown = \"resend\""), ("granted", "on_unknown = \"hold\"")];
    let points = if engine == Engine::Sqlite { &[][..] } else { &dots[..] };
    side_by_side(&[points, &[("stored", "")]].concat(), |point, policy| match point {
        "granted" => stood_still_before_its_dot(engine, policy),
        _ => killed_before_an_event_is_acknowledged(engine),
    });
}

/// The residual that cannot be closed: it goes on and writes its dot, long after it was taken for dead.
fn stood_still_before_its_dot(engine: Engine, policy: &str) {
    let Some(scene) = Scene::new(engine, policy) else { return };
    let still = scene.worker_at("granted");
    still.signal("-STOP");
    let worker = scene.next_worker();
    let holds = policy.contains("hold");
    assert_eq!(scene.settled(), if holds { NEVER } else { End { unknown: 1, ..ONCE } }, "counted");
    scene.release();
    still.signal("-CONT");
    let (_, log) = still.stop();
    assert!(log.iter().any(|line| line.contains("fault point left: granted")), "{}", log.join(""));
    // Its 250 is proof of a held one; after a resend it is the one extra copy.
    let copies = if holds { 1 } else { 2 };
    assert_eq!(scene.settled(), End { copies, unknown: 1, ..ONCE });
    assert!(worker.stop().0.success());
}

fn killed_before_an_event_is_acknowledged(engine: Engine) {
    let Some(scene) = Scene::empty(engine) else { return };
    let mail = one_mail(&scene.app, &scene.sink);
    let link = mail.links.iter().find(|link| link.contains("/api/track/click")).unwrap();
    let mut tracker = Tracker::start(&scene.app);
    assert_eq!(tracker.ask("GET", &link.replace("http://127.0.0.1:8081", "")).status, 302);
    assert!(tracker.process.stop().0.success());
    scene.held_at("worker", "stored").kill();
    let clicks = || number(&scene.status(), "clicks");
    assert_eq!(clicks(), 1, "stored before the kill");
    let mut worker = scene.app.spawn(&["worker"]);
    assert!(worker.wait_for("Received click event", 1), "it came again: {}", worker.seen.join(""));
    assert!(worker.stop().0.success());
    assert_eq!(clicks(), 1);
    if let Some(events) = scene.app.sql("SELECT count(*), (SELECT sum(events) FROM event_counts) FROM tracking_events")
    {
        assert_eq!(events.trim(), "1|1");
    }
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

/// Its message was made before the edit, and stands right before the gate.
fn a_mail_that_is_edited_in_a_workers_hand_leaves_as_it_is_now(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    let worker = scene.worker_at("asking");
    std::fs::write(scene.app.path("mail.html"), "<p>Much better</p>").unwrap();
    let file = scene.app.path("campaign.toml");
    assert_eq!(scene.app.json(&["campaign", "import", file.to_str().unwrap(), "--smtp", &scene.sink.url]).0, 0);
    scene.release();
    let worker = worker.read_on();
    assert_eq!(scene.settled(), ONCE);
    let (exit, log) = worker.stop();
    assert!(exit.success() && log.iter().any(|line| line.contains("fault point left")), "{}", log.join(""));
    let mails = std::fs::read_dir(&scene.sink.folder).unwrap().map(|entry| entry.unwrap().path());
    let mails: Vec<_> = mails.filter(|path| path.extension().is_some_and(|end| end == "eml")).collect();
    assert_eq!(mails.len(), 1);
    let text = std::fs::read_to_string(&mails[0]).unwrap();
    assert!(text.contains("Much better") && !text.contains("shop.example"), "{text}");
}

/// Its other mail bounced, or it said so itself.
fn fp18_a_lead_that_is_lost_before_a_dot_gets_none(engine: Engine) {
    let points = [
        ("fetched", "bounce"),
        ("fetched", "unsubscribe"),
        ("asking", "unsubscribe"),
        ("fetched", "reply"),
        ("asking", "reply"),
    ];
    side_by_side(&points, |point, way| {
        let Some(scene) = Scene::empty(engine) else { return };
        // The sink refuses the bouncing one's first mail alone: a second would arrive.
        let (lead, mail) = match *way {
            "bounce" => ("550-once+ana", None),
            "reply" => ("ana", None),
            _ => ("ana", Some(one_mail(&scene.app, &scene.sink))),
        };
        scene.import("Second", lead, "");
        let worker = scene.worker_at(point);
        let before = scene.sink.accepted();
        match mail {
            Some(mail) => {
                let way_out = mail.unsubscribe.trim_matches(['<', '>']).replace("http://127.0.0.1:8081", "");
                assert_eq!(Tracker::start(&scene.app).ask("POST", &way_out).status, 200);
            }
            // As whoever reads the inbox writes it.
            None if *way == "reply" => scene.app.change("UPDATE leads SET status = 'replied'"),
            None => {
                scene.import("Welcome", lead, "");
                assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 1);
                let other = scene.next_worker();
                until(|| (number(&scene.status(), "bounced") == 1).then_some(()));
                assert!(other.stop().0.success());
            }
        }
        scene.release();
        let (exit, log) = worker.stop();
        assert!(exit.success() && log.iter().any(|line| line.contains("fault point left")), "{}", log.join(""));
        let second = scene.app.json(&["campaign", "status", "Second"]).1;
        assert_eq!((number(&second, "sent"), number(&second, "unknown")), (0, 0), "{second}");
        assert_eq!(scene.sink.accepted(), before, "a dot after the answer");
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
    fp01_a_scheduler_killed_before_its_commit_leaves_nothing
    fp02_a_scheduler_killed_before_its_hint_is_healed_by_reconciliation
    fp04_to_fp08_a_worker_killed_at_any_point_loses_nothing
    fp06_and_fp07_under_hold_a_kill_makes_no_copy
    a_mail_that_was_opened_is_neither_sent_again_nor_held
    a_journal_that_another_worker_reads_keeps_its_dots_from_becoming_unknown
    a_panic_behind_the_gate_is_that_jobs_failure
    fp09_a_graceful_stop_at_any_point_leaves_nothing_unknown
    fp11_and_fp14_a_dead_owners_dot_is_unknown_and_its_event_counts_once
    fp18_a_lead_that_is_lost_before_a_dot_gets_none
    fp18_whoever_stops_a_send_before_its_dot_wins
    a_mail_that_is_edited_in_a_workers_hand_leaves_as_it_is_now
    a_job_that_three_workers_died_over_waits_for_a_person
}

/// Not on SQLite: there a process that is stopped may hold the file's one write lock, and nobody overtakes it.
mod overtaken {
    use super::fp10_an_owner_that_was_overtaken_is_refused_at_the_gate;

    crate::on_every_server! { fp10_an_owner_that_was_overtaken_is_refused_at_the_gate }
}
