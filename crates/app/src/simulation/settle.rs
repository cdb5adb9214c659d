//! Waiting until everything that can leave at this moment has left, without sleeping: each transaction that writes rings.
//!
//! The clock stands, so what the worker puts off for a while of real time (its lane was full, the gate was shut since the
//! machine is busy) would wait for ever: it comes back at once here. What is stuck in spite of that is told, and fails.
//! Not responsible for what happens at other moments (`simulation`). To add something that real time would bring: `hasten`.

use std::time::{Duration, Instant};

use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::value::Row;
use engines::values;

use super::Simulation;
use super::engine::{Engine, NARROW};
use super::forecast::foreseen;
use super::late::unlimited;
use crate::worker;

/// Real time in which nothing leaves any more and nothing is tried: far more than a busy machine takes for one dialogue.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nothing has moved for so long: a hint may be lost, which a worker brings back after a minute of a clock that goes on. A busy machine may
/// push one while the job of the same send that was put off to this very moment is still being acknowledged.
const QUIET: Duration = Duration::from_secs(10);

/// More of them at one moment are no accident.
const MOST_LOST: usize = 2;

/// Sends that may go now: campaign and account are not stopped. One without an account waits for planning.
static NOT_SETTLED: Statement = Statement::new(
    "NOT_SETTLED",
    "SELECT COUNT(*) AS n FROM sends s JOIN campaigns c ON c.id = s.campaign_id
        JOIN email_accounts a ON a.id = s.email_account_id
        WHERE s.open AND s.not_before <= $1 AND c.status = 'sending' AND a.status = 'active'",
);
/// Sends whose slot has come and whose lead another program has suppressed or found to have bounced: no worker takes them, and a
/// turn ends them.
static EXCLUDED: Statement = Statement::new(
    "EXCLUDED",
    "SELECT COUNT(*) AS n FROM sends s JOIN leads l ON l.id = s.lead_id
        WHERE s.open AND s.status IN ('planned', 'queued') AND s.not_before <= $1
            AND (l.status = 'bounced' OR EXISTS (SELECT 1 FROM suppression_list x
                WHERE x.email = l.email AND (x.expires_at IS NULL OR x.expires_at > $1)))",
);
/// Jobs that a worker has put off, though their sends may go.
static HANDED_BACK: Statement = Statement::new(
    "HANDED_BACK",
    "SELECT COUNT(*) AS n FROM queue_jobs q JOIN sends s ON s.id = q.id
        WHERE q.owner IS NULL AND q.not_before > $1 AND s.open AND s.not_before <= $1",
);
static BRING_FORWARD: Statement = Statement::new(
    "BRING_FORWARD",
    "UPDATE queue_jobs SET not_before = $1 WHERE owner IS NULL AND not_before > $1
        AND id IN (SELECT id FROM sends WHERE open AND not_before <= $1)",
);
/// Sends that may go, and of which nobody knows.
static WITHOUT_HINT: Statement = Statement::new(
    "WITHOUT_HINT",
    "SELECT COUNT(*) AS n FROM sends s JOIN campaigns c ON c.id = s.campaign_id
        JOIN email_accounts a ON a.id = s.email_account_id
        WHERE s.open AND s.status IN ('planned', 'queued') AND s.not_before <= $1 AND s.hinted_at IS NULL
            AND c.status = 'sending' AND a.status = 'active' AND (a.backoff_until IS NULL OR a.backoff_until <= $1)",
);
/// Hints that no job stands for.
static FORGET_HINTS: Statement = Statement::new(
    "FORGET_HINTS",
    "UPDATE sends SET hinted_at = NULL WHERE open AND status IN ('planned', 'queued') AND not_before <= $1
        AND hinted_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM queue_jobs q WHERE q.id = sends.id) RETURNING id",
);
/// Of what is still to leave: whatever has left makes it less.
static PROGRESS: Statement = Statement::new(
    "PROGRESS",
    "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(fence + attempts + unknowns), 0) AS bigint) AS steps FROM sends
        WHERE open AND not_before <= $1",
);
static STUCK: Statement = Statement::new(
    "STUCK",
    "SELECT s.id, s.status, s.reason, s.not_before, s.hinted_at, s.owner, a.status AS account_status, a.backoff_until,
            q.not_before AS job_at, q.owner AS job_owner
        FROM sends s LEFT JOIN email_accounts a ON a.id = s.email_account_id LEFT JOIN queue_jobs q ON q.id = s.id
        WHERE s.open AND s.not_before <= $1 ORDER BY s.not_before, s.id LIMIT 20",
);

impl Simulation {
    /// Waits until every send whose slot has come is settled.
    pub(super) async fn settle(&self) {
        self.ctx.jobs.notify_one();
        // Forecasts take it for done at the slot, whenever the next turn is.
        if self.number(&EXCLUDED).await > 0 {
            self.ctx.store.system().sweep(self.clock.now()).await.unwrap();
        }
        let (mut seen, mut since, mut lost) = (None, Instant::now(), 0);
        while self.number(&NOT_SETTLED).await > 0 {
            self.hasten().await;
            let progress = self.progress().await;
            if seen != Some(progress) {
                (seen, since) = (Some(progress), Instant::now());
            }
            if since.elapsed() > QUIET && lost < MOST_LOST {
                lost += self.ctx.store.db().write(&FORGET_HINTS, values![self.clock.now()]).await.unwrap().len();
            }
            // Heartbeats ring too.
            let rings = tokio::time::timeout(PATIENCE, self.written.notified()).await.is_ok();
            if !rings || since.elapsed() > PATIENCE {
                self.tell_what_is_stuck().await;
            }
        }
    }

    /// Has happen now what real time alone would bring.
    async fn hasten(&self) {
        let now = self.clock.now();
        let is_handed_back = self.number(&HANDED_BACK).await > 0;
        if is_handed_back {
            self.ctx.store.db().write(&BRING_FORWARD, values![now]).await.unwrap();
        }
        let brought =
            if self.number(&WITHOUT_HINT).await > 0 { worker::reconcile_once(&self.ctx).await.unwrap() } else { 0 };
        if is_handed_back || brought > 0 {
            self.ctx.jobs.notify_one();
        }
    }

    async fn progress(&self) -> (u64, u64) {
        let row = self.ctx.store.db().read(&PROGRESS, values![self.clock.now()]).await.unwrap().remove(0);
        (row.get("n").unwrap(), row.get("steps").unwrap())
    }

    async fn tell_what_is_stuck(&self) {
        let now = self.clock.now();
        let rows = self.ctx.store.db().read(&STUCK, values![now]).await.unwrap();
        let text = |row: &Row, column: &str| row.get::<Option<String>>(column).unwrap().unwrap_or_default();
        let time = |row: &Row, column: &str| row.get::<Option<Timestamp>>(column).unwrap();
        let tell = |row: &Row| {
            format!(
                "{} is {} {} of {} since {:?}, hinted at {:?}; account {} backs off until {:?}; job of {} at {:?}\n",
                row.get::<uuid::Uuid>("id").unwrap(),
                text(row, "status"),
                text(row, "reason"),
                text(row, "owner"),
                time(row, "not_before"),
                time(row, "hinted_at"),
                text(row, "account_status"),
                time(row, "backoff_until"),
                text(row, "job_owner"),
                time(row, "job_at"),
            )
        };
        let told: String = rows.iter().map(tell).collect();
        panic!("nothing moves any more at {now}; {} handed back:\n{told}", self.number(&HANDED_BACK).await);
    }
}

/// Ten mails of each account at one moment, and lanes for two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_lanes_hold_up_nobody_while_the_clock_stands() {
    let origin: Timestamp = "2026-03-20T10:00:00Z".parse().unwrap();
    let simulation = Simulation::begin_with(Engine::Sqlite, origin, NARROW).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (tenant_id, id) = simulation.start(&unlimited(5, folder.path()).file).await;
    let mut foreseen = foreseen(&simulation, tenant_id, id).await;
    simulation.live(origin + Duration::from_secs(500 * 24 * 3600)).await;
    let mut happened = simulation.accepted();
    foreseen.sort();
    happened.sort();
    assert_eq!(foreseen, happened);
    assert_eq!(happened.len(), 120);
    simulation.end().await;
}
