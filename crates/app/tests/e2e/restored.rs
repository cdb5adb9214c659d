//! An older backup of the ledger is restored: nothing goes twice, and people see what they have to decide about.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::app::{App, Engine, Sink, number};

const DOMAIN: &str = "restored.example";

fn file(app: &App, leads: &[&str]) -> PathBuf {
    app.campaign(DOMAIN, leads.iter().map(|lead| (*lead).to_owned()), 2, "")
}

fn import(app: &App, sink: &Sink, leads: &[&str]) {
    let file = file(app, leads);
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
}

fn run(app: &App, sink: &Sink) -> (i32, Value) {
    app.json(&["run", app.path("campaign.toml").to_str().unwrap(), "--smtp", &sink.url])
}

/// The present, to the second before.
fn present() -> String {
    let output = Command::new("date").args(["-u", "+%FT%TZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn done(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A copy of the ledger, as the operations page says.
struct Backup(PathBuf);

impl Backup {
    fn make(app: &App) -> Self {
        let copy = app.path("backup");
        match app.database_url() {
            Some(url) => done(Command::new("pg_dump").args(["--format", "custom", "--file"]).arg(&copy).arg(url)),
            None => done(Command::new("python3").args(["-c", SQLITE_BACKUP]).arg(database(app)).arg(&copy)),
        }
        Self(copy)
    }

    fn restore(&self, app: &App) {
        let Some(url) = app.database_url() else {
            for part in ["-wal", "-shm"] {
                let _only_while_it_runs = std::fs::remove_file(format!("{}{part}", database(app).display()));
            }
            return done(Command::new("cp").arg(&self.0).arg(database(app)));
        };
        let (server, name) = url.rsplit_once('/').unwrap();
        for statement in [format!("DROP DATABASE {name}"), format!("CREATE DATABASE {name}")] {
            crate::app::psql(&format!("{server}/postgres"), &statement);
        }
        done(Command::new("pg_restore").args(["--no-owner", "--dbname", &url]).arg(&self.0));
    }
}

fn database(app: &App) -> PathBuf {
    app.path("data/penguinmails.db")
}

/// What `.backup` of SQLite's shell does.
const SQLITE_BACKUP: &str = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))";

/// Every process that could send says that it does not, and why.
fn is_refused(app: &App, sink: &Sink) {
    let file = app.path("campaign.toml");
    let run = ["run", file.to_str().unwrap(), "--smtp", &sink.url];
    for arguments in [&run[..], &["serve"], &["worker"], &["scheduler"], &["scheduler", "--once"]] {
        let (exit, said) = app.json(arguments);
        assert!(exit == 2 && said.to_string().contains("restored --since"), "{arguments:?}: {said}");
    }
}

fn fd10_an_old_backup_sends_nothing_twice(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, &["ana", "bob"]);
    assert_eq!(run(&app, &sink).0, 0);
    // One who is planned, and one who is not, when the backup is made.
    import(&app, &sink, &["ana", "bob", "cid"]);
    assert_eq!(app.json(&["scheduler", "--once"]).1["planned"], 1);
    import(&app, &sink, &["ana", "bob", "cid", "dan"]);
    let (since, backup) = (present(), Backup::make(&app));
    assert_eq!((run(&app, &sink).0, sink.accepted().len()), (0, 8));

    backup.restore(&app);
    if engine != Engine::Sqlite {
        // Without its directory the server alone tells.
        std::fs::remove_dir_all(app.path("data/seen")).unwrap();
    }
    is_refused(&app, &sink);
    let (exit, refused) = app.json(&["restored", "--since", "2999-01-01T00:00:00Z"]);
    assert!(exit == 2 && refused.to_string().contains("future"), "{refused}");
    is_refused(&app, &sink);
    let (exit, held) = app.json(&["restored", "--since", &since]);
    assert_eq!((exit, number(&held, "sends"), number(&held, "leads")), (0, 1, 1), "{held}");
    assert_eq!(app.json(&["restored", "--since", &since]).1["held"], 0, "once");

    let (exit, report) = run(&app, &sink);
    assert_eq!((exit, number(&report, "held"), sink.accepted().len()), (3, 2, 8), "{report}");
    let why = report["reasons"].as_array().unwrap().iter().find(|reason| reason["state"] == "held").unwrap();
    assert_eq!((why["reason"].as_str(), number(why, "count")), (Some("restored"), 2));
    // What follows on them may have gone as well.
    let resolve = |decision: &str| {
        let arguments = ["send", "resolve", "--campaign", "Welcome", "--reason", "restored", decision];
        app.json(&arguments).1
    };
    assert_eq!(number(&resolve("--sent"), "resolved"), 2);
    let (exit, report) = run(&app, &sink);
    assert_eq!((exit, number(&report, "held"), sink.accepted().len()), (3, 2, 8), "{report}");
    assert_eq!(number(&resolve("--sent"), "resolved"), 2);
    // A lead who came afterwards gets both mails; the ledger has the others' as sent.
    file(&app, &["ana", "bob", "cid", "dan", "eva"]);
    let (exit, report) = run(&app, &sink);
    assert_eq!((exit, number(&report, "sent"), report["status"].as_str()), (0, 10, Some("completed")), "{report}");
    let (accepted, once): (_, HashSet<String>) = (sink.accepted(), sink.accepted().into_iter().collect());
    assert_eq!((accepted.len(), once.len()), (10, 10), "{accepted:?}");
    for lead in ["ana", "bob", "cid", "dan", "eva"] {
        assert_eq!(accepted.iter().filter(|line| line.contains(&format!("{lead}@"))).count(), 2, "{accepted:?}");
    }
}

fn fd10_a_ledger_that_lost_nothing_is_taken_as_it_is(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    import(&app, &sink, &["ana"]);
    assert_eq!(run(&app, &sink).0, 0);
    // Made after the last process has ended, as when a database moves.
    let backup = Backup::make(&app);
    backup.restore(&app);
    file(&app, &["ana", "bob"]);
    if engine != Engine::Sqlite {
        is_refused(&app, &sink);
        assert_eq!(app.json(&["restored", "--nothing-lost"]).1["held"], 0);
    }
    assert_eq!((run(&app, &sink).0, sink.accepted().len()), (0, 4));
}

crate::on_every_engine! {
    fd10_an_old_backup_sends_nothing_twice
    fd10_a_ledger_that_lost_nothing_is_taken_as_it_is
}
