//! What an edit of a running campaign's sequence means: which given step is which stored one, and where leads go on.
//!
//! A lead gets each step once. One added where a lead has not been yet is got, one added where it has been is not; a wait that
//! changed counts for who still waits for it. Not responsible for writing any of it (`engines/store/setup/sequence`).
//! To add something that tells steps apart: a field of `Mark` and its pass in `recognize`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::step::{Step, StepType};
use crate::time::Timestamp;

/// What tells a step from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The name that its author gave it.
    pub key: Option<&'a str>,
    /// What it does; no step ever becomes one of another kind.
    pub step_type: StepType,
    /// Subject, HTML and text of a mail.
    pub text: Option<[&'a str; 3]>,
}

/// A stored step, in the order of the sequence.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What tells it from others.
    pub mark: Mark<'a>,
    /// Whether it was taken out of the sequence and is kept for the ledger alone.
    pub is_removed: bool,
}

/// It cannot be told which of these mails was changed and which one is new or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// Place among the given steps of the first mail that it is about, from 0.
    pub given: usize,
}

/// For each given step, which of the stored ones it is; none = it is new.
///
/// By key, else by the same text, else by its place between steps that were recognized so.
///
/// # Errors
/// `Unclear` where between two such steps the mails have other texts and another number.
pub fn recognize(stored: &[Known<'_>], given: &[Mark<'_>]) -> Result<Vec<Option<usize>>, Unclear> {
    let mut found = Matches { stored, given, of_given: vec![None; given.len()] };
    found.pass(|known, mark| mark.key.is_some() && known.mark.key == mark.key);
    found.pass(|known, mark| mark.text.is_some() && known.mark.text == mark.text);
    found.by_place()?;
    Ok(found.of_given)
}

struct Matches<'a> {
    stored: &'a [Known<'a>],
    given: &'a [Mark<'a>],
    of_given: Vec<Option<usize>>,
}

impl Matches<'_> {
    /// Whether the two may be one step, and neither is matched yet.
    fn may_match(&self, stored: usize, given: usize) -> bool {
        let (known, mark) = (&self.stored[stored].mark, &self.given[given]);
        let keys_differ = known.key.is_some() && mark.key.is_some() && known.key != mark.key;
        known.step_type == mark.step_type
            && !keys_differ
            && self.of_given[given].is_none()
            && !self.of_given.contains(&Some(stored))
    }

    /// Matches what `is_same` says is the same; one that was removed comes back only where no other is the same.
    fn pass(&mut self, is_same: impl Fn(&Known<'_>, &Mark<'_>) -> bool) {
        for is_removed in [false, true] {
            for given in 0..self.given.len() {
                let same = |stored: &usize| {
                    let known = &self.stored[*stored];
                    known.is_removed == is_removed
                        && self.may_match(*stored, given)
                        && is_same(known, &self.given[given])
                };
                if let Some(stored) = (0..self.stored.len()).find(same) {
                    self.of_given[given] = Some(stored);
                }
            }
        }
    }

    /// What stands between the same neighbours as before is the same step, if there are as many mails as before.
    fn by_place(&mut self) -> Result<(), Unclear> {
        let mut start = 0;
        while start < self.given.len() {
            if self.of_given[start].is_some() {
                start += 1;
                continue;
            }
            let is_found = |given: &usize| self.of_given[*given].is_some();
            let end = (start..self.given.len()).find(is_found).unwrap_or(self.given.len());
            self.gap(start, end)?;
            start = end;
        }
        Ok(())
    }

    fn gap(&mut self, start: usize, end: usize) -> Result<(), Unclear> {
        let from = start.checked_sub(1).and_then(|before| self.of_given[before]).map_or(0, |before| before + 1);
        let to = self.of_given.get(end).copied().flatten().unwrap_or(self.stored.len());
        for step_type in [StepType::Email, StepType::Wait, StepType::Condition] {
            let given: Vec<usize> = (start..end).filter(|given| self.given[*given].step_type == step_type).collect();
            let Some(first) = given.first().copied() else { continue };
            let may_be = |stored: &usize| !self.stored[*stored].is_removed && self.may_match(*stored, first);
            let stored: Vec<usize> = (from..to).filter(may_be).collect();
            // A wait or condition taken for another one does no harm: what it says now counts. A mail would be sent
            // twice, or never.
            if step_type == StepType::Email && !stored.is_empty() && stored.len() != given.len() {
                return Err(Unclear { given: first });
            }
            for (stored, given) in stored.into_iter().zip(given) {
                if self.may_match(stored, given) {
                    self.of_given[given] = Some(stored);
                }
            }
        }
        Ok(())
    }
}

/// A place in the new sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A given step, by its place among them.
    Given(usize),
    /// A stored step that is no longer given and is kept for the ledger.
    Kept(usize),
}

/// The new sequence: the given steps in their order, and each kept one behind what stood before it. The first one is step 1.
pub fn arrange(matches: &[Option<usize>], kept: &[usize]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..matches.len()).map(Entry::Given).collect();
    for &stored in kept {
        let place_of = |other: usize| {
            entries.iter().position(|entry| match *entry {
                Entry::Given(given) => matches[given] == Some(other),
                Entry::Kept(kept) => kept == other,
            })
        };
        let behind = (0..stored).rev().find_map(place_of).map_or(0, |place| place + 1);
        entries.insert(behind, Entry::Kept(stored));
    }
    entries
}

/// How long a mail is waited for: due = the previous mail's time and `elapsed`, not before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Elapsed time.
    pub elapsed: Duration,
    /// A date on the way.
    pub until: Option<Timestamp>,
}

impl Wait {
    const NONE: Self = Self { elapsed: Duration::ZERO, until: None };

    /// When it is over that began at `start`.
    pub fn over_at(self, start: Timestamp) -> Timestamp {
        let at = start + self.elapsed;
        self.until.map_or(at, |until| until.max(at))
    }

    fn and(self, step: &Step) -> Self {
        let until = self.until.map(|until| until + step.wait).max(step.wait_until);
        Self { elapsed: self.elapsed + step.wait, until }
    }
}

/// Where a lead waits: for which step, and which one was the last that it was sent (0 = none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Order of the step that it waits for; of a lead that has finished: of the last one that it passed.
    pub next: u32,
    /// Order of the last step that was sent.
    pub sent: u32,
}

/// Where a lead waits after an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The new place.
    pub place: Place,
    /// Whether the sequence is over for it.
    pub is_over: bool,
    /// Its new wait; none = it is due when it was.
    pub wait: Option<Wait>,
}

/// A sequence before and after an edit.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The steps as they were, those that had been removed before left out.
    pub before: Vec<Step>,
    /// The steps as they are.
    pub after: Vec<Step>,
    /// New orders of stored steps by their old ones, kept ones included.
    pub orders: BTreeMap<u32, u32>,
}

impl Edit {
    /// Whether anything changed that decides which step is next or when.
    pub fn changes_the_walk(&self) -> bool {
        self.before.len() != self.after.len() || self.before.iter().zip(&self.after).any(|(a, b)| !walks_alike(a, b))
    }

    /// The new order of a step; of one that is gone: of what stood before it.
    fn order(&self, old: u32) -> u32 {
        self.orders.range(..=old).next_back().map_or(0, |(_, new)| *new)
    }

    /// The new place of a lead that waits for nothing: its mail is under way, or its enrollment has ended.
    pub fn moved(&self, place: Place) -> Place {
        Place { next: self.order(place.next), sent: self.order(place.sent) }
    }

    /// Where a lead goes on that waits for `place.next`; `anew`: its wait counts anew in any case.
    pub fn resumed(&self, place: Place, anew: bool) -> Resumed {
        let has_passed = |old: u32| old < place.next;
        let passed: Vec<u32> = self
            .before
            .iter()
            .filter(|s| is_stop(s) && has_passed(s.step_order))
            .map(|s| self.order(s.step_order))
            .collect();
        let last_passed = passed.iter().copied().max().unwrap_or(0);
        let old_of: BTreeMap<u32, u32> = self.orders.iter().map(|(old, new)| (*new, *old)).collect();
        let was_there = |old: u32| self.before.iter().any(|step| step.step_order == old);
        // A known step is got once, wherever it stands now; a new one where the lead has not been yet; one that comes back
        // likewise, but by whom it was sent to.
        let is_ahead = |step: &&Step| {
            is_stop(step)
                && match old_of.get(&step.step_order) {
                    Some(&old) if was_there(old) => !has_passed(old),
                    Some(&old) => step.step_order > last_passed && old > place.sent,
                    None => step.step_order > last_passed,
                }
        };
        let sent = self.order(place.sent);
        let Some(next) = self.after.iter().find(is_ahead) else {
            return Resumed { place: Place { next: last_passed, sent }, is_over: true, wait: None };
        };
        let now = Place { next: next.step_order, sent };
        let wait = self.wait(&self.after, now);
        let was_next = self.before.iter().find(|step| step.step_order == place.next).map(|step| step.id);
        let is_same = was_next == Some(next.id) && self.wait(&self.before, place) == wait;
        Resumed { place: now, is_over: false, wait: (anew || !is_same).then_some(wait) }
    }

    /// Where a lead goes on that had finished behind `place.next`; none where nothing was added there.
    pub fn reopened(&self, place: Place) -> Option<Resumed> {
        let was = self.moved(place);
        let next = self.after.iter().find(|step| is_stop(step) && step.step_order > was.next)?;
        let place = Place { next: next.step_order, sent: was.sent };
        Some(Resumed { place, is_over: false, wait: Some(self.wait(&self.after, place)) })
    }

    /// The wait of a planned mail, where the edit has changed it.
    pub fn changed_wait(&self, place: Place) -> Option<Wait> {
        let wait = self.wait(&self.after, self.moved(place));
        (self.wait(&self.before, place) != wait).then_some(wait)
    }

    /// The wait from the mail `place.sent` to the step `place.next`, as the walk adds it up. Mails between the two were
    /// skipped; only one that was switched off was waited for. Where a condition stands right before one, it is taken for what skipped it,
    /// and the waits between the two with it.
    fn wait(&self, steps: &[Step], place: Place) -> Wait {
        let was_active = |mail: &Step| self.before.iter().find(|step| step.id == mail.id).map(|step| step.is_active);
        let (mut wait, mut at_condition) = (Wait::NONE, None);
        for step in steps.iter().filter(|step| step.step_order > place.sent && step.step_order < place.next) {
            match step.step_type {
                StepType::Email => match was_active(step) {
                    Some(true) => wait = at_condition.take().unwrap_or(wait),
                    Some(false) => (wait, at_condition) = (wait.and(step), None),
                    // It is new: its lead has passed the place.
                    None => {}
                },
                StepType::Condition if step.is_active => {
                    wait = wait.and(step);
                    at_condition = Some(wait);
                }
                StepType::Wait if step.is_active => wait = wait.and(step),
                StepType::Condition | StepType::Wait => {}
            }
        }
        steps.iter().find(|step| step.step_order == place.next).map_or(wait, |next| wait.and(next))
    }
}

/// Whether the walk stops at this step: a mail, switched off or not, or a condition that is asked.
fn is_stop(step: &Step) -> bool {
    match step.step_type {
        StepType::Email => true,
        StepType::Condition => step.is_active,
        StepType::Wait => false,
    }
}

fn walks_alike(a: &Step, b: &Step) -> bool {
    let walk = |s: &Step| (s.id, s.step_order, s.wait, s.wait_until, s.condition.clone(), s.stop_if_false, s.is_active);
    walk(a) == walk(b)
}

#[cfg(test)]
mod tests;
