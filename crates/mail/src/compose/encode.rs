//! Quoted-printable bodies (RFC 2045 6.7) and encoded words in headers (RFC 2047).
//!
//! Not responsible for which header or part. To add an encoding: a function here with its RFC section.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Longest line of quoted-printable, without its CRLF.
const LINE: usize = 76;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `text` as quoted-printable: line ends of any kind become CRLF, everything but printable ASCII is encoded,
/// a dot at the start of a line and `From ` too, which old programs on the way change.
pub fn quoted_printable(text: &str, out: &mut String) {
    for (index, line) in lines(text).enumerate() {
        if index > 0 {
            out.push_str("\r\n");
        }
        let bytes = line.as_bytes();
        let mut column = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let last = at + 1 == bytes.len();
            let plain = match byte {
                b'=' => false,
                b'.' => column > 0,
                b'F' => !(column == 0 && bytes[at..].starts_with(b"From ")),
                // White space at the end of a line is lost on the way.
                b' ' | b'\t' => !last,
                other => other.is_ascii_graphic(),
            };
            let width = if plain { 1 } else { 3 };
            // One column is kept for the soft line break, unless the line ends here.
            if column + width > LINE - usize::from(!last) {
                out.push_str("=\r\n");
                column = 0;
            }
            let escaped = !plain || (column == 0 && *byte == b'.');
            if escaped {
                out.push('=');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
                column += 3;
            } else {
                out.push(char::from(*byte));
                column += 1;
            }
        }
    }
}

/// Lines by CRLF, LF or CR alone.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        match current.find(['\r', '\n']) {
            Some(end) => {
                let width = if current[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = Some(&current[end + width..]);
                Some(&current[..end])
            }
            None => {
                rest = None;
                Some(current)
            }
        }
    })
}

/// A header's text: as it is where it is short printable ASCII, else as encoded words, folded.
///
/// `used` columns are taken on the first line. Control characters become spaces.
pub fn encoded_words(text: &str, used: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_plain = text.is_ascii() && !text.contains("=?") && text.trim() == text;
    if let Some(folded) = is_plain.then(|| fold(&text, used)).flatten() {
        return folded;
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut word = String::new();
    // 75 characters a word at most, 12 of them `=?utf-8?B??=`: 45 bytes make 60 characters.
    for c in text.chars() {
        let room = if out.is_empty() { 45_usize.saturating_sub(used * 3 / 4) } else { 45 };
        if word.len() + c.len_utf8() > room.max(12) {
            push_word(&mut out, &word);
            word.clear();
        }
        word.push(c);
    }
    push_word(&mut out, &word);
    out
}

fn push_word(out: &mut String, word: &str) {
    if !out.is_empty() {
        out.push_str("\r\n ");
    }
    out.push_str("=?utf-8?B?");
    BASE64.encode_string(word, out);
    out.push_str("?=");
}

/// Folds ASCII text at spaces to 78 columns; none where a word is too long for a line.
fn fold(text: &str, used: usize) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut column = used;
    for (index, word) in text.split(' ').enumerate() {
        if word.len() > 70 {
            return None;
        }
        if index > 0 {
            // An empty word stands for a second space in a row: no line may consist of white space alone.
            if column + 1 + word.len() > 77 && !word.is_empty() {
                out.push_str("\r\n");
                column = 0;
            }
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    Some(out)
}
