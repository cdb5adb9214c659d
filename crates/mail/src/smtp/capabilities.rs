//! What a server offers in its EHLO reply (RFC 5321 4.1.1.1).
//!
//! Not responsible for using it. To add an extension: a field and its keyword in `parse`.

/// The extensions that matter to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2920: MAIL, RCPT and DATA in one go.
    pub pipelining: bool,
    /// RFC 3030: a message with its length before it.
    pub chunking: bool,
    /// RFC 6531: non-ASCII local parts.
    pub smtputf8: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 1870: largest message; none = not told.
    pub size: Option<u64>,
    /// RFC 4954: PLAIN is offered.
    pub auth_plain: bool,
    /// LOGIN is offered.
    pub auth_login: bool,
    /// XOAUTH2 is offered.
    pub auth_xoauth2: bool,
}

impl Capabilities {
    /// From the lines of a 250 reply to EHLO, without their codes; the first is the greeting.
    pub fn parse(lines: &[String]) -> Self {
        let mut found = Self::default();
        for line in lines.iter().skip(1) {
            // Old servers write `AUTH=PLAIN`.
            let upper = line.to_ascii_uppercase().replace("AUTH=", "AUTH ");
            let mut words = upper.split_whitespace();
            match words.next() {
                Some("PIPELINING") => found.pipelining = true,
                Some("CHUNKING") => found.chunking = true,
                Some("SMTPUTF8") => found.smtputf8 = true,
                Some("STARTTLS") => found.starttls = true,
                // `SIZE 0` and a bare `SIZE` mean no limit.
                Some("SIZE") => found.size = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0),
                Some("AUTH") => {
                    for mechanism in words {
                        found.auth_plain |= mechanism == "PLAIN";
                        found.auth_login |= mechanism == "LOGIN";
                        found.auth_xoauth2 |= mechanism == "XOAUTH2";
                    }
                }
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case() {
        let lines: Vec<String> = [
            "mail.example PIPELINING",
            "pipelining",
            "SIZE 1000",
            "AUTH=LOGIN",
            "auth PLAIN XOAUTH2",
            "StartTLS",
            "SMTPUTF8",
            "Chunking",
        ]
        .map(String::from)
        .into();
        let all = Capabilities {
            pipelining: true,
            chunking: true,
            smtputf8: true,
            starttls: true,
            size: Some(1000),
            auth_plain: true,
            auth_login: true,
            auth_xoauth2: true,
        };
        assert_eq!(Capabilities::parse(&lines), all);
        assert_eq!(Capabilities::parse(&lines[..1]), Capabilities::default(), "the greeting is no keyword");
        assert_eq!(Capabilities::parse(&["x".into(), "SIZE 0".into()]).size, None);
    }
}
