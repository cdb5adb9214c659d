//! Ports for servers that a case stops and starts again on the same one.
//!
//! The system gives every other socket its port from a range of its own: one from below that range is still free when
//! the server comes back. Shared by the suites of two crates.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what Linux, BSD and macOS give to sockets that name no port.
const RANGE: std::ops::Range<u16> = 12_000..30_000;

/// A port that nobody listens on, and that no other case of this process gets.
pub fn free() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Suites that run side by side begin at different ones.
    let first = std::process::id() as usize * 97;
    loop {
        let place = (first + usize::from(GIVEN.fetch_add(1, Ordering::Relaxed))) % RANGE.len();
        let port = RANGE.start + u16::try_from(place).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
