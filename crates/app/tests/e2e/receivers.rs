//! Receivers that were not written by us: aiosmtpd, and smtp-server with STARTTLS and log-in.

use std::path::PathBuf;

use crate::app::{App, Engine, Sink, number, service};
use crate::maildir;

const LEADS: usize = 40;

#[test]
fn aiosmtpd_gets_every_message_once() {
    let (Some(app), Some(address)) = (App::new(Engine::Sqlite), service("TEST_AIOSMTPD_ADDR")) else { return };
    let file = app.campaign("aio.example", (0..LEADS).map(|n| format!("l{n}")), 1, "");
    let url = format!("smtp://{address}?tls=none");
    let (exit, report) = app.json(&["run", file.to_str().unwrap(), "--smtp", &url]);
    assert_eq!((exit, number(&report, "sent")), (0, LEADS as u64));
    let folder = PathBuf::from(service("TEST_AIOSMTPD_MAILDIR").unwrap()).join("new");
    let mails = maildir::read_folder(&folder, "aio.example");
    assert_eq!(mails.len(), LEADS);
    assert!(mails.iter().all(|mail| mail.defects.is_empty()));
}

/// `xtask/scripts/refusing.py` says what is refused.
#[test]
fn fs13_to_fs16_what_aiosmtpd_refuses_is_tried_again_or_ends() {
    let (Some(app), Some(address)) = (App::new(Engine::Sqlite), service("TEST_AIOSMTPD_ADDR")) else { return };
    let leads = ["good", "unknown+a", "greylist+a", "full+a", "spam+a", "later+a"].map(str::to_owned);
    let file = app.campaign("refused.example", leads, 1, "");
    let url = format!("smtp://{address}?tls=none");
    let (exit, report) = app.json(&["run", file.to_str().unwrap(), "--smtp", &url, "--for", "5s"]);
    let count = |field: &str| number(&report, field);
    assert_eq!((exit, count("sent"), count("bounced"), count("failed")), (3, 1, 2, 1), "{report}");
    assert_eq!((count("deferred"), count("unknown")), (2, 0), "{report}");
    let folder = PathBuf::from(service("TEST_AIOSMTPD_MAILDIR").unwrap()).join("new");
    assert_eq!(maildir::read_folder(&folder, "refused.example").len(), 1);
}

/// The campaign file with its own server, log-in and password; the authority is trusted by the configuration.
fn over_tls(app: &mut App, domain: &str, password: &str) -> Option<(i32, serde_json::Value)> {
    let address = service("TEST_SMTP_SERVER_ADDR")?;
    let authority = service("TEST_SMTP_SERVER_CA")?;
    let user = service("TEST_SMTP_SERVER_USER")?;
    let file = app.campaign(domain, (0..LEADS).map(|n| format!("l{n}")), 1, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let server = format!("smtp = \"smtp://{user}@{address}?tls=starttls\"\npassword_env = \"SMTP_PASSWORD\"");
    std::fs::write(&file, text.replace("smtp = \"smtp://127.0.0.1:25?tls=none\"", &server)).unwrap();
    std::fs::write(app.path("config.toml"), format!("[smtp]\nca_file = \"{authority}\"\n")).unwrap();
    app.set("SMTP_PASSWORD", password);
    let config = app.path("config.toml");
    Some(app.json(&["run", file.to_str().unwrap(), "--config", config.to_str().unwrap()]))
}

#[test]
fn smtp_server_gets_every_message_over_tls_with_a_log_in() {
    let Some(mut app) = App::new(Engine::Sqlite) else { return };
    let Some(password) = service("TEST_SMTP_SERVER_PASSWORD") else { return };
    let (exit, report) = over_tls(&mut app, "tls.example", &password).unwrap();
    assert_eq!((exit, number(&report, "sent")), (0, LEADS as u64), "{report}");
    let mails = maildir::read_folder(&PathBuf::from(service("TEST_SMTP_SERVER_DIR").unwrap()), "tls.example");
    assert_eq!(mails.len(), LEADS);
    // What was written last may still stand in the log beside the file.
    let database: Vec<u8> = ["penguinmails.db", "penguinmails.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(app.path("data").join(name)).unwrap_or_default())
        .collect();
    let holds = |text: &str| database.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(!holds(&password) && holds("v1:"), "the password is sealed");
}

#[test]
fn fs09_a_wrong_password_stops_the_account_and_keeps_the_mail() {
    let Some(mut app) = App::new(Engine::Sqlite) else { return };
    let Some((exit, report)) = over_tls(&mut app, "wrong.example", "wrong password") else { return };
    assert_eq!((exit, number(&report, "sent"), number(&report, "failed")), (3, 0, 0), "{report}");
    assert_eq!(number(&report, "pending") + number(&report, "deferred"), LEADS as u64, "{report}");
}

/// As many connections as an account may have begin at once: the first hears the refusal for all.
#[test]
fn fs09_a_log_in_that_is_refused_is_tried_by_one_connection_alone() {
    let Some(mut app) = App::new(Engine::Sqlite) else { return };
    let sink = Sink::start(&app, &["--fail", "auth=535"]);
    let file = app.campaign("alone.example", (0..LEADS).map(|n| format!("l{n}")), 1, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let server = sink.url.replace("smtp://", "smtp://ana@");
    let server = format!("smtp = \"{server}\"\npassword_env = \"SMTP_PASSWORD\"");
    std::fs::write(&file, text.replace("smtp = \"smtp://127.0.0.1:25?tls=none\"", &server)).unwrap();
    std::fs::write(app.path("config.toml"), "[smtp]\nallow_plain_auth = true\n").unwrap();
    app.set("SMTP_PASSWORD", "wrong password");
    let config = app.path("config.toml");
    let (exit, report) = app.json(&["run", file.to_str().unwrap(), "--config", config.to_str().unwrap()]);
    assert_eq!((exit, number(&report, "sent")), (3, 0), "{report}");
    assert_eq!(number(&report, "pending") + number(&report, "deferred"), LEADS as u64, "{report}");
    assert_eq!(sink.fired()["auth 535"], 1, "0 more log-ins");
}
