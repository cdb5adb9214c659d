//! Logs as JSON: one object a line, with the same messages and fields as the text.

use serde_json::Value;

use crate::app::{App, Engine, Sink};

#[test]
fn every_line_is_an_object_with_the_same_message_and_fields() {
    let Some(app) = App::new(Engine::Sqlite) else { return };
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("json.example", ["good", "spam+a"].map(str::to_owned), 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    app.json(&["scheduler", "--once"]);
    let mut worker = app.spawn(&["worker", "--log-format", "json"]);
    // One was sent and one was not, in any order.
    assert!(worker.wait_for("\"send_id\"", 2), "{}", worker.seen.join(""));
    let (exit, log) = worker.stop();
    assert!(exit.success());
    let lines: Vec<Value> =
        log.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let with = |message: &str| {
        lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{message}: {log:?}"))
    };
    let received = with("Received job");
    for field in ["tenant_id", "campaign_id", "lead_id", "step_id", "email_account_id"] {
        assert_eq!(received[field].as_str().unwrap().len(), 36, "{received}");
    }
    let sent = with("Sent");
    assert!(sent["message_id"].as_str().unwrap().ends_with("@acme.test>") && sent["status"] == "sent", "{sent}");
    assert_eq!(
        (with("Not sent")["reason"].clone(), with("Not sent")["code"].clone()),
        ("policy_refusal".into(), 554.into())
    );
    with("Waiting for jobs...");
    assert!(!log.concat().contains("json.example"), "ids alone");
}

#[test]
fn the_file_chooses_too_and_jobs_can_be_silenced() {
    let Some(app) = App::new(Engine::Sqlite) else { return };
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("quiet.example", ["ana".to_owned()], 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    std::fs::write(app.path("c.toml"), "[log]\nformat = \"json\"\njobs = false\n").unwrap();
    let config = app.path("c.toml");
    let serve = ["serve", "--only", "worker,scheduler", "--config", config.to_str().unwrap()];
    let mut process = app.spawn(&serve);
    assert!(process.wait_for("campaign completed", 1));
    let (exit, log) = process.stop();
    assert!(exit.success() && sink.accepted().len() == 1);
    assert!(log.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log:?}");
    for silenced in ["Received job", "\"Sent\""] {
        assert!(!log.iter().any(|line| line.contains(silenced)), "{silenced}");
    }
    assert!(log.iter().any(|line| line.contains("Enqueued 1 email jobs")));
    // The option wins over the file.
    let mut process = app.spawn(&[&serve[..], &["--log-format", "text"]].concat());
    assert!(process.wait_for(" INFO Waiting for jobs...", 1));
    assert!(process.stop().0.success());
}

#[test]
fn a_start_that_fails_says_so_in_an_object() {
    let Some(mut app) = App::new(Engine::Sqlite) else { return };
    app.set("API_LISTEN", "nowhere");
    let output = app.output(&["serve", "--log-format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let line: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(line["level"] == "ERROR" && line["message"].as_str().unwrap().contains("API_LISTEN"), "{line}");
}
