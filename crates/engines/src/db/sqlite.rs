//! SQLite: one writer thread that owns its connection and commits in groups, and a few reader threads.
//!
//! Transactions that wait while one is under way become savepoints of it and are all acknowledged after its single
//! COMMIT (one fsync). Only what already waits is grouped, so a lone writer is never delayed. Not responsible for SQL.
//! To add a value type: arms in `bind` and `read`.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value as Sql, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;

use super::{Access, IDLE_LIMIT};
use crate::dialect::Statement;
use crate::error::{Error, Result};
use crate::value::{Row, Rows, Value};

/// Most transactions under one COMMIT: bounds how long the first of a group waits.
const GROUP_LIMIT: usize = 256;

/// Longest time that a process with much to write keeps others from writing, and how long it then lets them.
const TURN: Duration = Duration::from_millis(100);
const GAP: Duration = Duration::from_millis(3);
/// Bytes of the write-ahead log from which on it is started anew.
const LOG_LIMIT: u64 = 64 << 20;
/// Pages that each connection keeps: several connections stay within the 64 MiB that a process may hold.
const CACHE_KIB: i64 = 12 << 10;
/// Pages of the write-ahead log from which on they are copied into the file: pages that are written again and again are copied once.
const CHECKPOINT_PAGES: i64 = 4_000;
const SHORTEN_LIMIT: Duration = Duration::from_millis(100);
const SHORTEN_EVERY: Duration = Duration::from_secs(1);
/// How often, and how many times, a process that has to wait looks again: ten seconds in all.
const POLL: Duration = Duration::from_millis(1);
const POLLS: i32 = 10_000;

/// Handle to the threads; they end when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Sqlite {
    writer: Sender<Receiver<Command>>,
    readers: Sender<Receiver<Command>>,
}

enum Command {
    Query {
        statement: &'static Statement,
        params: Vec<Value>,
        rows: Option<Rows>,
        reply: oneshot::Sender<Result<Vec<Row>>>,
    },
    Execute {
        statement: &'static Statement,
        params: Vec<Value>,
        rows: Option<Rows>,
        reply: oneshot::Sender<Result<u64>>,
    },
    Script {
        text: String,
        reply: oneshot::Sender<Result<()>>,
    },
    Check {
        statement: &'static Statement,
        reply: oneshot::Sender<Result<()>>,
    },
    Commit {
        reply: oneshot::Sender<Result<()>>,
    },
}

impl Sqlite {
    pub(super) fn open(path: &Path, readers: usize) -> Result<Self> {
        let unavailable = |e: rusqlite::Error| Error::Unavailable(format!("SQLite file: {}", plain(&e)));
        let mut connection = Connection::open(path).map_err(unavailable)?;
        // SQLite opens a file that may not be written for reading alone, and says so at the first write.
        if connection.is_readonly(rusqlite::MAIN_DB).map_err(unavailable)? {
            return Err(Error::Unavailable("SQLite file: it may only be read".into()));
        }
        configure(&mut connection, false).map_err(unavailable)?;
        let (writer, queue) = mpsc::channel();
        let log = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().display()));
        spawn("sqlite-writer", move || write_loop(&mut connection, &queue, &log))?;
        let (reader, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..readers.max(1) {
            let mut connection = Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
            )
            .map_err(unavailable)?;
            configure(&mut connection, true).map_err(unavailable)?;
            let queue = Arc::clone(&queue);
            spawn("sqlite-reader", move || read_loop(&connection, &queue))?;
        }
        Ok(Self { writer, readers: reader })
    }

    pub(super) fn begin(&self, access: Access) -> Result<Session> {
        let (commands, session) = mpsc::channel();
        let queue = match access {
            Access::Read => &self.readers,
            Access::Write => &self.writer,
        };
        queue.send(session).map_err(|_| Error::Unavailable("the SQLite thread has ended".into()))?;
        Ok(Session { commands })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|e| Error::Unavailable(format!("no thread for SQLite: {e}")))
}

/// SQLite's own handler waits up to 100 ms between two looks and so never meets the gap of a busy writer.
fn wait_for_another_process(looks: i32) -> bool {
    std::thread::sleep(POLL);
    looks < POLLS
}

fn configure(connection: &mut Connection, read_only: bool) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_another_process))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The ledger must survive a loss of power: FULL syncs the WAL at every commit.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Else a statement whose plan may depend on a parameter's value is prepared again for each value: half of an idle turn.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(512);
    if read_only {
        connection.pragma_update(None, "query_only", "ON")?;
    }
    Ok(())
}

/// A transaction as the asynchronous side holds it; dropped, the thread rolls back.
pub(super) struct Session {
    commands: Sender<Command>,
}

impl Session {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let ended = || Error::Unavailable("the transaction was rolled back: it was idle or its thread ended".into());
        self.commands.send(command(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    pub(super) async fn query(
        &self,
        statement: &'static Statement,
        params: Vec<Value>,
        rows: Option<Rows>,
    ) -> Result<Vec<Row>> {
        self.ask(|reply| Command::Query { statement, params, rows, reply }).await
    }

    pub(super) async fn execute(
        &self,
        statement: &'static Statement,
        params: Vec<Value>,
        rows: Option<Rows>,
    ) -> Result<u64> {
        self.ask(|reply| Command::Execute { statement, params, rows, reply }).await
    }

    pub(super) async fn script(&self, text: String) -> Result<()> {
        self.ask(|reply| Command::Script { text, reply }).await
    }

    pub(super) async fn check(&self, statement: &'static Statement) -> Result<()> {
        self.ask(|reply| Command::Check { statement, reply }).await
    }

    pub(super) async fn commit(self) -> Result<()> {
        self.ask(|reply| Command::Commit { reply }).await
    }
}

type Acknowledgement = oneshot::Sender<Result<()>>;

fn write_loop(connection: &mut Connection, queue: &Receiver<Receiver<Command>>, log: &Path) {
    let mut gap = Instant::now();
    let mut shortened = Instant::now();
    while let Ok(first) = queue.recv() {
        if gap.elapsed() > TURN {
            // A pause from another process must not wait for a worker's last result.
            std::thread::sleep(GAP);
            if shortened.elapsed() > SHORTEN_EVERY {
                shorten(connection, log);
                shortened = Instant::now();
            }
            gap = Instant::now();
        }
        if let Err(e) = connection.execute_batch("BEGIN IMMEDIATE") {
            refuse(&first, &error("BEGIN", &e));
            continue;
        }
        // The first of a group needs no savepoint, which keeps a copy of each page that is changed: what it gives up nobody shares yet.
        let Some(committed) = serve(connection, &first) else {
            let _was_rolled_back_already = connection.execute_batch("ROLLBACK");
            continue;
        };
        let mut done = vec![committed];
        // An error may have rolled all of it back: what came behind it would be a transaction of its own.
        while done.len() < GROUP_LIMIT
            && !connection.is_autocommit()
            && let Ok(session) = queue.try_recv()
        {
            done.extend(run_savepoint(connection, &session));
        }
        let result = connection.execute_batch("COMMIT").map_err(|e| {
            // A failed COMMIT (disk full) leaves the transaction open.
            let _rolled_back = connection.execute_batch("ROLLBACK");
            error("COMMIT", &e)
        });
        for reply in done {
            let _receiver_gone = reply.send(match &result {
                Ok(()) => Ok(()),
                Err(e) => Err(Error::Unavailable(e.to_string())),
            });
        }
    }
}

/// Starts a long write-ahead log anew. SQLite does so by itself only at a commit that meets no reader at all, and with
/// several processes reading there is always one: the log would grow for ever.
fn shorten(connection: &mut Connection, log: &Path) {
    if std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_LIMIT) {
        // Readers of old pages are waited for, but not long, since nobody writes meanwhile: the next turn tries again.
        let _busy_or_done = connection
            .busy_timeout(SHORTEN_LIMIT)
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        let _was_set_before = connection.busy_handler(Some(wait_for_another_process));
    }
}

/// Runs one transaction inside the outer one; its acknowledgement waits for the outer COMMIT.
fn run_savepoint(connection: &Connection, session: &Receiver<Command>) -> Option<Acknowledgement> {
    if let Err(e) = connection.execute_batch("SAVEPOINT one") {
        refuse(session, &error("SAVEPOINT", &e));
        return None;
    }
    let committed = serve(connection, session);
    let text = if committed.is_some() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    match connection.execute_batch(text) {
        Ok(()) => committed,
        Err(e) => {
            if let Some(reply) = committed {
                let _receiver_gone = reply.send(Err(error("RELEASE", &e)));
            }
            None
        }
    }
}

fn read_loop(connection: &Connection, queue: &Mutex<Receiver<Receiver<Command>>>) {
    loop {
        let session = {
            let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.recv()
        };
        let Ok(session) = session else { return };
        if let Err(e) = connection.execute_batch("BEGIN") {
            refuse(&session, &error("BEGIN", &e));
            continue;
        }
        let committed = serve(connection, &session);
        let result = connection.execute_batch("COMMIT").map_err(|e| error("COMMIT", &e));
        if let Some(reply) = committed {
            let _receiver_gone = reply.send(result);
        }
    }
}

/// Serves one session until it commits (its reply is returned), is dropped, or is idle for too long.
fn serve(connection: &Connection, session: &Receiver<Command>) -> Option<Acknowledgement> {
    loop {
        match session.recv_timeout(IDLE_LIMIT) {
            Ok(Command::Commit { reply }) => return Some(reply),
            Ok(Command::Query { statement, params, rows, reply }) => {
                let _receiver_gone = reply.send(query(connection, statement, &params, rows.as_ref()));
            }
            Ok(Command::Execute { statement, params, rows, reply }) => {
                let _receiver_gone = reply.send(execute(connection, statement, &params, rows.as_ref()));
            }
            Ok(Command::Script { text, reply }) => {
                let _receiver_gone = reply.send(connection.execute_batch(&text).map_err(|e| error("script", &e)));
            }
            Ok(Command::Check { statement, reply }) => {
                let checked = statement.sqlite().try_for_each(|(_, text)| connection.prepare_cached(text).map(drop));
                let _receiver_gone = reply.send(checked.map_err(|e| error(statement.name, &e)));
            }
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return None,
        }
    }
}

/// Answers a session's first command with an error; the session is over then.
fn refuse(session: &Receiver<Command>, why: &Error) {
    let again = || Error::Unavailable(why.to_string());
    match session.recv_timeout(IDLE_LIMIT) {
        Ok(Command::Query { reply, .. }) => drop(reply.send(Err(again()))),
        Ok(Command::Execute { reply, .. }) => drop(reply.send(Err(again()))),
        Ok(Command::Script { reply, .. } | Command::Check { reply, .. } | Command::Commit { reply }) => {
            drop(reply.send(Err(again())));
        }
        Err(_) => {}
    }
}

fn query(connection: &Connection, statement: &Statement, params: &[Value], rows: Option<&Rows>) -> Result<Vec<Row>> {
    let mut out = Vec::new();
    run(connection, statement, params, rows, |prepared| {
        let columns: Arc<[String]> = prepared.column_names().map(str::to_owned).collect();
        let mut found = prepared.raw_query();
        while let Some(row) = found.next()? {
            let values = (0..columns.len()).map(|i| row.get_ref(i).map(read)).collect::<Result<_, _>>()?;
            out.push(Row::new(Arc::clone(&columns), values));
        }
        Ok(())
    })?;
    Ok(out)
}

fn execute(connection: &Connection, statement: &Statement, params: &[Value], rows: Option<&Rows>) -> Result<u64> {
    let mut changed = 0;
    run(connection, statement, params, rows, |prepared| {
        changed += prepared.raw_execute()? as u64;
        Ok(())
    })?;
    Ok(changed)
}

/// Runs a statement: where it has bulk input, for all of its rows, of which it takes as many at a time as it can.
fn run(
    connection: &Connection,
    statement: &Statement,
    params: &[Value],
    rows: Option<&Rows>,
    mut work: impl FnMut(&mut CachedStatement<'_>) -> rusqlite::Result<()>,
) -> Result<()> {
    let no_input = [Vec::new()];
    let mut rest = rows.map_or(no_input.as_slice(), |Rows(rows)| rows);
    for (many, text) in statement.sqlite() {
        let (now, later) = rest.split_at(rest.len() - rest.len() % many);
        rest = later;
        if now.is_empty() {
            continue;
        }
        let fail = |e: rusqlite::Error| error(statement.name, &e);
        let mut prepared = connection.prepare_cached(text).map_err(fail)?;
        for part in now.chunks(many) {
            bind(&mut prepared, &mut params.iter().chain(part.iter().flatten())).map_err(fail)?;
            work(&mut prepared).map_err(fail)?;
        }
    }
    Ok(())
}

fn bind(prepared: &mut CachedStatement<'_>, values: &mut dyn Iterator<Item = &Value>) -> rusqlite::Result<()> {
    let count = prepared.parameter_count();
    for (index, value) in values.take(count).enumerate() {
        let bound = match value {
            Value::Null => ToSqlOutput::Owned(Sql::Null),
            Value::Bool(v) => ToSqlOutput::Owned(Sql::Integer(i64::from(*v))),
            Value::Int(v) => ToSqlOutput::Owned(Sql::Integer(*v)),
            Value::Float(v) => ToSqlOutput::Owned(Sql::Real(*v)),
            Value::Text(v) => ToSqlOutput::Borrowed(ValueRef::Text(v.as_bytes())),
            Value::Uuid(v) => ToSqlOutput::Borrowed(ValueRef::Blob(v.as_bytes())),
            Value::Time(v) => ToSqlOutput::Owned(Sql::Integer(v.micros())),
            Value::Json(v) => ToSqlOutput::Owned(Sql::Text(v.to_string())),
            Value::Bytes(v) => ToSqlOutput::Borrowed(ValueRef::Blob(v)),
            Value::Uuids(ids) => {
                let list: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
                ToSqlOutput::Owned(Sql::Text(serde_json::Value::from(list).to_string()))
            }
        };
        prepared.raw_bind_parameter(index + 1, bound)?;
    }
    Ok(())
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(v) => Value::Int(v),
        ValueRef::Real(v) => Value::Float(v),
        ValueRef::Text(v) => Value::Text(String::from_utf8_lossy(v).into_owned()),
        ValueRef::Blob(v) => Value::Bytes(v.to_vec()),
    }
}

/// SQLite's own words hold names and never values.
fn plain(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqliteFailure(code, message) => {
            message.clone().unwrap_or_else(|| format!("SQLite code {}", code.extended_code))
        }
        other => other.to_string(),
    }
}

fn error(statement: &'static str, e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Conflict { statement, code: "SQLITE_BUSY".into() }
        }
        Some(ErrorCode::DiskFull) => Error::Unavailable("the disk is full".into()),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => Error::Unavailable(plain(e)),
        Some(ErrorCode::ConstraintViolation) if plain(e).starts_with("UNIQUE") => Error::Unique {
            statement,
            constraint: plain(e).trim_start_matches("UNIQUE constraint failed: ").to_owned(),
        },
        _ => Error::Statement { statement, message: plain(e) },
    }
}
