//! Writing commands and reading replies, each within its stage's limit, and the record of it.
//!
//! Not responsible for what is said or what a reply means. To change what a transcript shows: `note`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::{Connection, Failure};
use crate::smtp::{Reply, ReplyParser, Stage, Step, Trouble};

/// What is kept of a dialogue, in bytes.
const MAX_TRANSCRIPT: usize = 2048;

impl Connection {
    pub(super) async fn command(&mut self, command: &str, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        self.write(command.as_bytes(), stage, limit).await?;
        self.reply(stage, limit).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8], stage: Stage, limit: Duration) -> Result<(), Failure> {
        let written = timeout(limit, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err((stage, network(&e))),
            Err(_) => Err((stage, Trouble::Timeout(limit))),
        }
    }

    pub(super) async fn reply(&mut self, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.within(stage, limit, ReplyParser::next_reply).await?;
        self.note(stage, reply.code, reply.enhanced_text().as_deref());
        Ok(reply)
    }

    /// Notes how long a step without an answer of its own took.
    pub(super) fn passed(&mut self, stage: Stage, since: Instant) {
        self.record.steps.push(Step { stage, took: since.elapsed(), code: None });
    }

    /// Reads until `take` finds something whole.
    pub(super) async fn within<T>(
        &mut self,
        stage: Stage,
        limit: Duration,
        take: impl Fn(&mut ReplyParser) -> Result<Option<T>, &'static str>,
    ) -> Result<T, Failure> {
        let reading = async {
            let mut buffer = [0; 4096];
            loop {
                if let Some(found) = take(&mut self.parser).map_err(Trouble::Protocol)? {
                    return Ok(found);
                }
                match self.stream.read(&mut buffer).await {
                    Ok(0) => return Err(Trouble::Closed),
                    Ok(n) => self.parser.feed(&buffer[..n]),
                    Err(e) => return Err(network(&e)),
                }
            }
        };
        let asked = Instant::now();
        let read = timeout(limit, reading).await.unwrap_or(Err(Trouble::Timeout(limit)));
        self.passed(stage, asked);
        self.warn_of_bare_lf();
        read.map_err(|trouble| (stage, trouble))
    }

    /// Once for a connection: such a server, or whatever stands before it, may take a bare LF of a message for a line end.
    fn warn_of_bare_lf(&mut self) {
        if self.parser.has_seen_bare_lf() && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("an SMTP server ends its replies with LF alone, against RFC 5321");
        }
    }

    /// Codes alone: texts of servers hold addresses, commands hold log-ins.
    pub(super) fn note(&mut self, stage: Stage, code: u16, enhanced: Option<&str>) {
        if let Some(step) = self.record.steps.last_mut() {
            step.code = Some(code);
        }
        let transcript = &mut self.record.transcript;
        if transcript.len() < MAX_TRANSCRIPT {
            let enhanced = enhanced.map_or(String::new(), |e| format!(" {e}"));
            transcript.push_str(&format!("{}: {code}{enhanced}\n", stage.as_str()));
        }
    }
}

/// What an error of the network is to a dialogue.
pub(super) fn network(e: &io::Error) -> Trouble {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match e.kind() {
        UnexpectedEof | BrokenPipe | ConnectionReset | ConnectionAborted => Trouble::Closed,
        kind => Trouble::Network(kind.to_string()),
    }
}
