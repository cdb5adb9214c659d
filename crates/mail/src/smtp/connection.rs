//! The shell around the thinking parts: a connection on tokio, with a time limit on every stage.
//!
//! `deliver` hands one message over. The gate is a future of the caller's that records the intent to write the final
//! dot: with PIPELINING it overlaps the round trip of MAIL, RCPT and DATA (with CHUNKING, of MAIL and RCPT); the dot, or
//! the last chunk, is written only after it opened.
//! `open` has the stages before a message, `happy_eyeballs` its connect, `hand_over` those after 354, `dialogue` reads and
//! writes within limits.
//! To add a stage: a function here or there, called by `prepare` or `attempt`.

mod dialogue;
mod hand_over;
mod happy_eyeballs;
mod open;

use std::future::Future;
use std::time::Duration;

use domain::email_account::{LogInMethod, TlsMode};
use domain::settle::ReplyAction;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::stream::{Bytes, Trust};
use super::target::HostPolicy;
use super::transaction::{Verdict, accepted, judge, judge_data, local_refusal, mail_command, rcpt_command};
use crate::replies::classify;

use super::{Capabilities, Delivery, Envelope, ReplyParser, Report, Stage, Step, Timeouts, Trouble};

/// How long a server that is leaving, or is left, may take over it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Log-in name and password, or token.
#[derive(Clone)]
pub struct Credentials {
    /// Log-in name.
    pub user: String,
    /// Password; with `Xoauth2` an access token, whose life is for others to watch.
    pub password: String,
    /// Which of the two.
    pub method: LogInMethod,
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
    /// Whether TLS is on: a write that failed may have sent any part of what it was given then.
    protected: bool,
    record: Record,
    /// A transaction was broken off: RSET comes before the next.
    dirty: bool,
    /// It was said that lines of this server end with LF alone.
    warned: bool,
    usable: bool,
    delivered: u32,
}

/// What was said, and how long each step took.
#[derive(Clone, Default)]
struct Record {
    transcript: String,
    steps: Vec<Step>,
}

/// A failed step: which, and how.
type Failure = (Stage, Trouble);

impl Connection {
    /// Connects, greets, protects and logs in.
    ///
    /// # Errors
    /// `Failed` or `Refused` with the stage; nothing of a message has been said.
    pub async fn open(server: &Server) -> Result<Self, Report> {
        let mut record = Record::default();
        let opened = open::open(server, &mut record).await;
        let Record { transcript, steps } = record;
        opened.map_err(|delivery| Report { delivery, gate_opened: false, stale: false, transcript, steps })
    }

    fn new(stream: Box<dyn Bytes>, timeouts: Timeouts) -> Self {
        Self {
            stream,
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            timeouts,
            protected: false,
            record: Record::default(),
            dirty: false,
            warned: false,
            usable: true,
            delivered: 0,
        }
    }

    /// Whether the connection can take another message.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Messages that were tried on it, whatever came of them.
    pub fn delivered(&self) -> u32 {
        self.delivered
    }

    /// Says goodbye without waiting for the answer. A connection that is no longer usable is only closed: where DATA
    /// was broken off, a QUIT would be part of the message.
    pub async fn quit(mut self) {
        if self.usable {
            let _the_server_may_be_gone = timeout(LAST_WORDS, async {
                self.stream.write_all(b"QUIT\r\n").await?;
                self.stream.shutdown().await
            })
            .await;
        }
    }

    /// Hands one message over. A gate that was asked is always awaited to its end.
    ///
    /// On a report that is `stale` the gate may have opened all the same: the second attempt must not record another
    /// intent, its gate only tells the first one's answer.
    pub async fn deliver(&mut self, envelope: &Envelope, message: &[u8], gate: impl Future<Output = bool>) -> Report {
        self.record.transcript.clear();
        if self.warned {
            self.record.transcript.push_str("warning: the server ends its lines with LF alone\n");
        }
        let mut gate_opened = false;
        let attempt = self.attempt(envelope, message, gate, &mut gate_opened).await;
        let delivery = attempt.unwrap_or_else(|(stage, trouble)| Delivery::Failed(stage, trouble));
        let over = match &delivery {
            // The two do not agree on the protocol, or the server hangs up.
            Delivery::Refused(stage, reply) => {
                let action = classify(*stage, reply).map(|rule| rule.action);
                reply.code == 421 || action == Some(ReplyAction::FailOurFault)
            }
            Delivery::Failed(..) | Delivery::Unknown(_) => true,
            Delivery::Accepted(_) | Delivery::NotGranted => false,
        };
        // A reply that nobody asked for: the two sides no longer agree on where they are.
        self.usable &= !over && !self.parser.has_surplus();
        let stale = self.delivered > 0 && died_idle(&delivery);
        self.delivered += 1;
        // The steps of opening the connection go with its first message.
        let Record { transcript, steps } = std::mem::take(&mut self.record);
        Report { delivery, gate_opened, stale, transcript, steps }
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
        }
        self.dirty = true;
        let mail = mail_command(&self.capabilities, envelope, message.len());
        let rcpt = rcpt_command(envelope);
        let verdict = if self.capabilities.chunking {
            match self.before_chunk(&mail, &rcpt, gate, opened).await? {
                Ok(()) if *opened => Verdict::Ready,
                // Nothing was begun: the connection can be used again.
                Ok(()) => Verdict::Ended(Delivery::NotGranted),
                Err(ended) => Verdict::Ended(ended),
            }
        } else if self.capabilities.pipelining {
            let commands = format!("{mail}{rcpt}DATA\r\n");
            self.write(commands.as_bytes(), Stage::Mail, self.timeouts.command).await?;
            let (replies, granted) = tokio::join!(self.three_replies(), gate);
            *opened = granted;
            replies?
        } else {
            let commands = [(&*mail, Stage::Mail), (&*rcpt, Stage::Rcpt)];
            if let Err(ended) = self.one_by_one(commands).await? {
                return Ok(ended);
            }
            *opened = gate.await;
            if !*opened {
                return Ok(Delivery::NotGranted);
            }
            judge_data(self.command("DATA\r\n", Stage::Data, self.timeouts.data).await?)
        };
        Ok(match verdict {
            Verdict::Ready if *opened => self.hand_over(message).await,
            Verdict::Ready => {
                // 354 has come: only closing the connection ends DATA without a dot.
                self.usable = false;
                Delivery::NotGranted
            }
            Verdict::Ended(delivery) => delivery,
            Verdict::LoneDot(refused) => {
                let ended = self.command(".\r\n", Stage::Data, self.timeouts.data).await;
                self.usable &= ended.is_ok_and(|answer| answer.code != 421);
                refused
            }
        })
    }

    /// With CHUNKING: MAIL and RCPT, and the gate beside them where they are pipelined.
    async fn before_chunk(
        &mut self,
        mail: &str,
        rcpt: &str,
        gate: impl Future<Output = bool>,
        opened: &mut bool,
    ) -> Result<Result<(), Delivery>, Failure> {
        if !self.capabilities.pipelining {
            let answered = self.one_by_one([(mail, Stage::Mail), (rcpt, Stage::Rcpt)]).await?;
            if answered.is_ok() {
                *opened = gate.await;
            }
            return Ok(answered);
        }
        self.write(format!("{mail}{rcpt}").as_bytes(), Stage::Mail, self.timeouts.command).await?;
        let (answered, granted) = tokio::join!(self.two_replies(), gate);
        *opened = granted;
        answered
    }

    /// The answers to pipelined MAIL and RCPT.
    async fn two_replies(&mut self) -> Result<Result<(), Delivery>, Failure> {
        let mail = self.reply(Stage::Mail, self.timeouts.command).await?;
        if mail.code == 421 {
            return Ok(Err(Delivery::Refused(Stage::Mail, mail)));
        }
        let rcpt = self.reply(Stage::Rcpt, self.timeouts.command).await?;
        Ok(accepted(Stage::Mail, mail).and_then(|()| accepted(Stage::Rcpt, rcpt)))
    }

    /// The answers to pipelined MAIL, RCPT and DATA. After 421 the server hangs up: the others may never come.
    async fn three_replies(&mut self) -> Result<Verdict, Failure> {
        let mail = self.reply(Stage::Mail, self.timeouts.command).await?;
        if mail.code == 421 {
            return Ok(Verdict::Ended(Delivery::Refused(Stage::Mail, mail)));
        }
        let rcpt = self.reply(Stage::Rcpt, self.timeouts.command).await?;
        if rcpt.code == 421 {
            return Ok(Verdict::Ended(Delivery::Refused(Stage::Rcpt, rcpt)));
        }
        let data = self.reply(Stage::Data, self.timeouts.data).await?;
        Ok(judge(mail, rcpt, data))
    }

    /// Without PIPELINING: the inner error is the answer that ends it.
    async fn one_by_one(&mut self, commands: [(&str, Stage); 2]) -> Result<Result<(), Delivery>, Failure> {
        for (command, stage) in commands {
            let reply = self.command(command, stage, self.timeouts.command).await?;
            if let Err(ended) = accepted(stage, reply) {
                return Ok(Err(ended));
            }
        }
        Ok(Ok(()))
    }
}

/// Whether a connection that has served before died, or was closed by the server, before it heard of this message.
fn died_idle(delivery: &Delivery) -> bool {
    match delivery {
        Delivery::Failed(Stage::Rset, _) => true,
        Delivery::Failed(Stage::Mail, trouble) => !matches!(trouble, Trouble::Protocol(_)),
        Delivery::Refused(Stage::Mail, reply) => reply.code == 421,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
