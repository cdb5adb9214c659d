//! The whole product from outside: the real binary against real servers, one behaviour a file.
//!
//! Paths name the engine. Needs what `cargo xtask test` starts; without it the cases are skipped and say so.
//! To add a behaviour: a file here, its cases through `on_every_engine!` where the engine matters.
#![expect(unreachable_pub, reason = "one binary: every file is private to it")]
#![expect(clippy::print_stdout, reason = "seeds and counts of a kill test stand beside its result")]
#![expect(clippy::unwrap_used, reason = "a case that cannot be set up has failed")]

mod ab_tests;
mod accounts;
mod app;
mod campaign_api;
mod clock_jumps;
mod cron;
mod database_faults;
mod dead_parts;
mod dialogue_kills;
mod doctor;
mod edits;
mod fault_points;
mod foreign_ids;
mod gateway;
mod health;
mod http;
mod json_log;
mod kills;
mod lead_import;
mod maildir;
mod metrics;
mod name_server;
mod outcomes;
mod people;
mod port;
mod postfix;
mod postgres_faults;
mod postgres_server;
mod priorities;
mod provider_caps;
mod receivers;
mod recovery;
mod redis;
mod redis_faults;
mod refused_events;
mod refused_results;
mod restored;
mod rolling;
mod rounds;
mod sample_events;
mod scale_out;
mod scarce;
mod scene;
mod smtp_sink;
mod storm;
mod strangers;
mod tokens;
mod tracker;
mod truth;

/// Makes a module per engine with one test per case, so that test paths name the engine.
macro_rules! on_every_database {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case($crate::app::Engine::Sqlite); })*
        }
        mod postgres {
            $(#[test] fn $case() { super::$case($crate::app::Engine::Postgres); })*
        }
    };
}
/// The same, and PostgreSQL with Redis.
macro_rules! on_every_engine {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case($crate::app::Engine::Sqlite); })*
        }
        $crate::on_every_server! { $($case)* }
    };
}
/// The same without SQLite, which has no server.
macro_rules! on_every_server {
    ($($case:ident)*) => {
        mod postgres {
            $(#[test] fn $case() { super::$case($crate::app::Engine::Postgres); })*
        }
        mod redis {
            $(#[test] fn $case() { super::$case($crate::app::Engine::Redis); })*
        }
    };
}
pub(crate) use {on_every_database, on_every_engine, on_every_server};
