//! A step of a campaign's sequence, and the walk from one step to the next.
//!
//! Not responsible for exclusions, windows or limits (`plan`, `pace`): only for which step follows and when it is due.
//! To add a kind of step: a word in `StepType` and an arm in `next_due`. To add a question of conditions: `condition`.

mod condition;

use std::time::Duration;

pub use condition::{Click, Condition, ConditionType, MAX_URL_PART, Reactions};
use serde::{Deserialize, Serialize};

use crate::ids::{EmailAccountId, StepId, TemplateId};
use crate::time::Timestamp;
use crate::words::words;

words! {
    /// What a step does.
    StepType, "step type", {
        /// Sends a mail.
        Email = "email",
        /// Lets time pass.
        Wait = "wait",
        /// Looks at what the lead did, and skips the next mail or ends the sequence.
        Condition = "condition",
    }
}

/// One step of a sequence as planning needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Id of the row.
    pub id: StepId,
    /// Position: 1 or more, unique in the campaign.
    pub step_order: u32,
    /// What the step does.
    pub step_type: StepType,
    /// Sends from this account instead of the lead's own.
    pub email_account_id: Option<EmailAccountId>,
    /// What an email step sends.
    pub template_id: Option<TemplateId>,
    /// Elapsed time after the previous message was sent.
    pub wait: Duration,
    /// Not before this time.
    pub wait_until: Option<Timestamp>,
    /// What a condition step asks.
    pub condition: Condition,
    /// Whether a false condition ends the enrollment (`stop`) instead of skipping the next mail.
    pub stop_if_false: bool,
    /// An inactive email step is skipped and shown; other inactive steps are passed over.
    pub is_active: bool,
}

/// The step that an enrollment waits for, and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// Order of an email or condition step.
    pub step_order: u32,
    /// When it is due, before windows and limits.
    pub at: Timestamp,
}

/// The first email or condition step behind `after_order`, due by elapsed time from `base`; `None` = the sequence is over.
///
/// `base` is when the previous message was sent, or when the campaign started. Waits on the way add up, those given
/// on the step itself included. `steps` is in order of `step_order`.
pub fn next_due(steps: &[Step], after_order: u32, base: Timestamp) -> Option<Due> {
    let mut at = base;
    for step in steps.iter().filter(|step| step.step_order > after_order) {
        let waited = (at + step.wait).max(step.wait_until.unwrap_or(Timestamp::from_micros(i64::MIN)));
        match step.step_type {
            StepType::Email => return Some(Due { step_order: step.step_order, at: waited }),
            StepType::Condition if step.is_active => return Some(Due { step_order: step.step_order, at: waited }),
            StepType::Wait if step.is_active => at = waited,
            StepType::Condition | StepType::Wait => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn step(step_order: u32, step_type: StepType, wait: Duration) -> Step {
        Step {
            id: StepId::from_uuid(uuid::Uuid::from_u128(u128::from(step_order))),
            step_order,
            step_type,
            email_account_id: None,
            template_id: None,
            wait,
            wait_until: None,
            condition: ConditionType::Always.into(),
            stop_if_false: false,
            is_active: true,
        }
    }

    #[test]
    fn waits_add_up_on_the_way_to_the_next_mail() {
        let steps =
            [step(1, StepType::Email, Duration::ZERO), step(2, StepType::Wait, HOUR), step(4, StepType::Email, HOUR)];
        let start = Timestamp::EPOCH;
        assert_eq!(next_due(&steps, 0, start), Some(Due { step_order: 1, at: start }));
        assert_eq!(next_due(&steps, 1, start), Some(Due { step_order: 4, at: start + 2 * HOUR }));
        assert_eq!(next_due(&steps, 4, start), None);
    }

    #[test]
    fn a_condition_stops_the_walk_and_an_inactive_one_does_not() {
        let mut steps = [step(1, StepType::Condition, HOUR), step(2, StepType::Email, HOUR)];
        assert_eq!(next_due(&steps, 0, Timestamp::EPOCH).unwrap().step_order, 1);
        steps[0].is_active = false;
        assert_eq!(next_due(&steps, 0, Timestamp::EPOCH), Some(Due { step_order: 2, at: Timestamp::EPOCH + HOUR }));
    }

    #[test]
    fn a_fixed_date_wins_over_an_earlier_wait() {
        let mut steps = [step(1, StepType::Email, HOUR)];
        steps[0].wait_until = Some(Timestamp::EPOCH + 5 * HOUR);
        assert_eq!(next_due(&steps, 0, Timestamp::EPOCH).unwrap().at, Timestamp::EPOCH + 5 * HOUR);
        steps[0].wait_until = Some(Timestamp::EPOCH);
        assert_eq!(next_due(&steps, 0, Timestamp::EPOCH).unwrap().at, Timestamp::EPOCH + HOUR);
    }
}
