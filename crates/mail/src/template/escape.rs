//! Escapes values by the place they stand in, straight onto the output.
//!
//! Not responsible for finding the place (`context`). To add a place: an arm in `write`.

use super::Kind;
use super::context::Place;

/// Writes a text, or a piece of one, as `kind` and `place` want it. The URL that a `UrlStart` takes was checked before.
pub(super) fn write(text: &str, kind: Kind, place: Place, out: &mut String) {
    match (kind, place) {
        (Kind::Text, _) => out.push_str(text),
        (Kind::Header, _) => out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c })),
        (Kind::Html, Place::Markup | Place::UrlStart) => html(text, out),
        (Kind::Html, Place::Unquoted) => unquoted(text, out),
        (Kind::Html, Place::UrlPart) => percent(text, "", out),
        (Kind::Html, Place::Mailto) => percent(text, "@", out),
        (Kind::Html, Place::Forbidden) => {}
    }
}

/// Escapes for text and quoted attributes.
pub(super) fn html(text: &str, out: &mut String) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let reference = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(reference);
        from = at + 1;
    }
    out.push_str(&text[from..]);
}

fn unquoted(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.push(c);
        } else {
            out.push_str("&#");
            out.push_str(&u32::from(c).to_string());
            out.push(';');
        }
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986 2.3) and those in `kept`, which is ASCII.
pub(super) fn percent(text: &str, kept: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// Whether a text may be a link: a whole URL with a scheme that runs nothing.
pub(super) fn is_safe_url(text: &str) -> bool {
    let text = text.trim();
    let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let known = ["http://", "https://", "mailto:", "tel:"].into_iter().any(begins);
    known && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}
