//! What a person decides about a send that the ledger cannot move on by itself: one that is held, or one that failed.
//!
//! Not responsible for asking the person or for writing the decision down. To add a decision: a variant of `Decision`
//! and its arm in `resolve`.

use super::{EnrollmentEffect, Transition};
use crate::campaign::CampaignStatus;
use crate::lost_time::LostTime;
use crate::reason::Reason;
use crate::send::SendStatus;
use crate::step::{Due, Step, next_due};
use crate::time::Timestamp;

/// What becomes of a held send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It has arrived: the person found proof.
    Sent,
    /// It has not arrived: once more.
    Resend,
    /// Whatever became of it, it is over.
    Cancel,
}

/// What `resolve` has to know of a send.
#[derive(Clone, Debug)]
pub struct Held<'a> {
    /// Where it stands.
    pub status: SendStatus,
    /// Where its campaign stands.
    pub campaign: CampaignStatus,
    /// Why its lead may get no mail of the campaign, if so.
    pub exclusion: Option<Reason>,
    /// When its last dot was written; none = no dot ever was.
    pub last_dot_at: Option<Timestamp>,
    /// The campaign's steps, in order.
    pub steps: &'a [Step],
    /// The send's place among them.
    pub step_order: u32,
    /// Before when it surely did not leave.
    pub not_before: Timestamp,
    /// Set where it is held since it may have been sent in that time.
    pub lost_time: Option<LostTime>,
}

/// Why a decision cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolvable {
    /// Nobody has to decide.
    #[error(
        "it is {0}, and only a send that is held waits for a person (hint: `campaign resend-failed` sends failed ones again)"
    )]
    NotHeld(SendStatus),
    /// Nothing of the campaign is sent any more.
    #[error("its campaign is {0}, so it cannot go (hint: --sent or --cancel end it)")]
    CampaignEnded(CampaignStatus),
    /// The lead gets no mail any more.
    #[error("it cannot go: {} (hint: --sent or --cancel end it)", .0.for_people())]
    Excluded(Reason),
}

/// Turns a person's decision about a held send into a transition.
///
/// `Sent` is what a 250 would have done, at the time of the dot; the wait for the person makes nothing behind it late.
/// `Cancel` leaves the send out as a skipped one is, and planning ends the enrollment where its lead is excluded.
/// Of one that may have been sent in lost time, so may be what follows on it: that comes due when it would have, and
/// planning holds it as well.
/// `Resend` counts no attempt and keeps the unknowns, so that another one is held again.
///
/// # Errors
/// `Unresolvable`; nothing is to be written then.
pub fn resolve(decision: Decision, held: &Held<'_>, now: Timestamp) -> Result<Transition, Unresolvable> {
    if held.status != SendStatus::Held {
        return Err(Unresolvable::NotHeld(held.status));
    }
    let moves_on = |base: Timestamp| {
        let follows = |base| next_due(held.steps, held.step_order, base);
        let lost =
            held.lost_time.and_then(|lost| follows(held.not_before.max(lost.since)).filter(|due| lost.holds(due.at)));
        EnrollmentEffect::MoveOn(lost.or_else(|| follows(base).map(|due| Due { at: due.at.max(now), ..due })))
    };
    let transition = match decision {
        Decision::Sent => {
            Transition::final_state(SendStatus::Sent, None, moves_on(held.last_dot_at.unwrap_or(now).min(now)))
        }
        Decision::Cancel => {
            Transition::final_state(SendStatus::Cancelled, Some(Reason::CancelledByPerson), moves_on(now))
        }
        Decision::Resend => {
            may_send_again(held.campaign, held.exclusion)?;
            let again = Transition::final_state(SendStatus::Queued, None, EnrollmentEffect::Keep);
            Transition { not_before: Some(now), ..again }
        }
    };
    // Its day was settled when it was held.
    Ok(Transition { counted: false, give_back: false, ..transition })
}

/// Whether a send that ended, or waits for a person, may go back to the queue.
///
/// # Errors
/// `CampaignEnded` or `Excluded`.
pub fn may_send_again(campaign: CampaignStatus, exclusion: Option<Reason>) -> Result<(), Unresolvable> {
    if matches!(campaign, CampaignStatus::Cancelled | CampaignStatus::Archived) {
        return Err(Unresolvable::CampaignEnded(campaign));
    }
    exclusion.map_or(Ok(()), |reason| Err(Unresolvable::Excluded(reason)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::StepId;
    use crate::settle::{Attempted, Outcome, RetryPolicy, settle};
    use crate::step::{ConditionType, StepType};
    use crate::time::Zone;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn mail(step_order: u32) -> Step {
        Step {
            id: StepId::from_uuid(uuid::Uuid::from_u128(u128::from(step_order))),
            step_order,
            step_type: StepType::Email,
            email_account_id: None,
            template_id: None,
            wait: 48 * HOUR,
            wait_until: None,
            condition: ConditionType::Always.into(),
            stop_if_false: false,
            is_active: true,
        }
    }

    fn held(steps: &[Step]) -> Held<'_> {
        Held {
            status: SendStatus::Held,
            campaign: CampaignStatus::Sending,
            exclusion: None,
            last_dot_at: Some(NOW - HOUR),
            steps,
            step_order: 1,
            not_before: NOW - HOUR,
            lost_time: None,
        }
    }

    #[test]
    fn what_follows_on_a_mail_of_lost_time_is_due_in_it_where_it_could_have_left_in_it() {
        let steps = [mail(1), mail(2)];
        let due = |at| EnrollmentEffect::MoveOn(Some(Due { step_order: 2, at }));
        let lost = |since, until| Held { lost_time: Some(LostTime { since, until }), ..held(&steps) };
        for decision in [Decision::Sent, Decision::Cancel] {
            let long = Held { not_before: NOW - 100 * HOUR, ..lost(NOW - 60 * HOUR, NOW) };
            assert_eq!(
                resolve(decision, &long, NOW).unwrap().enrollment,
                due(NOW - 12 * HOUR),
                "it left then at the soonest"
            );
        }
        let short = resolve(Decision::Sent, &lost(NOW - 3 * HOUR, NOW), NOW).unwrap();
        assert_eq!(short.enrollment, due(NOW + 47 * HOUR), "two days cannot have passed in three hours");
    }

    #[test]
    fn sent_moves_on_from_the_dot_and_is_never_late() {
        let steps = [mail(1), mail(2)];
        let t = resolve(Decision::Sent, &held(&steps), NOW).unwrap();
        assert_eq!((t.status, t.reason, t.counted, t.give_back), (SendStatus::Sent, None, false, false));
        let due = |at| EnrollmentEffect::MoveOn(Some(Due { step_order: 2, at }));
        assert_eq!(t.enrollment, due(NOW + 47 * HOUR));
        let long_ago = Held { last_dot_at: Some(NOW - 100 * HOUR), ..held(&steps) };
        assert_eq!(resolve(Decision::Sent, &long_ago, NOW).unwrap().enrollment, due(NOW));
        let no_dot = Held { last_dot_at: None, ..held(&steps) };
        assert_eq!(resolve(Decision::Sent, &no_dot, NOW).unwrap().enrollment, due(NOW + 48 * HOUR));
    }

    #[test]
    fn cancel_goes_on_like_a_skipped_one() {
        let t = resolve(Decision::Cancel, &held(&[mail(1)]), NOW).unwrap();
        assert_eq!((t.status, t.reason), (SendStatus::Cancelled, Some(Reason::CancelledByPerson)));
        assert_eq!(t.enrollment, EnrollmentEffect::MoveOn(None), "the sequence is over");
        assert!(!t.dead_letter);
    }

    #[test]
    fn resend_counts_nothing_and_another_unknown_is_held_again() {
        let t = resolve(Decision::Resend, &held(&[]), NOW).unwrap();
        assert_eq!((t.status, t.not_before, t.reason), (SendStatus::Queued, Some(NOW), None));
        assert_eq!((t.counted, t.unknown, t.enrollment), (false, false, EnrollmentEffect::Keep));
        let attempted = Attempted {
            attempts: 2,
            unknowns: 2,
            budget_began_at: Some(NOW),
            max_attempts: None,
            on_unknown: crate::campaign::OnUnknown::Resend,
            account_failures: 0,
            account_zone: Zone::UTC,
            soft_bounces: 0,
            next: None,
        };
        assert_eq!(settle(Outcome::Unknown, &attempted, &RetryPolicy::default(), NOW, 0.5).status, SendStatus::Held);
    }

    #[test]
    fn only_what_is_held_is_resolved() {
        for status in SendStatus::ALL.iter().copied().filter(|status| *status != SendStatus::Held) {
            for decision in [Decision::Sent, Decision::Resend, Decision::Cancel] {
                let refused = resolve(decision, &Held { status, ..held(&[]) }, NOW);
                assert_eq!(refused.unwrap_err(), Unresolvable::NotHeld(status));
            }
        }
    }

    #[test]
    fn what_may_not_go_is_only_ended() {
        let ended = Held { campaign: CampaignStatus::Cancelled, ..held(&[]) };
        let excluded = Held { exclusion: Some(Reason::Suppressed), ..held(&[]) };
        for (held, why) in [
            (ended, Unresolvable::CampaignEnded(CampaignStatus::Cancelled)),
            (excluded, Unresolvable::Excluded(Reason::Suppressed)),
        ] {
            assert_eq!(resolve(Decision::Resend, &held, NOW).unwrap_err(), why);
            assert_eq!(resolve(Decision::Sent, &held, NOW).unwrap().status, SendStatus::Sent);
            assert_eq!(resolve(Decision::Cancel, &held, NOW).unwrap().status, SendStatus::Cancelled);
        }
        assert!(may_send_again(CampaignStatus::Completed, None).is_ok(), "a replay opens it again");
    }
}
