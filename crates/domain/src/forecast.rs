//! Forecast: what the scheduler, the gate and the calendar will do with what stands in the ledger now, send by send.
//!
//! It asks the very functions that the product asks (`page`, `pace::admit`, `plan::last_look`, `Past::next_due`), turn by
//! turn, on a copy of the books; turns in which nothing can change are left out. It takes for granted that every mail is
//! accepted at once, that nobody reacts, and that nobody changes anything. A recurring campaign comes back (`rounds`). Not
//! responsible for reading the ledger; what is made of it stands in `forecast/`. To foresee something more: an event in `World::step`.

mod explain;
mod leave;
mod outlook;
mod rounds;
mod trials;
mod waiting;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use crate::campaign::CampaignStatus;
use crate::ids::{EmailAccountId, EnrollmentId, LeadId};
use crate::pace::{AccountBook, CampaignBook, Deferral, ProviderBook, Recipient, Scope, TenantBook};
use crate::page::{Behind, Page, next_part, senders, soonest, turn_rank};
use crate::plan::{Books, CampaignPlan, Candidate, Line, Moment};
use crate::reason::Reason;
use crate::rounds::Rounds;
use crate::schedule::WarmupTable;
use crate::step::Due;
use crate::time::Timestamp;
use crate::trial::PARKED;
pub use explain::Explanation;
pub use outlook::Outlook;
use rounds::Coming;
pub use trials::OpenTrial;
use trials::Parked;
use waiting::{Standing, Waiting};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod turns;

/// How the scheduler works: forecasts turn when it turns.
#[derive(Clone, Debug)]
pub struct Rhythm {
    /// Between two turns.
    pub tick: Duration,
    /// Slots are granted this far ahead.
    pub horizon: Duration,
    /// Candidates in one page.
    pub page: usize,
    /// The ramp of young accounts.
    pub warmup: WarmupTable,
}

/// A send that has its slot, and its enrollment.
#[derive(Clone, Debug)]
pub struct OpenSend {
    /// The enrollment; `due.step_order` is the send's step.
    pub candidate: Candidate,
    /// The account that sends.
    pub account: EmailAccountId,
    /// Not before this time.
    pub at: Timestamp,
    /// Its dot is under way: it leaves now, whatever else, and is charged already.
    pub is_dot: bool,
    /// Its enrollment goes on behind it; not where it belongs to an earlier round, or its sequence is over.
    pub moves_on: bool,
    /// Why it goes later than planned, where that is so.
    pub reason: Option<Reason>,
    /// Days on which it holds a reservation: the account's, the campaign's.
    pub days: (Option<String>, Option<String>),
}

impl OpenSend {
    /// When its provider holds room for it.
    fn reserved_at(&self) -> Option<Timestamp> {
        self.days.0.is_some().then_some(self.at)
    }
}

/// One campaign as it stands in the ledger.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// What planning knows of it.
    pub plan: CampaignPlan,
    /// It begins then; none = it has begun.
    pub starts_at: Option<Timestamp>,
    /// Planning looks at it again then.
    pub next_plan_at: Option<Timestamp>,
    /// Enrollments that wait for a step.
    pub waiting: Vec<Candidate>,
    /// Sends that a person decides about, or that have no account.
    pub stranded: u64,
    /// Sends that have their slot.
    pub open: Vec<OpenSend>,
    /// Accounts among which new leads are spread.
    pub pool: Vec<EmailAccountId>,
    /// The campaign's own days.
    pub book: CampaignBook,
    /// Trials whose winner a rule is to find.
    pub trials: Vec<OpenTrial>,
    /// When it comes back; none = it does not.
    pub rounds: Option<Rounds>,
    /// Enrollments that have finished and may begin its next round: `due.at` is when they have.
    pub finished: Vec<Candidate>,
}

impl Prospect {
    /// The accounts that its mail may go from, in this round and in those to come.
    pub fn senders(&self) -> BTreeSet<EmailAccountId> {
        let finished = self.finished.iter().filter_map(|candidate| candidate.email_account_id);
        self.senders_now().into_iter().chain(finished).collect()
    }

    /// The accounts that its mail may go from as long as no round begins.
    fn senders_now(&self) -> BTreeSet<EmailAccountId> {
        let kept = self.waiting.iter().filter_map(|candidate| candidate.email_account_id);
        senders(&self.plan, &self.pool, kept.chain(self.open.iter().map(|send| send.account)))
    }
}

/// The books that a tenant's campaigns share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Of every account that one of them may send from.
    pub accounts: BTreeMap<EmailAccountId, AccountBook>,
    /// Of the tenant; none = it has no rate.
    pub tenant: Option<TenantBook>,
    /// Of the providers that the tenant limits; none = it limits none.
    pub providers: Option<ProviderBook>,
}

/// Something that will happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A mail leaves.
    Sent(Sent),
    /// A mail is left out.
    Skipped {
        /// Index of the campaign.
        campaign: usize,
        /// The enrollment.
        enrollment_id: EnrollmentId,
        /// Why.
        reason: Reason,
    },
    /// An enrollment gets no mail any more, or only a person can let it go on.
    Ended {
        /// Index of the campaign.
        campaign: usize,
        /// The enrollment.
        enrollment_id: EnrollmentId,
    },
    /// Leads that are due wait for a limit.
    Waited {
        /// Index of the campaign.
        campaign: usize,
        /// For what.
        reason: Reason,
        /// How long, summed over all leads that wait, in seconds.
        lead_seconds: u128,
    },
}

/// A mail that will leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Index of the campaign.
    pub campaign: usize,
    /// The enrollment.
    pub enrollment_id: EnrollmentId,
    /// To whom.
    pub lead_id: LeadId,
    /// Order of the step.
    pub step_order: u32,
    /// From which account.
    pub account: EmailAccountId,
    /// When.
    pub at: Timestamp,
}

/// Where a lead that waits stands when planning looks at it now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It gets a slot, is left out or ends: nothing holds it.
    Served,
    /// It has to wait.
    Waits(Deferral),
    /// It is not enrolled there, or not due yet.
    NotAsked,
}

/// What a turn said of a campaign's leads.
#[derive(Clone, Debug, Default)]
struct Answers {
    /// Those who were asked and have to wait, and in whose line.
    asked: BTreeMap<EnrollmentId, (Deferral, Option<Line>)>,
    /// Lines that were not read to their ends, and why.
    closed: BTreeMap<Line, Deferral>,
    /// Why nobody else was asked.
    stop: Option<Deferral>,
}

/// A campaign under way in the forecast.
#[derive(Clone, Debug)]
struct Running {
    plan: CampaignPlan,
    starts_at: Option<Timestamp>,
    pool: Vec<EmailAccountId>,
    /// Accounts that its mail may go from: new leads only get one that is among them.
    senders: BTreeSet<EmailAccountId>,
    book: CampaignBook,
    waiting: Waiting,
    /// Enrollments that wait for a winner.
    parked: Parked,
    /// Trials without a winner.
    trials: Vec<OpenTrial>,
    /// Planning looks at it again then; `MAX` = never.
    plan_at: Timestamp,
    /// Planning looks at it no sooner, whoever comes due.
    stopped_until: Timestamp,
    /// When planning last looked at it.
    planned_at: Option<Timestamp>,
    /// Who waits for what since then.
    held_up: BTreeMap<Reason, u64>,
    /// Sends that have their slot.
    open: u64,
    /// Sends and leads that only a person can let go on.
    stranded: u64,
    /// When it comes back, and who begins then.
    coming: Coming,
}

impl Running {
    /// Whether an enrollment waits for a step or for a winner.
    fn waits(&self, enrollment: EnrollmentId) -> bool {
        self.parked.contains_key(&enrollment) || self.waiting.of(enrollment).is_some()
    }

    /// Takes note of who waits for what from now on. Whoever was put off is due later, and waits for nothing meanwhile.
    fn hold_up(&mut self, answers: &Answers, horizon_end: Timestamp) {
        let of_line = |line: &Option<Line>| line.and_then(|line| answers.closed.get(&line));
        let mut others = 0;
        for (line, ready) in self.waiting.ready(horizon_end) {
            match of_line(&line) {
                Some(deferral) => *self.held_up.entry(deferral.reason).or_default() += ready,
                None => others += ready,
            }
        }
        let asked = answers.asked.values().filter(|(_, line)| of_line(line).is_none());
        if let Some(stop) = answers.stop {
            *self.held_up.entry(stop.reason).or_default() += others.saturating_sub(asked.clone().count() as u64);
        }
        for (deferral, _) in asked.filter(|(deferral, _)| deferral.scope != Scope::Lead) {
            *self.held_up.entry(deferral.reason).or_default() += 1;
        }
    }

    fn is_done(&self) -> bool {
        let nobody_waits = self.waiting.is_empty() && self.parked.is_empty() && self.coming.next().is_none();
        self.stranded == 0 && self.open == 0 && nobody_waits
    }
}

/// A slot in the heap, earliest first; the number keeps the order in which slots were granted.
type Slotted = Reverse<(Timestamp, u64)>;

/// All campaigns that share accounts, at one moment.
#[derive(Clone, Debug)]
pub struct World {
    /// When turns are: one was here.
    origin: Timestamp,
    now: Timestamp,
    rhythm: Rhythm,
    shared: Shared,
    campaigns: Vec<Running>,
    slots: BinaryHeap<Slotted>,
    /// The sends of `slots` by their numbers.
    open: BTreeMap<u64, (usize, OpenSend)>,
    granted: u64,
    /// Leads whose addresses' providers are being looked up: foreseen as if these had no limit.
    unknown: BTreeSet<EnrollmentId>,
    /// How many things have happened: what a forecast costs.
    #[cfg(test)]
    steps: u64,
    /// As a scheduler does, also those in which nothing can change.
    #[cfg(test)]
    takes_every_turn: bool,
}

impl World {
    /// The world at `now`.
    pub fn new(now: Timestamp, rhythm: Rhythm, shared: Shared, prospects: Vec<Prospect>) -> Self {
        let mut world = Self {
            origin: now,
            now,
            rhythm,
            shared,
            campaigns: Vec::new(),
            slots: BinaryHeap::new(),
            open: BTreeMap::new(),
            granted: 0,
            unknown: BTreeSet::new(),
            #[cfg(test)]
            steps: 0,
            #[cfg(test)]
            takes_every_turn: false,
        };
        for (campaign, mut prospect) in prospects.into_iter().enumerate() {
            let of_open = prospect.open.iter_mut().map(|send| &mut send.candidate);
            for candidate in prospect.waiting.iter_mut().chain(&mut prospect.finished).chain(of_open) {
                if candidate.recipient == Recipient::NotKnown {
                    candidate.recipient = Recipient::Unlimited;
                    world.unknown.insert(candidate.enrollment_id);
                }
            }
            let (status, starts_at) = (prospect.plan.status, prospect.starts_at);
            let is_live = status.why_not().is_none();
            let plan_at = starts_at.max(prospect.next_plan_at).unwrap_or(now).max(now);
            let senders = prospect.senders_now();
            let coming = Coming::new(prospect.rounds.filter(|_| is_live), prospect.finished);
            let mut waiting = Waiting::default();
            let (parked, due): (Vec<_>, Vec<_>) =
                prospect.waiting.into_iter().partition(|candidate| candidate.due.at == PARKED);
            due.into_iter().for_each(|candidate| waiting.insert(candidate));
            world.campaigns.push(Running {
                plan: prospect.plan,
                starts_at,
                pool: prospect.pool,
                senders,
                book: prospect.book,
                waiting,
                parked: Parked::new(),
                trials: prospect.trials,
                plan_at: if is_live { on_grid(plan_at, now, world.rhythm.tick) } else { Timestamp::MAX },
                stopped_until: plan_at,
                planned_at: None,
                held_up: BTreeMap::new(),
                open: 0,
                stranded: prospect.stranded + if is_live { 0 } else { prospect.open.len() as u64 },
                coming,
            });
            parked.into_iter().for_each(|candidate| world.campaigns[campaign].park(candidate, now));
            let begins = starts_at.filter(|_| status == CampaignStatus::Scheduled);
            for mut send in prospect.open.into_iter().filter(|_| is_live) {
                send.at = begins.map_or(send.at, |begins| begins.max(send.at));
                world.slot(campaign, send);
            }
        }
        world
    }

    /// Goes on to the next thing that happens, and tells what did; false where nothing happens any more before `until`.
    pub fn step(&mut self, until: Timestamp, tell: &mut dyn FnMut(Event)) -> bool {
        let rank = |running: &Running| (running.plan_at, turn_rank(running.plan.id, running.plan_at));
        let next = self.campaigns.iter().enumerate().min_by_key(|(_, running)| rank(running));
        let (plan_at, campaign) = next.map_or((Timestamp::MAX, 0), |(index, running)| (running.plan_at, index));
        let send_at = self.slots.peek().map_or(Timestamp::MAX, |Reverse((at, _))| *at);
        let (verdict_at, of_campaign) = self.next_verdict();
        let (round_at, returning) = self.next_round();
        let at = plan_at.min(send_at).min(verdict_at).min(round_at);
        if at >= until || at == Timestamp::MAX {
            return false;
        }
        self.now = self.now.max(at);
        #[cfg(test)]
        {
            self.steps += 1;
        }
        // What leaves at the moment of a turn leaves before it; in a turn rounds begin first, then winners are chosen, then it plans.
        if round_at < send_at && round_at <= plan_at.min(verdict_at) {
            self.begin_round(returning);
        } else if verdict_at < send_at && verdict_at <= plan_at {
            self.decide_trials(of_campaign, tell);
        } else if send_at <= plan_at {
            if let Some((campaign, send)) = self.slots.pop().and_then(|Reverse((_, number))| self.open.remove(&number))
            {
                self.campaigns[campaign].open -= 1;
                self.leave(campaign, send, tell);
            }
        } else {
            self.turn(campaign, tell);
        }
        true
    }

    /// What planning says of one enrollment when it looks at its campaign now.
    fn ask(&mut self, campaign: usize, enrollment: EnrollmentId) -> Answer {
        let horizon_end = self.now + self.rhythm.horizon;
        let lead = self.campaigns.get(campaign).and_then(|running| running.waiting.of(enrollment));
        let Some(line) = lead.filter(|lead| lead.due.at <= horizon_end).map(Candidate::line) else {
            return Answer::NotAsked;
        };
        let Answers { asked, closed, stop } = self.plan(campaign, &mut |_| ());
        let running = &self.campaigns[campaign];
        let own = asked.get(&enrollment).map(|(deferral, _)| *deferral);
        let own = own.filter(|deferral| deferral.strands() || running.waits(enrollment));
        // Nobody asked it: what holds its line, or all others.
        let is_due = running.waiting.of(enrollment).is_some_and(|lead| lead.due.at <= horizon_end);
        let of_others = line.and_then(|line| closed.get(&line)).copied().or(stop).filter(|_| is_due);
        match own.or(of_others) {
            Some(deferral) => Answer::Waits(deferral),
            None => Answer::Served,
        }
    }

    /// Whether nobody of a campaign waits for anything any more.
    pub fn is_done(&self, campaign: usize) -> bool {
        self.campaigns.get(campaign).is_none_or(|running| running.is_done())
    }

    fn slot(&mut self, campaign: usize, send: OpenSend) {
        self.granted += 1;
        self.campaigns[campaign].open += 1;
        self.slots.push(Reverse((send.at.max(self.now), self.granted)));
        self.open.insert(self.granted, (campaign, send));
    }

    /// One turn of the scheduler over a campaign.
    fn turn(&mut self, campaign: usize, tell: &mut dyn FnMut(Event)) {
        let (now, tick) = (self.now, self.rhythm.tick);
        let running = &mut self.campaigns[campaign];
        if let Some(last) = running.planned_at.replace(now) {
            let seconds = u128::from(now.since(last).as_secs());
            for (reason, leads) in std::mem::take(&mut running.held_up) {
                tell(Event::Waited { campaign, reason, lead_seconds: u128::from(leads) * seconds });
            }
            // The turns that were left out have seen the campaign too.
            running.plan.seen_until = running.plan.seen_until.max(Some(now - tick));
        }
        running.plan_at = Timestamp::MAX;
        let moment = Moment { now, horizon: self.rhythm.horizon };
        let horizon_end = now + moment.horizon;
        let answers = self.plan(campaign, tell);
        let running = &mut self.campaigns[campaign];
        running.hold_up(&answers, horizon_end);
        let Answers { asked, stop, .. } = answers;
        let first = asked.values().map(|(deferral, _)| deferral.until).min();
        let again = stop.map_or(first, |stop| Some(stop.until));
        running.plan.seen_until = Some(stop.map_or(now, |stop| soonest(stop.until, moment)).max(now));
        // What never ends by itself is not foreseen: a person changes it, or nothing does.
        running.stopped_until = stop.map_or(now, |stop| soonest(stop.until, moment));
        if let Some(until) = again.filter(|until| *until < Timestamp::MAX) {
            self.plan_by(campaign, soonest(until, moment));
        }
        if let Some(due) = self.campaigns[campaign].waiting.next_after(horizon_end).filter(|_| stop.is_none()) {
            self.plan_by(campaign, due - self.rhythm.horizon);
        }
        #[cfg(test)]
        if self.takes_every_turn {
            self.plan_by(campaign, now);
        }
    }

    /// Plans page by page.
    fn plan(&mut self, campaign: usize, tell: &mut dyn FnMut(Event)) -> Answers {
        let moment = Moment { now: self.now, horizon: self.rhythm.horizon };
        let mut answers = Answers::default();
        let mut behind = None;
        loop {
            let (page, places, candidates) = self.decide(campaign, behind.take(), moment);
            for (index, deferral) in &page.deferrals {
                answers.asked.insert(candidates[*index].enrollment_id, (*deferral, places[*index].0));
            }
            let plan = &self.campaigns[campaign].plan;
            let is_over = page.stop.is_some() || places.len() < self.rhythm.page;
            if is_over {
                answers.closed = page.closed_lines(plan).cloned().unwrap_or_default();
                answers.stop = page.stop;
            }
            behind = places.last().map(|(_, place)| page.next(plan, *place));
            self.apply(campaign, page, &places, candidates, tell);
            if is_over {
                return answers;
            }
        }
    }

    /// Decides about the page behind a place, looking at no more of it than is needed.
    fn decide(
        &mut self,
        campaign: usize,
        behind: Option<Behind>,
        moment: Moment,
    ) -> (Page, Vec<Standing>, Vec<Candidate>) {
        let running = &mut self.campaigns[campaign];
        let mut tenant = self.shared.tenant.take();
        if let Some(book) = &mut tenant {
            book.spaced_until = moment.now + moment.horizon;
        }
        let accounts = &mut self.shared.accounts;
        let mut books = Books {
            accounts: running.senders.iter().filter_map(|id| accounts.remove_entry(id)).collect(),
            pool: running.pool.clone(),
            campaign: running.book.clone(),
            tenant,
            providers: self.shared.providers.take(),
        };
        let (mut page, mut after) = Page::behind(behind, moment);
        let (mut places, mut candidates) = (Vec::new(), Vec::new());
        while page.stop.is_none() && candidates.len() < self.rhythm.page {
            let first = candidates.len();
            let many = next_part(first, self.rhythm.page);
            let closed = page.closed_lines(&running.plan);
            let who = running.waiting.page(after, moment.now + moment.horizon, many, closed);
            let is_last = who.len() < many;
            // Deciding may move them on.
            places.extend(who.iter().map(|lead| (lead.line(), (lead.due.at, lead.enrollment_id))));
            candidates.extend(who);
            after = places.last().map(|(_, place)| *place).or(after);
            page.decide(&running.plan, (&mut candidates, first), &mut books, &self.rhythm.warmup, moment);
            if is_last {
                break;
            }
        }
        running.book = books.campaign;
        self.shared.accounts.extend(books.accounts);
        self.shared.tenant = books.tenant;
        self.shared.providers = books.providers;
        (page, places, candidates)
    }

    /// Takes a page as the ledger takes it.
    fn apply(
        &mut self,
        campaign: usize,
        page: Page,
        places: &[Standing],
        candidates: Vec<Candidate>,
        tell: &mut dyn FnMut(Event),
    ) {
        let now = self.now;
        for send in &page.sends {
            let candidate = &candidates[send.candidate];
            match (send.account, &send.slot) {
                (Some(account), Some(slot)) => {
                    let days = (Some(slot.account_day.clone()), Some(slot.campaign_day.clone()));
                    let due = Due { step_order: send.step_order, at: now };
                    let candidate = Candidate { due, email_account_id: send.account, ..candidate.clone() };
                    self.slot(
                        campaign,
                        OpenSend { candidate, account, at: slot.at, is_dot: false, moves_on: true, reason: None, days },
                    );
                }
                _ if send.is_held() => {
                    self.campaigns[campaign].stranded += 1;
                    tell(Event::Ended { campaign, enrollment_id: candidate.enrollment_id });
                }
                _ => {
                    if let Some(reason) = send.reason {
                        tell(Event::Skipped { campaign, enrollment_id: candidate.enrollment_id, reason });
                    }
                }
            }
        }
        let running = &mut self.campaigns[campaign];
        for (index, to) in page.moves {
            running.waiting.remove(places[index]);
            running.has_passed(candidates[index].enrollment_id, to.next.map(|due| due.step_order));
            if to.next.is_none() {
                if matches!(to.stopped, None | Some(Reason::ConditionFalse)) {
                    running.coming.finish(&running.plan.settings, candidates[index].clone(), now);
                }
                tell(Event::Ended { campaign, enrollment_id: candidates[index].enrollment_id });
            }
            let Some(due) = to.next.filter(|_| !to.waits) else { continue };
            let deferral = page.deferrals.get(&index);
            if deferral.is_some_and(Deferral::strands) {
                running.stranded += 1;
                tell(Event::Ended { campaign, enrollment_id: candidates[index].enrollment_id });
                continue;
            }
            if due.at == PARKED {
                running.park(Candidate { due, ..candidates[index].clone() }, now);
                continue;
            }
            if let Some(deferral) = deferral.filter(|_| due.at > now) {
                let lead_seconds = u128::from(due.at.since(now).as_secs());
                tell(Event::Waited { campaign, reason: deferral.reason, lead_seconds });
            }
            running.waiting.insert(Candidate { due, ..candidates[index].clone() });
        }
    }

    /// Lets planning look at a campaign no later than at the first turn from `at` on that is still to come.
    fn plan_by(&mut self, campaign: usize, at: Timestamp) {
        let (now, tick) = (self.now, self.rhythm.tick);
        let running = &mut self.campaigns[campaign];
        let earliest = running.planned_at.map_or(now, |last| last + tick).max(running.stopped_until).max(now);
        let at = on_grid(at.max(earliest), self.origin, tick);
        running.plan_at = running.plan_at.min(at);
    }
}

/// The first turn at or after `at`, where one was at `turn`.
fn on_grid(at: Timestamp, turn: Timestamp, tick: Duration) -> Timestamp {
    let tick = tick.as_micros().max(1);
    let passed = at.since(turn).as_micros().div_ceil(tick) * tick;
    turn + Duration::from_micros(u64::try_from(passed).unwrap_or(u64::MAX))
}
