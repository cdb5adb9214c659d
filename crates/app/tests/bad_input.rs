//! Bad input of every kind, given to the real binary: one message that says what, where and how to mend it; exit
//! code 2; nothing on stdout but the one object of `--json`; nothing left behind.
//!
//! To add a case: a line in the list of its kind; review the snapshot that changes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its files up has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

const CAMPAIGN: &str = r#"[tenant]
name = "Acme"

[company]
name = "Acme Ltd"
address = "1 Main Street, 12345 Springfield, US"

[[email_account]]
email = "ana@acme.test"
from_name = "Ana from Acme"
smtp = "smtp://ana@mail.acme.test:587?tls=starttls"
password_env = "ACME_SMTP_PASSWORD"

[campaign]
name = "Welcome"
timezone = "Europe/Madrid"
send_days = ["mon", "tue"]
send_time_start = "09:00"
send_time_end = "17:00"
leads = "leads.csv"

[[step]]
subject = "Hello {{ firstName }}"
html = "hello.html"
text = "hello.txt"

[[step]]
wait_hours = 48
subject = "Following up"
html = "hello.html"
"#;

/// The files of a good campaign.
fn good_files() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("campaign.toml", CAMPAIGN.as_bytes().to_vec()),
        ("hello.html", b"<p>Hello {{ firstName }}</p>\n".to_vec()),
        ("hello.txt", b"Hello {{ firstName }}\n".to_vec()),
        ("leads.csv", b"email,first_name,timezone\nbo@acme.test,Bo,\ncy@acme.test,Cy,Europe/Paris\n".to_vec()),
    ])
}

/// One way to spoil a good campaign.
enum Spoil {
    /// Replaces a text of `campaign.toml`, which must be there.
    Toml(&'static str, &'static str),
    /// Gives a file another content.
    File(&'static str, &'static [u8]),
    /// Takes a file away.
    Missing(&'static str),
    /// Sets a variable; empty = takes it away.
    Env(&'static str, &'static str),
    /// Adds arguments.
    Args(&'static [&'static str]),
}
use Spoil::{Args, Env, File, Missing, Toml};

/// Runs `campaign check campaign.toml` on the spoilt campaign in `dir`.
fn run(dir: &Path, spoilt: &[Spoil], more: &[&str]) -> Output {
    let mut files = good_files();
    let mut env = BTreeMap::from([("ACME_SMTP_PASSWORD", "hunter2")]);
    // Bad input must stop `run` itself before anything is written; what is good is only looked at.
    let command: &[&str] = if spoilt.is_empty() { &["campaign", "check"] } else { &["run"] };
    let mut args = [command, &["campaign.toml", "--data", "data"]].concat();
    for spoil in spoilt {
        match spoil {
            Toml(from, to) => {
                let text = String::from_utf8(files["campaign.toml"].clone()).unwrap();
                assert!(text.contains(from), "`{from}` stands in the campaign file");
                files.insert("campaign.toml", text.replacen(from, to, 1).into_bytes());
            }
            File(name, content) => {
                files.insert(name, content.to_vec());
            }
            Missing(name) => {
                files.remove(name).unwrap();
            }
            Env(name, value) => {
                env.insert(name, value);
            }
            Args(more) => args.extend(*more),
        }
    }
    for (name, content) in &files {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let before = listing(dir);
    args.extend(more);
    let mut command = Command::new(env!("CARGO_BIN_EXE_penguinmails"));
    let output = command.args(args).env_clear().envs(env).current_dir(dir).output().unwrap();
    assert_eq!(listing(dir), before, "nothing is left behind");
    output
}

fn listing(dir: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// What the binary says of each case, as the snapshot `name`; asserts all that cases have in common.
fn check(name: &str, cases: &[(&str, &[Spoil])]) {
    let mut all = String::new();
    for (name, spoilt) in cases {
        let dir = tempfile::tempdir().unwrap();
        let output = run(dir.path(), spoilt, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(output.stdout.is_empty(), "{name}");
        assert!(!stderr.contains("hunter2"), "{name} shows a password");

        let dir = tempfile::tempdir().unwrap();
        let output = run(dir.path(), spoilt, &["--json"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect(name);
        assert_eq!(object["error"]["code"], 2, "{name}");
        let problems = object["error"]["problems"].as_array().unwrap();
        assert!(!problems.is_empty() && problems.iter().all(|problem| problem["message"].is_string()), "{name}");
        assert!(!object.to_string().contains("hunter2"), "{name} shows a password");

        writeln!(all, "# {name}\n{stderr}").unwrap();
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, all) });
}

#[test]
fn the_unspoilt_campaign_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[], &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["leads"], &object["steps"][1]["waitHours"]), (&2.into(), &48.0.into()));
    let hours = serde_json::json!([{ "days": ["mon", "tue"], "start": "09:00", "end": "17:00" }]);
    assert_eq!(object["window"]["hours"], hours);
    assert!(output.stderr.is_empty());
}

#[test]
fn campaign_files() {
    const ONE_WINDOW: &str = "send_days = [\"mon\", \"tue\"]\nsend_time_start = \"09:00\"\nsend_time_end = \"17:00\"\n";
    check(
        "campaign_files",
        &[
            ("no such file", &[Missing("campaign.toml")]),
            ("empty file", &[File("campaign.toml", b"")]),
            ("not TOML", &[Toml("name = \"Acme\"", "name = Acme")]),
            ("a key twice", &[Toml("name = \"Acme\"", "name = \"Acme\"\nname = \"Other\"")]),
            ("not UTF-8", &[File("campaign.toml", b"[tenant]\nname = \"Caf\xe9\"\n")]),
            ("unknown key", &[Toml("send_days", "send_day")]),
            ("unknown section", &[Toml("[[step]]", "[settings]\n[[step]]")]),
            ("wrong type", &[Toml("wait_hours = 48", "wait_hours = \"two days\"")]),
            ("one section instead of several", &[Toml("[[email_account]]", "[email_account]")]),
            ("no tenant", &[Toml("[tenant]\nname = \"Acme\"\n", "")]),
            ("company without address", &[Toml("address = \"1 Main Street, 12345 Springfield, US\"\n", "")]),
            ("company with a blank address", &[Toml("1 Main Street, 12345 Springfield, US", "  ")]),
            ("control character in a name", &[Toml("Ana from Acme", "Ana\\r\\nBcc: x")]),
            ("control character in a subject", &[Toml("Following up", "Following\\nup")]),
            ("empty subject", &[Toml("Following up", " ")]),
            ("no leads key", &[Toml("leads = \"leads.csv\"\n", "")]),
            ("unknown zone", &[Toml("Europe/Madrid", "Europe/Nowhere")]),
            ("unknown day", &[Toml("\"mon\"", "\"lun\"")]),
            ("no days", &[Toml("[\"mon\", \"tue\"]", "[]")]),
            ("bad time", &[Toml("\"17:00\"", "\"25:00\"")]),
            ("window that closes when it opens", &[Toml("\"17:00\"", "\"09:00\"")]),
            ("windows beside the keys of one", &[Toml("leads =", "windows = [{ start = \"09:00\" }]\nleads =")]),
            (
                "one bad window of several",
                &[Toml(ONE_WINDOW, "windows = [{}, { start = \"09:00\", end = \"09:00\" }]\n")],
            ),
            ("bad time in a window", &[Toml(ONE_WINDOW, "windows = [{}, { end = \"noon\" }]\n")]),
            (
                "unknown key of a window",
                &[Toml("[[step]]", "[[campaign.windows]]\ndays = [\"mon\"]\nopen = \"09:00\"\n[[step]]")],
            ),
            ("priority out of range", &[Toml("name = \"Welcome\"", "name = \"Welcome\"\npriority = 0")]),
            ("campaign limit of 0", &[Toml("name = \"Welcome\"", "name = \"Welcome\"\ndaily_limit = 0")]),
            ("unknown country of holidays", &[Toml("leads =", "holiday_country = [\"ES\", \"UK\"]\nleads =")]),
            ("holidays of no country", &[Toml("leads =", "holiday_country = 34\nleads =")]),
            ("spread over too long", &[Toml("leads =", "first_step_spread_hours = 9000\nleads =")]),
            ("negative lateness", &[Toml("name = \"Welcome\"", "name = \"Welcome\"\nmax_lateness = -1")]),
            (
                "scheduled without offset",
                &[Toml("name = \"Welcome\"", "name = \"Welcome\"\nscheduled_at = 2026-03-01T09:00:00")],
            ),
            ("unknown word", &[Toml("name = \"Welcome\"", "name = \"Welcome\"\non_unknown = \"retry\"")]),
            (
                "several at once",
                &[Toml("\"09:00\"", "\"9\""), Toml("hello.txt", "nowhere.txt"), File("leads.csv", b"email\n")],
            ),
        ],
    );
}

#[test]
fn accounts() {
    check(
        "accounts",
        &[
            (
                "no account",
                &[Toml(
                    "[[email_account]]\nemail = \"ana@acme.test\"\nfrom_name = \"Ana from Acme\"\nsmtp = \"smtp://ana@mail.acme.test:587?tls=starttls\"\npassword_env = \"ACME_SMTP_PASSWORD\"\n",
                    "",
                )],
            ),
            ("address that is none", &[Toml("ana@acme.test", "ana.acme.test")]),
            (
                "the same account twice",
                &[Toml("[campaign]", "[[email_account]]\nemail = \"ANA@acme.test\"\nsmtp = \"smtp://h\"\n[campaign]")],
            ),
            ("account limit of 0", &[Toml("from_name", "daily_limit = 0\nfrom_name")]),
            ("no server", &[Toml("smtp = \"smtp://ana@mail.acme.test:587?tls=starttls\"\n", "")]),
            ("password in the URL", &[Toml("smtp://ana@", "smtp://ana:hunter2@")]),
            ("another scheme", &[Toml("smtp://ana@", "https://ana@")]),
            ("bad port", &[Toml(":587", ":587000")]),
            ("unknown option", &[Toml("?tls=starttls", "?ssl=yes")]),
            ("unknown kind of TLS", &[Toml("tls=starttls", "tls=on")]),
            ("two kinds of TLS", &[Toml("smtp://ana@", "smtps://ana@")]),
            ("password without TLS", &[Toml("tls=starttls", "tls=none")]),
            ("variable that is not set", &[Env("ACME_SMTP_PASSWORD", "")]),
            ("log-in without password", &[Toml("password_env = \"ACME_SMTP_PASSWORD\"\n", "")]),
            ("password without log-in", &[Toml("smtp://ana@", "smtp://")]),
            ("bad --smtp", &[Args(&["--smtp", "mail.acme.test"])]),
            ("password in --smtp", &[Args(&["--smtp", "smtp://ana:hunter2@mail.acme.test"])]),
        ],
    );
}

#[test]
fn steps_and_templates() {
    const STEPS: &str = "[[step]]\nsubject = \"Hello {{ firstName }}\"\nhtml = \"hello.html\"\ntext = \"hello.txt\"\n\n[[step]]\nwait_hours = 48\nsubject = \"Following up\"\nhtml = \"hello.html\"\n";
    check(
        "steps_and_templates",
        &[
            ("no steps", &[Toml(STEPS, "")]),
            ("no mail", &[Toml(STEPS, "[[step]]\ntype = \"wait\"\nwait_hours = 1\n")]),
            ("unknown type", &[Toml("wait_hours = 48", "type = \"sms\"")]),
            ("negative wait", &[Toml("wait_hours = 48", "wait_hours = -1")]),
            (
                "wait of no length",
                &[Toml(STEPS, "[[step]]\ntype = \"wait\"\n[[step]]\nsubject = \"x\"\nhtml = \"hello.html\"\n")],
            ),
            (
                "condition first",
                &[Toml("[[step]]", "[[step]]\ntype = \"condition\"\ncondition = \"opened\"\n[[step]]")],
            ),
            ("unknown condition", &[Toml("wait_hours = 48", "type = \"condition\"\ncondition = \"smiled\"")]),
            (
                "conditions that nothing can answer",
                &[Toml(
                    "[[step]]\nwait_hours = 48",
                    "[[step]]\ntype = \"condition\"\ncondition = \"opened\"\nurl = \"/a\"\nwithin_hours = 0\n\
                     [[step]]\ntype = \"condition\"\ncondition = \"replied\"\nwithin_hours = 24\n\
                     [[step]]\ntype = \"condition\"\ncondition = \"clicked\"\nurl = \" \"\nwithin_hours = -1\n\
                     [[step]]\ntype = \"condition\"\ncondition = \"not_clicked\"\nurl = \"/a b\"\n[[step]]\nwait_hours = 48",
                )],
            ),
            ("keys of conditions elsewhere", &[Toml("wait_hours = 48", "wait_hours = 48\nurl = \"/a\"\nwithin_hours = 2")]),
            (
                "a key twice",
                &[
                    Toml("subject = \"Hello", "key = \"a\"\nsubject = \"Hello"),
                    Toml("wait_hours = 48", "key = \" a\"\nactive = \"no\"\nwait_hours = 48"),
                ],
            ),
            ("winner without variants", &[Toml("wait_hours = 48", "wait_hours = 48\nwinner = { by = \"opens\" }")]),
            ("one variant", &[Toml("[[step]]\nwait_hours", "[[step.variant]]\nkey = \"a\"\n[[step]]\nwait_hours")]),
            (
                "bad variants",
                &[Toml(
                    "[[step]]\nwait_hours",
                    "[step.winner]\nby = \"luck\"\nafter_hours = 0.5\nsample_percent = 100\nover = 1\n\
                     [[step.variant]]\nkey = \"a b\"\nweight = 0\n[[step.variant]]\nkey = \"b\"\nsubject = \"{{\"\n\
                     [[step.variant]]\nkey = \"b\"\nweight = 1.5\nhtml = \"nowhere.html\"\n[[step.variant]]\nsubjct = \"x\"\n\
                     [[step]]\nwait_hours",
                )],
            ),
            (
                "variants without a subject",
                &[Toml(
                    "subject = \"Following up\"\n",
                    "[[step.variant]]\nkey = \"a\"\nsubject = \"A\"\n[[step.variant]]\nkey = \"b\"\nhtml = \"hello.html\"\n[[step]]\nsubject = \"x\"\n",
                )],
            ),
            ("variants of a wait", &[Toml("wait_hours = 48\nsubject = \"Following up\"\nhtml = \"hello.html\"", "type = \"wait\"\nwait_hours = 48\n[[step.variant]]\nkey = \"a\"")]),
            ("mail without HTML", &[Toml("html = \"hello.html\"\ntext", "text")]),
            (
                "unknown account of a step",
                &[Toml("wait_hours = 48", "wait_hours = 48\nemail_account = \"bo@acme.test\"")],
            ),
            ("no such template", &[Missing("hello.txt")]),
            ("HTML instead of a file", &[Toml("html = \"hello.html\"", "html = \"<p>Hello</p>\"")]),
            ("empty HTML", &[File("hello.html", b" \n")]),
            ("template not UTF-8", &[File("hello.txt", b"Hello\nLuc\xeda")]),
            ("empty output tag", &[File("hello.txt", b"Hello\n{{ }}")]),
            ("tag that is never closed", &[File("hello.html", b"<p>{% if firstName %}Hello</p>")]),
            ("unknown tag", &[File("hello.html", b"<p>\n  {% include 'x' %}</p>")]),
            ("template over its budget", &[File("hello.txt", b"{% for i in (1..1000) %}{% for j in (1..1000) %}{% for k in (1..1000) %}x{% endfor %}{% endfor %}{% endfor %}")]),
            ("subject that is no template", &[Toml("{{ firstName }}", "{{ firstName")]),
        ],
    );
}

#[test]
fn leads() {
    check(
        "leads",
        &[
            ("no such list", &[Missing("leads.csv")]),
            ("empty list", &[File("leads.csv", b"")]),
            ("header alone", &[File("leads.csv", b"email,first_name\n")]),
            ("no email column", &[File("leads.csv", b"name|mail address\nx|y\n")]),
            ("no header", &[File("leads.csv", b"bo@acme.test,Bo\n")]),
            ("a column twice", &[File("leads.csv", b"email,First Name,first_name\n")]),
            (
                "bad rows",
                &[File(
                    "leads.csv",
                    b"email;timezone\nnobody;\nbo@acme.test;Mars\nbo@acme.test;\nBO@acme.test;\nx@acme.test\n",
                )],
            ),
            ("Latin-1", &[File("leads.csv", b"email,name\nbo@acme.test,Luc\xeda\n")]),
            ("spreadsheet", &[File("leads.csv", b"PK\x03\x04\x14\x00")]),
            ("nothing good left", &[File("leads.csv", b"email\nnobody\n"), Args(&["--skip-bad-rows"])]),
        ],
    );
}

#[test]
fn environment_and_configuration() {
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    check(
        "environment_and_configuration",
        &[
            (
                "another database",
                &[
                    Env("DATABASE_URL", "mysql://root:hunter2@db/mail"),
                    Env("JWT_SECRET", KEY),
                    Env("ENCRYPTION_KEY", KEY),
                ],
            ),
            ("missing secrets", &[Env("DATABASE_URL", "postgres://db/mail")]),
            ("Redis alone", &[Env("REDIS_URL", "redis://127.0.0.1")]),
            (
                "Redis too",
                &[
                    Env("DATABASE_URL", "postgres://db/mail"),
                    Env("REDIS_URL", "http://127.0.0.1:6379"),
                    Env("JWT_SECRET", KEY),
                    Env("ENCRYPTION_KEY", KEY),
                ],
            ),
            ("short secret", &[Env("JWT_SECRET", "hunter2")]),
            ("bad key", &[Env("ENCRYPTION_KEY", "hunter2")]),
            ("bad URL", &[Env("PUBLIC_URL", "ftp://acme.test")]),
            ("password in the public URL", &[Env("PUBLIC_URL", "https://ana:hunter2@acme.test")]),
            ("bad listen address", &[Env("TRACK_LISTEN", "localhost")]),
            ("bad level", &[Env("LOG_LEVEL", "loud")]),
            ("bad network", &[Env("ALLOW_PRIVATE_HOSTS", "10.0.0.0/40")]),
            ("no such configuration", &[Args(&["--config", "nowhere.toml"])]),
            ("unknown setting", &[File("c.toml", b"[retry]\ndelay = [\"5m\"]\n"), Args(&["--config", "c.toml"])]),
            (
                "bad settings",
                &[File("c.toml", b"shutdown_grace = \"1h\"\n[retry]\ndelays = [5]\n"), Args(&["--config", "c.toml"])],
            ),
            ("unknown option", &[Args(&["--quiet"])]),
        ],
    );
}
