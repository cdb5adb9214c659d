//! `events push-sample`: what it pushes goes the way of real events, into the tables and the counts, once each.

use crate::app::{App, Engine, number};

fn pushed_events_are_stored_once_and_counted(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let file = app.campaign("sample.example", ["ana".to_owned(), "bo".to_owned()], 2, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap()]).0, 0);
    let push = |kind: &str, lead: &str, more: &[&str]| {
        let all = [&["events", "push-sample", "--campaign", "Welcome", "--type", kind, "--lead", lead], more].concat();
        let (exit, said) = app.json(&all);
        assert_eq!(exit, 0, "{said}");
        assert_eq!(said["queue"], "queue:analytics-processing");
        (number(&said, "pushed"), said["event"].clone())
    };
    assert_eq!(push("open", "ana@sample.example", &["--count", "1200"]).0, 1200);
    assert_eq!(push("open", "BO@sample.example", &[]).0, 1);
    let (_, click) = push("click", "ana@sample.example", &["--step", "2", "--url", "https://acme.test/x"]);
    assert_eq!(click["url"], "https://acme.test/x");
    let (_, again) = push("click", click["leadId"].as_str().unwrap(), &["--step", click["stepId"].as_str().unwrap()]);
    assert_ne!(again["eventId"], click["eventId"], "every event has an id of its own");

    let mut worker = app.spawn(&["worker"]);
    // The queue may hand events out in any order: 1,201 opens and 2 clicks in all.
    assert!(worker.wait_for(" event for lead ", 1203), "{}", worker.seen.join(""));
    assert_eq!(worker.stop().0.code(), Some(0));
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&report, "opens"), number(&report, "clicks")), (1201, 2), "{report}");
    let text = String::from_utf8(app.output(&["campaign", "status", "Welcome"]).stdout).unwrap();
    for line in [
        "step 1: 1201 open by 2 leads (human)",
        "step 2: 1 click by 1 leads (human) https://acme.test/x",
        "step 2: 1 click by 1 leads (human) https://example.com/",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(app.count_rows("tracking_events"), 1203);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let Some(app) = App::new(Engine::Sqlite) else { return };
    let file = app.campaign("sample.example", ["ana".to_owned()], 1, "");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap()]).0, 0);
    let good = ["--campaign", "Welcome", "--type", "click", "--lead", "ana@sample.example"];
    for (spoilt, to, what) in [
        ("Welcome", "Goodbye", "there is no campaign `Goodbye`"),
        ("click", "look", "is not a"),
        ("ana@sample.example", "cy@sample.example", "`--lead`: the campaign `Welcome` has no such lead"),
        ("", "--step=7", "`--step`: the campaign `Welcome` has no mail at step `7`"),
        ("", "--url=mailto:x", "`--url`: `mailto:x` is neither http nor https"),
        ("", "--count=0", "0 is not in 1..=1000000"),
    ] {
        let arguments = good.iter().map(|part| if *part == spoilt { to } else { part });
        let more = (spoilt.is_empty()).then_some(to);
        let all: Vec<&str> = ["events", "push-sample"].into_iter().chain(arguments).chain(more).collect();
        let output = app.output(&all);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains(what), "{what}: {text}");
    }
    let (_, queue) = app.json(&["queue", "status"]);
    assert!(queue["lanes"].as_array().unwrap().iter().all(|lane| number(lane, "ready") == 0), "{queue}");
}

crate::on_every_engine! {
    pushed_events_are_stored_once_and_counted
}
