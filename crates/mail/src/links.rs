//! Rewrites the links of a rendered HTML part for click tracking and adds the pixel; every other byte stays.
//!
//! A scanner rather than a parser: it runs for each message. It knows comments (conditional ones of Outlook are left
//! alone), elements whose content is no markup, and quotes. Not responsible for tokens. To leave a kind of link
//! alone: `is_tracked`.

use memchr::memchr;

/// Rewrites `href`s of `a` and `area` that lead to http or https.
///
/// `track` gives the new URL for a destination, or none to leave the link as it is. Links with `data-no-track` and
/// What is tracked already and the way out, below the tracker's base `own`, are left alone.
pub fn rewrite(html: &str, own: &str, mut track: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(html.len() + 1024);
    let mut from = 0;
    scan(html, |tag| {
        let Some((start, end)) = tag.href else { return };
        if tag.no_track {
            return;
        }
        let destination = decode(&html[start..end]);
        let destination = destination.trim();
        if !is_tracked(destination, own) {
            return;
        }
        if let Some(url) = track(destination) {
            out.push_str(&html[from..start]);
            crate::template::escape(&url, &mut out);
            from = end;
        }
    });
    out.push_str(&html[from..]);
    out
}

/// Puts `addition` before the last `</body>`, or at the end where there is none.
pub fn before_body_end(html: &mut String, addition: &str) {
    let lower = html.to_ascii_lowercase();
    let at = lower.rfind("</body").unwrap_or(html.len());
    html.insert_str(at, addition);
}

/// The destinations of all links, for a look at what a template holds.
pub fn destinations(html: &str) -> Vec<String> {
    let mut found = Vec::new();
    scan(html, |tag| {
        if let Some((start, end)) = tag.href {
            found.push(decode(&html[start..end]).trim().to_owned());
        }
    });
    found
}

fn is_tracked(destination: &str, own: &str) -> bool {
    let path = destination.strip_prefix(own).unwrap_or("");
    let is_ours = path.starts_with("/api/track/") || path == "/unsubscribe" || path.starts_with("/unsubscribe?");
    crate::token::is_destination(destination) && !is_ours
}

/// An `a` or `area` tag: where its href's value stands, and whether it asks to be left alone.
struct Tag {
    href: Option<(usize, usize)>,
    no_track: bool,
}

fn scan(html: &str, mut found: impl FnMut(Tag)) {
    let bytes = html.as_bytes();
    let mut at = 0;
    while let Some(open) = memchr(b'<', &bytes[at..]).map(|o| at + o) {
        let rest = &html[open..];
        if let Some(body) = rest.strip_prefix("<!--") {
            // HTML also ends a comment right there: `<!-->` and `<!--->`.
            let length = if body.starts_with('>') {
                Some(0)
            } else if body.starts_with("->") {
                Some(1)
            } else {
                body.find("-->").map(|o| o + 2)
            };
            let Some(length) = length else { return };
            at = open + 4 + length + 1;
            continue;
        }
        let name_len = bytes[open + 1..].iter().take_while(|b| !b.is_ascii_whitespace() && !b"/>".contains(b)).count();
        let name = &rest[1..1 + name_len];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            // An end tag, a declaration, or a lone `<`.
            at = open + 1;
            continue;
        }
        let (tag, end) = attributes(html, open + 1 + name_len);
        if name.eq_ignore_ascii_case("a") || name.eq_ignore_ascii_case("area") {
            found(tag);
        }
        at = end;
        if ["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"]
            .iter()
            .any(|raw| name.eq_ignore_ascii_case(raw))
        {
            let Some(close) = find_close(&html[end..], name) else { return };
            at = end + close;
        }
    }
}

fn find_close(html: &str, name: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(open) = html[at..].find("</").map(|o| at + o) {
        let inside = html.as_bytes().get(open + 2..open + 2 + name.len());
        if inside.is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes())) {
            return Some(open);
        }
        at = open + 2;
    }
    None
}

/// Reads attributes up to the tag's `>`; the first of a name counts. Returns the offset behind the tag.
fn attributes(html: &str, mut at: usize) -> (Tag, usize) {
    let bytes = html.as_bytes();
    let mut tag = Tag { href: None, no_track: false };
    loop {
        while bytes.get(at).is_some_and(|b| b.is_ascii_whitespace() || *b == b'/') {
            at += 1;
        }
        match bytes.get(at) {
            None => return (Tag { href: None, no_track: true }, at),
            Some(b'>') => return (tag, at + 1),
            Some(_) => {}
        }
        let name_start = at;
        // A leading `=` belongs to the name.
        at += 1;
        while bytes.get(at).is_some_and(|b| !b.is_ascii_whitespace() && !b"/>=".contains(b)) {
            at += 1;
        }
        let name = &bytes[name_start..at];
        let mut next = at;
        while bytes.get(next).is_some_and(u8::is_ascii_whitespace) {
            next += 1;
        }
        let mut value = None;
        if bytes.get(next) == Some(&b'=') {
            next += 1;
            while bytes.get(next).is_some_and(u8::is_ascii_whitespace) {
                next += 1;
            }
            let (start, end, behind) = attribute_value(bytes, next);
            value = Some((start, end));
            at = behind;
        }
        if name.eq_ignore_ascii_case(b"href") && tag.href.is_none() {
            tag.href = value;
        } else if name.eq_ignore_ascii_case(b"data-no-track") {
            tag.no_track = true;
        }
    }
}

/// Start and end of a value, and the offset behind it.
fn attribute_value(bytes: &[u8], at: usize) -> (usize, usize, usize) {
    match bytes.get(at) {
        Some(&quote @ (b'"' | b'\'')) => {
            let end = memchr(quote, &bytes[at + 1..]).map_or(bytes.len(), |o| at + 1 + o);
            (at + 1, end, (end + 1).min(bytes.len()))
        }
        _ => {
            let length = bytes[at..].iter().take_while(|b| !b.is_ascii_whitespace() && **b != b'>').count();
            (at, at + length, at + length)
        }
    }
}

/// Decodes the character references that URLs hold: named ones of markup, and numbers.
fn decode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(amp) = rest.find('&') {
        out.push_str(&rest[..amp]);
        rest = &rest[amp..];
        let end = rest.find(';').filter(|e| *e <= 10);
        let decoded = end.and_then(|e| reference(&rest[1..e]).map(|c| (c, e)));
        match decoded {
            Some((c, end)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "sol" => '/',
        "colon" => ':',
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
