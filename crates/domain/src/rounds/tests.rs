//! Which occurrence is due after how long a silence, and who may begin again; properties over random campaigns.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn settings(json: &str) -> CampaignSettings {
    let settings: CampaignSettings = serde_json::from_str(json).unwrap();
    settings.check().unwrap();
    settings
}

fn rounds(json: &str, first: &str) -> Rounds {
    Rounds::of(&settings(json), Some(at(first)), None).unwrap()
}

/// Every occurrence, each begun when it comes.
fn all(mut rounds: Rounds, most: usize) -> Vec<Timestamp> {
    let next = || {
        let next = rounds.next()?;
        rounds.begin(next);
        Some(next)
    };
    std::iter::from_fn(next).take(most).collect()
}

#[test]
fn without_a_rhythm_or_a_start_nothing_comes_back() {
    assert_eq!(Rounds::of(&settings("{}"), Some(at("2026-03-01T09:00:00Z")), None), None);
    assert_eq!(Rounds::of(&settings(r#"{"repeat":"daily"}"#), None, None), None);
}

#[test]
fn settings_that_say_nothing_sensible_are_refused_with_a_hint() {
    for (json, said) in [
        (r#"{"repeat_count":3}"#, "repeat_count says when"),
        (r#"{"repeat_until":"2026-12-31"}"#, "repeat_until says when"),
        (r#"{"repeat":"daily","repeat_count":0}"#, "repeat_count is 0"),
        (r#"{"re_enroll_after_days":0}"#, "re_enroll_after_days is 0"),
    ] {
        let settings: CampaignSettings = serde_json::from_str(json).unwrap();
        let error = settings.check().unwrap_err().to_string();
        assert!(error.starts_with(said) && error.contains("(hint: "), "{error}");
    }
    let unknown = serde_json::from_str::<CampaignSettings>(r#"{"repeat":"hourly"}"#).unwrap_err().to_string();
    assert!(unknown.contains("daily, weekly, monthly"), "{unknown}");
}

#[test]
fn the_first_round_is_one_of_those_that_are_counted() {
    let first = "2026-01-31T09:00:00Z";
    let monthly = all(rounds(r#"{"repeat":"monthly","repeat_count":4}"#, first), 9);
    assert_eq!(monthly, [at("2026-02-28T09:00:00Z"), at("2026-03-31T09:00:00Z"), at("2026-04-30T09:00:00Z")]);
    assert_eq!(all(rounds(r#"{"repeat":"monthly","repeat_count":1}"#, first), 9), []);
    let weekly = all(rounds(r#"{"repeat":"weekly","repeat_until":"2026-02-14"}"#, first), 9);
    assert_eq!(weekly, [at("2026-02-07T09:00:00Z"), at("2026-02-14T09:00:00Z")], "the last day counts");
}

#[test]
fn the_local_time_of_the_start_is_kept_when_the_clocks_change() {
    let weekly = all(rounds(r#"{"repeat":"weekly","timezone":"Europe/Madrid"}"#, "2026-03-22T09:00:00+01:00"), 2);
    assert_eq!(weekly, [at("2026-03-29T09:00:00+02:00"), at("2026-04-05T09:00:00+02:00")]);
}

#[test]
fn of_several_that_were_missed_the_last_one_is_due_and_no_other() {
    let mut daily = rounds(r#"{"repeat":"daily"}"#, "2026-03-01T09:00:00Z");
    assert_eq!(daily.due(at("2026-03-02T08:59:59Z")), None);
    assert_eq!(daily.due(at("2026-03-02T09:00:00Z")), Some(at("2026-03-02T09:00:00Z")));
    let late = daily.due(at("2026-03-09T12:00:00Z"));
    assert_eq!(late, Some(at("2026-03-09T09:00:00Z")));
    daily.begin(late.unwrap());
    assert_eq!((daily.due(at("2026-03-10T08:00:00Z")), daily.next()), (None, Some(at("2026-03-10T09:00:00Z"))));
}

#[test]
fn what_was_seen_before_the_campaign_came_back_is_no_round() {
    let first = Some(at("2026-03-01T09:00:00Z"));
    let rounds = Rounds::of(&settings(r#"{"repeat":"daily"}"#), first, Some(at("2026-03-20T10:00:00Z"))).unwrap();
    assert_eq!(rounds.next(), Some(at("2026-03-21T09:00:00Z")));
}

fn finished() -> Standing {
    Standing {
        status: EnrollmentStatus::Completed,
        stop_reason: None,
        finished_at: at("2026-03-01T09:00:00Z"),
        waits: false,
        lead_status: LeadStatus::Active,
        suppressed: false,
    }
}

#[test]
fn who_has_gone_through_the_sequence_may_begin_again() {
    assert_eq!(may_begin(&finished(), true, None), Ok(()));
    let by_condition = Some(Reason::ConditionFalse);
    let ended = Standing { status: EnrollmentStatus::Stopped, stop_reason: by_condition, ..finished() };
    assert_eq!(may_begin(&ended, true, None), Ok(()), "the sequence itself has ended it");
    let finished_at = finished().finished_at;
    assert_eq!(may_begin(&finished(), true, Some(finished_at)), Ok(()));
    assert_eq!(may_begin(&finished(), true, Some(finished_at - DAY)), Err(NotAgain::TooSoon));
}

#[test]
fn nobody_begins_who_is_under_way_waits_was_stopped_or_gets_no_mail() {
    let active = Standing { status: EnrollmentStatus::Active, ..finished() };
    assert_eq!(may_begin(&active, true, None), Err(NotAgain::UnderWay));
    assert_eq!(may_begin(&Standing { waits: true, ..finished() }, true, None), Err(NotAgain::Waits));
    for reason in [Reason::Expired, Reason::LeadReplied, Reason::UnknownRecipient] {
        let stopped = Standing { status: EnrollmentStatus::Stopped, stop_reason: Some(reason), ..finished() };
        assert_eq!(may_begin(&stopped, false, None), Err(NotAgain::Stopped(Some(reason))));
    }
    let excluded = |standing| match may_begin(&standing, true, None) {
        Err(NotAgain::Excluded(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(excluded(Standing { suppressed: true, ..finished() }), Reason::Suppressed);
    for (lead_status, reason) in [
        (LeadStatus::Bounced, Reason::LeadBounced),
        (LeadStatus::Unsubscribed, Reason::LeadUnsubscribed),
        (LeadStatus::Complained, Reason::LeadComplained),
        (LeadStatus::Replied, Reason::LeadReplied),
    ] {
        assert_eq!(excluded(Standing { lead_status, ..finished() }), reason);
    }
    let replied = Standing { lead_status: LeadStatus::Replied, ..finished() };
    assert_eq!(may_begin(&replied, false, None), Ok(()), "a reply stops nobody in this campaign");
}

proptest! {
    /// Rounds come one after the other, at the start's local time where that day has it, each a unit behind the one before.
    #[test]
    fn rounds_follow_each_other_at_the_same_local_time(
        start in 1_700_000_000_i64..1_900_000_000,
        zone in prop::sample::select(vec!["UTC", "Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        repeat in prop::sample::select(vec!["daily", "weekly", "monthly"]),
        count in 1_u32..40,
    ) {
        let first = Timestamp::from_unix_seconds(start);
        let settings = settings(&format!(r#"{{"repeat":"{repeat}","timezone":"{zone}","repeat_count":{count}}}"#));
        let found = all(Rounds::of(&settings, Some(first), None).unwrap(), 100);
        prop_assert_eq!(found.len() as u32, count - 1);
        let zone: Zone = zone.parse().unwrap();
        let time_of = |at: Timestamp| zone.local(at)[11..19].to_owned();
        let (least, most) = match repeat { "daily" => (0, 2), "weekly" => (6, 8), _ => (27, 32) };
        let mut before = first;
        for at in found {
            prop_assert!(at > before && at.since(before) >= DAY * least && at.since(before) <= DAY * most, "{before} {at}");
            // Else the end of the gap in which it would lie, which comes at two or three in the night.
            let ends_a_gap = ["02:30:00", "03:00:00"].contains(&time_of(at).as_str()) && time_of(first) < time_of(at);
            prop_assert!(time_of(at) == time_of(first) || ends_a_gap, "{first} {at}");
            before = at;
        }
    }

    /// However long nobody looked, one occurrence is due: the last that has come, and behind it the next one is to come.
    #[test]
    fn at_most_one_is_due(start in 1_700_000_000_i64..1_800_000_000, silence in 0_u64..40_000_000) {
        let first = Timestamp::from_unix_seconds(start);
        let now = first + Duration::from_secs(silence);
        let mut rounds = Rounds::of(&settings(r#"{"repeat":"weekly"}"#), Some(first), None).unwrap();
        match rounds.due(now) {
            Some(at) => {
                prop_assert!(at <= now && now.since(at) < DAY * 7);
                rounds.begin(at);
            }
            None => prop_assert!(now.since(first) < DAY * 7),
        }
        prop_assert_eq!(rounds.due(now), None);
        prop_assert!(rounds.next().unwrap() > now);
    }
}
