//! An account's stop as this worker knows it: which jobs of a lane may still go after one of them has stopped the account.
//!
//! A job goes where the ledger granted it after it had learnt of every failure of this lane. So a job that was fetched
//! just before, and reaches its lane just after, tries no server that has said no. Not responsible for how long an
//! account waits: the ledger holds that, and P3 grants nothing meanwhile. To block a lane: `Stop::begin`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// What stopped the account of a lane.
#[derive(Default)]
pub(super) struct Stop(Mutex<Failures>);

#[derive(Default)]
struct Failures {
    /// Those on their way to the ledger.
    being_written: usize,
    /// When the ledger had the last one.
    written_at: Option<Instant>,
}

impl Stop {
    /// A failure stops the account; the ledger has it when the guard is dropped.
    pub(super) fn begin(&self) -> BeingWritten<'_> {
        self.failures().being_written += 1;
        BeingWritten(self)
    }

    /// Whether a job may go that the ledger granted in a read which began at `fetched_at`.
    pub(super) fn allows(&self, fetched_at: Instant) -> bool {
        let failures = self.failures();
        failures.being_written == 0 && failures.written_at.is_none_or(|at| fetched_at > at)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure on its way to the ledger, no longer than a panic.
pub(super) struct BeingWritten<'a>(&'a Stop);

impl Drop for BeingWritten<'_> {
    fn drop(&mut self) {
        let mut failures = self.0.failures();
        failures.being_written -= 1;
        failures.written_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn only_what_was_fetched_after_the_last_failure_was_written_goes() {
        let stop = Stop::default();
        let before = Instant::now();
        assert!(stop.allows(before));
        let (first, second) = (stop.begin(), stop.begin());
        tokio::time::advance(MOMENT).await;
        let meanwhile = Instant::now();
        assert!(!stop.allows(before) && !stop.allows(meanwhile));
        drop(first);
        tokio::time::advance(MOMENT).await;
        let between = Instant::now();
        assert!(!stop.allows(between), "another failure is not written yet");
        drop(second);
        tokio::time::advance(MOMENT).await;
        assert!(![before, meanwhile, between].into_iter().any(|at| stop.allows(at)));
        assert!(stop.allows(Instant::now()));
    }
}
