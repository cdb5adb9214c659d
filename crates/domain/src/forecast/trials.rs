//! Trials in a forecast: who waits for a winner, and when a rule will choose one, as long as nobody reacts.
//!
//! Which variant wins makes no difference to when mail leaves, so the first stands for it. Not responsible for the rule
//! (`trial`). To foresee something else that ends the waiting: a case of `World::next_verdict`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Running, World, on_grid};
use crate::ids::{EnrollmentId, StepId};
use crate::plan::Candidate;
use crate::reason::Reason;
use crate::step::Due;
use crate::time::Timestamp;
use crate::trial::{Progress, Rule};

/// A trial without a winner, as the ledger holds it.
#[derive(Clone, Debug)]
pub struct OpenTrial {
    /// Its step.
    pub step_id: StepId,
    /// The step's order.
    pub step_order: u32,
    /// How its winner is found.
    pub rule: Rule,
    /// When the last mail of the sample was sent so far; `is_under_way` is not looked at.
    pub progress: Progress,
    /// Those of the sample who have the mail ahead of them.
    pub ahead: BTreeSet<EnrollmentId>,
}

impl OpenTrial {
    /// When the rule decides; none = not before something else happens.
    fn decides_at(&self) -> Option<Timestamp> {
        Progress { is_under_way: !self.ahead.is_empty(), ..self.progress }.decides_at(&self.rule)
    }
}

/// Those who wait for winners, and since when.
pub(super) type Parked = BTreeMap<EnrollmentId, (Timestamp, Candidate)>;

impl Running {
    /// A lead waits for a winner from now on.
    pub(super) fn park(&mut self, candidate: Candidate, now: Timestamp) {
        for trial in self.trials.iter_mut().filter(|trial| trial.step_order == candidate.due.step_order) {
            trial.progress.waited_for_since.get_or_insert(now);
        }
        self.parked.insert(candidate.enrollment_id, (now, candidate));
    }

    /// A lead has no step before `next` ahead of it any more; none = no step at all.
    pub(super) fn has_passed(&mut self, enrollment: EnrollmentId, next: Option<u32>) {
        for trial in self.trials.iter_mut().filter(|trial| next.is_none_or(|next| next > trial.step_order)) {
            trial.ahead.remove(&enrollment);
        }
    }

    /// A mail of this step leaves.
    pub(super) fn has_sent(&mut self, enrollment: EnrollmentId, step_order: u32, now: Timestamp) {
        for trial in self.trials.iter_mut().filter(|trial| trial.step_order == step_order) {
            if trial.ahead.remove(&enrollment) {
                trial.progress.last_sent_at = Some(now);
            }
        }
    }
}

impl World {
    /// The turn in which the next rule decides, and for which campaign; `MAX` = none does.
    pub(super) fn next_verdict(&self) -> (Timestamp, usize) {
        let of_campaign = |(index, running): (usize, &Running)| {
            let is_live = running.plan.status.why_not().is_none();
            let first = running.trials.iter().filter(|_| is_live).filter_map(OpenTrial::decides_at).min()?;
            let begins = running.starts_at.map_or(self.now, |starts| starts.max(self.now));
            Some((on_grid(first.max(begins), self.origin, self.rhythm.tick), index))
        };
        self.campaigns.iter().enumerate().filter_map(of_campaign).min().unwrap_or((Timestamp::MAX, 0))
    }

    /// Each rule of a campaign whose time has come decides: whoever waited is due since then.
    pub(super) fn decide_trials(&mut self, campaign: usize, tell: &mut dyn FnMut(Event)) {
        let now = self.now;
        let running = &mut self.campaigns[campaign];
        let is_decided = |trial: &OpenTrial| trial.decides_at().is_some_and(|at| at <= now);
        let (decided, open): (Vec<_>, Vec<_>) = std::mem::take(&mut running.trials).into_iter().partition(is_decided);
        running.trials = open;
        for trial in decided {
            let due = trial.decides_at().unwrap_or(now);
            if let Some(of_step) = running.plan.trials.get_mut(&trial.step_id) {
                of_step.winner = of_step.variants.first().map(|first| first.key.clone());
            }
            let of_step = |(_, candidate): &(Timestamp, Candidate)| candidate.due.step_order == trial.step_order;
            let (free, still): (Parked, Parked) =
                std::mem::take(&mut running.parked).into_iter().partition(|(_, parked)| of_step(parked));
            running.parked = still;
            for (since, candidate) in free.into_values() {
                let lead_seconds = u128::from(now.since(since).as_secs());
                tell(Event::Waited { campaign, reason: Reason::AbWinner, lead_seconds });
                let due = Due { at: due, ..candidate.due };
                running.waiting.insert(Candidate { due, ..candidate });
            }
        }
        self.wake(campaign);
        self.plan_by(campaign, now);
    }
}
