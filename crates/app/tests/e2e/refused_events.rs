//! Events that the database takes in no company: dead letters with the reason, and no other event waits for them.
//!
//! On PostgreSQL alone, whose tables a case can change from outside; SQLite is tried in the engines' contract.

use crate::app::{App, Engine, number};

/// An event of another program that a rule of the database never takes, among others, of each kind; and one that breaks
/// a rule of ours.
fn an_event_that_the_database_refuses_stops_no_other(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let file = app.campaign("refused.example", ["ana".to_owned()], 1, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap()]).0, 0);
    let push = ["events", "push-sample", "--campaign", "Welcome", "--lead", "ana@refused.example", "--type", "open"];
    let (exit, said) = app.json(&[&push[..], &["--count", "20"]].concat());
    assert_eq!(exit, 0, "{said}");
    app.sql("ALTER TABLE tracking_events ADD CONSTRAINT odd CHECK (method IS DISTINCT FROM 'ODD')").unwrap();
    let mut unsound = said["event"].clone();
    (unsound["type"], unsound["url"]) = ("click".into(), "https://x.test/a\0b".into());
    push_raw(&app, engine, &unsound.to_string());
    for kind in ["open", "unsubscribe"] {
        let mut event = said["event"].clone();
        event.as_object_mut().unwrap().remove("eventId");
        (event["type"], event["method"]) = (kind.into(), "ODD".into());
        push_raw(&app, engine, &event.to_string());
    }
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("a job is a dead letter now", 3), "{}", worker.seen.join(""));
    assert_eq!(worker.stop().0.code(), Some(0));
    assert_eq!(app.count_rows("tracking_events"), 20, "each of the others once");
    let errors = app.column("SELECT error FROM dead_letters ORDER BY error");
    assert!(errors[0].starts_with("field `url` must be an http or https URL"), "{errors:?}");
    assert!(errors[1..].iter().all(|why| why.starts_with("the database does not take this event: ")), "{errors:?}");
    assert_eq!((errors.len() - 1, app.count_rows("leads WHERE status = 'active'")), (2, 1));
    let (_, queue) = app.json(&["queue", "status"]);
    assert!(queue["lanes"].as_array().unwrap().iter().all(|lane| number(lane, "ready") == 0), "{queue}");
}

/// As another program lays it on the queue.
fn push_raw(app: &App, engine: Engine, payload: &str) {
    if engine == Engine::Redis {
        app.redis().ask(&["LPUSH", "queue:analytics-processing", payload]);
        return;
    }
    let job = "INSERT INTO queue_jobs (id, list, lane, payload, priority, not_before, created_at, updated_at)
        SELECT gen_random_uuid(), list, lane, '{}', priority, not_before, created_at, updated_at FROM queue_jobs
        WHERE list = 'queue:analytics-processing' LIMIT 1";
    app.sql(&job.replace("{}", payload)).unwrap();
}

mod postgres {
    #[test]
    fn an_event_that_the_database_refuses_stops_no_other() {
        super::an_event_that_the_database_refuses_stops_no_other(super::Engine::Postgres);
    }
}
mod redis {
    #[test]
    fn an_event_that_the_database_refuses_stops_no_other() {
        super::an_event_that_the_database_refuses_stops_no_other(super::Engine::Redis);
    }
}
