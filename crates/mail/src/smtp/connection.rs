//! The shell around the thinking parts: a connection on tokio, with a time limit on every stage.
//!
//! `deliver` hands one message over. The gate is a future of the caller's that records the intent to write the final
//! dot: with PIPELINING it overlaps the round trip of MAIL, RCPT and DATA; the dot is written only after it opened.
//! *Unknown* begins when writing the final octets has begun; any trouble before that is surely not sent.
//! To add a stage: a function here, called by `open` or `deliver`.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use domain::email_account::TlsMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stream::{Bytes, Trust};
use super::target::{HostPolicy, resolve};
use super::transaction::{Verdict, judge, local_refusal, mail_command, rcpt_command};
use super::{Capabilities, Delivery, Envelope, Reply, ReplyParser, Report, Stage, Timeouts, Trouble, body, login};

/// Bytes of the body that are written in one go.
const BLOCK: usize = 64 << 10;
/// How long a server that broke off during the body may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// What is kept of a dialogue.
const MAX_TRANSCRIPT: usize = 2048;

/// Log-in name and password.
#[derive(Clone)]
pub struct Credentials {
    /// Log-in name.
    pub user: String,
    /// Password.
    pub password: String,
}

/// Shows nothing.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// A server and how to speak to it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Log-in, where the server wants one.
    pub credentials: Option<Credentials>,
    /// Whether a log-in may cross a connection without TLS.
    pub allow_plain_auth: bool,
    /// Our name in EHLO.
    pub ehlo: String,
    /// Whom TLS trusts.
    pub trust: Trust,
    /// Which addresses may be connected to.
    pub policy: HostPolicy,
    /// Limits of the stages.
    pub timeouts: Timeouts,
}

/// An open connection, logged in.
pub struct Connection {
    stream: Box<dyn Bytes>,
    parser: ReplyParser,
    capabilities: Capabilities,
    timeouts: Timeouts,
    transcript: String,
    /// A transaction was broken off: RSET comes before the next.
    dirty: bool,
    usable: bool,
    delivered: u32,
}

/// A failed step: which, and how.
type Failure = (Stage, Trouble);

impl Connection {
    /// Connects, greets, protects and logs in.
    ///
    /// # Errors
    /// `Failed` or `Refused` with the stage; nothing of a message has been said.
    pub async fn open(server: &Server) -> Result<Self, Report> {
        let mut transcript = String::new();
        match open(server, &mut transcript).await {
            Ok(connection) => Ok(Self { transcript, ..connection }),
            Err(delivery) => Err(Report { delivery, gate_opened: false, stale: false, transcript }),
        }
    }

    #[cfg(test)]
    fn over(stream: impl Bytes + 'static, timeouts: Timeouts) -> Self {
        Self::new(Box::new(stream), timeouts)
    }

    fn new(stream: Box<dyn Bytes>, timeouts: Timeouts) -> Self {
        Self {
            stream,
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            timeouts,
            transcript: String::new(),
            dirty: false,
            usable: true,
            delivered: 0,
        }
    }

    /// Whether the connection can take another message.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Messages that were handed over on it.
    pub fn delivered(&self) -> u32 {
        self.delivered
    }

    /// Says goodbye without waiting for the answer.
    pub async fn quit(mut self) {
        let _server_gone = timeout(LAST_WORDS, self.stream.write_all(b"QUIT\r\n")).await;
    }

    /// Hands one message over. A gate that was asked is always awaited to its end.
    pub async fn deliver(&mut self, envelope: &Envelope, message: &[u8], gate: impl Future<Output = bool>) -> Report {
        self.transcript.clear();
        let mut opened = false;
        let (delivery, stale) = match self.attempt(envelope, message, gate, &mut opened).await {
            Ok(delivery) => (delivery, false),
            Err((stage, trouble)) => {
                self.usable = false;
                // A pooled connection that the server has closed meanwhile shows at the first reply.
                let silent = matches!(trouble, Trouble::Closed | Trouble::Network(_));
                let stale = silent && self.delivered > 0 && matches!(stage, Stage::Mail | Stage::Rset);
                (Delivery::Failed(stage, trouble), stale)
            }
        };
        if let Delivery::Refused(_, reply) = &delivery
            && reply.code == 421
        {
            self.usable = false;
        }
        if matches!(delivery, Delivery::Unknown(_)) {
            self.usable = false;
        }
        // A reply that nobody asked for: the two sides no longer agree on where they are.
        self.usable &= !self.parser.has_surplus();
        self.delivered += 1;
        Report { delivery, gate_opened: opened, stale, transcript: std::mem::take(&mut self.transcript) }
    }

    async fn attempt(
        &mut self,
        envelope: &Envelope,
        message: &[u8],
        gate: impl Future<Output = bool>,
        opened: &mut bool,
    ) -> Result<Delivery, Failure> {
        if let Some(refusal) = local_refusal(&self.capabilities, envelope, message) {
            return Ok(refusal);
        }
        if self.dirty {
            let reply = self.command("RSET\r\n", Stage::Rset, self.timeouts.command).await?;
            if !reply.is_positive() {
                return Err((Stage::Rset, Trouble::Protocol("RSET was refused")));
            }
            self.dirty = false;
        }
        self.dirty = true;
        let verdict = if self.capabilities.pipelining {
            let commands = format!(
                "{}{}DATA\r\n",
                mail_command(&self.capabilities, envelope, message.len()),
                rcpt_command(envelope)
            );
            self.write(commands.as_bytes(), Stage::Mail, self.timeouts.command).await?;
            let (replies, granted) = tokio::join!(self.three_replies(), gate);
            *opened = granted;
            replies?
        } else {
            match self.one_by_one(envelope, message.len()).await? {
                Some(refused) => refused,
                None => {
                    *opened = gate.await;
                    if !*opened {
                        return Ok(Delivery::NotGranted);
                    }
                    self.data().await?
                }
            }
        };
        match verdict {
            Verdict::Ready if *opened => self.body_and_dot(message).await,
            Verdict::Ready => {
                // 354 has come: only closing the connection ends DATA without a dot.
                self.usable = false;
                Ok(Delivery::NotGranted)
            }
            Verdict::Refused(stage, reply) => Ok(Delivery::Refused(stage, reply)),
            Verdict::LoneDot(stage, reply) => {
                self.usable &= self.command(".\r\n", Stage::Data, self.timeouts.data).await.is_ok();
                Ok(Delivery::Refused(stage, reply))
            }
            Verdict::Confused(stage, what) => Err((stage, Trouble::Protocol(what))),
        }
    }

    async fn three_replies(&mut self) -> Result<Verdict, Failure> {
        let mail = self.reply(Stage::Mail, self.timeouts.command).await?;
        if mail.code == 421 {
            // The server hangs up: the other two replies may never come.
            self.usable = false;
            return Ok(Verdict::Refused(Stage::Mail, mail));
        }
        let rcpt = self.reply(Stage::Rcpt, self.timeouts.command).await?;
        if rcpt.code == 421 {
            self.usable = false;
            return Ok(Verdict::Refused(Stage::Rcpt, rcpt));
        }
        let data = self.reply(Stage::Data, self.timeouts.data).await?;
        Ok(judge(mail, rcpt, data))
    }

    /// Without PIPELINING: MAIL and RCPT; none where both were accepted.
    async fn one_by_one(&mut self, envelope: &Envelope, size: usize) -> Result<Option<Verdict>, Failure> {
        let mail = mail_command(&self.capabilities, envelope, size);
        for (command, stage) in [(mail, Stage::Mail), (rcpt_command(envelope), Stage::Rcpt)] {
            let reply = self.command(&command, stage, self.timeouts.command).await?;
            if reply.code == 354 {
                return Err((stage, Trouble::Protocol("354 before DATA")));
            }
            if !reply.is_positive() {
                return Ok(Some(Verdict::Refused(stage, reply)));
            }
        }
        Ok(None)
    }

    async fn data(&mut self) -> Result<Verdict, Failure> {
        let reply = self.command("DATA\r\n", Stage::Data, self.timeouts.data).await?;
        Ok(match reply.code {
            354 => Verdict::Ready,
            200..=399 => Verdict::Confused(Stage::Data, "DATA was not answered by 354"),
            _ => Verdict::Refused(Stage::Data, reply),
        })
    }

    async fn body_and_dot(&mut self, message: &[u8]) -> Result<Delivery, Failure> {
        let mut data = Vec::new();
        body::stuff(message, &mut data);
        data.extend_from_slice(b".\r\n");
        // The last block holds the final octets: from its first byte on the outcome may be unknown.
        let blocks = data.len().div_ceil(BLOCK);
        for (index, block) in data.chunks(BLOCK).enumerate() {
            let last = index + 1 == blocks;
            let written = self.write(block, Stage::Body, self.timeouts.block).await;
            match written {
                Ok(()) => {}
                // A server that broke off may have said why (as Postfix does): that is an answer.
                Err((_, trouble)) => match timeout(LAST_WORDS, self.reply(Stage::Body, LAST_WORDS)).await {
                    Ok(Ok(reply)) if !reply.is_positive() => {
                        self.usable = false;
                        return Ok(Delivery::Refused(Stage::Body, reply));
                    }
                    _ if last => return Ok(Delivery::Unknown(trouble)),
                    _ => return Err((Stage::Body, trouble)),
                },
            }
        }
        match self.reply(Stage::Dot, self.timeouts.dot).await {
            Ok(reply) if reply.is_positive() => {
                self.dirty = false;
                Ok(Delivery::Accepted(reply))
            }
            Ok(reply) if reply.code >= 400 => {
                self.dirty = false;
                Ok(Delivery::Refused(Stage::Dot, reply))
            }
            Ok(_) => Ok(Delivery::Unknown(Trouble::Protocol("the dot was answered by 3xx"))),
            Err((_, trouble)) => Ok(Delivery::Unknown(trouble)),
        }
    }

    async fn command(&mut self, command: &str, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        self.write(command.as_bytes(), stage, limit).await?;
        self.reply(stage, limit).await
    }

    async fn write(&mut self, bytes: &[u8], stage: Stage, limit: Duration) -> Result<(), Failure> {
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

    async fn reply(&mut self, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.within(stage, limit, ReplyParser::next_reply).await?;
        self.note(stage, reply.code, reply.enhanced_text().as_deref());
        Ok(reply)
    }

    /// Reads until `take` finds something whole.
    async fn within<T>(
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
        timeout(limit, reading).await.unwrap_or(Err(Trouble::Timeout(limit))).map_err(|trouble| (stage, trouble))
    }

    fn note(&mut self, stage: Stage, code: u16, enhanced: Option<&str>) {
        if self.transcript.len() < MAX_TRANSCRIPT {
            let enhanced = enhanced.map_or(String::new(), |e| format!(" {e}"));
            self.transcript.push_str(&format!("{}: {code}{enhanced}\n", stage.as_str()));
        }
    }

    async fn greet(&mut self, ehlo: &str) -> Result<(), Delivery> {
        let failed = |(stage, trouble)| Delivery::Failed(stage, trouble);
        let command = format!("EHLO {ehlo}\r\n");
        self.write(command.as_bytes(), Stage::Ehlo, self.timeouts.command).await.map_err(failed)?;
        let (code, lines) =
            self.within(Stage::Ehlo, self.timeouts.command, ReplyParser::next_lines).await.map_err(failed)?;
        self.note(Stage::Ehlo, code, None);
        match code {
            200..=299 => self.capabilities = Capabilities::parse(&lines),
            // A server of before 1995.
            500..=504 => {
                let reply = self
                    .command(&format!("HELO {ehlo}\r\n"), Stage::Ehlo, self.timeouts.command)
                    .await
                    .map_err(failed)?;
                if !reply.is_positive() {
                    return Err(Delivery::Refused(Stage::Ehlo, reply));
                }
                self.capabilities = Capabilities::default();
            }
            _ => {
                let reply = Reply { code, enhanced: None, text: lines.join(" ") };
                return Err(Delivery::Refused(Stage::Ehlo, reply));
            }
        }
        Ok(())
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Delivery> {
        let failed = |(stage, trouble)| Delivery::Failed(stage, trouble);
        let Some(steps) = login::steps(&self.capabilities, credentials) else {
            return Err(Delivery::Failed(Stage::Auth, Trouble::NoMechanism));
        };
        let last = steps.len() - 1;
        for (index, step) in steps.iter().enumerate() {
            let reply = self.command(step, Stage::Auth, self.timeouts.command).await.map_err(failed)?;
            match reply.code {
                235 if index == last => return Ok(()),
                334 if index < last => {}
                400.. => return Err(Delivery::Refused(Stage::Auth, reply)),
                _ => return Err(Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH went astray"))),
            }
        }
        Err(Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH never ended")))
    }
}

fn network(e: &std::io::Error) -> Trouble {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match e.kind() {
        UnexpectedEof | BrokenPipe | ConnectionReset | ConnectionAborted => Trouble::Closed,
        kind => Trouble::Network(kind.to_string()),
    }
}

async fn open(server: &Server, transcript: &mut String) -> Result<Connection, Delivery> {
    let tcp = connect(server).await.map_err(|(stage, trouble)| Delivery::Failed(stage, trouble))?;
    let mut connection = Connection::new(Box::new(tcp), server.timeouts.clone());
    if server.tls == TlsMode::Implicit {
        connection = protect(server, connection).await?;
    }
    let opened = async {
        banner(&mut connection).await?;
        connection.greet(&server.ehlo).await?;
        if server.tls == TlsMode::Starttls {
            start_tls(&mut connection).await?;
        }
        Ok(())
    }
    .await;
    transcript.push_str(&connection.transcript);
    opened?;
    if server.tls == TlsMode::Starttls {
        connection = protect(server, connection).await?;
        // What was offered in plain text counts no more (RFC 3207 4.2).
        connection.greet(&server.ehlo).await?;
    }
    if let Some(credentials) = &server.credentials {
        if server.tls == TlsMode::None && !server.allow_plain_auth {
            return Err(Delivery::Failed(Stage::Auth, Trouble::PlainAuth));
        }
        let logged_in = connection.log_in(credentials).await;
        transcript.push_str(&connection.transcript);
        logged_in?;
    }
    Ok(connection)
}

async fn banner(connection: &mut Connection) -> Result<(), Delivery> {
    let limit = connection.timeouts.command;
    let reply = connection.reply(Stage::Banner, limit).await.map_err(|(s, t)| Delivery::Failed(s, t))?;
    if reply.is_positive() { Ok(()) } else { Err(Delivery::Refused(Stage::Banner, reply)) }
}

/// Asks for TLS; the handshake may follow.
async fn start_tls(connection: &mut Connection) -> Result<(), Delivery> {
    let failed = |(stage, trouble)| Delivery::Failed(stage, trouble);
    if !connection.capabilities.starttls {
        return Err(Delivery::Failed(Stage::StartTls, Trouble::NoStartTls));
    }
    let limit = connection.timeouts.command;
    let reply = connection.command("STARTTLS\r\n", Stage::StartTls, limit).await.map_err(failed)?;
    if !reply.is_positive() {
        return Err(Delivery::Refused(Stage::StartTls, reply));
    }
    // Whatever stands behind the 220 was put there by somebody in between (CVE-2011-0411).
    if connection.parser.has_surplus() {
        return Err(Delivery::Failed(Stage::StartTls, Trouble::Protocol("plain text behind the answer to STARTTLS")));
    }
    Ok(())
}

/// The connection over TLS.
async fn protect(server: &Server, plain: Connection) -> Result<Connection, Delivery> {
    let failed = |trouble| Delivery::Failed(Stage::Tls, trouble);
    let tcp = plain.stream.into_tcp().ok_or(failed(Trouble::Closed))?;
    let limit = server.timeouts.command;
    let done = timeout(limit, server.trust.handshake(&server.host, tcp)).await;
    let stream = done.unwrap_or(Err(Trouble::Timeout(limit))).map_err(failed)?;
    Ok(Connection::new(stream, server.timeouts.clone()))
}

/// Tries the addresses one after the other, each with its share of the limit, so that a dead one does not use it up.
async fn connect(server: &Server) -> Result<TcpStream, Failure> {
    let limit = server.timeouts.connect;
    let looked_up = timeout(limit, resolve(&server.host, server.port, &server.policy)).await;
    let addresses: Vec<SocketAddr> =
        looked_up.unwrap_or(Err(Trouble::Timeout(limit))).map_err(|trouble| (Stage::Resolve, trouble))?;
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = Trouble::Timeout(limit);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Commands are small and answered at once: waiting for more to send costs 40 ms a message.
                tcp.set_nodelay(true).map_err(|e| (Stage::Connect, network(&e)))?;
                return Ok(tcp);
            }
            Ok(Err(e)) => last = Trouble::Network(e.kind().to_string()),
            Err(_) => last = Trouble::Timeout(share),
        }
    }
    Err((Stage::Connect, last))
}

#[cfg(test)]
mod tests;
