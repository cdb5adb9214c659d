//! Rounds of recurring campaigns in a forecast: who has finished by an occurrence begins again in the first turn behind it.
//!
//! Not responsible for when occurrences are (`crate::rounds`). To foresee another way to begin: a method of `World` here.

use super::{Timestamp, World, on_grid};
use crate::campaign::CampaignSettings;
use crate::first_step::FirstStep;
use crate::ids::EnrollmentId;
use crate::plan::{Candidate, Past, exclusion};
use crate::rounds::Rounds;
use crate::step::Reactions;

/// What a campaign's next rounds begin with.
#[derive(Clone, Debug, Default)]
pub(super) struct Coming {
    rounds: Option<Rounds>,
    /// The next occurrence.
    next: Option<Timestamp>,
    /// Who may begin; `due.at` is when they have finished.
    finished: Vec<Candidate>,
}

impl Coming {
    pub(super) fn new(rounds: Option<Rounds>, finished: Vec<Candidate>) -> Self {
        let next = rounds.as_ref().and_then(Rounds::next);
        Self { rounds, next, finished }
    }

    /// The next occurrence that anybody begins; none = there is no more, or nobody to begin.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.finished.is_empty())
    }

    /// Takes note of who has gone through the sequence, and may begin again.
    pub(super) fn finish(&mut self, settings: &CampaignSettings, mut candidate: Candidate, at: Timestamp) {
        let against = exclusion(candidate.lead_status, candidate.suppressed, settings.stop_on_reply);
        if self.rounds.is_some() && against.is_none() {
            candidate.due.at = at;
            self.finished.push(candidate);
        }
    }

    /// Whether this enrollment begins again, as far as is known.
    pub(super) fn has(&self, enrollment: EnrollmentId) -> bool {
        self.next().is_some() && self.finished.iter().any(|candidate| candidate.enrollment_id == enrollment)
    }
}

impl World {
    /// When a campaign's next round begins; none where it does not come back, or nobody begins again. In the past where it is late.
    pub fn next_round_of(&self, campaign: usize) -> Option<Timestamp> {
        let coming = &self.campaigns.get(campaign)?.coming;
        let late = coming.rounds.as_ref().and_then(|rounds| rounds.due(self.now));
        coming.next().map(|next| late.unwrap_or(next))
    }

    /// The turn in which the next round of any campaign begins, and whose it is.
    pub(super) fn next_round(&self) -> (Timestamp, usize) {
        let round = |(index, running): (usize, &super::Running)| {
            Some((on_grid(running.coming.next()?.max(self.now), self.origin, self.rhythm.tick), index))
        };
        self.campaigns.iter().enumerate().filter_map(round).min().unwrap_or((Timestamp::MAX, 0))
    }

    /// A campaign comes back: those who had finished begin its next round.
    pub(super) fn begin_round(&mut self, campaign: usize) {
        let now = self.now;
        let running = &mut self.campaigns[campaign];
        let Coming { rounds: Some(rounds), next, finished } = &mut running.coming else { return };
        let Some(at) = rounds.due(now) else { return };
        rounds.begin(at);
        *next = rounds.next();
        let Some(first) = FirstStep::of(&running.plan, at) else { return };
        let (begin, later): (Vec<_>, Vec<_>) = std::mem::take(finished).into_iter().partition(|who| who.due.at <= at);
        *finished = later;
        let anybody = !begin.is_empty();
        for who in begin {
            running.senders.extend(who.email_account_id);
            let reactions = Reactions { replied: who.reactions.replied, ..Reactions::default() };
            let due = first.due_of(who.lead_id);
            running.waiting.insert(Candidate { due, is_new: true, reactions, past: Past::default(), ..who });
        }
        if anybody {
            running.stopped_until = running.stopped_until.min(now);
            self.plan_by(campaign, now);
        }
    }
}
