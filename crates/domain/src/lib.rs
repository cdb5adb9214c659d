//! Types and decisions of PenguinMails Pipeline.
//!
//! Pure: no IO, no async, no clock, no randomness; time and chance are arguments. Everything that decides something
//! (when a mail is due, what an SMTP answer means for a send) lives here, so that scheduler, explain and forecast agree.
//! To add a decision: a module here with a pure function and its tests; the caller in `app` gathers its input.

pub mod address;
pub mod campaign;
pub mod concurrency;
pub mod email_account;
pub mod event;
pub mod first_step;
pub mod forecast;
pub mod holidays;
pub mod ids;
pub mod job;
pub mod lead;
pub mod ledger;
pub mod lost_time;
pub mod pace;
pub mod page;
pub mod payload;
pub mod plan;
pub mod provider;
pub mod reason;
pub mod recurrence;
pub mod refusals;
pub mod rotation;
pub mod rounds;
pub mod schedule;
pub mod send;
pub mod sequence;
pub mod settle;
pub mod step;
pub mod time;
pub mod trial;
pub mod verdict;
mod words;

pub use words::UnknownWord;
