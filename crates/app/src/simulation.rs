//! Weeks of a campaign in minutes: the real scheduler, ledger, queue, worker and a real SMTP server, by a clock that stands
//! until the test moves it to the next moment at which something can happen. Nothing sleeps.
//!
//! Judges forecasts by what then happens. Not responsible for faults (`tests/e2e`). To add a moment that the clock must stop
//! at: `Simulation::next_moment`.

mod edits;
mod explain;
mod forecast;
mod plans;
mod resumed;
mod steering;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{CampaignId, TenantId};
use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::store::setup::SetupReport;
use engines::values;
use tokio::task::JoinHandle;

use crate::campaign_file::{self, LoadOptions};
use crate::clock::Clock;
use crate::config::{self, Environment, Options};
use crate::context::Context;
use crate::exit::Exit;
use crate::lifecycle::Shutdown;
use crate::sink::{Listening, SinkOptions};
use crate::{scheduler, setup, worker};

use edits::Letter;

/// Between two turns of the scheduler.
const TICK: Duration = Duration::from_secs(1);
/// Slots are granted so far ahead.
const HORIZON: Duration = Duration::from_secs(60);

/// Sends that may go now: campaign and account are not stopped.
static NOT_SETTLED: Statement = Statement::new(
    "NOT_SETTLED",
    "SELECT COUNT(*) AS n FROM sends s JOIN campaigns c ON c.id = s.campaign_id
        JOIN email_accounts a ON a.id = s.email_account_id
        WHERE s.open AND s.not_before <= $1 AND c.status = 'sending' AND a.status = 'active'",
);
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
    "SELECT COUNT(*) AS n FROM campaigns WHERE status = 'sending' AND next_plan_at IS NULL AND seen_until > $1",
);
/// What the turns that the clock jumped over would have written: they have seen the campaign, and found nothing to do.
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

/// A mail: when, for whom, from whom.
type Mail = (Timestamp, String, String);

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
}

impl Simulation {
    /// Begins at `origin`, with nothing in the ledger.
    async fn begin(origin: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("penguinmails.toml");
        // A batch of one moment must find its place in the lanes: what is handed back waits for a clock that stands.
        std::fs::write(&file, "[worker]\nconnections = 500\nconnections_per_account = 120\n[log]\njobs = false\n")
            .unwrap();
        let data = folder.path().join("data");
        let options = Options { data, file: Some(file), log_addresses: false, log_format: None };
        let config = config::load(&options, &Environment::default()).unwrap();
        let clock = Clock::test(origin);
        let ctx = Context::open_at(config, clock.clone()).await.unwrap();
        let options = SinkOptions { folder: Some(folder.path().join("mails")), ..SinkOptions::default() };
        let sink = Listening::open("127.0.0.1:0".parse().unwrap(), options).await.unwrap().going_by(clock.clone());
        let url = format!("smtp://{}?tls=none", sink.address().unwrap());
        let shutdown = Shutdown::new();
        let sink = tokio::spawn(sink.run(shutdown.clone()));
        let worker = tokio::spawn(worker::run(Arc::clone(&ctx), shutdown.clone()));
        Self { ctx, clock, origin, shutdown, worker, sink, url, folder }
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
        let mut again_at = None;
        loop {
            self.settle().await;
            if self.last_turn() == self.clock.now() {
                self.see().await;
                again_at = scheduler::enqueue_due_campaigns(&self.ctx).await.unwrap().again_at;
                self.settle().await;
            }
            let now = self.clock.now();
            match self.next_moment(again_at).await.filter(|at| *at < until) {
                Some(at) => self.clock.advance(at.since(now)),
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

    /// Writes down what the turns have seen that the clock jumped over.
    async fn see(&self) {
        self.ctx.store.db().write(&SEE, values![self.clock.now() - TICK]).await.unwrap();
    }

    /// What the receiver has accepted: when, for whom, from whom.
    fn accepted(&self) -> Vec<Mail> {
        self.index().into_iter().map(|(at, to, from, _)| (at, to, from)).collect()
    }

    /// The same with subjects, in order of time.
    fn letters(&self) -> Vec<Letter> {
        let letter = |(at, to, _, file): (Timestamp, String, String, String)| {
            let bytes = std::fs::read(self.folder.path().join("mails").join(file)).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
            (at, to, subject.to_owned())
        };
        let mut letters: Vec<Letter> = self.index().into_iter().map(letter).collect();
        letters.sort_by_key(|letter| letter.0);
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

    /// Waits until every send whose slot has come is settled.
    async fn settle(&self) {
        self.ctx.jobs.notify_one();
        while self.number(&NOT_SETTLED).await > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// When the scheduler's turn was due last: now, or before.
    fn last_turn(&self) -> Timestamp {
        self.origin + TICK * u32::try_from(self.clock.now().since(self.origin).as_micros() / TICK.as_micros()).unwrap()
    }

    /// The next send's slot, or the next turn in which planning can find something.
    async fn next_moment(&self, again_at: Option<Timestamp>) -> Option<Timestamp> {
        let now = self.clock.now();
        let due = self.moment(&NEXT_DUE, self.last_turn() + HORIZON).await.map(|due| due - HORIZON);
        let plan = self.moment(&NEXT_PLAN, self.last_turn()).await;
        let turn = [due, plan, again_at].into_iter().flatten().min().map(|at| self.turn_at(at.max(now)));
        let send = self.moment(&NEXT_SEND, now).await;
        [turn, send, self.turn_owed().await].into_iter().flatten().min()
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
