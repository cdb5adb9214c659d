//! What a person sees of sends that did not simply go, and what they do about them.

use serde_json::Value;

use crate::app::{App, Engine, Sink, number};

fn import(app: &App, sink: &Sink, who: &[&str], extra: &str) {
    let file = app.campaign("people.example", who.iter().map(|word| (*word).to_owned()), 1, extra);
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
}

/// Runs the campaign file until nothing moves by itself.
fn run(app: &App, sink: &Sink) -> (i32, Value) {
    app.json(&["run", app.path("campaign.toml").to_str().unwrap(), "--smtp", &sink.url])
}

fn status(app: &App) -> Value {
    app.json(&["campaign", "status", "Welcome"]).1
}

/// The first line that `campaign status` shows a person.
fn headline(app: &App) -> String {
    let output = app.output(&["campaign", "status", "Welcome"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find(|line| line.contains("Welcome")).unwrap().to_owned()
}

fn show(app: &App, local: &str) -> Value {
    let lead = format!("{local}@people.example");
    let (exit, send) = app.json(&["send", "show", "--campaign", "Welcome", "--lead", &lead]);
    assert_eq!(exit, 0, "{send}");
    send
}

fn id(send: &Value) -> &str {
    send["sendId"].as_str().unwrap()
}

fn failures(app: &App) -> Vec<Value> {
    app.json(&["campaign", "failures", "Welcome"]).1["failures"].as_array().unwrap().clone()
}

fn a_held_send_is_shown_with_its_attempts_and_no_address(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, &["silent+a", "unknown+b"], "on_unknown = \"hold\"");
    assert_eq!(run(&app, &sink).0, 3);
    let send = show(&app, "silent+a");
    assert_eq!((send["state"].as_str(), send["reason"].as_str()), (Some("held"), Some("unknown")));
    assert_eq!((number(&send, "unknowns"), number(&send, "step")), (1, 1));
    let attempts = send["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{send}");
    assert_eq!((attempts[0]["outcome"].as_str(), attempts[0]["stage"].as_str()), (Some("unknown"), Some("dot")));
    assert!(attempts[0]["transcript"].as_str().unwrap().contains("rcpt: 250"), "{send}");
    assert_eq!(app.json(&["send", "show", id(&send)]).1, send, "by its id too");
    // The server's reply to the other one holds its address; in a pipe nobody sees it.
    let refused = show(&app, "unknown+b");
    assert_eq!(refused["attempts"][0]["code"], 550);
    for text in [refused.to_string(), String::from_utf8(app.output(&["send", "show", id(&refused)]).stdout).unwrap()] {
        assert!(!text.contains("@people.example") && !text.contains("ana@acme.test"), "{text}");
    }
    let asked = app.json(&["send", "show", id(&refused), "--log-addresses"]).1;
    assert_eq!(asked["leadAddress"], "unknown+b@people.example");
    let text = app.output(&["send", "show", id(&send)]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("the connection was cut after the final dot") && text.contains("send resolve"), "{text}");
    let (exit, nobody) = app.json(&["send", "show", "--campaign", "Welcome", "--lead", "nobody@people.example"]);
    assert!(exit == 2 && !nobody.to_string().contains("nobody@"), "{nobody}");
}

fn a_person_decides_about_held_sends_and_nobody_else_completes_the_campaign(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let who = ["silent+a", "silent+b", "silent-once+c", "good"];
    import(&app, &sink, &who, "on_unknown = \"hold\"");
    assert_eq!(run(&app, &sink).0, 3);
    let held = status(&app);
    assert_eq!((number(&held, "held"), number(&held, "sent")), (3, 1), "{held}");
    assert_eq!(app.json(&["scheduler", "--once"]).0, 0);
    assert_eq!(status(&app)["status"], "sending", "three are held");
    assert!(headline(&app).contains("sending, 3 held"), "{}", headline(&app));
    assert!(failures(&app).iter().all(|send| send["state"] == "held" && send["reason"] == "unknown"));
    let resolve = |local: &str, decision: &str| app.json(&["send", "resolve", id(&show(&app, local)), decision]);
    let (exit, refused) = resolve("good", "--cancel");
    assert!(exit == 2 && refused["error"]["message"].as_str().unwrap().contains("it is sent"), "{refused}");
    assert_eq!(resolve("silent+a", "--sent").1["state"], "sent");
    assert_eq!(resolve("silent+b", "--cancel").1["state"], "cancelled");
    assert_eq!(resolve("silent-once+c", "--resend").1["state"], "queued");
    assert_eq!(run(&app, &sink).0, 0);
    let done = status(&app);
    assert_eq!((number(&done, "sent"), number(&done, "cancelled"), number(&done, "held")), (3, 1, 0), "{done}");
    assert_eq!((done["status"].as_str(), number(&done, "unknown")), (Some("completed"), 3), "cut off thrice");
    let copies = |local: &str| sink.accepted().iter().filter(|line| line.contains(local)).count();
    assert_eq!((copies("silent+a"), copies("silent+b"), copies("silent-once+c")), (1, 1, 2));
    assert_eq!(resolve("silent+a", "--resend").0, 2, "it is over");
}

fn a_second_cut_is_held_again(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, &["silent+a"], "on_unknown = \"hold\"");
    assert_eq!(run(&app, &sink).0, 3);
    assert_eq!(app.json(&["send", "resolve", id(&show(&app, "silent+a")), "--resend"]).0, 0);
    assert_eq!(run(&app, &sink).0, 3);
    let send = show(&app, "silent+a");
    assert_eq!((send["state"].as_str(), number(&send, "unknowns")), (Some("held"), 2));
    assert_eq!(send["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(app.json(&["campaign", "cancel", "Welcome"]).0, 0);
    let (exit, refused) = app.json(&["send", "resolve", id(&send), "--resend"]);
    assert!(exit == 2 && refused.to_string().contains("its campaign is cancelled"), "{refused}");
    assert_eq!(app.json(&["send", "resolve", id(&send), "--cancel"]).0, 0);
}

fn failed_sends_are_listed_and_go_again_once(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, &["good", "spam+a", "spam+b", "unknown+c"], "");
    assert_eq!(run(&app, &sink).0, 3);
    assert_eq!((status(&app)["status"].as_str(), number(&status(&app), "failed")), (Some("completed"), 2));
    assert!(headline(&app).contains("completed, 2 failed, 1 bounced"), "{}", headline(&app));
    let mut listed: Vec<(String, String, u64)> = failures(&app)
        .iter()
        .map(|send| {
            let word = |field: &str| send[field].as_str().unwrap().to_owned();
            (word("state"), word("reason"), number(send, "attempts"))
        })
        .collect();
    let entry = |state: &str, reason: &str| (state.to_owned(), reason.to_owned(), 1);
    let failed = entry("failed", "policy_refusal");
    listed.sort();
    assert_eq!(listed, [entry("bounced", "unknown_recipient"), failed.clone(), failed]);
    let text = String::from_utf8(app.output(&["campaign", "failures", "Welcome"]).stdout).unwrap();
    assert!(text.contains("the server refused it for policy or reputation (policy_refusal), last reply 5"), "{text}");
    let again = |reason: &[&str]| {
        let (exit, done) = app.json(&[&["campaign", "resend-failed", "Welcome"], reason].concat());
        (exit, done["queued"].as_u64())
    };
    assert_eq!(again(&["--reason", "no such reason"]).0, 2);
    assert_eq!(again(&["--reason", "expired"]), (0, Some(0)));
    assert_eq!(again(&["--reason", "policy_refusal"]), (0, Some(2)));
    assert_eq!(again(&[]), (0, Some(0)), "they are on their way");
    let open = status(&app);
    assert_eq!((open["status"].as_str(), number(&open, "pending"), number(&open, "bounced")), (Some("sending"), 2, 1));
    let dead = || app.json(&["queue", "dead", "--campaign", "Welcome"]).1["deadLetters"].as_array().unwrap().len();
    assert_eq!(dead(), 0, "their letters are replayed");
    assert_eq!(run(&app, &sink).0, 3, "the server has not changed its mind");
    assert_eq!((status(&app)["status"].as_str(), dead()), (Some("completed"), 2));
    let send = show(&app, "spam+a");
    assert_eq!((send["attempts"].as_array().unwrap().len(), number(&send, "counted")), (2, 1), "the history stays");
    let replay = ["queue", "replay", "--campaign", "Welcome", "--tenant", "Acme people.example"];
    assert_eq!(app.json(&replay).1["replayed"], 2);
    assert_eq!((status(&app)["status"].as_str(), dead()), (Some("sending"), 0));
}

fn an_account_that_a_person_pauses_sends_nothing_until_that_is_lifted(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, &["good+a", "good+b"], "");
    let account = |verb: &str, who: &str| app.json(&["account", verb, who]);
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], 2);
    let (exit, paused) = account("pause", "Ana@acme.TEST");
    assert_eq!((exit, paused["status"].as_str()), (0, Some("paused")), "{paused}");
    assert_eq!(run(&app, &sink).0, 3, "running the file again lifts no pause of a person's");
    assert_eq!(sink.accepted().len(), 0);
    let (exit, told) = app.json(&["explain", "good+a@people.example", "--campaign", "Welcome"]);
    assert_eq!((exit, told["reason"].as_str()), (0, Some("account_inactive")), "{told}");
    assert_eq!(account("pause", "ana@acme.test").0, 2, "twice");
    assert_eq!(app.json(&["account", "list"]).1["accounts"], serde_json::json!([paused]));
    let list = String::from_utf8(app.output(&["account", "list"]).stdout).unwrap();
    assert_eq!(list, "ana@acme.test: paused, no daily limit, 0 s apart\n");
    let (exit, nobody) = account("resume", "nobody@acme.test");
    assert!(exit == 2 && !nobody.to_string().contains("nobody@"), "{nobody}");
    let (exit, resumed) = account("resume", paused["id"].as_str().unwrap());
    assert_eq!((exit, resumed["status"].as_str()), (0, Some("active")), "{resumed}");
    assert_eq!(account("resume", "ana@acme.test").0, 2, "twice");
    assert_eq!(run(&app, &sink).0, 0);
    assert_eq!(sink.accepted().len(), 2);
}

crate::on_every_engine! {
    an_account_that_a_person_pauses_sends_nothing_until_that_is_lifted
    a_held_send_is_shown_with_its_attempts_and_no_address
    a_person_decides_about_held_sends_and_nobody_else_completes_the_campaign
    a_second_cut_is_held_again
    failed_sends_are_listed_and_go_again_once
}

/// Rows are written as another program would, which only PostgreSQL lets it.
mod many_letters {
    use super::*;

    fn more_letters_than_one_page_go_back_to_their_queues(engine: Engine) {
        let Some(app) = App::new(engine) else { return };
        assert_eq!(app.json(&["migrate"]).0, 0);
        app.sql(
            "INSERT INTO dead_letters (id, queue_name, payload, error, failed_at, attempt_count, original_priority, created_at,
                updated_at)
            SELECT gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'queue:email-sending' ELSE 'queue:analytics-processing' END,
                '{broken', 'not JSON', now() - n % 7 * interval '1 hour', 1, 100, now(), now()
            FROM generate_series(1, 1201) n",
        );
        let one = app.json(&["queue", "dead", "--limit", "1"]).1["deadLetters"][0]["id"].clone();
        let replay = |which: &str| app.json(&["queue", "replay", which]);
        assert_eq!(replay(one.as_str().unwrap()).1["replayed"], 1);
        let (exit, gone) = replay(one.as_str().unwrap());
        assert!(exit == 2 && gone.to_string().contains("no dead letter"), "{gone}");
        assert_eq!(replay("--all").1["replayed"], 1200);
        assert_eq!(replay("--all").1["replayed"], 0);
        let status = app.json(&["queue", "status"]).1;
        let ready = status["lanes"].as_array().unwrap().iter().map(|lane| number(lane, "ready"));
        assert_eq!((ready.sum::<u64>(), number(&status, "deadLetters")), (1201, 0), "{status}");
    }

    mod postgres {
        #[test]
        fn more_letters_than_one_page_go_back_to_their_queues() {
            super::more_letters_than_one_page_go_back_to_their_queues(super::Engine::Postgres);
        }
    }
    mod redis {
        #[test]
        fn more_letters_than_one_page_go_back_to_their_queues() {
            super::more_letters_than_one_page_go_back_to_their_queues(super::Engine::Redis);
        }
    }
}
