//! The embedded queue: a table in the ledger's own database, so it lives and is lost with the ledger alone.
//!
//! The contract stands in `queue.rs`. To change a call: its statement here, and a case in the suite.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::time::Timestamp;

use super::{Depth, Job, Lane, Leased, List, Queue, Token, Verdict, shares};
use crate::db::{Access, Db, Tx};
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    PUSH = "INSERT INTO queue_jobs (id, list, lane, payload, priority, not_before, created_at, updated_at)
        SELECT r.id, $1, r.lane, r.payload, r.priority, r.not_before, $2::timestamptz, $2::timestamptz
        FROM {rows r(id uuid, lane bigint, payload text, priority bigint, not_before timestamptz)}
        WHERE true ON CONFLICT (id) DO NOTHING";
    LEASE = "UPDATE queue_jobs SET owner = $3, lease_until = $4, token = token + 1, updated_at = $5
        WHERE id IN (SELECT id FROM queue_jobs
            WHERE list = $1 AND lane = $2 AND owner IS NULL AND not_before <= $5
            ORDER BY not_before, id LIMIT $6 {for update skip locked})
        RETURNING id, token, payload, priority, expirations, not_before";
    EXTEND = "UPDATE queue_jobs SET lease_until = $2, updated_at = $3 FROM {rows r(id uuid, token bigint)}
        WHERE queue_jobs.id = r.id AND queue_jobs.token = r.token AND owner = $1 RETURNING queue_jobs.id, queue_jobs.token";
    ACK = "DELETE FROM queue_jobs WHERE (id, token) IN (SELECT r.id, r.token FROM {rows r(id uuid, token bigint)})
        AND owner = $1 RETURNING id, token";
    RETRY = "UPDATE queue_jobs SET owner = NULL, lease_until = NULL, not_before = r.not_before, updated_at = $2
        FROM {rows r(id uuid, token bigint, not_before timestamptz)}
        WHERE queue_jobs.id = r.id AND queue_jobs.token = r.token AND owner = $1 RETURNING queue_jobs.id, queue_jobs.token";
    REAP_EXPIRED = "UPDATE queue_jobs SET owner = NULL, lease_until = NULL, expirations = expirations + 1, updated_at = $2
        WHERE id IN (SELECT id FROM queue_jobs WHERE list = $1 AND owner IS NOT NULL AND lease_until <= $2
            {for update skip locked})";
    REAP_DEAD = "UPDATE queue_jobs SET owner = NULL, lease_until = NULL, expirations = expirations + 1, updated_at = $2
        FROM {rows r(owner text)} WHERE list = $1 AND queue_jobs.owner = r.owner";
    DEPTH = "SELECT
        COUNT(CASE WHEN owner IS NULL AND not_before <= $2 THEN 1 END) AS ready,
        COUNT(CASE WHEN owner IS NULL AND not_before > $2 THEN 1 END) AS delayed,
        COUNT(owner) AS leased FROM queue_jobs WHERE list = $1 AND lane = $3";
}

/// The queue in a table.
pub struct TableQueue {
    db: Db,
    /// Where the next lease begins in the draw of lanes: single leases must be fair as well.
    draw: AtomicUsize,
}

impl TableQueue {
    /// A queue in `db`, whose schema is migrated.
    pub fn new(db: Db) -> Self {
        Self { db: db.of_system(), draw: AtomicUsize::new(0) }
    }
}

struct LeaseRequest<'a> {
    list: List,
    owner: &'a str,
    until: Timestamp,
    now: Timestamp,
}

async fn lease_lane(tx: &mut Tx, request: &LeaseRequest<'_>, lane: Lane, max: usize) -> Result<Vec<Leased>> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    let params = values![request.list.name(), lane as i64, request.owner, request.until, request.now, limit];
    let mut rows: Vec<(Timestamp, Leased)> = tx
        .query(&LEASE, params)
        .await?
        .iter()
        .map(|row| Ok((row.get("not_before")?, leased(row)?)))
        .collect::<Result<_>>()?;
    // RETURNING promises no order.
    rows.sort_by_key(|(not_before, job)| (*not_before, job.token.id));
    Ok(rows.into_iter().map(|(_, job)| job).collect())
}

fn leased(row: &Row) -> Result<Leased> {
    Ok(Leased {
        token: token(row)?,
        payload: row.get("payload")?,
        priority: row.get("priority")?,
        expirations: row.get("expirations")?,
        // The table is ours alone: nobody puts anything long into it.
        cut_from: None,
    })
}

fn token(row: &Row) -> Result<Token> {
    Ok(Token { id: row.get("id")?, number: row.get("token")? })
}

/// The tokens that are not among the rows that changed.
fn stale(asked: impl Iterator<Item = Token>, changed: &[Row]) -> Result<Vec<Token>> {
    let changed = changed.iter().map(token).collect::<Result<std::collections::HashSet<_>>>()?;
    Ok(asked.filter(|token| !changed.contains(token)).collect())
}

fn token_rows<'a>(tokens: impl Iterator<Item = &'a Token>) -> Rows {
    tokens.map(|token| values![token.id, token.number]).collect()
}

#[async_trait]
impl Queue for TableQueue {
    async fn push(&self, list: List, jobs: Vec<Job>, now: Timestamp) -> Result<u64> {
        if jobs.is_empty() {
            return Ok(0);
        }
        let rows = jobs
            .into_iter()
            .map(|job| values![job.id, list.lane(job.priority) as i64, job.payload, job.priority, job.not_before])
            .collect();
        let mut tx = self.db.begin(Access::Write).await?;
        let pushed = tx.execute_rows(&PUSH, rows, values![list.name(), now]).await?;
        tx.commit().await?;
        Ok(pushed)
    }

    async fn lease(&self, list: List, owner: &str, max: usize, lease: Duration, now: Timestamp) -> Result<Vec<Leased>> {
        let start = self.draw.fetch_add(max, Ordering::Relaxed);
        let request = LeaseRequest { list, owner, until: now + lease, now };
        let mut tx = self.db.begin(Access::Write).await?;
        let mut jobs = Vec::new();
        for (lane, share) in shares(list.lanes(), start, max) {
            jobs.extend(lease_lane(&mut tx, &request, lane, share).await?);
        }
        // What an empty lane left over goes to the others, the most urgent first.
        for lane in list.lanes().iter().filter(|_| list.lanes().len() > 1) {
            let room = max - jobs.len();
            jobs.extend(lease_lane(&mut tx, &request, *lane, room).await?);
        }
        tx.commit().await?;
        Ok(jobs)
    }

    async fn extend(
        &self,
        _list: List,
        owner: &str,
        tokens: &[Token],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        let mut tx = self.db.begin(Access::Write).await?;
        let changed = tx.query_rows(&EXTEND, token_rows(tokens.iter()), values![owner, now + lease, now]).await?;
        tx.commit().await?;
        stale(tokens.iter().copied(), &changed)
    }

    async fn settle(
        &self,
        _list: List,
        owner: &str,
        verdicts: &[(Token, Verdict)],
        now: Timestamp,
    ) -> Result<Vec<Token>> {
        let acked = token_rows(verdicts.iter().filter(|(_, v)| *v == Verdict::Ack).map(|(token, _)| token));
        let again: Rows = verdicts
            .iter()
            .filter_map(|(token, verdict)| match verdict {
                Verdict::RetryAt(at) => Some(values![token.id, token.number, *at]),
                Verdict::Ack => None,
            })
            .collect();
        let mut tx = self.db.begin(Access::Write).await?;
        let mut changed = tx.query_rows(&ACK, acked, values![owner]).await?;
        changed.extend(tx.query_rows(&RETRY, again, values![owner, now]).await?);
        tx.commit().await?;
        stale(verdicts.iter().map(|(token, _)| *token), &changed)
    }

    async fn reap(&self, list: List, dead: &[String], now: Timestamp) -> Result<u64> {
        let mut tx = self.db.begin(Access::Write).await?;
        let mut ended = tx.execute(&REAP_EXPIRED, values![list.name(), now]).await?;
        let owners = dead.iter().map(|owner| values![owner]).collect();
        ended += tx.execute_rows(&REAP_DEAD, owners, values![list.name(), now]).await?;
        tx.commit().await?;
        Ok(ended)
    }

    async fn depth(&self, list: List, lane: Lane, now: Timestamp) -> Result<Depth> {
        let rows = self.db.read(&DEPTH, values![list.name(), now, lane as i64]).await?;
        let read = |row: &Row| {
            Ok(Depth { ready: row.get("ready")?, delayed: row.get("delayed")?, leased: row.get("leased")? })
        };
        rows.first().map_or(Ok(Depth::default()), read)
    }

    async fn epoch(&self, _list: List) -> Result<i64> {
        // Jobs are lost only together with the ledger, so there is one generation.
        Ok(1)
    }

    async fn show_dead_letters(&self, _copies: &[String]) -> Result<()> {
        // Whoever sees this table sees theirs as well.
        Ok(())
    }
}
