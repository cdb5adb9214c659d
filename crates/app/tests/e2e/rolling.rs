//! FP19: processes of the version before run on beside a newer schema, while one version replaces the other.
//!
//! This program plays the older one; of the newer one there is what it leaves behind: columns and fields that nobody
//! knows yet. To add something that a newer version may leave: in the case below.

use std::collections::HashSet;

use crate::app::{App, Engine, Sink, number};
use crate::http::{get, until};

const SENDS: usize = 60;
const NEWER: &str = "\
    ALTER TABLE sends ADD COLUMN colour text NOT NULL DEFAULT 'red';
    ALTER TABLE campaigns ADD COLUMN colour text NOT NULL DEFAULT 'red';
    ALTER TABLE campaign_leads ADD COLUMN colour text NOT NULL DEFAULT 'red';
    ALTER TABLE email_accounts ADD COLUMN colour text NOT NULL DEFAULT 'red';
    ALTER TABLE leads ADD COLUMN colour text NOT NULL DEFAULT 'red';
    ALTER TABLE send_attempts ADD COLUMN colour text NOT NULL DEFAULT 'red';
    CREATE TABLE colours (name text PRIMARY KEY);
    INSERT INTO schema_migrations VALUES (998, '0998_colours', 'x', now(), now())";

fn fp19_processes_of_the_version_before_go_on_beside_a_newer_schema(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    app.set("HEALTH_LISTEN", "127.0.0.1:0");
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("rolling.example", (0..SENDS).map(|n| format!("l{n}")), 2, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    let mut running = app.spawn(&["worker"]);
    let health = running.value_after("health listens address=");
    assert!(running.wait_for("Waiting for jobs...", 1));
    assert_eq!(app.json(&["scheduler", "--once"]).1["planned"], SENDS);
    assert!(running.wait_for("status=sent", 10), "its statements are prepared");
    // One by one: together their locks could meet those of a running transaction the wrong way round.
    for statement in NEWER.split(';') {
        app.sql(statement);
    }
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("a newer penguinmails has migrated the database", 1), "{}", scheduler.seen.join(""));
    let others = [app.spawn(&["worker"]).read_on(), running.read_on()];
    assert!(scheduler.wait_for("campaign completed", 1), "{}", scheduler.seen.join(""));
    assert_eq!(get(&health, "/ready").status, 200);
    let (_, status) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&status, "sent") as usize, number(&status, "unknown")), (2 * SENDS, 0), "{status}");
    let accepted = sink.accepted();
    assert_eq!((accepted.len(), accepted.iter().collect::<HashSet<_>>().len()), (2 * SENDS, 2 * SENDS));

    app.sql("INSERT INTO schema_migrations VALUES (999, '0999_fewer_needs_998', 'x', now(), now())");
    until(|| (get(&health, "/ready").status == 503).then_some(()));
    let refused = app.output(&["worker"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && text.contains("a newer version of penguinmails ran here"), "{text}");
    for worker in others {
        assert_eq!(worker.stop().0.code(), Some(0));
    }
}

// SQLite's half stands in the contract of the engines.
crate::on_every_server! { fp19_processes_of_the_version_before_go_on_beside_a_newer_schema }
