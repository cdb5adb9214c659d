//! FP17: the host's clock jumps by an hour, both ways, under running processes and between their starts.
//!
//! `libfaketime` gives the product's processes another time of day, from a file that is read at each look; what passes
//! by itself (monotonic time) stays real. Not responsible for local times (`domain/schedule/tests.rs`).

use std::collections::HashSet;

use crate::app::{App, Engine, Sink, number, service};
use crate::http::until;

const LEADS: usize = 20;

/// A campaign whose second mail follows half an hour after the first; every process sees the time of the file `offset`.
fn set_up(engine: Engine) -> Option<(App, Sink)> {
    let library = service("TEST_FAKETIME")?;
    let mut app = App::new(engine)?;
    let sink = Sink::start(&app, &[]);
    app.set("LOG_LEVEL", "info");
    jump(&app, "+0");
    app.set("FAKETIME_TIMESTAMP_FILE", app.path("offset").to_str().unwrap());
    app.set("FAKETIME_NO_CACHE", "1");
    app.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    app.set("LD_PRELOAD", &library);
    import(&app, &sink, "Welcome");
    Some((app, sink))
}

fn jump(app: &App, offset: &str) {
    let (part, whole) = (app.path("offset.part"), app.path("offset"));
    std::fs::write(&part, format!("{offset}\n")).unwrap();
    std::fs::rename(part, whole).unwrap();
}

fn import(app: &App, sink: &Sink, name: &str) {
    let file = app.campaign("clock.example", (0..LEADS).map(|n| format!("l{n}")), 2, "");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"Welcome\"", &format!("\"{name}\""));
    std::fs::write(&file, format!("{text}wait_hours = 0.5\n")).unwrap();
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
}

/// So many messages, each once.
fn check_once(sink: &Sink, sends: usize) {
    let accepted = sink.accepted();
    assert_eq!((accepted.len(), accepted.iter().collect::<HashSet<_>>().len()), (sends, sends), "every message once");
}

fn planned(app: &App) -> u64 {
    number(&app.json(&["scheduler", "--once"]).1, "planned")
}

/// The database tells the time: nobody's host is asked.
fn fp17_a_hosts_clock_that_jumps_moves_nothing_where_the_database_tells_the_time(engine: Engine) {
    let Some((app, sink)) = set_up(engine) else { return };
    let (worker, scheduler) = (app.spawn(&["worker"]).read_on(), app.spawn(&["scheduler"]).read_on());
    until(|| (sink.accepted().len() == LEADS).then_some(()));
    for (offset, direction) in [("+3600", "ahead of"), ("-3600", "behind")] {
        jump(&app, offset);
        let doctor = String::from_utf8(app.output(&["doctor"]).stdout).unwrap();
        assert!(doctor.contains(&format!("s {direction} the database's")), "the fault fired: {doctor}");
        assert_eq!(planned(&app), 0, "the second mails are due in half an hour, whoever is started now");
        import(&app, &sink, offset);
        let sends = if offset == "+3600" { 2 * LEADS } else { 3 * LEADS };
        until(|| (sink.accepted().len() == sends).then_some(()));
    }
    assert_eq!(app.count_rows("sends"), 3 * LEADS as u64);
    // The receiver has the last one before its result is written, which makes its lead due in half an hour.
    until(|| (app.count_rows("sends WHERE status = 'sent'") == 3 * LEADS as u64).then_some(()));
    app.sql("UPDATE campaign_leads SET due_at = now()");
    app.sql("UPDATE campaigns SET next_plan_at = NULL");
    until(|| (sink.accepted().len() == 6 * LEADS).then_some(()));
    assert!(worker.stop().0.success() && scheduler.stop().0.success());
    check_once(&sink, 6 * LEADS);
}

/// A host that was suspended, or keeps no time, as its worker sees it: the database is an hour ahead of what it began with,
/// and what is due by the database's time goes.
fn fp17_a_worker_that_fell_behind_the_database_catches_up(engine: Engine) {
    let Some(app) = App::new(engine) else { return };
    let sink = Sink::start(&app, &[]);
    let mut worker = app.spawn_with(&["worker"], &[("LOG_LEVEL", "info")]);
    assert!(worker.wait_for("Waiting for jobs...", 1), "{}", worker.seen.join(""));
    let worker = worker.read_on();
    let url = app.database_url().unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    app.sql(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
            $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$",
    );
    app.sql(&format!("ALTER DATABASE {name} SET search_path = public, pg_catalog"));
    app.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    import(&app, &sink, "Welcome");
    assert_eq!(planned(&app), LEADS as u64, "by the database's time");
    until(|| (sink.accepted().len() == LEADS).then_some(()));
    assert!(worker.stop().0.success());
    check_once(&sink, LEADS);
}

/// Embedded there is the host's clock: who is started after it jumped believes it, so an hour ahead the second mails of the first
/// campaign are due; but nobody goes back behind what a worker has marked, so set back, the third one's go at once.
fn fp17_an_embedded_clock_that_jumps_sends_nothing_twice_and_never_goes_back(engine: Engine) {
    let Some((app, sink)) = set_up(engine) else { return };
    for (offset, name, sends) in
        [("+0", None, LEADS), ("+3600", Some("Second"), 3 * LEADS), ("-3600", Some("Third"), 4 * LEADS)]
    {
        jump(&app, offset);
        if let Some(name) = name {
            import(&app, &sink, name);
        }
        let (worker, scheduler) = (app.spawn(&["worker"]).read_on(), app.spawn(&["scheduler"]).read_on());
        until(|| (sink.accepted().len() >= sends).then_some(()));
        assert!(worker.stop().0.success() && scheduler.stop().0.success());
    }
    check_once(&sink, 4 * LEADS);
}

mod sqlite {
    #[test]
    fn fp17_an_embedded_clock_that_jumps_sends_nothing_twice_and_never_goes_back() {
        super::fp17_an_embedded_clock_that_jumps_sends_nothing_twice_and_never_goes_back(crate::app::Engine::Sqlite);
    }
}

crate::on_every_server! {
    fp17_a_hosts_clock_that_jumps_moves_nothing_where_the_database_tells_the_time
    fp17_a_worker_that_fell_behind_the_database_catches_up
}
