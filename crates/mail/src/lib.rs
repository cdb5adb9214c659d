//! Email as a standard: what a message is, how it is written, handed over and read again.
//!
//! Knows no database and no queue. Templates, links, tokens and composition make a message; `smtp` hands it over;
//! `replies` says what a server's answer means. To add a format: a module here with its RFC section on top.

pub mod assemble;
pub mod compose;
pub mod links;
pub mod replies;
pub mod smtp;
pub mod template;
pub mod token;
