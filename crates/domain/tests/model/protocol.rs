//! The protocol (P1 to P10): what each step of one message does to scheduler, queue, two workers, ledger and server.
//!
//! What the ledger does is `domain::ledger` and `domain::settle` themselves; what the queue does is its contract. A
//! process has a send in work at most once at a time: `Mutant::WithdrawAnyOwners` is what happens where it has not. Not
//! responsible for which steps there are (`action`). To add a step's meaning: its arm in `World::step`; a way to get the
//! protocol wrong: a `Mutant`, and the place where it strays.

use domain::campaign::OnUnknown;
use domain::ledger::Row;
use domain::settle::{Attempted, Outcome, ReplyAction, RetryPolicy, Transition, settle};
use domain::time::Zone;

use super::action::{Action, Action as A, Fault};
use super::state::{Broken, End, Ended, Hint, Job, LATER, NOW, Owner, Phase, Reply, State};

/// A way to get the protocol wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// P5 asks for the status alone.
    NoFence,
    /// After a COMMIT in doubt the dot is written all the same.
    DotInDoubt,
    /// P9 is left out.
    NoReconcile,
    /// A dot is taken over by its age: a long outage makes every living worker's old.
    RecoverByAge,
    /// The queue is the truth, and a job leaves it when it is taken.
    Brpop,
    /// P7 asks for the status alone.
    ResultWithoutFence,
    /// A known outcome leaves the fence as it was.
    ResultKeepsFence,
    /// An intent in doubt is taken back from whoever has it. The same happens where one process works on a send twice at
    /// once: its name and the fence do not tell its two intents apart.
    WithdrawAnyOwners,
    /// Every unknown outcome is sent again.
    ResendForEver,
    /// Reapers know an owner by its heartbeat alone.
    OwnersByHeartbeat,
    /// P5 does not look at the suppression list.
    NoLastLook,
}

/// The rules of one exploration.
pub struct World {
    pub on_unknown: OnUnknown,
    /// Faults that do not happen.
    pub without: Vec<Fault>,
    pub mutant: Option<Mutant>,
    pub policy: RetryPolicy,
}

/// Attempts after which a temporary refusal is final: it bounds the model, as time bounds the product.
pub const MOST_ATTEMPTS: u32 = 2;

impl World {
    pub fn new(on_unknown: OnUnknown) -> Self {
        Self { on_unknown, without: Vec::new(), mutant: None, policy: RetryPolicy::default() }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// What the outcome does, by `domain::settle`.
    pub fn settle(&self, outcome: Outcome, attempts: u32, unknowns: u32) -> Transition {
        let unknowns = if self.is(Mutant::ResendForEver) { 0 } else { unknowns };
        let attempted = Attempted {
            attempts,
            unknowns,
            budget_began_at: None,
            max_attempts: Some(MOST_ATTEMPTS),
            on_unknown: self.on_unknown,
            account_failures: 0,
            account_zone: Zone::UTC,
            soft_bounces: 0,
            next: None,
        };
        settle(outcome, &attempted, &self.policy, NOW, 0.5)
    }

    /// The moment after a step; none where the step cannot be taken.
    pub fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        let by_age = self.is(Mutant::RecoverByAge) && matches!(action, A::Reap(_));
        if !by_age && action.fault(state).is_some_and(|fault| self.without.contains(&fault)) {
            return None;
        }
        let done = match action {
            A::Plan | A::PlanUnheard | A::PushTwice | A::Flush | A::LeaseEnds => queue(&mut next, action),
            A::TimeComes | A::Reconcile | A::Sweep | A::Suppress => self.row_by_others(&mut next, action),
            A::Reap(owner) => self.reap(&mut next, owner),
            A::Start(w) | A::StartUnseen(w) | A::Beat(w) | A::Stop(w) | A::Kill(w) => process(&mut next, action, w),
            A::Replay(w) => self.replay(&mut next, w, true),
            A::ReplayLost(w) => self.replay(&mut next, w, false),
            A::Lease(w) => self.lease(&mut next, w),
            A::Fetch(w) => fetch(&mut next, w),
            A::Intend(w) | A::IntendInDoubt(w, _) | A::Withdraw(w) | A::WithdrawLost(w) => {
                self.gate(&mut next, action, w)
            }
            A::Refuse(w, _) | A::Break(w, _) | A::Dot(w, _) | A::Answer(w) | A::Cut(w) => {
                dialogue(&mut next, action, w)
            }
            A::Journal(w) | A::Apply(w) | A::ApplyLost(w) => self.result(&mut next, action, w),
            A::Acknowledge(w) => acknowledge(&mut next, w, true),
            A::AcknowledgeLost(w) => acknowledge(&mut next, w, false),
        };
        done.filter(|()| next != *state).map(|()| next)
    }

    fn row_by_others(&self, s: &mut State, action: Action) -> Option<()> {
        let row = s.row.as_mut()?;
        match action {
            A::TimeComes => (row.not_before > NOW).then(|| row.not_before = NOW),
            // An id that is still in its lane is not pushed again.
            A::Reconcile => {
                let runs = !self.is(Mutant::NoReconcile) && !self.is(Mutant::Brpop);
                let brings = runs && row.is_grantable(NOW) && !s.suppressed && s.hint == Hint::Absent;
                brings.then(|| s.hint = Hint::Visible)
            }
            // What is not due yet is looked at when it is.
            A::Sweep if s.suppressed && row.is_grantable(NOW) => row.cancel().map(|cancelled| *row = cancelled),
            A::Sweep => {
                let owner = row.owner.filter(|_| !self.is(Mutant::OwnersByHeartbeat))?;
                *seen(s, owner) = true;
                Some(())
            }
            A::Suppress => {
                s.suppressed = true;
                Some(())
            }
            _ => None,
        }
    }

    /// P8, and by whom it is asked for: only an owner whose heartbeat can be seen standing still.
    fn reap(&self, s: &mut State, owner: Owner) -> Option<()> {
        let by_age = self.is(Mutant::RecoverByAge) && owner != Owner::Ghost;
        if !by_age && !*seen(s, owner) {
            return None;
        }
        if let Some(row) = s.row.filter(|row| row.is_left_by(owner)) {
            let unknown = self.settle(Outcome::Unknown, row.attempts, row.unknowns);
            s.row = Some(self.accept(&row, row.fence, &unknown)?);
        } else if by_age {
            return None;
        }
        s.hint.replace_lease(owner, Hint::Visible);
        *seen(s, owner) = false;
        Some(())
    }

    fn lease(&self, s: &mut State, w: usize) -> Option<()> {
        let worker = &mut s.workers[w];
        if worker.phase != Phase::Idle || s.hint != Hint::Visible {
            return None;
        }
        s.hint = if self.is(Mutant::Brpop) { Hint::Absent } else { Hint::Leased(Owner::of(w)) };
        worker.phase = Phase::Leased;
        Some(())
    }

    /// P5, and the way back from a COMMIT in doubt.
    fn gate(&self, s: &mut State, action: Action, w: usize) -> Option<()> {
        let me = Owner::of(w);
        let row = s.row?;
        match (action, s.workers[w].phase) {
            (A::Intend(_) | A::IntendInDoubt(_, true), Phase::Fetched(job)) => {
                let fence = if self.is(Mutant::NoFence) { row.fence } else { i64::from(job.fence) };
                let looks = !self.is(Mutant::NoLastLook);
                let intended = row.intend(fence, me).filter(|_| !(looks && s.suppressed));
                if let Some(dot) = intended {
                    s.broken = if s.suppressed { Some(Broken::Suppressed) } else { s.broken };
                    s.broken = if row.not_before > NOW { Some(Broken::Early) } else { s.broken };
                    s.row = Some(dot);
                }
                s.workers[w].phase = match (action, intended) {
                    (A::Intend(_), Some(dot)) => Phase::Granted(job, small(dot.fence)),
                    (A::Intend(_), None) => Phase::Acking,
                    (_, dot) => self.doubt(job, dot),
                };
                Some(())
            }
            (A::IntendInDoubt(_, false), Phase::Fetched(job)) => {
                s.workers[w].phase = self.doubt(job, None);
                Some(())
            }
            (A::Withdraw(_) | A::WithdrawLost(_), Phase::InDoubt(job)) => {
                let owner = if self.is(Mutant::WithdrawAnyOwners) { row.owner.unwrap_or(me) } else { me };
                s.row = Some(row.take_back(i64::from(job.fence), owner, NOW).unwrap_or(row));
                if action == A::Withdraw(w) {
                    s.workers[w].phase = Phase::Acking;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn doubt(&self, job: Job, dot: Option<Row<Owner>>) -> Phase {
        match self.is(Mutant::DotInDoubt) {
            true => Phase::Granted(job, dot.map_or(job.fence + 1, |dot| small(dot.fence))),
            false => Phase::InDoubt(job),
        }
    }

    /// Whoever is started on the directory writes down what a dead process left there.
    fn replay(&self, s: &mut State, w: usize, is_heard: bool) -> Option<()> {
        let worker = &mut s.workers[w];
        let ended = worker.journal?;
        if is_heard {
            worker.journal = None;
        }
        s.row = s.row.map(|row| self.written(&row, &ended));
        Some(())
    }

    /// P7: to the journal, to the ledger.
    fn result(&self, s: &mut State, action: Action, w: usize) -> Option<()> {
        let Phase::Ended { ended, in_journal } = s.workers[w].phase else { return None };
        if action == A::Journal(w) {
            s.workers[w].phase = Phase::Ended { ended, in_journal: true };
            return (!in_journal).then_some(());
        }
        if action == A::Apply(w) {
            s.workers[w].phase = Phase::Acking;
        }
        s.row = s.row.map(|row| self.written(&row, &ended));
        Some(())
    }

    /// The row after a result was given to the ledger: as it was where the result is stale.
    fn written(&self, row: &Row<Owner>, ended: &Ended) -> Row<Owner> {
        let job = ended.job;
        let transition = self.settle(outcome(ended.end), u32::from(job.attempts), u32::from(job.unknowns));
        self.accept(row, i64::from(ended.fence), &transition).unwrap_or(*row)
    }

    fn accept(&self, row: &Row<Owner>, fence: i64, result: &Transition) -> Option<Row<Owner>> {
        let asked = if self.is(Mutant::ResultWithoutFence) { row.fence } else { fence };
        let mut accepted = row.accept(asked, result)?;
        accepted.not_before = if accepted.not_before > NOW { LATER } else { NOW };
        if self.is(Mutant::ResultKeepsFence) {
            accepted.fence = row.fence;
        }
        Some(accepted)
    }
}

pub fn outcome(end: End) -> Outcome {
    match end {
        End::Accepted => Outcome::Accepted,
        End::Retry => Outcome::Refused(ReplyAction::Retry),
        End::Bounced => Outcome::Refused(ReplyAction::BounceSoft),
        End::Unknown => Outcome::Unknown,
        End::BackOff => Outcome::Refused(ReplyAction::BackOffAccount),
        End::GivenBack => Outcome::GivenBack,
        End::Poison => Outcome::Poison,
    }
}

/// P1, P2 and the queue's own life.
fn queue(s: &mut State, action: Action) -> Option<()> {
    match (action, s.hint) {
        (A::Plan | A::PlanUnheard, _) if s.row.is_none() => {
            s.row = Some(Row::planned(NOW));
            if action == A::Plan {
                s.hint = Hint::Visible;
            }
        }
        (A::PushTwice, _) if s.row.is_some() => s.hint = Hint::Visible,
        (A::Flush, _) => s.hint = Hint::Absent,
        (A::LeaseEnds, Hint::Leased(_)) => s.hint = Hint::Visible,
        _ => return None,
    }
    Some(())
}

/// A worker's process begins, is seen, and ends.
fn process(s: &mut State, action: Action, w: usize) -> Option<()> {
    let me = Owner::of(w);
    let worker = &mut s.workers[w];
    match (action, worker.phase) {
        (A::Start(_), Phase::Down) => (worker.phase, worker.seen) = (Phase::Idle, true),
        (A::StartUnseen(_), Phase::Down) => worker.phase = Phase::Idle,
        (A::Beat(_), phase) if phase != Phase::Down => worker.seen = true,
        // What has begun after the gate is finished first; what has not is handed back.
        (A::Stop(_), phase @ (Phase::Idle | Phase::Leased | Phase::Fetched(_))) => {
            (worker.phase, worker.seen) = (Phase::Down, false);
            if phase != Phase::Idle {
                s.hint.replace_lease(me, Hint::Visible);
            }
            leave(s, me);
        }
        (A::Kill(_), phase) if phase != Phase::Down => {
            s.ghost_seen |= worker.seen;
            if let Phase::Ended { ended, in_journal: true } = phase {
                worker.journal = Some(ended);
            }
            (worker.phase, worker.seen) = (Phase::Down, false);
            leave(s, me);
        }
        _ => return None,
    }
    Some(())
}

/// What a process leaves behind belongs to the dead.
fn leave(s: &mut State, owner: Owner) {
    s.hint.replace_lease(owner, Hint::Leased(Owner::Ghost));
    if let Some(row) = s.row.as_mut().filter(|row| row.owner == Some(owner)) {
        row.owner = Some(Owner::Ghost);
    }
}

/// Whether an owner's heartbeat stands in the ledger.
fn seen(s: &mut State, owner: Owner) -> &mut bool {
    match owner {
        Owner::First => &mut s.workers[0].seen,
        Owner::Second => &mut s.workers[1].seen,
        Owner::Ghost => &mut s.ghost_seen,
    }
}

/// P3.
fn fetch(s: &mut State, w: usize) -> Option<()> {
    if s.workers[w].phase != Phase::Leased {
        return None;
    }
    s.workers[w].phase = match s.row.filter(|row| row.is_grantable(NOW) && !s.suppressed) {
        Some(row) => {
            let (attempts, unknowns) = (small(row.attempts.into()), small(row.unknowns.into()));
            Phase::Fetched(Job { fence: small(row.fence), attempts, unknowns })
        }
        None => Phase::Acking,
    };
    Some(())
}

/// P4 and P6, as the server and the network have it.
fn dialogue(s: &mut State, action: Action, w: usize) -> Option<()> {
    let ended = |end, fence, job| Phase::Ended { ended: Ended { end, fence, job }, in_journal: false };
    s.workers[w].phase = match (action, s.workers[w].phase) {
        (A::Refuse(_, end), Phase::Fetched(job)) => ended(end, job.fence, job),
        (A::Break(_, end), Phase::Granted(job, fence)) => ended(end, fence, job),
        (A::Dot(_, reply), Phase::Granted(job, fence)) => {
            s.copies += u8::from(reply == Reply::Accepted);
            Phase::Dotted(job, fence, reply)
        }
        (A::Answer(_), Phase::Dotted(job, fence, reply)) => match reply {
            Reply::Accepted => ended(End::Accepted, fence, job),
            Reply::Retry => ended(End::Retry, fence, job),
            Reply::Bounced => ended(End::Bounced, fence, job),
            Reply::Lost => return None,
        },
        (A::Cut(_), Phase::Dotted(job, fence, _)) => ended(End::Unknown, fence, job),
        _ => return None,
    };
    Some(())
}

fn acknowledge(s: &mut State, w: usize, is_heard: bool) -> Option<()> {
    if s.workers[w].phase != Phase::Acking {
        return None;
    }
    if is_heard {
        s.hint.replace_lease(Owner::of(w), Hint::Absent);
    }
    s.workers[w].phase = Phase::Idle;
    Some(())
}

/// Fences and counts of one message are few.
fn small(n: i64) -> u8 {
    u8::try_from(n).unwrap()
}
