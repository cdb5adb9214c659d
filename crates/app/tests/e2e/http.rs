//! An HTTP client for the API of operators: one request a connection, everything as it came over the wire.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// The least between two looks at something outside that tells nobody when it is there.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Asks with these lines of header, each with its line break.
pub fn ask(address: &str, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path, "")
}

/// The status alone, for answers that are no text.
pub fn status(address: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).split(' ').nth(1).unwrap().parse().unwrap()
}

/// Looks again until something is found; what never comes is a failure.
pub fn until<T>(look: impl FnMut() -> Option<T>) -> T {
    look_until(PATIENCE, look)
}

/// The same for what takes minutes by its nature.
pub fn wait_long<T>(look: impl FnMut() -> Option<T>) -> T {
    look_until(PATIENCE * 10, look)
}

fn look_until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        let looked = Instant::now();
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "it never came");
        // What is looked at runs in processes of its own and tells nobody: a look that starts a command itself, again and
        // again without a pause, took a core from it.
        std::thread::sleep(BETWEEN_LOOKS.max(2 * looked.elapsed()));
    }
}

/// A sample of `/metrics` by its name and labels as they are written there.
pub fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}
