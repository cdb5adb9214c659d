//! The platform's shape: schedulers, workers and trackers apart, on PostgreSQL and Redis, into a real Postfix; the cron
//! route called from outside, a worker killed and Redis restarted in the middle.

use crate::app::{App, Engine, number};
use crate::http::ask;
use crate::postfix::{Inbox, postfix};
use crate::tracker::Tracker;
use crate::truth::{Promise, Truth};

const LEADS: usize = 10_000;
const SENDS: usize = 2 * LEADS;

#[test]
fn twenty_thousand_sends_survive_a_killed_worker_and_a_restarted_redis() {
    let (Some(mut app), Some(postfix)) = (App::new(Engine::Redis), postfix()) else { return };
    app.set("LOG_LEVEL", "info");
    app.set("CRON_SECRET", "let-me-in");
    app.set("API_LISTEN", "127.0.0.1:0");
    let domain = "scale.example";
    let file = app.campaign(domain, (0..LEADS).map(|n| format!("lead{n}")), 2, "");
    let (exit, _) = app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &postfix.url]);
    assert_eq!(exit, 0);

    let mut api = app.spawn(&["serve", "--only", "api"]);
    let address = api.value_after("cron API listens address=");
    let api = api.read_on();
    let mut doomed = app.spawn(&["worker"]);
    assert!(doomed.wait_for("Waiting for jobs...", 1));
    let others = [app.spawn(&["worker"]), app.spawn(&["worker"])].map(crate::app::Process::read_on);
    let schedulers = [app.spawn(&["scheduler"]), app.spawn(&["scheduler"])].map(crate::app::Process::read_on);
    let mut trackers = [Tracker::start(&app), Tracker::start(&app)];
    std::thread::scope(|scope| {
        let call = || ask(&address, "POST", "/api/cron/scheduler", "Authorization: Bearer let-me-in\r\n");
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(call)).collect();
        for answer in calls.into_iter().map(|call| call.join().unwrap()) {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    });
    assert!(doomed.wait_for("status=sent", 1_000), "the kill must fire in the middle");
    doomed.kill();
    app.redis_mut().kill();
    app.redis_mut().start_again();
    let middle = number(&app.json(&["campaign", "status", "Welcome"]).1, "sent") as usize;
    assert!((1_000..SENDS).contains(&middle), "the restart fired in the middle: {middle}");

    let report = crate::http::wait_long(|| {
        let (_, report) = app.json(&["campaign", "status", "Welcome"]);
        (report["status"] == "completed").then_some(report)
    });
    for process in others.into_iter().chain(schedulers).chain([api]) {
        assert_eq!(process.stop().0.code(), Some(0));
    }
    assert_eq!(number(&report, "sent") as usize, SENDS, "{report}");
    assert_eq!(app.count_rows("sends WHERE status = 'sent'"), SENDS as u64);
    assert_eq!(app.count_rows("inbox_message_refs WHERE direction = 'outbound' AND status = 'sent'"), SENDS as u64);
    let mails = Inbox::new(&postfix.maildir, domain).wait_for(SENDS);
    let truth = Truth::of(&app, SENDS, mails.iter().map(|mail| mail.message_id.clone()));
    println!("killed at {middle} of {SENDS} sent: extra {}, unknown {}", truth.extra(), truth.unknown());
    truth.keeps(Promise::Resend);
    assert_eq!(number(&report, "unknown") as usize, truth.unknown(), "{report}");
    let (first, second) = mails.split_at(500);
    trackers[0].check_links(first);
    trackers[1].check_links(&second[..500]);
}
