//! Urgent mail does not wait behind a long list, and a full low lane still moves.

use domain::time::Timestamp;
use serde_json::Value;

use crate::app::{App, Engine, Process, Sink, figure, lines};

const BASE: &str = "queue:email-sending";
const LOW: &str = "queue:email-sending:low";
const HIGH: &str = "queue:email-sending:high";
const JOBS: usize = 100_000;
/// Urgent jobs until one is in time. Without a line of their own none was: 1.1 s and more on an idle machine.
const TRIES: usize = 10;
/// Mails that are accepted between the push of an urgent one and its own acceptance: those under way on the account's ten
/// connections, and as many that begin while its own goes.
const MOST_BEFORE: usize = 25;

/// A campaign that is being sent: the worker is busy with its account when `sent` mails have gone.
fn busy(domain: &str, leads: usize, sent: usize, server: &[&str]) -> Option<(App, Sink, Process)> {
    let mut app = App::new(Engine::Redis)?;
    app.set("LOG_LEVEL", "info");
    let sink = Sink::start(&app, server);
    let file = app.campaign(domain, (0..leads).map(|n| format!("l{n}")), 1, "");
    let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &sink.url];
    assert_eq!(app.json(&arguments).0, 0);
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("Enqueued", 1));
    assert_eq!(app.count_rows("sends"), leads as u64);
    assert!(scheduler.stop().0.success());
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("status=sent", sent), "{}", worker.seen.join(""));
    Some((app, sink, worker))
}

/// A job that was sent before: it costs the worker its way through the lane and no mail.
fn sent_before(app: &App) -> Value {
    let ids = "SELECT json_build_object('tenantId', tenant_id, 'campaignId', campaign_id, 'leadId', lead_id, 'stepId', step_id,
        'emailAccountId', email_account_id)::text FROM sends WHERE status = 'sent' LIMIT 1";
    serde_json::from_str(&app.column(ids).remove(0)).unwrap()
}

fn fill(app: &App, list: &str, job: &Value, count: usize) {
    let script = "for i = 1, tonumber(ARGV[2]) do redis.call('LPUSH', KEYS[1], ARGV[1]) end";
    app.redis().ask(&["EVAL", script, "1", list, &job.to_string(), &count.to_string()]);
}

fn length(app: &App, list: &str) -> usize {
    app.redis().ask(&["LLEN", list]).parse().unwrap()
}

/// Pushes a job with priority 10 for a lead of its own. The milliseconds until its mail was accepted, from Redis's clock at
/// the push and the sink's at the acceptance (how late this program looks changes nothing), and how many were accepted
/// between.
fn urgent(app: &App, sink: &Sink, like: &Value, name: &str) -> (u64, usize) {
    let mut job = like.clone();
    job["priority"] = 10.into();
    let lead = format!(
        "INSERT INTO leads (id, tenant_id, email, created_at, updated_at)
         SELECT gen_random_uuid(), tenant_id, '{name}@urgent.example', now(), now() FROM sends LIMIT 1 RETURNING id"
    );
    job["leadId"] = app.column(&lead).remove(0).into();
    let script = "redis.call('LPUSH', KEYS[1], ARGV[1]); local t = redis.call('TIME'); return t[1] * 1000000 + t[2]";
    let pushed: i64 = app.redis().ask(&["EVAL", script, "1", HIGH, &job.to_string()]).parse().unwrap();
    let pushed = Timestamp::from_micros(pushed);
    let index = sink.folder.join("index.jsonl");
    // The last line may be half written.
    let accepted_at = |line: &str| -> Option<Timestamp> {
        serde_json::from_value(serde_json::from_str::<Value>(line).ok()?["at"].clone()).unwrap()
    };
    let own = format!("{name}@urgent");
    let find = || lines(&index).iter().find(|line| line.contains(&own)).and_then(|line| accepted_at(line));
    let accepted = crate::http::until(find);
    let all = lines(&index);
    let between = all.iter().filter_map(|line| accepted_at(line)).filter(|at| *at > pushed && *at < accepted).count();
    (accepted.since(pushed).as_millis().try_into().unwrap(), between)
}

/// All of it goes over one account, whose server is as slow as real ones: each of its connections is busy, and jobs wait
/// in line within the worker too.
#[test]
fn a_priority_overtakes_a_hundred_thousand() {
    let Some((app, sink, worker)) = busy("overtake.example", 5_000, 100, &["--delay", "dot=300ms"]) else { return };
    let worker = worker.read_on();
    let before = sent_before(&app);
    fill(&app, BASE, &before, JOBS);
    // One within the second is enough: on a machine that others use, a figure may be the wait for a processor.
    let mut waits = Vec::new();
    while waits.len() < TRIES && waits.last().is_none_or(|(wait, _)| *wait >= 1_000) {
        waits.push(urgent(&app, &sink, &before, &format!("try{}", waits.len())));
    }
    let (sent, waiting) = (sink.accepted().len(), length(&app, BASE));
    println!("accepted after ms, and behind mails: {waits:?}; {sent} sent, {waiting} still wait in the base lane");
    assert!(sent < 5_000, "the account was busy with ordinary mail all the time: {sent}");
    assert!(waiting > JOBS / 2, "they overtook the base lane: {waiting} wait there");
    let quickest = waits.iter().map(|(wait, _)| *wait).min().unwrap();
    figure("an urgent mail behind 100,000 others is accepted", quickest as f64 / 1000.0, 1.0, "s");
    let fewest = waits.iter().map(|(_, before)| *before).min().unwrap();
    assert!(fewest <= MOST_BEFORE, "a slow machine sends fewer before it, not more: {waits:?}");
    assert_eq!(worker.stop().0.code(), Some(0));
}

#[test]
fn a_full_low_lane_moves_with_one_of_twelve() {
    let Some((app, _sink, worker)) = busy("lanes.example", 3, 3, &[]) else { return };
    assert!(worker.stop().0.success());
    let before = sent_before(&app);
    fill(&app, BASE, &before, JOBS);
    fill(&app, LOW, &before, 10_000);
    let mut worker = app.spawn(&["worker"]);
    assert!(worker.wait_for("Settled before", 2_000));
    let script = "return redis.call('LLEN', KEYS[1]) .. ' ' .. redis.call('LLEN', KEYS[2])";
    let both = app.redis().ask(&["EVAL", script, "2", BASE, LOW]);
    let (base, low) =
        both.split_once(' ').map(|(a, b)| (a.parse::<usize>().unwrap(), b.parse::<usize>().unwrap())).unwrap();
    let (taken, of_low) = (JOBS + 10_000 - base - low, 10_000 - low);
    println!("of {taken} jobs taken {of_low} were of the low lane");
    // One of twelve, but for the batch that was being leased at that moment.
    assert!(of_low * 12 + 100 >= taken, "of {taken} the low lane had {of_low}");
    assert_eq!(worker.read_on().stop().0.code(), Some(0));
}
