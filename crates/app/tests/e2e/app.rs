//! The product as a test holds it: a folder, an environment, processes that end with the test.
//!
//! Waiting is reading: a line of a process's log, or its end. To add a process: `App::spawn`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::postgres_server::PostgresServer;
use crate::redis::Redis;

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    Sqlite,
    Postgres,
    /// PostgreSQL, with the queue in Redis.
    Redis,
}

/// A variable of the test environment; none where the case has to be skipped.
pub fn service(name: &str) -> Option<String> {
    if let Ok(value) = std::env::var(name) {
        return Some(value);
    }
    let required = std::env::var("REQUIRE_ENGINES").unwrap_or_default();
    assert!(required.is_empty(), "{name} is not set, but REQUIRE_ENGINES is (hint: run `cargo xtask test`)");
    if let Ok(path) = std::env::var("TEST_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(log, "e2e: {name} is not set").unwrap();
    }
    eprintln!("SKIPPED: {name} is not set");
    None
}

/// A measured figure and the most that it is to be: printed, and kept for the report that closes the run. Nothing fails by it, since
/// machines are busy with other things too.
pub fn figure(what: &str, measured: f64, goal: f64, unit: &str) {
    let verdict = if measured <= goal { "" } else { ", MISSED" };
    let line = format!("{what}: {measured:.2} {unit} (goal: {goal} {unit}{verdict})");
    println!("{line}");
    if let Ok(path) = std::env::var("TEST_FIGURES") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

pub struct App {
    dir: tempfile::TempDir,
    database: Option<Database>,
    redis: Option<Redis>,
    env: Vec<(String, String)>,
}

struct Database {
    server: String,
    name: String,
    /// A server of this app alone: nothing is left behind on it.
    own: Option<PostgresServer>,
}

impl Database {
    /// A new one on this server.
    fn make(server: String, own: Option<PostgresServer>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pm_e2e_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        psql(&server, &format!("CREATE DATABASE {name}"));
        Self { server, name, own }
    }
}

impl App {
    /// A fresh installation; none where its engine is missing.
    pub fn new(engine: Engine) -> Option<Self> {
        let database = match engine {
            Engine::Sqlite => None,
            Engine::Postgres | Engine::Redis => Some(Database::make(service("TEST_POSTGRES_URL")?, None)),
        };
        let redis = if engine == Engine::Redis { Some(Redis::start()?) } else { None };
        Some(Self::with(database, redis))
    }

    /// The same on a PostgreSQL of its own, which may be killed.
    pub fn on_own_postgres(engine: Engine) -> Option<Self> {
        assert_ne!(engine, Engine::Sqlite, "it has no server");
        let server = PostgresServer::start()?;
        let redis = if engine == Engine::Redis { Some(Redis::start()?) } else { None };
        Some(Self::with(Some(Database::make(server.url(), Some(server))), redis))
    }

    fn with(database: Option<Database>, redis: Option<Redis>) -> Self {
        let mut env: Vec<(String, String)> = vec![
            ("JWT_SECRET".into(), SECRET.into()),
            ("ENCRYPTION_KEY".into(), KEY.into()),
            ("TRACK_LISTEN".into(), "127.0.0.1:0".into()),
            ("API_LISTEN".into(), "127.0.0.1:0".into()),
        ];
        if let Some(Database { server, name, .. }) = &database {
            let (base, _) = server.rsplit_once('/').unwrap();
            env.push(("DATABASE_URL".into(), format!("{base}/{name}")));
            // The servers of these tests are on this host.
            env.push(("ALLOW_PRIVATE_HOSTS".into(), "*".into()));
        }
        if let Some(redis) = &redis {
            env.push(("REDIS_URL".into(), redis.url()));
        }
        Self { dir: tempfile::tempdir().unwrap(), database, redis, env }
    }

    pub fn postgres(&mut self) -> &mut PostgresServer {
        self.database.as_mut().unwrap().own.as_mut().unwrap()
    }

    pub fn redis(&self) -> &Redis {
        self.redis.as_ref().unwrap()
    }

    pub fn redis_mut(&mut self) -> &mut Redis {
        self.redis.as_mut().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// Writes a campaign file with `leads` of `domain` and as many mails as `steps`, one right after the other.
    pub fn campaign(
        &self,
        domain: &str,
        leads: impl IntoIterator<Item = String>,
        steps: usize,
        extra: &str,
    ) -> PathBuf {
        let mut list = String::from("email,first_name,city\n");
        for local in leads {
            list.push_str(&format!("{local}@{domain},Ana {local},\"Málaga, ES\"\n"));
        }
        std::fs::write(self.path("leads.csv"), list).unwrap();
        let html = "<html><body><p>Hi {{ firstName }} in {{ city }}</p>\n<a href=\"https://shop.example/?who={{ firstName }}&amp;x=1\">shop</a> <a href=\"https://shop.example/b\">b</a></body></html>\n";
        std::fs::write(self.path("mail.html"), html).unwrap();
        let mut text = format!(
            "[tenant]\nname = \"Acme {domain}\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n\
             [[email_account]]\nemail = \"ana@acme.test\"\nfrom_name = \"Ana from Acme\"\nsmtp = \"smtp://127.0.0.1:25?tls=none\"\n\
             [campaign]\nname = \"Welcome\"\nleads = \"leads.csv\"\n{extra}\n"
        );
        for step in 1..=steps {
            text.push_str(&format!(
                "[[step]]\nsubject = \"Mail {step} for {{{{ firstName }}}} ¡hola!\"\nhtml = \"mail.html\"\n"
            ));
        }
        let file = self.path("campaign.toml");
        std::fs::write(&file, text).unwrap();
        file
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penguinmails"));
        command.args(arguments).arg("--data").arg(self.path("data"));
        command.env_clear().envs(self.env.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs to the end with `--json`: exit code and object.
    pub fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.command(arguments).arg("--json").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), value)
    }

    pub fn spawn(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        Process::start(&mut command)
    }

    /// The same with variables of its own, which win over the app's.
    pub fn spawn_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Process {
        let mut command = self.command(arguments);
        Process::start(command.envs(env.iter().copied()))
    }

    /// The same under limits that a shell sets, e.g. `ulimit -n 64`. A file that grows too long is an error of its write.
    pub fn spawn_within(&self, limits: &str, arguments: &[&str]) -> Process {
        let plain = self.command(arguments);
        let mut command = Command::new("bash");
        command.args(["-c", &format!("trap '' XFSZ; {limits}; exec \"$0\" \"$@\"")]).arg(plain.get_program());
        command.args(plain.get_args()).env_clear().stdin(Stdio::null());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        Process::start(&mut command)
    }

    /// Where the ledger lies on PostgreSQL.
    pub fn database_url(&self) -> Option<String> {
        let Database { server, name, .. } = self.database.as_ref()?;
        let (base, _) = server.rsplit_once('/').unwrap();
        Some(format!("{base}/{name}"))
    }

    /// How many rows of a table of the ledger there are, with a condition or without, on either database.
    pub fn count_rows(&self, of: &str) -> u64 {
        let statement = format!("SELECT count(*) FROM {of}");
        self.sql(&statement).unwrap_or_else(|| self.sqlite("execute", &statement)).trim().parse().unwrap()
    }

    /// The rows of a statement with one column, as another program has them on PostgreSQL.
    pub fn column(&self, statement: &str) -> Vec<String> {
        self.sql(statement).unwrap().lines().map(str::to_owned).collect()
    }

    /// A statement as another program would run it, on PostgreSQL.
    pub fn sql(&self, statement: &str) -> Option<String> {
        Some(psql(&self.database_url()?, statement))
    }

    /// Statements as another program would run them, on either database.
    pub fn change(&self, statements: &str) {
        if self.sql(statements).is_none() {
            self.sqlite("executescript", statements);
        }
    }

    /// Calls `execute` or `executescript` of Python's `sqlite3`; the first column of what it gives, a line each.
    fn sqlite(&self, call: &str, statements: &str) -> String {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=60)\n\
            for row in getattr(c, sys.argv[2])(sys.argv[3]): print(row[0])";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(self.path("data/penguinmails.db")).args([call, statements]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Keeps a transaction with this statement open on PostgreSQL until it is dropped.
    pub fn hold(&self, statement: &str) -> Holder {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t"]).arg(self.database_url().unwrap());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "BEGIN; {statement}; SELECT 'held';").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        Holder { child, _input: input }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(Database { server, name, own: None }) = &self.database {
            psql(server, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// A session that holds something; dropped, it is given back.
pub struct Holder {
    child: Child,
    _input: std::process::ChildStdin,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub fn psql(url: &str, statement: &str) -> String {
    let output = Command::new("psql").args(["-X", "-q", "-A", "-t", "-c", statement, url]).output().unwrap();
    assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Longest life of a process in a test: a line that never comes must not stop the suite.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// A running process; killed when dropped, or when its time is over.
pub struct Process {
    child: Child,
    /// Dropped with the process: its watchdog then ends.
    _alive: mpsc::Sender<()>,
    log: BufReader<ChildStderr>,
    pub seen: Vec<String>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (alive, watched) = mpsc::channel();
        let id = child.id().to_string();
        std::thread::spawn(move || {
            if watched.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ended_already = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Self { child, _alive: alive, log, seen: Vec::new() }
    }

    /// Reads the log until `count` lines held `part`; false where the process ended before.
    pub fn wait_for(&mut self, part: &str, count: usize) -> bool {
        let mut found = 0;
        while found < count {
            let mut line = String::new();
            if self.log.read_line(&mut line).unwrap_or(0) == 0 {
                return false;
            }
            found += usize::from(line.contains(part));
            self.seen.push(line);
        }
        true
    }

    /// What stands behind `part` in the first line that holds it.
    pub fn value_after(&mut self, part: &str) -> String {
        assert!(self.wait_for(part, 1), "{part} never came: {}", self.seen.join(""));
        let line = self.seen.last().unwrap();
        line.split_once(part).unwrap().1.trim().to_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Whether its files may grow; those of standard output and error are pipes.
    pub fn let_files_grow(&self, may: bool) {
        let_files_grow(self.child.id(), may);
    }

    /// Kills without warning and reads what is left of the log.
    pub fn kill(mut self) -> Vec<String> {
        self.signal("-KILL");
        while self.wait_for("", 1) {}
        self.child.wait().unwrap();
        std::mem::take(&mut self.seen)
    }

    /// Asks to stop and waits for the end.
    pub fn stop(self) -> (ExitStatus, Vec<String>) {
        self.signal("-TERM");
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        while self.wait_for("", 1) {}
        (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Process {
    /// Reads its log on a thread of its own: a full pipe would stop the process.
    pub fn read_on(mut self) -> Reading {
        let id = self.child.id();
        let reader = std::thread::spawn(move || {
            while self.wait_for("", 1) {}
            (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
        });
        Reading { id, reader: Some(reader) }
    }
}

fn let_files_grow(id: u32, may: bool) {
    let limit = if may { "--fsize=unlimited:" } else { "--fsize=0:" };
    assert!(Command::new("prlimit").args(["--pid", &id.to_string(), limit]).status().unwrap().success());
}

/// A process whose log is being read.
pub struct Reading {
    id: u32,
    /// None when its end was awaited.
    reader: Option<std::thread::JoinHandle<(ExitStatus, Vec<String>)>>,
}

impl Reading {
    /// As `Process::let_files_grow`.
    pub fn let_files_grow(&self, may: bool) {
        let_files_grow(self.id, may);
    }

    /// Asks to stop and waits for the end.
    pub fn stop(mut self) -> (ExitStatus, Vec<String>) {
        let id = self.id.to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.reader.take().unwrap().join().unwrap()
    }
}

impl Reading {
    /// Kills without warning; what it had logged.
    pub fn kill(mut self) -> Vec<String> {
        let id = self.id.to_string();
        assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        self.reader.take().unwrap().join().unwrap().1
    }
}

impl Drop for Reading {
    /// A case that failed leaves no process behind.
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ended_already = Command::new("kill").args(["-KILL", &self.id.to_string()]).status();
            let _reaped = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Our own sink as a process of its own, with its journal as the truth.
pub struct Sink {
    process: Process,
    pub url: String,
    pub journal: PathBuf,
    pub folder: PathBuf,
}

impl Sink {
    pub fn start(app: &App, options: &[&str]) -> Self {
        Self::named(app, "", options)
    }

    /// One of several of an app.
    pub fn named(app: &App, name: &str, options: &[&str]) -> Self {
        let (journal, folder) = (app.path(&format!("journal{name}")), app.path(&format!("mails{name}")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_penguinmails"));
        command.args(["sink", "--listen", "127.0.0.1:0", "--faults", "--json", "--journal"]).arg(&journal);
        let mut process = Process::start(command.arg("--dir").arg(&folder).args(options));
        let address = process.value_after("sink listens on ");
        Self { process, url: format!("smtp://{address}?tls=none"), journal, folder }
    }

    /// Ends it: how often each fault fired.
    pub fn fired(mut self) -> Value {
        self.process.signal("-TERM");
        let mut text = String::new();
        self.process.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["fired"].take()
    }

    /// Message-ID and recipient of each copy in the order of their acceptance.
    pub fn accepted(&self) -> Vec<String> {
        lines(&self.journal)
    }

    /// The Message-ID of each copy.
    pub fn message_ids(&self) -> Vec<String> {
        self.accepted().iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }
}

pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A number of an object.
pub fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} in {value}"))
}
