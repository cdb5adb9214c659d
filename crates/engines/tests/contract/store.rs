//! The ledger, case by case: setup, planning, the dot gate, results, recovery, events, reports, tenants.
//!
//! `Scene` holds one tenant with a campaign of two mails. To add a case: in the file of its verb.

mod adopt;
mod api_keys;
mod apply;
mod breaker;
mod campaign_days;
mod campaign_names;
mod conditions;
mod dead_letters;
mod dot;
mod edits;
mod edits_planned;
mod first_steps;
mod foreign_ids;
mod leads;
mod lines;
mod lives;
mod outlook;
mod plan;
mod providers;
mod races;
mod recover;
mod refusal;
mod refusals;
mod resolve;
mod restored;
mod rotation;
mod rounds;
pub mod scene;
mod schedulers;
mod sends;
mod setup;
mod setup_locks;
mod signatures;
mod slots;
mod soft_bounces;
mod status;
mod stop_rules;
mod tenancy;
mod tenant_rate;
mod traces;
mod tracking;
mod trials;
mod wakes;
