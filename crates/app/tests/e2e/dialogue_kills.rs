//! A worker killed at each stage of the dialogue, while the receiver stands still there (FAULTS FP05, FP07), judged by what
//! the receiver holds in the end.
//!
//! The gate is asked while MAIL, RCPT and DATA are on their way, so from MAIL on its intent may stand: such a kill may be
//! counted unknown, and under `hold` a person may be asked, but there is never a second copy before the dot. To add a
//! stage: a line in `STAGES`.

use crate::app::{App, Engine, Sink, number};
use crate::http::wait_long;

/// How a stage may end: copies under `resend`, and whether the intent is sure not to stand (`Some(false)`) or to stand.
struct Stage {
    name: &'static str,
    /// Extensions that the receiver hides, so that the dialogue passes the stage.
    without: &'static str,
    copies: usize,
    intent: Option<bool>,
}

const STAGES: [Stage; 9] = [
    Stage { name: "connect", without: "chunking", copies: 1, intent: Some(false) },
    Stage { name: "ehlo", without: "chunking", copies: 1, intent: Some(false) },
    Stage { name: "mail", without: "chunking", copies: 1, intent: None },
    Stage { name: "rcpt", without: "chunking", copies: 1, intent: None },
    Stage { name: "data", without: "chunking", copies: 1, intent: None },
    Stage { name: "body", without: "chunking", copies: 1, intent: Some(true) },
    Stage { name: "body", without: "pipelining", copies: 1, intent: Some(true) },
    Stage { name: "dot", without: "chunking", copies: 1, intent: Some(true) },
    // It was accepted, and its 250 was not read.
    Stage { name: "accept", without: "chunking", copies: 2, intent: Some(true) },
];

fn killed(engine: Engine, stage: &Stage, policy: &str) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let wait = format!("{}=1h,times=1", stage.name);
    let mut sink = Sink::start(&app, &["--delay", &wait, "--without", stage.without]);
    let extra = format!("on_unknown = \"{policy}\"");
    let file = app.campaign("one.example", ["ana".to_owned()], 1, &extra);
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    assert_eq!(app.json(&["scheduler", "--once"]).1["planned"], 1);
    let worker = app.spawn(&["worker"]);
    sink.wait_at(stage.name);
    worker.kill();

    let mut next = app.spawn(&["worker"]);
    assert!(next.wait_for("Waiting for jobs...", 1), "{}", next.seen.join(""));
    let next = next.read_on();
    let status = wait_long(|| {
        let (_, status) = app.json(&["campaign", "status", "Welcome"]);
        let waits = number(&status, "pending") + number(&status, "deferred");
        (waits == 0 && number(&status, "planned") == 1).then_some(status)
    });
    assert!(next.stop().0.success());
    let (copies, sent, held) = (sink.accepted().len(), number(&status, "sent"), number(&status, "held"));
    let unknown = number(&status, "unknown");
    let told = format!("{} without {} under {policy}: {copies} copies, {status}", stage.name, stage.without);
    assert_eq!(sent + held, 1, "nothing is lost: {told}");
    assert!(stage.intent.is_none_or(|stands| unknown == u64::from(stands)), "{told}");
    if policy == "hold" {
        assert_eq!(held, unknown, "a person decides about what nobody knows: {told}");
        assert!(copies <= 1, "no extra copy under hold: {told}");
        assert!(copies == 1 || held == 1, "{told}");
    } else {
        assert_eq!((sent, copies), (1, stage.copies), "{told}");
        assert!(copies as u64 <= 1 + unknown, "{told}");
    }
}

/// All of them at once, since a dead worker is noticed after twelve seconds.
fn fp05_and_fp07_a_worker_killed_at_any_stage_of_the_dialogue_loses_nothing(engine: Engine) {
    std::thread::scope(|scope| {
        let cases = STAGES.iter().flat_map(|stage| ["resend", "hold"].map(|policy| (stage, policy)));
        let running: Vec<_> = cases
            .map(|(stage, policy)| (stage.name, policy, scope.spawn(move || killed(engine, stage, policy))))
            .collect();
        for (stage, policy, case) in running {
            assert!(case.join().is_ok(), "at {stage} under {policy}");
        }
    });
}

crate::on_every_database! { fp05_and_fp07_a_worker_killed_at_any_stage_of_the_dialogue_loses_nothing }
