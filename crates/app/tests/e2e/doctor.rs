//! `doctor` against installations that were spoilt on purpose: each thing named, with its mend and the right exit code.
//!
//! Here and in the files below: more than the ten that were asked for. To add a misconfiguration: spoil a good
//! installation and say what its finding must hold.

mod scale_out;
mod servers;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::app::{App, Engine, Sink, number, service};
use crate::name_server;

/// Random, as `openssl rand -base64 32` makes them.
const GOOD_SECRET: &str = "mVwWkTjz0Pq8cXoH3hZfE1yNn5uLr7sBdGxA2iRkQtM=";
const GOOD_KEY: &str = "pT3v8Qe1nJ6kYw0ZbLx5sHc9uRf2aMgD7iKo4XyNtVE=";
const ACCOUNT: &str = "smtp = \"smtp://127.0.0.1:25?tls=none\"";

/// A good installation with one account, whose lines in the campaign file are given.
struct Clinic {
    app: App,
    name_server: String,
    _sink: Sink,
}

impl Clinic {
    fn new(engine: Engine) -> Option<Self> {
        let mut app = App::new(engine)?;
        app.set("JWT_SECRET", GOOD_SECRET);
        app.set("ENCRYPTION_KEY", GOOD_KEY);
        app.set("CRON_SECRET", GOOD_SECRET);
        let sink = Sink::start(&app, &[]);
        let clinic = Self { app, name_server: name_server::start(), _sink: sink };
        let smtp = clinic._sink.url.clone();
        clinic.account(&format!("smtp = \"{smtp}\"\ndaily_limit = 50\nmin_gap_seconds = 120"));
        Some(clinic)
    }

    /// Sets the account up anew.
    fn account(&self, lines: &str) {
        let file = self.app.campaign("doctor.example", ["ana".to_owned()], 1, "");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(ACCOUNT));
        std::fs::write(&file, text.replace(ACCOUNT, lines)).unwrap();
        let output = self.app.output(&["campaign", "import", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn look(&self, more: &[&str]) -> (i32, Value) {
        let arguments = [&["doctor", "--name-server", &self.name_server, "--patience", "3s"], more].concat();
        self.app.json(&arguments)
    }

    /// What it says must be this one thing that is not well: check, level, words of the message and of the mend.
    fn must_find(&self, exit: i32, wanted: [&str; 4], more: &[&str]) {
        let (code, report) = self.look(more);
        let findings = report["findings"].as_array().unwrap();
        let ill: Vec<&Value> = findings.iter().filter(|finding| finding["level"] != "ok").collect();
        let [check, level, message, mend] = wanted;
        assert_eq!((code, ill.len()), (exit, 1), "{wanted:?}: {report}");
        assert_eq!((ill[0]["check"].as_str(), ill[0]["level"].as_str()), (Some(check), Some(level)), "{report}");
        let holds = |field: &str, words: &str| ill[0][field].as_str().is_some_and(|text| text.contains(words));
        assert!(holds("message", message) && holds("mend", mend), "{wanted:?}: {}", ill[0]);
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn a_good_installation_has_nothing_to_mend(engine: Engine) {
    let Some(clinic) = Clinic::new(engine) else { return };
    let (exit, report) = clinic.look(&[]);
    let levels: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|f| &f["level"]).collect();
    assert!(exit == 0 && levels.len() >= 8 && levels.iter().all(|level| *level == "ok"), "{report}");
    assert_eq!((number(&report, "problems"), number(&report, "warnings")), (0, 0));
    let text = String::from_utf8(clinic.app.output(&["doctor", "--name-server", &clinic.name_server]).stdout).unwrap();
    assert_eq!(text.lines().count(), levels.len() + 1, "one line each: {text}");
    assert!(text.ends_with("0 problems, 0 warnings\n"), "{text}");
}

fn an_account_without_limits(engine: Engine) {
    let Some(clinic) = Clinic::new(engine) else { return };
    clinic.account(&format!("smtp = \"{}\"\ndaily_limit = \"none\"\nmin_gap_seconds = 0", clinic._sink.url));
    clinic.must_find(0, ["account", "warning", "`ana@acme.test` has no limits", "daily_limit = 50"], &[]);
}

fn a_server_that_is_not_there(engine: Engine) {
    let Some(clinic) = Clinic::new(engine) else { return };
    let port = crate::port::free();
    clinic.account(&format!("smtp = \"smtp://127.0.0.1:{port}?tls=none\"\ndaily_limit = 50"));
    clinic.must_find(5, ["smtp", "unreachable", "connect failed: connection refused", "check host and port"], &[]);
}

/// The account at a server with TLS and log-in; the configuration that trusts its authority.
fn over_tls(clinic: &mut Clinic, password: &str) -> Option<String> {
    let address = service("TEST_SMTP_SERVER_ADDR")?;
    let (authority, user) = (service("TEST_SMTP_SERVER_CA")?, service("TEST_SMTP_SERVER_USER")?);
    clinic.app.set("SMTP_PASSWORD", password);
    clinic.account(&format!(
        "smtp = \"smtp://{user}@{address}?tls=starttls\"\npassword_env = \"SMTP_PASSWORD\"\ndaily_limit = 50"
    ));
    let config = clinic.app.path("config.toml");
    std::fs::write(&config, format!("[smtp]\nca_file = \"{authority}\"\n")).unwrap();
    Some(config.to_str().unwrap().to_owned())
}

#[test]
fn a_wrong_password_a_right_one_and_a_certificate_that_nobody_trusts() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    let Some(password) = service("TEST_SMTP_SERVER_PASSWORD") else { return };
    let config = over_tls(&mut clinic, "wrong password").unwrap();
    let trusting = ["--config", config.as_str()];
    clinic.must_find(2, ["smtp", "problem", "log-in refused: 535", "give the right log-in"], &trusting);
    over_tls(&mut clinic, &password);
    let (exit, report) = clinic.look(&trusting);
    assert!(exit == 0 && report.to_string().contains("logged in"), "{report}");
    clinic.must_find(2, ["smtp", "problem", "certificate is not trusted", "[smtp] ca_file"], &[]);
}

#[test]
fn a_password_that_another_key_has_sealed() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    clinic.app.set("SMTP_PASSWORD", "hunter2");
    let server = clinic._sink.url.replace("smtp://", "smtp://ana@").replace("none", "starttls");
    clinic.account(&format!("smtp = \"{server}\"\npassword_env = \"SMTP_PASSWORD\"\ndaily_limit = 50"));
    clinic.app.set("ENCRYPTION_KEY", GOOD_SECRET);
    clinic.must_find(
        2,
        ["account", "problem", "`ana@acme.test`: value was sealed with key `", "give the ENCRYPTION_KEY"],
        &[],
    );
}

#[test]
fn a_domain_that_does_not_exist() {
    let Some(clinic) = Clinic::new(Engine::Sqlite) else { return };
    let file = clinic.app.campaign("doctor.example", ["ana".to_owned()], 1, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = format!("smtp = \"{}\"\ndaily_limit = 50", clinic._sink.url);
    std::fs::write(&file, text.replace(ACCOUNT, &lines).replace("ana@acme.test", "ana@gone.example")).unwrap();
    assert_eq!(clinic.app.output(&["campaign", "import", file.to_str().unwrap()]).status.code(), Some(0));
    clinic.must_find(2, ["name", "problem", "`gone.example` does not exist", "MX record"], &[]);
}

#[test]
fn without_a_name_server_it_is_only_a_warning() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    clinic.name_server = nobody.local_addr().unwrap().to_string();
    clinic.must_find(0, ["name", "warning", "`acme.test` could not be looked up", "--name-server"], &[]);
}

#[test]
fn links_that_lead_to_this_host_in_mails_that_go_out() {
    let Some(clinic) = Clinic::new(Engine::Sqlite) else { return };
    clinic.account("smtp = \"smtp://mail.gone.example:587?tls=starttls\"\ndaily_limit = 50");
    let (exit, report) = clinic.look(&[]);
    let links = report["findings"].as_array().unwrap().iter().find(|f| f["check"] == "links").unwrap();
    assert_eq!((exit, links["level"].as_str()), (2, Some("problem")), "{report}");
    assert!(links["message"].as_str().unwrap().contains("PUBLIC_URL is `http://127.0.0.1:8081`"), "{links}");
    assert!(links["mend"].as_str().unwrap().contains("https://t.example.com"), "{links}");
}

#[test]
fn secrets_that_are_short_made_up_or_open_to_others() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    let file = clinic.app.path("data/secrets.env");
    std::fs::write(&file, format!("JWT_SECRET={GOOD_SECRET}\n")).unwrap();
    chmod(&file, 0o644);
    clinic.must_find(2, ["secrets", "problem", "has mode 0644: others on this host can read it", "chmod 600"], &[]);
    std::fs::remove_file(&file).unwrap();
    chmod(&clinic.app.path("data"), 0o755);
    clinic.must_find(0, ["data directory", "warning", "others on this host can look in", "chmod 700"], &[]);
    chmod(&clinic.app.path("data"), 0o700);
    clinic.app.set("JWT_SECRET", "at-least-32-bytes-made-by-openssl-rand-base64-32");
    clinic.must_find(2, ["secrets", "problem", "`JWT_SECRET` looks like an example", "JWT_SECRETS_OLD"], &[]);
    clinic.app.set("JWT_SECRET", "short");
    clinic.must_find(2, ["configuration", "problem", "`JWT_SECRET`: shorter than 32 bytes", "openssl rand"], &[]);
}

#[test]
fn secrets_that_are_missing_and_a_database_that_does_not_answer() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    let port = crate::port::free();
    clinic.app.set("DATABASE_URL", &format!("postgres://nobody:hunter2@127.0.0.1:{port}/none"));
    clinic.must_find(5, ["database", "unreachable", "cannot be reached", "check DATABASE_URL"], &[]);
    assert!(!clinic.look(&[]).1.to_string().contains("hunter2"));
    clinic.app.set("JWT_SECRET", "");
    let (exit, report) = clinic.look(&[]);
    assert_eq!((exit, number(&report, "problems")), (2, 2), "it goes on after the first: {report}");
    assert!(report.to_string().contains("`JWT_SECRET`: not set, and all processes on one DATABASE_URL must share it"));
}

#[test]
fn a_schema_of_yesterday_and_one_of_tomorrow() {
    let Some(clinic) = Clinic::new(Engine::Postgres) else { return };
    let last = clinic.app.sql(
        "DELETE FROM schema_migrations WHERE version = (SELECT MAX(version) FROM schema_migrations) RETURNING version",
    );
    let last: u64 = last.unwrap().trim().parse().unwrap();
    let old = format!("schema is at version {}, this program has {last}", last - 1);
    clinic.must_find(0, ["database", "warning", &old, "penguinmails migrate"], &[]);
    clinic.app.sql("INSERT INTO schema_migrations VALUES (998, 'x', 'x', now(), now())");
    clinic.must_find(0, ["database", "warning", "schema is at version 998", "use that version"], &[]);
    clinic.app.sql("INSERT INTO schema_migrations VALUES (999, 'x_needs_998', 'x', now(), now())");
    clinic.must_find(2, ["database", "problem", "schema is at version 999", "use that version"], &[]);
}

#[test]
fn a_campaign_or_account_whose_row_another_program_wrote_wrongly() {
    let Some(clinic) = Clinic::new(Engine::Postgres) else { return };
    assert_eq!(clinic.app.output(&["campaign", "resume", "Welcome"]).status.code(), Some(0));
    clinic.app.sql("UPDATE campaigns SET settings = '{\"timezone\": \"Mars/Olympus\"}'");
    clinic.must_find(2, ["campaigns", "problem", "`Mars/Olympus` is not a time zone", "IANA name"], &[]);
    clinic.app.sql("UPDATE campaigns SET settings = '{}'");
    clinic.app.sql("UPDATE email_accounts SET timezone = 'Mars/Olympus'");
    clinic.must_find(2, ["account", "problem", "column `timezone`", "email_accounts"], &[]);
}

#[test]
fn a_redis_that_drops_jobs_keeps_nothing_or_does_not_answer() {
    let Some(mut clinic) = Clinic::new(Engine::Redis) else { return };
    clinic.app.redis().ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    clinic.must_find(2, ["redis", "problem", "maxmemory-policy is `allkeys-lru`", "maxmemory-policy noeviction"], &[]);
    clinic.app.redis().ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    clinic.app.redis().ask(&["CONFIG", "SET", "appendonly", "no"]);
    clinic.must_find(2, ["redis", "problem", "no append-only file", "appendonly yes"], &[]);
    clinic.app.redis().ask(&["CONFIG", "SET", "appendonly", "yes"]);
    let serves = |whom: &str| {
        let (exit, report) = clinic.look(&[]);
        assert!(exit == 0 && report.to_string().contains(whom), "{report}");
    };
    serves("serves this deployment");
    let claim = "{queue:email-sending}:instance";
    clinic.app.redis().ask(&["DEL", claim]);
    serves("serves no deployment yet");
    clinic.app.redis().ask(&["SET", claim, "018f3a5e-0000-7000-8000-000000000001"]);
    clinic.must_find(
        2,
        ["redis", "problem", "another deployment (`018f3a5e-", "a Redis or a database number of its own"],
        &[],
    );
    clinic.app.redis_mut().kill();
    clinic.must_find(5, ["redis", "unreachable", "redis does not answer", "REDIS_URL"], &[]);
    clinic.app.set("REDIS_URL", "mysql://127.0.0.1");
    clinic.must_find(2, ["configuration", "problem", "`REDIS_URL`", "redis"], &[]);
}

#[test]
fn a_ledger_that_is_ahead_of_the_clock() {
    let Some(clinic) = Clinic::new(Engine::Sqlite) else { return };
    let file = clinic.app.path("campaign.toml");
    let run = ["run", file.to_str().unwrap(), "--time-scale", "10000"];
    let (exit, report) = clinic.app.json(&run);
    assert_eq!((exit, number(&report, "sent")), (0, 1), "{report}");
    clinic.must_find(2, ["clock", "problem", "the ledger's last entry is of ", "--time-scale"], &[]);
}

/// It has been seen up to the next day, which is no reason for the next process to begin there.
#[test]
fn a_campaign_that_rests_does_not_move_the_clock() {
    let Some(clinic) = Clinic::new(Engine::Sqlite) else { return };
    clinic.account("smtp = \"smtp://127.0.0.1:25?tls=none\"\ndaily_limit = 1");
    std::fs::write(clinic.app.path("more.csv"), "email\nben@doctor.example\n").unwrap();
    let more = clinic.app.path("more.csv").display().to_string();
    let import = ["lead", "import", &more, "--tenant", "Acme doctor.example", "--campaign", "Welcome"];
    for arguments in [&import[..], &["campaign", "resume", "Welcome"]] {
        assert_eq!(clinic.app.json(arguments).0, 0, "{arguments:?}");
    }
    let turn = clinic.app.json(&["scheduler", "--once"]).1;
    assert_eq!((number(&turn, "planned"), number(&turn, "deferred")), (1, 1), "{turn}");
    let (_, report) = clinic.look(&[]);
    let findings = report["findings"].as_array().unwrap();
    let clock = findings.iter().find(|finding| finding["check"] == "clock").unwrap();
    assert_eq!(clock["level"], "ok", "{clock}");
}

#[test]
fn nothing_is_made_where_there_is_nothing_yet() {
    let Some(app) = App::new(Engine::Sqlite) else { return };
    let (_, report) = app.json(&["doctor"]);
    assert!(report.to_string().contains("it is made on the first start"), "{report}");
    assert!(!app.path("data").exists());
}

crate::on_every_engine! {
    a_good_installation_has_nothing_to_mend
    an_account_without_limits
    a_server_that_is_not_there
}
