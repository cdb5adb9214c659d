//! Splits a source into literal text, outputs `{{ … }}` and tags `{% … %}`, with white-space control.
//!
//! Not responsible for what stands inside them (`expression`, `compile`). To add a delimiter: `pieces`.

use super::{ParseError, error_at};

/// A piece of a source; offsets are into the source.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// Text that is written as it is.
    Text(&'a str),
    /// The inside of `{{ … }}` and where it begins.
    Output(&'a str, usize),
    /// A tag's name, its arguments, and where the tag begins.
    Tag(&'a str, &'a str, usize),
}

pub(super) fn pieces(source: &str) -> Result<Vec<Piece<'_>>, ParseError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    while at < source.len() {
        let rest = &source[at..];
        let (text_len, opener) = opener(rest).map_or((rest.len(), None), |(at, closer)| (at, Some(closer)));
        let begin = at + text_len;
        let inside = source.get(begin + 2..).unwrap_or("");
        let mut text = &rest[..text_len];
        if trim_next {
            text = text.trim_start();
        }
        if opener.is_some() && inside.starts_with('-') {
            text = text.trim_end();
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        let Some(closer) = opener else { break };
        let what = if closer == "}}" { "{{" } else { "{%" };
        let length = closing(inside, closer)
            .ok_or_else(|| error_at(source, begin, format!("`{what}` is never closed (hint: write `{closer}`)")))?;
        let body = &inside[..length];
        trim_next = body.ends_with('-') && body.len() > usize::from(body.starts_with('-'));
        let body = body.strip_prefix('-').unwrap_or(body);
        let body = if trim_next { body.strip_suffix('-').unwrap_or(body) } else { body };
        at = begin + 2 + length + 2;
        if closer == "}}" {
            pieces.push(Piece::Output(body.trim(), begin));
            continue;
        }
        let body = body.trim();
        let (name, arguments) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
        if name == "raw" || name == "comment" {
            let (skipped, after) = verbatim(source, at, name, begin)?;
            if name == "raw" {
                pieces.push(Piece::Text(skipped));
            }
            at = after;
            continue;
        }
        pieces.push(Piece::Tag(name, arguments.trim(), begin));
    }
    Ok(pieces)
}

/// Where the next output or tag begins, and what closes it.
fn opener(text: &str) -> Option<(usize, &'static str)> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'{', bytes).find_map(|at| match bytes.get(at + 1) {
        Some(b'{') => Some((at, "}}")),
        Some(b'%') => Some((at, "%}")),
        _ => None,
    })
}

/// Length up to `closer`, passing over quoted strings; a quote that is never closed counts as a letter.
fn closing(inside: &str, closer: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut closes = inside.find(closer)?;
    let mut at = 0;
    while at < closes {
        let Some(quote) = memchr::memchr2(b'"', b'\'', &bytes[at..closes]).map(|offset| at + offset) else { break };
        at = quote + 1;
        let Some(length) = memchr::memchr(bytes[quote], &bytes[at..]) else { continue };
        if at + length < closes || !bytes[at..at + length].contains(&b'\n') {
            at += length + 1;
        }
        // The closer was sought behind `at` only where a string has swallowed it: all is read once.
        if at > closes {
            closes = at + inside[at..].find(closer)?;
        }
    }
    Some(closes)
}

/// The text up to `{% endNAME %}` and the offset behind it.
fn verbatim<'a>(source: &'a str, from: usize, name: &str, begin: usize) -> Result<(&'a str, usize), ParseError> {
    let mut at = from;
    let skip = |text: &'a str| text.trim_start_matches(|c: char| c == '-' || c.is_whitespace());
    while let Some(open) = source[at..].find("{%").map(|o| at + o) {
        at = open + 2;
        let end = skip(&source[at..]).strip_prefix("end").and_then(|rest| rest.strip_prefix(name)).map(skip);
        if let Some(behind) = end.and_then(|rest| rest.strip_prefix("%}")) {
            return Ok((&source[from..open], source.len() - behind.len()));
        }
    }
    Err(error_at(source, begin, format!("`{{% {name} %}}` has no `{{% end{name} %}}`")))
}
