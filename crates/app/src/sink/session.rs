//! One SMTP session of the sink (RFC 5321, with PIPELINING, 8BITMIME, SIZE, SMTPUTF8).
//!
//! Bounded: lines of 4 KiB, messages of 64 MiB. Not responsible for keeping messages (`keep`).
//! To add a command: an arm in `command`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::faults::Fault;
use super::{Received, Sink};

/// Longest command line.
const MAX_LINE: usize = 4 << 10;
/// Largest message.
const MAX_MESSAGE: usize = 64 << 20;
/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(300);

/// What a command leads to.
enum Next {
    Go,
    Data,
    Close,
}

struct Session<S> {
    sink: Arc<Sink>,
    stream: S,
    input: Vec<u8>,
    output: Vec<u8>,
    recipients: Vec<(String, Option<Fault>)>,
    has_sender: bool,
}

pub(super) async fn serve(sink: Arc<Sink>, stream: TcpStream) {
    let _best_effort = stream.set_nodelay(true);
    let mut session = Session {
        sink,
        stream,
        input: Vec::new(),
        output: b"220 sink.penguinmails ESMTP\r\n".to_vec(),
        recipients: Vec::new(),
        has_sender: false,
    };
    // A client that goes away ends its session; nothing of it was promised.
    let _client_gone = session.run().await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> std::io::Result<()> {
        loop {
            while let Some(line) = self.take_line() {
                match self.command(&line) {
                    Next::Go => {}
                    Next::Data => {
                        self.flush().await?;
                        if !self.data().await? {
                            return Ok(());
                        }
                    }
                    Next::Close => return self.flush().await,
                }
            }
            if self.input.len() > MAX_LINE {
                self.say("500 5.5.2 Line too long");
                return self.flush().await;
            }
            // All answers to pipelined commands in one write.
            self.flush().await?;
            if !self.fill().await? {
                return Ok(());
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 64 << 10];
        let read = tokio::time::timeout(IDLE, self.stream.read(&mut buffer)).await.unwrap_or(Ok(0))?;
        self.input.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        self.stream.flush().await
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn take_line(&mut self) -> Option<String> {
        let end = self.input.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn command(&mut self, line: &str) -> Next {
        let upper = line.to_ascii_uppercase();
        let word = upper.split([' ', ':']).next().unwrap_or("");
        match word {
            "EHLO" => {
                for offer in ["sink.penguinmails", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"] {
                    self.say(&format!("250-{offer}"));
                }
                self.say(&format!("250 SIZE {MAX_MESSAGE}"));
            }
            "HELO" => self.say("250 sink.penguinmails"),
            "MAIL" => {
                self.reset();
                self.has_sender = true;
                self.say("250 2.1.0 Ok");
            }
            "RCPT" => return self.recipient(line),
            "DATA" if self.recipients.is_empty() => self.say("554 5.5.1 No valid recipients"),
            "DATA" => {
                self.say("354 End data with <CR><LF>.<CR><LF>");
                return Next::Data;
            }
            "RSET" => {
                self.reset();
                self.say("250 2.0.0 Ok");
            }
            "NOOP" => self.say("250 2.0.0 Ok"),
            "QUIT" => {
                self.say("221 2.0.0 Bye");
                return Next::Close;
            }
            _ => self.say("502 5.5.1 Not implemented"),
        }
        Next::Go
    }

    fn reset(&mut self) {
        self.recipients.clear();
        self.has_sender = false;
    }

    fn recipient(&mut self, line: &str) -> Next {
        let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(address, _)| address);
        let Some(address) = address.filter(|_| self.has_sender) else {
            self.say("503 5.5.1 MAIL first, then RCPT TO:<address>");
            return Next::Go;
        };
        let fault = self.sink.options.faults.of(address);
        match fault {
            Some(Fault::Rcpt(answer) | Fault::RcptOnce(answer)) => {
                self.fire(address);
                self.say(answer);
                return if answer.starts_with("421") { Next::Close } else { Next::Go };
            }
            other => self.recipients.push((address.to_owned(), other)),
        }
        self.say("250 2.1.5 Ok");
        Next::Go
    }

    fn fire(&self, recipient: &str) {
        self.sink.options.faults.fire(recipient.split('+').next().unwrap_or(""));
    }

    /// Reads the message and answers its dot; false where the connection ends.
    async fn data(&mut self) -> std::io::Result<bool> {
        let recipients = std::mem::take(&mut self.recipients);
        if let Some((address, _)) = recipients.iter().find(|(_, fault)| *fault == Some(Fault::CloseInData)) {
            self.fire(address);
            return Ok(false);
        }
        let end = loop {
            if let Some(end) = find_end(&self.input) {
                break end;
            }
            if self.input.len() > MAX_MESSAGE || !self.fill().await? {
                return Ok(false);
            }
        };
        let raw: Vec<u8> = self.input.drain(..end.behind).collect();
        let message: Arc<[u8]> = unstuff(&raw[..end.body]).into();
        self.has_sender = false;
        tokio::time::sleep(self.sink.options.faults.delay()).await;
        self.answer(&recipients, message).await
    }

    async fn answer(&mut self, recipients: &[(String, Option<Fault>)], message: Arc<[u8]>) -> std::io::Result<bool> {
        if self.sink.options.faults.fails_by_number() {
            self.sink.options.faults.fire("fail-every");
            self.say("451 4.3.0 Every so often");
            return Ok(true);
        }
        for (address, fault) in recipients {
            if let Some(Fault::Dot(answer)) = fault {
                self.fire(address);
                self.say(answer);
                return Ok(true);
            }
        }
        for (recipient, _) in recipients {
            if !self.sink.keeper.keep(recipient, &message).await {
                self.say("452 4.3.1 Cannot keep it");
                return Ok(true);
            }
            self.sink.received.fetch_add(1, Ordering::AcqRel);
            if let Some(told) = &self.sink.options.told {
                let received = Received { message: Arc::clone(&message) };
                let _nobody_listens = told.send(received);
            }
        }
        for (address, fault) in recipients {
            match fault {
                Some(Fault::CloseAfterDot | Fault::CloseAfterDotOnce) => {
                    self.fire(address);
                    return Ok(false);
                }
                Some(Fault::Delay(length)) => {
                    self.fire(address);
                    tokio::time::sleep(*length).await;
                }
                _ => {}
            }
        }
        self.say("250 2.0.0 Ok: kept");
        Ok(true)
    }
}

/// Where a message ends: behind its last line, and behind its dot.
struct End {
    body: usize,
    behind: usize,
}

fn find_end(input: &[u8]) -> Option<End> {
    if input.starts_with(b".\r\n") {
        return Some(End { body: 0, behind: 3 });
    }
    let at = input.windows(5).position(|w| w == b"\r\n.\r\n")?;
    Some(End { body: at + 2, behind: at + 5 })
}

fn unstuff(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    out
}
