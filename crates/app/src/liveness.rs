//! Whether the loops of this process turn: each says when it begins something and when it only waits.
//!
//! A loop that waits for work or time may do so for ever. One that is at one thing for longer than the limit hangs; one
//! that ended while nobody asked it to is dead. Not responsible for what loops do or for answering (`api::health`).
//! To add a loop: a word in `Loop`, a `Pulse` in its function.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop that a part runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// `scheduler::run`.
    Scheduler,
    /// The worker's leases.
    Lease,
    /// The worker's lengthening of leases.
    Extend,
    /// The worker's sign of life.
    Heartbeat,
    /// The watch over other workers.
    Reap,
    /// Bringing hints again.
    Reconcile,
    /// The gate before the dot.
    Gate,
    /// Keeping results in the journal.
    Journal,
    /// Writing results down.
    Results,
    /// `analytics::run`.
    Analytics,
    /// The tracker's hand-over of events.
    Events,
    /// The drain of the spool.
    Spool,
}

impl Loop {
    /// Every loop.
    pub(crate) const ALL: [Self; 12] = [
        Self::Scheduler,
        Self::Lease,
        Self::Extend,
        Self::Heartbeat,
        Self::Reap,
        Self::Reconcile,
        Self::Gate,
        Self::Journal,
        Self::Results,
        Self::Analytics,
        Self::Events,
        Self::Spool,
    ];

    /// Its name in answers and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Lease => "lease",
            Self::Extend => "extend",
            Self::Heartbeat => "heartbeat",
            Self::Reap => "reap",
            Self::Reconcile => "reconcile",
            Self::Gate => "gate",
            Self::Journal => "journal",
            Self::Results => "results",
            Self::Analytics => "analytics",
            Self::Events => "events",
            Self::Spool => "spool",
        }
    }
}

/// How a loop stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It does not run in this process.
    Absent,
    /// It waits for work or time.
    Waiting,
    /// It is at one thing for so long.
    Busy(Duration),
    /// It ended although nobody asked it to, or is ending with the process.
    Ended,
}

const ABSENT: u64 = 0;
const WAITING: u64 = 1;
const ENDED: u64 = 2;
/// From here on: busy since that many milliseconds after the start.
const BUSY: u64 = 3;

/// The loops of this process; clones share them.
#[derive(Clone)]
pub(crate) struct Liveness(Arc<Loops>);

struct Loops {
    started: Instant,
    states: [AtomicU64; Loop::ALL.len()],
}

impl Liveness {
    /// No loop runs yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Loops { started: Instant::now(), states: Default::default() }))
    }

    /// Says that a loop begins to run; it waits until it says otherwise.
    pub(crate) fn pulse(&self, of: Loop) -> Pulse {
        let pulse = Pulse { liveness: self.clone(), of };
        pulse.waits();
        pulse
    }

    /// How a loop stands now.
    pub(crate) fn state(&self, of: Loop) -> State {
        match self.0.states[of as usize].load(Ordering::Relaxed) {
            ABSENT => State::Absent,
            WAITING => State::Waiting,
            ENDED => State::Ended,
            since => State::Busy(self.0.started.elapsed().saturating_sub(Duration::from_millis(since - BUSY))),
        }
    }

    fn set(&self, of: Loop, state: u64) {
        self.0.states[of as usize].store(state, Ordering::Relaxed);
    }
}

/// A loop's own end; dropped, the loop has ended.
pub(crate) struct Pulse {
    liveness: Liveness,
    of: Loop,
}

impl Pulse {
    /// It begins something that has to end within the limit; said again, the time starts anew.
    pub(crate) fn works(&self) {
        let millis = u64::try_from(self.liveness.0.started.elapsed().as_millis()).unwrap_or(u64::MAX - BUSY);
        self.liveness.set(self.of, millis + BUSY);
    }

    /// It waits for work or time.
    pub(crate) fn waits(&self) {
        self.liveness.set(self.of, WAITING);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.liveness.set(self.of, ENDED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_waits_works_and_ends() {
        let liveness = Liveness::new();
        assert_eq!(liveness.state(Loop::Gate), State::Absent);
        let pulse = liveness.pulse(Loop::Gate);
        assert_eq!(liveness.state(Loop::Gate), State::Waiting);
        pulse.works();
        assert!(matches!(liveness.state(Loop::Gate), State::Busy(_)));
        pulse.waits();
        assert_eq!((liveness.state(Loop::Gate), liveness.state(Loop::Reap)), (State::Waiting, State::Absent));
        drop(pulse);
        assert_eq!(liveness.state(Loop::Gate), State::Ended);
    }

    #[test]
    fn a_panic_in_a_loop_ends_it() {
        let liveness = Liveness::new();
        let shared = liveness.clone();
        let task = std::thread::spawn(move || {
            let _pulse = shared.pulse(Loop::Reap);
            panic!("as a fault of ours would");
        });
        assert!(task.join().is_err());
        assert_eq!(liveness.state(Loop::Reap), State::Ended);
    }
}
