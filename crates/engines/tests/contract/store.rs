//! The ledger, case by case: setup, planning, the dot gate, results, recovery, events, reports, tenants.
//!
//! `Fixture` and `Scene` hold one tenant with a campaign of two mails. To add a case: in the file of its verb.

mod apply;
mod dead_letters;
mod dot;
mod events;
mod fixture;
mod ledger;
mod plan;
mod planning;
mod recover;
mod scene;
mod setup;
mod status;
mod tenancy;
mod tracking;
