//! The text that is served, the page that documents it, and that nothing is counted past its handles.

use std::time::Duration;

use domain::campaign::OnUnknown;
use domain::reason::Reason;
use domain::settle::{Attempted, Outcome, ReplyAction, RetryPolicy, set_aside, settle};
use domain::time::{Timestamp, Zone};
use mail::smtp::{Delivery, Report, Stage, Step, Trouble};

use super::parts::SETTLED;
use super::*;

fn lines_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).collect()
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        committed,
        page(&Metrics::new().describe()),
        "print it anew: penguinmails schema metrics > docs/metrics.md"
    );
}

#[test]
fn counters_are_declared_under_the_name_that_their_samples_have() {
    let metrics = Metrics::new();
    metrics.scheduler.planned.inc_by(7);
    let text = metrics.text();
    assert!(text.contains("# TYPE penguinmails_scheduler_sends_planned_total counter\n"), "{text}");
    assert_eq!(
        lines_of(&text, "penguinmails_scheduler_sends_planned_total"),
        ["penguinmails_scheduler_sends_planned_total 7"]
    );
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("penguinmails_") || name.starts_with("process_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn a_latency_is_counted_in_its_bucket() {
    let metrics = Metrics::new();
    metrics.worker.intent.observe(Duration::from_millis(1));
    metrics.worker.intent.observe(Duration::from_millis(40));
    metrics.worker.intent.observe(Duration::from_secs(7000));
    let text = metrics.text();
    let bucket = |le: &str| {
        let line = format!("penguinmails_dot_intent_duration_seconds_bucket{{le=\"{le}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((bucket("0.001"), bucket("0.025"), bucket("0.05"), bucket("600.0"), bucket("+Inf")), (1, 1, 2, 2, 3));
    assert!(text.contains("penguinmails_dot_intent_duration_seconds_count 3\n"));
    assert!(text.contains("penguinmails_dot_intent_duration_seconds_sum 7000.041\n"));
}

#[test]
fn a_word_that_was_not_foreseen_is_counted_all_the_same() {
    let metrics = Metrics::new();
    metrics.database.observe(engines::db::Observation {
        access: engines::Access::Read,
        took: Duration::ZERO,
        error: Some(&engines::Error::Aborted),
    });
    metrics.worker.settled.inc(["sent", "by_a_miracle"]);
    let text = metrics.text();
    assert!(text.contains("penguinmails_database_errors_total{kind=\"aborted\"} 1\n"), "{text}");
    assert!(text.contains("{status=\"sent\",reason=\"by_a_miracle\"} 1\n"), "{text}");
}

#[test]
fn a_dialogue_is_counted_by_its_end_and_its_steps() {
    let metrics = Metrics::new();
    let step = |stage, code| Step { stage, took: Duration::from_millis(3), code };
    let report = Report {
        delivery: Delivery::Unknown(Trouble::Closed),
        gate_opened: true,
        stale: false,
        transcript: String::new(),
        steps: vec![step(Stage::Rcpt, Some(250)), step(Stage::Data, Some(354)), step(Stage::Dot, None)],
    };
    metrics.worker.dialogue(&report);
    let text = metrics.text();
    for line in [
        "penguinmails_smtp_deliveries_total{outcome=\"unknown\"} 1",
        "penguinmails_smtp_replies_total{stage=\"rcpt\",class=\"2xx\"} 1",
        "penguinmails_smtp_replies_total{stage=\"data\",class=\"3xx\"} 1",
        "penguinmails_smtp_replies_total{stage=\"dot\",class=\"2xx\"} 0",
        "penguinmails_smtp_stage_duration_seconds_count{stage=\"dot\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn every_way_to_settle_has_its_handle() {
    use ReplyAction::*;
    let actions = [
        BackOffAccount,
        NoSuchHost,
        Throttle,
        AuthFailed,
        PauseAccount,
        PauseUntilWindow,
        Retry,
        RetrySoft,
        BounceHard,
        BounceSoft,
        FailRouting,
        FailOurFault,
        FailContent,
        FailPolicy,
        FailUnknown,
    ];
    let others = [
        Outcome::Accepted,
        Outcome::Unknown,
        Outcome::GivenBack,
        Outcome::NotComposed,
        Outcome::TooLate,
        Outcome::Poison,
        Outcome::IntentRefused,
        Outcome::WindowClosed(Timestamp::EPOCH),
    ];
    let excluded = [Reason::LeadBounced, Reason::LeadUnsubscribed, Reason::LeadComplained, Reason::LeadReplied]
        .map(Outcome::Excluded);
    let mut send = Attempted {
        attempts: 0,
        unknowns: 0,
        budget_began_at: None,
        max_attempts: None,
        on_unknown: OnUnknown::Resend,
        account_failures: 0,
        account_zone: Zone::UTC,
        soft_bounces: 0,
        next: None,
    };
    let mut found = std::collections::HashSet::new();
    for _ in 0..2 {
        for outcome in others.into_iter().chain(excluded).chain(actions.map(Outcome::Refused)) {
            let transition = settle(outcome, &send, &RetryPolicy::default(), Timestamp::EPOCH, 0.5);
            let aside = set_aside(&transition);
            found.extend([transition, aside].map(|t| (t.status, t.reason)));
        }
        (send.unknowns, send.max_attempts) = (1, Some(1));
    }
    assert_eq!(found, SETTLED.into_iter().collect());
}
