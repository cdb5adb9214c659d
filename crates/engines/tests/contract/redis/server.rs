//! A Redis of one case's own, to be damaged: started on a free port, killed when it is dropped.
//!
//! Nothing here waits by the clock: a server is ready when it says so in its log.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::service;
use crate::port;

/// How long a line of a log may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    child: Child,
    log: Receiver<String>,
    options: Vec<String>,
    folder: TempDir,
}

impl Server {
    /// Starts one with the options of `redis-server`; none where this machine has no Redis for tests.
    pub fn start(options: &[&str]) -> Option<Self> {
        service("redis", "TEST_REDIS_URL")?;
        let port = port::free();
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec!["--port".to_owned(), port.to_string()];
        all.extend(["--bind", "127.0.0.1", "--save", ""].map(str::to_owned));
        all.extend(options.iter().map(|option| (*option).to_owned()));
        let (child, log) = spawn(&all, &folder);
        let server = Self { port, child, log, options: all, folder };
        server.wait_for("Ready to accept connections");
        Some(server)
    }

    /// A Sentinel with quorum one over the master at `port`, called `mail`.
    pub fn sentinel(master: u16) -> Self {
        let port = port::free();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor mail 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds mail 500\nsentinel failover-timeout mail 3000\n"
        );
        std::fs::write(&config, text).unwrap();
        let options = vec![config.display().to_string(), "--sentinel".to_owned()];
        let (child, log) = spawn(&options, &folder);
        let server = Self { port, child, log, options, folder };
        server.wait_for("+monitor master");
        server
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of another program.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Reads its log up to a line with these words.
    pub fn wait_for(&self, words: &str) {
        while !self
            .log
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|e| panic!("no `{words}` in the log: {e}"))
            .contains(words)
        {}
    }

    /// Sends it a signal, e.g. `-STOP`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, empty, at the same port.
    pub fn start_again(&mut self) {
        let (child, log) = spawn(&self.options, &self.folder);
        (self.child, self.log) = (child, log);
        self.wait_for("Ready to accept connections");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _waited_already = self.child.wait();
    }
}

fn spawn(options: &[String], folder: &TempDir) -> (Child, Receiver<String>) {
    let mut command = Command::new("redis-server");
    command.args(options).arg("--dir").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = lines(child.stdout.take().unwrap());
    (child, log)
}

/// Reads on to the end, whether or not anybody listens: a full pipe would stop the server.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _nobody_listens = sender.send(line);
        }
    });
    receiver
}
