//! Reaching a server that has several addresses (RFC 8305): families take turns, and a dead address holds up no other.
//!
//! Not responsible for which addresses may be reached (`target`) or for the limit over all of it (`open`).
//! To change who is tried first: `take_turns`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long an address is tried alone before the next one joins in (RFC 8305 5).
pub(super) const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses that are tried.
const MOST: usize = 8;

/// At most eight of these, the families in turn, beginning with that of the first one.
pub(super) fn take_turns(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = found.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<SocketAddr>, Vec<SocketAddr>) = found.iter().partition(|a| a.is_ipv6() == first);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut order = Vec::new();
    while order.len() < found.len().min(MOST) {
        order.extend(preferred.next());
        order.extend(others.next());
    }
    order.truncate(MOST);
    order
}

/// The first connection that stands. Each address is begun `STAGGER` after the one before it, or as soon as one has
/// failed; those that are slower are dropped.
///
/// # Errors
/// The last one's, once all have failed.
pub(super) async fn race<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut waiting = addresses.into_iter();
    let mut under_way = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match waiting.next() {
            Some(address) => drop(under_way.spawn(connect(address))),
            None if under_way.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            biased;
            Some(ended) = under_way.join_next() => match ended.unwrap_or_else(|e| Err(io::Error::other(e))) {
                Ok(connection) => return Ok(connection),
                Err(e) => last = e,
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}
