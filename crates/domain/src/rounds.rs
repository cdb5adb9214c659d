//! Rounds: a lead's passages through a campaign's sequence. When a recurring campaign begins the next one, and which leads
//! may begin it.
//!
//! Not responsible for counting days, weeks and months (`recurrence`), for what a lead gets in a round (`plan`) or for writing
//! any of it (`engines/store/rounds`). To add a reason not to begin: a variant of `NotAgain` and its place in `may_begin`.

use crate::campaign::CampaignSettings;
use crate::lead::LeadStatus;
use crate::plan::exclusion;
use crate::reason::Reason;
use crate::recurrence::{Recurrence, next_occurrence};
use crate::time::{Timestamp, Zone};
use crate::words::words;

words! {
    /// Where an enrollment stands in its round.
    EnrollmentStatus, "enrollment status", {
        /// Under way.
        Active = "active",
        /// Has gone through the sequence.
        Completed = "completed",
        /// Ended before its end, for a reason.
        Stopped = "stopped",
    }
}

/// When a recurring campaign comes back.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounds {
    first: Timestamp,
    recurrence: Recurrence,
    zone: Zone,
    begun_until: Timestamp,
}

impl Rounds {
    /// Of a campaign that starts or started at `first`, and whose occurrences up to `seen_until` have had their round; none =
    /// only the first one has. None where it does not recur, or has no start yet.
    pub fn of(settings: &CampaignSettings, first: Option<Timestamp>, seen_until: Option<Timestamp>) -> Option<Self> {
        let (recurrence, first) = (recurrence(settings)?, first?);
        let begun_until = seen_until.unwrap_or(first);
        Some(Self { first, recurrence, zone: settings.timezone.clone(), begun_until })
    }

    /// The first occurrence whose round has not begun; none = there is no more.
    pub fn next(&self) -> Option<Timestamp> {
        self.after(self.begun_until)
    }

    /// The occurrence whose round is to begin at `now`: the last one that has come. Those before it that were missed have none.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let has_come = |at: &Timestamp| *at <= now;
        let first = self.next().filter(has_come);
        std::iter::successors(first, |last| self.after(*last).filter(has_come)).last()
    }

    /// Takes note that the round of an occurrence has begun.
    pub fn begin(&mut self, occurrence: Timestamp) {
        self.begun_until = self.begun_until.max(occurrence);
    }

    /// The zone in whose local time they come.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Whether rounds come for ever.
    pub fn are_endless(&self) -> bool {
        self.recurrence.until.is_none() && self.recurrence.count.is_none()
    }

    fn after(&self, at: Timestamp) -> Option<Timestamp> {
        next_occurrence(self.first, &self.recurrence, &self.zone, at)
    }
}

/// What the settings say of coming back; none = nothing.
pub fn recurrence(settings: &CampaignSettings) -> Option<Recurrence> {
    Some(Recurrence { every: settings.repeat?, until: settings.repeat_until, count: settings.repeat_count })
}

/// An enrollment, as it is asked whether it may begin again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub status: EnrollmentStatus,
    /// Why it was stopped.
    pub stop_reason: Option<Reason>,
    /// When its last round ended.
    pub finished_at: Timestamp,
    /// Whether a mail of it is under way or held, of whatever round.
    pub waits: bool,
    /// Whether its lead may be mailed.
    pub lead_status: LeadStatus,
    /// Whether the address is on the suppression list.
    pub suppressed: bool,
}

/// Why an enrollment begins no new round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotAgain {
    /// The lead gets no mail of this campaign any more.
    #[error("{}", .0.for_people())]
    Excluded(Reason),
    /// It is in its sequence.
    #[error("the lead is under way in the sequence")]
    UnderWay,
    /// Its sequence ended before its end.
    #[error("its sequence was stopped: {}", .0.map_or("nobody knows why", Reason::for_people))]
    Stopped(Option<Reason>),
    /// A mail of it is still to be decided about, or on its way.
    #[error("a mail of it is held or on its way")]
    Waits,
    /// It has not been finished for long enough.
    #[error("it has finished too recently")]
    TooSoon,
}

impl NotAgain {
    /// In a word, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Excluded(_) => "excluded",
            Self::UnderWay => "under_way",
            Self::Stopped(_) => "stopped",
            Self::Waits => "waits",
            Self::TooSoon => "too_soon",
        }
    }

    /// The ledger's reason behind it, where there is one.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Excluded(reason) => Some(reason),
            Self::Stopped(reason) => reason,
            Self::UnderWay | Self::Waits | Self::TooSoon => None,
        }
    }
}

/// Whether an enrollment may begin a new round: it has gone through its sequence, by `finished_by` where that is given, and
/// its lead may be mailed.
///
/// A condition that ends the sequence is its end as well; a bounce, a failure and whatever excludes a lead are not.
///
/// # Errors
/// Why not.
pub fn may_begin(standing: &Standing, stop_on_reply: bool, finished_by: Option<Timestamp>) -> Result<(), NotAgain> {
    if let Some(reason) = exclusion(standing.lead_status, standing.suppressed, stop_on_reply) {
        return Err(NotAgain::Excluded(reason));
    }
    match (standing.status, standing.stop_reason) {
        (EnrollmentStatus::Active, _) => return Err(NotAgain::UnderWay),
        (EnrollmentStatus::Completed, _) | (EnrollmentStatus::Stopped, Some(Reason::ConditionFalse)) => {}
        (EnrollmentStatus::Stopped, reason) => return Err(NotAgain::Stopped(reason)),
    }
    if standing.waits {
        return Err(NotAgain::Waits);
    }
    if finished_by.is_some_and(|by| standing.finished_at > by) {
        return Err(NotAgain::TooSoon);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
