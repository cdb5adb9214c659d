//! One SMTP session as the server sees it: greeting to QUIT, with the faults that are due on the way.
//!
//! Not responsible for bytes (`wire`), for what a line says (`command`), for what faults there are (`fault`) or for
//! what becomes of a message (`keep`). To add a command: an arm in `obey`.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use super::Sink;
use super::command::{self, Command};
use super::fault::{End, Stage};
use super::keep::Message;
use super::offers::Extension;
use super::wire::{Body, Line, Wire};
use crate::lifecycle::Shutdown;

/// RFC 5321 4.5.3.1.8 asks for at least 100.
const MAX_RECIPIENTS: usize = 1000;
const NO_TRANSACTION: &str = "503 5.5.1 MAIL comes first\r\n";

/// How a session goes on after a command.
enum Step {
    Continue,
    StartTls,
    /// Says nothing more.
    Close,
    Reset,
}

#[derive(Default)]
struct Transaction {
    from: String,
    recipients: Vec<String>,
    /// Chunks that have come so far; some where DATA is no longer allowed.
    chunks: Option<BytesMut>,
}

/// State of a session; what EHLO and STARTTLS clear is in it.
pub(super) struct Session {
    sink: Arc<Sink>,
    shutdown: Shutdown,
    is_greeted: bool,
    is_logged_in: bool,
    transaction: Option<Transaction>,
}

impl Session {
    /// A session that ends at the next command once stopping is asked for.
    pub(super) fn new(sink: Arc<Sink>, shutdown: Shutdown) -> Self {
        Self { sink, shutdown, is_greeted: false, is_logged_in: false, transaction: None }
    }

    /// Speaks until either side ends it.
    pub(super) async fn run(mut self, mut wire: Wire) -> io::Result<()> {
        if self.sink.offers.is_implicit_tls() {
            wire = wire.protect(self.sink.offers.acceptor()?).await?;
        }
        let mut step = match self.disturb(&mut wire, Stage::Connect).await? {
            Some(step) => step,
            None => say(&mut wire, "220 sink ESMTP\r\n").await?,
        };
        loop {
            match step {
                Step::Continue => {}
                Step::StartTls => {
                    wire = wire.protect(self.sink.offers.acceptor()?).await?;
                    self = Self::new(self.sink, self.shutdown);
                }
                Step::Close => return wire.close().await,
                Step::Reset => {
                    wire.flush().await?;
                    return wire.reset();
                }
            }
            step = match self.next_line(&mut wire).await? {
                Some(Line::Text(line)) => match std::str::from_utf8(&line) {
                    Ok(line) => self.obey(&mut wire, line).await?,
                    Err(_) => say(&mut wire, "500 5.5.2 command is not UTF-8\r\n").await?,
                },
                Some(Line::TooLong) => say(&mut wire, "500 5.5.2 line is too long\r\n").await?,
                None => Step::Close,
            };
        }
    }

    /// The next line, or none where the client has closed or the sink stops.
    async fn next_line(&mut self, wire: &mut Wire) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = wire.buffered_line() {
                return Ok(Some(line));
            }
            let filled = self.shutdown.unless_stopping(wire.fill()).await.transpose()?;
            match filled {
                Some(true) => {}
                Some(false) => return Ok(None),
                None => {
                    wire.reply("421 4.3.2 service is going down\r\n").await?;
                    return Ok(None);
                }
            }
        }
    }

    async fn obey(&mut self, wire: &mut Wire, line: &str) -> io::Result<Step> {
        match command::parse(line) {
            Ok(Command::Ehlo) => self.ehlo(wire, true).await,
            Ok(Command::Helo) => self.ehlo(wire, false).await,
            Ok(Command::StartTls) => self.start_tls(wire).await,
            Ok(Command::Auth { mechanism, initial }) => self.auth(wire, mechanism, initial).await,
            Ok(Command::Mail { from, size }) => self.mail(wire, from, size).await,
            Ok(Command::Rcpt { to }) => self.rcpt(wire, to).await,
            Ok(Command::Data) => self.data(wire).await,
            Ok(Command::Bdat { size, last }) if !self.sink.offers.hides(Extension::Chunking) => {
                self.bdat(wire, size, last).await
            }
            Ok(Command::Rset) => {
                self.transaction = None;
                say(wire, "250 2.0.0 OK\r\n").await
            }
            Ok(Command::Noop) => say(wire, "250 2.0.0 OK\r\n").await,
            Ok(Command::Vrfy) => say(wire, "252 2.1.5 send it and see\r\n").await,
            Ok(Command::Quit) => {
                wire.reply("221 2.0.0 bye\r\n").await?;
                Ok(Step::Close)
            }
            Ok(Command::Bdat { .. }) => say(wire, "502 5.5.1 CHUNKING is not offered\r\n").await,
            Err(refused) => say(wire, &format!("{refused}\r\n")).await,
        }
    }

    async fn ehlo(&mut self, wire: &mut Wire, is_extended: bool) -> io::Result<Step> {
        if let Some(step) = self.disturb(wire, Stage::Ehlo).await? {
            return Ok(step);
        }
        self.is_greeted = true;
        self.transaction = None;
        let offers = self.sink.offers.lines(wire.is_protected());
        let reply = match (is_extended, offers.split_last()) {
            (true, Some((last, before))) => {
                let before: String = before.iter().map(|offer| format!("250-{offer}\r\n")).collect();
                format!("250-sink\r\n{before}250 {last}\r\n")
            }
            _ => "250 sink\r\n".to_owned(),
        };
        say(wire, &reply).await
    }

    async fn start_tls(&mut self, wire: &mut Wire) -> io::Result<Step> {
        if let Some(step) = self.disturb(wire, Stage::Starttls).await? {
            return Ok(step);
        }
        if !self.sink.offers.has_starttls(wire.is_protected()) {
            return say(wire, "503 5.5.1 STARTTLS is not offered\r\n").await;
        }
        wire.reply("220 2.0.0 go ahead\r\n").await?;
        Ok(Step::StartTls)
    }

    async fn auth(&mut self, wire: &mut Wire, mechanism: &str, initial: Option<&str>) -> io::Result<Step> {
        if let Some(step) = self.disturb(wire, Stage::Auth).await? {
            return Ok(step);
        }
        if self.is_logged_in || !self.is_greeted {
            return say(wire, "503 5.5.1 not now\r\n").await;
        }
        let answers = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => self.answers(wire, &[""], initial).await?,
            "LOGIN" => self.answers(wire, &["VXNlcm5hbWU6", "UGFzc3dvcmQ6"], initial).await?,
            _ => return say(wire, "504 5.5.4 mechanism is unknown\r\n").await,
        };
        let Some(answers) = answers else { return say(wire, "501 5.5.2 log-in was broken off\r\n").await };
        // PLAIN: authorisation, user and password in one answer, NUL between them (RFC 4616 2).
        let parts: Vec<&[u8]> = match answers.as_slice() {
            [plain] => plain.split(|byte| *byte == 0).skip(1).collect(),
            both => both.iter().map(Vec::as_slice).collect(),
        };
        self.is_logged_in = matches!(parts.as_slice(), [user, password] if self.sink.offers.lets_in(user, password));
        if self.is_logged_in {
            say(wire, "235 2.7.0 welcome\r\n").await
        } else {
            say(wire, "535 5.7.8 user name or password is wrong\r\n").await
        }
    }

    /// The client's answers to `challenges`, of which it may have given the first ahead; none where it gave up.
    async fn answers(
        &mut self,
        wire: &mut Wire,
        challenges: &[&str],
        initial: Option<&str>,
    ) -> io::Result<Option<Vec<Vec<u8>>>> {
        let mut answers = Vec::new();
        let mut ahead = initial.map(|text| if text == "=" { String::new() } else { text.to_owned() });
        for challenge in challenges {
            let text = match ahead.take() {
                Some(text) => text,
                None => {
                    wire.reply(&format!("334 {challenge}\r\n")).await?;
                    let Some(Line::Text(line)) = self.next_line(wire).await? else { return Ok(None) };
                    String::from_utf8_lossy(&line).into_owned()
                }
            };
            let Ok(answer) = STANDARD.decode(text) else { return Ok(None) };
            answers.push(answer);
        }
        Ok(Some(answers))
    }

    async fn mail(&mut self, wire: &mut Wire, from: &str, size: Option<u64>) -> io::Result<Step> {
        if let Some(step) = self.disturb(wire, Stage::Mail).await? {
            return Ok(step);
        }
        let refusal = if !self.is_greeted {
            Some("503 5.5.1 EHLO comes first\r\n")
        } else if self.transaction.is_some() {
            Some("503 5.5.1 a transaction is under way\r\n")
        } else if self.sink.offers.asks_for_login() && !self.is_logged_in {
            Some("530 5.7.0 log in first\r\n")
        } else if size.is_some_and(|size| size > self.sink.offers.max_size as u64) {
            Some("552 5.3.4 message is too big\r\n")
        } else {
            self.refuses_address(from)
        };
        if refusal.is_none() {
            self.transaction = Some(Transaction { from: from.to_owned(), ..Transaction::default() });
        }
        say(wire, refusal.unwrap_or("250 2.1.0 OK\r\n")).await
    }

    async fn rcpt(&mut self, wire: &mut Wire, to: &str) -> io::Result<Step> {
        let Some(transaction) = &self.transaction else { return say(wire, NO_TRANSACTION).await };
        let is_full = transaction.recipients.len() >= MAX_RECIPIENTS;
        if let Some(step) = self.disturb_for(wire, Stage::Rcpt, &[to.to_owned()]).await? {
            return Ok(step);
        }
        let refusal = if is_full { Some("452 4.5.3 too many recipients\r\n") } else { self.refuses_address(to) };
        if refusal.is_none() {
            self.transaction.get_or_insert_default().recipients.push(to.to_owned());
        }
        say(wire, refusal.unwrap_or("250 2.1.5 OK\r\n")).await
    }

    /// What a server without SMTPUTF8 says to an address beyond ASCII (RFC 6531 3.5).
    fn refuses_address(&self, address: &str) -> Option<&'static str> {
        let is_refused = !address.is_ascii() && self.sink.offers.hides(Extension::Smtputf8);
        is_refused.then_some("553 5.6.7 address needs SMTPUTF8\r\n")
    }

    async fn data(&mut self, wire: &mut Wire) -> io::Result<Step> {
        let Some(transaction) = self.transaction.take() else { return say(wire, NO_TRANSACTION).await };
        if transaction.chunks.is_some() {
            return say(wire, "503 5.5.1 chunks are under way\r\n").await;
        }
        if transaction.recipients.is_empty() {
            self.transaction = Some(transaction);
            return say(wire, "554 5.5.1 no valid recipients\r\n").await;
        }
        if let Some(step) = self.disturb_for(wire, Stage::Data, &transaction.recipients).await? {
            return Ok(step);
        }
        wire.reply("354 end with a dot on a line of its own\r\n").await?;
        if !wire.has_input() && !wire.fill().await? {
            return Ok(Step::Close);
        }
        if let Some(step) = self.disturb_for(wire, Stage::Body, &transaction.recipients).await? {
            // Without the message's end nobody could tell its lines from commands.
            return Ok(if matches!(step, Step::Reset) { Step::Reset } else { Step::Close });
        }
        match wire.body(self.sink.offers.max_size).await? {
            Body::Whole(bytes) => self.accept(wire, transaction, bytes).await,
            Body::TooBig => say(wire, "552 5.3.4 message is too big\r\n").await,
            Body::Cut => Ok(Step::Close),
        }
    }

    /// A chunk, which comes whether it is wanted or not (RFC 3030 2); the transaction ends with what goes wrong.
    async fn bdat(&mut self, wire: &mut Wire, size: usize, last: bool) -> io::Result<Step> {
        let transaction = self.transaction.take();
        let recipients = transaction.as_ref().map(|t| t.recipients.clone()).unwrap_or_default();
        if size > 0 && !wire.has_input() && !wire.fill().await? {
            return Ok(Step::Close);
        }
        if let Some(step) = self.disturb_for(wire, Stage::Body, &recipients).await? {
            return Ok(if matches!(step, Step::Reset) { Step::Reset } else { Step::Close });
        }
        let held = transaction.as_ref().and_then(|t| t.chunks.as_ref()).map_or(0, BytesMut::len);
        let chunk = match wire.chunk(size, self.sink.offers.max_size.saturating_sub(held)).await? {
            Body::Whole(chunk) => chunk,
            Body::TooBig => return say(wire, "552 5.3.4 message is too big\r\n").await,
            Body::Cut => return Ok(Step::Close),
        };
        let Some(mut transaction) = transaction.filter(|t| !t.recipients.is_empty()) else {
            return say(wire, NO_TRANSACTION).await;
        };
        if let Some(step) = self.disturb_for(wire, Stage::Data, &recipients).await? {
            return Ok(step);
        }
        let chunks = transaction.chunks.get_or_insert_default();
        chunks.extend_from_slice(&chunk);
        if last {
            let bytes = std::mem::take(chunks).freeze();
            return self.accept(wire, transaction, bytes).await;
        }
        self.transaction = Some(transaction);
        say(wire, "250 2.0.0 go on\r\n").await
    }

    async fn accept(&mut self, wire: &mut Wire, transaction: Transaction, bytes: bytes::Bytes) -> io::Result<Step> {
        if let Some(step) = self.disturb_for(wire, Stage::Dot, &transaction.recipients).await? {
            return Ok(step);
        }
        if !bytes.is_ascii() && self.sink.offers.hides(Extension::EightBitMime) {
            return say(wire, "554 5.6.3 message needs 8BITMIME\r\n").await;
        }
        let Transaction { from, recipients, .. } = transaction;
        let message = Message { from, recipients: recipients.clone(), bytes };
        if let Err(error) = self.sink.keeper.keep(message, self.sink.clock.now()).await {
            tracing::warn!(%error, "a message cannot be kept");
            return say(wire, "451 4.3.0 message cannot be kept\r\n").await;
        }
        if let Some(step) = self.disturb_for(wire, Stage::Accept, &recipients).await? {
            return Ok(step);
        }
        say(wire, "250 2.0.0 OK: kept\r\n").await
    }

    async fn disturb(&self, wire: &mut Wire, stage: Stage) -> io::Result<Option<Step>> {
        self.disturb_for(wire, stage, &[]).await
    }

    /// Plays the faults that are due; a step where the good answer is not to be given.
    async fn disturb_for(&self, wire: &mut Wire, stage: Stage, recipients: &[String]) -> io::Result<Option<Step>> {
        let Some(fault) = self.sink.faults.at(stage, recipients) else { return Ok(None) };
        if !fault.delay.is_zero() {
            wire.flush().await?;
            tokio::time::sleep(fault.delay).await;
        }
        Ok(match fault.end {
            None => None,
            Some(End::Close) => Some(Step::Close),
            Some(End::Reset) => Some(Step::Reset),
            Some(End::Reply(refusal)) => {
                wire.reply(&refusal.to_wire()).await?;
                let is_last = refusal.closes() || stage == Stage::Connect;
                Some(if is_last { Step::Close } else { Step::Continue })
            }
        })
    }
}

async fn say(wire: &mut Wire, reply: &str) -> io::Result<Step> {
    wire.reply(reply).await?;
    Ok(Step::Continue)
}
