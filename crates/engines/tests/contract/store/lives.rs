//! Whatever happens to sends, in whatever order: a day's reserved slots are always those of the sends that hold them.
//!
//! A seed chooses among all moves of a life; the days are looked at after each. Not responsible for what a move does
//! besides. To add a move: an arm in `Life::step`, and its name in `MOVES`, so that it must have come to pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::email_account::AccountStatus;
use domain::ids::{EmailAccountId, SendId, TenantId};
use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::Store;
use engines::store::apply::Applied;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::values;
use uuid::Uuid;

use super::scene::{HOUR, OWNER, Scene, account, result};
use super::slots::WRONG_DAYS;
use crate::chance::Chance;
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

const SEEDS: u64 = 3;
const STEPS: u64 = 400;
const MOVES: [&str; 16] = [
    "plan",
    "dot",
    "dot refused",
    "accept",
    "retry",
    "bounce",
    "unknown",
    "withdraw",
    "give back",
    "fail",
    "unsubscribe",
    "switch off",
    "suppress",
    "hold",
    "cancel",
    "rotate",
];

/// Two campaigns with limits and two accounts, and what has happened to them.
struct Life {
    scenes: Vec<Arc<Scene>>,
    chance: Chance,
    now: Timestamp,
    /// Granted, not settled yet.
    dots: Vec<(SendJob, i64)>,
    leads: usize,
    happened: BTreeMap<&'static str, u64>,
}

async fn campaign(store: Store, name: String) -> Arc<Scene> {
    let scene = Scene::started(store, 0, |s| {
        s.campaign = name;
        s.settings.daily_limit = Some(4);
        s.accounts[0].daily_limit = Some(3);
        s.accounts.push(account("bob@acme.test"));
        s.accounts[1].daily_limit = Some(2);
    });
    Arc::new(scene.await)
}

impl Life {
    async fn new(store: Store, seed: u64) -> Self {
        let scenes = vec![campaign(store.clone(), "A".into()).await, campaign(store, "B".into()).await];
        let (chance, dots, happened) = (Chance::new(seed), Vec::new(), BTreeMap::new());
        Self { scenes, chance, now: NOW, dots, leads: 0, happened }
    }

    fn happens(&mut self, what: &'static str, often: usize) {
        assert!(MOVES.contains(&what));
        *self.happened.entry(what).or_default() += often as u64;
    }

    /// Sends that a worker may have got hold of.
    async fn jobs(&self) -> Vec<SendJob> {
        let f = &self.scenes[0];
        let ids: Vec<Uuid> =
            f.column("SELECT id AS x FROM sends WHERE open AND status IN ('planned', 'queued') ORDER BY id").await;
        let hints: Vec<(TenantId, SendId)> = ids.into_iter().map(|id| (f.tenant_id, SendId::from_uuid(id))).collect();
        let mut jobs = f.store.system().fetch(&hints, self.now).await.unwrap();
        jobs.sort_by_key(|job| job.send_id);
        jobs
    }

    fn scene_of(&self, job: &SendJob) -> Arc<Scene> {
        Arc::clone(self.scenes.iter().find(|f| f.campaign_id == job.campaign.0).unwrap())
    }

    async fn step(&mut self) {
        let which = self.chance.below(2) as usize;
        match self.chance.below(15) {
            0 | 1 => {
                self.scenes[which].enroll(self.leads..self.leads + 3).await;
                self.leads += 3;
            }
            2 | 3 => {
                let planned = self.scenes[which].plan(self.now).await.planned.len();
                self.happens("plan", planned);
            }
            4 | 5 => self.write_a_dot().await,
            6 | 7 => self.settle_a_dot().await,
            8 => self.end_before_the_dot().await,
            9 => self.now = self.now + HOUR * u32::try_from(1 + self.chance.below(12)).unwrap(),
            10 => {
                let jobs = self.jobs().await;
                if let Some(job) = self.chance.pick(&jobs) {
                    self.scene_of(&job).unsubscribe(&job, self.now).await;
                    self.happens("unsubscribe", 1);
                }
            }
            11 if self.chance.below(3) == 0 => self.sweep(which).await,
            14 if self.chance.below(2) == 0 => self.stop_an_account().await,
            12 if self.chance.below(2) == 0 => self.hold_all().await,
            13 if self.chance.below(4) == 0 => {
                let f = Arc::clone(&self.scenes[which]);
                let ended = f.tenant().cancel_campaign(f.campaign_id, self.now).await.unwrap().unwrap();
                self.happens("cancel", ended as usize);
                let name = format!("{:?}", new_id());
                self.scenes.push(campaign(f.store.clone(), name).await);
                let new = self.scenes.len() - 1;
                self.scenes.swap(which, new);
            }
            _ => {}
        }
    }

    async fn write_a_dot(&mut self) {
        let jobs = self.jobs().await;
        let Some(job) = self.chance.pick(&jobs) else { return };
        match self.scene_of(&job).dot(&job, self.now).await {
            DotAnswer::Granted { fence } => {
                self.dots.push((job, fence));
                self.happens("dot", 1);
            }
            DotAnswer::Refused | DotAnswer::Outdated => self.happens("dot refused", 1),
        }
    }

    async fn settle_a_dot(&mut self) {
        if self.dots.is_empty() {
            return;
        }
        let at = self.chance.below(self.dots.len() as u64) as usize;
        let (job, fence) = self.dots.swap_remove(at);
        let f = self.scene_of(&job);
        let (what, outcome) = match self.chance.below(6) {
            0 | 1 => ("accept", Outcome::Accepted),
            2 => ("retry", Outcome::Refused(ReplyAction::Retry)),
            3 => ("bounce", Outcome::Refused(ReplyAction::BounceHard)),
            4 => ("unknown", Outcome::Unknown),
            _ => {
                let requests = [f.request(&job, self.now)];
                let back = f.store.system().withdraw(&requests, OWNER, self.now).await.unwrap();
                return self.happens("withdraw", back as usize);
            }
        };
        let applied = f.apply(&[result(&job, fence, outcome, self.now)], self.now).await;
        self.happens(what, usize::from(applied == [Applied::Done]));
    }

    async fn end_before_the_dot(&mut self) {
        let jobs = self.jobs().await;
        let Some(job) = self.chance.pick(&jobs) else { return };
        let (what, outcome) =
            if self.chance.below(2) == 0 { ("give back", Outcome::GivenBack) } else { ("fail", Outcome::NotComposed) };
        let mut ended = result(&job, job.fence, outcome, self.now);
        (ended.was_dot, ended.account_day, ended.campaign_day) =
            (false, job.account_day.clone(), job.campaign_day.clone());
        let applied = self.scene_of(&job).apply(&[ended], self.now).await;
        self.happens(what, usize::from(applied == [Applied::Done]));
    }

    /// Another program switches a step off or suppresses everybody for a while; the sweep sees it.
    async fn sweep(&mut self, which: usize) {
        let f = Arc::clone(&self.scenes[which]);
        let (what, off, on) = if self.chance.below(2) == 0 {
            (
                "switch off",
                "UPDATE campaign_sequence_steps SET is_active = false",
                "UPDATE campaign_sequence_steps SET is_active = true",
            )
        } else if self.leads > 0 {
            (
                "suppress",
                "UPDATE leads SET status = 'complained' WHERE status = 'active'",
                "UPDATE leads SET status = 'active' WHERE status = 'complained'",
            )
        } else {
            return;
        };
        f.write(off, vec![]).await;
        let ended = f.store.system().sweep(self.now).await.unwrap();
        f.write(on, values![]).await;
        self.happens(what, ended as usize);
    }

    /// One account stops: what is planned there goes back to planning, where another may send. Later it goes on.
    async fn stop_an_account(&mut self) {
        let f = Arc::clone(&self.scenes[0]);
        let ids: Vec<EmailAccountId> = f.column("SELECT id AS x FROM email_accounts ORDER BY id").await;
        let Some(id) = self.chance.pick(&ids) else { return };
        let set = async |status| f.tenant().set_account_status(id, status, None, self.now).await.unwrap();
        set(AccountStatus::Paused).await;
        f.store.system().sweep(self.now).await.unwrap();
        set(AccountStatus::Active).await;
        let lost = f.column::<String>("SELECT status AS x FROM sends WHERE open AND email_account_id IS NULL").await;
        self.happens("rotate", lost.len());
    }

    /// The ledger is found to be restored; a person has all of it sent again.
    async fn hold_all(&mut self) {
        let jobs = self.jobs().await;
        let system = self.scenes[0].store.system();
        system.hold_restored(self.now, None, 1_000, self.now).await.unwrap();
        self.dots.clear();
        for job in &jobs {
            let mut again = result(job, job.fence, Outcome::GivenBack, self.now);
            again.was_dot = false;
            let f = self.scene_of(job);
            assert_eq!(f.tenant().resolve_send(&again, &new_id, self.now).await.unwrap(), Applied::Done);
        }
        self.happens("hold", jobs.len());
    }
}

fn a_days_reserved_slots_are_those_of_the_sends_that_hold_them(engine: Engine) {
    let mut happened: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut life = None;
        with_store(engine, async |store: Store| {
            let mut one = Life::new(store, seed).await;
            for step in 0..STEPS {
                one.step().await;
                let wrong: Vec<String> = one.scenes[0].column(WRONG_DAYS).await;
                assert_eq!(wrong, [] as [String; 0], "seed {seed}, step {step}: {:?}", one.happened);
            }
            life = Some(one.happened);
        });
        for (what, often) in life.into_iter().flatten() {
            *happened.entry(what).or_default() += often;
        }
    }
    // PostgreSQL may not be there: then nothing has happened, and `with_store` has said so.
    let missing: Vec<_> = MOVES.iter().filter(|name| happened.get(**name).is_none_or(|often| *often == 0)).collect();
    assert!(happened.is_empty() || missing.is_empty(), "{missing:?} never came to pass: {happened:?}");
}

on_every_engine! { a_days_reserved_slots_are_those_of_the_sends_that_hold_them }
