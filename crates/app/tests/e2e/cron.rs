//! The cron route: who may, what it answers, and that calls at once, beside the loop, enqueue each job once.

use std::collections::HashSet;

use crate::app::{App, Engine, Process, Sink, number};
use crate::http::{Answer, ask, get, sample};

const TOKEN: &str = "Authorization: Bearer let-me-in\r\n";
const ROUTE: &str = "/api/cron/scheduler";

fn imported(app: &App, sink: &Sink, leads: usize) {
    let file = app.campaign("cron.example", (0..leads).map(|n| format!("l{n}")), 1, "");
    let (exit, _) = app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]);
    assert_eq!(exit, 0);
}

fn serve(app: &App, parts: &str) -> (Process, String) {
    // No line for each job: while we ask, nobody reads the log.
    std::fs::write(app.path("c.toml"), "[log]\njobs = false\n").unwrap();
    let config = app.path("c.toml");
    let mut process = app.spawn(&["serve", "--only", parts, "--config", config.to_str().unwrap()]);
    let address = process.value_after("cron API listens address=");
    (process, address)
}

fn it_runs_the_scheduler_once_for_whoever_knows_the_secret(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("CRON_SECRET", "let-me-in");
    let sink = Sink::start(&app, &[]);
    imported(&app, &sink, 1200);
    let (mut process, address) = serve(&app, "api");
    let refused = |method: &str, headers: &str| ask(&address, method, ROUTE, headers);
    for headers in ["", "Authorization: Bearer let-me-out\r\n", "Authorization: Basic let-me-in\r\n"] {
        let answer = refused("POST", headers);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{answer:?}");
        assert!(!answer.body.contains("let-me-in"));
    }
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS"] {
        let answer = refused(method, TOKEN);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")), "{answer:?}");
    }
    let large = refused("POST", &format!("{TOKEN}Content-Length: 1000000\r\n"));
    assert_eq!(large.status, 413, "a body is not read, and a large one not even announced");
    let metrics = get(&address, "/metrics").body;
    assert_eq!(
        sample(&metrics, "penguinmails_scheduler_turns_total{result=\"done\"}"),
        0.0,
        "nobody has planned anything"
    );

    let first = refused("POST", &format!("{TOKEN}Content-Length: 0\r\n"));
    assert_eq!((first.status, first.header("content-type")), (200, Some("application/json")), "{first:?}");
    let turn = first.json();
    let counts = ["enqueued", "planned", "deferred", "skipped", "completed"].map(|field| number(&turn, field));
    assert_eq!(counts, [1200, 1200, 0, 0, 0], "all pages: {turn}");
    assert!(turn["seconds"].as_f64().unwrap() > 0.0);
    assert!(process.wait_for("Enqueued 1200 email jobs", 1));
    assert_eq!(number(&refused("GET", TOKEN).json(), "enqueued"), 0, "idempotent");
    assert_eq!(get(&address, "/api/cron").status, 404);
    let metrics = get(&address, "/metrics").body;
    let code = |code: &str| sample(&metrics, &format!("penguinmails_cron_requests_total{{code=\"{code}\"}}"));
    assert_eq!((code("200"), code("401"), code("405"), code("503")), (2.0, 3.0, 4.0, 0.0));
    assert!(process.stop().0.success());
}

#[test]
fn without_a_secret_it_refuses_and_says_why() {
    // Embedded, a secret is generated; with a database of its own nobody has one.
    let Some(app) = App::new(Engine::Postgres) else { return };
    let (process, address) = serve(&app, "api");
    for headers in ["", TOKEN, "Authorization: Bearer \r\n"] {
        let answer = ask(&address, "POST", ROUTE, headers);
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("CRON_SECRET is not set") && answer.body.contains("hint"), "{answer:?}");
    }
    assert_eq!(get(&address, "/ready").status, 200, "the route refuses, the process is ready");
    assert!(process.stop().0.success());
}

const LEADS: usize = 3000;

fn fp03_fifty_calls_at_once_beside_the_loop_enqueue_each_job_once(engine: Engine) {
    let Some(mut app) = App::new(engine) else { return };
    app.set("CRON_SECRET", "let-me-in");
    let sink = Sink::start(&app, &[]);
    let (mut process, address) = serve(&app, "scheduler,worker,api");
    imported(&app, &sink, LEADS);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(|| ask(&address, "POST", ROUTE, TOKEN))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let by_cron: u64 = answers.iter().map(|answer| number(&answer.json(), "enqueued")).sum();
    assert!(process.wait_for("campaign completed", 1), "{}", process.seen.join(""));
    let (exit, log) = process.stop();
    assert!(exit.success());
    // Every turn, the loop's as well, says what it enqueued.
    let told: Vec<u64> = log
        .iter()
        .filter_map(|line| line.split_once("Enqueued ")?.1.split_once(" email jobs")?.0.parse().ok())
        .collect();
    assert_eq!(told.iter().sum::<u64>(), LEADS as u64, "{told:?}");
    assert!(told.len() >= 50 && by_cron <= LEADS as u64);
    println!("{engine:?}: {by_cron} of {LEADS} jobs by 50 calls, the others by the loop");
    let accepted = sink.accepted();
    assert_eq!((accepted.len(), accepted.iter().collect::<HashSet<_>>().len()), (LEADS, LEADS), "each message once");
    assert_eq!(number(&app.json(&["campaign", "status", "Welcome"]).1, "planned"), LEADS as u64);
    assert_eq!(app.count_rows("sends"), LEADS as u64);
}

crate::on_every_engine! {
    it_runs_the_scheduler_once_for_whoever_knows_the_secret
    fp03_fifty_calls_at_once_beside_the_loop_enqueue_each_job_once
}
