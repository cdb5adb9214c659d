//! `plan_send`: the one function that says whether, when and from which account a lead's next mail goes.
//!
//! Scheduler, explain and forecast all ask it, so they cannot disagree. Not responsible for gathering its input or for
//! writing its answer down. To add an exclusion: `exclusion`; a limit: `pace`; a kind of step: `step`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::campaign::{CampaignSettings, CampaignStatus, TimezoneStrategy};
use crate::email_account::AccountStatus;
use crate::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, StepId};
use crate::lead::LeadStatus;
use crate::lost_time::LostTime;
use crate::pace::{
    AccountBook, CampaignBook, Deferral, Pages, ProviderBook, Reach, Recipient, Scope, Slot, TenantBook, grant,
};
use crate::reason::Reason;
use crate::schedule::{WarmupTable, jitter};
use crate::settle::Outcome;
use crate::step::{Due, Reactions, Step, StepType, next_due};
use crate::time::{Timestamp, Zone};
use crate::trial::Trials;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is the same for every lead of a campaign.
#[derive(Clone, Debug)]
pub struct CampaignPlan {
    /// Which campaign.
    pub id: CampaignId,
    /// Where it stands.
    pub status: CampaignStatus,
    /// Its settings.
    pub settings: CampaignSettings,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Up to when planning has seen the campaign: waiting for a limit until then is no lateness.
    pub seen_until: Option<Timestamp>,
    /// Of which time the ledger knows nothing, if it was restored.
    pub lost_time: Option<LostTime>,
    /// The variants of its steps.
    pub trials: Trials,
}

impl CampaignPlan {
    /// Whether what was due then may have been sent in lost time.
    fn has_lost(&self, due: Timestamp) -> bool {
        self.lost_time.is_some_and(|lost| lost.holds(due))
    }
}

/// An enrollment whose next step is due, with what may exclude its lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The enrollment.
    pub enrollment_id: EnrollmentId,
    /// The lead.
    pub lead_id: LeadId,
    /// The step it waits for.
    pub due: Due,
    /// The account that sent to the lead before.
    pub email_account_id: Option<EmailAccountId>,
    /// Whether nothing was sent to the lead in this campaign yet.
    pub is_new: bool,
    /// Whether the lead may be mailed.
    pub lead_status: LeadStatus,
    /// The lead's zone.
    pub lead_zone: Option<Zone>,
    /// Whether the address is on the suppression list.
    pub suppressed: bool,
    /// What the lead did so far, as far as conditions from its step on ask.
    pub reactions: Reactions,
    /// What of the steps from its place on it has had already.
    pub past: Past,
    /// Whose its address is, where its tenant limits providers.
    pub recipient: Recipient,
}

/// A line of those who keep the same account, and whether it has written to them in this round: whoever it has not may leave it.
pub type Line = (EmailAccountId, bool);

impl Candidate {
    /// The line in which it waits; none = it waits with all who may have any account.
    pub fn line(&self) -> Option<Line> {
        self.email_account_id.map(|id| (id, !self.is_new))
    }
}

/// Mails of a lead that have ended although their steps are not behind it: an edit has put them there. To its walk they are
/// as if they were not in the sequence, so that the wait for the next one counts from the mail before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When each of them ended, by the order of its step.
    pub ended: BTreeMap<u32, Timestamp>,
    /// When the lead was sent a mail last; read only where there are such steps.
    pub last_sent_at: Option<Timestamp>,
}

impl Past {
    /// The next step behind `after_order` that the lead has not had, due by elapsed time from `base`; none = the sequence is
    /// over.
    pub fn next_due(&self, steps: &[Step], after_order: u32, base: Timestamp) -> Option<Due> {
        if self.ended.is_empty() {
            return next_due(steps, after_order, base);
        }
        let left: Vec<Step> = steps.iter().filter(|step| !self.ended.contains_key(&step.step_order)).cloned().collect();
        next_due(&left, after_order, base)
    }

    /// From when the wait behind a step counts that is due and has ended before; none where it has not.
    fn base_behind(&self, step: &Step, due: Timestamp) -> Option<Timestamp> {
        let ended = *self.ended.get(&step.step_order)?;
        if ended >= due {
            // It has ended just now, while the sequence was edited: what follows counts from it, as ever.
            return Some(due);
        }
        // Without the step's own wait; behind a date nobody knows when the way to it was over.
        let came = if step.wait_until == Some(due) { self.last_sent_at.unwrap_or(due) } else { due - step.wait };
        Some(self.last_sent_at.map_or(came, |sent| sent.max(came)))
    }
}

/// The books that one planning transaction holds.
#[derive(Clone, Debug)]
pub struct Books {
    /// Every account that the campaign's mail may go from (`page::senders`), and no other.
    pub accounts: BTreeMap<EmailAccountId, AccountBook>,
    /// The accounts among which new leads are spread.
    pub pool: Vec<EmailAccountId>,
    /// The campaign's own days.
    pub campaign: CampaignBook,
    /// What its tenant may send; none = it has no rate.
    pub tenant: Option<TenantBook>,
    /// What the providers that its tenant limits may get; none = it limits none.
    pub providers: Option<ProviderBook>,
}

impl Books {
    /// Slots that are taken of all days that can be full.
    ///
    /// Whoever holds these books alone takes more; others only give back.
    pub fn taken(&self) -> u64 {
        let accounts = self.accounts.values().filter(|book| book.has_cap()).map(|book| &book.days);
        let campaign = self.campaign.daily_limit.map(|_| &self.campaign.days);
        accounts.chain(campaign).flat_map(|days| days.values()).map(|day| u64::from(day.taken())).sum()
    }
}

/// When planning asks, and how far ahead slots are granted.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The present.
    pub now: Timestamp,
    /// Slots are granted up to so long from now.
    pub horizon: Duration,
}

/// What becomes of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Record a send with this slot.
    Send {
        /// The email step.
        step_id: StepId,
        /// Its order.
        step_order: u32,
        /// The account that sends.
        email_account_id: EmailAccountId,
        /// When.
        slot: Slot,
    },
    /// Record a held send: it may have been sent in lost time, and only a person can tell.
    Hold {
        /// The email step.
        step_id: StepId,
        /// Its order.
        step_order: u32,
        /// The account that would send it, if it is sent again.
        email_account_id: Option<EmailAccountId>,
    },
    /// Record a skipped send and move on.
    Skip {
        /// The email step that is left out.
        step_id: StepId,
        /// Its order.
        step_order: u32,
        /// Why.
        reason: Reason,
        /// What comes next; none = the sequence is over.
        next: Option<Due>,
    },
    /// Pass a condition; none = the sequence is over.
    Move {
        /// What comes next.
        next: Option<Due>,
    },
    /// Nothing now.
    Defer(Deferral),
    /// The enrollment ends here; where an email step was due, a skipped send says why.
    End {
        /// The email step that was due.
        step: Option<(StepId, u32)>,
        /// Why.
        reason: Reason,
    },
}

/// Why this lead may get no mail of this campaign, if so.
pub fn exclusion(lead: LeadStatus, suppressed: bool, stop_on_reply: bool) -> Option<Reason> {
    match lead {
        LeadStatus::Bounced => Some(Reason::LeadBounced),
        LeadStatus::Unsubscribed => Some(Reason::LeadUnsubscribed),
        LeadStatus::Complained => Some(Reason::LeadComplained),
        LeadStatus::Replied if stop_on_reply => Some(Reason::LeadReplied),
        LeadStatus::Replied | LeadStatus::Active => suppressed.then_some(Reason::Suppressed),
    }
}

/// Whether a mail that could have left at `moment` is now too late for the campaign.
fn is_too_late(settings: &CampaignSettings, moment: Timestamp, now: Timestamp) -> bool {
    settings.max_lateness.is_some_and(|hours| {
        let most = Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX);
        now.since(moment) > most
    })
}

/// What speaks against a send whose slot has come, asked right before its dialogue: hours may have passed since.
///
/// `not_before` is the send's slot. Waiting for the window is no lateness: a closed one moves the slot.
pub fn last_look(
    settings: &CampaignSettings,
    lead_status: LeadStatus,
    lead_zone: Option<&Zone>,
    not_before: Timestamp,
    now: Timestamp,
) -> Option<Outcome> {
    if let Some(reason) = exclusion(lead_status, false, settings.stop_on_reply) {
        return Some(Outcome::Excluded(reason));
    }
    if is_too_late(settings, not_before, now) {
        return Some(Outcome::TooLate);
    }
    // A window that never opens is looked at again tomorrow: a person may have mended it.
    let opens = settings.window(lead_zone).ok().and_then(|window| window.next_open(now)).unwrap_or(now + DAY);
    (opens > now).then_some(Outcome::WindowClosed(opens))
}

/// Decides what becomes of one candidate now; a granted slot is booked in `books`.
///
/// A `Skip` or `Move` whose `next` is due as well may be asked again at
/// once. Deterministic: jitter is a hash of campaign, step and lead, so a forecast equals what happens.
pub fn plan_send(
    campaign: &CampaignPlan,
    candidate: &Candidate,
    books: &mut Books,
    warmup: &WarmupTable,
    moment: Moment,
) -> Plan {
    let Moment { now, horizon } = moment;
    if let Some(deferral) = campaign_holds(campaign.status) {
        return Plan::Defer(deferral);
    }
    let settings = &campaign.settings;
    let Some(step) = campaign.steps.iter().find(|step| step.step_order == candidate.due.step_order) else {
        // The step was removed while the lead waited for it.
        let next = candidate.past.next_due(&campaign.steps, candidate.due.step_order, candidate.due.at);
        return Plan::Move { next };
    };
    if let Some(reason) = exclusion(candidate.lead_status, candidate.suppressed, settings.stop_on_reply) {
        let step = (step.step_type == StepType::Email).then_some((step.id, step.step_order));
        return Plan::End { step, reason };
    }
    if candidate.due.at > now + horizon {
        return Plan::Defer(Deferral { until: candidate.due.at, reason: Reason::NotDue, scope: Scope::Lead });
    }
    match step.step_type {
        StepType::Email => {
            if let Some(base) = candidate.past.base_behind(step, candidate.due.at) {
                return Plan::Move { next: candidate.past.next_due(&campaign.steps, step.step_order, base) };
            }
            if let Some(deferral) = winner_holds(campaign, step, candidate, now) {
                return Plan::Defer(deferral);
            }
            let account = step.email_account_id.or(candidate.email_account_id);
            plan_email(campaign, step, candidate, account, books, warmup, (moment, moment.horizon))
        }
        // Only due conditions are asked: what the lead does until then counts.
        StepType::Condition if candidate.due.at > now => {
            Plan::Defer(Deferral { until: candidate.due.at, reason: Reason::NotDue, scope: Scope::Lead })
        }
        StepType::Condition if step.is_active => pass_condition(campaign, step, candidate),
        StepType::Condition | StepType::Wait => {
            Plan::Move { next: candidate.past.next_due(&campaign.steps, step.step_order, candidate.due.at) }
        }
    }
}

fn campaign_holds(status: CampaignStatus) -> Option<Deferral> {
    let reason = status.why_not()?;
    Some(Deferral { until: Timestamp::MAX, reason, scope: Scope::Campaign })
}

/// A lead outside of the sample waits for the winner of the step's variants, and takes no slot meanwhile. What is left out or
/// held in any case waits for nothing.
fn winner_holds(campaign: &CampaignPlan, step: &Step, candidate: &Candidate, now: Timestamp) -> Option<Deferral> {
    let due = candidate.due.at;
    if !step.is_active || campaign.has_lost(due) || !campaign.waits_for_winner(step.id, candidate.lead_id) {
        return None;
    }
    // Only who is due waits for it: else its own wait would end with the trial.
    let (until, reason) = if due > now { (due, Reason::NotDue) } else { (Timestamp::MAX, Reason::AbWinner) };
    Some(Deferral { until, reason, scope: Scope::Lead })
}

fn pass_condition(campaign: &CampaignPlan, step: &Step, candidate: &Candidate) -> Plan {
    let (steps, past) = (&campaign.steps, &candidate.past);
    let next = past.next_due(steps, step.step_order, candidate.due.at);
    if step.condition.holds(&candidate.reactions, candidate.due.at) {
        return Plan::Move { next };
    }
    if step.stop_if_false {
        return Plan::End { step: None, reason: Reason::ConditionFalse };
    }
    // A false condition skips the next mail that the lead has not had; conditions on the way to it are passed over with it.
    let is_ahead = |s: &&Step| s.step_order > step.step_order && !past.ended.contains_key(&s.step_order);
    let skipped = campaign.steps.iter().filter(is_ahead).find(|s| s.step_type == StepType::Email);
    match skipped {
        Some(email) => Plan::Skip {
            step_id: email.id,
            step_order: email.step_order,
            reason: Reason::ConditionFalse,
            next: past.next_due(steps, email.step_order, candidate.due.at),
        },
        None => Plan::Move { next: None },
    }
}

/// Decides about another program's job: lead, step and account are given, its own time has come; windows, caps, gaps
/// and exclusions hold as for any send.
///
/// `candidate.due.at` is the job's `notBefore` where that lies in lost time, else that or now, whichever is later. Never
/// `Move` or `End`; the caller records the job in any case.
/// A job that waits for its account or its tenant's rate alone gets its slot up to a day ahead, since nobody plans it again; one
/// that is due behind the horizon, or that its window, its campaign's cap or its recipient's provider puts off until then, gets none
/// yet, since its slot would push the account's other mail behind it.
pub fn plan_job(
    campaign: &CampaignPlan,
    step: &Step,
    candidate: &Candidate,
    account: EmailAccountId,
    books: &mut Books,
    warmup: &WarmupTable,
    moment: Moment,
) -> Plan {
    if let Some(reason) = exclusion(candidate.lead_status, candidate.suppressed, campaign.settings.stop_on_reply) {
        return skip(campaign, step, candidate, reason);
    }
    // Nothing says for good when it starts: an edit may change that.
    let is_to_start = campaign.status == CampaignStatus::Scheduled;
    let start = Deferral { until: Timestamp::MAX, reason: Reason::CampaignNotStarted, scope: Scope::Campaign };
    let holds = campaign_holds(campaign.status).or(is_to_start.then_some(start));
    match holds.filter(|_| !campaign.has_lost(candidate.due.at)) {
        Some(deferral) => Plan::Defer(deferral),
        None if candidate.due.at > moment.now + moment.horizon => {
            Plan::Defer(Deferral { until: candidate.due.at, reason: Reason::NotDue, scope: Scope::Lead })
        }
        None => {
            let reach = (moment, moment.horizon.max(DAY));
            plan_email(campaign, step, candidate, Some(account), books, warmup, reach)
        }
    }
}

fn skip(campaign: &CampaignPlan, step: &Step, candidate: &Candidate, reason: Reason) -> Plan {
    skip_at(candidate.due.at, campaign, step, candidate, reason)
}

/// The same where the waits ahead count from `base`.
fn skip_at(base: Timestamp, campaign: &CampaignPlan, step: &Step, candidate: &Candidate, reason: Reason) -> Plan {
    let next = candidate.past.next_due(&campaign.steps, step.step_order, base);
    Plan::Skip { step_id: step.id, step_order: step.step_order, reason, next }
}

fn plan_email(
    campaign: &CampaignPlan,
    step: &Step,
    candidate: &Candidate,
    account: Option<EmailAccountId>,
    books: &mut Books,
    warmup: &WarmupTable,
    (moment, line): (Moment, Duration),
) -> Plan {
    let settings = &campaign.settings;
    let now = moment.now;
    if !step.is_active {
        return skip(campaign, step, candidate, Reason::StepInactive);
    }
    let never = |reason| Plan::Defer(Deferral { until: Timestamp::MAX, reason, scope: Scope::Lead });
    if step.template_id.is_none() {
        return never(Reason::StepWithoutTemplate);
    }
    if campaign.has_lost(candidate.due.at) {
        // It takes no slot: windows and limits cannot say when it went, or whether.
        let email_account_id = account.or_else(|| rotate(books, warmup, now));
        return Plan::Hold { step_id: step.id, step_order: step.step_order, email_account_id };
    }
    let Ok(window) = settings.window(candidate.lead_zone.as_ref()) else {
        return never(Reason::WindowNeverOpens);
    };
    // Behind what turns have seen: until then it waited for a limit.
    let unseen = campaign.seen_until.map_or(candidate.due.at, |seen| seen.max(candidate.due.at));
    let Some(opens) = window.next_open(unseen) else {
        return never(Reason::WindowNeverOpens);
    };
    if is_too_late(settings, opens, now) {
        // From now on, or the mails behind it would be too late as well: one outage costs a lead one mail.
        return skip_at(now, campaign, step, candidate, Reason::TooLate);
    }
    if let Some(deferral) = candidate.recipient.not_known(now) {
        return Plan::Defer(deferral);
    }
    let Some(id) = account.or_else(|| rotate(books, warmup, now)) else {
        return Plan::Defer(Deferral { until: Timestamp::MAX, reason: Reason::NoAccount, scope: Scope::Campaign });
    };
    let Books { accounts, campaign: campaign_book, tenant, providers, .. } = books;
    let Some(account) = accounts.get_mut(&id) else {
        return never(Reason::AccountInactive);
    };
    let earliest = candidate.due.at.max(now);
    // One window for all: nobody else of the campaign need be asked while it is closed, whatever accounts have left.
    let is_single = settings.timezone_strategy == TimezoneStrategy::Single;
    if is_single && account.status.why_not().is_none() {
        let until = window.next_open(earliest).unwrap_or(Timestamp::MAX);
        if until > now + moment.horizon {
            return Plan::Defer(Deferral { until, reason: Reason::WindowClosed, scope: Scope::Campaign });
        }
    }
    let seed = [campaign.id.uuid(), step.id.uuid(), candidate.lead_id.uuid()];
    let spread = jitter(&seed, account.pace.min_gap / 2);
    let provider = providers.as_mut().zip(candidate.recipient.provider().map(|name| &**name));
    let pages = Pages { account, campaign: campaign_book, tenant: tenant.as_mut(), provider };
    let reach = Reach { horizon_end: now + moment.horizon, line_end: now + line };
    match grant(pages, &window, warmup, earliest, spread, reach) {
        Ok(slot) => Plan::Send { step_id: step.id, step_order: step.step_order, email_account_id: id, slot },
        Err(deferral) if deferral.reason == Reason::WindowClosed && is_single => {
            Plan::Defer(Deferral { scope: Scope::Campaign, ..deferral })
        }
        Err(deferral) => Plan::Defer(deferral),
    }
}

/// The account for a new lead: of those that may send, the one with the most room today, then the one free soonest.
///
/// Accounts without a cap all have endless room: among them the day's use decides, so that they share evenly.
fn rotate(books: &Books, warmup: &WarmupTable, now: Timestamp) -> Option<EmailAccountId> {
    books
        .pool
        .iter()
        .filter_map(|id| books.accounts.get(id))
        .filter(|book| book.status == AccountStatus::Active)
        .min_by_key(|book| {
            let taken = book.days.get(&book.pace.zone.day(now)).map_or(0, |day| day.reserved + day.used);
            let free_at = book.pace.backoff_until.filter(|until| *until > now);
            (free_at, std::cmp::Reverse(book.remaining(now, warmup)), taken, book.pace.last_slot_at, book.id)
        })
        .map(|book| book.id)
}

#[cfg(test)]
mod tests;
