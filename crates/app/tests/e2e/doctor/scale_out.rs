//! What can be wrong where several processes share PostgreSQL and Redis: clocks, secrets, schema, addresses, rights.

use super::{Clinic, GOOD_KEY, GOOD_SECRET};
use crate::app::{App, Engine};

/// A database whose clock is `by` off: its own function stands before PostgreSQL's in the search path.
fn shift_clock(clinic: &Clinic, by: &str) {
    clinic.app.sql(&format!(
        "CREATE SCHEMA IF NOT EXISTS shifted;
         CREATE OR REPLACE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp() + interval ''{by}''';
         DO 'BEGIN EXECUTE format(''ALTER DATABASE %I SET search_path = shifted, pg_catalog, public'', current_database());
             END'"
    ));
}

#[test]
fn a_clock_that_is_behind_or_ahead_of_the_databases() {
    let Some(clinic) = Clinic::new(Engine::Postgres) else { return };
    shift_clock(&clinic, "90 s");
    clinic.must_find(2, ["clock", "problem", "s behind the database's", "timedatectl set-ntp true"], &[]);
    shift_clock(&clinic, "-10 s");
    clinic.must_find(0, ["clock", "warning", "s ahead of the database's", "timedatectl set-ntp true"], &[]);
}

#[test]
fn a_cron_route_without_its_secret() {
    let Some(mut clinic) = Clinic::new(Engine::Postgres) else { return };
    clinic.app.set("CRON_SECRET", "");
    clinic.must_find(0, ["secrets", "warning", "`CRON_SECRET` is not set", "openssl rand"], &[]);
}

#[test]
fn a_key_that_is_missing_too_short_or_text() {
    let Some(mut clinic) = Clinic::new(Engine::Postgres) else { return };
    for (key, check, message, mend) in [
        ("", "configuration", "`ENCRYPTION_KEY`: not set", "openssl rand"),
        ("c2hvcnQ=", "configuration", "`ENCRYPTION_KEY`", "openssl rand"),
        ("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "secrets", "`ENCRYPTION_KEY` is text", "openssl rand"),
    ] {
        clinic.app.set("ENCRYPTION_KEY", key);
        clinic.must_find(2, [check, "problem", message, mend], &[]);
    }
}

#[test]
fn a_database_that_nobody_has_migrated() {
    let Some(mut app) = App::new(Engine::Postgres) else { return };
    for (name, value) in [("JWT_SECRET", GOOD_SECRET), ("ENCRYPTION_KEY", GOOD_KEY), ("CRON_SECRET", GOOD_SECRET)] {
        app.set(name, value);
    }
    let (exit, report) = app.json(&["doctor"]);
    let finding = report["findings"].as_array().unwrap().iter().find(|f| f["check"] == "database").unwrap();
    assert_eq!((exit, finding["level"].as_str()), (0, Some("warning")), "{report}");
    assert!(finding["message"].as_str().unwrap().contains("no schema in it yet"), "{finding}");
    assert!(finding["mend"].as_str().unwrap().contains("penguinmails migrate"), "{finding}");
}

#[test]
fn a_database_that_is_not_on_its_server() {
    let Some(mut clinic) = Clinic::new(Engine::Postgres) else { return };
    let url = clinic.app.database_url().unwrap();
    clinic.app.set("DATABASE_URL", &format!("{url}_of_another"));
    clinic.must_find(5, ["database", "unreachable", "does not exist (3D000)", "check DATABASE_URL"], &[]);
}

#[test]
fn a_redis_that_wants_another_password() {
    let Some(clinic) = Clinic::new(Engine::Redis) else { return };
    clinic.app.redis().ask(&["CONFIG", "SET", "requirepass", "something else"]);
    clinic.must_find(2, ["redis", "problem", "NOAUTH", "REDIS_URL"], &[]);
}

#[test]
fn a_server_of_a_tenant_inside_our_own_network() {
    let Some(mut clinic) = Clinic::new(Engine::Postgres) else { return };
    clinic.app.set("ALLOW_PRIVATE_HOSTS", "10.0.0.0/8");
    clinic.must_find(2, ["smtp", "problem", "127.0.0.1", "ALLOW_PRIVATE_HOSTS"], &[]);
}

#[test]
fn a_data_directory_that_is_a_file() {
    let Some(clinic) = Clinic::new(Engine::Postgres) else { return };
    let data = clinic.app.path("data");
    let _was_not_there = std::fs::remove_dir_all(&data);
    std::fs::write(&data, "").unwrap();
    let (exit, report) = clinic.look(&[]);
    let findings = report["findings"].as_array().unwrap();
    let ill: Vec<_> = findings.iter().filter(|finding| finding["level"] == "problem").collect();
    // Secrets are looked for in it as well.
    assert_eq!((exit, ill.len()), (2, 2), "{report}");
    assert!(ill.iter().all(|finding| finding["mend"].as_str().is_some_and(|mend| mend.contains("--data"))), "{report}");
    assert!(report.to_string().contains("is no directory"), "{report}");
}
