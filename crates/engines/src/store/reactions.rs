//! What leads did, as far as the conditions ahead of them ask: two reads for a whole page of leads at the most.
//!
//! A campaign without conditions asks nothing. Not responsible for whether a condition holds (`domain::step`): links are
//! compared there, since users' text stands in no LIKE. Replies come with the lead's status (`plan`).
//! To add a kind of reaction: its event in `ConditionType::event_type`, and an arm in `note`.

use std::collections::HashMap;

use domain::event::EventType;
use domain::ids::{CampaignId, LeadId, TenantId};
use domain::plan::Candidate;
use domain::step::{Click, Step, StepType};
use domain::time::Timestamp;
use uuid::Uuid;

use crate::db::Tx;
use crate::error::Result;
use crate::{statements, values};

statements! {
    // The last of each link is enough: conditions look back from when they were due, and up to now. Only what people did counts, and of that only what they
    // did since their round began: no event says of which round its mail was.
    LAST_REACTIONS = "SELECT t.lead_id, t.url, MAX(t.occurred_at) AS last_at FROM tracking_events t
            JOIN campaign_leads e ON e.campaign_id = t.campaign_id AND e.lead_id = t.lead_id AND e.tenant_id = t.tenant_id
        WHERE t.tenant_id = $1 AND t.campaign_id = $2 AND t.type = $3 AND t.verdict = 'human' AND t.lead_id {any $4}
            AND (e.round_began_at IS NULL OR t.occurred_at >= e.round_began_at)
        GROUP BY t.lead_id, t.url";
}

/// Completes candidates with the reactions that the conditions ahead of them ask for.
pub(super) async fn complete(
    tx: &mut Tx,
    (tenant_id, campaign_id): (TenantId, CampaignId),
    steps: &[Step],
    candidates: &mut [Candidate],
) -> Result<()> {
    for event_type in [EventType::Open, EventType::Click] {
        let Some(last) = last_to_ask(steps, event_type) else { continue };
        let ahead = |candidate: &&mut Candidate| candidate.due.step_order <= last;
        let mut asked: HashMap<LeadId, &mut Candidate> =
            candidates.iter_mut().filter(ahead).map(|candidate| (candidate.lead_id, candidate)).collect();
        if asked.is_empty() {
            continue;
        }
        let leads: Vec<Uuid> = asked.keys().map(|lead| lead.uuid()).collect();
        for row in tx.query(&LAST_REACTIONS, values![tenant_id, campaign_id, event_type, leads]).await? {
            let (url, at): (Option<String>, Timestamp) = (row.get("url")?, row.get("last_at")?);
            if let Some(candidate) = asked.get_mut(&row.get("lead_id")?) {
                note(candidate, event_type, url, at);
            }
        }
    }
    Ok(())
}

/// The place of the last condition that asks about such events.
fn last_to_ask(steps: &[Step], event_type: EventType) -> Option<u32> {
    let asks = |step: &&Step| {
        step.is_active && step.step_type == StepType::Condition && step.condition.asks.event_type() == Some(event_type)
    };
    steps.iter().filter(asks).map(|step| step.step_order).max()
}

fn note(candidate: &mut Candidate, event_type: EventType, url: Option<String>, at: Timestamp) {
    let reactions = &mut candidate.reactions;
    match event_type {
        EventType::Open => reactions.opened_at = reactions.opened_at.max(Some(at)),
        EventType::Click => reactions.clicks.push(Click { url: url.unwrap_or_default(), at }),
        EventType::Unsubscribe => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::ids::StepId;
    use domain::step::ConditionType;

    use super::*;

    fn condition(step_order: u32, asks: ConditionType, is_active: bool) -> Step {
        Step {
            id: StepId::from_uuid(Uuid::nil()),
            step_order,
            step_type: StepType::Condition,
            email_account_id: None,
            template_id: None,
            wait: Duration::ZERO,
            wait_until: None,
            condition: asks.into(),
            stop_if_false: false,
            is_active,
        }
    }

    #[test]
    fn only_events_that_a_condition_asks_for_are_read_and_only_up_to_it() {
        let steps = [
            Step { step_type: StepType::Email, ..condition(1, ConditionType::Opened, true) },
            condition(2, ConditionType::NotClicked, true),
            condition(4, ConditionType::Clicked, true),
            condition(6, ConditionType::Clicked, false),
            condition(7, ConditionType::Replied, true),
        ];
        assert_eq!(last_to_ask(&steps, EventType::Click), Some(4));
        assert_eq!(last_to_ask(&steps, EventType::Open), None);
    }
}
