//! How many connections an account may have at once: fewer when its server says that it is too much, more again by and by.
//!
//! Additive increase, multiplicative decrease, as TCP does it. Not responsible for the account's wait after such an
//! answer (`settle`) or for connections themselves. Each worker process keeps its own: what one account's server takes
//! from another process is learnt by that one. To change the pace: `RAISE_AFTER`.

use crate::settle::{Outcome, ReplyAction};
use crate::time::Timestamp;

/// Accepted messages after which an account that was slowed down may have one connection more.
const RAISE_AFTER: u32 = 20;

/// An account's limit of connections within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    most: u32,
    limit: u32,
    /// Accepted messages since the limit last changed; counted only below `most`.
    accepted: u32,
    lowered_at: Option<Timestamp>,
}

impl Concurrency {
    /// Begins with the most that is configured, at least 1.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self { most, limit: most, accepted: 0, lowered_at: None }
    }

    /// Most connections now: 1 to the most that is configured.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether the server's answers keep it below what is configured.
    pub fn is_slowed(&self) -> bool {
        self.limit < self.most
    }

    /// Learns how an attempt ended that began at `started_at`; whether the limit was lowered by it.
    ///
    /// Of many connections that are told at once that they are too many, one lowers the limit: the others began under
    /// the former limit, and say nothing about the new one.
    pub fn learn(&mut self, outcome: Outcome, started_at: Timestamp, now: Timestamp) -> bool {
        match outcome {
            Outcome::Accepted => {
                self.accepted();
                false
            }
            Outcome::Refused(ReplyAction::Throttle) if self.lowered_at.is_none_or(|at| started_at > at) => {
                self.limit = (self.limit / 2).max(1);
                self.accepted = 0;
                self.lowered_at = Some(now);
                true
            }
            _ => false,
        }
    }

    fn accepted(&mut self) {
        if !self.is_slowed() {
            return;
        }
        self.accepted += 1;
        if self.accepted >= RAISE_AFTER {
            self.limit += 1;
            self.accepted = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THROTTLED: Outcome = Outcome::Refused(ReplyAction::Throttle);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }

    #[test]
    fn a_throttling_server_halves_and_acceptances_raise_by_one() {
        let mut limit = Concurrency::new(10);
        let mut seen = Vec::new();
        for n in 0..5 {
            assert!(limit.learn(THROTTLED, at(10 * n + 1), at(10 * n + 2)));
            seen.push(limit.limit());
        }
        assert_eq!(seen, [5, 2, 1, 1, 1]);
        for more in 1..=9 {
            for _ in 1..RAISE_AFTER {
                limit.learn(Outcome::Accepted, at(100), at(100));
            }
            assert_eq!(limit.limit(), more, "not yet");
            limit.learn(Outcome::Accepted, at(100), at(100));
            assert_eq!(limit.limit(), more + 1);
        }
        assert!(!limit.is_slowed());
    }

    #[test]
    fn ten_connections_that_are_told_at_once_halve_once() {
        let mut limit = Concurrency::new(10);
        let lowered = (0..10).filter(|_| limit.learn(THROTTLED, at(1), at(2))).count();
        assert_eq!((lowered, limit.limit()), (1, 5));
        assert!(limit.learn(THROTTLED, at(3), at(4)), "one that began since is about the new limit");
        assert_eq!(limit.limit(), 2);
    }

    #[test]
    fn other_outcomes_say_nothing() {
        let mut limit = Concurrency::new(4);
        for outcome in [Outcome::Refused(ReplyAction::BackOffAccount), Outcome::Unknown, Outcome::GivenBack] {
            assert!(!limit.learn(outcome, at(1), at(1)));
        }
        assert_eq!(limit, Concurrency::new(4));
    }

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds_and_moves_as_promised(most in 0_u32..50, ends in prop::collection::vec(0_u8..40, 0..2000)) {
            let mut limit = Concurrency::new(most);
            for (n, end) in (0_i64..).zip(ends) {
                let before = limit;
                let outcome = if end == 0 { THROTTLED } else { Outcome::Accepted };
                limit.learn(outcome, at(2 * n + 1), at(2 * n + 2));
                prop_assert!((1..=most.max(1)).contains(&limit.limit()));
                if end == 0 {
                    prop_assert_eq!(limit.limit(), (before.limit() / 2).max(1));
                } else {
                    prop_assert!((before.limit()..=before.limit() + 1).contains(&limit.limit()));
                }
            }
        }

        #[test]
        fn it_always_comes_back_to_the_most(most in 1_u32..50, throttled in 0_i64..10) {
            let mut limit = Concurrency::new(most);
            for n in 0..throttled {
                limit.learn(THROTTLED, at(2 * n + 1), at(2 * n + 2));
            }
            for _ in 0..most * RAISE_AFTER {
                limit.learn(Outcome::Accepted, at(1000), at(1000));
            }
            prop_assert_eq!(limit.limit(), most);
        }
    }
}
