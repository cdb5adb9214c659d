//! Races: whoever stops a send, against the gate, at 1,000 random moments for each way to stop one.
//!
//! Two processes' views of one database, both at work at once; a seed says who is started first and what each does before.
//! Judged without mercy: what was no `dot` when the stop's answer had come never becomes one, and who asks later is
//! refused. Not responsible for what a stop does besides. To add a way to stop: a variant of `Stop`, its arms in `stopped`
//! and `stop`, a case below.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::email_account::AccountStatus;
use domain::event::EventType;
use domain::ids::SendId;
use domain::schedule::WarmupTable;
use domain::settle::{Outcome, ReplyAction};
use engines::dialect::Statement;
use engines::store::apply::Applied;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::{Access, Error, Store};

use super::scene::{OWNER, Scene, request, result};
use crate::chance::Chance;
use crate::engine::{Engine, NOW, figure, new_id, with_two_stores};
use crate::on_every_engine;

const ROUNDS: u64 = 1_000;
const LEADS: usize = 3;

static ROWS: Statement = Statement::new("ROWS", "SELECT id, status, fence FROM sends");
static OTHER_WORK: Statement = Statement::new("OTHER_WORK", "SELECT COUNT(*) AS x FROM campaigns");
/// As before the round, under new fences.
static AS_BEFORE: [Statement; 9] = [
    Statement::new("AS_BEFORE", "UPDATE campaigns SET status = 'sending'"),
    Statement::new("AS_BEFORE", "UPDATE email_accounts SET status = 'active'"),
    Statement::new("AS_BEFORE", "UPDATE leads SET status = 'active'"),
    Statement::new("AS_BEFORE", "UPDATE campaign_leads SET status = 'active', stop_reason = NULL"),
    Statement::new(
        "AS_BEFORE",
        "UPDATE sends SET status = 'queued', open = true, fence = fence + 1, owner = NULL, settled_at = NULL",
    ),
    Statement::new("AS_BEFORE", "DELETE FROM suppression_list"),
    Statement::new("AS_BEFORE", "DELETE FROM event_counts"),
    Statement::new("AS_BEFORE", "DELETE FROM tracking_events"),
    Statement::new("AS_BEFORE", "DELETE FROM dead_letters"),
];

#[derive(Clone, Copy, Debug)]
enum Stop {
    Pause,
    Cancel,
    Account,
    Unsubscribe,
    /// A lead is suppressed since another mail to it bounced.
    Suppression,
}

/// Status and fence of every send.
type Sends = HashMap<SendId, (String, i64)>;

/// Two campaigns to the same three leads from one account, as the gate's process sees them and as the stop's does.
struct Arena {
    gate: Scene,
    stop: Scene,
    kind: Stop,
    /// Numbers the beginnings and ends of both sides.
    order: AtomicU64,
}

/// Who asked the gate when, and what it said.
struct Asked {
    from: u64,
    until: u64,
    answers: Vec<DotAnswer>,
}

/// When the stop was made, and the sends as they were when its answer had come.
struct Stopped {
    from: u64,
    until: u64,
    seen: Sends,
}

impl Arena {
    async fn new(kind: Stop, gate: Store, stop: Store) -> Arc<Self> {
        let second = Scene::started(gate.clone(), LEADS, |setup| setup.campaign = "Second".into()).await;
        let gate = Scene::started(gate, LEADS, |_| {}).await;
        let stop = Scene { store: stop, setup: gate.setup.clone(), ..gate };
        assert_eq!((gate.jobs(NOW).await.len(), second.jobs(NOW).await.len()), (LEADS, LEADS));
        Arc::new(Self { gate, stop, kind, order: AtomicU64::new(0) })
    }

    fn tick(&self) -> u64 {
        self.order.fetch_add(1, Ordering::AcqRel)
    }

    async fn sends(&self) -> Sends {
        let rows = self.stop.store.db().read(&ROWS, vec![]).await.unwrap();
        let row = |row: &engines::value::Row| {
            (row.get("id").unwrap(), (row.get("status").unwrap(), row.get("fence").unwrap()))
        };
        rows.iter().map(row).collect()
    }

    async fn as_before(&self) -> Vec<SendJob> {
        let mut tx = self.gate.store.db().begin(Access::Write).await.unwrap();
        for statement in &AS_BEFORE {
            tx.execute(statement, vec![]).await.unwrap();
        }
        tx.commit().await.unwrap();
        let hints: Vec<_> = self.sends().await.into_keys().map(|id| (self.gate.tenant_id, id)).collect();
        let mut jobs = self.gate.store.system().fetch(&hints, NOW).await.unwrap();
        assert_eq!(jobs.len(), 2 * LEADS);
        jobs.sort_by_key(|job| job.send_id);
        jobs
    }

    /// Whether the stop of a round about this lead's mail concerns this send.
    fn is_stopped(&self, job: &SendJob, about: &SendJob) -> bool {
        match self.kind {
            Stop::Account => true,
            Stop::Pause | Stop::Cancel => job.campaign.0 == self.gate.campaign_id,
            Stop::Unsubscribe | Stop::Suppression => job.lead.id == about.lead.id,
        }
    }

    async fn stop(&self, about: &SendJob, fence: i64) {
        let (f, tenant) = (&self.stop, self.stop.tenant());
        match self.kind {
            Stop::Pause => assert!(tenant.pause_campaign(f.campaign_id, NOW).await.unwrap()),
            Stop::Cancel => assert!(tenant.cancel_campaign(f.campaign_id, NOW).await.unwrap().is_some()),
            Stop::Account => {
                let paused = AccountStatus::Paused;
                tenant.set_account_status(about.account.0, paused, Some("by hand"), NOW).await.unwrap();
            }
            // Where both wait for each other's sends, PostgreSQL ends one of the two, who tries again.
            Stop::Unsubscribe => {
                let event = f.event(about, EventType::Unsubscribe);
                let ask = || tenant.unsubscribe(&event, new_id(), NOW);
                while matches!(ask().await.map_err(only_a_conflict), Err(())) {}
            }
            Stop::Suppression => {
                let bounced = [result(about, fence, Outcome::Refused(ReplyAction::BounceHard), NOW)];
                let system = f.store.system();
                let applied = loop {
                    let applied = system.apply(&bounced, OWNER, &new_id, NOW).await;
                    if let Ok(applied) = applied.map_err(only_a_conflict) {
                        break applied;
                    }
                };
                assert_eq!(applied.applied, [Applied::Done]);
            }
        }
    }

    /// Some work before, so that the two meet anywhere in each other's transactions.
    async fn begin_late(store: &Store, (yields, reads): (u64, u64)) {
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        for _ in 0..reads {
            store.db().read(&OTHER_WORK, vec![]).await.unwrap();
        }
    }

    /// One round: how many dots were granted of how many that were to be stopped, and whether both were at it at once.
    async fn round(self: &Arc<Self>, seed: u64) -> (usize, usize, bool) {
        let mut chance = Chance::new(seed);
        let mut jobs = self.as_before().await;
        for last in (1..jobs.len()).rev() {
            jobs.swap(last, chance.below(last as u64 + 1) as usize);
        }
        let about = jobs[0].clone();
        let mut fence = about.fence;
        if matches!(self.kind, Stop::Suppression) {
            // It is being handed over elsewhere, and will bounce.
            fence = self.gate.granted(&about, NOW).await;
            jobs.remove(0);
        }
        jobs.retain(|job| self.is_stopped(job, &about) || chance.below(2) == 0);
        let asked_for = jobs.clone();
        let lateness = [(chance.below(4), chance.below(8)), (chance.below(4), chance.below(8))];
        let this = Arc::clone(self);
        let gate = async move {
            Self::begin_late(&this.gate.store, lateness[0]).await;
            let requests: Vec<_> = asked_for.iter().map(|job| request(job, NOW)).collect();
            let from = this.tick();
            let system = this.gate.store.system();
            let answers = system.dot_intent(&requests, OWNER, &WarmupTable::default(), &[], NOW).await;
            // Whoever has no answer writes no dot.
            let answers =
                answers.map_err(only_a_conflict).unwrap_or_else(|()| vec![DotAnswer::Refused; requests.len()]);
            Asked { from, until: this.tick(), answers }
        };
        let (this, subject) = (Arc::clone(self), about.clone());
        let stop = async move {
            Self::begin_late(&this.stop.store, lateness[1]).await;
            let from = this.tick();
            this.stop(&subject, fence).await;
            let until = this.tick();
            Stopped { from, until, seen: this.sends().await }
        };
        let (asked, stopped) = if chance.below(2) == 0 {
            let gate = tokio::spawn(gate);
            (gate, tokio::spawn(stop))
        } else {
            let stop = tokio::spawn(stop);
            (tokio::spawn(gate), stop)
        };
        let (asked, stopped) = (asked.await.unwrap(), stopped.await.unwrap());
        self.judge(&jobs, &about, &asked.answers, &stopped.seen).await;
        let to_be_stopped = jobs.iter().filter(|job| self.is_stopped(job, &about)).count();
        let granted = asked.answers.iter().zip(&jobs);
        let late = granted.filter(|(a, job)| **a != DotAnswer::Refused && self.is_stopped(job, &about)).count();
        (late, to_be_stopped, asked.from < stopped.until && stopped.from < asked.until)
    }

    async fn judge(&self, jobs: &[SendJob], about: &SendJob, answers: &[DotAnswer], seen: &Sends) {
        let now = self.sends().await;
        let has_answered = answers.iter().any(|answer| *answer != DotAnswer::Refused);
        for (job, answer) in jobs.iter().zip(answers) {
            let granted = *answer != DotAnswer::Refused;
            if !self.is_stopped(job, about) {
                assert!(granted || !has_answered, "nobody had stopped this one");
                continue;
            }
            let (was, is) = (&seen[&job.send_id].0, &now[&job.send_id].0);
            assert_eq!(was == "dot", granted, "a dot after the answer: it was `{was}` then, and is `{is}`");
            assert_eq!(was, is);
        }
        // Whoever asks now is told no, whatever it knows.
        let requests: Vec<_> = jobs
            .iter()
            .filter(|job| self.is_stopped(job, about))
            .map(|job| request(&SendJob { fence: now[&job.send_id].1, ..job.clone() }, NOW))
            .collect();
        let late = self.gate.intend(&requests, NOW).await;
        assert!(late.iter().all(|answer| *answer == DotAnswer::Refused), "{late:?}");
        assert_eq!(self.sends().await, now);
    }
}

fn only_a_conflict(e: Error) {
    assert!(matches!(e, Error::Conflict { .. }), "{e}");
}

fn race(kind: Stop, engine: Engine) {
    with_two_stores(engine, async |gate: Store, stop: Store| {
        let arena = Arena::new(kind, gate, stop).await;
        let (mut gate_first, mut stop_first, mut at_once) = (0, 0, 0);
        for seed in 0..ROUNDS {
            let (granted, of, overlapped) = arena.round(seed).await;
            // One batch is one transaction, and so is a stop.
            assert!(granted == 0 || granted == of, "seed {seed}: {granted} of {of}");
            gate_first += u64::from(granted > 0);
            stop_first += u64::from(granted == 0);
            at_once += u64::from(overlapped);
        }
        let (kind, engine) = (format!("{kind:?}").to_lowercase(), format!("{engine:?}").to_lowercase());
        let counts = format!("gate first {gate_first}, stop first {stop_first}, at once {at_once}");
        figure(&format!("races {kind}/{engine} {counts}"));
        assert!(gate_first > 0 && stop_first > 0 && at_once > ROUNDS / 10);
    });
}

fn a_pause_at_any_moment(engine: Engine) {
    race(Stop::Pause, engine);
}

fn a_cancel_at_any_moment(engine: Engine) {
    race(Stop::Cancel, engine);
}

fn an_accounts_stop_at_any_moment(engine: Engine) {
    race(Stop::Account, engine);
}

fn an_unsubscribe_at_any_moment(engine: Engine) {
    race(Stop::Unsubscribe, engine);
}

fn a_suppression_at_any_moment(engine: Engine) {
    race(Stop::Suppression, engine);
}

on_every_engine! {
    a_pause_at_any_moment
    a_cancel_at_any_moment
    an_accounts_stop_at_any_moment
    an_unsubscribe_at_any_moment
    a_suppression_at_any_moment
}
