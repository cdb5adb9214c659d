//! Cases of `plan_send`: exclusions, conditions, lateness, rotation.

use super::*;
use crate::campaign::CampaignSettings;
use crate::email_account::AccountPace;
use crate::pace::{DayUse, Days, ProviderBook, ProviderLimit, Recipient};
use crate::schedule::DaySet;
use crate::step::ConditionType;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_366_400); // Sunday 2026-03-01T12:00:00Z
const HOUR: Duration = Duration::from_secs(3600);
const HORIZON: Duration = Duration::from_secs(60);

fn uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}

fn step(step_order: u32, step_type: StepType) -> Step {
    Step {
        id: StepId::from_uuid(uuid(u128::from(step_order))),
        step_order,
        step_type,
        email_account_id: None,
        template_id: Some(crate::ids::TemplateId::from_uuid(uuid(1))),
        wait: Duration::ZERO,
        wait_until: None,
        condition: ConditionType::Opened.into(),
        stop_if_false: false,
        is_active: true,
    }
}

fn campaign(steps: Vec<Step>) -> CampaignPlan {
    CampaignPlan {
        id: CampaignId::from_uuid(uuid(1)),
        status: CampaignStatus::Sending,
        settings: CampaignSettings::default(),
        steps,
        seen_until: None,
        lost_time: None,
        trials: crate::trial::Trials::new(),
    }
}

fn candidate(step_order: u32) -> Candidate {
    Candidate {
        enrollment_id: EnrollmentId::from_uuid(uuid(20)),
        lead_id: LeadId::from_uuid(uuid(21)),
        due: Due { step_order, at: NOW },
        email_account_id: None,
        lead_status: LeadStatus::Active,
        lead_zone: None,
        suppressed: false,
        is_new: true,
        reactions: Reactions::default(),
        past: Past::default(),
        recipient: Recipient::Unlimited,
    }
}

fn account(n: u128, daily_limit: Option<u32>) -> AccountBook {
    AccountBook {
        id: EmailAccountId::from_uuid(uuid(n)),
        status: AccountStatus::Active,
        pace: AccountPace {
            daily_limit,
            min_gap: Duration::ZERO,
            warmup_started_at: None,
            zone: Zone::UTC,
            last_slot_at: None,
            backoff_until: None,
            backoff_failures: 0,
        },
        days: Days::new(),
        last_dot_at: None,
    }
}

fn books(accounts: Vec<AccountBook>) -> Books {
    Books {
        pool: accounts.iter().map(|a| a.id).collect(),
        accounts: accounts.into_iter().map(|a| (a.id, a)).collect(),
        campaign: CampaignBook { daily_limit: None, zone: Zone::UTC, days: Days::new() },
        tenant: None,
        providers: None,
    }
}

fn plan(campaign: &CampaignPlan, candidate: &Candidate, books: &mut Books) -> Plan {
    plan_send(campaign, candidate, books, &WarmupTable::default(), Moment { now: NOW, horizon: HORIZON })
}

#[test]
fn a_step_without_a_template_waits_for_a_person() {
    let campaign = campaign(vec![Step { template_id: None, ..step(1, StepType::Email) }]);
    let p = plan(&campaign, &candidate(1), &mut books(vec![account(1, None)]));
    assert!(matches!(p, Plan::Defer(Deferral { until: Timestamp::MAX, reason: Reason::StepWithoutTemplate, .. })));
}

#[test]
fn a_due_mail_gets_a_slot_from_the_pool() {
    let mut b = books(vec![account(9, None)]);
    let p = plan(&campaign(vec![step(1, StepType::Email)]), &candidate(1), &mut b);
    assert!(matches!(p, Plan::Send { step_order: 1, ref slot, .. } if slot.at == NOW));
}

/// A lead that has had the mails of these steps, the last of them at `NOW - HOUR`.
fn has_had(orders: &[u32]) -> Past {
    let ended = orders.iter().map(|order| (*order, NOW - 5 * HOUR)).collect();
    Past { ended, last_sent_at: Some(NOW - HOUR) }
}

#[test]
fn a_mail_that_was_had_is_passed_over_and_the_next_wait_counts_from_the_mail_before() {
    let mail = |order, hours| Step { wait: hours * HOUR, ..step(order, StepType::Email) };
    let pause = Step { wait: 2 * HOUR, ..step(4, StepType::Wait) };
    let c = campaign(vec![mail(1, 0), mail(2, 1), mail(3, 40), pause, mail(5, 3)]);
    let next = |past: Past, order| {
        let mut b = books(vec![account(9, None)]);
        match plan(&c, &Candidate { past, ..candidate(order) }, &mut b) {
            Plan::Move { next } => {
                assert!(b.accounts.values().all(|book| book.pace.last_slot_at.is_none()), "it takes no slot");
                next
            }
            other => panic!("{other:?}"),
        }
    };
    // It came to the second step an hour ago, by the mail that was sent then.
    assert_eq!(next(has_had(&[2, 3]), 2), Some(Due { step_order: 5, at: NOW - HOUR + 5 * HOUR }));
    assert_eq!(next(has_had(&[2]), 2), Some(Due { step_order: 3, at: NOW - HOUR + 40 * HOUR }));
    assert_eq!(next(has_had(&[5]), 5), None, "nothing is left");
    // Its own mail has ended just now.
    let own = Past { ended: [(2, NOW), (3, NOW - HOUR)].into(), last_sent_at: Some(NOW) };
    assert_eq!(next(own, 2), Some(Due { step_order: 5, at: NOW + 5 * HOUR }));
}

#[test]
fn excluded_leads_end_with_the_reason() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let cases = [
        (LeadStatus::Bounced, false, Reason::LeadBounced),
        (LeadStatus::Unsubscribed, false, Reason::LeadUnsubscribed),
        (LeadStatus::Complained, false, Reason::LeadComplained),
        (LeadStatus::Replied, false, Reason::LeadReplied),
        (LeadStatus::Active, true, Reason::Suppressed),
    ];
    for (lead_status, suppressed, expected) in cases {
        let who = Candidate { lead_status, suppressed, ..candidate(1) };
        let Plan::End { step: Some((_, 1)), reason } = plan(&c, &who, &mut books(vec![account(9, None)])) else {
            panic!("{lead_status} must end");
        };
        assert_eq!(reason, expected);
    }
    let mut answers = c.clone();
    answers.settings.stop_on_reply = false;
    let who = Candidate { lead_status: LeadStatus::Replied, ..candidate(1) };
    assert!(matches!(plan(&answers, &who, &mut books(vec![account(9, None)])), Plan::Send { .. }));
}

#[test]
fn a_campaign_that_does_not_send_defers_as_a_whole() {
    let mut c = campaign(vec![step(1, StepType::Email)]);
    for (status, reason) in [
        (CampaignStatus::Paused, Reason::CampaignPaused),
        (CampaignStatus::Draft, Reason::CampaignNotStarted),
        (CampaignStatus::Cancelled, Reason::CampaignCancelled),
    ] {
        c.status = status;
        let Plan::Defer(d) = plan(&c, &candidate(1), &mut books(vec![account(9, None)])) else { panic!("{status}") };
        assert_eq!((d.reason, d.scope, d.until), (reason, Scope::Campaign, Timestamp::MAX));
    }
}

#[test]
fn a_condition_passes_skips_or_stops() {
    let mut c = campaign(vec![
        step(1, StepType::Email),
        step(2, StepType::Condition),
        step(3, StepType::Email),
        step(4, StepType::Email),
    ]);
    let opened =
        Candidate { reactions: Reactions { opened_at: Some(NOW - HOUR), ..Reactions::default() }, ..candidate(2) };
    assert_eq!(plan(&c, &opened, &mut books(vec![])), Plan::Move { next: Some(Due { step_order: 3, at: NOW }) });
    let Plan::Skip { step_order: 3, reason: Reason::ConditionFalse, next: Some(next), .. } =
        plan(&c, &candidate(2), &mut books(vec![]))
    else {
        panic!("a false condition skips the next mail");
    };
    assert_eq!(next.step_order, 4);
    c.steps[1].condition.within = Some(HOUR / 2);
    assert!(
        matches!(plan(&c, &opened, &mut books(vec![])), Plan::Skip { .. }),
        "it is due now, and asks of the half hour before"
    );
    let waited = Candidate { due: Due { step_order: 2, at: NOW - HOUR * 3 / 4 }, ..opened.clone() };
    assert!(
        matches!(plan(&c, &waited, &mut books(vec![])), Plan::Move { .. }),
        "what counted when it was due still does"
    );
    c.steps[1].stop_if_false = true;
    let p = plan(&c, &candidate(2), &mut books(vec![]));
    assert_eq!(p, Plan::End { step: None, reason: Reason::ConditionFalse });
}

/// An edit has put the condition between two mails of which the lead has had both: what it skips is the third.
#[test]
fn a_false_condition_skips_a_mail_that_is_still_to_come() {
    let mut c = campaign(vec![
        step(1, StepType::Email),
        step(2, StepType::Condition),
        step(3, StepType::Email),
        step(4, StepType::Email),
        step(5, StepType::Email),
    ]);
    let skipped = |c: &CampaignPlan| {
        plan(c, &Candidate { past: has_had(&[3]), ..candidate(2) }, &mut books(vec![account(9, None)]))
    };
    let p = skipped(&c);
    assert!(matches!(p, Plan::Skip { step_order: 4, next: Some(Due { step_order: 5, .. }), .. }), "{p:?}");
    c.steps.truncate(3);
    assert_eq!(skipped(&c), Plan::Move { next: None }, "there is none");
}

#[test]
fn a_condition_is_not_asked_before_it_is_due() {
    let c = campaign(vec![step(1, StepType::Condition), step(2, StepType::Email)]);
    let soon = Candidate { due: Due { step_order: 1, at: NOW + HORIZON / 2 }, ..candidate(1) };
    assert!(matches!(plan(&c, &soon, &mut books(vec![])), Plan::Defer(d) if d.reason == Reason::NotDue));
}

#[test]
fn what_came_too_late_is_skipped_unless_it_waited_for_a_limit() {
    let mut c = campaign(vec![step(1, StepType::Email), step(2, StepType::Email)]);
    c.settings.max_lateness = Some(2.0);
    let late = Candidate { due: Due { step_order: 1, at: NOW - 5 * HOUR }, ..candidate(1) };
    let p = plan(&c, &late, &mut books(vec![account(9, None)]));
    let behind = Due { step_order: 2, at: NOW + c.steps[1].wait };
    assert!(
        matches!(p, Plan::Skip { reason: Reason::TooLate, next, .. } if next == Some(behind)),
        "one outage, one mail: {p:?}"
    );
    c.seen_until = Some(NOW - HOUR);
    assert!(matches!(plan(&c, &late, &mut books(vec![account(9, None)])), Plan::Send { .. }));
    // Nothing could have left while its window was closed, whoever stood still then.
    c.settings.send_time_end = "08:00".parse().unwrap();
    c.seen_until = Some(NOW - 4 * HOUR);
    let p = plan(&c, &late, &mut books(vec![account(9, None)]));
    assert!(matches!(p, Plan::Defer(Deferral { reason: Reason::WindowClosed, .. })), "{p:?}");
}

/// One window for all lets the campaign rest, whatever its accounts have left; but that one may not send is for a person to know.
#[test]
fn a_closed_window_for_all_is_told_before_a_full_account() {
    let mut c = campaign(vec![step(1, StepType::Email)]);
    c.settings.send_time_start = "15:00".parse().unwrap();
    let opens = Deferral { until: NOW + 3 * HOUR, reason: Reason::WindowClosed, scope: Scope::Campaign };
    let mut b = books(vec![account(9, Some(0))]);
    assert_eq!(plan(&c, &candidate(1), &mut b), Plan::Defer(opens));
    c.settings.timezone_strategy = TimezoneStrategy::RecipientLocal;
    assert!(matches!(plan(&c, &candidate(1), &mut b), Plan::Defer(Deferral { reason: Reason::AccountCap, .. })));
}

#[test]
fn the_last_look_sees_a_closed_window_lateness_and_a_reply() {
    let mut settings = CampaignSettings {
        send_days: DaySet::try_from(["mon", "tue"].as_slice()).unwrap(),
        ..CampaignSettings::default()
    };
    let look = |settings: &CampaignSettings, status, now| last_look(settings, status, None, NOW, now);
    let monday = NOW + 12 * HOUR;
    assert_eq!(look(&settings, LeadStatus::Active, NOW), Some(Outcome::WindowClosed(monday)), "a Sunday");
    assert_eq!(look(&settings, LeadStatus::Active, monday), None);
    assert_eq!(look(&settings, LeadStatus::Replied, monday), Some(Outcome::Excluded(Reason::LeadReplied)));
    settings.stop_on_reply = false;
    assert_eq!(look(&settings, LeadStatus::Replied, monday), None);
    settings.max_lateness = Some(2.0);
    assert_eq!(look(&settings, LeadStatus::Active, monday), Some(Outcome::TooLate));
}

#[test]
fn another_programs_job_keeps_to_its_account_and_to_every_limit() {
    let mut c = campaign(vec![step(1, StepType::Email), step(2, StepType::Email)]);
    let mut b = books(vec![account(8, None), account(9, Some(1))]);
    let given = EmailAccountId::from_uuid(uuid(9));
    let moment = Moment { now: NOW, horizon: HORIZON };
    let mut job = |c: &CampaignPlan, who: &Candidate| {
        plan_job(c, &c.steps[1], who, given, &mut b, &WarmupTable::default(), moment)
    };
    // The lead waits for step 1: what another program asks for needs no step before it.
    let sent = job(&c, &candidate(1));
    assert!(matches!(sent, Plan::Send { step_order: 2, email_account_id, .. } if email_account_id == given));
    let tomorrow = NOW + 12 * HOUR;
    assert!(matches!(job(&c, &candidate(1)), Plan::Send { slot: Slot { at, .. }, .. } if at == tomorrow));
    let full = job(&c, &candidate(1));
    assert!(matches!(full, Plan::Defer(Deferral { reason: Reason::AccountCap, .. })), "{full:?}");
    let later = Candidate { due: Due { step_order: 1, at: NOW + HOUR }, ..candidate(1) };
    assert!(matches!(job(&c, &later), Plan::Defer(Deferral { reason: Reason::NotDue, .. })));
    let gone = Candidate { lead_status: LeadStatus::Unsubscribed, ..candidate(1) };
    assert!(matches!(job(&c, &gone), Plan::Skip { step_order: 2, reason: Reason::LeadUnsubscribed, .. }));
    c.status = CampaignStatus::Paused;
    let waits = job(&c, &candidate(1));
    assert!(matches!(waits, Plan::Defer(Deferral { reason: Reason::CampaignPaused, .. })), "{waits:?}");
}

/// Another campaign's mail goes from the same account meanwhile.
#[test]
fn another_programs_job_takes_no_slot_in_a_window_or_a_day_to_come() {
    let mut c = campaign(vec![step(1, StepType::Email)]);
    let mut busy = account(9, None);
    busy.pace.min_gap = HOUR;
    busy.pace.last_slot_at = Some(NOW);
    let mut b = books(vec![busy]);
    let given = EmailAccountId::from_uuid(uuid(9));
    let moment = Moment { now: NOW, horizon: HORIZON };
    let job = |c: &CampaignPlan, b: &mut Books| {
        plan_job(c, &c.steps[0], &candidate(1), given, b, &WarmupTable::default(), moment)
    };
    // It is closed when the account's gap is over.
    c.settings.send_time_end = "12:30".parse().unwrap();
    let tomorrow = NOW + 12 * HOUR;
    for strategy in [TimezoneStrategy::Single, TimezoneStrategy::RecipientLocal] {
        c.settings.timezone_strategy = strategy;
        let p = job(&c, &mut b);
        assert!(matches!(p, Plan::Defer(d) if (d.until, d.reason) == (tomorrow, Reason::WindowClosed)), "{p:?}");
    }
    c.settings.send_time_end = CampaignSettings::default().send_time_end;
    b.campaign = CampaignBook { daily_limit: Some(0), ..b.campaign.clone() };
    let p = job(&c, &mut b);
    assert!(matches!(p, Plan::Defer(d) if d.reason == Reason::CampaignCap), "{p:?}");
    let book = |b: &Books| b.accounts[&given].pace.last_slot_at;
    assert_eq!(book(&b), Some(NOW), "nothing was booked");
    // Behind its account's own gap everybody else waits as well.
    b.campaign.daily_limit = None;
    assert!(
        matches!(job(&c, &mut b), Plan::Send { slot: Slot { at, .. }, .. } if at >= NOW + HOUR && book(&b) == Some(at))
    );
}

/// Else all that its account sends to others would wait behind it.
#[test]
fn another_programs_job_takes_no_slot_where_its_provider_is_full() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let mut b = books(vec![account(9, None)]);
    let limit = ProviderLimit { provider: "google.com".into(), per_hour: Some(1), per_day: None };
    let mut providers = ProviderBook::new([limit]);
    let recipient = providers.recipient(Some("google.com"));
    providers.take("google.com", NOW);
    b.providers = Some(providers);
    let given = EmailAccountId::from_uuid(uuid(9));
    let moment = Moment { now: NOW, horizon: HORIZON };
    let mut job = |who: &Candidate| plan_job(&c, &c.steps[0], who, given, &mut b, &WarmupTable::default(), moment);
    let expected = Deferral { until: NOW + HOUR, reason: Reason::ProviderCap, scope: Scope::Lead };
    assert_eq!(job(&Candidate { recipient, ..candidate(1) }), Plan::Defer(expected));
    assert!(matches!(job(&candidate(1)), Plan::Send { slot: Slot { at: NOW, .. }, .. }), "others are not held up");
}

#[test]
fn inactive_and_removed_steps_are_left_behind() {
    let mut c = campaign(vec![step(1, StepType::Email), step(3, StepType::Email)]);
    c.steps[0].is_active = false;
    let p = plan(&c, &candidate(1), &mut books(vec![account(9, None)]));
    assert!(matches!(p, Plan::Skip { reason: Reason::StepInactive, next: Some(Due { step_order: 3, .. }), .. }));
    let p = plan(&c, &candidate(2), &mut books(vec![account(9, None)]));
    assert_eq!(p, Plan::Move { next: Some(Due { step_order: 3, at: NOW }) });
    assert_eq!(plan(&c, &candidate(4), &mut books(vec![])), Plan::Move { next: None });
}

#[test]
fn new_leads_go_where_there_is_room_and_old_ones_stay() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let mut small = account(8, Some(10));
    small.days.insert("2026-03-01".into(), DayUse { reserved: 4, used: 4 });
    let mut b = books(vec![small, account(9, Some(10))]);
    let from = |p: Plan| match p {
        Plan::Send { email_account_id, .. } => email_account_id.uuid().as_u128(),
        other => panic!("{other:?}"),
    };
    assert_eq!(from(plan(&c, &candidate(1), &mut b)), 9);
    let old = Candidate { email_account_id: Some(EmailAccountId::from_uuid(uuid(8))), ..candidate(1) };
    assert_eq!(from(plan(&c, &old, &mut b)), 8);
}

#[test]
fn accounts_without_a_cap_share_evenly() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let mut b = books(vec![account(8, None), account(9, None)]);
    for _ in 0..10 {
        plan(&c, &candidate(1), &mut b);
    }
    let taken: Vec<u32> = b.accounts.values().map(|a| a.days["2026-03-01"].reserved).collect();
    assert_eq!(taken, [5, 5]);
}

#[test]
fn without_any_account_the_campaign_waits() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let mut broken = account(8, None);
    broken.status = AccountStatus::Paused;
    let Plan::Defer(d) = plan(&c, &candidate(1), &mut books(vec![broken])) else { panic!("must wait") };
    assert_eq!((d.reason, d.scope), (Reason::NoAccount, Scope::Campaign));
}

#[test]
fn who_finds_no_account_is_told_what_those_wait_for_that_may_send() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let mut stopped = account(8, None);
    stopped.status = AccountStatus::Paused;
    let mut b = books(vec![stopped, account(9, Some(0))]);
    let (mut page, moment) = (crate::page::Page::default(), Moment { now: NOW, horizon: HORIZON });
    page.decide(&c, (&mut [candidate(1)], 0), &mut b, &WarmupTable::default(), moment);
    let said = page.deferrals[&0];
    assert_eq!((said.reason, Some(said)), (Reason::AccountCap, page.stop));
}

#[test]
fn a_lead_is_offered_to_every_account_of_the_pool_however_short_the_sequence() {
    let c = campaign(vec![step(1, StepType::Email)]);
    let decide = |b: &mut Books| {
        let (mut page, moment) = (crate::page::Page::default(), Moment { now: NOW, horizon: HORIZON });
        page.decide(&c, (&mut [candidate(1)], 0), b, &WarmupTable::default(), moment);
        page
    };
    // They rank before the one that is free, since they have more room today.
    let resting = (1..=20).map(|n| {
        let mut book = account(n, Some(50));
        book.pace = AccountPace { min_gap: HOUR, last_slot_at: Some(NOW), ..book.pace };
        book
    });
    let mut b = books(resting.clone().chain([account(90, Some(1))]).collect());
    let page = decide(&mut b);
    assert_eq!(page.sends.iter().map(|send| send.account).collect::<Vec<_>>(), [Some(account(90, None).id)]);
    let page = decide(&mut books(resting.collect()));
    let (said, stop) = (page.deferrals[&0], page.stop.unwrap());
    assert_eq!((said.reason, said.until, page.sends.len()), (Reason::AccountGap, stop.until, 0));
}

#[test]
fn what_was_due_in_lost_time_is_held_whatever_windows_and_limits_say() {
    let lost = LostTime { since: NOW - DAY, until: NOW };
    let mut c = CampaignPlan { lost_time: Some(lost), ..campaign(vec![step(1, StepType::Email)]) };
    c.settings.max_lateness = Some(0.0);
    let due = |at| Candidate { due: Due { step_order: 1, at }, ..candidate(1) };
    for at in [lost.since, lost.until] {
        let mut b = books(vec![account(9, Some(1))]);
        let p = plan(&c, &due(at), &mut b);
        let held = Plan::Hold { step_id: c.steps[0].id, step_order: 1, email_account_id: Some(account(9, None).id) };
        assert_eq!(p, held);
        assert!(b.accounts.values().all(|book| book.days.is_empty()), "no slot is taken");
    }
    let later = plan(&c, &due(NOW + Duration::from_secs(1)), &mut books(vec![account(9, None)]));
    assert!(matches!(later, Plan::Send { .. }), "{later:?}");
    let excluded = Candidate { lead_status: LeadStatus::Unsubscribed, ..due(NOW) };
    assert!(matches!(plan(&c, &excluded, &mut books(vec![])), Plan::End { .. }), "nobody need decide about it");
}

#[test]
fn another_programs_job_of_lost_time_is_held_whatever_else_holds_it() {
    let lost = LostTime { since: NOW - DAY, until: NOW };
    let mut c = CampaignPlan { lost_time: Some(lost), ..campaign(vec![step(1, StepType::Email)]) };
    let limit = ProviderLimit { provider: "google.com".into(), per_hour: None, per_day: Some(1) };
    let mut providers = ProviderBook::new([limit]);
    let recipient = providers.recipient(Some("google.com"));
    providers.take("google.com", NOW - HOUR);
    let mut b = Books { providers: Some(providers), ..books(vec![account(9, None)]) };
    let who = Candidate { due: Due { step_order: 1, at: NOW - HOUR }, recipient, ..candidate(1) };
    let (given, moment) = (EmailAccountId::from_uuid(uuid(9)), Moment { now: NOW, horizon: HORIZON });
    for status in [CampaignStatus::Sending, CampaignStatus::Paused] {
        c.status = status;
        let p = plan_job(&c, &c.steps[0], &who, given, &mut b, &WarmupTable::default(), moment);
        assert!(matches!(p, Plan::Hold { email_account_id: Some(id), .. } if id == given), "{p:?}");
    }
}
