//! The tracking API over real connections, with the links of real mails.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;

use crate::app::{App, Engine, Process, Sink, number, service};
use crate::gateway::Gateway;
use crate::http::until;
use crate::maildir::{self, Mail};

/// A tracker and one kept connection to it.
pub struct Tracker {
    pub process: Process,
    pub address: String,
    client: Client,
}

/// A kept connection.
pub struct Client(BufReader<TcpStream>);

/// An answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Tracker {
    pub fn start(app: &App) -> Self {
        let mut process = app.spawn(&["track"]);
        let address = process.value_after("address=").split(' ').next().unwrap().to_owned();
        let client = Client::connect(&address);
        Self { process, address, client }
    }

    pub fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.client.ask(method, path)
    }

    /// Follows every link of these mails, over several connections; the destination stands in the link's own token.
    pub fn check_links(&mut self, mails: &[Mail]) {
        let address = &self.address;
        std::thread::scope(|scope| {
            for part in mails.chunks(mails.len().div_ceil(16)) {
                scope.spawn(move || Client::connect(address).check_links(part));
            }
        });
    }
}

impl Client {
    pub fn connect(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    pub fn ask(&mut self, method: &str, path: &str) -> Answer {
        let body = if method == "POST" { "List-Unsubscribe=One-Click" } else { "" };
        self.send(method, path, "", body)
    }

    /// Asks until the tracker is gone; how many answers it gave, each told of.
    fn ask_on(mut self, path: &str, told: &AtomicUsize) -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nUser-Agent: Mozilla/5.0 (X11) Chrome/140\r\n\r\n");
        let (mut answers, mut line) = (0, String::new());
        loop {
            line.clear();
            if self.0.get_mut().write_all(request.as_bytes()).is_err() || self.0.read_line(&mut line).unwrap_or(0) == 0
            {
                return answers;
            }
            if line.starts_with("HTTP/1.1 ") {
                assert!(line.starts_with("HTTP/1.1 302"), "{line}");
                answers += 1;
                told.fetch_add(1, Ordering::Relaxed);
            }
            while line != "\r\n" {
                line.clear();
                if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                    return answers;
                }
            }
        }
    }

    /// Asks with these lines of header, each with its line break, and this body.
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nUser-Agent: Mozilla/5.0 (X11) Chrome/140\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name == "content-length" {
                length = value.parse().unwrap();
            }
            if name != "date" {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.0.read_exact(&mut body).unwrap();
        Answer { status, headers, body }
    }

    fn check_links(&mut self, mails: &[Mail]) {
        for mail in mails {
            for link in &mail.links {
                let link = link.replace("&amp;", "&");
                let path = link.strip_prefix("http://127.0.0.1:8081").unwrap_or_else(|| panic!("{link}"));
                if path.starts_with("/unsubscribe") {
                    continue;
                }
                let answer = self.ask("GET", path);
                if path.starts_with("/api/track/open") {
                    assert_eq!((answer.status, answer.body.len()), (200, 43));
                } else {
                    assert_eq!(answer.status, 302, "{path}");
                    assert_eq!(answer.header("location"), Some(destination(path).as_str()));
                }
            }
            let expected = mail.links.iter().any(|l| destination_of(l).contains("shop.example/?who=Ana%20lead"));
            assert!(expected, "{:?}", mail.links);
        }
    }
}

fn destination_of(link: &str) -> String {
    if link.contains("/api/track/click") { destination(link) } else { String::new() }
}

/// The URL inside a click's token.
fn destination(link: &str) -> String {
    let (_, token) = link.split_once("token=").unwrap();
    let payload = token.split('.').nth(1).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&json).unwrap();
    claims["url"].as_str().unwrap().to_owned()
}

/// Sends one mail and returns it.
pub fn one_mail(app: &App, sink: &Sink) -> Mail {
    let file = app.campaign("one.example", ["ana".to_owned()], 1, "");
    let (exit, report) = app.json(&["run", file.to_str().unwrap(), "--smtp", &sink.url]);
    assert_eq!(exit, 0, "{report}");
    maildir::read_folder(&sink.folder, "one.example").pop().unwrap()
}

fn unsubscribing_asks_first_and_then_acts_at_once(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let way_out = mail.unsubscribe.trim_matches(['<', '>']).replace("http://127.0.0.1:8081", "");
    let mut tracker = Tracker::start(&app);
    let page = tracker.ask("GET", &way_out);
    assert!(page.status == 200 && String::from_utf8_lossy(&page.body).contains("<form method=\"post\">"));
    let unsubscribes = |app: &App| number(&app.json(&["campaign", "status", "Welcome"]).1, "unsubscribes");
    assert_eq!(unsubscribes(&app), 0, "a GET changes nothing");
    for _ in 0..2 {
        let done = tracker.ask("POST", &way_out);
        assert!(done.status == 200 && String::from_utf8_lossy(&done.body).contains("You are unsubscribed"));
    }
    assert!(unsubscribes(&app) >= 1);
    // Nothing more goes to that lead, in no campaign.
    let text = std::fs::read_to_string(app.path("campaign.toml")).unwrap().replace("\"Welcome\"", "\"Second\"");
    std::fs::write(app.path("second.toml"), text).unwrap();
    let (_, second) = app.json(&["run", app.path("second.toml").to_str().unwrap(), "--smtp", &sink.url]);
    assert_eq!((number(&second, "sent"), number(&second, "skipped")), (0, 1));
    assert_eq!(second["reasons"][0]["reason"], "lead_unsubscribed");
    assert_eq!(sink.accepted().len(), 1);
    assert!(tracker.process.stop().0.success());
}

fn events_are_counted_once_and_by_who_caused_them(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let mut worker = app.spawn(&["worker"]);
    let mut tracker = Tracker::start(&app);
    for link in mail.links.iter().filter(|link| link.contains("/api/track/")) {
        let path = link.replace("http://127.0.0.1:8081", "");
        tracker.ask("GET", &path);
        assert_eq!(tracker.ask("HEAD", &path).body.len(), 0);
    }
    // Pixel and two links, each asked for by GET and HEAD, in any order.
    assert!(worker.wait_for(" event for lead ", 6));
    let seen = |part: &str| worker.seen.iter().filter(|line| line.contains(part)).count();
    assert_eq!((seen("Received open event"), seen("Received click event")), (2, 4));
    assert!(worker.stop().0.success());
    let (_, status) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&status, "opens"), number(&status, "clicks")), (1, 2), "HEAD is a scanner's");
}

/// Readers of old mail are led on, and what they did is counted once the services are there.
fn answers_without(mut app: App, env: &[(&str, &str)], heal: impl FnOnce(&mut App)) {
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    app.set("LOG_LEVEL", "info");
    app.redis_mut().kill();
    let began = std::time::Instant::now();
    let mut tracker = app.spawn_with(&["track"], env);
    let address = tracker.value_after("tracking API listens address=").split(' ').next().unwrap().to_owned();
    println!("listens {:?} after its start", began.elapsed());
    assert!(began.elapsed().as_secs() < 20, "it waits for nobody: {:?}", began.elapsed());
    let mut client = Client::connect(&address);
    for (kind, status) in [("open", 200), ("click", 302)] {
        let link = mail.links.iter().find(|link| link.contains(&format!("/api/track/{kind}"))).unwrap();
        let asked = std::time::Instant::now();
        assert_eq!(client.ask("GET", &link.replace("http://127.0.0.1:8081", "")).status, status);
        assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    }
    assert_eq!(std::fs::read_dir(app.path("data/spool")).unwrap().count(), 2, "the fault fired");
    heal(&mut app);
    assert!(tracker.wait_for("the spool was drained", 1));
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for(" event for lead ", 2));
    assert!(worker.stop().0.success() && tracker.stop().0.success());
    let (_, status) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&status, "opens"), number(&status, "clicks")), (1, 1));
}

#[test]
fn fr03_a_tracker_that_starts_without_redis_answers_at_once() {
    let Some(app) = App::new(Engine::Redis) else { return };
    answers_without(app, &[], |app| app.redis_mut().start_again());
}

#[test]
fn fr03_a_tracker_that_starts_without_redis_and_database_answers_at_once() {
    let Some(app) = App::new(Engine::Redis) else { return };
    let url = app.database_url().unwrap();
    let (server, name) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    let mut gateway = Gateway::to(server);
    gateway.close();
    let by_gateway = format!("postgres://postgres@{}/{name}", gateway.address);
    answers_without(app, &[("DATABASE_URL", &by_gateway)], |app| {
        gateway.reopen();
        app.redis_mut().start_again();
    });
}

/// Both were answered 200: the way out is in force as soon as the ledger answers, whatever becomes of what stands before it.
#[test]
fn fr03_spooled_unsubscribes_wait_for_no_redis() {
    let Some(mut app) = App::new(Engine::Redis) else { return };
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let url = app.database_url().unwrap();
    let (server, name) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    let mut gateway = Gateway::to(server);
    gateway.close();
    let by_gateway = format!("postgres://postgres@{}/{name}", gateway.address);
    app.redis_mut().kill();
    let mut tracker = app.spawn_with(&["track"], &[("DATABASE_URL", &by_gateway)]);
    let address = tracker.value_after("tracking API listens address=").split(' ').next().unwrap().to_owned();
    let mut client = Client::connect(&address);
    let open = mail.links.iter().find(|link| link.contains("/api/track/open")).unwrap();
    for (method, link) in [("GET", open.as_str()), ("POST", mail.unsubscribe.trim_matches(['<', '>']))] {
        assert_eq!(client.ask(method, &link.replace("http://127.0.0.1:8081", "")).status, 200);
    }
    let spool = app.path("data/spool");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 2, "the fault fired");
    // What nobody can read stands before them.
    std::fs::create_dir(spool.join("0.events")).unwrap();
    let tracker = tracker.read_on();
    gateway.reopen();
    until(|| (app.count_rows("leads WHERE status = 'unsubscribed'") == 1).then_some(()));
    app.redis_mut().start_again();
    until(|| {
        let left = std::fs::read_dir(&spool).unwrap();
        let waits = left.flatten().any(|file| file.path().extension().is_some_and(|kind| kind == "events"));
        (!waits).then_some(())
    });
    let (exit, log) = tracker.stop();
    assert!(exit.success() && log.iter().any(|line| line.contains("0.events")), "{}", log.join(""));
    assert!(spool.join("0.unreadable").exists());
}

#[test]
fn a_tracker_that_finds_anothers_redis_later_refuses_with_a_clear_message() {
    let Some(mut app) = App::new(Engine::Redis) else { return };
    assert!(app.output(&["queue", "status"]).status.success());
    let claim = ["SET", "{queue:email-sending}:instance", "018f3a5e-0000-7000-8000-000000000001"];
    // On a disk that is busy Redis writes a second later, and what is killed until then is lost.
    app.redis().ask(&["CONFIG", "SET", "appendfsync", "always"]);
    app.redis().ask(&claim);
    app.redis_mut().kill();
    let mut tracker = app.spawn(&["track"]);
    assert!(tracker.wait_for("tracking API listens", 1));
    app.redis_mut().start_again();
    let (status, seen) = tracker.ended();
    assert_eq!(status.code(), Some(2), "{seen:?}");
    assert!(seen.iter().any(|line| line.contains("another deployment") && line.contains("REDIS_URL")), "{seen:?}");
}

#[test]
fn a_browser_shows_the_page_and_changes_nothing() {
    let Some(app) = App::new(Engine::Sqlite) else { return };
    if service("TEST_POSTFIX_ADDR").is_none() {
        return;
    }
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let tracker = Tracker::start(&app);
    let url = mail.unsubscribe.trim_matches(['<', '>']).replace("127.0.0.1:8081", &tracker.address);
    let profile = app.path("profile");
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(page.contains("Unsubscribe?") && page.contains("<button type=\"submit\">Unsubscribe</button>"), "{page}");
    assert_eq!(number(&app.json(&["campaign", "status", "Welcome"]).1, "unsubscribes"), 0);
}

/// Nobody is redirected before the event is kept, so a kill loses none that was answered.
fn fp13_a_click_that_was_answered_outlives_a_killed_tracker(engine: Engine) {
    const CLIENTS: usize = 4;
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let link = mail.links.iter().find(|link| link.contains("/api/track/click")).unwrap();
    let path = link.replace("http://127.0.0.1:8081", "");
    let tracker = Tracker::start(&app);
    let told = AtomicUsize::new(0);
    let answered: usize = std::thread::scope(|scope| {
        let client = |_| scope.spawn(|| Client::connect(&tracker.address).ask_on(&path, &told));
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        until(|| (told.load(Ordering::Relaxed) >= 200).then_some(()));
        assert!(clients.iter().all(|client| !client.is_finished()), "the kill came in the middle");
        tracker.process.signal("-KILL");
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let (_, queue) = app.json(&["queue", "status"]);
    let lanes = queue["lanes"].as_array().unwrap();
    let ready =
        lanes.iter().filter(|lane| lane["name"] == "queue:analytics-processing").map(|lane| number(lane, "ready"));
    let kept = ready.sum::<u64>() as usize;
    println!("{engine:?}: {answered} answers before the kill, {kept} events kept");
    assert!((answered..=answered + CLIENTS).contains(&kept), "{answered} answers, {kept} events");
}

crate::on_every_engine! { fp13_a_click_that_was_answered_outlives_a_killed_tracker unsubscribing_asks_first_and_then_acts_at_once events_are_counted_once_and_by_who_caused_them }
