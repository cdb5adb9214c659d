//! What a failed answer of Redis means, sorted by who must act.
//!
//! To add an answer: its kind or code in `error`.

use std::error::Error as _;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind as Server};

use crate::error::Error;

/// Longest text of the server that is passed on.
const TEXT_LIMIT: usize = 200;

/// The crate's error for a failed `call`.
pub(super) fn error(call: &'static str, e: &RedisError) -> Error {
    let refused = || Error::RedisRefused { call, message: text(e) };
    match e.kind() {
        ErrorKind::Io if is_about_certificates(e) => refused(),
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel
        | ErrorKind::Server(
            Server::BusyLoading
            | Server::MasterDown
            | Server::ClusterDown
            | Server::TryAgain
            | Server::ReadOnly
            | Server::Moved
            | Server::Ask
            | Server::NoScript,
        ) => Error::RedisUnavailable(text(e)),
        // The limit of connections has no code of its own.
        ErrorKind::Server(Server::ResponseError) if text(e).contains("max number of clients") => {
            Error::RedisUnavailable(text(e))
        }
        _ => match e.code() {
            Some("OOM") => Error::RedisFull(text(e)),
            // A script that runs for too long, too few replicas, a snapshot that cannot be written.
            Some("BUSY" | "NOREPLICAS" | "MISCONF") => Error::RedisUnavailable(text(e)),
            _ => refused(),
        },
    }
}

/// Whether the connection must be given up: it is broken, or leads to a server that is no longer the master.
pub(super) fn is_connection_lost(e: &RedisError) -> bool {
    let wrong_server = matches!(e.kind(), ErrorKind::Server(Server::ReadOnly | Server::MasterDown));
    e.is_io_error() || e.is_unrecoverable_error() || wrong_server
}

/// Whether a key has a type that the command does not work on.
pub(super) fn is_wrong_type(e: &RedisError) -> bool {
    e.code() == Some("WRONGTYPE")
}

/// Whether the server does not know the script.
pub(super) fn is_unknown_script(e: &RedisError) -> bool {
    e.kind() == ErrorKind::Server(Server::NoScript)
}

/// A certificate that is not trusted does not become so by waiting.
fn is_about_certificates(e: &RedisError) -> bool {
    // The client shares its causes, and an io::Error hides what it was made of from `source`.
    let shared = e.source().and_then(|cause| cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let io = shared.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let tls = io.and_then(|io| io.get_ref()).and_then(|inner| inner.downcast_ref());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// Code and words; arguments that a server repeats are cut off, since they may be payloads.
fn text(e: &RedisError) -> String {
    let text = match (e.code(), e.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => e.to_string(),
    };
    let text = text.split(", with args").next().unwrap_or_default();
    text.chars().take(TEXT_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        error("lease", &value.extract_error().unwrap_err())
    }

    #[test]
    fn answers_that_pass_by_themselves_are_transient() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "NOSCRIPT No matching script. Please use EVAL.",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "CLUSTERDOWN The cluster is down",
            "ERR max number of clients reached",
        ] {
            let error = answer(line);
            assert!(matches!(error, Error::RedisUnavailable(_)) && error.is_transient(), "{line}: {error}");
        }
        let full = answer("OOM command not allowed when used memory > 'maxmemory'.");
        assert!(matches!(full, Error::RedisFull(_)) && full.is_transient());
    }

    #[test]
    fn answers_that_need_a_person_are_not() {
        for line in ["NOAUTH Authentication required.", "NOPERM this user has no permissions", "ERR syntax error"] {
            let error = answer(line);
            assert!(matches!(error, Error::RedisRefused { .. }) && !error.is_transient(), "{line}: {error}");
        }
    }

    #[test]
    fn arguments_are_not_repeated() {
        let text = answer("ERR unknown command `X`, with args beginning with: `secret`").to_string();
        assert!(text.contains("unknown command") && !text.contains("secret"), "{text}");
    }
}
