//! The metrics of each part: names, labels, meanings. A part holds its group and counts where the thing happens.
//!
//! Names follow Prometheus: base units, `_total` for what only grows. Not responsible for what is read at a scrape
//! (`sample`). To add one: a field, its line in `new`, its count in the part, `docs/metrics.md` anew.

use domain::reason::Reason;
use domain::send::SendStatus::{self, Bounced, Failed, Held, Queued, Sent, Skipped};
use engines::queue::List;
use engines::{Access, db::Observation};
use mail::smtp::{Delivery, Report, Stage};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::handles::{Kept, Latency, Names};

/// The reason of dead letters that were never a send of ours.
pub(crate) const PAYLOAD: &str = "payload";

/// Every way in which `settle` ends an attempt, and `set_aside`; a test asks them.
pub(super) const SETTLED: [(SendStatus, Option<Reason>); 27] = [
    (Sent, None),
    (Queued, Some(Reason::TemporaryRefusal)),
    (Queued, Some(Reason::AccountBackoff)),
    (Queued, Some(Reason::AccountCap)),
    (Queued, Some(Reason::AccountInactive)),
    (Queued, Some(Reason::AuthenticationFailed)),
    (Queued, Some(Reason::GivenBack)),
    (Queued, Some(Reason::WindowClosed)),
    (Queued, Some(Reason::Unknown)),
    (Held, Some(Reason::Unknown)),
    (Held, Some(Reason::Poison)),
    (Held, Some(Reason::IntentRefused)),
    (Held, Some(Reason::ResultRefused)),
    (Bounced, Some(Reason::UnknownRecipient)),
    (Bounced, Some(Reason::RecipientRefused)),
    (Failed, Some(Reason::RecipientRefused)),
    (Failed, Some(Reason::Refused)),
    (Failed, Some(Reason::PolicyRefusal)),
    (Failed, Some(Reason::ContentRefused)),
    (Failed, Some(Reason::ProtocolRefused)),
    (Failed, Some(Reason::NotComposed)),
    (Failed, Some(Reason::Expired)),
    (Skipped, Some(Reason::TooLate)),
    (Skipped, Some(Reason::LeadBounced)),
    (Skipped, Some(Reason::LeadUnsubscribed)),
    (Skipped, Some(Reason::LeadComplained)),
    (Skipped, Some(Reason::LeadReplied)),
];

/// What can stand against a dot (`why_refused`).
const REFUSALS: [Reason; 17] = [
    Reason::CampaignPaused,
    Reason::CampaignCancelled,
    Reason::CampaignNotStarted,
    Reason::AccountInactive,
    Reason::AuthenticationFailed,
    Reason::AccountBackoff,
    Reason::AccountCap,
    Reason::AccountGap,
    Reason::CampaignCap,
    Reason::TenantRate,
    Reason::ProviderCap,
    Reason::StepInactive,
    Reason::LeadBounced,
    Reason::LeadUnsubscribed,
    Reason::LeadComplained,
    Reason::Suppressed,
    Reason::GivenBack,
];

/// Kinds of errors that end a transaction.
const ERRORS: [&str; 5] = ["unavailable", "conflict", "commit_in_doubt", "unique", "statement"];

/// A reason as a label's word.
pub(crate) fn word(reason: Option<Reason>) -> &'static str {
    reason.map_or("", Reason::as_str)
}

/// The scheduler's turns, in its loop, from the command line and from the cron route.
pub(crate) struct Scheduler {
    pub(crate) turns: Kept<Counter, 1>,
    pub(crate) turn: Latency,
    pub(crate) planned: Counter,
    pub(crate) enqueued: Counter,
    pub(crate) skipped: Counter,
    pub(crate) deferred: Counter,
    pub(crate) completed: Counter,
}

impl Scheduler {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let results = [["done"], ["failed"]];
        Self {
            turns: names.many("scheduler_turns", ["result"], results, "Turns over all campaigns that are due"),
            turn: names.one_in("scheduler_turn_duration", Unit::Seconds, "How long a turn took"),
            planned: names.one("scheduler_sends_planned", "Sends recorded in the ledger"),
            enqueued: names.one("scheduler_sends_enqueued", "Jobs that the queue took as new"),
            skipped: names
                .one("scheduler_sends_skipped", "Sends left out when planning, with their reason in the ledger"),
            deferred: names.one(
                "scheduler_leads_deferred",
                "Due leads that were asked and had to wait for a window, an account or a limit",
            ),
            completed: names.one("scheduler_campaigns_completed", "Campaigns whose every send is final"),
        }
    }
}

/// From a hint on the queue to its result in the ledger.
pub(crate) struct Worker {
    pub(crate) leased: Counter,
    pub(crate) in_work: Gauge,
    pub(crate) leases_lost: Counter,
    pub(crate) hints_renewed: Counter,
    pub(crate) settled: Kept<Counter, 2>,
    pub(crate) unknown: Counter,
    pub(crate) stale: Counter,
    pub(crate) settled_before: Counter,
    pub(crate) journal_failures: Counter,
    pub(crate) results_replayed: Counter,
    pub(crate) dead_letters: Kept<Counter, 2>,
    pub(crate) auto_paused: Kept<Counter, 1>,
    pub(crate) intents: Kept<Counter, 1>,
    pub(crate) intents_refused: Kept<Counter, 1>,
    pub(crate) intent: Latency,
    pub(crate) connections: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) throttled: Counter,
    pub(crate) slowed: Gauge,
    deliveries: Kept<Counter, 1>,
    stages: Kept<Latency, 1>,
    replies: Kept<Counter, 2>,
}

/// Stages that have an answer.
const ANSWERED: [Stage; 9] = [
    Stage::Banner,
    Stage::Ehlo,
    Stage::StartTls,
    Stage::Auth,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Dot,
    Stage::Rset,
];

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

impl Worker {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let settled = SETTLED.map(|(status, reason)| [status.as_str(), word(reason)]);
        let (sends, events) = (List::EmailSending.name(), List::Analytics.name());
        let failed = SETTLED.into_iter().filter(|(status, _)| *status == Failed);
        let dead = failed.map(|(_, reason)| [sends, word(reason)]).chain([[sends, PAYLOAD], [events, PAYLOAD]]);
        let refused =
            REFUSALS.into_iter().map(|reason| [reason.as_str()]).chain([["superseded"], ["outdated"], ["not_known"]]);
        let outcomes = [["accepted"], ["refused"], ["failed"], ["unknown"], ["not_granted"]];
        let replies = ANSWERED.iter().flat_map(|stage| CLASSES.map(|class| [stage.as_str(), class]));
        Self {
            leased: names.one("jobs_leased", "Jobs taken from the queue to be sent"),
            in_work: names.one("jobs_in_work", "Leases of jobs that this worker holds now"),
            leases_lost: names.one(
                "leases_lost",
                "Leases that ended while their job was in work; the ledger's fence decides who sends",
            ),
            hints_renewed: names.one("hints_renewed", "Jobs brought to the queue again from the ledger"),
            settled: names.many(
                "sends_settled",
                ["status", "reason"],
                settled,
                "Results written to the ledger, by the send's new status; `sent` is a 250 after the \
                 final dot",
            ),
            unknown: names.one(
                "sends_unknown",
                "Dialogues cut after the final dot: nobody knows whether the server took the message",
            ),
            stale: names
                .one("results_stale", "Results that changed nothing: late ones, and those that the ledger refused"),
            settled_before: names.one(
                "jobs_settled_before",
                "Jobs of other programs whose send the ledger had settled: acknowledged and not sent again",
            ),
            journal_failures: names.one(
                "journal_failures",
                "Times that results could not be kept in the journal; no dot is written until they can",
            ),
            results_replayed: names
                .one("results_replayed", "Results that a dead worker's journal held and the ledger did not"),
            dead_letters: names.many(
                "dead_letters",
                ["queue", "reason"],
                dead,
                "Jobs that can never be done, kept with the reason; `payload` is one that is not \
                 valid or whose ids do not belong together",
            ),
            auto_paused: names.many(
                "auto_pauses",
                ["what"],
                [["campaign"], ["email_account"]],
                "Campaigns and email accounts paused since 5 of their last 100 results were refused for policy or \
                 reputation",
            ),
            intents: names.many(
                "dot_intents",
                ["answer"],
                [["granted"], ["refused"], ["unavailable"], ["not_taken"]],
                "Requests to write a final dot, by the ledger's answer; `not_taken`: the database refused it three times, and the send is held",
            ),
            intents_refused: names.many(
                "dot_intents_refused",
                ["reason"],
                refused,
                "Refused dots by what stood against them; `superseded`: another holder has the send; \
                 `outdated`: text or settings were changed, so the message is made anew; \
                 `not_known`: the database could not be asked",
            ),
            intent: names.one_in(
                "dot_intent_duration",
                Unit::Seconds,
                "How long a connection waited for the answer about its dot",
            ),
            connections: names.one("smtp_connections", "SMTP connections open now"),
            connections_opened: names.one("smtp_connections_opened", "SMTP connections opened and logged in"),
            throttled: names.one(
                "smtp_throttled",
                "Times that a server asked for less and its email account's connections were halved",
            ),
            slowed: names.one(
                "smtp_accounts_slowed",
                "Email accounts that may have fewer connections now than is configured, since their servers asked for it",
            ),
            deliveries: names.many(
                "smtp_deliveries",
                ["outcome"],
                outcomes,
                "Attempts to hand a message over, by how the dialogue ended",
            ),
            stages: names.many_in(
                "smtp_stage_duration",
                Unit::Seconds,
                ["stage"],
                Stage::ALL.map(|stage| [stage.as_str()]),
                "How long each stage of a dialogue was waited for; pipelined commands wait at the \
                 first",
            ),
            replies: names.many("smtp_replies", ["stage", "class"], replies, "Answers of SMTP servers"),
        }
    }

    /// Counts a dialogue: its end, and each of its steps.
    pub(crate) fn dialogue(&self, report: &Report) {
        let outcome = match report.delivery {
            Delivery::Accepted(_) => "accepted",
            Delivery::Refused(..) => "refused",
            Delivery::Failed(..) => "failed",
            Delivery::Unknown(_) => "unknown",
            Delivery::NotGranted => "not_granted",
        };
        self.deliveries.inc([outcome]);
        for step in &report.steps {
            self.stages.observe([step.stage.as_str()], step.took);
            let class = step.code.and_then(|code| CLASSES.get(usize::from(code / 100).wrapping_sub(2)));
            if let Some(class) = class {
                self.replies.inc([step.stage.as_str(), class]);
            }
        }
    }
}

/// What a request of the tracking API was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Click,
    Unsubscribe,
    Other,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    /// An event was kept.
    Counted,
    /// The token is ours and too old to be counted.
    Expired,
    /// No token of ours.
    Invalid,
    /// The page that asks before it unsubscribes.
    Page,
    /// No such route or method, or a body that is too large.
    Refused,
    /// Neither ledger nor spool took it.
    Unavailable,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Click => "click",
            Self::Unsubscribe => "unsubscribe",
            Self::Other => "other",
        }
    }
}

impl Hit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::Page => "page",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The public tracking API, and the events that come of it.
pub(crate) struct Tracking {
    requests: Kept<Counter, 2>,
    pub(crate) spooled: Counter,
    pub(crate) set_aside: Counter,
    pub(crate) lost: Counter,
    pub(crate) events: Kept<Counter, 1>,
}

impl Tracking {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let both = |kind: Kind| [Hit::Counted, Hit::Expired, Hit::Invalid, Hit::Refused].map(|hit| (kind, hit));
        let unsubscribe = [Hit::Counted, Hit::Invalid, Hit::Page, Hit::Refused, Hit::Unavailable];
        let all = both(Kind::Open).into_iter().chain(both(Kind::Click));
        let all = all.chain(unsubscribe.map(|hit| (Kind::Unsubscribe, hit))).chain([(Kind::Other, Hit::Refused)]);
        let results = [["stored"], ["duplicate"], ["foreign"], ["malformed"], ["refused"]];
        Self {
            requests: names.many(
                "tracking_requests",
                ["kind", "answer"],
                all.map(|(k, h)| [k.as_str(), h.as_str()]),
                "Requests of the tracking API; `counted` kept an event, `expired` was answered and not counted",
            ),
            spooled: names.one(
                "events_spooled",
                "Events kept in a file because the queue or the ledger did not take them in time",
            ),
            set_aside: names.one(
                "events_set_aside",
                "Lines of the spool that are no events, or that the ledger refuses, and whole files that cannot be read: they \
                 are kept beside it, and the log names the file",
            ),
            lost: names.one("events_lost", "Events that neither queue nor spool took"),
            events: names.many(
                "events",
                ["result"],
                results,
                "Events taken from the queue; `duplicate` was known, `foreign` belongs to nothing of its tenant, the database takes no `refused`",
            ),
        }
    }

    /// Counts a request.
    pub(crate) fn request(&self, kind: Kind, hit: Hit) {
        self.requests.inc([kind.as_str(), hit.as_str()]);
    }
}

/// The database as this process sees it.
pub(crate) struct Database {
    transactions: Kept<Latency, 1>,
    errors: Kept<Counter, 1>,
}

impl Database {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let errors = ERRORS.map(|kind| [kind]);
        Self {
            transactions: names.many_in(
                "database_transaction_duration",
                Unit::Seconds,
                ["access"],
                [["read"], ["write"]],
                "How long transactions took, from asking for a connection to their end",
            ),
            errors: names.many(
                "database_errors",
                ["kind"],
                errors,
                "Transactions that failed; `unavailable`, `conflict` and `commit_in_doubt` are tried again",
            ),
        }
    }

    /// Counts a transaction.
    pub(crate) fn observe(&self, seen: Observation<'_>) {
        let access = match seen.access {
            Access::Read => "read",
            Access::Write => "write",
        };
        self.transactions.observe([access], seen.took);
        if let Some(error) = seen.error {
            self.errors.inc([error.kind()]);
        }
    }
}

/// The queue as this process sees it, a table or Redis.
pub(crate) struct Queue {
    pub(crate) calls: Kept<Latency, 1>,
    pub(crate) errors: Kept<Counter, 1>,
}

/// Every call of the queue's contract.
const CALLS: [&str; 8] = ["push", "lease", "extend", "settle", "reap", "depth", "epoch", "show_dead_letters"];

impl Queue {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let redis = ["redis_unavailable", "redis_full", "redis_key", "redis_refused", "redis_taken"];
        let kinds = ERRORS.into_iter().chain(redis).map(|kind| [kind]);
        Self {
            calls: names.many_in(
                "queue_call_duration",
                Unit::Seconds,
                ["call"],
                CALLS.map(|call| [call]),
                "How long calls of the queue took, those that failed as well",
            ),
            errors: names.many("queue_errors", ["kind"], kinds, "Calls of the queue that failed"),
        }
    }
}

/// The cron route.
pub(crate) struct Cron {
    pub(crate) requests: Kept<Counter, 1>,
}

impl Cron {
    pub(super) fn new(names: &mut Names<'_>) -> Self {
        let answers = [["200"], ["401"], ["405"], ["500"], ["503"], ["504"]];
        Self {
            requests: names.many(
                "cron_requests",
                ["code"],
                answers,
                "Requests of /api/cron/scheduler by their status code",
            ),
        }
    }
}
