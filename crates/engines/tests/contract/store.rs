//! The ledger, case by case: setup, planning, the dot gate, results, recovery, events, reports, tenants.
//!
//! `Fixture` holds one tenant with a campaign of two mails. To add a case: in the file of its verb.

mod events;
mod fixture;
mod ledger;
mod planning;
