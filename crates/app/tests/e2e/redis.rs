//! A Redis of one case's own: durable enough for a restart, killed when it is dropped; and `redis-cli` to look in.
//!
//! Nothing waits by the clock: a server is ready when it says so in its log.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::app::service;
use crate::port;

/// A running server.
pub struct Redis {
    pub port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    /// None where this machine has no Redis for tests.
    pub fn start() -> Option<Self> {
        service("TEST_REDIS_URL")?;
        let (port, folder) = (port::free(), tempfile::tempdir().unwrap());
        let child = spawn(port, folder.path());
        Some(Self { port, child, folder })
    }

    /// One that copies this one.
    pub fn replica(&self) -> Self {
        let (port, folder) = (port::free(), tempfile::tempdir().unwrap());
        let options = ["--replicaof".to_owned(), format!("127.0.0.1 {}", self.port)];
        let child = run(command(port, folder.path()).args(options), "MASTER <-> REPLICA sync: Finished with success");
        Self { port, child, folder }
    }

    /// A Sentinel that calls this master `mail`, and knows its replica.
    pub fn sentinel(&self) -> Self {
        let (port, folder) = (port::free(), tempfile::tempdir().unwrap());
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor mail 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds mail 1000\nsentinel failover-timeout mail 5000\n",
            self.port
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("redis-server");
        let child = run(command.arg(config).args(["--sentinel", "--dir"]).arg(folder.path()), "+slave slave");
        Self { port, child, folder }
    }

    /// Sends it a signal, e.g. `-STOP`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it kept.
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, self.folder.path());
    }

    /// Starts it again with nothing, as a host that lost its disk does.
    pub fn start_empty(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.start_again();
    }

    /// Keeps what it holds now in a folder, as a backup does.
    pub fn back_up(&self, to: &std::path::Path) {
        copy(self.folder.path(), to);
    }

    /// Starts a killed one again with what a backup held.
    pub fn start_from(&mut self, backup: &std::path::Path) {
        std::fs::remove_dir_all(self.folder.path()).unwrap();
        copy(backup, self.folder.path());
        self.start_again();
    }

    /// What `redis-cli` says.
    pub fn ask(&self, arguments: &[&str]) -> String {
        self.answer(arguments).unwrap()
    }

    /// What `redis-cli` says, of a server that may just be ending its connections.
    pub fn answer(&self, arguments: &[&str]) -> Result<String, String> {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        let text = String::from_utf8(text).unwrap().trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn spawn(port: u16, folder: &std::path::Path) -> Child {
    run(&mut command(port, folder), "Ready to accept connections")
}

fn command(port: u16, folder: &std::path::Path) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"]);
    command.arg(folder);
    command
}

/// Runs it until its log says these words.
fn run(command: &mut Command, words: &str) -> Child {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(words)), "redis-server did not start");
    // Read on to the end: a full pipe would stop the server.
    std::thread::spawn(move || lines.for_each(drop));
    child
}
