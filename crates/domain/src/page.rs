//! One page of planning: candidates of one campaign in the order in which they came due, asked one after the other until
//! nobody else can be served now.
//!
//! The store writes a page down, the forecast only looks at it, so both see the same decisions. Not responsible for a
//! single candidate (`plan`) or for who is due. To add something that a plan may say: an arm in `Page::take`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{CampaignId, EmailAccountId, EnrollmentId, StepId};
use crate::pace::{Deferral, Scope, Slot};
use crate::plan::{Books, CampaignPlan, Candidate, Line, Moment, Plan, plan_send};
use crate::reason::Reason;
use crate::rotation::leaves;
use crate::schedule::{WarmupTable, jitter};
use crate::step::Due;
use crate::time::Timestamp;
use crate::trial::PARKED;

/// However far off an answer is, it is asked for again after so long: a person may have changed something.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// A lead that waits for what only a person can change is asked again after so long, and up to as long again, so that a million of
/// them do not come at once.
const ASK_STRANDED: Duration = Duration::from_secs(3600);
/// What only a person can change is looked at again after so long.
const ASK_PERSON: Duration = Duration::from_secs(60);

/// Candidates in the first part of a page: most turns end among them.
const FIRST_PART: usize = 16;

/// How many candidates the next part of a page has, of which so many were read, and which has `limit` at the most.
pub fn next_part(read: usize, limit: usize) -> usize {
    read.max(FIRST_PART).min(limit.saturating_sub(read))
}

/// A send to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSend {
    /// Which candidate of the page it is for.
    pub candidate: usize,
    /// The email step.
    pub step_id: StepId,
    /// Its order.
    pub step_order: u32,
    /// The account that sends it.
    pub account: Option<EmailAccountId>,
    /// Its slot, if it is planned; else it is skipped or held.
    pub slot: Option<Slot>,
    /// Why it is skipped or held.
    pub reason: Option<Reason>,
}

impl NewSend {
    /// Whether a person decides about it, since it may have been sent in lost time.
    pub fn is_held(&self) -> bool {
        self.reason == Some(Reason::Restored)
    }
}

/// An enrollment's new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// What it waits for; none = its sequence is over.
    pub next: Option<Due>,
    /// The account that its lead keeps from now on.
    pub account: Option<EmailAccountId>,
    /// Why it ends before the end of the sequence.
    pub stopped: Option<Reason>,
    /// A send of it is open: it is not due meanwhile.
    pub waits: bool,
}

/// What was decided about a page of candidates.
#[derive(Debug, Default)]
pub struct Page {
    /// Sends to record, in the order in which they were decided.
    pub sends: Vec<NewSend>,
    /// Where candidates stand afterwards; those that are not named stay as they were.
    pub moves: BTreeMap<usize, Move>,
    /// Candidates that were asked and have to wait.
    pub deferrals: BTreeMap<usize, Deferral>,
    /// Why nobody else of the campaign need be asked, where that is so.
    pub stop: Option<Deferral>,
    refused: Refused,
}

/// What has no slot left for a campaign in this turn, by the pages so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Refused {
    accounts: BTreeMap<EmailAccountId, Deferral>,
    /// Lines whose first has to wait for its account.
    lines: BTreeMap<Line, Deferral>,
}

/// Where a turn goes on: behind a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    place: Place,
    refused: Refused,
}

/// Place of a candidate in the order in which planning sees them: by due time.
pub type Place = (Timestamp, EnrollmentId);

/// The accounts that a campaign's mail may go from: its pool's, those that steps name, and those that leads keep. It rests
/// when none of them has a slot, so nobody else's account may be among them, and none of these missing.
pub fn senders(
    campaign: &CampaignPlan,
    pool: &[EmailAccountId],
    kept: impl IntoIterator<Item = EmailAccountId>,
) -> BTreeSet<EmailAccountId> {
    let named = campaign.steps.iter().filter_map(|step| step.email_account_id);
    pool.iter().copied().chain(named).chain(kept).collect()
}

fn is_by_line(campaign: &CampaignPlan) -> bool {
    campaign.steps.iter().all(|step| step.email_account_id.is_none())
}

impl Page {
    /// The page behind another of its turn, and the place behind which it begins; none = at the first who is due.
    ///
    /// Who was refused there is not asked here: where pages end changes with each mail that leaves. A turn that has lasted until
    /// something of that has a slot again begins anew, so that it is the first of a line who gets it.
    pub fn behind(behind: Option<Behind>, moment: Moment) -> (Self, Option<Place>) {
        let Some(Behind { place, refused }) = behind else { return Default::default() };
        let mut refusals = refused.accounts.values().chain(refused.lines.values());
        if refusals.any(|deferral| deferral.until <= moment.now + moment.horizon) {
            return Default::default();
        }
        (Self { refused, ..Self::default() }, Some(place))
    }

    /// Where the turn goes on behind this page, whose last candidate had this place.
    ///
    /// Where steps name their accounts nothing of it is kept: no line says then who waits for which.
    pub fn next(&self, campaign: &CampaignPlan, place: Place) -> Behind {
        let refused = if is_by_line(campaign) { self.refused.clone() } else { Refused::default() };
        Behind { place, refused }
    }

    /// Whether it goes by what pages before it were refused: what was given back since then it does not know.
    pub fn goes_by_others(&self) -> bool {
        !self.refused.accounts.is_empty()
    }

    /// Decides about each candidate from `first` on in turn, until nobody else need be asked.
    ///
    /// Slots are booked in `books`, and a candidate that moves on takes its new place. A page is decided in parts (`next_part`):
    /// an account without a slot for one of its candidates has none for those behind it (`closed_lines`).
    pub fn decide(
        &mut self,
        campaign: &CampaignPlan,
        (candidates, first): (&mut [Candidate], usize),
        books: &mut Books,
        warmup: &WarmupTable,
        moment: Moment,
    ) {
        books.pool.retain(|id| !self.refused.accounts.contains_key(id));
        for (index, candidate) in candidates.iter_mut().enumerate().skip(first) {
            if self.stop.is_some() {
                break;
            }
            let is_behind =
                candidate.line().zip(self.closed_lines(campaign)).is_some_and(|(id, of)| of.contains_key(&id));
            if is_behind {
                continue;
            }
            let kept = candidate.email_account_id;
            if leaves(campaign, candidate, books) {
                candidate.email_account_id = None;
            }
            // Each answer but the last passes a step or takes an account out of the pool.
            for _ in 0..=campaign.steps.len() + 1 + books.pool.len() {
                let plan = plan_send(campaign, candidate, books, warmup, moment);
                if !self.take(plan, index, candidate, books, moment) {
                    break;
                }
            }
            // Whoever is not served keeps it.
            candidate.email_account_id = kept;
        }
    }

    /// The lines in which somebody waits for his account, so that nobody behind him is asked: the next parts of the page are
    /// read past these lines, or each turn would ask all who wait for one account while another has slots left. None where
    /// no line is closed, or steps name their accounts: lines do not say then who waits for which.
    pub fn closed_lines<'a>(&'a self, campaign: &CampaignPlan) -> Option<&'a BTreeMap<Line, Deferral>> {
        Some(&self.refused.lines).filter(|closed| is_by_line(campaign) && !closed.is_empty())
    }

    /// The first moment at which asking again can have another answer, as long as nothing changes; none = nobody waits.
    pub fn again_at(&self, moment: Moment) -> Option<Timestamp> {
        let first = match self.stop {
            Some(stop) => Some(stop.until),
            None => self.deferrals.values().map(|deferral| deferral.until).min(),
        };
        first.map(|until| soonest(until, moment))
    }

    /// One answer for one candidate; true where it is to be asked again.
    fn take(&mut self, plan: Plan, index: usize, candidate: &mut Candidate, books: &mut Books, moment: Moment) -> bool {
        match plan {
            Plan::Send { step_id, step_order, email_account_id, slot } => {
                let account = Some(email_account_id);
                let slot = Some(slot);
                self.sends.push(NewSend { candidate: index, step_id, step_order, account, slot, reason: None });
                self.stay(index, step_order, account, moment.now);
                false
            }
            Plan::Hold { step_id, step_order, email_account_id: account } => {
                let reason = Some(Reason::Restored);
                self.sends.push(NewSend { candidate: index, step_id, step_order, account, slot: None, reason });
                // Which account sent it, if one did, nobody knows.
                self.stay(index, step_order, None, moment.now);
                false
            }
            Plan::Skip { step_id, step_order, reason, next } => {
                self.leave_out(index, (step_id, step_order), reason);
                // Where nothing follows it has come this far.
                candidate.due.step_order = step_order;
                self.go_on(index, candidate, next, moment)
            }
            Plan::Move { next } => self.go_on(index, candidate, next, moment),
            Plan::End { step, reason } => {
                if let Some(step) = step {
                    self.leave_out(index, step, reason);
                }
                self.moves.insert(index, Move { next: None, account: None, stopped: Some(reason), waits: false });
                false
            }
            Plan::Defer(deferral) => {
                let again = self.defer(index, candidate, deferral, books, moment);
                if !again {
                    // Whoever finds no account is told what the accounts wait for that may send.
                    let stop = self.stop.filter(|_| deferral.scope == Scope::Campaign);
                    self.deferrals.insert(index, stop.unwrap_or(deferral));
                }
                again
            }
        }
    }

    /// A send that is skipped with its reason.
    fn leave_out(&mut self, candidate: usize, (step_id, step_order): (StepId, u32), reason: Reason) {
        let reason = Some(reason);
        self.sends.push(NewSend { candidate, step_id, step_order, account: None, slot: None, reason });
    }

    /// The candidate waits for its send.
    fn stay(&mut self, index: usize, step_order: u32, account: Option<EmailAccountId>, now: Timestamp) {
        let next = Some(Due { step_order, at: now });
        self.moves.insert(index, Move { next, account, stopped: None, waits: true });
    }

    /// Moves a candidate on; true where its next step is due within the horizon as well.
    fn go_on(&mut self, index: usize, candidate: &mut Candidate, next: Option<Due>, moment: Moment) -> bool {
        self.moves.insert(index, Move { next, account: None, stopped: None, waits: false });
        let Some(due) = next else { return false };
        candidate.due = due;
        due.at <= moment.now + moment.horizon
    }

    /// Takes a deferral by whom it concerns; true where the candidate may be served by another account.
    fn defer(
        &mut self,
        index: usize,
        candidate: &Candidate,
        deferral: Deferral,
        books: &mut Books,
        moment: Moment,
    ) -> bool {
        match deferral.scope {
            Scope::Lead => {
                // Whoever waits for a winner is not asked again before there is one.
                let at = match deferral.reason {
                    Reason::AbWinner => PARKED,
                    _ if deferral.strands() => {
                        let spread = jitter(&[candidate.enrollment_id.uuid()], ASK_STRANDED);
                        moment.now + moment.horizon + ASK_STRANDED + spread
                    }
                    _ => deferral.until.min(moment.now + ASK_AGAIN),
                };
                let due = Due { at, ..candidate.due };
                if due.at > moment.now + moment.horizon {
                    self.moves.insert(index, Move { next: Some(due), account: None, stopped: None, waits: false });
                }
                false
            }
            Scope::Campaign => {
                // Without any account left, the one that is free first says until when, and why.
                self.stop = Some(self.first_free().filter(|first| first.until < deferral.until).unwrap_or(deferral));
                false
            }
            Scope::Account(id) => {
                self.refused.accounts.insert(id, deferral);
                // Who has moved in this page may stand behind others in the next one, which is to find the same first.
                let line = candidate.line().filter(|(own, _)| *own == id && !self.moves.contains_key(&index));
                if let Some(line) = line {
                    self.refused.lines.insert(line, deferral);
                }
                let is_of_pool = books.pool.contains(&id);
                books.pool.retain(|other| *other != id);
                if books.accounts.keys().all(|id| self.refused.accounts.contains_key(id)) {
                    self.stop = self.first_free();
                    return false;
                }
                // A new lead may go from another account; a known one waits for its own, and whoever's step names one for that.
                candidate.email_account_id.is_none() && is_of_pool
            }
        }
    }

    fn first_free(&self) -> Option<Deferral> {
        self.refused.accounts.values().min_by_key(|deferral| deferral.until).copied()
    }
}

/// Where a campaign stands in the turn that begins at `turn`, the least first: who comes first takes the slots that
/// campaigns share, an account's or a tenant's. Another one each second, by a hash, so that no spacing of turns favours one.
pub fn turn_rank(campaign: CampaignId, turn: Timestamp) -> Duration {
    let second = u128::from(turn.unix_seconds().unsigned_abs());
    jitter(&[campaign.uuid(), uuid::Uuid::from_u128(second)], Duration::from_micros(u64::MAX))
}

/// When to ask again for an answer that holds until then: a horizon earlier, and within a day.
pub(crate) fn soonest(until: Timestamp, moment: Moment) -> Timestamp {
    if until == Timestamp::MAX {
        return moment.now + ASK_PERSON;
    }
    until.min(moment.now + ASK_AGAIN) - moment.horizon
}
