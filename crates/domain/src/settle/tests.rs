//! Cases of `settle`, one per row of the table in PROTOCOL 3.

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn first() -> Attempted {
    Attempted {
        attempts: 0,
        unknowns: 0,
        budget_began_at: None,
        max_attempts: None,
        on_unknown: OnUnknown::Resend,
        account_failures: 0,
        account_zone: Zone::UTC,
        soft_bounces: 0,
        next: Some(Due { step_order: 2, at: NOW }),
    }
}

fn decide(outcome: Outcome, send: &Attempted) -> Transition {
    settle(outcome, send, &RetryPolicy::default(), NOW, 0.5)
}

#[test]
fn accepted_moves_the_enrollment_on_and_keeps_the_use() {
    let t = decide(Outcome::Accepted, &first());
    assert_eq!((t.status, t.give_back, t.counted), (SendStatus::Sent, false, true));
    assert_eq!(t.enrollment, EnrollmentEffect::MoveOn(first().next));
    assert_eq!(t.account, None);
    let t = decide(Outcome::Accepted, &Attempted { account_failures: 3, ..first() });
    assert_eq!(t.account, Some(AccountEffect::Recovered));
}

#[test]
fn a_temporary_refusal_follows_the_delays_and_counts() {
    let mut send = first();
    let waits = [5, 15, 60, 240, 720, 1440];
    for (attempts, wait) in (0..).zip(waits) {
        send.attempts = attempts;
        let t = decide(Outcome::Refused(ReplyAction::Retry), &send);
        assert_eq!(t.status, SendStatus::Queued);
        assert_eq!(t.not_before, Some(NOW + wait * MINUTE));
        assert!(t.counted && t.give_back);
        assert_eq!(t.account, None);
    }
}

#[test]
fn retries_are_spread_by_a_quarter_either_way() {
    let at = |chance| {
        settle(Outcome::Refused(ReplyAction::Retry), &first(), &RetryPolicy::default(), NOW, chance).not_before.unwrap()
    };
    assert_eq!(at(0.0), NOW + 225 * MINUTE / 60);
    assert_eq!(at(1.0), NOW + 375 * MINUTE / 60);
}

#[test]
fn the_budget_ends_by_time_or_by_the_payload_and_leaves_a_dead_letter() {
    let old = Attempted { attempts: 9, budget_began_at: Some(NOW - 50 * 60 * MINUTE), ..first() };
    let t = decide(Outcome::Refused(ReplyAction::Retry), &old);
    assert_eq!((t.status, t.reason, t.dead_letter), (SendStatus::Failed, Some(Reason::Expired), true));
    assert_eq!(t.enrollment, EnrollmentEffect::End(Reason::Expired));
    let bounded = Attempted { attempts: 1, max_attempts: Some(2), ..first() };
    assert_eq!(decide(Outcome::Refused(ReplyAction::Retry), &bounded).status, SendStatus::Failed);
    let more = Attempted { attempts: 0, max_attempts: Some(2), ..first() };
    assert_eq!(decide(Outcome::Refused(ReplyAction::Retry), &more).status, SendStatus::Queued);
}

#[test]
fn trouble_with_the_server_backs_the_account_off_and_costs_no_attempt() {
    for (failures, minutes) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (200, 60)] {
        let send = Attempted { account_failures: failures, ..first() };
        let t = decide(Outcome::Refused(ReplyAction::BackOffAccount), &send);
        assert_eq!((t.status, t.counted), (SendStatus::Queued, false));
        let until = NOW + minutes * MINUTE;
        assert_eq!(t.account, Some(AccountEffect::BackOff { until, failures: failures + 1 }));
        assert_eq!(t.not_before, Some(until));
        assert_eq!(t.enrollment, EnrollmentEffect::Keep);
    }
}

/// What becomes of the breaker when its probe ends so.
#[test]
fn a_probe_closes_the_breaker_moves_it_one_rung_or_leaves_it() {
    use ReplyAction::*;
    let probe = Attempted { account_failures: 2, ..first() };
    for action in
        [Retry, RetrySoft, BounceHard, BounceSoft, FailRouting, FailOurFault, FailContent, FailPolicy, FailUnknown]
    {
        let outcome = Outcome::Refused(action);
        assert_eq!(decide(outcome, &probe).account, Some(AccountEffect::Recovered), "{action:?}: it was dealt with");
        assert_eq!(decide(outcome, &first()).account, None, "{action:?}: a closed one is not written");
    }
    let next_rung = AccountEffect::BackOff { until: NOW + 4 * MINUTE, failures: 3 };
    for action in [BackOffAccount, Throttle] {
        assert_eq!(decide(Outcome::Refused(action), &probe).account, Some(next_rung), "{action:?}");
    }
    for outcome in [Outcome::Unknown, Outcome::GivenBack, Outcome::NotComposed, Outcome::TooLate, Outcome::Poison] {
        assert_eq!(decide(outcome, &probe).account, None, "{outcome:?} says nothing about the server");
    }
}

#[test]
fn a_refused_log_in_stops_the_account_and_leaves_the_lead_alone() {
    let t = decide(Outcome::Refused(ReplyAction::AuthFailed), &first());
    assert_eq!(t.account, Some(AccountEffect::AuthenticationFailed));
    assert_eq!((t.status, t.counted, t.lead), (SendStatus::Queued, false, None));
}

#[test]
fn a_quota_waits_for_the_accounts_next_day() {
    let send = Attempted { account_zone: "Europe/Madrid".parse().unwrap(), ..first() };
    let t = decide(Outcome::Refused(ReplyAction::PauseUntilWindow), &send);
    // NOW is 1970-01-12T13:46:40Z; Madrid was at +01:00.
    assert_eq!(t.not_before.unwrap().to_string(), "1970-01-12T23:00:00Z");
}

#[test]
fn a_hard_bounce_suppresses_at_once_and_a_soft_one_after_three() {
    let t = decide(Outcome::Refused(ReplyAction::BounceHard), &first());
    assert_eq!((t.status, t.lead), (SendStatus::Bounced, Some(LeadEffect::Bounced)));
    for (before, effect) in [(0, None), (1, None), (2, Some(LeadEffect::Bounced))] {
        let t = decide(Outcome::Refused(ReplyAction::BounceSoft), &Attempted { soft_bounces: before, ..first() });
        assert_eq!((t.status, t.lead), (SendStatus::Bounced, effect));
    }
}

/// 4.1.1 and 4.2.1: the address is to blame, where nothing has changed within the time for retries.
#[test]
fn a_temporary_answer_about_the_address_becomes_a_soft_bounce() {
    let outcome = Outcome::Refused(ReplyAction::RetrySoft);
    assert_eq!(decide(outcome, &first()), decide(Outcome::Refused(ReplyAction::Retry), &first()), "tried again first");
    for (before, effect) in [(0, None), (2, Some(LeadEffect::Bounced))] {
        let old = Attempted { budget_began_at: Some(NOW - 80 * 60 * MINUTE), soft_bounces: before, ..first() };
        let t = decide(outcome, &old);
        let end = (t.status, t.reason, t.lead);
        assert_eq!(end, (SendStatus::Bounced, Some(Reason::RecipientRefused), effect));
    }
}

#[test]
fn policy_content_and_protocol_fail_without_suppression() {
    use ReplyAction::*;
    for action in [FailPolicy, FailContent, FailOurFault, FailRouting, FailUnknown] {
        let t = decide(Outcome::Refused(action), &first());
        assert_eq!((t.status, t.lead, t.dead_letter), (SendStatus::Failed, None, true));
        assert!(matches!(t.enrollment, EnrollmentEffect::End(_)));
    }
}

#[test]
fn an_unknown_outcome_is_sent_once_more_and_then_held() {
    let t = decide(Outcome::Unknown, &first());
    assert_eq!((t.status, t.unknown, t.give_back), (SendStatus::Queued, true, false));
    let t = decide(Outcome::Unknown, &Attempted { unknowns: 1, ..first() });
    assert_eq!((t.status, t.not_before), (SendStatus::Held, None));
    let t = decide(Outcome::Unknown, &Attempted { on_unknown: OnUnknown::Hold, ..first() });
    assert_eq!((t.status, t.unknown), (SendStatus::Held, true));
}

#[test]
fn a_result_that_the_ledger_does_not_take_holds_its_send_and_touches_nothing_else() {
    let failed = Attempted { account_failures: 2, soft_bounces: 2, ..first() };
    for outcome in [Outcome::Accepted, Outcome::Unknown, Outcome::Refused(ReplyAction::BounceHard)] {
        let result = decide(outcome, &failed);
        let t = set_aside(&result);
        assert_eq!((t.status, t.reason, t.not_before), (SendStatus::Held, Some(Reason::ResultRefused), None));
        assert_eq!((t.lead, t.account, t.enrollment), (None, None, EnrollmentEffect::Keep), "{outcome:?}");
        assert_eq!((t.give_back, t.dead_letter), (false, false), "{outcome:?}");
        assert_eq!((t.counted, t.unknown), (result.counted, result.unknown));
    }
}

#[test]
fn a_closed_window_moves_the_send_and_an_excluded_lead_ends_its_enrollment() {
    let opens = NOW + Duration::from_secs(3600);
    let t = decide(Outcome::WindowClosed(opens), &first());
    assert_eq!((t.status, t.not_before, t.counted), (SendStatus::Queued, Some(opens), false));
    let t = decide(Outcome::Excluded(Reason::LeadReplied), &first());
    assert_eq!((t.status, t.counted, t.dead_letter), (SendStatus::Skipped, false, false));
    assert_eq!(t.enrollment, EnrollmentEffect::End(Reason::LeadReplied));
}

#[test]
fn what_we_stopped_ourselves_waits_without_a_count() {
    let t = decide(Outcome::GivenBack, &first());
    assert_eq!((t.status, t.not_before, t.counted), (SendStatus::Queued, Some(NOW), false));
    for (outcome, reason) in [(Outcome::Poison, Reason::Poison), (Outcome::IntentRefused, Reason::IntentRefused)] {
        let t = decide(outcome, &first());
        assert_eq!((t.status, t.reason, t.counted), (SendStatus::Held, Some(reason), false));
    }
    let t = decide(Outcome::TooLate, &first());
    assert_eq!((t.status, t.enrollment), (SendStatus::Skipped, EnrollmentEffect::MoveOn(first().next)));
}

#[test]
fn our_own_errors_wait_longer_each_time_up_to_five_minutes() {
    assert_eq!(own_error_delay(0, 0.5), Duration::from_secs(1));
    assert_eq!(own_error_delay(3, 0.5), Duration::from_secs(8));
    assert_eq!(own_error_delay(60, 0.5), Duration::from_secs(300));
}

#[test]
fn a_loop_asks_a_service_that_is_away_again_within_seconds_however_long_it_was() {
    assert_eq!(loop_delay(0, true, 0.5), Duration::from_secs(1));
    assert_eq!(loop_delay(60, true, 1.0), Duration::from_secs(5));
    assert_eq!(loop_delay(60, false, 0.5), Duration::from_secs(300));
}
