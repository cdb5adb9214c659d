//! The ledger's database killed, full, read-only, busy or in conflict at exactly one step of one email's path (FAULTS FD01
//! to FD07), judged by what the receiver holds.
//!
//! The server's own answers are raised by triggers where the real cause needs a machine of its own. Not responsible for
//! crashes under load (`postgres_faults`) or for restored backups (`restored`). To add a fault: a case with a `Scene`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::app::{App, Engine, Process, Sink, number, psql};
use crate::http::wait_long;

/// A campaign under way whose processes say what they do.
struct Scene {
    app: App,
    sink: Sink,
    hold: PathBuf,
    leads: usize,
}

impl Scene {
    fn new(app: Option<App>) -> Option<Self> {
        let mut app = app?;
        app.set("LOG_LEVEL", "info");
        let sink = Sink::start(&app, &[]);
        let hold = app.path("hold");
        Some(Self { app, sink, hold, leads: 0 })
    }

    /// So many leads more.
    fn enroll(&mut self, count: usize) {
        self.leads += count;
        let file = self.app.campaign("fault.example", (0..self.leads).map(|n| format!("lead{n}")), 1, "");
        let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &self.sink.url];
        assert_eq!(self.app.json(&arguments).0, 0);
    }

    /// A process that stands still at `point`, where it has arrived.
    fn held_at(&self, part: &str, point: &str) -> Process {
        std::fs::write(&self.hold, "").unwrap();
        let env = [("FAULT_POINT", point), ("FAULT_POINT_HOLD", self.hold.to_str().unwrap())];
        let mut process = self.app.spawn_with(&[part], &env);
        self.arrives(&mut process, point);
        process
    }

    fn arrives(&self, process: &mut Process, point: &str) {
        let line = format!("fault point reached: {point}");
        assert!(process.wait_for(&line, 1), "the fault did not fire: {}", process.seen.join(""));
    }

    fn planned(&self) {
        assert!(number(&self.app.json(&["scheduler", "--once"]).1, "planned") > 0);
    }

    fn release(&self) {
        std::fs::remove_file(&self.hold).unwrap();
    }

    fn status(&self) -> Value {
        self.app.json(&["campaign", "status", "Welcome"]).1
    }

    /// Looks until every lead's send is planned and settled, which only running processes can bring about: each once, none
    /// unknown.
    fn all_went_once(&self) {
        let status = wait_long(|| {
            let status = self.status();
            let waits = number(&status, "pending") + number(&status, "deferred");
            (waits == 0 && number(&status, "planned") == self.leads as u64).then_some(status)
        });
        let end = (number(&status, "sent"), number(&status, "unknown"), self.sink.accepted().len());
        assert_eq!(end, (self.leads as u64, 0, self.leads), "{status}");
    }

    /// The next lead gets their mail at once; who was held up waits for the end of a lease.
    fn goes_on(&mut self) {
        self.enroll(1);
        self.planned();
        // What has arrived comes to be sent; a dot without its intent never does.
        let status = wait_long(|| {
            let arrived = self.sink.accepted().len() as u64;
            Some(self.status()).filter(|status| arrived > 0 && number(status, "sent") == arrived)
        });
        assert_eq!(number(&status, "unknown"), 0, "{status}");
        assert_eq!(
            number(&status, "sent") + number(&status, "pending") + number(&status, "deferred"),
            self.leads as u64
        );
    }

    /// Nothing of the campaign's newest leads has left.
    fn nothing_more_went(&self, before: usize) {
        assert_eq!(self.sink.accepted().len(), before, "a dot without its intent");
    }
}

fn says(process: &mut Process, line: &str) {
    assert!(process.wait_for(line, 1), "`{line}` never came: {}", process.seen.join(""));
}

fn ends(process: Process) {
    let (exit, log) = process.stop();
    assert_eq!(exit.code(), Some(0), "{}", log.join(""));
}

mod server {
    use super::*;

    /// Kills the server while a process stands still at each of these points, and starts it again before it goes on.
    fn killed_at(engine: Engine, points: &[&str]) {
        let Some(mut scene) = Scene::new(App::on_own_postgres(engine)) else { return };
        for point in points {
            scene.enroll(1);
            let process = if *point == "recorded" {
                scene.held_at("scheduler", point)
            } else {
                scene.planned();
                scene.held_at("worker", point)
            };
            let life = scene.app.postgres().life();
            scene.app.postgres().kill();
            scene.app.postgres().start_again();
            assert_ne!(scene.app.postgres().life(), life, "the server was killed");
            scene.release();
            let worker = (*point == "recorded").then(|| scene.app.spawn(&["worker"]));
            scene.all_went_once();
            ends(process);
            worker.into_iter().for_each(ends);
        }
    }

    fn fd01_a_server_killed_before_the_dot_costs_nothing(engine: Engine) {
        killed_at(engine, &["recorded", "leased", "fetched", "asking"]);
    }

    fn fd01_a_server_killed_after_the_intent_costs_nothing(engine: Engine) {
        killed_at(engine, &["granted", "answered", "journaled", "applied"]);
    }

    /// A deferred trigger runs inside COMMIT: it stands still there while the file is there.
    const WAIT_IN_COMMIT: &str =
        "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            IF (pg_stat_file('hold_commit', true)).size IS NOT NULL THEN PERFORM pg_sleep(50); END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON sends DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.status = 'STATUS') EXECUTE FUNCTION stand_still()";
    const IN_COMMIT: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query = 'COMMIT'";

    fn fd01_a_server_killed_inside_a_commit_leaves_it_in_doubt_and_no_dot_is_written(engine: Engine) {
        let Some(mut scene) = Scene::new(App::on_own_postgres(engine)) else { return };
        let url = scene.app.database_url().unwrap();
        let cases = [
            ("planned", "scheduler", "campaigns cannot be planned now"),
            ("dot", "worker", "no dot is written: the intent cannot be recorded"),
            ("sent", "worker", "results are kept: the database does not take them"),
        ];
        for (status, part, told) in cases {
            scene.enroll(1);
            if part == "worker" {
                scene.planned();
            }
            psql(&url, &WAIT_IN_COMMIT.replace("STATUS", status));
            let file = scene.app.postgres().data().join("hold_commit");
            std::fs::write(&file, "").unwrap();
            let before = scene.sink.accepted().len();
            let mut process = scene.app.spawn(&[part]);
            let fired = (0..3_000).any(|_| psql(&url, IN_COMMIT).trim() == "1");
            assert!(fired, "the server never stood inside the COMMIT of `{status}`");
            scene.app.postgres().kill();
            std::fs::remove_file(&file).unwrap();
            says(&mut process, told);
            assert!(process.seen.iter().any(|line| line.contains("connection broke during commit")));
            if status != "sent" {
                scene.nothing_more_went(before);
            }
            scene.app.postgres().start_again();
            psql(&url, "DROP TRIGGER at_commit ON sends; DROP FUNCTION stand_still()");
            let worker = (part == "scheduler").then(|| scene.app.spawn(&["worker"]));
            scene.all_went_once();
            ends(process);
            worker.into_iter().for_each(ends);
        }
    }

    fn fd02_results_wait_for_a_database_that_is_away_in_memory_and_in_the_journal(engine: Engine) {
        let Some(mut scene) = Scene::new(App::on_own_postgres(engine)) else { return };
        scene.enroll(20);
        scene.planned();
        let mut worker = scene.held_at("worker", "answered");
        scene.app.postgres().kill();
        scene.release();
        says(&mut worker, "results are kept: the database does not take them");
        let journal = std::fs::read_dir(scene.app.path("data/journal")).unwrap();
        let kept: u64 = journal.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(kept > 0, "they outlive the worker as well");
        scene.app.postgres().start_again();
        scene.all_went_once();
        ends(worker);
    }

    /// The first tries of planning, of the intent and of the result, each refused as the server refuses a loser.
    const CONFLICTS: &str = "CREATE SEQUENCE tries;
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ DECLARE n bigint := nextval('tries'); BEGIN
            IF n > 6 THEN RETURN NEW; END IF;
            RAISE EXCEPTION 'lost' USING ERRCODE = CASE n % 2 WHEN 0 THEN '40001' ELSE '40P01' END; END $$;
        CREATE TRIGGER losers BEFORE INSERT OR UPDATE ON sends FOR EACH ROW WHEN (NEW.status = 'STATUS') EXECUTE FUNCTION lose()";

    fn fd03_whoever_loses_a_conflict_tries_again_and_sends_once(engine: Engine) {
        let Some(mut scene) = Scene::new(App::new(engine)) else { return };
        let url = scene.app.database_url().unwrap();
        assert_eq!(scene.app.json(&["migrate"]).0, 0);
        let processes = [scene.app.spawn(&["scheduler"]).read_on(), scene.app.spawn(&["worker"]).read_on()];
        for status in ["planned", "dot", "sent"] {
            psql(&url, &CONFLICTS.replace("STATUS", status));
            scene.enroll(1);
            scene.all_went_once();
            assert_eq!(psql(&url, "SELECT last_value > 6 FROM tries").trim(), "t", "six tries of `{status}` were lost");
            psql(&url, "DROP TRIGGER losers ON sends; DROP FUNCTION lose(); DROP SEQUENCE tries");
        }
        for process in processes {
            let (exit, log) = process.stop();
            assert!(exit.success() && log.iter().any(|line| line.contains("met a concurrent transaction (40")));
        }
    }

    /// What the server answers to every write while its disk is full.
    const FULL: &str = "CREATE TABLE disk_full ();
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF to_regclass('disk_full') IS NULL THEN RETURN NULL; END IF;
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        DO $$ DECLARE t text; BEGIN
            FOREACH t IN ARRAY ARRAY['sends', 'queue_jobs', 'workers', 'send_attempts', 'pace_days', 'email_accounts'] LOOP
                EXECUTE format('CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON %I EXECUTE FUNCTION refuse()', t);
            END LOOP; END $$";

    fn fd04_a_server_with_a_full_disk_stops_the_mail_with_an_alarm_and_lets_it_go_on(engine: Engine) {
        let Some(mut scene) = Scene::new(App::new(engine)) else { return };
        let url = scene.app.database_url().unwrap();
        scene.enroll(1);
        scene.planned();
        let mut worker = scene.held_at("worker", "asking");
        psql(&url, FULL);
        scene.release();
        says(&mut worker, "no dot is written: the intent cannot be recorded");
        assert!(worker.seen.last().unwrap().contains("53100"), "{:?}", worker.seen.last());
        says(&mut worker, "the heartbeat cannot be written");
        scene.nothing_more_went(0);
        psql(&url, "DROP TABLE disk_full");
        scene.goes_on();
        ends(worker);
    }

    /// It answers who reads: the workers' heartbeats stand still together, and none is dead for that.
    fn fd04_while_nobody_can_write_no_worker_takes_another_for_dead(engine: Engine) {
        let Some(mut scene) = Scene::new(App::new(engine)) else { return };
        let url = scene.app.database_url().unwrap();
        scene.enroll(1);
        scene.planned();
        let mut holder = scene.held_at("worker", "answered");
        let mut witness = scene.app.spawn(&["worker"]);
        says(&mut witness, "Waiting for jobs...");
        psql(&url, FULL);
        // Three seconds lie between two of them: longer than it takes to bury one.
        for _ in 0..6 {
            says(&mut witness, "the heartbeat cannot be written");
        }
        says(&mut holder, "the heartbeat cannot be written");
        psql(&url, "DROP TABLE disk_full");
        scene.release();
        scene.all_went_once();
        for worker in [holder, witness] {
            let (exit, log) = worker.stop();
            assert!(exit.success() && !log.iter().any(|line| line.contains("an owner is dead")), "{}", log.join(""));
        }
    }

    fn fd05_a_server_that_became_read_only_and_closed_every_connection(engine: Engine) {
        let Some(mut scene) = Scene::new(App::new(engine)) else { return };
        let url = scene.app.database_url().unwrap();
        let (server, name) = url.rsplit_once('/').unwrap();
        let (server, name) = (format!("{server}/postgres"), name.to_owned());
        let close = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'");
        scene.enroll(1);
        scene.planned();
        let mut worker = scene.held_at("worker", "asking");
        psql(&server, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
        assert_ne!(psql(&server, &close).trim(), "0", "its idle connections were closed");
        scene.release();
        assert!(worker.wait_for("(25006)", 2), "{}", worker.seen.join(""));
        scene.nothing_more_went(0);
        psql(&server, &format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
        psql(&server, &close);
        scene.goes_on();
        ends(worker);
    }

    /// What was begun waits for the promotion; a process that starts asks first whether the ledger has lost anything.
    fn fd05_a_failover_to_a_standby_is_waited_for_until_it_is_promoted(engine: Engine) {
        let Some(mut scene) = Scene::new(App::on_own_postgres(engine)) else { return };
        scene.enroll(1);
        scene.planned();
        let mut worker = scene.held_at("worker", "asking");
        let life = scene.app.postgres().life();
        scene.app.postgres().fail_over();
        assert_ne!(scene.app.postgres().life(), life, "another server answers");
        scene.release();
        assert!(worker.wait_for("(25006)", 2), "{}", worker.seen.join(""));
        scene.nothing_more_went(0);
        scene.app.postgres().promote();
        scene.all_went_once();
        let (exit, said) = scene.app.json(&["worker"]);
        assert!(exit == 2 && said.to_string().contains("--nothing-lost"), "{said}");
        assert_eq!(scene.app.json(&["restored", "--nothing-lost"]).0, 0);
        scene.goes_on();
        ends(worker);
    }

    /// What it has lost says that a mail was sent: to the server that takes over it waits.
    fn fd10_a_server_without_the_last_commits_stops_the_worker_that_made_them(engine: Engine) {
        let Some(mut scene) = Scene::new(App::on_own_postgres(engine)) else { return };
        scene.enroll(1);
        scene.planned();
        let copy = scene.app.postgres().copy("late", &[]);
        let mut worker = scene.app.spawn(&["worker"]);
        says(&mut worker, "status=sent");
        scene.app.postgres().is_replaced_by(copy);
        assert_eq!(scene.app.count_rows("sends WHERE status = 'sent'"), 0, "the fault fired");
        let (exit, log) = worker.ended();
        let log = log.join("");
        assert!(log.contains("the ledger has lost what was committed to it"), "{log}");
        assert_eq!(exit.code(), Some(2), "{log}");
        scene.nothing_more_went(1);
        let (exit, said) = scene.app.json(&["worker"]);
        assert!(exit == 2 && said.to_string().contains("restored --since"), "{said}");
        assert_eq!(scene.app.json(&["restored", "--since", "2026-01-01T00:00:00Z"]).1["sends"], 1);
        assert_eq!(number(&scene.status(), "held"), 1, "a person decides");
        let (exit, _) = scene.app.json(&["scheduler", "--once"]);
        assert_eq!(exit, 0, "it is the true one now");
    }

    crate::on_every_server! {
        fd10_a_server_without_the_last_commits_stops_the_worker_that_made_them
        fd01_a_server_killed_before_the_dot_costs_nothing
        fd01_a_server_killed_after_the_intent_costs_nothing
        fd01_a_server_killed_inside_a_commit_leaves_it_in_doubt_and_no_dot_is_written
        fd02_results_wait_for_a_database_that_is_away_in_memory_and_in_the_journal
        fd03_whoever_loses_a_conflict_tries_again_and_sends_once
        fd04_a_server_with_a_full_disk_stops_the_mail_with_an_alarm_and_lets_it_go_on
        fd04_while_nobody_can_write_no_worker_takes_another_for_dead
        fd05_a_server_that_became_read_only_and_closed_every_connection
        fd05_a_failover_to_a_standby_is_waited_for_until_it_is_promoted
    }
}

/// What the place of the queue does not matter to.
mod postgres_schema {
    use super::*;

    /// Stands still behind the statement of this number.
    const WAIT_IN_MIGRATION: &str = "CREATE SEQUENCE ddl;
        CREATE FUNCTION stand_still() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('ddl') = NUMBER THEN PERFORM pg_sleep(50); END IF; END $$;
        CREATE EVENT TRIGGER behind ON ddl_command_end EXECUTE FUNCTION stand_still()";

    fn schema(url: &str) -> String {
        let output = Command::new("pg_dump").args(["--schema-only", "--no-owner", url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Newer ones write a random word into each dump.
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.starts_with('\\')).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn fd07_a_migration_killed_behind_any_statement_is_done_by_the_next_or_by_two_at_once() {
        let (Some(app), Some(other)) = (App::new(Engine::Postgres), App::new(Engine::Postgres)) else { return };
        let url = app.database_url().unwrap();
        for number in [1, 6, 11, 4, 9] {
            psql(&url, &WAIT_IN_MIGRATION.replace("NUMBER", &number.to_string()));
            let migrating = app.spawn(&["migrate"]);
            let sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
            let fired = (0..3_000).any(|_| psql(&url, &format!("SELECT count(*) {sleeping}")).trim() == "1");
            assert!(fired, "no migration stood still behind statement {number}");
            migrating.kill();
            psql(&url, &format!("SELECT pg_terminate_backend(pid, 10000) {sleeping}"));
            psql(&url, "DROP EVENT TRIGGER behind; DROP FUNCTION stand_still(); DROP SEQUENCE ddl");
        }
        let both = [app.spawn(&["migrate"]), app.spawn(&["migrate"])];
        assert!(both.into_iter().all(|migrating| migrating.ended().0.success()));
        assert_eq!((other.json(&["migrate"]).0, app.json(&["migrate"]).1["applied"].as_array().unwrap().len()), (0, 0));
        assert_eq!(schema(&url), schema(&other.database_url().unwrap()));
    }
}

mod sqlite {
    use super::*;

    /// The worker, which is not killed where a file may grow no more: the kernel's signal is taken for an error.
    fn limited(scene: &Scene, point: &str) -> Process {
        std::fs::write(&scene.hold, "").unwrap();
        let worker = scene.app.command(&["worker"]);
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(worker.get_program()).args(worker.get_args());
        command.env_clear().envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("FAULT_POINT", point).env("FAULT_POINT_HOLD", &scene.hold).stdin(Stdio::null());
        let mut process = Process::start(&mut command);
        scene.arrives(&mut process, point);
        process
    }

    fn limit(process: &Process, bytes: &str) {
        let id = process.id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")]).status().unwrap().success());
    }

    #[test]
    fn fd04_a_file_that_cannot_grow_stops_the_mail_with_an_alarm_and_lets_it_go_on() {
        let Some(mut scene) = Scene::new(App::new(Engine::Sqlite)) else { return };
        scene.enroll(1);
        scene.planned();
        let mut worker = limited(&scene, "asking");
        limit(&worker, "4096");
        scene.release();
        says(&mut worker, "no dot is written: the intent cannot be recorded");
        says(&mut worker, "the heartbeat cannot be written");
        scene.nothing_more_went(0);
        limit(&worker, "unlimited");
        scene.goes_on();
        ends(worker);
    }

    fn schema(app: &App) -> String {
        let read = "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute('SELECT sql FROM sqlite_master ORDER BY name'): print(row[0])";
        let output = Command::new("python3").args(["-c", read]).arg(app.path("data/penguinmails.db")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The kernel kills whoever writes past a limit: at another write each time, since the files grow.
    #[test]
    fn fd07_a_migration_killed_at_any_write_is_done_by_the_next_or_by_two_at_once() {
        let (Some(app), Some(other)) = (App::new(Engine::Sqlite), App::new(Engine::Sqlite)) else { return };
        let migrate = app.command(&["migrate"]);
        let mut killed = 0;
        for kib in (8..200).step_by(24) {
            let mut command = Command::new("prlimit");
            command.args([format!("--fsize={}", kib << 10), "--core=0".into()]);
            command.arg(migrate.get_program()).args(migrate.get_args()).env_clear();
            command.envs(migrate.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let exit = Process::start(&mut command).ended().0;
            killed += u32::from(std::os::unix::process::ExitStatusExt::signal(&exit).is_some());
        }
        assert!(killed > 2, "killed {killed} times");
        let both = [app.spawn(&["migrate"]), app.spawn(&["migrate"])];
        assert!(both.into_iter().all(|migrating| migrating.ended().0.success()));
        assert_eq!((other.json(&["migrate"]).0, app.json(&["migrate"]).1["applied"].as_array().unwrap().len()), (0, 0));
        assert_eq!(schema(&app), schema(&other));
    }

    #[test]
    fn fd06_a_writer_who_holds_the_file_for_ten_seconds_is_waited_for() {
        let Some(mut scene) = Scene::new(App::new(Engine::Sqlite)) else { return };
        scene.enroll(1);
        scene.planned();
        let mut worker = scene.held_at("worker", "asking");
        let mut shell = Command::new("python3");
        shell.args(["-u", "-c", "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held', file=sys.stderr)\nsys.stdin.read()"]);
        shell.arg(scene.app.path("data/penguinmails.db")).stdin(Stdio::piped());
        let mut holder = Process::start(&mut shell);
        says(&mut holder, "held");
        scene.release();
        assert!(worker.wait_for("SQLITE_BUSY", 1), "{}", worker.seen.join(""));
        scene.nothing_more_went(0);
        holder.kill();
        scene.all_went_once();
        ends(worker);
    }

    #[test]
    fn fd06_a_log_that_was_deleted_is_a_ledger_that_lost_its_last_commits() {
        let Some(mut scene) = Scene::new(App::new(Engine::Sqlite)) else { return };
        scene.enroll(1);
        scene.planned();
        scene.held_at("worker", "applied").kill();
        let log = scene.app.path("data/penguinmails.db-wal");
        assert!(log.metadata().unwrap().len() > 0, "what was sent stands in it alone");
        std::fs::remove_file(&log).unwrap();
        let (exit, said) = scene.app.json(&["worker"]);
        let said = said.to_string();
        // Which of the two, and who notices first, depends on how much of it had been moved into the file.
        let is_told = said.contains("restored --since") || said.contains("malformed");
        assert!(matches!(exit, 1 | 2) && is_told, "{exit}: {said}");
        scene.nothing_more_went(1);
    }

    #[test]
    fn fd06_a_file_that_may_only_be_read_is_said_at_once() {
        let Some(mut scene) = Scene::new(App::new(Engine::Sqlite)) else { return };
        scene.enroll(1);
        let shut = |mode: &str, path: &str| {
            let path = scene.app.path(path);
            assert!(Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap().success());
        };
        shut("a-w,a+rX", "data");
        shut("a+rx", "");
        let worker = scene.app.command(&["worker", "--json"]);
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        // Nothing stops root from writing.
        let mut command = if is_root {
            let program = scene.app.path("penguinmails");
            std::fs::copy(worker.get_program(), &program).unwrap();
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(worker.get_args());
            command
        } else {
            let mut command = Command::new(worker.get_program());
            command.args(worker.get_args());
            command
        };
        command.env_clear().envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.stdin(Stdio::null()).output().unwrap();
        shut("u+rwX", "data");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said} {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("penguinmails.db") && said.contains("may write to"), "{said}");
    }
}
