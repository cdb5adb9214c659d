//! The stages before a message: look-up, TCP, TLS, greeting, EHLO, STARTTLS, log-in.
//!
//! A log-in never crosses a connection without TLS unless that was allowed, and a server that does not offer the TLS
//! that is wanted gets none. Not responsible for how a mechanism logs in (`login`) or whom TLS trusts (`stream`).
//! To add a stage: a function here, called in its place by `open`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use domain::email_account::{LogInMethod, TlsMode};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::dialogue::network;
use super::happy_eyeballs::{race, take_turns};
use super::{Connection, Credentials, Failure, Record, Server};
use crate::smtp::target::resolve;
use crate::smtp::transaction::accepted;
use crate::smtp::{Capabilities, Delivery, Reply, ReplyParser, Stage, Step, Trouble, login};

/// An open, logged-in connection; `record` gets what was said up to then, also where it fails.
pub(super) async fn open(server: &Server, record: &mut Record) -> Result<Connection, Delivery> {
    let tcp = connect(server, &mut record.steps).await.map_err(failed)?;
    let mut connection = Connection::new(Box::new(tcp), server.timeouts.clone());
    connection.record.clone_from(record);
    if server.tls == TlsMode::Implicit {
        connection = protect(server, connection, record).await?;
    }
    let mut greeted = connection.banner().await;
    if greeted.is_ok() {
        greeted = connection.greet(&server.ehlo).await;
    }
    if greeted.is_ok() && server.tls == TlsMode::Starttls {
        greeted = connection.start_tls().await;
    }
    record.clone_from(&connection.record);
    greeted?;
    if server.tls == TlsMode::Starttls {
        connection = protect(server, connection, record).await?;
        // What was offered in plain text counts no more (RFC 3207 4.2).
        let greeted = connection.greet(&server.ehlo).await;
        record.clone_from(&connection.record);
        greeted?;
    }
    if let Some(credentials) = &server.credentials {
        if !connection.protected && !server.allow_plain_auth {
            return Err(Delivery::Failed(Stage::Auth, Trouble::PlainAuth));
        }
        let logged_in = connection.log_in(credentials).await;
        record.clone_from(&connection.record);
        logged_in?;
    }
    Ok(connection)
}

impl Connection {
    pub(super) async fn banner(&mut self) -> Result<(), Delivery> {
        let reply = self.reply(Stage::Banner, self.timeouts.command).await.map_err(failed)?;
        accepted(Stage::Banner, reply)
    }

    /// EHLO, or HELO for a server that does not know it.
    pub(super) async fn greet(&mut self, ehlo: &str) -> Result<(), Delivery> {
        let limit = self.timeouts.command;
        self.write(format!("EHLO {ehlo}\r\n").as_bytes(), Stage::Ehlo, limit).await.map_err(failed)?;
        let (code, lines) = self.within(Stage::Ehlo, limit, ReplyParser::next_lines).await.map_err(failed)?;
        self.note(Stage::Ehlo, code, None);
        self.capabilities = Capabilities::default();
        match code {
            200..=299 => {
                self.capabilities = Capabilities::parse(&lines);
                Ok(())
            }
            500..=504 => {
                let reply = self.command(&format!("HELO {ehlo}\r\n"), Stage::Ehlo, limit).await.map_err(failed)?;
                accepted(Stage::Ehlo, reply)
            }
            _ => accepted(Stage::Ehlo, Reply { code, enhanced: None, text: lines.join(" ") }),
        }
    }

    /// Asks for TLS; the handshake may follow.
    pub(super) async fn start_tls(&mut self) -> Result<(), Delivery> {
        if !self.capabilities.starttls {
            return Err(Delivery::Failed(Stage::StartTls, Trouble::NoStartTls));
        }
        let reply = self.command("STARTTLS\r\n", Stage::StartTls, self.timeouts.command).await.map_err(failed)?;
        accepted(Stage::StartTls, reply)?;
        // Whatever stands behind the 220 was put there by somebody in between (CVE-2011-0411).
        if self.parser.has_surplus() {
            let what = Trouble::Protocol("plain text behind the answer to STARTTLS");
            return Err(Delivery::Failed(Stage::StartTls, what));
        }
        Ok(())
    }

    pub(super) async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Delivery> {
        let Some(steps) = login::steps(&self.capabilities, credentials) else {
            return Err(Delivery::Failed(Stage::Auth, Trouble::NoMechanism));
        };
        let last = steps.len() - 1;
        for (index, step) in steps.iter().enumerate() {
            let mut reply = self.command(step, Stage::Auth, self.timeouts.command).await.map_err(failed)?;
            let is_explained = reply.code == 334 && credentials.method == LogInMethod::Xoauth2;
            if is_explained {
                // JSON that says why not; the refusal itself follows an empty line (RFC 7628 3.2.3).
                reply = self.command("\r\n", Stage::Auth, self.timeouts.command).await.map_err(failed)?;
            }
            match reply.code {
                235 if index == last && !is_explained => return Ok(()),
                334 if index < last && login::is_challenge(&reply.text) => {}
                400.. => return Err(Delivery::Refused(Stage::Auth, reply)),
                _ => break,
            }
        }
        Err(Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH went astray")))
    }
}

fn failed((stage, trouble): Failure) -> Delivery {
    Delivery::Failed(stage, trouble)
}

/// The connection over TLS.
async fn protect(server: &Server, plain: Connection, record: &mut Record) -> Result<Connection, Delivery> {
    let failed = |trouble| Delivery::Failed(Stage::Tls, trouble);
    let tcp = plain.stream.into_tcp().ok_or(failed(Trouble::Closed))?;
    let (limit, asked) = (server.timeouts.command, Instant::now());
    let done = timeout(limit, server.trust.handshake(&server.host, tcp)).await;
    record.steps.push(Step { stage: Stage::Tls, took: asked.elapsed(), code: None });
    let stream = done.unwrap_or(Err(Trouble::Timeout(limit))).map_err(failed)?;
    let fresh = Connection::new(stream, server.timeouts.clone());
    Ok(Connection { protected: true, record: record.clone(), ..fresh })
}

/// Looks the server up and connects to whichever of its addresses answers first, all within one limit.
async fn connect(server: &Server, steps: &mut Vec<Step>) -> Result<TcpStream, Failure> {
    let limit = server.timeouts.connect;
    let until = Instant::now() + limit;
    let mut since = Instant::now();
    let mut passed = |stage| {
        steps.push(Step { stage, took: since.elapsed(), code: None });
        since = Instant::now();
    };
    let looked_up = timeout_at(until, resolve(&server.host, server.port, &server.policy)).await;
    passed(Stage::Resolve);
    let addresses = looked_up.unwrap_or(Err(Trouble::Timeout(limit))).map_err(|trouble| (Stage::Resolve, trouble))?;
    let connected = timeout_at(until, race(take_turns(&addresses), TcpStream::connect::<SocketAddr>)).await;
    passed(Stage::Connect);
    let tcp = match connected {
        Ok(Ok(tcp)) if leaves_room(&tcp) => tcp,
        Ok(Ok(_)) => return Err((Stage::Connect, Trouble::NoRoom(io::Error::from(Errno::MFILE).to_string()))),
        Ok(Err(e)) if is_out_of_room(&e) => return Err((Stage::Connect, Trouble::NoRoom(e.to_string()))),
        Ok(Err(e)) => return Err((Stage::Connect, Trouble::Network(e.kind().to_string()))),
        Err(_) => return Err((Stage::Connect, Trouble::Timeout(limit))),
    };
    // Commands are small and answered at once: waiting for more to send costs 40 ms a message.
    tcp.set_nodelay(true).map_err(|e| (Stage::Connect, network(&e)))?;
    Ok(tcp)
}

/// Files that connections leave to the rest of the process: the journal must not wait for one of theirs to end, since
/// without it none of them may go on.
const SPARE: u64 = 24;

/// Whether the system refused the socket itself: ENOMEM, ENFILE, EMFILE or ENOBUFS.
fn is_out_of_room(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::NOMEM | Errno::NFILE | Errno::MFILE | Errno::NOBUFS))
}

/// Whether enough files are left behind this one. A file gets the lowest number that is free, so a high one says how many
/// are open.
fn leaves_room(tcp: &TcpStream) -> bool {
    let number = u64::try_from(tcp.as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::Nofile).current.is_none_or(|most| number + SPARE < most)
}
