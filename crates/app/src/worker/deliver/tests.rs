//! What the ends of dialogues do to a send, its lead and its account: the rows of the faults that the SMTP client
//! reports (`mail/smtp/connection/tests` has their dialogues), from a delivery through its rule to the transition.

use domain::campaign::OnUnknown;
use domain::reason::Reason;
use domain::send::SendStatus;
use domain::settle::{LeadEffect, RetryPolicy, Transition};
use domain::time::Zone;
use mail::smtp::ReplyParser;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn reply(text: &str) -> Reply {
    let mut parser = ReplyParser::default();
    parser.feed(format!("{text}\r\n").as_bytes());
    parser.next_reply().unwrap().unwrap()
}

fn refused(stage: Stage, text: &str) -> Delivery {
    Delivery::Refused(stage, reply(text))
}

/// What becomes of a send whose account has failed so often in a row.
fn after(account_failures: u32, delivery: &Delivery) -> Transition {
    let attempted = Attempted {
        attempts: 0,
        unknowns: 0,
        budget_began_at: None,
        max_attempts: None,
        on_unknown: OnUnknown::Resend,
        account_failures,
        account_zone: Zone::UTC,
        soft_bounces: 0,
        next: None,
    };
    settle(outcome(delivery).unwrap(), &attempted, &RetryPolicy::default(), NOW, 0.5)
}

/// The send waits untouched while the breaker of its account is open: 1, 2, 4 … 60 minutes.
fn the_account_waits(delivery: &Delivery) {
    for (failures, minutes) in [(0, 1), (1, 2), (2, 4), (5, 32), (9, 60)] {
        let t = after(failures, delivery);
        assert_eq!((t.status, t.counted, t.unknown, t.lead), (SendStatus::Queued, false, false, None), "{delivery:?}");
        let until = NOW + minutes * MINUTE;
        assert_eq!(t.account, Some(AccountEffect::BackOff { until, failures: failures + 1 }), "{delivery:?}");
        assert_eq!(t.not_before, Some(until));
    }
}

/// The send waits untouched until a person has acted on its account.
fn the_account_stops(effect: AccountEffect, delivery: &Delivery) {
    let t = after(0, delivery);
    assert_eq!((t.status, t.counted, t.account), (SendStatus::Queued, false, Some(effect)), "{delivery:?}");
}

/// The send comes again in five minutes, and that counts as an attempt.
fn it_is_tried_again(delivery: &Delivery) {
    let t = after(0, delivery);
    assert_eq!((t.status, t.counted, t.unknown), (SendStatus::Queued, true, false), "{delivery:?}");
    assert_eq!((t.not_before, t.account, t.give_back), (Some(NOW + 5 * MINUTE), None, true));
}

fn it_ends(delivery: &Delivery, status: SendStatus, reason: Reason, lead: Option<LeadEffect>) {
    let t = after(0, delivery);
    assert_eq!((t.status, t.reason, t.lead), (status, Some(reason), lead), "{delivery:?}");
    assert_eq!((t.account, t.unknown, t.give_back), (None, false, true), "{delivery:?}");
}

#[test]
fn fs01_to_fs06_a_server_that_cannot_be_spoken_to_makes_its_account_wait() {
    let limit = Trouble::Timeout(MINUTE);
    the_account_waits(&Delivery::Failed(Stage::Connect, Trouble::Network("connection refused".into())));
    the_account_waits(&Delivery::Failed(Stage::Connect, limit.clone()));
    the_account_waits(&Delivery::Failed(Stage::Banner, Trouble::Closed));
    the_account_waits(&Delivery::Failed(Stage::Banner, limit));
    the_account_waits(&refused(Stage::Banner, "421 4.3.2 later"));
    the_account_stops(AccountEffect::Paused, &refused(Stage::Banner, "554 no service"));
    the_account_waits(&Delivery::Failed(Stage::Banner, Trouble::Protocol("a line without end")));
    the_account_waits(&Delivery::Failed(Stage::Ehlo, Trouble::Protocol("a reply with too many lines")));
    the_account_waits(&refused(Stage::Ehlo, "550 not you"));
}

#[test]
fn fs07_and_fs08_without_the_tls_that_is_wanted_the_account_waits_or_stops() {
    the_account_stops(AccountEffect::Paused, &Delivery::Failed(Stage::StartTls, Trouble::NoStartTls));
    the_account_stops(AccountEffect::Paused, &Delivery::Failed(Stage::Auth, Trouble::PlainAuth));
    the_account_waits(&refused(Stage::StartTls, "454 4.7.0 not now"));
    the_account_waits(&Delivery::Failed(Stage::Tls, Trouble::Tls("certificate expired".into())));
    the_account_waits(&Delivery::Failed(Stage::StartTls, Trouble::Protocol("plain text behind")));
}

#[test]
fn fs09_a_wrong_password_stops_the_account_at_once() {
    the_account_stops(AccountEffect::AuthenticationFailed, &refused(Stage::Auth, "535 5.7.8 no"));
}

#[test]
fn fs10_and_fs11_a_log_in_that_is_put_off_or_astray_makes_the_account_wait() {
    for answer in ["454 4.7.0 later", "432 4.7.12 change it", "421 4.3.2 bye"] {
        the_account_waits(&refused(Stage::Auth, answer));
    }
    the_account_waits(&Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH went astray")));
    the_account_stops(AccountEffect::Paused, &Delivery::Failed(Stage::Auth, Trouble::NoMechanism));
}

#[test]
fn fs12_a_421_costs_no_attempt() {
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data] {
        the_account_waits(&refused(stage, "421 4.3.2 bye"));
    }
}

#[test]
fn fs13_a_temporary_refusal_comes_again_in_five_minutes() {
    for answer in ["450 4.2.0 greylisted", "451 4.7.1 later", "452 4.2.2 full", "452 4.3.1 disk full"] {
        it_is_tried_again(&refused(Stage::Rcpt, answer));
    }
    // Not about this message: the session has had too much.
    the_account_waits(&refused(Stage::Rcpt, "452 4.5.3 too many recipients"));
}

#[test]
fn fs14_an_unknown_recipient_is_suppressed() {
    let unknown = refused(Stage::Rcpt, "550-5.1.1 no such user\r\n550-5.1.1 really\r\n550 5.1.1 not");
    it_ends(&unknown, SendStatus::Bounced, Reason::UnknownRecipient, Some(LeadEffect::Bounced));
}

#[test]
fn fs15_and_fs19_a_permanent_refusal_of_the_message_suppresses_nobody() {
    it_ends(&refused(Stage::Dot, "552 5.2.2 full"), SendStatus::Bounced, Reason::RecipientRefused, None);
    it_ends(&refused(Stage::Dot, "554 5.7.1 spam"), SendStatus::Failed, Reason::PolicyRefusal, None);
    it_ends(&refused(Stage::Body, "552 5.3.4 too big"), SendStatus::Bounced, Reason::RecipientRefused, None);
}

#[test]
fn fs16_and_fs17_an_answer_or_a_cut_before_the_dot_is_not_unknown() {
    it_is_tried_again(&refused(Stage::Dot, "451 4.3.0 later"));
    it_is_tried_again(&Delivery::Failed(Stage::Body, Trouble::Closed));
    it_is_tried_again(&Delivery::Failed(Stage::Data, Trouble::Closed));
}

#[test]
fn fs18_no_answer_to_the_dot_is_unknown_and_keeps_its_day_charged() {
    let t = after(0, &Delivery::Unknown(Trouble::Closed));
    assert_eq!((t.status, t.unknown, t.give_back), (SendStatus::Queued, true, false));
    assert_eq!((t.reason, t.account), (Some(Reason::Unknown), None));
}

#[test]
fn fs21_a_tarpit_makes_the_account_wait() {
    the_account_waits(&Delivery::Failed(Stage::Mail, Trouble::Timeout(MINUTE)));
}

#[test]
fn fs22_to_fs25_an_odd_text_is_sent_all_the_same() {
    for text in ["250", "250 gr\u{fc}\u{df}e", "250 5.1.1 odd"] {
        assert_eq!(after(0, &Delivery::Accepted(reply(text))).status, SendStatus::Sent);
    }
}

#[test]
fn fs27_and_fs35_nonsense_is_tried_again_before_the_dot_and_unknown_after() {
    let nonsense = || Trouble::Protocol("a line that is no reply");
    for stage in [Stage::Mail, Stage::Rcpt] {
        the_account_waits(&Delivery::Failed(stage, nonsense()));
    }
    it_is_tried_again(&Delivery::Failed(Stage::Data, nonsense()));
    assert!(after(0, &Delivery::Unknown(nonsense())).unknown);
}

#[test]
fn fs29_to_fs31_what_the_server_cannot_take_fails() {
    it_ends(&refused(Stage::Mail, "553 5.6.7 needs SMTPUTF8"), SendStatus::Failed, Reason::ContentRefused, None);
    it_ends(&refused(Stage::Mail, "552 5.3.4 too big"), SendStatus::Bounced, Reason::RecipientRefused, None);
    let unknown = refused(Stage::Rcpt, "550 5.1.1 no");
    it_ends(&unknown, SendStatus::Bounced, Reason::UnknownRecipient, Some(LeadEffect::Bounced));
}

#[test]
fn fs36_a_name_that_does_not_exist_stops_its_account_at_the_third_time() {
    let gone = Delivery::Failed(Stage::Resolve, Trouble::NoSuchName);
    for failures in 0..2 {
        let t = after(failures, &gone);
        assert!(matches!(t.account, Some(AccountEffect::BackOff { .. })) && !t.counted, "{t:?}");
    }
    let t = after(2, &gone);
    assert_eq!((t.status, t.counted, t.account), (SendStatus::Queued, false, Some(AccountEffect::Paused)));
    the_account_waits(&Delivery::Failed(Stage::Resolve, Trouble::Resolve("no answer".into())));
    the_account_waits(&Delivery::Failed(Stage::Resolve, Trouble::Timeout(MINUTE)));
}
