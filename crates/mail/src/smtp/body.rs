//! The DATA form of a message (RFC 5321 4.5.2): dots doubled, every line ended by CRLF, nothing that could end it early;
//! and its BDAT form (RFC 3030), the same without a thought of dots.
//!
//! Bare CR and LF become CRLF, so that no server on the way can see a line end that we do not (SMTP smuggling).
//! Not responsible for the final dot.

/// Appends `message` in its DATA form, ended by CRLF.
pub(super) fn stuff(message: &[u8], out: &mut Vec<u8>) {
    write(message, true, out);
}

/// Appends `message` as a chunk holds it, ended by CRLF.
pub(super) fn plain(message: &[u8], out: &mut Vec<u8>) {
    write(message, false, out);
}

fn write(message: &[u8], doubles_dots: bool, out: &mut Vec<u8>) {
    out.reserve(message.len() + message.len() / 64 + 8);
    let mut line_start = true;
    let mut at = 0;
    while at < message.len() {
        let rest = &message[at..];
        if doubles_dots && line_start && rest[0] == b'.' {
            out.push(b'.');
        }
        let length = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..length]);
        if length == rest.len() {
            line_start = false;
            break;
        }
        out.extend_from_slice(b"\r\n");
        at += length + if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
        line_start = true;
    }
    if !line_start || message.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::fuzz;

    fn stuffed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        stuff(message, &mut out);
        out
    }

    #[test]
    fn dots_are_doubled_and_lines_ended() {
        assert_eq!(stuffed(b".a\r\n..\r\nb."), b"..a\r\n...\r\nb.\r\n");
        assert_eq!(stuffed(b"a\n.\nb\r.\rc"), b"a\r\n..\r\nb\r\n..\r\nc\r\n");
        assert_eq!(stuffed(b""), b"\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n");
    }

    /// Lines as an independent reader sees them: each ended by CRLF.
    fn lines(out: &[u8]) -> Vec<&[u8]> {
        let mut lines = Vec::new();
        let mut rest = out;
        while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        assert!(rest.is_empty(), "the last line is ended too");
        lines
    }

    /// The message with each CRLF, CR and LF as one CRLF, and one at its end.
    fn canonical(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut after_cr = false;
        for byte in message {
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
                other => out.push(*other),
            }
            after_cr = *byte == b'\r';
        }
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn fuzz_no_body_ends_data_and_none_changes() {
        const WORDS: &[&[u8]] =
            &[b"\r", b"\n", b".", b"\r\n", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"a", b"..", b"\0", b"\xff"];
        bolero::check!(name = "bodies").with_iterations(5_000).for_each(|input: &[u8]| {
            for message in [input.to_vec(), fuzz::spell(input, WORDS)] {
                let out = stuffed(&message);
                let lines = lines(&out);
                for line in &lines {
                    assert!(!line.contains(&b'\r') && !line.contains(&b'\n'), "a bare line end");
                    assert!(*line != b".", "a lone dot ends DATA");
                }
                let plain = |line: &&[u8]| [line.strip_prefix(b".").unwrap_or(line), b"\r\n"].concat();
                let mut chunk = Vec::new();
                super::plain(&message, &mut chunk);
                assert_eq!(chunk, canonical(&message));
                assert_eq!(lines.iter().map(plain).collect::<Vec<_>>().concat(), canonical(&message));
            }
        });
    }
}
