//! Does on the store what a step of the model does, by the store's own functions, and compares the row.
//!
//! Steps of queue and server have nothing to do here. Not responsible for choosing steps (`traces`). To add one: its arm
//! in `Driver::step`.

use domain::ids::SendId;
use domain::ledger::Row;
use domain::schedule::WarmupTable;
use domain::send::SendStatus;
use domain::settle::{Attempted, Outcome, Transition, settle};
use domain::time::{Timestamp, Zone};
use engines::dialect::Statement;
use engines::queue::Lane;
use engines::store::SystemStore;
use engines::store::apply::{Applied, Settled};
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;
use engines::store::plan::Hint;
use engines::values;

use super::action::Action as A;
use super::protocol::{MOST_ATTEMPTS, World, outcome};
use super::state::{Ended, NOW as PRESENT, Owner, Phase, State};
use crate::engine::{NOW, new_id};
use crate::store::scene::{Scene, request, result};

static ROW: Statement =
    Statement::new("ROW", "SELECT status, fence, owner, not_before, attempts, unknowns FROM sends WHERE id = $1");

/// One walk: a send of its own, and the processes that are about it.
pub struct Driver<'a> {
    scene: &'a Scene,
    world: &'a World,
    email: String,
    clock: Timestamp,
    /// The steps so far.
    trace: Vec<A>,
    /// The moment of the model that the store is in.
    state: State,
    send: Option<Hint>,
    /// The processes of the two places, and those that are dead.
    names: [String; 2],
    dead: Vec<String>,
    jobs: [Option<SendJob>; 2],
    journals: [Option<Settled>; 2],
}

impl<'a> Driver<'a> {
    /// A new lead, and two workers that have begun; the account is as if nothing had gone by it.
    pub async fn begin(scene: &'a Scene, world: &'a World, name: &str) -> Self {
        let email = format!("{name}@example.test");
        scene.import(vec![NewLead { email: email.clone(), ..NewLead::default() }], NOW).await;
        let fresh = "UPDATE email_accounts SET backoff_until = NULL, backoff_failures = 0, last_slot_at = NULL, last_dot_at = NULL";
        scene.write(fresh, vec![]).await;
        let names = [0, 1].map(|place| format!("{name}-{place}"));
        for name in &names {
            scene.store.system().heartbeat(name, "host", 1, NOW).await.unwrap();
        }
        Self {
            scene,
            world,
            email,
            clock: NOW,
            trace: Vec::new(),
            state: State::start(),
            send: None,
            names,
            dead: Vec::new(),
            jobs: [None, None],
            journals: [None, None],
        }
    }

    fn system(&self) -> SystemStore {
        self.scene.store.system()
    }

    /// Does a step; from whether the model's row changes follows what the store has to answer.
    pub async fn step(&mut self, action: A, next: &State) {
        self.trace.push(action);
        let changes = self.state.row != next.row;
        match action {
            A::Plan | A::PlanUnheard => self.send = self.scene.plan(self.clock).await.planned.pop(),
            A::TimeComes => self.wait().await,
            A::Reconcile => {
                let hints = self.system().reconcile(Lane::Base, 1, self.clock, 1_000, self.clock).await.unwrap();
                assert!(hints.iter().any(|hint| hint.send_id == self.send_id()), "not brought again: {:?}", self.trace);
            }
            A::Sweep => drop(self.system().sweep(self.clock).await.unwrap()),
            A::Suppress => self.suppress().await,
            A::Reap(owner) => self.reap(owner).await,
            A::Start(w) | A::StartUnseen(w) | A::Beat(w) | A::Stop(w) | A::Kill(w) => self.process(action, w).await,
            A::Fetch(w) => self.fetch(w, next).await,
            A::Intend(w) | A::IntendInDoubt(w, true) => {
                let answer = self.intend(w).await;
                let fence = next.row.unwrap().fence;
                assert_eq!(
                    answer,
                    if changes { DotAnswer::Granted { fence } } else { DotAnswer::Refused },
                    "{:?}",
                    self.trace
                );
            }
            A::Withdraw(w) | A::WithdrawLost(w) => {
                let requests = [request(self.jobs[w].as_ref().unwrap(), self.clock)];
                let withdrawn = self.system().withdraw(&requests, &self.names[w], self.clock).await.unwrap();
                assert_eq!(withdrawn, u64::from(changes), "{:?}", self.trace);
            }
            A::Apply(w) | A::ApplyLost(w) => {
                let settled = self.ended(w).unwrap();
                self.apply(&settled, w, changes).await;
            }
            A::Replay(w) | A::ReplayLost(w) => {
                let settled = self.journals[w].clone().unwrap();
                self.apply(&settled, w, changes).await;
            }
            A::PushTwice | A::Flush | A::LeaseEnds | A::Lease(_) | A::Refuse(..) | A::IntendInDoubt(_, false) => {}
            A::Break(..) | A::Dot(..) | A::Answer(_) | A::Cut(_) | A::Journal(_) => {}
            A::Acknowledge(_) | A::AcknowledgeLost(_) => {}
        }
        self.state = *next;
    }

    /// The store's row is the model's, a worker may begin with it when the model says so, and owners are seen alike.
    pub async fn compare(&self) {
        let Some(expected) = self.state.row else { return };
        let rows = self.scene.store.db().read(&ROW, values![self.send_id()]).await.unwrap();
        let owner: Option<String> = rows[0].get("owner").unwrap();
        let not_before: Timestamp = rows[0].get("not_before").unwrap();
        let found = Row {
            status: rows[0].get::<SendStatus>("status").unwrap(),
            fence: rows[0].get("fence").unwrap(),
            owner: owner.map(|name| self.owner_of(&name)),
            not_before: expected.not_before,
            attempts: rows[0].get("attempts").unwrap(),
            unknowns: rows[0].get("unknowns").unwrap(),
        };
        assert_eq!(found, expected, "{:?}", self.trace);
        assert_eq!(not_before > self.clock, expected.not_before > PRESENT, "not_before; {:?}", self.trace);
        let hint = [(self.scene.tenant_id, self.send_id())];
        let may_begin = self.system().fetch(&hint, self.clock).await.unwrap().len() == 1;
        assert_eq!(may_begin, expected.is_grantable(PRESENT) && !self.state.suppressed, "fetch; {:?}", self.trace);
        let seen = self.system().list_owners().await.unwrap();
        let is_seen = |names: &[String]| seen.iter().any(|(name, _)| names.contains(name));
        for (worker, name) in self.state.workers.iter().zip(&self.names) {
            assert_eq!(is_seen(std::slice::from_ref(name)), worker.seen, "{name} is seen; {:?}", self.trace);
        }
        assert_eq!(is_seen(&self.dead), self.state.ghost_seen, "the dead are seen; {:?}", self.trace);
    }

    fn send_id(&self) -> SendId {
        self.send.as_ref().unwrap().send_id
    }

    fn owner_of(&self, name: &String) -> Owner {
        self.names.iter().position(|own| own == name).map_or(Owner::Ghost, Owner::of)
    }

    async fn wait(&mut self) {
        let rows = self.scene.store.db().read(&ROW, values![self.send_id()]).await.unwrap();
        self.clock = rows[0].get("not_before").unwrap();
        assert!(self.clock < NOW + 12 * crate::store::scene::HOUR, "the walk leaves its day");
    }

    async fn suppress(&self) {
        let sql =
            "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, created_at, updated_at)
            VALUES ($1, $2, $3, 'complaint', 'api', $4, $4, $4)";
        self.scene.write(sql, values![new_id(), self.scene.tenant_id, self.email.clone(), self.clock]).await;
    }

    async fn process(&mut self, action: A, w: usize) {
        match action {
            A::Start(_) | A::StartUnseen(_) => {
                let begun = self.dead.len();
                self.names[w] = format!("{}-{begun}", self.names[w]);
            }
            A::Stop(_) => self.system().remove_owner(&self.names[w], None).await.unwrap(),
            A::Kill(_) => {
                let in_journal = matches!(self.state.workers[w].phase, Phase::Ended { in_journal: true, .. });
                self.journals[w] = self.ended(w).filter(|_| in_journal).or(self.journals[w].take());
            }
            _ => {}
        }
        if matches!(action, A::Stop(_) | A::Kill(_)) {
            self.dead.push(self.names[w].clone());
            self.names[w] = format!("{}-", self.names[w]);
        }
        if matches!(action, A::Start(_) | A::Beat(_)) {
            self.system().heartbeat(&self.names[w], "host", 1, self.clock).await.unwrap();
        }
    }

    async fn fetch(&mut self, w: usize, next: &State) {
        let hint = [(self.scene.tenant_id, self.send_id())];
        self.jobs[w] = self.system().fetch(&hint, self.clock).await.unwrap().pop();
        let read = self.jobs[w].as_ref().map(|job| (job.fence, job.attempts, job.unknowns));
        let expected = match next.workers[w].phase {
            Phase::Fetched(job) => Some((job.fence.into(), job.attempts.into(), job.unknowns.into())),
            _ => None,
        };
        assert_eq!(read, expected, "{:?}", self.trace);
    }

    async fn intend(&self, w: usize) -> DotAnswer {
        let requests = [request(self.jobs[w].as_ref().unwrap(), self.clock)];
        let warmup = WarmupTable::default();
        self.system().dot_intent(&requests, &self.names[w], &warmup, &[], self.clock).await.unwrap()[0]
    }

    /// The result that a worker holds, as it writes it down.
    fn ended(&self, w: usize) -> Option<Settled> {
        let Phase::Ended { ended: Ended { end, fence, job: read }, .. } = self.state.workers[w].phase else {
            return None;
        };
        let job = self.jobs[w].as_ref()?;
        let mut settled = result(job, fence.into(), outcome(end), self.clock);
        settled.was_dot = fence > read.fence;
        settled.transition = self.settle(outcome(end), job.attempts, job.unknowns);
        Some(settled)
    }

    fn settle(&self, outcome: Outcome, attempts: u32, unknowns: u32) -> Transition {
        let attempted = Attempted {
            attempts,
            unknowns,
            budget_began_at: None,
            max_attempts: Some(MOST_ATTEMPTS),
            on_unknown: self.world.on_unknown,
            account_failures: 0,
            account_zone: Zone::UTC,
            soft_bounces: 0,
            next: None,
        };
        settle(outcome, &attempted, &self.world.policy, self.clock, 0.5)
    }

    async fn apply(&self, settled: &Settled, w: usize, changes: bool) {
        let results = std::slice::from_ref(settled);
        let applied = self.system().apply(results, &self.names[w], &new_id, self.clock).await.unwrap().applied;
        assert_eq!(applied, [if changes { Applied::Done } else { Applied::Stale }], "{:?}", self.trace);
    }

    /// P8 as the worker does it.
    async fn reap(&mut self, owner: Owner) {
        let names = match owner {
            Owner::Ghost => self.dead.clone(),
            owner => vec![self.names[owner as usize].clone()],
        };
        let mut left = 0;
        let seen = self.system().list_owners().await.unwrap();
        for name in names {
            let heartbeat = seen.iter().find(|(owner, _)| *owner == name).map_or(0, |(_, heartbeat)| *heartbeat);
            for dot in self.system().dots_of(&name, heartbeat).await.unwrap() {
                left += 1;
                let unknown = self.settle(Outcome::Unknown, dot.attempts, dot.unknowns);
                let applied =
                    self.system().apply(&[dot.settled(unknown)], &name, &new_id, self.clock).await.unwrap().applied;
                assert_eq!(applied, [Applied::Done]);
            }
            self.system().remove_owner(&name, Some(heartbeat)).await.unwrap();
        }
        assert_eq!(left, usize::from(self.state.row.is_some_and(|row| row.is_left_by(owner))), "{:?}", self.trace);
    }
}
