//! The byte stream under a dialogue: plain TCP or TLS, and whom TLS trusts.
//!
//! Not responsible for the dialogue. Certificates are checked always; there is no switch to skip that.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Trouble;

/// Whom TLS trusts: the host's certificate store, and the operator's own authorities.
#[derive(Clone)]
pub struct Trust {
    connector: TlsConnector,
}

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("certificate file `{0}` cannot be read: {1} (hint: a PEM file with CERTIFICATE blocks)")]
pub struct TrustError(String, String);

impl Trust {
    /// Loads the host's store, and the PEM file `extra` where there is one.
    ///
    /// # Errors
    /// Where `extra` holds no certificate.
    pub fn load(extra: Option<&Path>) -> Result<Self, TrustError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = extra {
            let wrong = |e: String| TrustError(path.display().to_string(), e);
            let mut found = 0;
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
                roots.add(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
                found += 1;
            }
            if found == 0 {
                return Err(wrong("no certificate in it".into()));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> Result<Box<TlsStream<TcpStream>>, Trouble> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Trouble::Tls(e.to_string()))?;
        self.connector.connect(name, stream).await.map(Box::new).map_err(|e| Trouble::Tls(e.to_string()))
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

/// What a dialogue runs over.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {
    /// The bare socket, for TLS to be put on; none where there is TLS already.
    fn into_tcp(self: Box<Self>) -> Option<TcpStream>;
}

impl Bytes for TcpStream {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        Some(*self)
    }
}

impl Bytes for TlsStream<TcpStream> {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        None
    }
}

#[cfg(test)]
impl Bytes for tokio::io::DuplexStream {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        None
    }
}
