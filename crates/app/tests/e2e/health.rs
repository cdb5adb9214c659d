//! Whether a process says that it lives and that it can work, and says so no more when it does not.

use serde_json::Value;

use crate::app::{App, Engine, Sink, lines};
use crate::gateway::Gateway;
use crate::http::{self, Answer, get};

/// Asks until the answer has this status.
fn until(address: &str, path: &str, status: u16) -> Answer {
    http::until(|| Some(get(address, path)).filter(|answer| answer.status == status))
}

fn dependency<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let found = &answer["dependencies"][name];
    assert!(found["ok"].is_boolean(), "{name} in {answer}");
    found
}

fn every_loop_and_dependency_is_named(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    for (part, loops) in [
        ("worker", "analytics,extend,gate,heartbeat,journal,lease,reap,reconcile,results"),
        ("scheduler", "scheduler"),
        ("track", "events,spool"),
    ] {
        let mut process = app.spawn(&[part]);
        let address = process.value_after("health listens address=");
        let ready = get(&address, "/ready").json();
        assert_eq!(ready["status"], "ready", "{part}: {ready}");
        for name in ["database", "schema", "queue", "secrets"] {
            assert_eq!(dependency(&ready, name)["ok"], true, "{ready}");
        }
        // Loops begin after the listener.
        let named = http::until(|| {
            let health = get(&address, "/health");
            assert_eq!(health.status, 200, "{health:?}");
            let names: Vec<String> = health.json()["loops"].as_object().unwrap().keys().cloned().collect();
            Some(names.join(",")).filter(|named| named.len() >= loops.len())
        });
        assert_eq!(named, loops);
        assert_eq!(get(&address, "/api/cron/scheduler").status, 404, "what acts is not on this port");
        assert!(process.stop().0.success());
    }
}

/// A worker's lease cannot be had because somebody holds the table: the loop is at one thing for longer than it may.
#[test]
fn a_loop_that_hangs_is_no_longer_alive() {
    let Some(mut app) = App::new(Engine::Postgres) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    std::fs::write(app.path("c.toml"), "[health]\nstall = \"1s\"\n").unwrap();
    let mut worker = app.spawn(&["worker", "--config", app.path("c.toml").to_str().unwrap()]);
    let address = worker.value_after("health listens address=");
    assert!(worker.wait_for("Waiting for jobs...", 1));
    assert_eq!(get(&address, "/health").status, 200);
    let holder = app.hold("LOCK TABLE queue_jobs IN ACCESS EXCLUSIVE MODE");
    // Others that need the table hang as well, each after its own second.
    let (failing, why) = http::until(|| {
        let failing = until(&address, "/health", 503).json();
        let why = failing["loops"]["lease"]["why"].as_str().map(str::to_owned)?;
        Some((failing, why))
    });
    assert!(failing["status"] == "failing" && why.starts_with("at one thing for "), "{failing}");
    assert_eq!(failing["loops"]["heartbeat"]["ok"], true, "the others go on");
    drop(holder);
    until(&address, "/health", 200);
    assert!(worker.stop().0.success());
}

/// PostgreSQL behind a way that can be closed; the process's own environment wins over that of the app.
fn behind_a_gateway() -> Option<(App, Gateway, String)> {
    let mut app = App::new(Engine::Postgres)?;
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let url = app.database_url().unwrap();
    let (server, name) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    let gateway = Gateway::to(server);
    let by_gateway = format!("postgres://postgres@{}/{name}", gateway.address);
    Some((app, gateway, by_gateway))
}

#[test]
fn readiness_goes_with_the_database_and_comes_back() {
    let Some((app, mut gateway, url)) = behind_a_gateway() else { return };
    let mut scheduler = app.spawn_with(&["scheduler"], &[("DATABASE_URL", &url)]);
    let address = scheduler.value_after("health listens address=");
    assert_eq!(get(&address, "/ready").status, 200);
    gateway.close();
    let gone = until(&address, "/ready", 503).json();
    assert_eq!(gone["status"], "not ready");
    for name in ["database", "schema", "queue"] {
        let why = dependency(&gone, name)["why"].as_str().unwrap();
        assert!(why.contains("cannot be reached") && !why.contains("postgres://"), "{gone}");
    }
    assert_eq!(get(&address, "/health").status, 200, "no reason to restart");
    let metrics = get(&address, "/metrics").body;
    assert!(metrics.contains("state=\"ready\"} NaN"), "what cannot be read is not zero: {metrics}");
    gateway.reopen();
    let back = until(&address, "/ready", 200).json();
    assert_eq!(dependency(&back, "database")["ok"], true);
    assert!(scheduler.stop().0.success());
}

#[test]
fn a_redis_that_is_gone_is_named_and_the_database_is_not() {
    let Some(mut app) = App::new(Engine::Redis) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let mut scheduler = app.spawn(&["scheduler"]);
    let address = scheduler.value_after("health listens address=");
    assert_eq!(get(&address, "/ready").status, 200);
    app.redis_mut().kill();
    let gone = until(&address, "/ready", 503).json();
    let named = ["database", "schema", "queue", "secrets"].map(|name| dependency(&gone, name)["ok"] == true);
    assert_eq!(named, [true, true, false, true], "{gone}");
    assert!(!gone.to_string().contains("redis://"), "{gone}");
    let metrics = get(&address, "/metrics").body;
    assert!(http::sample(&metrics, "penguinmails_queue_errors_total{kind=\"redis_unavailable\"}") > 0.0, "{metrics}");
    app.redis_mut().start_again();
    until(&address, "/ready", 200);
    assert!(scheduler.stop().0.success());
}

/// Readers of old mail must still be led to where their links lead.
#[test]
fn a_tracker_without_its_database_is_degraded_and_goes_on() {
    let Some((app, mut gateway, url)) = behind_a_gateway() else { return };
    let sink = Sink::start(&app, &[]);
    let mail = crate::tracker::one_mail(&app, &sink);
    let mut tracker = app.spawn_with(&["track"], &[("DATABASE_URL", &url)]);
    let tracking = tracker.value_after("tracking API listens address=");
    let address = tracker.value_after("health listens address=");
    assert_eq!(get(&address, "/ready").json()["status"], "ready");
    gateway.close();
    let pixel = mail.links.iter().find(|link| link.contains("/api/track/open")).unwrap();
    let path = pixel.replace("http://127.0.0.1:8081", "");
    assert_eq!(http::status(&tracking, &path), 200);
    let degraded = get(&address, "/ready");
    let found = degraded.json();
    assert_eq!((degraded.status, found["status"].as_str()), (200, Some("degraded")), "{found}");
    assert_eq!(
        (dependency(&found, "queue")["ok"].clone(), dependency(&found, "spool")["ok"].clone()),
        (false.into(), true.into())
    );
    let metrics = get(&address, "/metrics").body;
    assert_eq!(http::sample(&metrics, "penguinmails_spool_files"), 1.0);
    assert_eq!(http::sample(&metrics, "penguinmails_events_spooled_total"), 1.0);
    // Without the spool as well nothing could be kept.
    std::fs::remove_dir_all(app.path("data/spool")).unwrap();
    std::fs::write(app.path("data/spool"), "in the way").unwrap();
    assert_eq!(get(&address, "/ready").status, 503);
    std::fs::remove_file(app.path("data/spool")).unwrap();
    gateway.reopen();
    assert_eq!(until(&address, "/ready", 200).json()["dependencies"]["spool"]["ok"], true);
    assert!(tracker.stop().0.success());
}

#[test]
fn a_key_that_opens_nothing_is_named() {
    let Some(mut app) = App::new(Engine::Postgres) else { return };
    let file = app.campaign("key.example", ["ana".to_owned()], 1, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let server = "smtp = \"smtp://ana@127.0.0.1:25?tls=starttls\"\npassword_env = \"SMTP_PASSWORD\"";
    std::fs::write(&file, text.replace("smtp = \"smtp://127.0.0.1:25?tls=none\"", server)).unwrap();
    app.set("SMTP_PASSWORD", "hunter2");
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap()]).0, 0);
    let other = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=";
    for (key, status) in [(None, 200), (Some(other), 503)] {
        let env: Vec<(&str, &str)> = key.map(|key| ("ENCRYPTION_KEY", key)).into_iter().collect();
        let mut worker = app.spawn_with(&["worker"], &env);
        let address = worker.value_after("health listens address=");
        let answer = get(&address, "/ready");
        assert_eq!(answer.status, status, "{answer:?}");
        let secrets = dependency(&answer.json(), "secrets").clone();
        assert_eq!(
            secrets["why"].as_str().is_some_and(|why| why.contains("ENCRYPTION_KEY")),
            status == 503,
            "{secrets}"
        );
        assert!(!answer.body.contains("hunter2") && !answer.body.contains(other));
        assert!(worker.stop().0.success());
    }
}

/// While dialogues are awaited the process is alive, not ready, and still tells what it counts.
#[test]
fn a_process_that_stops_is_not_ready_and_still_answers() {
    let Some(mut app) = App::new(Engine::Sqlite) else { return };
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &["--delay", "2s"]);
    let file = app.campaign("stop.example", ["ana".to_owned()], 1, "");
    app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], 1);
    let mut worker = app.spawn(&["worker"]);
    let address = worker.value_after("health listens address=");
    // The intent is recorded, the answer to the dot still to come.
    let granted = "penguinmails_dot_intents_total{answer=\"granted\"}";
    http::until(|| (http::sample(&get(&address, "/metrics").body, granted) == 1.0).then_some(()));
    worker.signal("-TERM");
    assert_eq!(until(&address, "/ready", 503).json()["status"], "stopping");
    assert_eq!(get(&address, "/health").status, 200);
    while worker.wait_for("", 1) {}
    assert_eq!(lines(&sink.journal).len(), 1);
}

crate::on_every_engine! { every_loop_and_dependency_is_named }
