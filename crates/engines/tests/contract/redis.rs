//! What only the Redis engine promises: elements of other programs, faults of the server, ways to connect.
//!
//! To add a case: in the file of its subject.

mod connections;
mod faults;
mod server;
mod strangers;
