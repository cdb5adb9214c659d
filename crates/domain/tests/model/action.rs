//! The steps of the model, and which of them are faults.
//!
//! Not responsible for what a step does (`protocol`). To add one: an `Action`, a line in `OF_ALL` or `of_worker`, its arm
//! in `World::step`, and for a fault its kind.

use super::state::{End, Owner, Phase, Reply, State};

/// One step. A number is a worker's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Plan,
    /// The row is planned, and its hint gets lost with its scheduler, or since the queue takes none.
    PlanUnheard,
    /// Another hint about the same send: a second scheduler's, or another program's job.
    PushTwice,
    /// The queue is emptied.
    Flush,
    LeaseEnds,
    /// `not_before` has come.
    TimeComes,
    Reconcile,
    Sweep,
    /// Another program puts the address on the suppression list, and touches nothing else.
    Suppress,
    Start(usize),
    /// It starts while its first heartbeat cannot be written.
    StartUnseen(usize),
    Beat(usize),
    /// SIGTERM.
    Stop(usize),
    /// SIGKILL.
    Kill(usize),
    Replay(usize),
    /// The journal is replayed, and the answer to the COMMIT is lost.
    ReplayLost(usize),
    Lease(usize),
    Fetch(usize),
    /// The dialogue ends before the dot.
    Refuse(usize, End),
    Intend(usize),
    /// The answer to the intent's COMMIT is lost; whether it was done.
    IntendInDoubt(usize, bool),
    Withdraw(usize),
    WithdrawLost(usize),
    /// The connection fails, or a stop ends it, between the intent and the dot.
    Break(usize, End),
    Dot(usize, Reply),
    Answer(usize),
    /// The connection is cut, or the wait is over, before the answer.
    Cut(usize),
    Journal(usize),
    Apply(usize),
    ApplyLost(usize),
    Acknowledge(usize),
    AcknowledgeLost(usize),
    /// An owner is declared dead: rightly the ghost, wrongly one who is slow.
    Reap(Owner),
}

use Action as A;

/// The steps of nobody's in particular.
const OF_ALL: [Action; 12] = [
    A::Plan,
    A::PlanUnheard,
    A::PushTwice,
    A::Flush,
    A::LeaseEnds,
    A::TimeComes,
    A::Reconcile,
    A::Sweep,
    A::Suppress,
    A::Reap(Owner::First),
    A::Reap(Owner::Second),
    A::Reap(Owner::Ghost),
];

/// The steps of one worker.
const fn of_worker(w: usize) -> [Action; 31] {
    [
        A::Start(w),
        A::StartUnseen(w),
        A::Beat(w),
        A::Stop(w),
        A::Kill(w),
        A::Replay(w),
        A::ReplayLost(w),
        A::Lease(w),
        A::Fetch(w),
        A::Refuse(w, End::Retry),
        A::Refuse(w, End::Bounced),
        A::Refuse(w, End::BackOff),
        A::Refuse(w, End::Poison),
        A::Intend(w),
        A::IntendInDoubt(w, true),
        A::IntendInDoubt(w, false),
        A::Withdraw(w),
        A::WithdrawLost(w),
        A::Break(w, End::BackOff),
        A::Break(w, End::GivenBack),
        A::Dot(w, Reply::Accepted),
        A::Dot(w, Reply::Retry),
        A::Dot(w, Reply::Bounced),
        A::Dot(w, Reply::Lost),
        A::Answer(w),
        A::Cut(w),
        A::Journal(w),
        A::Apply(w),
        A::ApplyLost(w),
        A::Acknowledge(w),
        A::AcknowledgeLost(w),
    ]
}

/// Every step there is.
pub fn all() -> Vec<Action> {
    OF_ALL.into_iter().chain(of_worker(0)).chain(of_worker(1)).collect()
}

/// What a step is besides the way forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Cut,
    WrongReap,
    Doubt,
    Break,
    Unseen,
    Refusal,
    Flush,
    Lost,
    Twice,
    Stop,
    Suppression,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Cut,
        Self::WrongReap,
        Self::Doubt,
        Self::Break,
        Self::Unseen,
        Self::Refusal,
        Self::Flush,
        Self::Lost,
        Self::Twice,
        Self::Stop,
        Self::Suppression,
    ];
}

impl Action {
    /// Whose step it is, where it is a worker's.
    pub fn worker(self) -> Option<usize> {
        (0..2).find(|w| of_worker(*w).contains(&self))
    }

    /// The same step by the other worker.
    pub fn by_the_other(self) -> Self {
        let Some(w) = self.worker() else {
            return if let A::Reap(owner) = self { A::Reap(owner.other()) } else { self };
        };
        let place = of_worker(w).iter().position(|action| *action == self).unwrap();
        of_worker(1 - w)[place]
    }

    /// What it is besides the way forward.
    pub fn fault(self, state: &State) -> Option<Fault> {
        Some(match self {
            A::Kill(_) => Fault::Kill,
            // A dot that never arrived is answered by the end of the wait.
            A::Cut(w) if matches!(state.workers[w].phase, Phase::Dotted(.., Reply::Lost)) => return None,
            A::Cut(_) | A::Dot(_, Reply::Lost) => Fault::Cut,
            A::Reap(Owner::First | Owner::Second) => Fault::WrongReap,
            A::IntendInDoubt(..) => Fault::Doubt,
            A::Break(..) | A::Refuse(_, End::BackOff) => Fault::Break,
            A::StartUnseen(_) => Fault::Unseen,
            A::Refuse(..) | A::Dot(_, Reply::Retry | Reply::Bounced) => Fault::Refusal,
            A::Flush => Fault::Flush,
            A::PlanUnheard | A::ReplayLost(_) | A::WithdrawLost(_) | A::ApplyLost(_) | A::AcknowledgeLost(_) => {
                Fault::Lost
            }
            A::PushTwice => Fault::Twice,
            A::Stop(_) => Fault::Stop,
            A::Suppress => Fault::Suppression,
            _ => return None,
        })
    }
}
