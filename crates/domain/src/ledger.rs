//! The ledger's compare-and-set rules over one row of `sends`: what planning, the gate, results and recovery may do to it.
//!
//! A reference. The store states the same rules in SQL, where it changes thousands of rows at once; the protocol's model
//! (`tests/model`) is made of these functions, and the store's contract drives the model's traces on both databases and
//! compares every row with them. Not responsible for what an outcome does (`settle`), nor for who is excluded (`plan`).
//! To add a rule: a method here, its action in the model, and its arm in the contract's `traces.rs`.

use crate::send::SendStatus;
use crate::settle::Transition;
use crate::time::Timestamp;

/// What the rules read and write of a row; `O` names an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row<O> {
    /// Where the send stands.
    pub status: SendStatus,
    /// Grows whenever what others have read of the row may no longer be acted on; never falls.
    pub fence: i64,
    /// Whose dot it is; only with `dot`.
    pub owner: Option<O>,
    /// Not before this time.
    pub not_before: Timestamp,
    /// Attempts that counted.
    pub attempts: u32,
    /// Outcomes that nobody knows.
    pub unknowns: u32,
}

impl<O: Copy + PartialEq> Row<O> {
    /// P1: a send as it is first written.
    pub const fn planned(not_before: Timestamp) -> Self {
        Self { status: SendStatus::Planned, fence: 0, owner: None, not_before, attempts: 0, unknowns: 0 }
    }

    /// Whether nobody has written its dot, or everybody who did has been answered.
    pub fn is_waiting(&self) -> bool {
        matches!(self.status, SendStatus::Planned | SendStatus::Queued)
    }

    /// P3 and P9: whether a worker may begin with it, as far as the row itself says.
    pub fn is_grantable(&self, now: Timestamp) -> bool {
        self.is_waiting() && self.not_before <= now
    }

    /// P5: the intent to write the dot, by whoever has read `fence`. None: no dot.
    pub fn intend(&self, fence: i64, owner: O) -> Option<Self> {
        let mine = self.is_waiting() && self.fence == fence;
        mine.then_some(Self { status: SendStatus::Dot, fence: fence + 1, owner: Some(owner), ..*self })
    }

    /// P5: takes an intent back that was asked for with `fence` and whose dot was surely not written: after a COMMIT in
    /// doubt, or since a limit refuses it. None: it is not there, or somebody else's.
    pub fn take_back(&self, fence: i64, owner: O, not_before: Timestamp) -> Option<Self> {
        let mine = self.is_left_by(owner) && self.fence == fence + 1;
        mine.then_some(Self { status: SendStatus::Queued, owner: None, not_before, ..*self })
    }

    /// P7: a result of whoever holds `fence`. None: it is stale.
    ///
    /// A 250 is proof whenever it comes, also for a held send. A known outcome counts while the send is under way, an
    /// unknown one for a dot alone. A known outcome that leaves the send open raises the fence, so that the same result
    /// written twice counts once; an unknown one keeps it, since a late 250 is still to be taken.
    pub fn accept(&self, fence: i64, result: &Transition) -> Option<Self> {
        let takes = match self.status {
            SendStatus::Dot => true,
            SendStatus::Planned | SendStatus::Queued => !result.unknown,
            SendStatus::Held => result.status == SendStatus::Sent,
            _ => false,
        };
        let raises = result.status.is_open() && !result.unknown;
        (takes && self.fence == fence).then_some(Self {
            status: result.status,
            fence: fence + i64::from(raises),
            owner: None,
            not_before: result.not_before.unwrap_or(self.not_before),
            attempts: self.attempts + u32::from(result.counted),
            unknowns: self.unknowns + u32::from(result.unknown),
        })
    }

    /// P8: whether a dead `owner` leaves an outcome behind that nobody knows. It is settled as the row stands, with its
    /// fence.
    pub fn is_left_by(&self, owner: O) -> bool {
        self.status == SendStatus::Dot && self.owner == Some(owner)
    }

    /// Its lead is excluded or its campaign cancelled. None: its dot may be written, or it has ended.
    pub fn cancel(&self) -> Option<Self> {
        self.is_waiting().then_some(Self { status: SendStatus::Cancelled, ..*self })
    }
}

/// Whether a ledger still has what was committed to it about one send: that it went to `fence` with its dot, and where
/// `is_settled`, that this dot was answered. `found` is its row as it stands now; none where it is gone.
///
/// A fence never falls, so a lower one tells that the ledger has gone back in time.
pub fn still_has(found: Option<(SendStatus, i64)>, fence: i64, is_settled: bool) -> bool {
    let is_later =
        |(status, now): (SendStatus, i64)| now > fence || (now == fence && !(is_settled && status == SendStatus::Dot));
    found.is_some_and(is_later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_went_back_shows_in_the_fence_in_a_dot_that_had_been_answered_and_in_a_row_that_is_gone() {
        use SendStatus::{Dot, Held, Queued, Sent};
        for (found, is_settled, is_there) in [
            (Some((Dot, 3)), false, true),
            (Some((Sent, 3)), true, true),
            // Unknown, and to go again: it keeps its fence.
            (Some((Queued, 3)), true, true),
            (Some((Dot, 4)), true, true),
            (Some((Queued, 2)), false, false),
            (Some((Held, 2)), true, false),
            (Some((Dot, 3)), true, false),
            (None, false, false),
        ] {
            assert_eq!(still_has(found, 3, is_settled), is_there, "{found:?}, settled: {is_settled}");
        }
    }
}
