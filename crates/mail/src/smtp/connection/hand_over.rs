//! The message and its final dot, after 354 and an open gate; with CHUNKING the last chunk, which ends with its last octet.
//!
//! *Unknown* begins when writing the final octets has begun (of a chunk: the last one); any trouble before that is surely not sent. So the client
//! listens while it writes: a server that breaks off (552 in the middle of the body) is heard before it hangs up, and
//! an answer that comes before the dot is never taken for the answer to it.
//! To add another way of handing over: a constructor of `Outgoing`.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, timeout};

use super::dialogue::network;
use super::{Connection, LAST_WORDS};
use crate::smtp::{Delivery, Stage, Trouble, body};

/// Bytes that are written within one limit.
const BLOCK: usize = 64 << 10;

/// A message on its way out.
struct Outgoing {
    data: Vec<u8>,
    /// Where the final octets begin.
    dot: usize,
    written: usize,
    /// Whether any of the final octets may have left us.
    dot_begun: bool,
}

impl Outgoing {
    fn data(message: &[u8]) -> Self {
        let mut data = Vec::new();
        body::stuff(message, &mut data);
        let dot = data.len();
        data.extend_from_slice(b".\r\n");
        Self { data, dot, written: 0, dot_begun: false }
    }

    /// The whole message as one chunk: a server has it once its last octet has come.
    fn chunk(message: &[u8]) -> Self {
        let mut chunk = Vec::new();
        body::plain(message, &mut chunk);
        let data = [format!("BDAT {} LAST\r\n", chunk.len()).as_bytes(), &chunk].concat();
        Self { dot: data.len() - 1, data, written: 0, dot_begun: false }
    }
}

impl Connection {
    /// Writes the message to its end, and hears the answer.
    pub(super) async fn hand_over(&mut self, message: &[u8]) -> Delivery {
        let chunked = self.capabilities.chunking;
        let mut outgoing = if chunked { Outgoing::chunk(message) } else { Outgoing::data(message) };
        let began = Instant::now();
        let mut written = Ok(());
        // The dot goes with the last block: a write of its own would cost each small message a packet and a wake-up.
        while written.is_ok() && outgoing.written < outgoing.data.len() {
            written = self.write_block(&mut outgoing).await;
        }
        self.passed(Stage::Body, began);
        match written {
            Ok(()) => self.last_reply().await,
            Err(trouble) => self.last_words(trouble, outgoing.dot_begun).await,
        }
    }

    async fn write_block(&mut self, outgoing: &mut Outgoing) -> Result<(), Trouble> {
        let limit = self.timeouts.block;
        let end = outgoing.data.len().min(outgoing.written + BLOCK);
        let writing = async {
            while outgoing.written < end {
                poll_fn(|context| self.poll_push(context, outgoing, end)).await?;
            }
            self.stream.flush().await.map_err(|e| network(&e))
        };
        timeout(limit, writing).await.unwrap_or(Err(Trouble::Timeout(limit)))
    }

    /// Writes what the stream takes, unless the server has spoken or left.
    fn poll_push(&mut self, cx: &mut Context<'_>, outgoing: &mut Outgoing, end: usize) -> Poll<Result<(), Trouble>> {
        const EARLY: Trouble = Trouble::Protocol("an answer before the end of the message");
        if self.parser.has_surplus() {
            return Poll::Ready(Err(EARLY));
        }
        let mut space = [0; 512];
        let mut heard = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut heard) {
            Poll::Pending => {}
            Poll::Ready(Err(e)) => return Poll::Ready(Err(network(&e))),
            Poll::Ready(Ok(())) if heard.filled().is_empty() => return Poll::Ready(Err(Trouble::Closed)),
            Poll::Ready(Ok(())) => {
                self.parser.feed(heard.filled());
                return Poll::Ready(Err(EARLY));
            }
        }
        // TLS may encrypt and send all that it is given and fail all the same; TCP sends what it says that it took.
        outgoing.dot_begun |= self.protected && end > outgoing.dot;
        let pushed = Pin::new(&mut self.stream).poll_write(cx, &outgoing.data[outgoing.written..end]);
        pushed.map(|result| match result {
            Ok(0) => Err(Trouble::Closed),
            Ok(n) => {
                outgoing.written += n;
                outgoing.dot_begun |= outgoing.written > outgoing.dot;
                Ok(())
            }
            Err(e) => Err(network(&e)),
        })
    }

    /// The message was not written to its end: hears what the server has to say about it, as Postfix does.
    async fn last_words(&mut self, trouble: Trouble, dot_begun: bool) -> Delivery {
        self.usable = false;
        let stage = if dot_begun { Stage::Dot } else { Stage::Body };
        match self.reply(stage, LAST_WORDS).await {
            Ok(reply) if reply.is_negative() => Delivery::Refused(stage, reply),
            _ if dot_begun => Delivery::Unknown(trouble),
            _ => Delivery::Failed(stage, trouble),
        }
    }

    async fn last_reply(&mut self) -> Delivery {
        match self.reply(Stage::Dot, self.timeouts.dot).await {
            Ok(reply) if reply.is_positive() => {
                self.dirty = false;
                Delivery::Accepted(reply)
            }
            Ok(reply) if reply.is_negative() => {
                // After a chunk that was refused only RSET makes it clear where the server stands (RFC 3030 2).
                self.dirty = self.capabilities.chunking;
                Delivery::Refused(Stage::Dot, reply)
            }
            Ok(_) => Delivery::Unknown(Trouble::Protocol("the dot was answered by 3xx")),
            Err((_, trouble)) => Delivery::Unknown(trouble),
        }
    }
}
