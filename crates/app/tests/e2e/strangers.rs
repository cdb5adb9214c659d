//! Jobs of a Node program that knows five ids and two names of lists, and nothing of us (SPEC 2).

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::app::{App, Engine, Sink, lines, number, service};
use crate::http::{get, sample, until};

const JOBS: usize = 1_000;

/// Pushes the lines of its input, in order, as ioredis does it.
const SCRIPT: &str = r#"
const Redis = require("ioredis");
const [port, list] = process.argv.slice(1);
const redis = new Redis(Number(port));
const lines = require("node:fs").readFileSync(0, "utf8").split("\n").slice(0, -1);
(async () => {
  for (const line of lines) await redis.lpush(list, line);
  console.log(await redis.llen(list));
  redis.disconnect();
})();
"#;

fn push(app: &App, list: &str, jobs: &[String]) {
    let packages = service("TEST_NODE_PATH").unwrap();
    let port = app.redis().port.to_string();
    let mut node = Command::new("node")
        .args(["-e", SCRIPT, &port, list])
        .env("NODE_PATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let text: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    node.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(node.wait().unwrap().success());
}

/// The ids of a started campaign of one step, as another program reads them from the tables.
struct Ids {
    tenant: String,
    campaign: String,
    step: String,
    account: String,
    leads: Vec<String>,
}

fn ids(app: &App, tenant: &str) -> Ids {
    let of = |table: &str, order: &str| {
        app.column(&format!(
            "SELECT x.id FROM {table} x JOIN tenants t ON t.id = x.tenant_id WHERE t.name = 'Acme {tenant}' ORDER BY {order}"
        ))
    };
    Ids {
        tenant: app.column(&format!("SELECT id FROM tenants WHERE name = 'Acme {tenant}'")).remove(0),
        campaign: of("campaigns", "x.id").remove(0),
        step: of("campaign_sequence_steps", "x.id").remove(0),
        account: of("email_accounts", "x.id").remove(0),
        leads: of("leads", "length(x.email), x.email"),
    }
}

impl Ids {
    fn job(&self, lead: usize) -> Value {
        json!({
            "tenantId": self.tenant, "campaignId": self.campaign, "leadId": self.leads[lead], "stepId": self.step,
            "emailAccountId": self.account,
        })
    }
}

/// A campaign without leads of its own, started, and so many leads of the tenant that are not enrolled in it.
fn set_up(domain: &str, leads: usize) -> Option<(App, Sink, Ids)> {
    let mut app = App::new(Engine::Redis)?;
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let import = |name: &str, start: &[&str], count: usize| {
        let file = app.campaign(domain, (0..count).map(|n| format!("l{n}")), 1, "");
        let text = std::fs::read_to_string(&file).unwrap().replace("\"Welcome\"", &format!("\"{name}\""));
        std::fs::write(&file, text).unwrap();
        let arguments = [&["campaign", "import", file.to_str().unwrap(), "--smtp", &sink.url], start].concat();
        assert_eq!(app.json(&arguments).0, 0);
    };
    // A draft makes the leads known; the campaign that is started has the first of them alone.
    import("Zzz", &[], leads);
    import("Welcome", &["--start"], 1);
    let mut ids = ids(&app, domain);
    ids.campaign = app.column("SELECT id FROM campaigns WHERE name = 'Welcome'").remove(0);
    let step = format!("SELECT id FROM campaign_sequence_steps WHERE campaign_id = '{}'", ids.campaign);
    ids.step = app.column(&step).remove(0);
    Some((app, sink, ids))
}

/// Recipients in the order of their acceptance.
fn recipients(sink: &Sink) -> Vec<String> {
    let line = |line: String| serde_json::from_str::<Value>(&line).unwrap()["to"].to_string();
    lines(&sink.folder.join("index.jsonl")).into_iter().map(line).collect()
}

#[test]
fn a_thousand_bare_jobs_are_sent_once_and_in_order() {
    let Some((mut app, sink, ids)) = set_up("bare.example", JOBS + 1) else { return };
    std::fs::write(app.path("config.toml"), "[worker]\nconnections = 1\nconnections_per_account = 1\n").unwrap();
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let jobs: Vec<String> = (0..JOBS).map(|lead| ids.job(lead).to_string()).collect();
    push(&app, "queue:email-sending", &jobs);
    let config = app.path("config.toml");
    let mut worker = app.spawn(&["worker", "--config", config.to_str().unwrap()]);
    let health = worker.value_after("health listens address=");
    assert!(worker.wait_for("status=sent", JOBS), "{}", worker.seen.join(""));
    let expected: Vec<String> = (0..JOBS).map(|n| format!("l{n}@bare.example")).collect();
    let got = recipients(&sink);
    assert_eq!(got.len(), JOBS);
    for (got, expected) in got.iter().zip(&expected) {
        assert!(got.contains(expected.as_str()), "{got} came where {expected} was due");
    }
    // The same again: acknowledged, counted, not sent.
    push(&app, "queue:email-sending", &jobs[..50]);
    assert!(worker.wait_for("Settled before", 50));
    // One that may not go is skipped, which is no answer to an earlier job; the same again is.
    let settled_before = || sample(&get(&health, "/metrics").body, "penguinmails_jobs_settled_before_total");
    assert_eq!(settled_before(), 50.0);
    app.sql("UPDATE leads SET status = 'unsubscribed' WHERE email = 'l1000@bare.example'").unwrap();
    push(&app, "queue:email-sending", &[ids.job(JOBS).to_string()]);
    assert!(worker.wait_for("Skipped", 1));
    assert_eq!(settled_before(), 50.0);
    push(&app, "queue:email-sending", &[ids.job(JOBS).to_string()]);
    assert!(worker.wait_for("settled=skipped", 1));
    assert_eq!(settled_before(), 51.0);
    assert_eq!(worker.stop().0.code(), Some(0));
    assert_eq!(recipients(&sink).len(), JOBS);
    assert_eq!(app.redis().ask(&["LLEN", "queue:email-sending"]), "0");
    assert_eq!(app.count_rows("campaign_leads WHERE highest_sent_step = 1"), JOBS as u64, "enrolled and moved on");
}

#[test]
fn malformed_and_foreign_jobs_are_dead_letters_that_name_the_field() {
    let Some((app, sink, ids)) = set_up("dead.example", 30) else { return };
    let foreign = {
        let file = app.campaign("other.example", ["x".to_owned()], 1, "");
        let path = file.to_str().unwrap();
        assert_eq!(app.json(&["campaign", "import", path, "--start", "--smtp", &sink.url]).0, 0);
        super::strangers::ids(&app, "other.example")
    };
    let broken = |field: &str, value: Value| {
        let mut job = ids.job(0);
        job[field] = value;
        (job.to_string(), field.to_owned())
    };
    let mut cases: Vec<(String, String)> = vec![
        ("not json".into(), "JSON".into()),
        ("[1, 2]".into(), "JSON".into()),
        ("\"text\"".into(), "JSON".into()),
        ("{}".into(), "tenantId".into()),
        ("{\"tenantId\": \"".into(), "JSON".into()),
        broken("priority", json!(0)),
        broken("priority", json!("high")),
        broken("notBefore", json!("tomorrow")),
        broken("maxAttempts", json!(0)),
        broken("sendId", json!(7)),
    ];
    for field in ["tenantId", "campaignId", "leadId", "stepId", "emailAccountId"] {
        cases.push(broken(field, Value::Null));
        cases.push(broken(field, json!("018f3a5e")));
    }
    assert_eq!(cases.len(), 20);
    for lead in 0..4 {
        let swapped = |field: &str, id: &str| {
            let mut job = ids.job(lead);
            job[field] = json!(id);
            (job.to_string(), field.to_owned())
        };
        cases.push((swapped("tenantId", &foreign.tenant).0, "campaignId".into()));
        cases.push(swapped("campaignId", &foreign.campaign));
        cases.push(swapped("leadId", &foreign.leads[0]));
        cases.push(swapped("stepId", &foreign.step));
        cases.push(swapped("emailAccountId", &foreign.account));
    }
    assert_eq!(cases.len(), 40);
    let jobs: Vec<String> = cases.iter().map(|(job, _)| job.clone()).collect();
    push(&app, "queue:email-sending", &jobs);
    push(&app, "queue:email-sending", &[ids.job(7).to_string()]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 1), "the good one behind them goes: {}", worker.seen.join(""));
    let (exit, log) = worker.stop();
    assert_eq!((exit.code(), recipients(&sink).len()), (Some(0), 1));
    assert!(log.iter().filter(|line| line.contains("dead letter")).count() == 40);
    let (_, listed) = app.json(&["queue", "dead"]);
    let letters = listed["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len(), 40);
    for letter in letters {
        let payload = letter["payload"].as_str().unwrap();
        let (_, field) = cases.iter().find(|(job, _)| job == payload).unwrap();
        let error = letter["error"].as_str().unwrap();
        assert!(error.contains(field.as_str()), "{payload}: {error} does not name {field}");
    }
    assert_eq!(app.redis().ask(&["LLEN", "deadletter:queue"]), "40");
    let copy: Value = serde_json::from_str(&app.redis().ask(&["LINDEX", "deadletter:queue", "0"])).unwrap();
    for field in ["id", "queue_name", "payload", "error", "failed_at", "attempt_count", "original_priority"] {
        assert!(copy.get(field).is_some(), "{copy}");
    }
}

/// Bytes of a payload that is far too long.
const HUGE: usize = 100_000;

#[test]
fn a_flood_of_broken_jobs_is_buried_in_batches() {
    let Some((mut app, sink, ids)) = set_up("flood.example", 2) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let id = "018f3a5e-0000-7000-8000-000000000001";
    let mut jobs: Vec<String> = (0..JOBS).map(|n| format!("broken {n}")).collect();
    // Two that claim one id are two, and what is too long is known by its length, also where its beginning is a job.
    jobs.extend(["a", "b"].map(|text| json!({ "sendId": id, "text": text }).to_string()));
    let good = ids.job(1).to_string();
    jobs.push(good.clone() + &" ".repeat(HUGE - good.len()));
    jobs.push("x".repeat(20_000));
    push(&app, "queue:email-sending", &jobs);
    push(&app, "queue:email-sending", &[good]);
    let mut worker = app.spawn(&["worker"]);
    let health = worker.value_after("health listens address=");
    assert!(worker.wait_for("status=sent", 1), "{}", worker.seen.join(""));
    let text = get(&health, "/metrics").body;
    let value = |name: &str| sample(&text, &format!("penguinmails_{name}"));
    let letters = jobs.len() as f64;
    assert_eq!(value("dead_letters_total{queue=\"queue:email-sending\",reason=\"payload\"}"), letters);
    for calls in [
        value("queue_call_duration_seconds_count{call=\"show_dead_letters\"}"),
        value("database_transaction_duration_seconds_count{access=\"write\"}"),
    ] {
        assert!(calls > 0.0 && calls < letters / 5.0, "{calls} calls for {letters} letters");
    }
    assert!(worker.stop().0.success());
    assert_eq!(recipients(&sink).len(), 1);
    assert_eq!(app.count_rows("dead_letters"), jobs.len() as u64);
    let error = app.column("SELECT error FROM dead_letters WHERE length(payload) = 4096");
    assert!(error.len() == 1 && error[0].starts_with(&format!("payload has {HUGE} bytes")), "{error:?}");
    assert_eq!(app.count_rows("dead_letters WHERE length(payload) = 20000"), 1, "kept as it was");
    let shown = app.redis().ask(&["LINDEX", "deadletter:queue", "0"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["payload"].as_str().unwrap(), "x".repeat(4096), "shown cut");
}

#[test]
fn a_job_for_a_paused_campaign_goes_after_it_is_resumed() {
    let Some((app, sink, ids)) = set_up("paused.example", 3) else { return };
    assert_eq!(app.json(&["campaign", "pause", "Welcome"]).0, 0);
    push(&app, "queue:email-sending:high", &[ids.job(1).to_string()]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Received job", 1));
    // It is ours when it has left the list: its row is committed.
    let has_left = || app.redis().ask(&["EXISTS", "queue:email-sending:high"]) == "0";
    until(|| (app.count_rows("sends") == 1 && has_left()).then_some(()));
    assert_eq!(recipients(&sink).len(), 0);
    assert_eq!(app.json(&["campaign", "resume", "Welcome"]).0, 0);
    assert!(worker.wait_for("status=sent", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    assert_eq!(recipients(&sink).len(), 1);
}

#[test]
fn events_of_strangers_are_stored_once() {
    let Some((app, _sink, ids)) = set_up("events.example", 2) else { return };
    let event = |kind: &str, id: Option<&str>| {
        let mut event = json!({
            "type": kind, "tenantId": ids.tenant, "leadId": ids.leads[0], "campaignId": ids.campaign, "stepId": ids.step,
            "occurredAt": "2026-03-01T12:00:00Z",
        });
        if let Some(id) = id {
            event["eventId"] = json!(id);
        }
        event.to_string()
    };
    let known = "018f3a5e-0000-7000-8000-000000000001";
    let mut events = vec![event("open", None), event("open", Some(known)), event("open", Some(known)), "{}".into()];
    events.extend([event("unsubscribe", None), event("unsubscribe", None)]);
    push(&app, "queue:analytics-processing", &events);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("dead letter", 1));
    assert!(worker.stop().0.success());
    assert_eq!(app.count_rows("tracking_events WHERE type = 'open'"), 2);
    assert_eq!(app.count_rows("tracking_events WHERE type = 'unsubscribe'"), 1, "asked twice, out once");
    assert_eq!(app.count_rows("leads WHERE status = 'unsubscribed'"), 1);
    assert_eq!(number(&app.json(&["queue", "status"]).1, "deadLetters"), 1);
}
