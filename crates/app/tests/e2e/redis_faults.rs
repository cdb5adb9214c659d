//! Redis away, emptied, killed: the ledger brings everything again, once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::app::{App, Engine, Sink, figure, number};
use crate::gateway::{Gateway, Way};
use crate::http::{until, wait_long};

const SENDS: usize = 10_000;

fn imported(domain: &str, sends: usize) -> Option<(App, Sink)> {
    imported_with(domain, sends, 1, "")
}

/// So many leads with so many mails each.
fn imported_with(domain: &str, leads: usize, steps: usize, extra: &str) -> Option<(App, Sink)> {
    let mut app = App::new(Engine::Redis)?;
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, &[]);
    let file = app.campaign(domain, (0..leads).map(|n| format!("l{n}")), steps, extra);
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url];
    assert_eq!(app.json(&arguments).0, 0);
    Some((app, sink))
}

fn check_all_sent_once(app: &App, sink: &Sink, sends: usize) {
    let (_, report) = app.json(&["campaign", "status", "Welcome"]);
    let (sent, unknown) = (number(&report, "sent") as usize, number(&report, "unknown"));
    assert_eq!((sent, unknown), (sends, 0), "{report}");
    let accepted = sink.accepted();
    let once: HashSet<&String> = accepted.iter().collect();
    assert_eq!((once.len(), accepted.len()), (sends, sends), "every message once");
}

#[test]
fn an_emptied_redis_is_filled_again_from_the_ledger() {
    let Some((app, sink)) = imported("flush.example", SENDS) else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("Enqueued", 1));
    let waiting = || app.redis().ask(&["LLEN", "queue:email-sending"]).parse::<usize>().unwrap();
    wait_long(|| (waiting() >= SENDS).then_some(()));
    app.redis().ask(&["FLUSHALL"]);
    assert_eq!(waiting(), 0, "the fault fired");
    let worker = app.spawn(&["worker"]).read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, SENDS);
}

#[test]
fn a_redis_that_is_killed_and_comes_back_stops_nothing_for_good() {
    let Some((mut app, sink)) = imported("killed.example", 2_000) else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 300));
    app.redis_mut().kill();
    assert!(worker.wait_for("redis does not answer", 1), "the fault fired");
    app.redis_mut().start_again();
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, 2_000);
}

#[test]
fn a_redis_that_is_absent_at_start_is_waited_for() {
    let Some((mut app, sink)) = imported("absent.example", 50) else { return };
    app.redis_mut().kill();
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Redis does not answer, trying again", 1), "{}", worker.seen.join(""));
    app.redis_mut().start_again();
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(worker.wait_for("Waiting for jobs...", 1));
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, 50);
}

#[test]
fn two_deployments_on_one_redis_are_told_apart() {
    let Some((mut other, _)) = imported("other.example", 1) else { return };
    let Some((app, _sink)) = imported("first.example", 1) else { return };
    other.set("REDIS_URL", &app.redis().url());
    let output = other.output(&["queue", "status"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("another deployment") && text.contains("REDIS_URL"), "{text}");
}

/// After FLUSHALL a Redis is nobody's: it is claimed again, and where another deployment was faster it is left alone.
#[test]
fn fr10_an_emptied_redis_is_claimed_again_and_another_ones_is_left_alone() {
    let Some((app, sink)) = imported("claimed.example", 20) else { return };
    let claim = "{queue:email-sending}:instance";
    let holder = || app.redis().ask(&["GET", claim]);
    let ours = holder();
    app.sql("UPDATE campaigns SET status = 'paused'").unwrap();
    let _scheduler = app.spawn(&["scheduler"]).read_on();
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Waiting for jobs...", 1));
    app.redis().ask(&["FLUSHALL"]);
    until(|| (holder() == ours).then_some(()));

    let other = "018f3a5e-0000-7000-8000-000000000001";
    app.redis().ask(&["EVAL", "redis.call('FLUSHALL') redis.call('SET', KEYS[1], ARGV[1])", "1", claim, other]);
    assert!(worker.wait_for("Redis is not used any more", 1));
    let theirs = r#"{"tenantId":"018f3a5e-0000-7000-8000-000000000002"}"#;
    app.redis().ask(&["LPUSH", "queue:email-sending", theirs]);
    app.sql("UPDATE campaigns SET status = 'sending'").unwrap();
    assert!(worker.wait_for("status=sent", 20), "the ledger gives the jobs");
    assert_eq!(app.redis().ask(&["LLEN", "queue:email-sending"]), "1", "theirs was left alone");

    app.redis().ask(&["FLUSHALL"]);
    assert!(worker.wait_for("Redis serves this deployment again", 1));
    assert_eq!((holder(), sink.accepted().len()), (ours, 20));
}

#[test]
fn fr06_a_redis_that_may_drop_jobs_is_warned_of_or_refused() {
    let Some((app, _sink)) = imported("evict.example", 1) else { return };
    app.redis().ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let warned = app.output(&["queue", "status"]);
    let text = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warned.status.success() && text.contains("noeviction"), "{text}");
    std::fs::write(app.path("strict.toml"), "[redis]\nstrict = true\n").unwrap();
    let refused = app.output(&["queue", "status", "--config", app.path("strict.toml").to_str().unwrap()]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
}

/// Memory is short, and Redis drops keys as they come, ours among them: they come again from the ledger.
#[test]
fn fr06_keys_that_are_evicted_come_again_and_nothing_is_sent_twice() {
    const SENDS: usize = 2_000;
    let Some((app, sink)) = imported("evicted.example", SENDS) else { return };
    let redis = app.redis();
    let info = |section: &str, field: &str| {
        let text = redis.ask(&["INFO", section]);
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap().trim().parse::<u64>().unwrap()
    };
    let waiting = || redis.ask(&["LLEN", "queue:email-sending"]).parse::<usize>().unwrap();
    let mut scheduler = app.spawn(&["scheduler"]);
    until(|| (waiting() == SENDS).then_some(()));
    for (key, value) in [("maxmemory-policy", "allkeys-lru"), ("maxmemory-samples", "1")] {
        redis.ask(&["CONFIG", "SET", key, value]);
    }
    redis.ask(&["CONFIG", "SET", "maxmemory", &(info("memory", "used_memory") + (1 << 20)).to_string()]);
    let junk = "for n = 1, 10 do redis.call('SET', 'junk:' .. ARGV[1] .. n, string.rep('x', 100000)) end";
    let mut pressed = 0;
    let mut press = || {
        pressed += 1;
        redis.ask(&["EVAL", junk, "0", &format!("{pressed}:")])
    };
    until(|| {
        press();
        (waiting() == 0).then_some(())
    });
    let worker = app.spawn(&["worker"]).read_on();
    for part in 1..=10 {
        until(|| (sink.accepted().len() >= part * SENDS / 20).then_some(()));
        press();
    }
    assert!(sink.accepted().len() < SENDS, "in the middle");
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    println!("{} keys evicted", info("stats", "evicted_keys"));
    check_all_sent_once(&app, &sink, SENDS);
}

/// A Redis that stays away: what is planned is sent, what comes due is planned and sent. It comes back: so does the queue.
#[test]
fn fr03_a_redis_that_stays_away_stops_no_mail() {
    let Some((mut app, sink)) = imported_with("away.example", 1_000, 2, "") else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 300));
    app.redis_mut().kill();
    let killed = Instant::now();
    assert!(worker.wait_for("the ledger gives them meanwhile", 1), "the fault fired");
    let before = sink.accepted().len();
    assert!(before < 1_000, "some of the second mails are not planned yet: {before}");
    let seen = worker.seen.iter().filter(|line| line.contains("status=sent")).count();
    assert!(worker.wait_for("status=sent", 2_000 - seen));
    assert!(scheduler.wait_for("campaign completed", 1));
    println!("{} sends without Redis in {:?}", 2_000 - before, killed.elapsed());
    assert_eq!(app.count_rows("sends WHERE status = 'sent'"), 2_000);

    app.redis_mut().start_again();
    let back = Instant::now();
    assert!(worker.wait_for("the queue answers again", 1));
    println!("noticed {:?} after it came back", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    check_all_sent_once(&app, &sink, 2_000);
    let text = std::fs::read_to_string(app.path("campaign.toml")).unwrap().replace("\"Welcome\"", "\"Second\"");
    std::fs::write(app.path("second.toml"), text.replace("away.example", "back.example")).unwrap();
    let file = app.path("second.toml");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    assert!(worker.wait_for("Received job", 1_000), "jobs come by the queue again");
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    let accepted = sink.accepted();
    let once: HashSet<&String> = accepted.iter().collect();
    assert_eq!((once.len(), accepted.len()), (4_000, 4_000), "every message once");
}

/// P9's bound holds for each lane by itself.
#[test]
fn a_strangers_long_low_lane_keeps_no_lost_hint_waiting() {
    const MANY: usize = 30_000;
    let Some((app, sink)) = imported("long.example", 1) else { return };
    assert_eq!(app.json(&["scheduler", "--once"]).1["enqueued"], 1);
    app.redis().ask(&["FLUSHALL"]);
    let script = "for i = 1, tonumber(ARGV[2]) do redis.call('LPUSH', KEYS[1], ARGV[1]) end";
    let id = "018f3a5e-0000-7000-8000-000000000001";
    let job =
        ["tenantId", "campaignId", "leadId", "stepId", "emailAccountId"].map(|name| format!("\"{name}\":\"{id}\""));
    let low = "queue:email-sending:low";
    app.redis().ask(&["EVAL", script, "1", low, &format!("{{{}}}", job.join(",")), &MANY.to_string()]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 1));
    let left: usize = app.redis().ask(&["LLEN", low]).parse().unwrap();
    println!("sent while {left} of {MANY} waited in the low lane");
    assert!(left > 10_000, "{left} were left");
    assert_eq!(sink.accepted().len(), 1);
}

#[test]
fn fr01_ten_times_emptied_while_sending() {
    const SENDS: usize = 6_000;
    let Some((app, sink)) = imported("ten.example", SENDS) else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("Enqueued", 1));
    // Its log is read all the time: a full pipe would stop it, and its hints would not come back.
    let worker = app.spawn(&["worker"]).read_on();
    let script = "return redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])";
    let keys = ["queue:email-sending", "{queue:email-sending}:delayed"];
    let waiting = || app.redis().ask(&["EVAL", script, "2", keys[0], keys[1]]).parse::<usize>().unwrap();
    let mut times = Vec::new();
    for flush in 1..=10 {
        until(|| (sink.accepted().len() >= flush * 250).then_some(()));
        until(|| (waiting() > 0).then_some(()));
        app.redis().ask(&["FLUSHALL"]);
        let emptied = Instant::now();
        until(|| (waiting() > 0).then_some(()));
        times.push(emptied.elapsed());
    }
    let sent = app.count_rows("sends WHERE status = 'sent'");
    assert!((sent as usize) < SENDS, "all ten fired in the middle: {sent}");
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, SENDS);
    let longest = times.iter().max().unwrap();
    figure("hints back after FLUSHALL, the longest of ten", longest.as_secs_f64(), 10.0, "s");
    assert!(*longest < Duration::from_secs(4), "within one reconcile period of two seconds and a pass: {longest:?}");
}

#[test]
fn fr02_an_old_backup_brings_back_hints_of_what_was_sent() {
    const SENDS: usize = 2_000;
    let Some((mut app, sink)) = imported("stale.example", SENDS) else { return };
    let mut scheduler = app.spawn(&["scheduler"]);
    let waiting = |app: &App| app.redis().ask(&["LLEN", "queue:email-sending"]).parse::<usize>().unwrap();
    until(|| (waiting(&app) == SENDS).then_some(()));
    let backup = app.path("backup");
    app.redis().back_up(&backup);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 500));
    app.redis_mut().kill();
    app.redis_mut().start_from(&backup);
    let stale = waiting(&app);
    println!("{stale} hints came back, of which at least 500 were sent");
    assert!(stale > SENDS - 500, "stale hints returned: {stale}");
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, SENDS);
}

/// The new master has never heard of what was pushed last.
#[test]
fn fr07_a_failover_that_lost_writes_loses_no_mail() {
    const SENDS: usize = 1_000;
    let Some((mut app, sink)) = imported("failover.example", SENDS) else { return };
    let replica = app.redis().replica();
    let sentinel = app.redis().sentinel();
    app.set("REDIS_URL", &format!("redis+sentinel://127.0.0.1:{}/mail", sentinel.port));
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Waiting for jobs...", 1));
    // From here on nothing reaches the replica, not even what waits in a socket.
    replica.signal("-STOP");
    app.redis().ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    app.redis().ask(&["SET", "lost", "with the master"]);
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("Enqueued", 1));
    assert!(worker.wait_for("status=sent", 100));
    app.redis_mut().kill();
    replica.signal("-CONT");
    let worker = worker.read_on();
    // Sentinel ends the replica's connections while it promotes it.
    until(|| replica.answer(&["ROLE"]).ok().filter(|role| role.starts_with("master")));
    assert_eq!(replica.ask(&["EXISTS", "lost"]), "0", "the fault fired: writes are lost");
    assert!(scheduler.wait_for("campaign completed", 1));
    until(|| (replica.ask(&["EXISTS", "{queue:email-sending}:instance"]) == "1").then_some(()));
    assert_eq!(worker.stop().0.code(), Some(0));
    check_all_sent_once(&app, &sink, SENDS);
}

/// Somebody wrote text where the base lane and the events lie: the other lanes go on, it is said once for each, and it
/// heals by itself.
#[test]
fn fr08_keys_of_another_type_stop_their_own_lanes_alone() {
    let Some((app, sink)) = imported_with("type.example", 40, 1, "priority = 10") else { return };
    for key in ["queue:email-sending", "queue:analytics-processing"] {
        app.redis().ask(&["SET", key, "text"]);
    }
    let mut scheduler = app.spawn(&["scheduler"]);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", 40), "the high lane lives");
    assert!(scheduler.wait_for("campaign completed", 1));
    let text = std::fs::read_to_string(app.path("campaign.toml")).unwrap();
    let text = text.replace("\"Welcome\"", "\"Second\"").replace("type.example", "base.example");
    std::fs::write(app.path("second.toml"), text.replace("priority = 10", "priority = 100")).unwrap();
    let file = app.path("second.toml");
    assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url]).0, 0);
    assert!(scheduler.wait_for("`queue:email-sending` is a string, not a list", 1), "the fault is named");
    assert_eq!(sink.accepted().len(), 40);
    app.redis().ask(&["DEL", "queue:email-sending"]);
    assert!(worker.wait_for("jobs of this lane can be leased again", 1));
    assert!(worker.wait_for("status=sent", 40), "its hints come again");
    assert!(scheduler.wait_for("campaign completed", 1));
    let said = worker.seen.iter().filter(|line| line.contains("jobs of this lane cannot be leased now")).count();
    assert_eq!(said, 1, "{:?}", worker.seen);
    assert!(!worker.seen.iter().any(|line| line.contains("the ledger gives them")), "one lane is no reason");
    assert_eq!((sink.accepted().len(), worker.stop().0.code()), (80, Some(0)));
}

/// A worker that reaches its Redis by a way that goes bad in the middle; how long the rest takes.
fn by_a_bad_way(domain: &str, sends: usize, way: Way) -> Option<(Duration, u64, Vec<String>)> {
    let (app, sink) = imported(domain, sends)?;
    let gateway = Gateway::to(&format!("127.0.0.1:{}", app.redis().port));
    let url = format!("redis://{}", gateway.address);
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("Enqueued", 1));
    let mut worker = app.spawn_with(&["worker"], &[("REDIS_URL", &url)]);
    assert!(worker.wait_for("status=sent", 100));
    gateway.is(way);
    let began = Instant::now();
    let worker = worker.read_on();
    assert!(scheduler.wait_for("campaign completed", 1));
    let took = began.elapsed();
    let met = gateway.met();
    gateway.is(Way::Good);
    let (exit, seen) = worker.stop();
    assert_eq!(exit.code(), Some(0));
    check_all_sent_once(&app, &sink, sends);
    println!("{way:?}: {took:?} for the rest, {met} bytes met it");
    Some((took, met, seen))
}

#[test]
fn fr09_a_half_open_connection_costs_a_time_limit_and_no_mail() {
    let Some((took, met, seen)) = by_a_bad_way("still.example", 1_500, Way::Still) else { return };
    assert!(met > 0, "the fault fired");
    assert!(seen.iter().any(|line| line.contains("the ledger gives them meanwhile")), "{seen:?}");
    assert!(took < Duration::from_secs(90), "{took:?}");
}

#[test]
fn fr09_answers_that_come_late_or_byte_by_byte_are_borne() {
    let Some((took, met, _)) = by_a_bad_way("late.example", 160, Way::Late(Duration::from_secs(2))) else { return };
    assert!(met > 0 && took < Duration::from_secs(120), "{took:?}");
    let Some((_, met, _)) = by_a_bad_way("bytes.example", 1_000, Way::Bytes) else { return };
    assert!(met > 10_000, "{met}");
}
