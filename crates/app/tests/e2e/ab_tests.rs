//! Two subjects of one mail, tried over the real scheduler, worker, sink and tracker: the split, the rule, a person's choice.
//!
//! Each effect alone is the store's contract (`engines/tests/contract/store/trials.rs`).

use std::path::Path;

use domain::ids::{LeadId, StepId};
use domain::trial::{Measure, Rule, Trial, Variant};
use serde_json::Value;

use crate::app::{App, Engine, Sink, number};
use crate::maildir::{Mail, read_folder};
use crate::tracker::Tracker;

const DOMAIN: &str = "trial.example";
const LEADS: usize = 40;

/// A campaign of one mail with the subjects `a` and `b`, and what else stands in its step and file.
fn import(app: &App, sink: &Sink, settings: &str, rule: &str, more: &str) {
    let file = app.campaign(DOMAIN, (0..LEADS).map(|n| format!("l{n}")), 0, settings);
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!("[[step]]\nhtml = \"mail.html\"\n{rule}\n"));
    for key in ["a", "b"] {
        text.push_str(&format!("[[step.variant]]\nkey = \"{key}\"\nsubject = \"{key}\"\n"));
    }
    std::fs::write(&file, text + more).unwrap();
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url];
    assert_eq!(app.json(&arguments).0, 0);
}

/// What the hash says, asked without the product.
fn trial(sample_percent: Option<u32>) -> Trial {
    let rule = |sample_percent| Rule { by: Measure::Opens, after: std::time::Duration::from_secs(1), sample_percent };
    let variants = ["a", "b"].map(|key| Variant { key: key.into(), weight: 1 }).into();
    Trial { variants, rule: sample_percent.map(rule), winner: None }
}

/// The step and lead of the first mail to this address, and its variant.
fn send(app: &App, address: &str) -> (StepId, LeadId, String) {
    let show = ["send", "show", "--campaign", "Welcome", "--lead", address, "--step", "1"];
    let shown = app.json(&show).1;
    let id = |field: &str| shown[field].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    let variant = shown["variant"].as_str().unwrap().to_owned();
    (StepId::from_uuid(id("stepId")), LeadId::from_uuid(id("leadId")), variant)
}

/// Each of these mails is what the hash says of its lead, who is in the sample where there is one.
fn are_as_the_hash_says(app: &App, mails: &[Mail], trial: &Trial) {
    for mail in mails {
        let (step, lead, variant) = send(app, &mail.to);
        assert_eq!((Some(mail.subject.as_str()), &mail.subject), (trial.assigned(step, lead), &variant));
        assert!(!trial.waits(step, lead));
    }
}

fn variants(app: &App) -> Value {
    app.json(&["campaign", "variants", "Welcome"]).1["steps"][0].take()
}

fn of<'a>(mails: &'a [Mail], subject: &'a str) -> impl Iterator<Item = &'a Mail> {
    mails.iter().filter(move |mail| mail.subject == subject)
}

fn mails(folder: &Path) -> Vec<Mail> {
    read_folder(folder, DOMAIN)
}

fn opens_of_the_sample_decide_what_the_rest_gets(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, "", "winner = { by = \"opens\", after_hours = 1, sample_percent = 50 }", "");
    let planned = number(&app.json(&["scheduler", "--once"]).1, "planned");
    let sample = usize::try_from(planned).unwrap();
    assert!((5..LEADS - 5).contains(&sample), "half of {LEADS}: {sample}");
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", sample), "{}", worker.seen.join(""));
    let first = mails(&sink.folder);
    are_as_the_hash_says(&app, &first, &trial(Some(50)));

    let (exit, status) = app.json(&["campaign", "status", "Welcome"]);
    let waits = serde_json::json!({ "state": "pending", "reason": "ab_winner", "count": LEADS - sample });
    assert_eq!((exit, &status["reasons"][0]), (0, &waits));
    let waiting = (0..LEADS).map(|n| format!("l{n}@{DOMAIN}")).find(|to| first.iter().all(|mail| mail.to != *to));
    let told = app.json(&["explain", &waiting.unwrap(), "--campaign", "Welcome"]).1;
    assert_eq!(told["reason"], "ab_winner", "{told}");
    assert!(told["slot"]["at"].is_string(), "an hour from now: {told}");

    // Both are opened, `b` by more of its readers.
    // A connection that is kept for too long is closed by the tracker: it is opened when it is needed.
    let mut tracker = Tracker::start(&app);
    let (a, b) = (of(&first, "a").count(), of(&first, "b").count());
    assert!(a > 1 && b > 1, "{a} {b}");
    for mail in of(&first, "b").chain(of(&first, "a").take(1)) {
        let pixel = mail.links.iter().find(|link| link.contains("/api/track/open")).unwrap();
        let path = pixel.trim_start_matches("http://127.0.0.1:8081").replace("&amp;", "&");
        assert_eq!(tracker.ask("GET", &path).status, 200);
    }
    assert!(worker.wait_for("Received open event", b + 1));
    // The hour is over at once.
    app.change("UPDATE campaign_sequence_steps SET trial_after_hours = 0.0001, trial_check_at = NULL");
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("a trial has a winner", 1));
    assert!(worker.wait_for("status=sent", LEADS - sample));
    assert!(scheduler.wait_for("campaign completed", 1));
    let all = mails(&sink.folder);
    assert_eq!((all.len(), of(&all, "a").count()), (LEADS, a), "the rest got `b`");
    let told = variants(&app);
    assert_eq!((&told["winner"], &told["decidedBy"], &told["waiting"]), (&"b".into(), &"rule".into(), &0.into()));
    let count = |n: usize, field: &str| number(&told["variants"][n], field);
    assert_eq!((count(0, "sent"), count(0, "opens"), count(1, "opens")), (a as u64, 1, b as u64));
    assert!(worker.stop().0.success() && scheduler.stop().0.success());
}

/// Follow-ups answer the subject that the lead was sent.
fn a_person_chooses_for_all_who_have_no_mail_yet(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let follow_up = "[[step]]\nsubject = \"{{ custom.nothing }}\"\nhtml = \"mail.html\"\n";
    import(&app, &sink, "daily_limit = 20", "", follow_up);
    assert_eq!(app.json(&["scheduler", "--once"]).1["planned"], 20);
    let refused = app.output(&["campaign", "winner", "Welcome", "--step", "2", "--variant", "b"]);
    assert_eq!(refused.status.code(), Some(2));
    let refused = app.output(&["campaign", "winner", "Welcome", "--step", "1", "--variant", "c"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("no variant `c`") && said.contains("a, b"), "{said}");
    let (exit, said) = app.json(&["campaign", "winner", "Welcome", "--step", "1", "--variant", "b"]);
    assert_eq!((exit, &said["winner"], &said["before"]), (0, &"b".into(), &Value::Null));
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 20));
    let first = mails(&sink.folder);
    are_as_the_hash_says(&app, &first, &trial(None));
    let a = of(&first, "a").count();
    assert!(a > 0, "who had a mail planned keeps its variant");

    import(&app, &sink, "", "", follow_up);
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("campaign completed", 1));
    let all = mails(&sink.folder);
    assert_eq!((of(&all, "a").count(), of(&all, "b").count()), (a, LEADS - a));
    for (subject, count) in [("Re: a", a), ("Re: b", LEADS - a)] {
        let own = subject.trim_start_matches("Re: ");
        assert_eq!(of(&all, subject).count(), count);
        assert!(of(&all, subject).all(|mail| of(&all, own).any(|first| first.to == mail.to)), "{subject}");
    }
    let told = variants(&app);
    assert_eq!((&told["winner"], &told["decidedBy"], &told["rule"]), (&"b".into(), &"person".into(), &Value::Null));
    let text = String::from_utf8(app.output(&["campaign", "variants", "Welcome"]).stdout).unwrap();
    assert!(
        text.contains("step 1: `b` has won, chosen by a person") && text.contains(&format!("a: {a} sent")),
        "{text}"
    );
    assert!(worker.read_on().stop().0.success() && scheduler.stop().0.success());
}

crate::on_every_database! {
    opens_of_the_sample_decide_what_the_rest_gets
    a_person_chooses_for_all_who_have_no_mail_yet
}
