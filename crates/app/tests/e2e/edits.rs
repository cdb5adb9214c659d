//! A campaign under way is edited by its file: what processes that run apart make of it, and how soon.
//!
//! Each effect alone is the store's contract (`engines/tests/contract/store/edits.rs`).

use std::process::Output;

use crate::app::{App, Engine, Process, Sink, number};

const LEADS: [&str; 2] = ["a", "b"];

/// Writes the campaign file anew: two leads, and these steps by their subjects with what else stands in them.
fn write(app: &App, steps: &[(&str, &str)]) {
    let file = app.campaign("edits.example", LEADS.map(str::to_owned), 0, "");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (subject, more) in steps {
        text.push_str(&format!("[[step]]\nsubject = \"{subject}\"\nhtml = \"mail.html\"\n{more}\n"));
    }
    std::fs::write(file, text).unwrap();
}

fn import(app: &App, sink: &Sink, more: &[&str]) -> Output {
    let file = app.path("campaign.toml");
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--smtp", &sink.url];
    app.output(&[&arguments, more].concat())
}

/// The edit must be taken; what it says beside its result.
fn edit(app: &App, sink: &Sink, steps: &[(&str, &str)], more: &[&str]) -> String {
    write(app, steps);
    let output = import(app, sink, more);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

/// Waits until both leads were sent one more mail.
fn sent_to_both(worker: &mut Process) {
    assert!(worker.wait_for("status=sent", LEADS.len()));
}

fn an_edit_reaches_leads_that_wait_and_those_that_had_finished(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let late = "wait_hours = 48";
    edit(&app, &sink, &[("Hello", ""), ("News", late), ("Bye", late)], &["--start"]);
    let (mut worker, mut scheduler) = (app.spawn(&["worker"]), app.spawn(&["scheduler"]));
    sent_to_both(&mut worker);

    write(&app, &[("Hello", ""), ("Offer", ""), ("News", late), ("Bye", late)]);
    let refused = import(&app, &sink, &[]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("1 added, 0 left out") && said.contains("--update"), "{said}");
    edit(&app, &sink, &[("Hello", ""), ("Offer", ""), ("News", late), ("Bye", late)], &["--update"]);
    sent_to_both(&mut worker);

    // A wait that is over now, and a text that is another.
    edit(&app, &sink, &[("Hello", ""), ("Offer", ""), ("News of today", ""), ("Bye", late)], &[]);
    sent_to_both(&mut worker);
    let show = ["send", "show", "--campaign", "Welcome", "--lead", "a@edits.example", "--step", "3"];
    assert_eq!(app.json(&show).1["state"], "sent");

    edit(&app, &sink, &[("Hello", ""), ("Offer", ""), ("News of today", "")], &["--update"]);
    assert!(scheduler.wait_for("campaign completed", 1), "nobody waits for the step that was left out");
    assert_eq!(sink.accepted().len(), 6);

    let longer = [("Hello", ""), ("Offer", ""), ("News of today", ""), ("One more", "")];
    let said = edit(&app, &sink, &longer, &["--update", "--start"]);
    assert!(said.contains("2 leads had finished"), "{said}");
    let said = edit(&app, &sink, &longer, &["--reopen"]);
    assert!(!said.contains("had finished"), "{said}");
    sent_to_both(&mut worker);
    assert!(scheduler.wait_for("campaign completed", 1));
    assert!(worker.stop().0.success() && scheduler.stop().0.success());
    assert_eq!(number(&app.json(&["campaign", "status", "Welcome"]).1, "sent"), 8);
    for lead in LEADS {
        let copies = sink.accepted().iter().filter(|line| line.ends_with(&format!("\t{lead}@edits.example"))).count();
        assert_eq!(copies, 4);
    }
}

super::on_every_database! { an_edit_reaches_leads_that_wait_and_those_that_had_finished }
