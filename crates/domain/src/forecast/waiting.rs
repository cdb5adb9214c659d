//! Enrollments that wait for a step, in the order in which planning sees them: there may be millions.
//!
//! Not responsible for what becomes of them (`forecast`). To ask something else of the order: a method here.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::ids::EnrollmentId;
use crate::plan::Candidate;
use crate::time::Timestamp;

/// Place of an enrollment in the order in which planning sees them.
pub(super) type Place = (Timestamp, EnrollmentId);

/// The last place of those that are due at `at`.
const fn last_place(at: Timestamp) -> Place {
    (at, EnrollmentId::from_uuid(uuid::Uuid::max()))
}

/// Those who wait, and how many of them planning has to look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    all: BTreeMap<Place, Candidate>,
    ready_until: Option<Timestamp>,
    ready: u64,
}

impl Waiting {
    pub(super) fn insert(&mut self, candidate: Candidate) {
        let place = (candidate.due.at, candidate.enrollment_id);
        let is_new = self.all.insert(place, candidate).is_none();
        self.ready += u64::from(is_new && Some(place.0) <= self.ready_until);
    }

    pub(super) fn remove(&mut self, place: Place) {
        let was_there = self.all.remove(&place).is_some();
        self.ready -= u64::from(was_there && Some(place.0) <= self.ready_until);
    }

    /// How many are due by `at`, which never goes back.
    pub(super) fn ready(&mut self, at: Timestamp) -> u64 {
        let from = self.ready_until.map_or(Bound::Unbounded, |until| Bound::Excluded(last_place(until)));
        self.ready += self.all.range((from, Bound::Included(last_place(at)))).count() as u64;
        self.ready_until = Some(at);
        self.ready
    }

    /// The first of them behind a place, up to `at`.
    pub(super) fn page(&self, after: Option<Place>, at: Timestamp, many: usize) -> (Vec<Place>, Vec<Candidate>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.all.range((from, Bound::Included(last_place(at)))).take(many);
        due.map(|(place, candidate)| (*place, candidate.clone())).unzip()
    }

    /// When the first one behind `at` is due.
    pub(super) fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.all.range((Bound::Excluded(last_place(at)), Bound::Unbounded)).next().map(|((due, _), _)| *due)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn of(&self, enrollment: EnrollmentId) -> Option<&Candidate> {
        self.all.values().find(|candidate| candidate.enrollment_id == enrollment)
    }

    pub(super) fn place_of(&self, enrollment: EnrollmentId) -> Option<Place> {
        self.all.keys().find(|(_, id)| *id == enrollment).copied()
    }
}
