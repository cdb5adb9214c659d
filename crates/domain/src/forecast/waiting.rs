//! Enrollments that wait for a step, in the order in which planning sees them: there may be millions.
//!
//! Each stands in the line of the account that it keeps, or among all others (`Candidate::line`); lines are read as one, by due
//! time. Not responsible for what becomes of them (`forecast`). To ask something else of the order: a method here.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use crate::ids::EnrollmentId;
use crate::pace::Deferral;
use crate::page::Place;
use crate::plan::{self, Candidate};
use crate::time::Timestamp;

/// Which line it is; none = of those who may have any account.
type Name = Option<plan::Line>;

/// A place in a line.
pub(super) type Standing = (Name, Place);

/// The last place of those that are due at `at`.
const fn last_place(at: Timestamp) -> Place {
    (at, EnrollmentId::from_uuid(uuid::Uuid::max()))
}

/// Those who wait in one line, and how many of them planning has to look at.
#[derive(Clone, Debug, Default)]
struct Line {
    all: BTreeMap<Place, Candidate>,
    ready_until: Option<Timestamp>,
    ready: u64,
}

/// Those who wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    lines: BTreeMap<Name, Line>,
}

impl Waiting {
    pub(super) fn insert(&mut self, candidate: Candidate) {
        let place = (candidate.due.at, candidate.enrollment_id);
        let line = self.lines.entry(candidate.line()).or_default();
        let is_new = line.all.insert(place, candidate).is_none();
        line.ready += u64::from(is_new && Some(place.0) <= line.ready_until);
    }

    pub(super) fn remove(&mut self, (name, place): Standing) {
        let Some(line) = self.lines.get_mut(&name) else { return };
        let was_there = line.all.remove(&place).is_some();
        line.ready -= u64::from(was_there && Some(place.0) <= line.ready_until);
    }

    /// How many of each line are due by `at`, which never goes back.
    pub(super) fn ready(&mut self, at: Timestamp) -> Vec<(Name, u64)> {
        let count = |(name, line): (&Name, &mut Line)| {
            let from = line.ready_until.map_or(Bound::Unbounded, |until| Bound::Excluded(last_place(until)));
            line.ready += line.all.range((from, Bound::Included(last_place(at)))).count() as u64;
            line.ready_until = Some(at);
            (*name, line.ready)
        };
        self.lines.iter_mut().map(count).collect()
    }

    /// The first of them behind a place, up to `at`, without those in closed lines.
    pub(super) fn page(
        &self,
        after: Option<Place>,
        at: Timestamp,
        many: usize,
        closed: Option<&BTreeMap<plan::Line, Deferral>>,
    ) -> Vec<Candidate> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let is_open = |name: &Name| name.is_none_or(|line| closed.is_none_or(|closed| !closed.contains_key(&line)));
        let open = self.lines.iter().filter(|(name, _)| is_open(name));
        let mut heads: Vec<Peeked<'_>> =
            open.map(|(_, line)| line.all.range((from, Bound::Included(last_place(at)))).peekable()).collect();
        let first = || {
            let first =
                heads.iter_mut().filter_map(|head| Some((*head.peek()?.0, head))).min_by_key(|(place, _)| *place);
            first.and_then(|(_, head)| head.next()).map(|(_, candidate)| candidate.clone())
        };
        std::iter::from_fn(first).take(many).collect()
    }

    /// When the first one behind `at` is due.
    pub(super) fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let behind = (Bound::Excluded(last_place(at)), Bound::Unbounded);
        self.lines.values().filter_map(|line| Some(line.all.range(behind).next()?.0.0)).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.values().all(|line| line.all.is_empty())
    }

    pub(super) fn of(&self, enrollment: EnrollmentId) -> Option<&Candidate> {
        self.lines.values().flat_map(|line| line.all.values()).find(|candidate| candidate.enrollment_id == enrollment)
    }
}

type Peeked<'a> = std::iter::Peekable<btree_map::Range<'a, Place, Candidate>>;
