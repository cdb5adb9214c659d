//! The protocol as an exhaustive model, and the ways to get it wrong that it must catch.
//!
//! One message, two workers, every order of their steps. To add a promise: `search::broken_rule`; a world: a test in
//! `promise`; a way to get it wrong: a test in `mutants`.

#![expect(unreachable_pub, reason = "one binary: every file is private to it")]
#![expect(clippy::unwrap_used, reason = "a number of the model that does not fit is a mistake in it")]

mod action;
mod mutants;
mod promise;
mod protocol;
mod search;
mod state;
