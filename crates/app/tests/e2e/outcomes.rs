//! What servers' answers do: deferred, bounced, failed, held, and what a second run makes of it.

use serde_json::Value;

use crate::app::{App, Engine, Sink, number};

fn locals(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn fs13_to_fs15_and_fs18_each_answer_has_its_outcome_and_its_reason(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let who = ["good", "unknown+a", "full+a", "spam+a", "greylist+a", "silent-once+a", "silent+a"];
    let file = app.campaign("out.example", locals(&who), 1, "");
    // Five minutes of greylisting pass in a moment.
    let (exit, report) =
        app.json(&["run", file.to_str().unwrap(), "--smtp", &sink.url, "--time-scale", "1000", "--for", "60s"]);
    assert_eq!(exit, 3, "{report}");
    let count = |field: &str| number(&report, field);
    assert_eq!((count("sent"), count("bounced"), count("failed"), count("held")), (3, 2, 1, 1), "{report}");
    assert_eq!((count("planned"), count("deferred"), count("pending")), (7, 0, 0));
    assert_eq!(count("unknown"), 3, "one that was sent once more, one that was cut twice");
    let reasons: Vec<(&str, &str)> = report["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["state"].as_str().unwrap(), r["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("bounced", "recipient_refused"),
            ("bounced", "unknown_recipient"),
            ("failed", "policy_refusal"),
            ("held", "unknown"),
        ]
    );
    let copies =
        |local: &str| sink.accepted().iter().filter(|line| line.ends_with(&format!("\t{local}@out.example"))).count();
    assert_eq!((copies("good"), copies("greylist+a"), copies("unknown+a")), (1, 1, 0));
    assert_eq!((copies("silent-once+a"), copies("silent+a")), (2, 2), "at most one extra copy each");
    let (_, dead) = app.json(&["queue", "dead"]);
    assert_eq!(dead["deadLetters"].as_array().unwrap().len(), 1);
    assert_eq!(app.json(&["queue", "replay", "--campaign", "Welcome"]).1["replayed"], 1);
}

fn fs18_hold_sends_no_second_copy(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("hold.example", locals(&["silent+a", "good"]), 1, "on_unknown = \"hold\"");
    let (exit, report) = app.json(&["run", file.to_str().unwrap(), "--smtp", &sink.url]);
    assert_eq!((exit, number(&report, "held"), number(&report, "sent")), (3, 1, 1), "{report}");
    assert_eq!(sink.accepted().len(), 2, "one copy each");
}

fn new_leads_and_texts_are_taken_up_and_changed_steps_refused(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let run = |steps: usize, leads: &[&str], options: &[&str]| {
        let file = app.campaign("again.example", locals(leads), steps, "");
        let mut arguments = vec!["run", file.to_str().unwrap(), "--smtp", &sink.url];
        arguments.extend(options);
        app.json(&arguments)
    };
    assert_eq!(number(&run(1, &["a", "b"], &[]).1, "sent"), 2);
    assert_eq!(number(&run(1, &["a", "b", "c"], &[]).1, "sent"), 3);
    assert_eq!(sink.accepted().len(), 3, "each lead once");
    let (exit, refused) = run(2, &["a", "b", "c"], &[]);
    assert_eq!(exit, 2);
    assert!(refused["error"]["message"].as_str().unwrap().contains("steps"), "{refused}");
    assert_eq!(number(&run(2, &["a", "b", "c"], &["--update"]).1, "sent"), 3, "all have finished");
    assert_eq!(number(&run(2, &["a", "b", "c"], &["--reopen"]).1, "sent"), 6, "the new step goes to all");
    assert_eq!(sink.accepted().len(), 6);
}

fn a_pause_stops_and_a_resume_goes_on(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &["--delay", "20ms"]);
    let leads: Vec<String> = (0..400).map(|n| format!("l{n}")).collect();
    let file = app.campaign("pause.example", leads, 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    let mut worker = app.spawn(&["worker"]);
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(worker.wait_for("status=sent", 50));
    let (exit, paused) = app.json(&["campaign", "pause", "Welcome"]);
    assert_eq!((exit, paused["status"].as_str()), (0, Some("paused")));
    // Ten connections may have been past their dots when the pause was answered.
    let at_pause = sink.accepted().len();
    let refused = app.json(&["campaign", "pause", "Welcome"]);
    assert_eq!(refused.0, 2, "it is paused already");
    let (_, still) = app.json(&["campaign", "status", "Welcome"]);
    assert!(number(&still, "sent") < 400);
    assert!(sink.accepted().len() <= at_pause + 10, "no new dot after the answer");
    assert_eq!(app.json(&["campaign", "resume", "Welcome"]).0, 0);
    assert!(worker.wait_for("status=sent", 300));
    assert!(scheduler.wait_for("campaign completed", 1));
    assert!(worker.stop().0.success() && scheduler.stop().0.success());
    let (_, done) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&done, "sent"), sink.accepted().len()), (400, 400));
}

fn a_cancel_ends(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("cancel.example", locals(&["a", "b"]), 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], 2);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], 0, "idempotent");
    let (exit, cancelled) = app.json(&["campaign", "cancel", "Welcome"]);
    assert_eq!((exit, number(&cancelled, "cancelled"), number(&cancelled, "pending")), (0, 2, 0));
    let output = app.output(&["run", file.to_str().unwrap(), "--smtp", &sink.url]);
    assert_eq!(output.status.code(), Some(2), "a campaign that a person ended stays ended");
    assert!(sink.accepted().is_empty());
}

/// Writes a configuration file; the options that name it.
fn config(app: &App, text: &str) -> [String; 2] {
    let file = app.path("config.toml");
    std::fs::write(&file, text).unwrap();
    ["--config".into(), file.to_str().unwrap().into()]
}

fn too_many_refusals_pause_until_a_person_resumes(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let who = (0..8).map(|n| format!("spam+{n}"));
    let file = app.campaign("policy.example", who, 1, "");
    // One after the other, so that none is under way when the fifth is refused.
    let config = config(&app, "[worker]\nconnections_per_account = 1\n");
    let run = || {
        let arguments = ["run", file.to_str().unwrap(), "--smtp", &sink.url, &config[0], &config[1]];
        app.json(&arguments)
    };
    let (exit, paused) = run();
    assert_eq!((exit, paused["status"].as_str()), (3, Some("paused")), "{paused}");
    assert_eq!((number(&paused, "failed"), number(&paused, "pending")), (5, 3), "{paused}");
    assert_eq!(paused["statusReason"], "refusal_rate");
    let text = String::from_utf8(app.output(&["campaign", "status", "Welcome"]).stdout).unwrap();
    assert!(text.contains("too many of the last mails were refused for policy or reputation"), "{text}");
    let (_, report) = app.json(&["doctor", "--patience", "1s", "--name-server", "127.0.0.1:9"]);
    let found = |check: &str| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .filter(|f| f["check"] == check && f["message"].as_str().unwrap().contains("refused for policy"))
            .count()
    };
    assert_eq!((found("campaigns"), found("account")), (1, 1), "{report}");
    let (exit, resumed) = app.json(&["campaign", "resume", "Welcome"]);
    assert_eq!((exit, resumed["status"].as_str(), &resumed["statusReason"]), (0, Some("sending"), &Value::Null));
    let (_, done) = run();
    assert_eq!(
        (done["status"].as_str(), number(&done, "failed")),
        (Some("completed"), 8),
        "the old ones count no more"
    );
}

fn three_soft_bounces_suppress_over_campaigns(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let run = |name: &str| {
        let file = app.campaign("soft.example", locals(&["full+a", "good"]), 1, "");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"Welcome\"", &format!("\"{name}\""))).unwrap();
        app.json(&["run", file.to_str().unwrap(), "--smtp", &sink.url]).1
    };
    for name in ["First", "Second", "Third"] {
        let report = run(name);
        assert_eq!((number(&report, "sent"), number(&report, "bounced")), (1, 1), "{name}: {report}");
    }
    let report = run("Fourth");
    assert_eq!((number(&report, "sent"), number(&report, "bounced")), (1, 0), "{report}");
    assert_eq!(report["reasons"][0]["reason"], "lead_bounced", "{report}");
}

crate::on_every_engine! {
    fs13_to_fs15_and_fs18_each_answer_has_its_outcome_and_its_reason
    fs18_hold_sends_no_second_copy
    new_leads_and_texts_are_taken_up_and_changed_steps_refused
    a_pause_stops_and_a_resume_goes_on
    a_cancel_ends
    too_many_refusals_pause_until_a_person_resumes
    three_soft_bounces_suppress_over_campaigns
}
