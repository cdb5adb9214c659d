//! URLs of SMTP servers: `smtp://user@host:587?tls=starttls`, `smtps://user@host`.
//!
//! Not responsible for passwords: they never stand in a URL, and no error shows one that did.
//! To add an option: an arm for its key in `FromStr`.

use std::net::IpAddr;
use std::str::FromStr;

use domain::email_account::{LogInMethod, SmtpSettings, TlsMode};

/// Where and how mail is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SmtpUrl {
    /// Host name or address.
    pub(crate) host: String,
    /// Port; 587 or, with TLS from the first byte, 465 where the URL gives none.
    pub(crate) port: u16,
    /// How the connection is protected.
    pub(crate) tls: TlsMode,
    /// Log-in name.
    pub(crate) user: Option<String>,
    /// How it logs in.
    pub(crate) auth: LogInMethod,
}

/// A text that is no URL of an SMTP server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SmtpUrlError {
    /// Neither scheme.
    #[error("URL must begin with `smtp://` or `smtps://` (hint: smtp://user@mail.acme.test:587?tls=starttls)")]
    Scheme,
    /// A password in it.
    #[error(
        "URL holds a password, which must not stand in a file or on a command line (hint: remove it and name a variable: password_env = \"SMTP_PASSWORD\")"
    )]
    Password,
    /// No host, or none that could be one.
    #[error("URL names no valid host (hint: smtp://user@mail.acme.test:587)")]
    Host,
    /// Not a port.
    #[error("port `{0}` is not a number from 1 to 65535")]
    Port(String),
    /// A path or a fragment.
    #[error("URL has a path or a fragment, which means nothing here (hint: remove what follows the port)")]
    Path,
    /// An option that is not known.
    #[error("option `{0}` is not known (hint: tls=none, tls=starttls or tls=implicit; auth=xoauth2)")]
    Option(String),
    /// Not a kind of TLS.
    #[error("`{0}` is not a kind of TLS (hint: tls=none, tls=starttls or tls=implicit)")]
    Tls(String),
    /// Not a way to log in.
    #[error("`{0}` is not a way to log in (hint: auth=password or auth=xoauth2)")]
    Auth(String),
    /// A way to log in, and nobody who does.
    #[error("URL says how to log in, but has no log-in name (hint: smtp://user@…)")]
    AuthWithoutUser,
    /// `smtps://` with another kind of TLS.
    #[error("`smtps://` means TLS from the first byte (hint: write smtp:// for tls={0}, or leave tls out)")]
    Contradiction(TlsMode),
    /// A log-in name that is none.
    #[error("log-in name is empty, badly encoded or holds a control character (hint: write `@` as %40)")]
    User,
}

impl FromStr for SmtpUrl {
    type Err = SmtpUrlError;

    fn from_str(text: &str) -> Result<Self, SmtpUrlError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(SmtpUrlError::Scheme)?;
        let is_implicit = match scheme.to_ascii_lowercase().as_str() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(SmtpUrlError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // The last `@`: people write the one of an address as it is.
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user_name(user)?), authority),
            None => (None, rest),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '#']) || query.contains('#') {
            return Err(SmtpUrlError::Path);
        }
        let (host, port) = host_and_port(authority)?;
        let (tls, auth) = options(is_implicit, query)?;
        if user.is_none() && auth != LogInMethod::DEFAULT {
            return Err(SmtpUrlError::AuthWithoutUser);
        }
        let default_port = if tls == TlsMode::Implicit { 465 } else { 587 };
        Ok(Self { host, port: port.unwrap_or(default_port), tls, user, auth })
    }
}

impl SmtpUrl {
    /// As an account stores it, still without its password.
    pub(crate) fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: self.host.clone(),
            port: self.port,
            tls: self.tls,
            user: self.user.clone(),
            auth: self.auth,
            password: None,
        }
    }
}

fn user_name(text: &str) -> Result<String, SmtpUrlError> {
    if text.contains(':') {
        return Err(SmtpUrlError::Password);
    }
    let user = percent_decode(text).ok_or(SmtpUrlError::User)?;
    if user.is_empty() || user.chars().any(char::is_control) { Err(SmtpUrlError::User) } else { Ok(user) }
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), SmtpUrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or(SmtpUrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| SmtpUrlError::Host)?;
            let port = match behind.strip_prefix(':') {
                Some(port) => Some(port),
                None if behind.is_empty() => None,
                None => return Err(SmtpUrlError::Host),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if !is_host(host) {
        return Err(SmtpUrlError::Host);
    }
    let port = port.map(|text| match text.parse::<u16>() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(SmtpUrlError::Port(text.chars().take(16).collect())),
    });
    Ok((host.to_lowercase(), port.transpose()?))
}

/// An address, or a name whose labels could stand in DNS; underscores are seen in container networks.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.trim_end_matches('.').split('.').all(is_label))
}

fn options(is_implicit: bool, query: &str) -> Result<(TlsMode, LogInMethod), SmtpUrlError> {
    let mut auth = LogInMethod::DEFAULT;
    let mut tls = if is_implicit { TlsMode::Implicit } else { TlsMode::Starttls };
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "tls" => tls = value.parse().map_err(|_| SmtpUrlError::Tls(value.chars().take(16).collect()))?,
            "auth" => auth = value.parse().map_err(|_| SmtpUrlError::Auth(value.chars().take(16).collect()))?,
            // The value is not shown: it may be a password.
            _ => return Err(SmtpUrlError::Option(key.chars().take(16).collect())),
        }
    }
    if is_implicit && tls != TlsMode::Implicit { Err(SmtpUrlError::Contradiction(tls)) } else { Ok((tls, auth)) }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'%' {
            let (digits, behind) = rest.split_first_chunk::<2>()?;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
            rest = behind;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_have_sensible_defaults() {
        for (text, host, port, tls, user) in [
            ("smtp://mail.acme.test", "mail.acme.test", 587, TlsMode::Starttls, None),
            ("smtps://ana@mail.acme.test/", "mail.acme.test", 465, TlsMode::Implicit, Some("ana")),
            (
                "smtp://ana%40acme.test@Mail.Acme.Test:25?tls=none",
                "mail.acme.test",
                25,
                TlsMode::None,
                Some("ana@acme.test"),
            ),
            ("smtp://ana@acme.test@mail.acme.test", "mail.acme.test", 587, TlsMode::Starttls, Some("ana@acme.test")),
            ("smtp://h?tls=implicit", "h", 465, TlsMode::Implicit, None),
            ("SMTP://[::1]:2525?tls=none", "::1", 2525, TlsMode::None, None),
            ("smtp://mail_1:2525", "mail_1", 2525, TlsMode::Starttls, None),
        ] {
            let auth = LogInMethod::Password;
            let expected = SmtpUrl { host: host.into(), port, tls, user: user.map(Into::into), auth };
            assert_eq!(text.parse::<SmtpUrl>(), Ok(expected), "{text}");
        }
        let token: SmtpUrl = "smtp://ana@h?tls=starttls&auth=xoauth2".parse().unwrap();
        assert_eq!(token.settings().auth, LogInMethod::Xoauth2);
    }

    #[test]
    fn bad_urls_name_their_rule_and_never_show_a_password() {
        for (text, error) in [
            ("mail.acme.test:587", SmtpUrlError::Scheme),
            ("http://mail.acme.test", SmtpUrlError::Scheme),
            ("smtp://ana:hunter2@mail.acme.test", SmtpUrlError::Password),
            ("smtp://ana:p@ss@mail.acme.test", SmtpUrlError::Password),
            ("smtp://", SmtpUrlError::Host),
            ("smtp://ana@", SmtpUrlError::Host),
            ("smtp://[::1", SmtpUrlError::Host),
            ("smtp://a b", SmtpUrlError::Host),
            ("smtp://-a.test", SmtpUrlError::Host),
            ("smtp://h:0", SmtpUrlError::Port("0".into())),
            ("smtp://h:99999", SmtpUrlError::Port("99999".into())),
            ("smtp://h:", SmtpUrlError::Port(String::new())),
            ("smtp://h/inbox", SmtpUrlError::Path),
            ("smtp://h?password=hunter2", SmtpUrlError::Option("password".into())),
            ("smtp://h?tls=yes", SmtpUrlError::Tls("yes".into())),
            ("smtps://h?tls=starttls", SmtpUrlError::Contradiction(TlsMode::Starttls)),
            ("smtp://ana@h?auth=oauth", SmtpUrlError::Auth("oauth".into())),
            ("smtp://h?auth=xoauth2", SmtpUrlError::AuthWithoutUser),
            ("smtp://@h", SmtpUrlError::User),
            ("smtp://a%0a@h", SmtpUrlError::User),
            ("smtp://a%4@h", SmtpUrlError::User),
        ] {
            let found = text.parse::<SmtpUrl>().unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!found.to_string().contains("hunter2"));
        }
    }
}
