//! Asking name servers: the host's own, or one that is named.
//!
//! Not responsible for what is asked (`doctor/names.rs`, `recipients.rs`). To change how patient a question is: `ONE_ANSWER`.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// One question to one name server.
const ONE_ANSWER: Duration = Duration::from_secs(2);

/// Whoever asks this name server, or the host's own.
///
/// # Errors
/// The host's own cannot be read.
pub(crate) fn resolver(name_server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match name_server {
        None => TokioResolver::builder_tokio()?,
        Some(at) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = at.port();
                connection
            });
            let server = NameServerConfig::new(at.ip(), true, connections.into());
            TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(vec![server]),
                TokioRuntimeProvider::default(),
            )
        }
    };
    builder.options_mut().timeout = ONE_ANSWER;
    builder.build()
}
