//! Reads replies (RFC 5321 4.2) within bounds, forgiving where servers are sloppy and strict where it matters.
//!
//! Forgiven: lines ended by LF alone, no text behind the code, Latin-1, NUL, 20 KiB of text. Not forgiven: lines
//! without end before the code is known, other codes within one reply, what is no reply at all.
//! To add an extension of replies: a field of `Reply`, read in `finish`.

/// Longest line whose text is kept; the rest of it is read and dropped.
const MAX_LINE: usize = 8 << 10;
/// Most bytes of one reply.
const MAX_REPLY: usize = 64 << 10;
/// Most lines of one reply.
const MAX_LINES: usize = 128;
/// What is kept of a reply's text.
const MAX_TEXT: usize = 1024;

/// A server's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// Class, subject, detail (RFC 3463), where the text begins with one.
    pub enhanced: Option<(u16, u16, u16)>,
    /// The text of all lines, joined by spaces: valid UTF-8 without control characters, at most 1 KiB.
    pub text: String,
}

impl Reply {
    /// Whether the code is 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the code is 4xx or 5xx. What is neither positive nor negative (3xx) belongs to few stages only.
    pub fn is_negative(&self) -> bool {
        self.code >= 400
    }

    /// The enhanced code as text, e.g. `5.1.1`.
    pub fn enhanced_text(&self) -> Option<String> {
        self.enhanced.map(|(class, subject, detail)| format!("{class}.{subject}.{detail}"))
    }
}

/// Collects bytes until a reply is whole.
#[derive(Debug, Default)]
pub struct ReplyParser {
    buffer: Vec<u8>,
    lines: Vec<Vec<u8>>,
    code: Option<u16>,
    size: usize,
    bare_lf: bool,
}

impl ReplyParser {
    /// Takes bytes from the server.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether bytes of a further reply have come already.
    pub fn has_surplus(&self) -> bool {
        !self.buffer.is_empty() || !self.lines.is_empty()
    }

    /// Whether a line so far ended with LF alone.
    pub fn has_seen_bare_lf(&self) -> bool {
        self.bare_lf
    }

    /// The next whole reply, if there is one.
    ///
    /// # Errors
    /// What makes it no reply; the connection is of no use then.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, &'static str> {
        Ok(self.next_lines()?.map(|(code, lines)| finish(code, &lines)))
    }

    /// The next whole reply as its lines without the code.
    ///
    /// # Errors
    /// As `next_reply`.
    pub fn next_lines(&mut self) -> Result<Option<(u16, Vec<String>)>, &'static str> {
        loop {
            let room = MAX_REPLY - self.size;
            let end = memchr::memchr(b'\n', &self.buffer[..room.min(self.buffer.len())]);
            // Judged before the line's end has come and after it alike: what is read must not depend on the packets.
            if end.unwrap_or(self.buffer.len()) > MAX_LINE && code_of(&self.buffer).is_none() {
                return Err("a line without end");
            }
            let Some(end) = end else {
                return if self.buffer.len() > room { Err("a reply without end") } else { Ok(None) };
            };
            let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.size += line.len();
            self.bare_lf |= !line.ends_with(b"\r\n");
            while matches!(line.last(), Some(b'\n' | b'\r')) {
                line.pop();
            }
            line.truncate(MAX_LINE);
            if let Some(reply) = self.take_line(line)? {
                self.size = 0;
                return Ok(Some(reply));
            }
        }
    }

    fn take_line(&mut self, line: Vec<u8>) -> Result<Option<(u16, Vec<String>)>, &'static str> {
        let code = code_of(&line).ok_or("a line that is no reply")?;
        if self.code.is_some_and(|first| first != code) {
            return Err("a reply with two codes");
        }
        if self.lines.len() >= MAX_LINES {
            return Err("a reply with too many lines");
        }
        self.code = Some(code);
        let more = line.get(3) == Some(&b'-');
        self.lines.push(line);
        if more {
            return Ok(None);
        }
        self.code = None;
        let lines = std::mem::take(&mut self.lines);
        Ok(Some((code, lines.iter().map(|line| clean(line.get(4..).unwrap_or(&[]))).collect())))
    }
}

/// Three digits, then a space, a hyphen or nothing.
fn code_of(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    let separated = matches!(line.get(3), None | Some(b' ' | b'-' | b'\r' | b'\n'));
    if !digits.iter().all(u8::is_ascii_digit) || !separated || !(b'2'..=b'5').contains(&digits[0]) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Valid UTF-8 without control characters; other bytes are read as Latin-1.
fn clean(bytes: &[u8]) -> String {
    let text: String = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // The last character was cut in two with its line: that does not make it Latin-1.
        Err(e) if e.error_len().is_none() && bytes.len() > MAX_TEXT => {
            String::from_utf8_lossy(&bytes[..e.valid_up_to()]).into_owned()
        }
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

fn finish(code: u16, lines: &[String]) -> Reply {
    let enhanced = lines.first().and_then(|line| enhanced(line, code));
    let mut text = String::new();
    for line in lines {
        let shown = match (enhanced, line.split_once(' ')) {
            // The enhanced code stands on every line of a reply.
            (Some(_), Some((first, rest))) if self::enhanced(first, code).is_some() => rest,
            (Some(_), None) if self::enhanced(line, code).is_some() => "",
            _ => line,
        };
        if !text.is_empty() && !shown.is_empty() {
            text.push(' ');
        }
        text.push_str(shown);
    }
    while text.len() > MAX_TEXT {
        text.pop();
    }
    Reply { code, enhanced, text }
}

fn enhanced(line: &str, code: u16) -> Option<(u16, u16, u16)> {
    let mut parts = line.split(' ').next()?.split('.').map(|part| {
        let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    });
    let found = (parts.next()??, parts.next()??, parts.next()??);
    // A class that contradicts the code is no enhanced code.
    (parts.next().is_none() && found.0 == code / 100).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replies::classify;
    use crate::smtp::{Stage, fuzz};

    fn read(bytes: &[u8]) -> Result<Option<Reply>, &'static str> {
        let mut parser = ReplyParser::default();
        parser.feed(bytes);
        parser.next_reply()
    }

    fn reply(bytes: &[u8]) -> (u16, Option<String>, String) {
        let reply = read(bytes).unwrap().unwrap();
        (reply.code, reply.enhanced_text(), reply.text)
    }

    #[test]
    fn usual_and_sloppy_replies_are_read() {
        assert_eq!(reply(b"250 2.1.0 Ok\r\n"), (250, Some("2.1.0".into()), "Ok".into()));
        assert_eq!(reply(b"250\r\n"), (250, None, String::new()));
        assert_eq!(reply(b"250 Ok\n"), (250, None, "Ok".into()), "fs25: LF alone");
        assert_eq!(
            reply(b"550-5.1.1 No such user\r\n550-5.1.1 really\r\n550 5.1.1 not\r\n"),
            (550, Some("5.1.1".into()), "No such user really not".into()),
            "fs14: texts are joined"
        );
        assert_eq!(reply(b"250 gr\xfc\xdf\0e\r\n"), (250, None, "grüße".into()), "fs22: Latin-1 and NUL");
        assert_eq!(reply(b"250 5.1.1 odd\r\n"), (250, None, "5.1.1 odd".into()), "class contradicts code");
        let mut long = b"250 ".to_vec();
        long.extend(vec![b'x'; 20 << 10]);
        long.extend(b"\r\n");
        let (code, _, text) = reply(&long);
        assert_eq!((code, text.len()), (250, 1024), "fs23: 20 KB of text");
        let long = format!("250 x{}\r\n", "ü".repeat(10 << 10));
        assert!(reply(long.as_bytes()).2.starts_with("xüü"), "a cut character leaves the others alone");
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"2500 Ok\r\n",
            b"25 Ok\r\n",
            b"650 Ok\r\n",
            b"250-a\r\n251 b\r\n",
            b"\r\n",
        ] {
            assert!(read(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read(&vec![b'x'; 9 << 10]), Err("a line without end"), "fs04");
        assert_eq!(read(&b"250-x\r\n".repeat(129)), Err("a reply with too many lines"), "fs05");
        assert_eq!(read(&[b"220 ".to_vec(), vec![b'x'; 65 << 10]].concat()), Err("a reply without end"));
    }

    #[test]
    fn fs26_replies_come_in_any_pieces() {
        let bytes = b"250-a\r\n250 b\r\n421 4.3.2 bye\r\n";
        let mut parser = ReplyParser::default();
        let mut seen = Vec::new();
        for byte in bytes {
            parser.feed(&[*byte]);
            while let Some(reply) = parser.next_reply().unwrap() {
                seen.push(reply.code);
            }
        }
        assert_eq!(seen, [250, 421]);
        assert!(!parser.has_surplus());
    }

    /// What is read of these bytes when they come in pieces: the replies, and the trouble that ends them.
    fn replies(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> (Vec<Reply>, Option<&'static str>) {
        let (mut parser, mut found) = (ReplyParser::default(), Vec::new());
        for piece in pieces {
            let piece = piece.as_ref();
            parser.feed(piece);
            loop {
                match parser.next_reply() {
                    Ok(Some(reply)) => found.push(reply),
                    Ok(None) => break,
                    Err(trouble) => return (found, Some(trouble)),
                }
            }
            assert!(parser.buffer.len() + parser.size <= MAX_REPLY, "what waits for its end is bounded");
            assert!(parser.lines.len() <= MAX_LINES);
        }
        (found, None)
    }

    #[test]
    fn fuzz_replies() {
        const WORDS: &[&[u8]] = &[
            b"250 ",
            b"250-",
            b"250",
            b"\r\n",
            b"\n",
            b"\r",
            b"550-5.1.1 ",
            b"550 5.1.1 ",
            b"421 4.3.2 bye\r\n",
            b"354 go\r\n",
            b"2",
            b"5",
            b"4.7.1",
            b".",
            b"-",
            b" ",
            b"x",
            b"\0",
            b"\xff",
            "\u{fc}\u{df}".as_bytes(),
            b"HTTP/1.1 400 Bad\r\n",
            &[b'y'; 1000],
            &[b' '; 9000],
            b"250-z\r\n250-z\r\n250-z\r\n250-z\r\n250-z\r\n250-z\r\n250-z\r\n250-z\r\n250-z\r\n",
        ];
        bolero::check!(name = "replies").with_iterations(2_000).for_each(|input: &[u8]| {
            for bytes in [input.to_vec(), fuzz::spell(input, WORDS)] {
                let whole = replies([&bytes]);
                assert_eq!(whole, replies(fuzz::pieces(&bytes, input)), "in other pieces");
                // Each byte looks through all that wait: long ones are left to the corpus.
                if bytes == input || bytes.len() < 1000 {
                    assert_eq!(whole, replies(bytes.chunks(1)), "byte by byte");
                }
                for reply in whole.0 {
                    assert!((200..600).contains(&reply.code) && reply.text.len() <= MAX_TEXT);
                    assert!(!reply.text.chars().any(char::is_control));
                    for stage in Stage::ALL {
                        assert!(reply.code < 400 || classify(stage, &reply).is_some(), "each refusal has its rule");
                    }
                }
            }
        });
    }
}
