//! Who of an account's connections may log in: one alone until the server has taken a log-in, since a wrong password that ten
//! connections try at once may lock the account.
//!
//! A refusal starts it anew. Not responsible for what a refusal does (`stop`) or for how one logs in (`mail::smtp`).
//! To change who waits: `turn`.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// What is known of an account's log-in.
#[derive(Default)]
pub(super) struct LogIn {
    works: AtomicBool,
    turn: Mutex<()>,
}

/// The turn of one connection; the next has its own when this is dropped.
pub(super) type Turn<'a> = MutexGuard<'a, ()>;

impl LogIn {
    /// Waits until a connection may try: none where the log-in works and all may at once.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        if self.works.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.turn.lock().await;
        (!self.works.load(Ordering::Acquire)).then_some(turn)
    }

    /// What came of it: whether the connection is open and logged in.
    pub(super) fn came_to(&self, is_open: bool) {
        self.works.store(is_open, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_tries_alone_until_it_works_and_again_after_a_failure() {
        let log_in = LogIn::default();
        let first = log_in.turn().await;
        assert!(first.is_some() && tokio::time::timeout(Duration::ZERO, log_in.turn()).await.is_err(), "others wait");
        log_in.came_to(false);
        drop(first);
        let second = log_in.turn().await;
        assert!(second.is_some(), "after a refusal one tries again, and it alone");
        let (third, ()) = tokio::join!(log_in.turn(), async {
            log_in.came_to(true);
            drop(second);
        });
        assert!(third.is_none(), "whoever waited goes with all others");
        assert!(log_in.turn().await.is_none());
        log_in.came_to(false);
        assert!(log_in.turn().await.is_some());
    }
}
