//! Weeks of a campaign in minutes: the real scheduler, ledger, queue, worker and a real SMTP server, by a clock that stands
//! until the test moves it to the next moment at which something can happen. Nothing sleeps.
//!
//! Judges forecasts by what then happens, and both by `rules`, which know nothing of the product. Not responsible for faults
//! (`tests/e2e`). To add a moment that the clock must stop at: `Simulation::next_moment`.
//!
//! `SIMULATED_LEADS=5000` lives larger campaigns, `SIMULATED_SEEDS=100` more of them, `SIMULATED_SEED=27` one alone.

mod edits;
mod engine;
mod expected;
mod explain;
mod forecast;
mod late;
mod plans;
mod pools;
mod providers;
mod resumed;
mod rounds;
mod rules;
mod settle;
mod shared;
mod steering;
mod trials;
mod turns;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{CampaignId, TenantId};
use domain::rounds::Rounds;
use domain::time::Timestamp;
use domain::trial::PARKED;
use engines::dialect::Statement;
use engines::store::setup::SetupReport;
use engines::values;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::campaign_file::{self, LoadOptions};
use crate::clock::Clock;
use crate::config::Environment;
use crate::context::Context;
use crate::exit::Exit;
use crate::lifecycle::Shutdown;
use crate::sink::{Listening, SinkOptions};
use crate::{scheduler, setup, worker};

use engine::{Engine, Ledger, WIDE};
use rules::Letter;

/// Between two turns of the scheduler.
const TICK: Duration = Duration::from_secs(1);
/// Slots are granted so far ahead.
const HORIZON: Duration = Duration::from_secs(60);

static NEXT_SEND: Statement =
    Statement::new("NEXT_SEND", "SELECT MIN(not_before) AS at FROM sends WHERE open AND not_before > $1");
static NEXT_DUE: Statement = Statement::new(
    "NEXT_DUE",
    "SELECT MIN(e.due_at) AS at FROM campaign_leads e JOIN campaigns c ON c.id = e.campaign_id
        WHERE e.status = 'active' AND e.due_at > $1 AND c.status = 'sending'",
);
static CAME_DUE: Statement = Statement::new(
    "CAME_DUE",
    "SELECT COUNT(*) AS n FROM campaign_leads WHERE status = 'active' AND due_at <= $1 AND updated_at >= $2",
);
/// Campaigns that rested, and were woken.
static WOKEN: Statement = Statement::new(
    "WOKEN",
    "SELECT COUNT(*) AS n FROM campaigns WHERE status = 'sending' AND (next_plan_at IS NULL OR next_plan_at <= $1) AND seen_until > $1",
);
/// What the turns that the clock jumped over would have written, of which the last one may be ten seconds old: they have seen the
/// campaign, and found nothing to do.
static SEE: Statement = Statement::new(
    "SEE",
    "UPDATE campaigns SET seen_until = $1 WHERE status = 'sending' AND seen_until < $1
        AND (next_plan_at IS NULL OR next_plan_at <= $1)",
);
static NEXT_PLAN: Statement = Statement::new(
    "NEXT_PLAN",
    "SELECT MIN(CASE WHEN next_plan_at > COALESCE(scheduled_at, next_plan_at) THEN next_plan_at ELSE scheduled_at END) AS at
        FROM campaigns WHERE status IN ('scheduled', 'sending') AND (next_plan_at > $1 OR scheduled_at > $1)",
);
/// Campaigns that may come back.
static RECURRING: Statement = Statement::new(
    "RECURRING",
    "SELECT settings, scheduled_at, rounds_seen_until FROM campaigns WHERE status = 'sending'",
);

/// A trial is looked at again then: it may have a winner.
static NEXT_TRIAL: Statement = Statement::new(
    "NEXT_TRIAL",
    "SELECT MIN(trial_check_at) AS at FROM campaign_sequence_steps
        WHERE trial_by IS NOT NULL AND trial_winner IS NULL AND trial_check_at > $1",
);

/// Most mails of each kind that a failure names.
const SHOWN: usize = 12;

/// A mail: when, for whom, from whom.
type Mail = (Timestamp, String, String);

/// Each mail that was foreseen happened, and no other.
fn are_the_same(foreseen: &[Mail], happened: &[Mail], when: &str) {
    let [all_foreseen, all_happened] = [foreseen, happened].map(|mails| mails.iter().collect::<BTreeSet<_>>());
    let first = |of: &BTreeSet<&Mail>, others: &BTreeSet<&Mail>| {
        let only = of.difference(others).take(SHOWN).map(|(at, to, from)| format!("\n  {at} {to} from {from}"));
        only.collect::<String>()
    };
    let (vanished, unforeseen) = (first(&all_foreseen, &all_happened), first(&all_happened, &all_foreseen));
    assert!(
        vanished.is_empty() && unforeseen.is_empty(),
        "{when}: foreseen alone, the first of them:{vanished}\nhappened alone:{unforeseen}"
    );
    let sorted = |mails: &[Mail]| {
        let mut mails = mails.to_vec();
        mails.sort();
        mails
    };
    assert!(sorted(foreseen) == sorted(happened), "{when}: some mails came more often, or less, than foreseen");
}

/// An installation whose clock stands.
struct Simulation {
    ctx: Arc<Context>,
    clock: Clock,
    origin: Timestamp,
    shutdown: Shutdown,
    worker: JoinHandle<Exit>,
    sink: JoinHandle<(u64, Vec<(String, u64)>)>,
    url: String,
    folder: tempfile::TempDir,
    /// Rung when a transaction has written something.
    written: Arc<Notify>,
    /// Every turn until then is taken, also where nothing can happen.
    takes_every_turn_until: Timestamp,
    /// Whether the last turns were not left out, but missed.
    stood_still: Cell<bool>,
    /// Dropped last.
    _ledger: Ledger,
}

/// The seeds that a suite lives, from `first` on.
fn seeds(first: u64, many: u64) -> std::ops::Range<u64> {
    let many = std::env::var("SIMULATED_SEEDS").map_or(many, |many| many.parse().unwrap());
    match std::env::var("SIMULATED_SEED") {
        Ok(only) => only.parse().unwrap()..only.parse::<u64>().unwrap() + 1,
        Err(_) => first..first + many,
    }
}

/// Whether one seed alone is lived: what all together must have tried is not asked then.
fn is_only_one() -> bool {
    std::env::var("SIMULATED_SEED").is_ok()
}

impl Simulation {
    /// Begins at `origin`, with nothing in the ledger and so much room in the worker; none where the engine is missing.
    async fn begin_with(engine: Engine, origin: Timestamp, room: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::make(engine)?;
        let config = ledger.config(folder.path(), room);
        let clock = Clock::test(origin);
        let written = Arc::new(Notify::new());
        let ctx = Context::open_at(config, clock.clone(), Arc::clone(&written)).await.unwrap();
        let options = SinkOptions { folder: Some(folder.path().join("mails")), ..SinkOptions::default() };
        let sink = Listening::open("127.0.0.1:0".parse().unwrap(), options).await.unwrap().going_by(clock.clone());
        let url = format!("smtp://{}?tls=none", sink.address().unwrap());
        let shutdown = Shutdown::new();
        let sink = tokio::spawn(sink.run(shutdown.clone()));
        let worker = tokio::spawn(worker::run(Arc::clone(&ctx), shutdown.clone()));
        Some(Self {
            ctx,
            clock,
            origin,
            shutdown,
            worker,
            sink,
            url,
            folder,
            written,
            takes_every_turn_until: origin,
            stood_still: Cell::new(false),
            _ledger: ledger,
        })
    }

    async fn begin_on(engine: Engine, origin: Timestamp) -> Option<Self> {
        Self::begin_with(engine, origin, WIDE).await
    }

    async fn begin(origin: Timestamp) -> Self {
        Self::begin_on(Engine::Sqlite, origin).await.unwrap()
    }

    /// Sets a campaign up from a file, and starts it now.
    async fn start(&self, file: &Path) -> (TenantId, CampaignId) {
        let report = self.import(file, false, false).await;
        let tenant = self.ctx.store.tenant(report.tenant_id);
        assert!(tenant.start_campaign(report.campaign_id, self.clock.now()).await.unwrap());
        (report.tenant_id, report.campaign_id)
    }

    /// Takes a file, as `campaign import` does.
    async fn import(&self, file: &Path, update: bool, reopen: bool) -> SetupReport {
        let env = Environment::default();
        let url = self.url.parse().ok();
        let options = LoadOptions {
            env: &env,
            settings: &self.ctx.config.settings,
            smtp: url.as_ref(),
            keeps_servers: false,
            skip_bad_rows: false,
            update,
            reopen,
        };
        let campaign = campaign_file::load(file, &options).unwrap_or_else(|errors| panic!("{errors}"));
        setup::set_up(&self.ctx, &campaign, &|_| {}).await.unwrap()
    }

    /// Lives on until nothing can happen any more, or `until`.
    async fn live(&self, until: Timestamp) {
        let (mut again_at, mut is_over) = (None, false);
        loop {
            self.settle().await;
            if self.last_turn() == self.clock.now() {
                self.see().await;
                again_at = scheduler::enqueue_due_campaigns(&self.ctx, &|| true).await.unwrap().again_at;
                self.settle().await;
            }
            let now = self.clock.now();
            let (next, turn) = (self.next_moment(again_at).await, self.turn_at(now));
            match next.filter(|at| *at < until) {
                Some(at) => {
                    is_over = false;
                    self.clock.advance(at.since(now));
                }
                // A turn more: it is the one that completes the campaign.
                None if !is_over && turn < until => {
                    is_over = true;
                    self.clock.advance(turn.since(now));
                }
                None => return,
            }
        }
    }

    /// Lives on until nothing can happen any more before `until`, and stands there.
    async fn live_until(&self, until: Timestamp) {
        self.live(until).await;
        self.clock.advance(until.since(self.clock.now()));
        self.see().await;
    }

    /// Nothing runs for so long: neither scheduler nor worker, so no turn has seen anything.
    fn stand_still(&self, time: Duration) {
        self.clock.advance(time);
        self.stood_still.set(true);
    }

    /// Writes down what the turns have seen that the clock jumped over.
    async fn see(&self) {
        if self.stood_still.take() {
            return;
        }
        self.ctx.store.db().write(&SEE, values![self.clock.now() - TICK]).await.unwrap();
    }

    /// What the receiver has accepted: when, for whom, from whom.
    fn accepted(&self) -> Vec<Mail> {
        self.index().into_iter().map(|(at, to, from, _)| (at, to, from)).collect()
    }

    /// The same with subjects, in order of time.
    fn letters(&self) -> Vec<Letter> {
        let letter = |(at, to, from, file): (Timestamp, String, String, String)| {
            let bytes = std::fs::read(self.folder.path().join("mails").join(file)).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned();
            Letter { at, to, from, subject }
        };
        let mut letters: Vec<Letter> = self.index().into_iter().map(letter).collect();
        letters.sort_by_key(|letter| letter.at);
        letters
    }

    /// What the receiver has written down: when, for whom, from whom, in which file.
    fn index(&self) -> Vec<(Timestamp, String, String, String)> {
        let index = std::fs::read_to_string(self.folder.path().join("mails/index.jsonl")).unwrap_or_default();
        let mail = |line: &str| {
            let mail: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&mail["at"]).parse().unwrap(), text(&mail["to"][0]), text(&mail["from"]), text(&mail["file"]))
        };
        index.lines().map(mail).collect()
    }

    /// Stops everything.
    async fn end(self) {
        self.shutdown.stop();
        assert_eq!(self.worker.await.unwrap(), Exit::Done);
        self.sink.await.unwrap();
    }

    /// When the scheduler's turn was due last: now, or before.
    fn last_turn(&self) -> Timestamp {
        self.origin + TICK * u32::try_from(self.clock.now().since(self.origin).as_micros() / TICK.as_micros()).unwrap()
    }

    /// The next send's slot, or the next turn in which planning can find something.
    async fn next_moment(&self, again_at: Option<Timestamp>) -> Option<Timestamp> {
        let now = self.clock.now();
        let due = self.moment(&NEXT_DUE, self.last_turn() + HORIZON).await;
        // Whoever waits for a winner is due when there is one.
        let due = due.filter(|due| *due < PARKED).map(|due| due - HORIZON);
        let trial = self.moment(&NEXT_TRIAL, self.last_turn()).await;
        let plan = self.moment(&NEXT_PLAN, self.last_turn()).await;
        let turn = [due, plan, trial, again_at].into_iter().flatten().min().map(|at| self.turn_at(at.max(now)));
        let send = self.moment(&NEXT_SEND, now).await;
        let every = Some(self.turn_at(now)).filter(|turn| *turn <= self.takes_every_turn_until);
        [turn, send, every, self.turn_owed().await, self.round_at().await].into_iter().flatten().min()
    }

    /// The turn in which the next round begins.
    async fn round_at(&self) -> Option<Timestamp> {
        let rows = self.ctx.store.db().read(&RECURRING, values![]).await.unwrap();
        let next = |row: &engines::value::Row| {
            let settings = serde_json::from_value(row.get("settings").unwrap()).unwrap();
            let (first, seen) = (row.get("scheduled_at").unwrap(), row.get("rounds_seen_until").unwrap());
            Rounds::of(&settings, first, seen)?.next()
        };
        rows.iter().filter_map(next).min().map(|at| self.turn_at(at.max(self.clock.now())))
    }

    /// The next turn, where a lead has come due since the last one, or a resting campaign was woken.
    async fn turn_owed(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let params = values![now + HORIZON, self.last_turn()];
        let owed: u64 = self.ctx.store.db().read(&CAME_DUE, params).await.unwrap()[0].get("n").unwrap();
        (owed + self.number(&WOKEN).await > 0).then(|| self.turn_at(now))
    }

    /// The first turn at or after `at` that is still to come.
    fn turn_at(&self, at: Timestamp) -> Timestamp {
        let passed = at.since(self.origin).as_micros().div_ceil(TICK.as_micros());
        let turn = self.origin + TICK * u32::try_from(passed).unwrap();
        if turn > self.clock.now() { turn } else { turn + TICK }
    }

    async fn number(&self, statement: &'static Statement) -> u64 {
        self.ctx.store.db().read(statement, values![self.clock.now()]).await.unwrap()[0].get("n").unwrap()
    }

    async fn moment(&self, statement: &'static Statement, after: Timestamp) -> Option<Timestamp> {
        self.ctx.store.db().read(statement, values![after]).await.unwrap()[0].get("at").unwrap()
    }
}
