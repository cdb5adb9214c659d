//! What can go wrong in a database or in Redis, sorted by who must act.
//!
//! Texts hold names of statements, tables, keys and constraints, never values: those may be addresses or bodies.
//! To add a kind: a variant, and its answer in `is_transient`.

/// A failed call to the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, or the connection broke; nothing was committed.
    #[error(
        "database cannot be reached: {0} (hint: it is tried again; check that the server runs and the disk is there)"
    )]
    Unavailable(String),
    /// Another transaction was in the way: try again.
    #[error("`{statement}` met a concurrent transaction ({code})")]
    Conflict {
        /// The statement's name.
        statement: &'static str,
        /// SQLSTATE or SQLite code.
        code: String,
    },
    /// The connection broke during COMMIT: it may or may not have happened.
    #[error("connection broke during commit: whether it happened is not known")]
    CommitInDoubt,
    /// What this process has committed to the ledger is not there any more.
    #[error(
        "the ledger has lost what was committed to it (hint: an older backup was restored, or a standby took over that had \
         not got everything)"
    )]
    WentBack,
    /// A row with the same key exists.
    #[error("`{statement}` violates the unique key `{constraint}`")]
    Unique {
        /// The statement's name.
        statement: &'static str,
        /// The key's name.
        constraint: String,
    },
    /// The database refused the statement.
    #[error("`{statement}` was refused: {message}")]
    Statement {
        /// The statement's name.
        statement: &'static str,
        /// Code and text without values.
        message: String,
    },
    /// An earlier statement of the transaction failed.
    #[error("the transaction was given up after a failed statement")]
    Aborted,
    /// A value has not the form that the code expects.
    #[error("column `{column}` {problem}")]
    Column {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A row that other rows promise is not there.
    #[error("{what} `{id}` does not exist")]
    NotFound {
        /// The kind of row.
        what: &'static str,
        /// Its id or name.
        id: String,
    },
    /// An UPDATE did not find its row in the state it expects.
    #[error("{what} changed meanwhile: expected {expected} rows, found {found}")]
    Stale {
        /// The kind of row.
        what: &'static str,
        /// Rows that should have changed.
        expected: u64,
        /// Rows that did.
        found: u64,
    },
    /// Redis cannot be reached, is loading, failing over or busy: the same call may succeed later.
    #[error("redis does not answer: {0} (hint: it is tried again; check that the server runs and is the master)")]
    RedisUnavailable(String),
    /// Redis has no memory left for more jobs; those that are in it can still be taken and settled.
    #[error("redis takes no more jobs: {0} (hint: it drains while workers run; raise `maxmemory`)")]
    RedisFull(String),
    /// A key of the queue is not what it has to be.
    #[error("redis key `{key}` {problem} (hint: another program wrote it; rename or delete it)")]
    RedisKey {
        /// The key's name.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Redis refused the call: a log-in, a permission, a certificate, a setting.
    #[error("redis refused `{call}`: {message}")]
    RedisRefused {
        /// What was asked.
        call: &'static str,
        /// Code and text without values.
        message: String,
    },
    /// Another deployment, with another database, has this Redis.
    #[error(
        "another deployment (`{holder}`) uses this Redis with another database (hint: give each deployment a Redis or \
         a database number of its own; or, where the other one is gone for good, delete the key \
         `{{queue:email-sending}}:instance`)"
    )]
    RedisTaken {
        /// Whose it is.
        holder: uuid::Uuid,
    },
    /// The address of Redis is malformed.
    #[error(
        "address of redis {0} (hint: redis://user:password@host:6379/0, redis+sentinel://host,host/master or \
         redis+cluster://host,host; rediss for TLS)"
    )]
    RedisAddress(&'static str),
    /// The schema does not fit the program.
    #[error("{0}")]
    Schema(String),
}

impl Error {
    /// The kind in a word, for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Conflict { .. } => "conflict",
            Self::CommitInDoubt => "commit_in_doubt",
            Self::WentBack => "went_back",
            Self::Unique { .. } => "unique",
            Self::Statement { .. } => "statement",
            Self::Aborted => "aborted",
            Self::Column { .. } => "column",
            Self::NotFound { .. } => "not_found",
            Self::Stale { .. } => "stale",
            Self::RedisUnavailable(_) => "redis_unavailable",
            Self::RedisFull(_) => "redis_full",
            Self::RedisKey { .. } => "redis_key",
            Self::RedisRefused { .. } => "redis_refused",
            Self::RedisTaken { .. } => "redis_taken",
            Self::RedisAddress(_) => "redis_address",
            Self::Schema(_) => "schema",
        }
    }

    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Conflict { .. }
                | Self::CommitInDoubt
                | Self::RedisUnavailable(_)
                | Self::RedisFull(_)
        )
    }

    /// Whether the ledger has lost what was committed to it.
    pub fn is_went_back(&self) -> bool {
        matches!(self, Self::WentBack)
    }

    /// Whether a COMMIT may have happened although it failed.
    pub fn is_commit_in_doubt(&self) -> bool {
        matches!(self, Self::CommitInDoubt)
    }
}

/// The result of a call to the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Checks that as many rows changed as were meant to.
///
/// # Errors
/// `Stale`, so that an unexpected state is never passed over.
pub fn ensure_changed(what: &'static str, found: u64, expected: u64) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Stale { what, expected, found }) }
}
