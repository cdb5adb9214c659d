//! The contract of the engines: each case runs on every engine, and the test's path names it.
//!
//! To add a case: in the file of its subject, with a line in its `on_every_engine!`.

#![expect(unreachable_pub, reason = "one binary: every file is private to it")]
#![expect(clippy::print_stdout, reason = "figures stand beside a result")]
#![expect(clippy::unwrap_used, reason = "a case that cannot be set up has failed")]

mod chance;
mod engine;
mod limits;
mod observe;
mod plans;
mod queue;
mod queue_engine;
mod redis;
mod row_security;
mod schema;
mod sqlite_log;
mod store;
