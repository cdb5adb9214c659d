//! Rounds from outside: a campaign that comes back, and people who have leads begin again.
//!
//! Who may begin and when is the contract of `domain::rounds` and of the store.

use crate::app::{App, Engine, Sink, number};

const LEADS: [&str; 2] = ["a", "b"];

fn a_recurring_campaign_is_run_to_the_end_of_its_last_round(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let rounds = "repeat = \"daily\"\nrepeat_count = 3";
    let file = app.campaign("rounds.example", LEADS.map(str::to_owned), 1, rounds);
    // Ten hours a second.
    let (exit, report) = app.json(&["run", file.to_str().unwrap(), "--smtp", &sink.url, "--time-scale", "36000"]);
    assert_eq!((exit, report["status"].as_str()), (0, Some("completed")), "{report}");
    assert_eq!((number(&report, "sent"), number(&report, "planned")), (6, 6));
    assert!(report.get("nextRoundAt").is_none(), "{report}");
    for lead in LEADS {
        let copies = sink.accepted().iter().filter(|line| line.ends_with(&format!("\t{lead}@rounds.example"))).count();
        assert_eq!(copies, 3);
    }
}

fn a_person_has_leads_begin_again_and_none_who_gets_no_mail(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("rounds.example", LEADS.map(str::to_owned), 1, "");
    let run = ["run", file.to_str().unwrap(), "--smtp", &sink.url];
    assert_eq!(number(&app.json(&run).1, "sent"), 2);

    let again = |more: &[&str]| app.json(&[&["campaign", "re-enroll", "Welcome"], more].concat());
    let (exit, report) = again(&["--all-finished"]);
    assert_eq!((exit, number(&report, "began")), (0, 2), "{report}");
    assert_eq!(app.json(&["campaign", "status", "Welcome"]).1["status"], "sending", "it is open again");
    assert_eq!(number(&app.json(&run).1, "sent"), 4);

    app.change("UPDATE leads SET status = 'unsubscribed' WHERE email = 'a@rounds.example'");
    let (exit, report) = again(&["--lead", "a@rounds.example"]);
    assert_eq!((exit, number(&report, "began")), (0, 0));
    let left = &report["left"][0];
    assert_eq!((left["why"].as_str(), left["reason"].as_str()), (Some("excluded"), Some("lead_unsubscribed")));
    assert_eq!(app.json(&["campaign", "status", "Welcome"]).1["status"], "completed", "nobody has begun");
    let said = app.output(&["campaign", "re-enroll", "Welcome", "--all-finished"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("leads who begin a new round: 1") && said.contains("1, since the lead unsubscribed"),
        "{said}"
    );
    assert_eq!(number(&app.json(&run).1, "sent"), 5);

    for wrong in [&["--lead", "nobody@rounds.example"][..], &[], &["--all-finished", "--lead", "b@rounds.example"]] {
        let refused = app.output(&[&["campaign", "re-enroll", "Welcome"], wrong].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&refused.stderr));
    }
}

fn between_two_rounds_people_are_told_when_the_next_one_begins(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let file = app.campaign("rounds.example", LEADS.map(str::to_owned), 1, "repeat = \"monthly\"");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    let (mut worker, scheduler) = (app.spawn(&["worker"]), app.spawn(&["scheduler"]));
    assert!(worker.wait_for("status=sent", 2));
    assert!(worker.stop().0.success() && scheduler.stop().0.success());

    let status = app.json(&["campaign", "status", "Welcome"]).1;
    assert_eq!(status["status"], "sending");
    let begins = status["nextRoundAt"].as_str().unwrap().to_owned();
    let table = String::from_utf8(app.output(&["campaign", "status", "Welcome"]).stdout).unwrap();
    assert!(table.contains("next round on"), "{table}");

    let told = app.json(&["explain", "a@rounds.example", "--campaign", "Welcome"]).1;
    assert_eq!((told["state"].as_str(), told["nextRoundAt"].as_str()), (Some("completed"), Some(begins.as_str())));
    assert_eq!(told["slot"]["step"], 1, "{told}");
    assert!(told["why"].as_str().unwrap().contains("its next round begins on"), "{told}");

    let forecast = app.json(&["campaign", "forecast", "Welcome"]).1;
    let slots = forecast["slots"].as_array().unwrap();
    // A quarter of a year has three months of it, or the first of a fourth.
    assert!([6, 8].contains(&slots.len()) && slots[0]["at"].as_str() >= Some(begins.as_str()), "{forecast}");
    assert!(forecast["finish"].is_null() && forecast["until"].is_string(), "{forecast}");
    let text = String::from_utf8(app.output(&["campaign", "forecast", "Welcome"]).stdout).unwrap();
    assert!(text.contains("and more rounds behind it"), "{text}");
}

super::on_every_database! {
    a_recurring_campaign_is_run_to_the_end_of_its_last_round
    a_person_has_leads_begin_again_and_none_who_gets_no_mail
    between_two_rounds_people_are_told_when_the_next_one_begins
}
