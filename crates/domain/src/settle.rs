//! `settle`: what an outcome of an attempt does to the send, its lead, its account and its enrollment.
//!
//! The only place that knows backoff, retry budgets and the policy for unknown outcomes. Not responsible for writing
//! the transition down (`engines`) or for reading a reply (`mail` classifies it).
//! To add an outcome: a variant of `Outcome` and an arm in `settle`; the ledger needs no change.

mod resolve;

use std::time::Duration;

pub use resolve::{Decision, Held, Unresolvable, may_send_again, resolve};
use serde::{Deserialize, Serialize};

use crate::campaign::OnUnknown;
use crate::reason::Reason;
use crate::schedule::next_day_start;
use crate::send::SendStatus;
use crate::step::Due;
use crate::time::{Timestamp, Zone};

/// What a server's refusal asks for: PROTOCOL 3 has the table, `replies.toml` the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyAction {
    /// Nothing about this message: the account waits (unreachable, TLS, 421).
    BackOffAccount,
    /// The server's name does not exist: the account waits, and stops at the third failed connection in a row.
    NoSuchHost,
    /// The account asked for too much: it waits and slows down.
    Throttle,
    /// The log-in was refused: the account stops until a person acts.
    AuthFailed,
    /// The sender was refused: the account stops until a person acts.
    PauseAccount,
    /// The day's quota is used up: the account waits for its next day.
    PauseUntilWindow,
    /// A temporary answer about this message.
    Retry,
    /// A temporary answer about the address: a soft bounce, if it is still so when the time for retries is over.
    RetrySoft,
    /// The recipient does not exist: suppress it.
    BounceHard,
    /// The recipient cannot take it: suppress after three in thirty days.
    BounceSoft,
    /// The way to the recipient fails for good; nobody is suppressed.
    FailRouting,
    /// We broke the protocol: alert, retire the connection.
    FailOurFault,
    /// The content was refused.
    FailContent,
    /// Policy or reputation.
    FailPolicy,
    /// For good, and for a reason that the server does not name.
    FailUnknown,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 250 after the final dot.
    Accepted,
    /// The server said no, or the connection failed before the dot (`BackOffAccount`).
    Refused(ReplyAction),
    /// The dialogue was cut after writing the final dot had begun.
    Unknown,
    /// Stopped before the dot by ourselves: graceful stop, lost lease, closed gate.
    GivenBack,
    /// The message could not be assembled.
    NotComposed,
    /// Its moment passed by more than the campaign allows.
    TooLate,
    /// The sending window has closed since its slot was granted; it opens again then.
    WindowClosed(Timestamp),
    /// The lead may get no mail of this campaign any more.
    Excluded(Reason),
    /// Three deliveries of its job ended without a result.
    Poison,
    /// The database refused its intent again and again: no dot was written.
    IntentRefused,
}

/// What `settle` has to know of a send besides the outcome.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// Attempts that counted so far, this one not included.
    pub attempts: u32,
    /// Unknown outcomes so far.
    pub unknowns: u32,
    /// When its time budget began: with its first attempt, or with the last word of a person that it may go on; none = now.
    pub budget_began_at: Option<Timestamp>,
    /// A lower bound on attempts that a job's payload asked for.
    pub max_attempts: Option<u32>,
    /// The campaign's policy.
    pub on_unknown: OnUnknown,
    /// Failed connections of the account in a row, this one not included.
    pub account_failures: u32,
    /// The account's zone: its next day ends a quota.
    pub account_zone: Zone,
    /// Soft bounces of this lead within the last 30 days, this one not included.
    pub soft_bounces: u32,
    /// What follows in the sequence if this send is sent, or skipped, now.
    pub next: Option<Due>,
}

/// When a message is tried again: `retry.delays` and `retry.expire`.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The wait after each counted attempt; the last one repeats.
    pub delays: Vec<Duration>,
    /// Tried no longer than this after the first attempt.
    pub expire: Duration,
    /// How long an account waits by failed connections in a row; the last one repeats.
    pub account_delays: Vec<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            delays: vec![minutes(5), minutes(15), minutes(60), minutes(240), minutes(720), minutes(1440)],
            expire: minutes(72 * 60),
            account_delays: [1, 2, 4, 8, 16, 32, 60].map(minutes).to_vec(),
        }
    }
}

/// What becomes of the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeadEffect {
    /// Status `bounced`, address suppressed, its other open sends cancelled.
    Bounced,
}

/// What becomes of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountEffect {
    /// Its server dealt with a message: the breaker closes.
    Recovered,
    /// It waits; `failures` is the breaker's new exponent.
    BackOff {
        /// Until when.
        until: Timestamp,
        /// Failed connections in a row.
        failures: u32,
    },
    /// Status `authentication_failed`.
    AuthenticationFailed,
    /// Status `paused`.
    Paused,
}

/// What becomes of the enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollmentEffect {
    /// It waits for the same send.
    Keep,
    /// It goes on; none = the sequence is over.
    MoveOn(Option<Due>),
    /// It ends.
    End(Reason),
}

/// The finished decision that the store writes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The send's new status.
    pub status: SendStatus,
    /// When it is tried again; only with `queued`.
    pub not_before: Option<Timestamp>,
    /// Why it is not simply sent.
    pub reason: Option<Reason>,
    /// Whether the attempt counts against the retry budget.
    pub counted: bool,
    /// Whether one more unknown outcome is counted.
    pub unknown: bool,
    /// Whether the day's use is given back: the server has proven not to have taken the message.
    pub give_back: bool,
    /// What becomes of the lead.
    pub lead: Option<LeadEffect>,
    /// What becomes of the account.
    pub account: Option<AccountEffect>,
    /// What becomes of the enrollment.
    pub enrollment: EnrollmentEffect,
    /// Whether a dead letter is written.
    pub dead_letter: bool,
}

impl Transition {
    fn final_state(status: SendStatus, reason: Option<Reason>, enrollment: EnrollmentEffect) -> Self {
        Self {
            status,
            not_before: None,
            reason,
            counted: true,
            unknown: false,
            give_back: status != SendStatus::Sent,
            lead: None,
            account: None,
            enrollment,
            dead_letter: false,
        }
    }

    fn again(at: Timestamp, reason: Reason) -> Self {
        Self {
            not_before: Some(at),
            counted: false,
            ..Self::final_state(SendStatus::Queued, Some(reason), EnrollmentEffect::Keep)
        }
    }

    fn failed(reason: Reason) -> Self {
        Self { dead_letter: true, ..Self::final_state(SendStatus::Failed, Some(reason), EnrollmentEffect::End(reason)) }
    }
}

/// Soft bounces within 30 days at which an address is suppressed.
const SOFT_BOUNCE_LIMIT: u32 = 3;
/// Failed connections in a row at which an account stops whose server's name does not exist.
const NO_SUCH_HOST_LIMIT: u32 = 3;

/// What is written of a send whose result the ledger does not take: it is known, so nothing of it may go again, and it waits
/// for a person. Nothing else is changed, since that may be what is not taken.
pub fn set_aside(result: &Transition) -> Transition {
    Transition {
        counted: result.counted,
        unknown: result.unknown,
        // Only a person can say whether the server has it.
        give_back: false,
        ..Transition::final_state(SendStatus::Held, Some(Reason::ResultRefused), EnrollmentEffect::Keep)
    }
}

/// Decides what an outcome does; `chance` in 0..1 spreads retries by +-25 %.
pub fn settle(outcome: Outcome, send: &Attempted, policy: &RetryPolicy, now: Timestamp, chance: f64) -> Transition {
    match outcome {
        Outcome::Accepted => Transition {
            account: recovered(send),
            ..Transition::final_state(SendStatus::Sent, None, EnrollmentEffect::MoveOn(send.next))
        },
        Outcome::Refused(action) => {
            let transition = refused(action, send, policy, now, chance);
            // Whatever the server made of the message, it can be spoken to: the breaker's probe has its answer.
            Transition { account: transition.account.or_else(|| recovered(send)), ..transition }
        }
        Outcome::Unknown => unknown(send, now),
        Outcome::GivenBack => Transition::again(now, Reason::GivenBack),
        Outcome::NotComposed => Transition::failed(Reason::NotComposed),
        Outcome::TooLate => Transition {
            counted: false,
            ..Transition::final_state(SendStatus::Skipped, Some(Reason::TooLate), EnrollmentEffect::MoveOn(send.next))
        },
        Outcome::WindowClosed(opens) => Transition::again(opens, Reason::WindowClosed),
        Outcome::Excluded(reason) => Transition {
            counted: false,
            ..Transition::final_state(SendStatus::Skipped, Some(reason), EnrollmentEffect::End(reason))
        },
        Outcome::Poison => held_untried(Reason::Poison),
        Outcome::IntentRefused => held_untried(Reason::IntentRefused),
    }
}

/// A person has to look; it costs no attempt.
fn held_untried(reason: Reason) -> Transition {
    Transition { counted: false, ..Transition::final_state(SendStatus::Held, Some(reason), EnrollmentEffect::Keep) }
}

fn recovered(send: &Attempted) -> Option<AccountEffect> {
    (send.account_failures > 0).then_some(AccountEffect::Recovered)
}

fn refused(action: ReplyAction, send: &Attempted, policy: &RetryPolicy, now: Timestamp, chance: f64) -> Transition {
    let account_waits =
        |effect, until, reason| Transition { account: Some(effect), ..Transition::again(until, reason) };
    match action {
        ReplyAction::BackOffAccount | ReplyAction::Throttle => {
            let until = now + spread(nth(&policy.account_delays, send.account_failures), chance);
            let effect = AccountEffect::BackOff { until, failures: send.account_failures.saturating_add(1) };
            account_waits(effect, until, Reason::AccountBackoff)
        }
        ReplyAction::NoSuchHost if send.account_failures.saturating_add(1) < NO_SUCH_HOST_LIMIT => {
            refused(ReplyAction::BackOffAccount, send, policy, now, chance)
        }
        ReplyAction::NoSuchHost => refused(ReplyAction::PauseAccount, send, policy, now, chance),
        ReplyAction::PauseUntilWindow => {
            let until = next_day_start(&send.account_zone, now);
            let effect = AccountEffect::BackOff { until, failures: send.account_failures };
            account_waits(effect, until, Reason::AccountCap)
        }
        ReplyAction::AuthFailed => {
            account_waits(AccountEffect::AuthenticationFailed, now, Reason::AuthenticationFailed)
        }
        ReplyAction::PauseAccount => account_waits(AccountEffect::Paused, now, Reason::AccountInactive),
        ReplyAction::Retry => retry(send, policy, now, chance).unwrap_or(Transition::failed(Reason::Expired)),
        ReplyAction::RetrySoft => retry(send, policy, now, chance).unwrap_or_else(|| bounced_softly(send)),
        ReplyAction::BounceHard => bounced(Reason::UnknownRecipient, true),
        ReplyAction::BounceSoft => bounced_softly(send),
        ReplyAction::FailRouting => Transition::failed(Reason::RecipientRefused),
        ReplyAction::FailOurFault => Transition::failed(Reason::ProtocolRefused),
        ReplyAction::FailContent => Transition::failed(Reason::ContentRefused),
        ReplyAction::FailPolicy => Transition::failed(Reason::PolicyRefusal),
        ReplyAction::FailUnknown => Transition::failed(Reason::Refused),
    }
}

fn bounced(reason: Reason, suppress: bool) -> Transition {
    Transition {
        lead: suppress.then_some(LeadEffect::Bounced),
        ..Transition::final_state(SendStatus::Bounced, Some(reason), EnrollmentEffect::End(reason))
    }
}

fn bounced_softly(send: &Attempted) -> Transition {
    bounced(Reason::RecipientRefused, send.soft_bounces + 1 >= SOFT_BOUNCE_LIMIT)
}

/// None where its time or its attempts are used up.
fn retry(send: &Attempted, policy: &RetryPolicy, now: Timestamp, chance: f64) -> Option<Transition> {
    let attempts = send.attempts.saturating_add(1);
    let delay = nth(&policy.delays, send.attempts);
    let again_at = now + spread(delay, chance);
    let expires_at = send.budget_began_at.unwrap_or(now) + policy.expire;
    if again_at > expires_at || send.max_attempts.is_some_and(|most| attempts >= most) {
        return None;
    }
    Some(Transition { counted: true, ..Transition::again(again_at, Reason::TemporaryRefusal) })
}

/// The one place that holds the policy for a cut after the dot.
fn unknown(send: &Attempted, now: Timestamp) -> Transition {
    let resend = send.on_unknown == OnUnknown::Resend && send.unknowns == 0;
    let status = if resend { SendStatus::Queued } else { SendStatus::Held };
    Transition {
        not_before: resend.then_some(now),
        unknown: true,
        // The server may have taken it: its day stays charged.
        give_back: false,
        ..Transition::final_state(status, Some(Reason::Unknown), EnrollmentEffect::Keep)
    }
}

/// The n-th of these waits, counted from 0; the last one repeats.
fn nth(delays: &[Duration], n: u32) -> Duration {
    let index = usize::try_from(n).unwrap_or(usize::MAX).min(delays.len().saturating_sub(1));
    delays.get(index).copied().unwrap_or_default()
}

/// `min(2^n s, 300 s)` spread by +-25 %: how long to wait after the n-th error of our own database or queue.
pub fn own_error_delay(errors: u32, chance: f64) -> Duration {
    spread(Duration::from_secs(1_u64.checked_shl(errors).unwrap_or(u64::MAX).clamp(1, 300)), chance)
}

/// How long a loop waits after the n-th error in a row of our own database or queue before it asks again.
///
/// As `own_error_delay`; where the service is away (`is_away`) at most 4 s, spread by +-25 %: after an outage of any
/// length mail goes on within ten seconds of its end.
pub fn loop_delay(errors: u32, is_away: bool, chance: f64) -> Duration {
    own_error_delay(if is_away { errors.min(2) } else { errors }, chance)
}

/// `delay` times 0.75 to 1.25.
fn spread(delay: Duration, chance: f64) -> Duration {
    delay.mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
