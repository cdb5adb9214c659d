//! The DATA form of a message (RFC 5321 4.5.2): dots doubled, every line ended by CRLF, nothing that could end it early.
//!
//! Bare CR and LF become CRLF, so that no server on the way can see a line end that we do not (SMTP smuggling).
//! Not responsible for the final dot.

/// Appends `message` in its DATA form, ended by CRLF.
pub(super) fn stuff(message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + message.len() / 64 + 8);
    let mut line_start = true;
    let mut at = 0;
    while at < message.len() {
        let rest = &message[at..];
        if line_start && rest[0] == b'.' {
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn no_body_ends_data_and_none_changes(message in prop::collection::vec(prop::sample::select(b"\r\n.ab\0\xff".to_vec()), 0..60)) {
            let out = stuffed(&message);
            prop_assert!(out.ends_with(b"\r\n"));
            let text: Vec<&[u8]> = split(&out);
            for line in &text {
                prop_assert!(!line.contains(&b'\r') && !line.contains(&b'\n'), "a bare line end");
                prop_assert!(*line != b".", "a lone dot ends DATA");
            }
            let back: Vec<u8> = text.iter().map(|line| line.strip_prefix(b".").unwrap_or(line)).collect::<Vec<_>>().join(&b"\n"[..]);
            let mut canonical: Vec<u8> = String::from_utf8_lossy(&message).replace("\r\n", "\n").replace('\r', "\n").into_bytes();
            if canonical.last() != Some(&b'\n') { canonical.push(b'\n'); }
            canonical.pop();
            prop_assert_eq!(String::from_utf8_lossy(&back).into_owned(), String::from_utf8_lossy(&canonical).into_owned());
        }
    }

    fn split(out: &[u8]) -> Vec<&[u8]> {
        let mut lines = Vec::new();
        let mut rest = out;
        while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        assert!(rest.is_empty());
        lines
    }
}
