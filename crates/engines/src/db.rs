//! One thin driver layer over both databases: connection, transaction, typed values in, rows out, nothing more.
//!
//! Not responsible for what a statement says (`store`, `queue`) or for the differences of SQL (`dialect`).
//! To add a database: a module beside `sqlite` and `postgres` with the same few calls, and an arm in each match here.

mod postgres;
mod sqlite;

pub(crate) use postgres::STATEMENTS as POSTGRES_STATEMENTS;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::ids::TenantId;
use domain::time::Timestamp;
use uuid::Uuid;

use crate::dialect::{Dialect, Statement};
use crate::error::{Error, Result};
use crate::value::{Row, Rows, Value};

/// A database: cheap to clone, shared by all tasks.
#[derive(Clone)]
pub struct Db {
    engine: Engine,
    scope: Scope,
    observer: Option<Observer>,
}

#[derive(Clone)]
enum Engine {
    /// A file beside the program.
    Sqlite(sqlite::Sqlite),
    /// A server.
    Postgres(postgres::Postgres),
}

/// Whose rows a transaction may see and change. PostgreSQL enforces it by row-level security
/// (`migrate/row_security.rs`); on SQLite the predicates of the statements stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// What the login itself may: for migrations and for questions that touch no row.
    Login,
    /// All tenants' rows.
    System,
    /// One tenant's rows.
    Tenant(TenantId),
}

/// Told how each transaction ended; called in its task, so it must be quick.
pub type Observer = Arc<dyn Fn(Observation<'_>) + Send + Sync>;

/// How a transaction ended: committed, or given up after its first error. One that was only dropped is not told of.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// What it meant to do.
    pub access: Access,
    /// From asking for a connection to its end.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<&'a Error>,
}

/// What a transaction means to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read, all of it as it was at the first statement: on SQLite it does not wait for the writer.
    Read,
    /// Write: on SQLite it takes the one writer's turn.
    Write,
}

/// What a lock stops others from doing; the number is part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// A campaign: shared by dots and plans, exclusive for pause and cancel.
    Campaign = 1,
    /// An email account: shared by dots, exclusive for stopping it.
    EmailAccount = 2,
    /// The schema: exclusive for migrations.
    Schema = 3,
    /// The days of a campaign with a daily limit: exclusive for whoever reads them to take room. After the two above.
    CampaignDays = 4,
    /// The slots and dots of a tenant with a rate: exclusive for planning and dots. Behind the rows of email accounts.
    TenantRate = 5,
    /// What a tenant sends to providers that it limits: exclusive for planning and dots. Behind the tenant's rate.
    ProviderRoom = 6,
}

impl Db {
    /// Opens or makes the SQLite file at `path`; `readers` connections read beside the one writer.
    ///
    /// # Errors
    /// `Unavailable` where the file cannot be opened or written.
    pub fn open_sqlite(path: &Path, readers: usize) -> Result<Self> {
        let engine = Engine::Sqlite(sqlite::Sqlite::open(path, readers)?);
        Ok(Self { engine, scope: Scope::Login, observer: None })
    }

    /// Connects to PostgreSQL at `url` (`postgres://…`) with at most `connections` at once.
    ///
    /// # Errors
    /// `Unavailable` where the URL is malformed; a server that is down shows at the first call.
    pub fn open_postgres(url: &str, connections: usize) -> Result<Self> {
        let engine = Engine::Postgres(postgres::Postgres::open(url, connections)?);
        Ok(Self { engine, scope: Scope::Login, observer: None })
    }

    /// The same database, telling `observer` how each transaction ends.
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// The same database with all tenants' rows: for the scheduler, the worker, the queue and recovery.
    pub fn of_system(&self) -> Self {
        Self { scope: Scope::System, ..self.clone() }
    }

    /// The same database with one tenant's rows.
    pub fn of_tenant(&self, tenant_id: TenantId) -> Self {
        Self { scope: Scope::Tenant(tenant_id), ..self.clone() }
    }

    /// Which SQL this database speaks.
    pub fn dialect(&self) -> Dialect {
        match &self.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Begins a transaction; dropped without `commit` it is rolled back.
    ///
    /// # Errors
    /// `Unavailable` where no connection can be had in time.
    pub async fn begin(&self, access: Access) -> Result<Tx> {
        let watch = Watch { access, began: Instant::now(), observer: self.observer.clone() };
        let begun = match &self.engine {
            Engine::Sqlite(db) => db.begin(access).map(Inner::Sqlite),
            Engine::Postgres(db) => db.begin(access, self.scope).await.map(Inner::Postgres),
        };
        let inner = begun.inspect_err(|e| watch.tell(Some(e)))?;
        Ok(Tx { inner, failed: false, watch })
    }

    /// One reading statement on its own.
    ///
    /// # Errors
    /// As `Tx::query`.
    pub async fn read(&self, statement: &'static Statement, params: Vec<Value>) -> Result<Vec<Row>> {
        let watch = Watch { access: Access::Read, began: Instant::now(), observer: self.observer.clone() };
        let result = match &self.engine {
            Engine::Sqlite(db) => match db.begin(Access::Read) {
                Ok(session) => session.query(statement, params, None).await,
                Err(e) => Err(e),
            },
            Engine::Postgres(db) => db.read(self.scope, statement, params).await,
        };
        watch.tell(result.as_ref().err());
        result
    }

    /// One writing statement on its own, committed; the rows that it returns.
    ///
    /// # Errors
    /// As `Tx::query` and `Tx::commit`.
    pub async fn write(&self, statement: &'static Statement, params: Vec<Value>) -> Result<Vec<Row>> {
        let mut tx = self.begin(Access::Write).await?;
        let rows = tx.query(statement, params).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// The server's clock, by which leases and due times go when several hosts share a database; none on SQLite.
    ///
    /// # Errors
    /// `Unavailable` where the server does not answer.
    pub async fn server_time(&self) -> Result<Option<Timestamp>> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(None),
            Engine::Postgres(db) => db.server_time().await.map(Some),
        }
    }

    /// Which server and which copy of the ledger this is: other words mean another server, a history that has branched
    /// (a standby was promoted, a point in time restored), or tables that were made anew. None on SQLite, and where the
    /// server does not let its login know.
    ///
    /// # Errors
    /// The database.
    pub async fn identity(&self) -> Result<Option<String>> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(None),
            Engine::Postgres(db) => match db.identity().await {
                Ok(identity) => Ok(Some(identity)),
                Err(Error::Statement { .. }) => Ok(None),
                Err(e) => Err(e),
            },
        }
    }

    /// Asks the database to prepare a statement without running it: the test that reads every one.
    ///
    /// # Errors
    /// `Statement` with the database's own words.
    pub async fn check(&self, statement: &'static Statement) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(db) => db.begin(Access::Read)?.check(statement).await,
            Engine::Postgres(db) => db.check(statement).await,
        }
    }
}

/// A transaction.
pub struct Tx {
    inner: Inner,
    /// After a failed statement PostgreSQL would answer COMMIT with a silent ROLLBACK.
    failed: bool,
    watch: Watch,
}

/// Since when a transaction is under way, and who is told of its end.
struct Watch {
    access: Access,
    began: Instant,
    observer: Option<Observer>,
}

impl Watch {
    fn tell(&self, error: Option<&Error>) {
        if let Some(observer) = &self.observer {
            observer(Observation { access: self.access, took: self.began.elapsed(), error });
        }
    }
}

enum Inner {
    Sqlite(sqlite::Session),
    Postgres(postgres::Session),
}

impl Tx {
    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// By kind of failure; the transaction can then only be dropped.
    pub async fn query(&mut self, statement: &'static Statement, params: Vec<Value>) -> Result<Vec<Row>> {
        self.run(statement, params, None).await
    }

    /// Runs a statement over `rows`, the table that its `{rows …}` marker declares; nothing happens without rows.
    ///
    /// # Errors
    /// As `query`.
    pub async fn query_rows(
        &mut self,
        statement: &'static Statement,
        rows: Rows,
        params: Vec<Value>,
    ) -> Result<Vec<Row>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.run(statement, params, Some(rows)).await
    }

    /// Runs a statement and returns its first row, if any.
    ///
    /// # Errors
    /// As `query`.
    pub async fn query_opt(&mut self, statement: &'static Statement, params: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.query(statement, params).await?.into_iter().next())
    }

    async fn run(&mut self, statement: &'static Statement, params: Vec<Value>, rows: Option<Rows>) -> Result<Vec<Row>> {
        if self.failed {
            return Err(Error::Aborted);
        }
        let result = match &mut self.inner {
            Inner::Sqlite(session) => session.query(statement, params, rows).await,
            Inner::Postgres(session) => session.query(statement, params, rows).await,
        };
        self.note(&result);
        result
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// As `query`.
    pub async fn execute(&mut self, statement: &'static Statement, params: Vec<Value>) -> Result<u64> {
        if self.failed {
            return Err(Error::Aborted);
        }
        let result = match &mut self.inner {
            Inner::Sqlite(session) => session.execute(statement, params, None).await,
            Inner::Postgres(session) => session.execute(statement, params, None).await,
        };
        self.note(&result);
        result
    }

    /// Runs a statement over `rows` and returns how many rows it changed.
    ///
    /// # Errors
    /// As `query`.
    pub async fn execute_rows(&mut self, statement: &'static Statement, rows: Rows, params: Vec<Value>) -> Result<u64> {
        if self.failed {
            return Err(Error::Aborted);
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let result = match &mut self.inner {
            Inner::Sqlite(session) => session.execute(statement, params, Some(rows)).await,
            Inner::Postgres(session) => session.execute(statement, params, Some(rows)).await,
        };
        self.note(&result);
        result
    }

    /// Runs text that holds several statements: migrations alone.
    pub(crate) async fn script(&mut self, text: &str) -> Result<()> {
        let result = match &mut self.inner {
            Inner::Sqlite(session) => session.script(text.to_owned()).await,
            Inner::Postgres(session) => session.script(text).await,
        };
        self.note(&result);
        result
    }

    /// Has the plans that are made in the transaction be for all parameters, as on SQLite, and for indexes.
    ///
    /// PostgreSQL makes one for the parameters of each of the first five calls. While statistics are missing, right after an import, such
    /// a plan reads all enrollments for each of the 500 rows of input that it knows of; the general one takes these for few, and
    /// looks them up. It is kept while tables grow, so it must not read whole ones because they were small. Only for statements that
    /// are good so at any size: it does not know of limits and arrays how short they are. A table without an index that serves
    /// counts as endlessly dear then, for which PostgreSQL would compile machine code, each time.
    ///
    /// # Errors
    /// As `query`.
    pub async fn plan_once(&mut self) -> Result<()> {
        let Inner::Postgres(session) = &mut self.inner else { return Ok(()) };
        let result = session
            .script(
                "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off",
            )
            .await;
        self.note(&result);
        result
    }

    /// Takes locks until the end of the transaction, in order of id so that two takers never wait for each other.
    ///
    /// PostgreSQL: transaction-level advisory locks, which are fair and write nothing. SQLite: nothing to do, a
    /// writing transaction is alone.
    ///
    /// # Errors
    /// As `query`.
    pub async fn lock(&mut self, kind: LockKind, exclusive: bool, ids: impl IntoIterator<Item = Uuid>) -> Result<()> {
        let Inner::Postgres(session) = &mut self.inner else { return Ok(()) };
        let mut keys: Vec<i64> = ids.into_iter().map(|id| lock_key(kind, id)).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        let result = session.lock(&keys, exclusive).await;
        self.note(&result);
        result
    }

    /// Makes the transaction durable.
    ///
    /// # Errors
    /// `CommitInDoubt` where the connection broke meanwhile, `Aborted` after a failed statement.
    pub async fn commit(self) -> Result<()> {
        if self.failed {
            return Err(Error::Aborted);
        }
        let result = match self.inner {
            Inner::Sqlite(session) => session.commit().await,
            Inner::Postgres(session) => session.commit().await,
        };
        self.watch.tell(result.as_ref().err());
        result
    }

    fn note<T>(&mut self, result: &Result<T>) {
        if let Err(e) = result {
            self.failed = true;
            self.watch.tell(Some(e));
        }
    }
}

/// 64 bits for an advisory lock: the kind in the top byte, the id's entropy in the rest.
fn lock_key(kind: LockKind, id: Uuid) -> i64 {
    let (high, low) = id.as_u64_pair();
    let mixed = (high ^ low.rotate_left(32)) & 0x00ff_ffff_ffff_ffff;
    i64::from_ne_bytes((((kind as u64) << 56) | mixed).to_ne_bytes())
}

/// How long an open transaction may be idle before it is rolled back: others wait for it. On SQLite writing ones alone.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
