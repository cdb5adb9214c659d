//! The queue's contract: hints about work, at least once, never the truth (that is the ledger).
//!
//! What every engine promises, and one suite checks (`tests/contract/queue.rs`):
//! - *At least once*: a pushed job is leased again and again until somebody settles it.
//! - A job is not visible before its `not_before`.
//! - One holder per lease. A lease has a token; a call with a stale token changes nothing and says so. An owner's name
//!   is no other's, also not that of an earlier process. A call that nobody waits for any more may still happen.
//! - Leases end by time, or at once when their owner is declared dead (`reap`). Either counts as one delivery without
//!   a result; a job that was handed back on purpose (`RetryAt`) is not counted.
//! - Pushing an id that is still in its lane is a no-op, so whoever is in doubt pushes again.
//! - Lanes: priority up to 50 is the high lane, 51 to 150 the base lane, above the low lane; leases are drawn 8:3:1, an
//!   empty lane's share goes to the others, so that urgent jobs overtake and the low lane never starves.
//! - Within a lane the oldest come first: what one push brings by due time, then by id (ids are UUIDv7), and pushes in
//!   the order in which they come. Only a table could order by due time over all pushes: on a Redis list, which other
//!   programs fill as well, a place is all that an element has. A job that comes again, or comes due later, joins the
//!   others then; it neither waits for all of them nor do they wait for it.
//! - Everything is batched, and no call spans two lanes in one indivisible step: on a Redis Cluster lanes lie apart.
//! - `epoch` changes when jobs may have been lost (an emptied Redis); hints of an older epoch count as lost.
//! - A lane that cannot be read holds up no other: `lease` fails only where no lane answers.
//!
//! Dead letters are rows in SQL, written before the job is acknowledged: no engine keeps the only copy of one.
//! To add an engine: a module here that implements `Queue`, and a line in the suite.

pub mod redis;
pub mod table;

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use domain::payload::PayloadError;
use domain::time::Timestamp;
use uuid::Uuid;

use crate::error::Result;

/// The epoch of a send that has no hint: no queue's, so that reconciliation brings one at once.
pub const NO_EPOCH: i64 = 0;
/// The epoch of hints that were pushed while nobody could tell the real one: no queue's, so that they count as lost once
/// it is known.
pub const UNKNOWN_EPOCH: i64 = -2;

/// A list: which kind of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// `queue:email-sending` and its lanes.
    EmailSending,
    /// `queue:analytics-processing`.
    Analytics,
}

impl List {
    /// The list's name, a contract with other programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmailSending => "queue:email-sending",
            Self::Analytics => "queue:analytics-processing",
        }
    }

    /// The lanes of the list.
    pub const fn lanes(self) -> &'static [Lane] {
        match self {
            Self::EmailSending => &[Lane::High, Lane::Base, Lane::Low],
            Self::Analytics => &[Lane::Base],
        }
    }

    /// The lane of a priority: the base lane where the list has no others.
    pub fn lane(self, priority: u16) -> Lane {
        match self {
            Self::EmailSending => Lane::of(priority),
            Self::Analytics => Lane::Base,
        }
    }
}

/// A lane of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Priority 1 to 50: `…:high`.
    High = 0,
    /// Priority 51 to 150: the list itself.
    Base = 1,
    /// Priority above 150: `…:low`.
    Low = 2,
}

impl Lane {
    /// The lane of a priority.
    pub fn of(priority: u16) -> Self {
        let lanes = [Self::High, Self::Base, Self::Low];
        lanes.into_iter().find(|lane| lane.priorities().contains(&priority)).expect("their ranges leave no gap")
    }

    /// Its priorities.
    pub const fn priorities(self) -> RangeInclusive<u16> {
        match self {
            Self::High => 0..=50,
            Self::Base => 51..=150,
            Self::Low => 151..=u16::MAX,
        }
    }

    /// What the name of a list is followed by.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::High => ":high",
            Self::Base => "",
            Self::Low => ":low",
        }
    }
}

/// A job to push.
#[derive(Clone, Debug)]
pub struct Job {
    /// Known while the job is in the queue: a second push is a no-op.
    pub id: Uuid,
    /// JSON; opaque to the queue.
    pub payload: String,
    /// 1 (most urgent) to 1000.
    pub priority: u16,
    /// Not visible before.
    pub not_before: Timestamp,
}

/// A lease's proof: only its holder can settle or extend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The job.
    pub id: Uuid,
    /// Another one in every lease of the job.
    pub number: i64,
}

/// A job that is leased to us.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The lease's proof.
    pub token: Token,
    /// JSON as it was pushed; its beginning where it is too long (`cut_from`).
    pub payload: String,
    /// As it was pushed.
    pub priority: u16,
    /// Deliveries that ended without a result.
    pub expirations: u32,
    /// Bytes that the payload had where they were too many.
    pub cut_from: Option<usize>,
}

impl Leased {
    /// The payload where it is all there: what is left of a longer one may look like a good one.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn whole(&self) -> std::result::Result<&str, PayloadError> {
        self.cut_from.map_or(Ok(&self.payload), |bytes| Err(PayloadError::TooLong { bytes }))
    }
}

/// What becomes of a leased job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done: it leaves the queue.
    Ack,
    /// Back into its lane, visible at this time.
    RetryAt(Timestamp),
}

/// How full a lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Visible now.
    pub ready: u64,
    /// Visible later.
    pub delayed: u64,
    /// Leased.
    pub leased: u64,
}

/// The queue. See the module for the contract.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Adds jobs; how many were new.
    async fn push(&self, list: List, jobs: Vec<Job>, now: Timestamp) -> Result<u64>;

    /// Leases up to `max` visible jobs to `owner`, drawn from the lanes by weight.
    async fn lease(&self, list: List, owner: &str, max: usize, lease: Duration, now: Timestamp) -> Result<Vec<Leased>>;

    /// Lengthens leases; the tokens that are stale.
    async fn extend(
        &self,
        list: List,
        owner: &str,
        tokens: &[Token],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Token>>;

    /// Settles leases; the tokens that are stale.
    async fn settle(
        &self,
        list: List,
        owner: &str,
        verdicts: &[(Token, Verdict)],
        now: Timestamp,
    ) -> Result<Vec<Token>>;

    /// Ends leases whose time is over or whose owner is in `dead`: the jobs are visible again. How many.
    async fn reap(&self, list: List, dead: &[String], now: Timestamp) -> Result<u64>;

    /// How full a lane is.
    async fn depth(&self, list: List, lane: Lane, now: Timestamp) -> Result<Depth>;

    /// The generation of what is in the queue.
    async fn epoch(&self, list: List) -> Result<i64>;

    /// Shows copies of dead letters (JSON objects) to other programs, which look for them on `deadletter:queue`.
    ///
    /// A view: the letters themselves are rows in SQL by now. Without Redis there is nobody to show them to.
    async fn show_dead_letters(&self, copies: &[String]) -> Result<()>;
}

/// Twelve draws of 8:3:1, interleaved so that short batches are fair as well.
const DRAWS: [Lane; 12] = {
    use Lane::{Base as B, High as H, Low as L};
    [H, H, B, H, H, B, H, H, B, H, L, H]
};

/// How many of `max` jobs each lane is asked for, from position `start` of the draw.
pub(crate) fn shares(lanes: &[Lane], start: usize, max: usize) -> Vec<(Lane, usize)> {
    if let [only] = lanes {
        return vec![(*only, max)];
    }
    let drawn = |lane: &Lane| (0..max).filter(|i| DRAWS[(start + i) % DRAWS.len()] == *lane).count();
    lanes.iter().map(|lane| (*lane, drawn(lane))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_draws_are_eight_to_three_to_one() {
        let lanes = List::EmailSending.lanes();
        assert_eq!(shares(lanes, 5, 12), [(Lane::High, 8), (Lane::Base, 3), (Lane::Low, 1)]);
        let single: Vec<Lane> =
            (0..12).flat_map(|start| shares(lanes, start, 1)).filter(|(_, n)| *n == 1).map(|(lane, _)| lane).collect();
        assert_eq!(single, DRAWS);
        assert_eq!(shares(List::Analytics.lanes(), 3, 7), [(Lane::Base, 7)]);
    }

    #[test]
    fn priorities_have_their_lanes() {
        let lanes = [1, 50, 51, 150, 151, 1000].map(Lane::of);
        assert_eq!(lanes, [Lane::High, Lane::High, Lane::Base, Lane::Base, Lane::Low, Lane::Low]);
    }
}
