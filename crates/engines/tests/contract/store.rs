//! The ledger, case by case: setup, planning, the dot gate, results, recovery, events, reports, tenants.
//!
//! `Scene` holds one tenant with a campaign of two mails. To add a case: in the file of its verb.

mod adopt;
mod apply;
mod breaker;
mod campaign_days;
mod conditions;
mod dead_letters;
mod dot;
mod edits;
mod edits_planned;
mod foreign_ids;
mod leads;
mod plan;
mod races;
mod recover;
mod refusal;
mod refusals;
mod resolve;
mod restored;
pub mod scene;
mod sends;
mod setup;
mod signatures;
mod soft_bounces;
mod status;
mod stop_rules;
mod tenancy;
mod traces;
mod tracking;
