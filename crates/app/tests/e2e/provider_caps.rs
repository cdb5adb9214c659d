//! Caps of recipients' providers on the real processes: two domains whose mail one provider takes share a cap.

use std::net::UdpSocket;

use serde_json::Value;

use crate::app::{App, Engine, Sink, number};
use crate::http::until;
use crate::name_server;

const LIMITS: &str = "[[tenant.provider_limits]]\nprovider = \"shared.example\"\nper_day = 3\n";

/// Imports a campaign to four leads at each of two domains of one provider, and to two of another; its file.
fn import(app: &App, sink: &Sink, limits: &str) {
    let file = app.campaign("example", [], 1, "");
    let lead = |(n, domain): (usize, &str)| format!("l{n}@{domain},Ana,Madrid\n");
    let leads = (0..4).flat_map(|n| ["a.shared.example", "b.shared.example"].map(|domain| (n, domain)));
    let leads: String = leads.chain([(0, "other.example"), (1, "other.example")]).map(lead).collect();
    std::fs::write(app.path("leads.csv"), format!("email,first_name,city\n{leads}")).unwrap();
    let text = std::fs::read_to_string(&file).unwrap().replace("[company]", &format!("{limits}[company]"));
    std::fs::write(&file, text).unwrap();
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url];
    let (exit, made) = app.json(&arguments);
    assert_eq!(exit, 0, "{made}");
}

fn configured(app: &App, name_server: &str) -> String {
    let path = app.path("penguinmails.toml");
    std::fs::write(&path, format!("[recipients]\nname_server = \"{name_server}\"\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn of_shared(sink: &Sink) -> usize {
    sink.accepted().iter().filter(|line| line.contains("shared.example")).count()
}

fn two_domains_of_one_provider_share_its_cap(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let config = configured(&app, &name_server::start());
    import(&app, &sink, LIMITS);
    let _server = app.spawn(&["serve", "--only", "scheduler,worker", "--config", &config]).read_on();
    until(|| (sink.accepted().len() >= 5).then_some(()));
    let turn = app.json(&["scheduler", "--once", "--config", &config]).1;
    assert_eq!(number(&turn, "planned"), 0, "{turn}");
    assert_eq!((sink.accepted().len(), of_shared(&sink)), (5, 3), "the other's at once");
    let slots = app.json(&["campaign", "calendar", "Welcome"]).1["slots"].clone();
    let day = |slot: &Value| slot["at"].as_str().unwrap()[..10].to_owned();
    let mut days: Vec<String> = slots.as_array().unwrap().iter().map(day).collect();
    assert_eq!(days.len(), 5, "{slots}");
    days.dedup();
    assert_eq!(days.len(), 2, "three tomorrow, and two the day after: {slots}");
    let waiting = slots[0]["lead"].as_str().unwrap().to_owned();
    let told = app.json(&["explain", &waiting, "--campaign", "Welcome"]).1;
    assert_eq!((&told["slot"]["at"], &told["reason"]), (&slots[0]["at"], &"provider_cap".into()), "{told}");
    assert_eq!(app.count_rows("recipient_domains WHERE provider = 'shared.example'"), 2);
}

/// A port that nobody answers on: each domain counts by itself, so the mail goes.
fn a_name_server_that_is_silent_holds_nothing_up(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = configured(&app, &silent.local_addr().unwrap().to_string());
    import(&app, &sink, &LIMITS.replace("shared.example", "a.shared.example"));
    let turn = app.json(&["scheduler", "--once", "--config", &config]).1;
    assert_eq!(number(&turn, "planned"), 3 + 4 + 2, "{turn}");
    assert_eq!(app.count_rows("recipient_domains WHERE provider = domain"), 3);
}

crate::on_every_database! {
    two_domains_of_one_provider_share_its_cap
    a_name_server_that_is_silent_holds_nothing_up
}
