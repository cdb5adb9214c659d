//! The sink's certificate: made at start, for this host alone, trusted by whoever is given its PEM file.
//!
//! Not responsible for when TLS begins (`session`).

use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

/// A fresh certificate and what serves it.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    /// The certificate, which is its own authority.
    pub(super) certificate_pem: String,
}

/// Makes a certificate for `localhost`, `127.0.0.1` and `::1`.
pub(super) fn identity() -> anyhow::Result<Identity> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), certificate_pem: made.cert.pem() })
}
