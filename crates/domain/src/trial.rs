//! Trials of several texts of one mail: which lead gets which, who waits for the winner, and which one wins.
//!
//! By hashes of step and lead alone, so that a lead's text stays the same whoever asks, and a forecast equals what happens.
//! Not responsible for counting (`engines/store/trials`). To add a measure: a word of `Measure`, and its count there.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::ids::{LeadId, StepId};
use crate::plan::CampaignPlan;
use crate::schedule::jitter;
use crate::time::Timestamp;
use crate::words::words;

/// Most variants of a step.
pub const MAX_VARIANTS: usize = 26;
/// Most characters of a variant's key.
pub const MAX_KEY: usize = 32;
/// The due time of a lead that waits for a winner: planning comes to it when there is one.
pub const PARKED: Timestamp = Timestamp::MAX;
/// A trial whose sample has not been sent yet is looked at again after so long. Less than any rule's `after`, so that
/// no decision is late by it.
pub const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Apart from each other, or a sample would hold one variant alone.
const SPLIT: Uuid = Uuid::from_u128(1);
const SAMPLE: Uuid = Uuid::from_u128(2);

words! {
    /// What a winner is chosen by: the part of those who were sent a variant.
    Measure, "measure", {
        /// People who opened it.
        Opens = "opens",
        /// People who clicked in it.
        Clicks = "clicks",
    }
}

/// One of the texts of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What its author calls it.
    pub key: String,
    /// Its part of the leads, relative to those of the others; 1 or more.
    pub weight: u32,
}

/// How a winner is found without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What counts.
    pub by: Measure,
    /// So long after the last mail of the sample.
    pub after: Duration,
    /// The part of the leads among whom the variants are tried, 1 to 99; all others wait for the winner.
    pub sample_percent: u32,
}

/// The variants of a step that are in use, and where their trial stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// In the order of the file; never empty.
    pub variants: Vec<Variant>,
    /// None: all leads are split until a person decides.
    pub rule: Option<Rule>,
    /// The key of the variant that everybody gets from now on.
    pub winner: Option<String>,
}

/// The trials of a campaign by their steps.
pub type Trials = BTreeMap<StepId, Trial>;

impl Trial {
    /// The variant that a lead gets when its mail is planned now; none where there is no variant.
    pub fn assigned(&self, step: StepId, lead: LeadId) -> Option<&str> {
        self.winner.as_deref().or_else(|| self.split(step, lead))
    }

    /// Whether a lead has to wait until there is a winner.
    pub fn waits(&self, step: StepId, lead: LeadId) -> bool {
        self.winner.is_none() && self.rule.is_some_and(|rule| !rule.is_in_sample(step, lead))
    }

    /// By weights: of 3 and 1 the first gets three quarters.
    fn split(&self, step: StepId, lead: LeadId) -> Option<&str> {
        let all = self.variants.iter().map(|variant| u64::from(variant.weight)).sum();
        let mut place = spread([SPLIT, step.uuid(), lead.uuid()], all);
        let hit = self.variants.iter().find(|variant| {
            let is_hit = place < u64::from(variant.weight);
            place = place.saturating_sub(u64::from(variant.weight));
            is_hit
        });
        hit.map(|variant| variant.key.as_str())
    }
}

impl Rule {
    /// Whether a lead is one of those among whom the variants are tried. A greater sample holds the smaller one.
    pub fn is_in_sample(&self, step: StepId, lead: LeadId) -> bool {
        const PARTS: u64 = 1_000_000;
        spread([SAMPLE, step.uuid(), lead.uuid()], PARTS) < u64::from(self.sample_percent) * (PARTS / 100)
    }

    /// What to do about a trial that stands so.
    pub fn next(&self, progress: &Progress, now: Timestamp) -> Next {
        match progress.decides_at(self) {
            Some(at) if at <= now => Next::Decide(at),
            Some(at) => Next::LookAgain(at),
            None => Next::LookAgain(now + LOOK_AGAIN),
        }
    }
}

/// `0..bound`, evenly.
fn spread(seed: [Uuid; 3], bound: u64) -> u64 {
    u64::try_from(jitter(&seed, Duration::from_micros(bound)).as_micros()).unwrap_or(0)
}

/// How far a trial is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the last mail of the sample was sent.
    pub last_sent_at: Option<Timestamp>,
    /// Since when leads are known to wait for its winner: what counts where nobody of the sample is sent anything.
    pub waited_for_since: Option<Timestamp>,
    /// Whether somebody of the sample has still to be sent the mail.
    pub is_under_way: bool,
}

impl Progress {
    /// When the rule decides, as long as nobody else joins the sample; none = that is not known yet.
    pub fn decides_at(&self, rule: &Rule) -> Option<Timestamp> {
        let since = self.last_sent_at.or(self.waited_for_since).filter(|_| !self.is_under_way)?;
        Some(since + rule.after)
    }
}

/// What is to be done about a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before then.
    LookAgain(Timestamp),
    /// Its winner is chosen; this was the moment to do so.
    Decide(Timestamp),
}

/// How a variant did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Which.
    pub key: String,
    /// Leads who were sent it.
    pub sent: u64,
    /// Those of them who did what counts.
    pub reacted: u64,
}

/// The variant with the highest rate; of several, or where nobody did anything, the first in order.
pub fn winner(counts: &[Count]) -> Option<&str> {
    // Fractions are compared whole: 1 of 3 and 2 of 6 are the same.
    let is_better = |one: &Count, other: &Count| {
        u128::from(one.reacted) * u128::from(other.sent.max(1))
            > u128::from(other.reacted) * u128::from(one.sent.max(1))
    };
    let first = counts.first()?;
    Some(&counts.iter().fold(first, |best, count| if is_better(count, best) { count } else { best }).key)
}

impl CampaignPlan {
    /// The key of the variant of a step that a lead gets when its mail is planned now; none where the step has none.
    pub fn variant(&self, step: StepId, lead: LeadId) -> Option<&str> {
        self.trials.get(&step)?.assigned(step, lead)
    }

    /// Whether a lead has to wait for the winner of a step's variants.
    pub fn waits_for_winner(&self, step: StepId, lead: LeadId) -> bool {
        self.trials.get(&step).is_some_and(|trial| trial.waits(step, lead))
    }
}

#[cfg(test)]
mod tests;
