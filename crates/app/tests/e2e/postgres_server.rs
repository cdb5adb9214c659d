//! A PostgreSQL of one case's own, to be killed and started again: on a free port, gone when it is dropped.
//!
//! Nothing waits by the clock: a server is ready when it says so in its log. What was committed survives each of these
//! faults even without `fsync`, which is on all the same, as it is where mail is sent. PostgreSQL refuses root, so root
//! starts it as `postgres`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::app::{psql, service};
use crate::port;

/// A running server, or one that was killed.
pub struct PostgresServer {
    port: u16,
    folder: tempfile::TempDir,
    data: PathBuf,
    postmaster: Child,
}

impl PostgresServer {
    /// None where this machine has no PostgreSQL for tests.
    pub fn start() -> Option<Self> {
        service("TEST_POSTGRES_URL")?;
        let port = port::free();
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let data = folder.path().join("data");
        let mut initdb = program("initdb");
        initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D"]).arg(&data);
        assert!(initdb.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = on\n\
             max_connections = 200\n",
            folder.path().display()
        );
        std::fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        let postmaster = spawn(&data);
        Some(Self { port, folder, data, postmaster })
    }

    /// Its superuser's database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Where it keeps its files.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// When this life of the server began, in its own words: another answer means another life.
    pub fn life(&self) -> String {
        psql(&self.url(), "SELECT pg_postmaster_start_time()")
    }

    /// Stops as `pg_ctl stop -m immediate` does: connections are cut, nothing is written any more.
    pub fn stop_at_once(&mut self) {
        self.signal("-QUIT", &[]);
    }

    /// Ends all its processes in the same moment, as the end of their host does.
    pub fn kill(&mut self) {
        let children = Command::new("pgrep").args(["-P", &self.postmaster.id().to_string()]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let children: Vec<&str> = children.lines().collect();
        assert!(children.len() > 3, "checkpointer, writers and those who serve connections: {children:?}");
        self.signal("-KILL", &children);
    }

    /// Starts it with what it kept; returns when it takes connections.
    pub fn start_again(&mut self) {
        // A child that was born in the moment of the kill lives until it notices; a server waits for it.
        let started = (0..500).find_map(|_| try_spawn(&self.data).ok());
        self.postmaster = started.expect("postgres starts again");
    }

    /// It is killed, and a hot standby that has all its commits takes its address: nothing can be written there until
    /// `promote`.
    pub fn fail_over(&mut self) {
        let data = self.copy("standby", &["-R"]);
        set(&data, &format!("port = {}", port::free()));
        let mut standby = spawn(&data);
        for setting in ["synchronous_standby_names = '*'", "synchronous_commit = remote_apply"] {
            psql(&self.url(), &format!("ALTER SYSTEM SET {setting}"));
        }
        psql(&self.url(), "SELECT pg_reload_conf()");
        // Answered when the standby has it, and so all that was committed before.
        psql(&self.url(), "CREATE TABLE is_followed ()");
        self.kill();
        assert!(Command::new("kill").args(["-INT", &standby.id().to_string()]).status().unwrap().success());
        standby.wait().unwrap();
        set(&data, &format!("port = {}\nprimary_conninfo = ''", self.port));
        self.postmaster = spawn(&data);
        self.data = data;
    }

    /// A copy of all its files as they are now, made with these options.
    pub fn copy(&self, name: &str, options: &[&str]) -> PathBuf {
        let data = self.folder.path().join(name);
        let mut copy = program("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-c", "fast"]).args(options);
        assert!(copy.arg("-D").arg(&data).status().unwrap().success(), "{copy:?}");
        data
    }

    /// It is killed, and a server with this copy, which has heard of nothing since, takes its address.
    pub fn is_replaced_by(&mut self, copy: PathBuf) {
        self.kill();
        self.postmaster = spawn(&copy);
        self.data = copy;
    }

    /// The standby that took over becomes a primary.
    pub fn promote(&self) {
        assert_eq!(psql(&self.url(), "SELECT pg_promote()").trim(), "t");
    }

    fn signal(&mut self, signal: &str, children: &[&str]) {
        let postmaster = self.postmaster.id().to_string();
        // A child may have ended by itself: the postmaster's end is what counts.
        let _some_had_ended = Command::new("kill").arg(signal).arg(postmaster).args(children).status().unwrap();
        self.postmaster.wait().unwrap();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Its children end with it.
        let _ended_already = Command::new("kill").args(["-QUIT", &self.postmaster.id().to_string()]).status();
        let _reaped = self.postmaster.wait();
    }
}

/// User and group of the server where this process is root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

/// A program of the newest PostgreSQL here.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
    let programs = versions.map(|version| version.unwrap().path().join("bin"));
    let newest: PathBuf = programs.filter(|bin| bin.join("postgres").is_file()).max().unwrap();
    let mut command = Command::new(newest.join(name));
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// The last word for a setting counts.
fn set(data: &Path, settings: &str) {
    let file = data.join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{before}{settings}\n")).unwrap();
}

fn spawn(data: &Path) -> Child {
    try_spawn(data).unwrap_or_else(|said| panic!("postgres did not start: {said}"))
}

/// The server when it takes connections, a standby those that read; else what it said.
fn try_spawn(data: &Path) -> Result<Child, String> {
    let mut command = program("postgres");
    command.arg("-D").arg(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let is_ready = lines.by_ref().any(|line| {
        let ready = line.contains("ready to accept");
        seen.push(line);
        ready
    });
    if !is_ready {
        child.wait().unwrap();
        return Err(seen.join("\n"));
    }
    // Read on to the end: a full pipe would stop the server.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(child)
}
