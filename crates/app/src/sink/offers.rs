//! What the sink offers its clients: extensions, TLS, log-in.
//!
//! Not responsible for the dialogue (`session`). To add an extension: a variant of `Extension` and its line in `lines`.

use std::io;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use clap::ValueEnum;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::TlsAcceptor;

use super::tls;

/// Largest message taken unless told otherwise, in bytes.
pub(crate) const MAX_SIZE: usize = 64 << 20;

/// When TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    /// Never.
    #[default]
    None,
    /// When the client asks for it.
    Starttls,
    /// With the first byte.
    Implicit,
}

/// An extension that can be left out of the answer to EHLO, to see what clients do without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extension {
    /// Commands in bursts (RFC 2920).
    Pipelining,
    /// Messages with their length before them (RFC 3030).
    Chunking,
    /// Bytes beyond ASCII in messages (RFC 6152).
    #[value(name = "8bitmime")]
    EightBitMime,
    /// Addresses beyond ASCII (RFC 6531).
    Smtputf8,
    /// Size given ahead (RFC 1870).
    Size,
    /// Log-in (RFC 4954).
    Auth,
}

/// What is offered; by default every extension, no TLS, and log-in for whoever wants it.
pub(crate) struct Offers {
    pub(super) tls: Tls,
    pub(super) acceptor: Option<TlsAcceptor>,
    /// The certificate (PEM) to trust, where there is TLS.
    pub(crate) certificate_pem: Option<String>,
    /// The user name and password asked for; none: any log-in is good, and none is needed.
    pub(crate) login: Option<(String, SecretString)>,
    /// Extensions that are not offered.
    pub(crate) hidden: Vec<Extension>,
    /// Largest message, in bytes.
    pub(crate) max_size: usize,
}

impl Default for Offers {
    fn default() -> Self {
        let (tls, max_size) = (Tls::None, MAX_SIZE);
        Self { tls, acceptor: None, certificate_pem: None, login: None, hidden: Vec::new(), max_size }
    }
}

impl Offers {
    /// The default with TLS, for which a certificate is made.
    ///
    /// # Errors
    /// Where none can be made.
    pub(crate) fn with_tls(tls: Tls) -> anyhow::Result<Self> {
        if tls == Tls::None {
            return Ok(Self::default());
        }
        let identity = tls::identity()?;
        let (acceptor, certificate_pem) = (Some(identity.acceptor), Some(identity.certificate_pem));
        Ok(Self { tls, acceptor, certificate_pem, ..Self::default() })
    }

    pub(super) fn hides(&self, extension: Extension) -> bool {
        self.hidden.contains(&extension)
    }

    pub(super) fn is_implicit_tls(&self) -> bool {
        self.tls == Tls::Implicit
    }

    pub(super) fn acceptor(&self) -> io::Result<&TlsAcceptor> {
        self.acceptor.as_ref().ok_or_else(|| io::Error::other("no certificate was made"))
    }

    pub(super) fn asks_for_login(&self) -> bool {
        self.login.is_some()
    }

    pub(super) fn lets_in(&self, user: &[u8], password: &[u8]) -> bool {
        self.login.as_ref().is_none_or(|(name, secret)| {
            name.as_bytes() == user && verify_slices_are_equal(secret.expose_secret().as_bytes(), password).is_ok()
        })
    }

    /// Whether STARTTLS is offered on a connection.
    pub(super) fn has_starttls(&self, is_protected: bool) -> bool {
        self.tls == Tls::Starttls && !is_protected
    }

    /// The lines of the answer to EHLO behind the first; there is at least one.
    pub(super) fn lines(&self, is_protected: bool) -> Vec<String> {
        let hideable = [
            (Extension::Pipelining, "PIPELINING".to_owned()),
            (Extension::Chunking, "CHUNKING".to_owned()),
            (Extension::EightBitMime, "8BITMIME".to_owned()),
            (Extension::Smtputf8, "SMTPUTF8".to_owned()),
            (Extension::Size, format!("SIZE {}", self.max_size)),
            (Extension::Auth, "AUTH PLAIN LOGIN".to_owned()),
        ];
        let offered = hideable.into_iter().filter(|(extension, _)| !self.hides(*extension)).map(|(_, line)| line);
        let starttls = self.has_starttls(is_protected).then(|| "STARTTLS".to_owned());
        offered.chain(starttls).chain(["ENHANCEDSTATUSCODES".to_owned()]).collect()
    }
}
