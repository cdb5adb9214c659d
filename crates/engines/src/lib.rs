//! The ledger and the queue: the only crate that has a database driver.
//!
//! Writes decisions down and makes none: what a decision is comes from `domain`, called inside the transaction where
//! reading, deciding and writing must be one. No SMTP, no backoff, no plan in here.
//! To add a table: a migration, a file under `store`, cases in `tests/contract`.

pub mod db;
pub mod dialect;
pub mod error;
pub mod migrate;
pub mod queue;
pub mod store;
pub mod value;

pub use db::{Access, Db, Tx};
pub use error::Error;
pub use store::Store;
