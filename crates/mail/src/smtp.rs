//! The SMTP client (RFC 5321): hands one message over and says exactly how far it came.
//!
//! The parts that think are free of IO: `reply` reads what servers say, `capabilities` what they offer, `transaction`
//! walks through MAIL, RCPT, DATA, `body` writes data that nobody can break out of. `connection` is the shell around
//! them on tokio, with a time limit on every stage. Not responsible for what an answer means for a send (`replies`,
//! `domain::settle`) or for which connection to use (the worker).
//! To add a command: a `Stage`, its limit, and its step in `connection`.

mod body;
mod capabilities;
mod connection;
#[cfg(test)]
mod fuzz;
mod login;
mod reply;
mod stream;
pub mod target;
mod transaction;

use std::time::Duration;

pub use capabilities::Capabilities;
pub use connection::{Connection, Credentials, Server};
pub use reply::{Reply, ReplyParser};
pub use stream::{Trust, TrustError};

/// Where a dialogue stands; every error names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Looking up the server's name.
    Resolve,
    /// TCP.
    Connect,
    /// TLS handshake.
    Tls,
    /// The greeting.
    Banner,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA.
    Data,
    /// The message before its final dot.
    Body,
    /// From the final dot to its reply.
    Dot,
    /// RSET.
    Rset,
}

impl Stage {
    /// Every stage, in the order of a dialogue.
    pub const ALL: [Self; 13] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Banner,
        Self::Ehlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Body,
        Self::Dot,
        Self::Rset,
    ];

    /// The stage's name in the ledger and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Banner => "banner",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::Dot => "dot",
            Self::Rset => "rset",
        }
    }
}

/// How long each stage may take (RFC 5321 4.5.3.2, tightened where nothing is lost by giving up).
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Name look-up and TCP to whichever address answers first.
    pub connect: Duration,
    /// Greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET.
    pub command: Duration,
    /// DATA until 354.
    pub data: Duration,
    /// Each block of the body.
    pub block: Duration,
    /// The reply to the final dot. A shorter wait than ten minutes makes duplicates.
    pub dot: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(30), command: seconds(60), data: seconds(120), block: seconds(180), dot: seconds(600) }
    }
}

/// Envelope of a message: MAIL FROM and RCPT TO, domains in ASCII.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Return path.
    pub from: String,
    /// The one recipient.
    pub to: String,
    /// Whether a local part needs SMTPUTF8 (RFC 6531).
    pub needs_smtputf8: bool,
}

/// Why a dialogue ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The limit of the stage is over.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The network failed.
    #[error("{0}")]
    Network(String),
    /// This host has no file or memory left for a connection: nobody's fault but ours.
    #[error("this host has nothing left for a connection: {0} (hint: raise the limit of open files)")]
    NoRoom(String),
    /// The name cannot be looked up, or leads only where it may not.
    #[error("{0}")]
    Resolve(String),
    /// There is no such name (NXDOMAIN).
    #[error("the server's name does not exist")]
    NoSuchName,
    /// The handshake failed.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// TLS is wanted and the server does not offer it.
    #[error(
        "the server does not offer STARTTLS (hint: tls = implicit for port 465, or none for a server on this host)"
    )]
    NoStartTls,
    /// The server does not speak SMTP.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// A password must not cross the network in plain text.
    #[error(
        "log-in without TLS is refused (hint: use tls = starttls or implicit, or allow it for a server on this host)"
    )]
    PlainAuth,
    /// Nothing that we can do is offered.
    #[error(
        "the server offers no log-in that we know (hint: PLAIN and LOGIN are, and with auth = xoauth2 that one alone)"
    )]
    NoMechanism,
}

/// How handing over ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// 250 after the final dot.
    Accepted(Reply),
    /// The server said no.
    Refused(Stage, Reply),
    /// Surely not sent: the dialogue ended before the final dot was begun.
    Failed(Stage, Trouble),
    /// The final dot was begun and its reply never came.
    Unknown(Trouble),
    /// The gate stayed closed: no dot was written.
    NotGranted,
}

/// One step of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// How long we waited in it: for its answer, or for the bytes to be taken. Pipelined commands wait for the first
    /// answer above all.
    pub took: Duration,
    /// The answer's code, where one came.
    pub code: Option<u16>,
}

/// What became of a message, and of the connection.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub delivery: Delivery,
    /// Whether the gate was asked and opened: an intent is recorded.
    pub gate_opened: bool,
    /// Whether the connection was dead before anything of this message was answered: try once on a new one.
    pub stale: bool,
    /// The dialogue: codes and commands, without addresses, log-ins and bodies.
    pub transcript: String,
    /// The same in time; those of opening the connection stand before its first message's.
    pub steps: Vec<Step>,
}
