//! SMTP commands as the sink reads them (RFC 5321 4.1, with SIZE, BODY, SMTPUTF8, AUTH and BDAT).
//!
//! Not responsible for their order or effect (`session`). To add one: a variant, and an arm in `parse`.

/// A command that is well formed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ehlo,
    Helo,
    StartTls,
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
    Mail {
        from: &'a str,
        size: Option<u64>,
    },
    Rcpt {
        to: &'a str,
    },
    Data,
    /// RFC 3030: so many bytes follow at once.
    Bdat {
        size: usize,
        last: bool,
    },
    Rset,
    Noop,
    Vrfy,
    Quit,
}

/// Why a line is no command: the reply to it, without CRLF.
pub(super) type Refused = &'static str;

const SYNTAX: Refused = "501 5.5.4 syntax error in parameters";

/// Reads a command line; names of commands and parameters in any case.
pub(super) fn parse(line: &str) -> Result<Command<'_>, Refused> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" if !rest.is_empty() => Ok(Command::Ehlo),
        "HELO" if !rest.is_empty() => Ok(Command::Helo),
        "EHLO" | "HELO" => Err(SYNTAX),
        "STARTTLS" => Ok(Command::StartTls),
        "AUTH" => {
            let (mechanism, initial) = rest.split_once(' ').map_or((rest, None), |(name, text)| (name, Some(text)));
            Ok(Command::Auth { mechanism, initial })
        }
        "MAIL" => mail(rest),
        "RCPT" => match path(rest, "TO:")? {
            ("", _) => Err(SYNTAX),
            (to, "") => Ok(Command::Rcpt { to }),
            _ => Err("555 5.5.4 parameter is unknown"),
        },
        "DATA" => Ok(Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => Ok(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "QUIT" => Ok(Command::Quit),
        _ => Err("500 5.5.2 command is unknown"),
    }
}

fn bdat(rest: &str) -> Result<Command<'_>, Refused> {
    let mut words = rest.split_whitespace();
    let size = words.next().and_then(|word| word.parse().ok()).ok_or(SYNTAX)?;
    let last = words.next().map(|word| word.eq_ignore_ascii_case("LAST"));
    match (last, words.next()) {
        (None | Some(true), None) => Ok(Command::Bdat { size, last: last.is_some() }),
        _ => Err(SYNTAX),
    }
}

fn mail(rest: &str) -> Result<Command<'_>, Refused> {
    let (from, parameters) = path(rest, "FROM:")?;
    let mut size = None;
    for parameter in parameters.split_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name.to_ascii_uppercase().as_str(), value.to_ascii_uppercase().as_str()) {
            ("SIZE", digits) => size = Some(digits.parse().map_err(|_| SYNTAX)?),
            ("BODY", "7BIT" | "8BITMIME") | ("SMTPUTF8", "") | ("AUTH", _) => {}
            _ => return Err("555 5.5.4 parameter is unknown"),
        }
    }
    Ok(Command::Mail { from, size })
}

/// The address between `<` and `>`, and what stands behind it. A quoted local part may hold both.
fn path<'a>(rest: &'a str, keyword: &str) -> Result<(&'a str, &'a str), Refused> {
    let (name, rest) = rest.split_at_checked(keyword.len()).ok_or(SYNTAX)?;
    if !name.eq_ignore_ascii_case(keyword) {
        return Err(SYNTAX);
    }
    let rest = rest.trim_start().strip_prefix('<').ok_or(SYNTAX)?;
    let mut is_quoted = false;
    let mut is_escaped = false;
    let end = rest.find(|c| {
        let is_end = c == '>' && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    let (address, behind) = rest.split_at(end.ok_or(SYNTAX)?);
    if address.chars().any(char::is_control) || !(address.is_empty() || address.contains('@')) {
        return Err("553 5.1.3 address is malformed");
    }
    Ok((address, behind[1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_case() {
        for (line, command) in [
            ("ehlo x.test", Command::Ehlo),
            ("MAIL FROM:<a@b.test>", Command::Mail { from: "a@b.test", size: None }),
            (
                "mail from: <a@b.test> size=12 Body=8bitmime SMTPUTF8",
                Command::Mail { from: "a@b.test", size: Some(12) },
            ),
            ("MAIL FROM:<>", Command::Mail { from: "", size: None }),
            ("RCPT TO:<\"a>\\\" b\"@b.test>", Command::Rcpt { to: "\"a>\\\" b\"@b.test" }),
            ("Rcpt To:<zoë@b.test>", Command::Rcpt { to: "zoë@b.test" }),
            ("AUTH PLAIN AGEAYg==", Command::Auth { mechanism: "PLAIN", initial: Some("AGEAYg==") }),
            ("AUTH LOGIN", Command::Auth { mechanism: "LOGIN", initial: None }),
            ("DATA", Command::Data),
            ("BDAT 7", Command::Bdat { size: 7, last: false }),
            ("bdat 0 last", Command::Bdat { size: 0, last: true }),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (line, code) in [
            ("", "500"),
            ("é", "500"),
            ("EHLO", "501"),
            ("MAIL", "501"),
            ("MAIL FROM:a@b.test", "501"),
            ("MAIL FROM:<a@b.test", "501"),
            ("MAIL FROM:<a@b.test> SIZE=x", "501"),
            ("MAIL FROM:<a@b.test> RET=HDRS", "555"),
            ("BDAT", "501"),
            ("BDAT -1", "501"),
            ("BDAT 1 FIRST", "501"),
            ("BDAT 1 LAST LAST", "501"),
            ("RCPT TO:<>", "501"),
            ("RCPT TO:<ana>", "553"),
            ("RCPT TÖ:<a@b.test>", "501"),
        ] {
            assert!(parse(line).unwrap_err().starts_with(code), "{line}");
        }
    }
}
