//! Writes a message (RFC 5322, MIME): headers, a text and an HTML part, always 7-bit, the same bytes for the same input.
//!
//! Every header value is made safe here: control characters become spaces, non-ASCII becomes encoded words, international
//! domains punycode. Not responsible for rendering (`assemble`). To add a header: `headers`.

mod encode;

use domain::address::EmailAddress;

pub use encode::{encoded_words, quoted_printable};

/// What a message is made of; all texts as rendered.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Name in From.
    pub from_name: Option<&'a str>,
    /// Address in From.
    pub from: &'a EmailAddress,
    /// Address in To.
    pub to: &'a EmailAddress,
    /// Address in Reply-To.
    pub reply_to: Option<&'a EmailAddress>,
    /// Subject.
    pub subject: &'a str,
    /// Value of Date (RFC 5322 3.3).
    pub date: &'a str,
    /// Message-ID with its brackets; also the seed of the boundary.
    pub message_id: &'a str,
    /// Message-IDs of earlier mails of the thread, oldest first.
    pub references: &'a [&'a str],
    /// The https URL of List-Unsubscribe; with it goes List-Unsubscribe-Post (RFC 8058).
    pub unsubscribe_url: Option<&'a str>,
    /// Value of Feedback-ID.
    pub feedback_id: Option<&'a str>,
    /// Text part.
    pub text: &'a str,
    /// HTML part.
    pub html: &'a str,
}

/// The message's bytes, lines ended by CRLF.
pub fn compose(parts: &Parts<'_>) -> Vec<u8> {
    let mut out = String::with_capacity(parts.html.len() * 5 / 4 + parts.text.len() * 5 / 4 + 2048);
    let boundary = boundary(parts.message_id);
    headers(parts, &boundary, &mut out);
    for (kind, body) in [("plain", parts.text), ("html", parts.html)] {
        out.push_str("\r\n--");
        out.push_str(&boundary);
        out.push_str("\r\nContent-Type: text/");
        out.push_str(kind);
        out.push_str("; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n");
        quoted_printable(body, &mut out);
    }
    out.push_str("\r\n--");
    out.push_str(&boundary);
    out.push_str("--\r\n");
    out.into_bytes()
}

/// `=_` cannot occur in quoted-printable text, so no body holds the boundary (RFC 2045 6.7).
fn boundary(message_id: &str) -> String {
    let seed: String = message_id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("=_{seed}")
}

fn headers(parts: &Parts<'_>, boundary: &str, out: &mut String) {
    header("From", &mailbox(parts.from_name, parts.from), out);
    header("To", &ascii_address(parts.to), out);
    if let Some(reply_to) = parts.reply_to {
        header("Reply-To", &ascii_address(reply_to), out);
    }
    header("Subject", &encoded_words(parts.subject, "Subject: ".len()), out);
    header("Date", parts.date, out);
    header("Message-ID", parts.message_id, out);
    if let Some(last) = parts.references.last() {
        header("In-Reply-To", last, out);
        header("References", &parts.references.join("\r\n "), out);
    }
    if let Some(url) = parts.unsubscribe_url {
        // A header is longer than 78 characters here: a URL must not be folded, and 998 is the limit.
        header("List-Unsubscribe", &format!("<{url}>"), out);
        header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click", out);
    }
    if let Some(feedback_id) = parts.feedback_id {
        header("Feedback-ID", feedback_id, out);
    }
    header("MIME-Version", "1.0", out);
    header("Content-Type", &format!("multipart/alternative;\r\n boundary=\"{boundary}\""), out);
}

fn header(name: &str, value: &str, out: &mut String) {
    out.push_str(name);
    out.push_str(": ");
    out.push_str(value);
    out.push_str("\r\n");
}

/// The address with its domain in ASCII; a local part that is not needs SMTPUTF8, which the SMTP client asks for.
pub fn ascii_address(address: &EmailAddress) -> String {
    format!("{}@{}", address.local(), address.domain_ascii())
}

fn mailbox(name: Option<&str>, address: &EmailAddress) -> String {
    let address = ascii_address(address);
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else { return address };
    let plain = name.is_ascii() && name.len() <= 60 && !name.chars().any(char::is_control);
    let phrase = if plain {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        encoded_words(name, "From: ".len())
    };
    // On a line of its own where the two together are long.
    let space = if phrase.len() + address.len() > 70 { "\r\n " } else { " " };
    format!("{phrase}{space}<{address}>")
}

#[cfg(test)]
mod tests;
