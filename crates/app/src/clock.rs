//! The process's clock and its chance: the only place that reads a clock or rolls dice.
//!
//! In scale-out the database tells the time, embedded the host: process time begins there, runs by the monotonic clock, and is moved forward
//! where that turns out to be ahead. Process time may run faster than real time (`--time-scale`), so lengths of ledger time and of real time are kept
//! apart: `span` turns real into process time. Decisions take what this returns as
//! arguments. To add a source of time: a variant of `Source`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::time::Timestamp;
use uuid::Uuid;

/// Time and chance for one process; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// Monotonic time since the anchor was read, `scale` times as fast, and what was caught up with in microseconds: never
    /// goes backwards.
    Running { anchor: Timestamp, started: Instant, scale: f64, caught_up: AtomicU64 },
    /// Stands still until it is set; ids count up.
    #[cfg(test)]
    Test { now: std::sync::Mutex<Timestamp>, ids: std::sync::atomic::AtomicU64 },
}

impl Clock {
    /// The host's time now, and from then on monotonic time.
    pub(crate) fn system() -> Self {
        Self::running(host_time(), 1.0)
    }

    /// Starts at `anchor` and runs `scale` times as fast as real time. In scale-out the anchor is the database's time.
    pub(crate) fn running(anchor: Timestamp, scale: f64) -> Self {
        Self(Arc::new(Source::Running { anchor, started: Instant::now(), scale, caught_up: AtomicU64::new(0) }))
    }

    /// A clock that stands at `now` until a test moves it.
    #[cfg(test)]
    pub(crate) fn test(now: Timestamp) -> Self {
        Self(Arc::new(Source::Test { now: now.into(), ids: 1.into() }))
    }

    /// Moves a test's clock; time does not go backwards.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        if let Source::Test { now, .. } = &*self.0 {
            let mut now = now.lock().unwrap();
            *now = *now + by;
        }
    }

    /// Process time.
    pub(crate) fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::Running { anchor, started, scale, caught_up } => {
                let caught_up = Duration::from_micros(caught_up.load(Ordering::Acquire));
                *anchor + started.elapsed().mul_f64(*scale) + caught_up
            }
            #[cfg(test)]
            Source::Test { now, .. } => *now.lock().unwrap(),
        }
    }

    /// Moves process time forward to `at`; nothing where it is there already.
    pub(crate) fn catch_up(&self, at: Timestamp) {
        match &*self.0 {
            Source::Running { caught_up, .. } => {
                // Read before the time is: of two at once only one adds what is missing.
                let before = caught_up.load(Ordering::Acquire);
                let behind = u64::try_from(at.since(self.now()).as_micros()).unwrap_or(0);
                let after = before.saturating_add(behind);
                let _another_did = caught_up.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed);
            }
            #[cfg(test)]
            // A test moves it, and nobody else: its databases tell the real time.
            Source::Test { .. } => {}
        }
    }

    /// How much process time passes during `real`: for leases and horizons that guard against real delays.
    pub(crate) fn span(&self, real: Duration) -> Duration {
        match &*self.0 {
            Source::Running { scale, .. } => real.mul_f64(*scale),
            #[cfg(test)]
            Source::Test { .. } => real,
        }
    }

    /// A fresh UUIDv7: ids made later sort later, to the millisecond (RFC 9562 5.7).
    pub(crate) fn uuid_v7(&self) -> Uuid {
        let bits = match &*self.0 {
            Source::Running { .. } => random_bytes(),
            #[cfg(test)]
            Source::Test { ids, .. } => {
                let mut bits = [0; 10];
                bits[2..].copy_from_slice(&ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes());
                bits
            }
        };
        let millis = u64::try_from(self.now().micros() / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
    }

    /// A random number from 0 (included) to 1 (not included).
    pub(crate) fn chance(&self) -> f64 {
        match &*self.0 {
            // 53 bits are what a double holds.
            Source::Running { .. } => (u64::from_be_bytes(random_bytes()) >> 11) as f64 / (1_u64 << 53) as f64,
            #[cfg(test)]
            Source::Test { .. } => 0.5,
        }
    }
}

/// The host's time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the host's clock")]
fn host_time() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since_epoch
}

/// Bytes nobody can foretell: for keys and ids.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's source of randomness works, or nothing here may go on");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_clock_never_goes_backwards_and_keeps_its_scale() {
        let clock = Clock::running(Timestamp::EPOCH, 3600.0);
        let (first, second) = (clock.now(), clock.now());
        assert!(Timestamp::EPOCH <= first && first <= second);
        assert_eq!(clock.span(Duration::from_secs(2)), Duration::from_secs(7200));
        assert!((0.0..1.0).contains(&clock.chance()));
        assert_eq!(clock.uuid_v7().get_version_num(), 7);
    }

    #[test]
    fn a_running_clock_catches_up_and_is_never_set_back() {
        let minute = Duration::from_secs(60);
        let clock = Clock::running(Timestamp::EPOCH, 1.0);
        clock.catch_up(Timestamp::EPOCH + minute);
        let ahead = clock.now();
        assert!(ahead >= Timestamp::EPOCH + minute, "it would take leases that are over for others");
        clock.catch_up(Timestamp::EPOCH + minute / 2);
        clock.catch_up(Timestamp::EPOCH + minute);
        assert!(clock.now() >= ahead && clock.now() < ahead + minute / 2, "each minute is made up for once");
    }

    #[test]
    fn a_test_clock_stands_until_it_is_moved() {
        let clock = Clock::test(Timestamp::EPOCH);
        assert_eq!(clock.now(), Timestamp::EPOCH);
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.now(), Timestamp::from_unix_seconds(60));
    }

    #[test]
    fn test_ids_are_distinct_and_in_order() {
        let clock = Clock::test(Timestamp::from_unix_seconds(1));
        let (a, b) = (clock.uuid_v7(), clock.uuid_v7());
        assert!(a < b);
    }
}
