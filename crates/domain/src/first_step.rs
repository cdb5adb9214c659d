//! When a lead's first step is due: from the start of its campaign or its enrollment, spread over some hours.
//!
//! Not responsible for later steps (`step::next_due`) or for windows and limits, which come on top (`plan`). To let
//! something else decide when a lead starts: a field of `FirstStep`, and its part in `due_of`.

use std::time::Duration;

use crate::ids::{CampaignId, LeadId};
use crate::plan::CampaignPlan;
use crate::schedule::jitter;
use crate::step::{Due, next_due};
use crate::time::Timestamp;

/// Where new enrollments of a campaign start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstStep {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// Its first step, and the earliest moment at which a lead is due.
    pub due: Due,
    /// Leads become due over so long from then on, so that a million of them do not come at once; zero = all at once.
    pub spread: Duration,
}

impl FirstStep {
    /// The first step of leads who start at `start`; none where the campaign has no step that is due.
    pub fn of(campaign: &CampaignPlan, start: Timestamp) -> Option<Self> {
        let due = next_due(&campaign.steps, 0, start)?;
        Some(Self { campaign_id: campaign.id, due, spread: campaign.settings.first_step_spread() })
    }

    /// The same for leads of a draft that starts at `start`; none also where it makes no difference when it starts: they have been due
    /// since their import.
    pub fn of_draft(campaign: &CampaignPlan, start: Timestamp) -> Option<Self> {
        Self::of(campaign, start).filter(|first| first.due.at > start || !first.spread.is_zero())
    }

    /// When this lead is due; the same whenever it is asked. Behind waits: a step that waits for a date is spread too.
    pub fn due_of(&self, lead: LeadId) -> Due {
        let at = self.due.at + jitter(&[self.campaign_id.uuid(), lead.uuid()], self.spread);
        Due { at, ..self.due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{CampaignSettings, CampaignStatus};

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp::from_unix_seconds(1_772_366_400);

    fn first(hours: f64) -> FirstStep {
        FirstStep {
            campaign_id: CampaignId::from_uuid(uuid::Uuid::from_u128(1)),
            due: Due { step_order: 1, at: START },
            spread: CampaignSettings { first_step_spread_hours: hours, ..CampaignSettings::default() }
                .first_step_spread(),
        }
    }

    fn lead(n: u128) -> LeadId {
        LeadId::from_uuid(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn without_a_spread_everybody_is_due_at_the_start() {
        assert!((0..100).all(|n| first(0.0).due_of(lead(n)) == first(0.0).due));
    }

    #[test]
    fn leads_are_spread_evenly_and_always_alike() {
        let spread = first(24.0);
        let mut by_hour = [0_u32; 24];
        for n in 0..24_000 {
            let due = spread.due_of(lead(n));
            assert_eq!((due, due.step_order), (spread.due_of(lead(n)), 1));
            let hour = due.at.since(START).as_secs() / 3600;
            by_hour[usize::try_from(hour).unwrap()] += 1;
        }
        assert!(by_hour.iter().all(|count| (850..1150).contains(count)), "{by_hour:?}");
        let another = FirstStep { campaign_id: CampaignId::from_uuid(uuid::Uuid::from_u128(2)), ..spread };
        assert_ne!(another.due_of(lead(1)), spread.due_of(lead(1)), "nobody is first in every campaign");
    }

    #[test]
    fn a_campaign_without_steps_starts_nobody() {
        let campaign = CampaignPlan {
            id: CampaignId::from_uuid(uuid::Uuid::from_u128(1)),
            status: CampaignStatus::Sending,
            settings: CampaignSettings::default(),
            steps: Vec::new(),
            seen_until: None,
            lost_time: None,
            trials: crate::trial::Trials::new(),
        };
        assert_eq!(FirstStep::of(&campaign, START), None);
    }

    #[test]
    fn a_spread_is_bounded_whatever_another_program_wrote() {
        for (hours, spread) in [(0.5, HOUR / 2), (8760.0, 8760 * HOUR), (1e300, 8760 * HOUR)] {
            assert_eq!(first(hours).spread, spread);
        }
        for wrong in [-1.0, f64::NAN] {
            assert_eq!(first(wrong).spread, Duration::ZERO);
        }
    }
}
