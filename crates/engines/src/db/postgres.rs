//! PostgreSQL: a pool of connections, and transactions that never leave one half open.
//!
//! A transaction that is dropped without COMMIT (an error, a cancelled future) takes its connection out of the pool
//! and closes it: the next borrower must never find an open transaction, least of all another tenant's.
//! Not responsible for SQL. To add a value type: arms in `ToSql` and `FromSql` below.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use domain::time::Timestamp;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Access, IDLE_LIMIT, Scope};
use crate::dialect::{APP_ROLE, SYSTEM_ROLE, Statement, TENANT_SETTING};
use crate::error::{Error, Result};
use crate::statements;
use crate::value::{Row, Rows, Value};

/// How long to wait for a free connection before saying that the database cannot be reached.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(30);
/// How long one statement may take, the wait for its locks too, before the server ends it. Migrations have no limit.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);
/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

statements! {
    // The table's number is another one after a dump was read, the time line after a standby or a point in time was
    // promoted; the name of the log's file holds the latter at once, the control file only after a checkpoint.
    IDENTITY = "SELECT s.system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
            || '/' || COALESCE(to_regclass('deployment')::oid::text, '') AS identity
        FROM pg_control_system() s";
}

/// Handle to the pool.
#[derive(Clone)]
pub(super) struct Postgres {
    pool: Pool,
}

impl Postgres {
    pub(super) fn open(url: &str, connections: usize) -> Result<Self> {
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| {
            Error::Unavailable("DATABASE_URL is malformed (hint: postgres://user@host:5432/database)".into())
        })?;
        // A half-open connection must show within seconds: the pool hands connections out without asking first.
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(15))
            .connect_timeout(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("penguinmails");
        }
        let manager = Manager::from_config(
            config,
            MakeRustlsConnect::new(tls_config()),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let timeouts =
            Timeouts { wait: Some(ACQUIRE_LIMIT), create: Some(ACQUIRE_LIMIT), recycle: Some(ACQUIRE_LIMIT) };
        let pool = Pool::builder(manager)
            .max_size(connections.max(2))
            .runtime(Runtime::Tokio1)
            .timeouts(timeouts)
            .build()
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        Ok(Self { pool })
    }

    async fn client(&self) -> Result<Object> {
        self.pool.get().await.map_err(|e| match e {
            deadpool_postgres::PoolError::Backend(e) => Error::Unavailable(text(&e)),
            other => Error::Unavailable(other.to_string()),
        })
    }

    async fn session(&self) -> Result<Session> {
        Ok(Session { client: Some(Box::new(self.client().await?)) })
    }

    pub(super) async fn begin(&self, access: Access, scope: Scope) -> Result<Session> {
        let session = self.session().await?;
        session.script(&begin_text(access, scope)).await?;
        Ok(session)
    }

    pub(super) async fn read(
        &self,
        scope: Scope,
        statement: &'static Statement,
        params: Vec<Value>,
    ) -> Result<Vec<Row>> {
        let mut session = self.session().await?;
        let client = session.client()?;
        // Prepared first: then the three below are written at once, and the transaction costs no round trip of its own.
        let prepared = prepare(client, statement).await?;
        let begin = begin_text(Access::Read, scope);
        let (begun, rows, ended) = tokio::join!(
            client.batch_execute(&begin),
            query(client, statement, &prepared, params, None),
            client.batch_execute("COMMIT"),
        );
        begun.map_err(|e| error("BEGIN", &e))?;
        let rows = rows?;
        ended.map_err(|e| error("COMMIT", &e))?;
        session.client.take();
        Ok(rows)
    }

    pub(super) async fn server_time(&self) -> Result<Timestamp> {
        let client = self.client().await?;
        let row = client.query_one("SELECT clock_timestamp()", &[]).await.map_err(|e| error("server time", &e))?;
        match row.get::<_, Value>(0) {
            Value::Time(at) => Ok(at),
            _ => Err(Error::Column { column: "clock_timestamp".into(), problem: "is not a time".into() }),
        }
    }

    pub(super) async fn identity(&self) -> Result<String> {
        let rows = self.read(Scope::System, &IDENTITY, vec![]).await?;
        rows.first().ok_or(Error::Aborted)?.get("identity")
    }

    pub(super) async fn check(&self, statement: &'static Statement) -> Result<()> {
        let client = self.client().await?;
        client.prepare(statement.postgres()).await.map(drop).map_err(|e| error(statement.name, &e))
    }
}

/// Begins a transaction and says whose rows it may see and how long it may take, in one round trip. All of it ends with
/// the transaction, so that a pooler may hand the connection to anybody afterwards.
///
/// The server's own limits matter where this host is lost: its locks would be held until the server notices, which by
/// default takes two hours.
///
/// Who only reads sees one moment in all its statements, as on SQLite: what moves from one table to the other meanwhile
/// would be read twice or not at all.
fn begin_text(access: Access, scope: Scope) -> String {
    let begin = match access {
        Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        Access::Write => "BEGIN",
    };
    let (statement, idle) = (STATEMENT_LIMIT.as_millis(), IDLE_LIMIT.as_millis());
    let limits =
        format!("SET LOCAL statement_timeout = {statement}; SET LOCAL idle_in_transaction_session_timeout = {idle}");
    match scope {
        Scope::Login => begin.to_owned(),
        Scope::System => format!("{begin}; {limits}; SET LOCAL ROLE {SYSTEM_ROLE}"),
        Scope::Tenant(id) => {
            format!("{begin}; {limits}; SET LOCAL ROLE {APP_ROLE}; SELECT set_config('{TENANT_SETTING}', '{id}', true)")
        }
    }
}

/// Verifies servers against the host's own certificate store; used only where the URL's `sslmode` asks for TLS.
fn tls_config() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// An open transaction; its connection goes back to the pool only after COMMIT.
pub(super) struct Session {
    /// On the heap: the handle is large, and a transaction is passed around.
    client: Option<Box<Object>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Dropping the bare client closes the connection; the server rolls back.
            drop(Object::take(*client));
        }
    }
}

impl Session {
    fn client(&self) -> Result<&Object> {
        self.client.as_deref().ok_or(Error::Aborted)
    }

    pub(super) async fn query(
        &self,
        statement: &'static Statement,
        params: Vec<Value>,
        rows: Option<Rows>,
    ) -> Result<Vec<Row>> {
        let client = self.client()?;
        let prepared = prepare(client, statement).await?;
        query(client, statement, &prepared, params, rows).await
    }

    pub(super) async fn execute(
        &self,
        statement: &'static Statement,
        params: Vec<Value>,
        rows: Option<Rows>,
    ) -> Result<u64> {
        let client = self.client()?;
        let prepared = prepare(client, statement).await?;
        let params = parameters(params, rows, prepared.params().len());
        client.execute_raw(&prepared, &params).await.map_err(|e| error(statement.name, &e))
    }

    pub(super) async fn script(&self, script: &str) -> Result<()> {
        self.client()?.batch_execute(script).await.map_err(|e| error("script", &e))
    }

    pub(super) async fn lock(&self, keys: &[i64], exclusive: bool) -> Result<()> {
        let function = if exclusive { "pg_advisory_xact_lock" } else { "pg_advisory_xact_lock_shared" };
        // One after the other in order of key: a set-returning form gives no order.
        let script: String = keys.iter().map(|key| format!("SELECT {function}({key});")).collect();
        self.script(&script).await
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        let client = self.client.take().ok_or(Error::Aborted)?;
        match client.batch_execute("COMMIT").await {
            Ok(()) => Ok(()),
            Err(e) => {
                // A server that ends the connection says nothing of the COMMIT that it was given.
                let in_doubt = e.as_db_error().is_none_or(ends_connection);
                drop(Object::take(*client));
                Err(if in_doubt { Error::CommitInDoubt } else { error("COMMIT", &e) })
            }
        }
    }
}

/// Whether the server's answer is the last one on its connection.
fn ends_connection(e: &DbError) -> bool {
    matches!(e.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

async fn prepare(client: &Object, statement: &'static Statement) -> Result<tokio_postgres::Statement> {
    client.prepare_cached(statement.postgres()).await.map_err(|e| error(statement.name, &e))
}

async fn query(
    client: &Object,
    statement: &'static Statement,
    prepared: &tokio_postgres::Statement,
    params: Vec<Value>,
    rows: Option<Rows>,
) -> Result<Vec<Row>> {
    let fail = |e: tokio_postgres::Error| error(statement.name, &e);
    let params = parameters(params, rows, prepared.params().len());
    let bound: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
    let found = client.query(prepared, &bound).await.map_err(fail)?;
    let columns: Arc<[String]> = prepared.columns().iter().map(|c| c.name().to_owned()).collect();
    found
        .iter()
        .map(|row| {
            let values = (0..columns.len()).map(|i| row.try_get::<_, Value>(i)).collect::<Result<_, _>>();
            values.map(|values| Row::new(Arc::clone(&columns), values)).map_err(fail)
        })
        .collect()
}

/// A parameter: one value, or one column of a bulk statement.
#[derive(Debug)]
enum Param {
    One(Value),
    Column(Vec<Value>),
}

/// Scalars first, then one array per column; surplus scalars are cut, as SQLite's `bind` does.
fn parameters(scalars: Vec<Value>, rows: Option<Rows>, count: usize) -> Vec<Param> {
    let mut params: Vec<Param> = scalars.into_iter().map(Param::One).collect();
    if let Some(Rows(rows)) = rows {
        let width = count.saturating_sub(params.len());
        let mut columns: Vec<Vec<Value>> = (0..width).map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        params.extend(columns.into_iter().map(Param::Column));
    }
    params
}

type Sync2 = Box<dyn StdError + Sync + Send>;

impl ToSql for Param {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Sync2> {
        match self {
            Self::One(value) => value.to_sql(ty, out),
            Self::Column(values) => values.to_sql(ty, out),
        }
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Sync2> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Bool(v) => v.to_sql(ty, out),
            Self::Int(v) => match *ty {
                Type::INT2 => i16::try_from(*v)?.to_sql(ty, out),
                Type::INT4 => i32::try_from(*v)?.to_sql(ty, out),
                Type::FLOAT8 => (*v as f64).to_sql(ty, out),
                _ => v.to_sql(ty, out),
            },
            Self::Float(v) => v.to_sql(ty, out),
            Self::Text(v) => v.to_sql(ty, out),
            Self::Uuid(v) => v.to_sql(ty, out),
            Self::Time(v) => (v.micros() - POSTGRES_EPOCH_MICROS).to_sql(ty, out),
            Self::Json(v) => v.to_sql(ty, out),
            Self::Bytes(v) => v.to_sql(ty, out),
            Self::Uuids(v) => v.to_sql(ty, out),
        }
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Sync2> {
        Ok(match *ty {
            Type::BOOL => Self::Bool(FromSql::from_sql(ty, raw)?),
            Type::INT2 => Self::Int(i64::from(i16::from_sql(ty, raw)?)),
            Type::INT4 => Self::Int(i64::from(i32::from_sql(ty, raw)?)),
            Type::INT8 => Self::Int(FromSql::from_sql(ty, raw)?),
            Type::FLOAT8 => Self::Float(FromSql::from_sql(ty, raw)?),
            Type::UUID => Self::Uuid(FromSql::from_sql(ty, raw)?),
            Type::TIMESTAMPTZ => {
                let micros = i64::from_sql(&Type::INT8, raw)?;
                Self::Time(Timestamp::from_micros(micros.saturating_add(POSTGRES_EPOCH_MICROS)))
            }
            Type::JSON | Type::JSONB => Self::Json(FromSql::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(FromSql::from_sql(ty, raw)?),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::CHAR => Self::Text(FromSql::from_sql(ty, raw)?),
            _ => return Err(format!("a column has the unexpected type {ty}").into()),
        })
    }
    fn from_sql_null(_: &Type) -> Result<Self, Sync2> {
        Ok(Self::Null)
    }
    fn accepts(ty: &Type) -> bool {
        !matches!(ty.kind(), Kind::Array(_))
    }
}

/// Code and words without values: class 22 (data exceptions) quotes the datum, so its words stay out.
fn text(e: &tokio_postgres::Error) -> String {
    match e.as_db_error() {
        Some(db) if db.code().code().starts_with("22") => format!("data exception {}", db.code().code()),
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => e.to_string(),
    }
}

fn error(statement: &'static str, e: &tokio_postgres::Error) -> Error {
    let Some(db) = e.as_db_error() else {
        // Only a broken connection has no answer of the server, save for a value that does not fit its column.
        return if e.is_closed() || e.source().is_some_and(|s| s.is::<std::io::Error>()) {
            Error::Unavailable(e.to_string())
        } else {
            Error::Statement { statement, message: e.to_string() }
        };
    };
    if ends_connection(db) {
        return Error::Unavailable(text(e));
    }
    match db.code().code() {
        "40001" | "40P01" | "55P03" => Error::Conflict { statement, code: db.code().code().to_owned() },
        "23505" => Error::Unique { statement, constraint: db.constraint().unwrap_or("unknown").to_owned() },
        // Shutdown, crash recovery, standby, statement timeout: the server is not usable now.
        "57P01" | "57P02" | "57P03" | "57014" | "25006" => Error::Unavailable(text(e)),
        // Of connections, of memory, disk and connections that are used up, and of the system below the server.
        code if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => Error::Unavailable(text(e)),
        _ => Error::Statement { statement, message: text(e) },
    }
}
