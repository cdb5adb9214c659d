//! One moment of the model: the ledger's row of one message, the queue's hints about it, two workers, and the mails that
//! the server took.
//!
//! Not responsible for how one moment follows from another (`protocol`). To add something that is remembered: a field of
//! `State`, as small as it can be, since millions of them are kept.

use domain::ledger::Row;
use domain::send::SendStatus;
use domain::time::Timestamp;

/// The present of the model. Time does not run: a moment that lies ahead is `LATER`, until it has come.
pub const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_452_800);
/// Any moment after the present.
pub const LATER: Timestamp = Timestamp::from_unix_seconds(1_772_452_801);

/// A worker process, as ledger and queue name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    First,
    Second,
    /// Whoever was killed.
    Ghost,
}

impl Owner {
    /// The process that runs in a place.
    pub fn of(place: usize) -> Self {
        [Self::First, Self::Second][place]
    }

    /// The process in the other place.
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            Self::Ghost => Self::Ghost,
        }
    }
}

/// What the queue knows of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    Absent,
    Visible,
    Leased(Owner),
}

impl Hint {
    /// Only the holder of a lease changes it.
    pub fn replace_lease(&mut self, owner: Owner, with: Self) {
        if *self == Self::Leased(owner) {
            *self = with;
        }
    }
}

/// What a worker read of the row (P3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Job {
    pub fence: u8,
    pub attempts: u8,
    pub unknowns: u8,
}

/// What the server makes of a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    Accepted,
    Retry,
    Bounced,
    /// The octets never reached it.
    Lost,
}

/// How an attempt ended, as its worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    Accepted,
    Retry,
    Bounced,
    /// Cut after the final dot.
    Unknown,
    /// The connection failed before the dot.
    BackOff,
    /// A graceful stop before the dot.
    GivenBack,
    /// Too many deliveries of the job ended without a result.
    Poison,
}

/// A result, with the fence that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ended {
    pub end: End,
    pub fence: u8,
    pub job: Job,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Down,
    Idle,
    Leased,
    Fetched(Job),
    /// The answer to the intent's COMMIT was lost.
    InDoubt(Job),
    /// The intent is durable: this is the fence that came of it.
    Granted(Job, u8),
    Dotted(Job, u8, Reply),
    Ended {
        ended: Ended,
        in_journal: bool,
    },
    /// The ledger knows; the queue is still to be told.
    Acking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    pub phase: Phase,
    /// Whether its heartbeat stands in the ledger, where reapers look.
    pub seen: bool,
    /// The last result that a process before it kept and did not get written down.
    pub journal: Option<Ended>,
}

/// What a step broke at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A dot was granted before its time.
    Early,
    /// A dot was granted to a suppressed address.
    Suppressed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// None: due, not planned yet.
    pub row: Option<Row<Owner>>,
    /// Whether the address is on the suppression list.
    pub suppressed: bool,
    /// The hint about it. A second one under another id would be the same as a lease that ends while its holder works.
    pub hint: Hint,
    pub workers: [Worker; 2],
    /// Whether the heartbeat of the dead still stands in the ledger.
    pub ghost_seen: bool,
    /// Copies that the server has taken.
    pub copies: u8,
    pub broken: Option<Broken>,
}

impl State {
    /// A lead is due, and two workers have started.
    pub fn start() -> Self {
        let worker = Worker { phase: Phase::Idle, seen: true, journal: None };
        Self {
            row: None,
            suppressed: false,
            hint: Hint::Absent,
            workers: [worker; 2],
            ghost_seen: false,
            copies: 0,
            broken: None,
        }
    }

    pub fn status(&self) -> Option<SendStatus> {
        self.row.map(|row| row.status)
    }

    /// Whether the send has ended, or a person is asked.
    pub fn is_settled(&self) -> bool {
        self.status().is_some_and(|status| status.is_final() || status == SendStatus::Held)
    }

    /// The same moment with its workers the other way round.
    fn swapped(mut self) -> Self {
        self.workers.swap(0, 1);
        if let Hint::Leased(owner) = &mut self.hint {
            *owner = owner.other();
        }
        if let Some(owner) = self.row.as_mut().and_then(|row| row.owner.as_mut()) {
            *owner = owner.other();
        }
        self
    }

    /// The one of the two that is looked at for both, and whether it is the other one: nothing tells the workers apart.
    pub fn in_order(self) -> (Self, bool) {
        let key = |state: &Self| (state.workers, state.hint, state.row.map(|row| row.owner));
        let swapped = self.swapped();
        if key(&swapped) < key(&self) { (swapped, true) } else { (self, false) }
    }

    /// The same moment without what makes no difference any more: of fences only whether one is the row's, or the one
    /// before it, since the row's never falls; of whoever holds an older one, not what it has read; nothing of results
    /// that come too late for ever, nor of a heartbeat of the dead that nothing belongs to.
    pub fn forgetful(mut self) -> Self {
        let Some(row) = &mut self.row else { return self };
        let newest = row.fence;
        row.fence = NEWEST;
        let is_final = row.status.is_final();
        let small = |fence: u8| {
            let behind = (newest - i64::from(fence)).clamp(-1, 2);
            u8::try_from(NEWEST - behind).unwrap()
        };
        let read = |job: Job, fence: u8| match newest > i64::from(fence) || is_final {
            true => Job { fence: small(job.fence), attempts: 0, unknowns: 0 },
            false => Job { fence: small(job.fence), ..job },
        };
        let result = |ended: Ended| Ended { fence: small(ended.fence), job: read(ended.job, ended.fence), ..ended };
        for worker in &mut self.workers {
            worker.phase = match worker.phase {
                Phase::Fetched(job) => Phase::Fetched(read(job, job.fence)),
                Phase::InDoubt(job) => Phase::InDoubt(Job { fence: small(job.fence), attempts: 0, unknowns: 0 }),
                Phase::Granted(job, fence) => Phase::Granted(read(job, fence), small(fence)),
                Phase::Dotted(job, fence, reply) => Phase::Dotted(read(job, fence), small(fence), reply),
                Phase::Ended { ended, in_journal } => Phase::Ended { ended: result(ended), in_journal },
                phase @ (Phase::Down | Phase::Idle | Phase::Leased | Phase::Acking) => phase,
            };
            let is_stale = |ended: &Ended| is_final || i64::from(ended.fence) < newest;
            worker.journal = worker.journal.filter(|ended| !is_stale(ended)).map(result);
        }
        self.ghost_seen &= self.hint == Hint::Leased(Owner::Ghost) || row.owner == Some(Owner::Ghost);
        self
    }
}

/// The row's fence where fences are small.
const NEWEST: i64 = 2;
