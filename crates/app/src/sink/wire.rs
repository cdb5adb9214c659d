//! Bytes of one SMTP connection: bounded lines and messages in, replies gathered and out.
//!
//! Not responsible for what lines mean (`session`). Replies leave when the client has nothing more under way, so a
//! pipelined burst is answered in one segment (RFC 2920 3.2).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr, memmem};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest command line taken; RFC 5321 4.5.3.1.4 asks for 512, RFC 4954 for 12,288.
const MAX_LINE: usize = 12_288;
/// Replies are written at the latest when so much has been gathered.
const MAX_OUTPUT: usize = 16 * 1024;

/// What a connection runs over.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A command line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(Bytes),
    /// Over `MAX_LINE`; it was thrown away up to its end.
    TooLong,
}

/// What came between 354 and the final dot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The message with dots unstuffed (RFC 5321 4.5.2).
    Whole(Bytes),
    /// Over the limit; it was thrown away up to its end.
    TooBig,
    /// The client went away before the final dot.
    Cut,
}

pub(super) struct Wire {
    stream: Stream,
    input: BytesMut,
    output: Vec<u8>,
    is_skipping: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::over(Stream::Plain(stream))
    }

    fn over(stream: Stream) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new(), is_skipping: false }
    }

    /// TLS from here on. What the client sent ahead in plain text is thrown away (RFC 3207 6).
    pub(super) async fn protect(mut self, acceptor: &TlsAcceptor) -> io::Result<Self> {
        self.flush().await?;
        match self.stream {
            Stream::Plain(tcp) => acceptor.accept(tcp).await.map(|tls| Self::over(Stream::Tls(Box::new(tls)))),
            Stream::Tls(_) => Err(io::Error::other("TLS within TLS")),
        }
    }

    pub(super) fn is_protected(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// A line that is there already.
    pub(super) fn buffered_line(&mut self) -> Option<Line> {
        let Some(end) = memchr(b'\n', &self.input) else {
            if self.input.len() > MAX_LINE {
                self.input.clear();
                self.is_skipping = true;
            }
            return None;
        };
        let line = self.input.split_to(end + 1).freeze();
        if std::mem::take(&mut self.is_skipping) || line.len() > MAX_LINE {
            return Some(Line::TooLong);
        }
        let line = line.slice(..end);
        Some(Line::Text(line.strip_suffix(b"\r").map_or(line.clone(), |text| line.slice(..text.len()))))
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for more bytes, replies sent before; false where the client has closed. May be dropped without loss.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        self.flush().await?;
        self.input.reserve(16 * 1024);
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }

    /// Reads a message up to its final dot; only CRLF . CRLF is one, whatever else the client takes for it.
    pub(super) async fn body(&mut self, limit: usize) -> io::Result<Body> {
        while self.input.len() < 3 {
            if !self.fill().await? {
                return Ok(Body::Cut);
            }
        }
        if self.input.starts_with(b".\r\n") {
            self.input.advance(3);
            return Ok(Body::Whole(Bytes::new()));
        }
        let mut scanned = 0;
        let mut is_too_big = false;
        loop {
            if let Some(at) = memmem::find(&self.input[scanned..], b"\r\n.\r\n") {
                let raw = self.input.split_to(scanned + at + 2).freeze();
                self.input.advance(3);
                return Ok(if is_too_big || raw.len() > limit { Body::TooBig } else { Body::Whole(unstuff(raw)) });
            }
            // The final dot may be under way in part.
            scanned = self.input.len().saturating_sub(4);
            if self.input.len() > limit {
                is_too_big = true;
                self.input.advance(scanned);
                scanned = 0;
            }
            if !self.fill().await? {
                return Ok(Body::Cut);
            }
        }
    }

    /// The next `size` bytes, whatever they are.
    pub(super) async fn chunk(&mut self, size: usize, limit: usize) -> io::Result<Body> {
        let is_too_big = size > limit;
        let mut left = size;
        while is_too_big && left > 0 || self.input.len() < left {
            if is_too_big {
                let length = left.min(self.input.len());
                self.input.advance(length);
                left -= length;
            }
            if left > 0 && !self.fill().await? {
                return Ok(Body::Cut);
            }
        }
        Ok(if is_too_big { Body::TooBig } else { Body::Whole(self.input.split_to(size).freeze()) })
    }

    /// Puts a reply behind those that wait to be written; it ends with CRLF.
    pub(super) async fn reply(&mut self, text: &str) -> io::Result<()> {
        self.output.extend_from_slice(text.as_bytes());
        if self.output.len() > MAX_OUTPUT { self.flush().await } else { Ok(()) }
    }

    /// Writes the replies that wait.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        // A write that is dropped half way must not say the same twice, so each part is forgotten once it is written.
        while !self.output.is_empty() {
            let written = self.stream.write(&self.output).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.output.drain(..written);
        }
        self.stream.flush().await
    }

    /// Closes in order: the client reads everything up to here, then the end.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }

    /// Closes with RST: what the client has not read yet is lost.
    pub(super) fn reset(self) -> io::Result<()> {
        match self.stream {
            Stream::Plain(tcp) => tcp.set_zero_linger(),
            Stream::Tls(tls) => tls.get_ref().0.set_zero_linger(),
        }
    }
}

/// Takes the dot away that the client put before each line that begins with one.
fn unstuff(raw: Bytes) -> Bytes {
    if !raw.starts_with(b".") && memmem::find(&raw, b"\r\n.").is_none() {
        return raw;
    }
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw.strip_prefix(b".").unwrap_or(&raw);
    while let Some(at) = memmem::find(rest, b"\r\n.") {
        plain.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    plain.extend_from_slice(rest);
    plain.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Wire::new(listener.accept().await.unwrap().0))
    }

    async fn line(wire: &mut Wire) -> Option<Line> {
        loop {
            if let Some(line) = wire.buffered_line() {
                return Some(line);
            }
            if !wire.fill().await.unwrap() {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn lines_are_bounded_and_split() {
        let (mut client, mut wire) = pair().await;
        client.write_all(b"EHLO x\r\nNOOP\n\r\n").await.unwrap();
        for expected in ["EHLO x", "NOOP", ""] {
            assert_eq!(line(&mut wire).await, Some(Line::Text(Bytes::from_static(expected.as_bytes()))));
        }
        client.write_all(&[b'a'; 3 * MAX_LINE]).await.unwrap();
        client.write_all(b"\r\nQUIT\r\n").await.unwrap();
        assert_eq!(line(&mut wire).await, Some(Line::TooLong));
        assert_eq!(line(&mut wire).await, Some(Line::Text(Bytes::from_static(b"QUIT"))));
        drop(client);
        assert_eq!(line(&mut wire).await, None);
    }

    #[tokio::test]
    async fn only_a_dot_between_two_line_ends_is_the_end() {
        let (mut client, mut wire) = pair().await;
        for (sent, expected) in [
            (".\r\n", ""),
            ("a\r\n.\r\n", "a\r\n"),
            ("..\r\n.\r\n", ".\r\n"),
            ("a\n.\nb\r.\r\n.\n\r\n.\r\n", "a\n.\nb\r.\r\n\n\r\n"),
            ("..a\r\n...\r\n.\r\n", ".a\r\n..\r\n"),
            ("\r\n.\r\n", "\r\n"),
        ] {
            client.write_all(sent.as_bytes()).await.unwrap();
            assert_eq!(wire.body(100).await.unwrap(), Body::Whole(Bytes::from(expected)), "{sent:?}");
        }
        client.write_all(&[b'a'; 1000]).await.unwrap();
        client.write_all(b"\r\n.\r\nabc\r\n.").await.unwrap();
        assert_eq!(wire.body(100).await.unwrap(), Body::TooBig);
        drop(client);
        assert_eq!(wire.body(100).await.unwrap(), Body::Cut);
    }

    #[tokio::test]
    async fn a_chunk_is_told_by_its_length_alone() {
        let (mut client, mut wire) = pair().await;
        client.write_all(b"a\r\n.\r\nQUIT\r\n").await.unwrap();
        assert_eq!(wire.chunk(6, 6).await.unwrap(), Body::Whole(Bytes::from_static(b"a\r\n.\r\n")));
        assert_eq!(line(&mut wire).await, Some(Line::Text(Bytes::from_static(b"QUIT"))));
        assert_eq!(wire.chunk(0, 6).await.unwrap(), Body::Whole(Bytes::new()));
        client.write_all(&[b'a'; 1000]).await.unwrap();
        client.write_all(b"NOOP\r\nabc").await.unwrap();
        assert_eq!(wire.chunk(1000, 6).await.unwrap(), Body::TooBig);
        assert_eq!(line(&mut wire).await, Some(Line::Text(Bytes::from_static(b"NOOP"))));
        drop(client);
        assert_eq!(wire.chunk(6, 6).await.unwrap(), Body::Cut);
    }

    proptest! {
        #[test]
        fn unstuffing_undoes_stuffing(lines in proptest::collection::vec("[.a]{0,4}", 0..6)) {
            let plain: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let stuffed: String = lines
                .iter()
                .map(|line| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") })
                .collect();
            prop_assert_eq!(unstuff(Bytes::from(stuffed)), Bytes::from(plain));
        }
    }
}
