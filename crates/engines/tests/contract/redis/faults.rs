//! Faults of the server (FR01, FR02, FR04, FR05, FR09): nothing that was handed out is lost without being said.

use std::time::Duration;

use engines::Error;
use engines::queue::redis::RedisQueue;
use engines::queue::{Job, Lane, List, Queue as _, Token, Verdict};

use super::server::Server;
use crate::engine::{NOW, new_id};
use crate::queue_engine::run_redis;

const LEASE: Duration = Duration::from_secs(60);
const MAIL: List = List::EmailSending;

fn with_server<F: Future<Output = ()>>(options: &[&str], case: impl FnOnce(RedisQueue, Server) -> F) {
    let Some(server) = Server::start(options) else { return };
    let url = server.url();
    run_redis(&url, |queue| case(queue, server));
}

fn job(padding: usize) -> Job {
    let id = new_id();
    let payload = format!(r#"{{"sendId":"{id}","padding":"{}"}}"#, "x".repeat(padding));
    Job { id, payload, priority: 100, not_before: NOW }
}

async fn lease(queue: &RedisQueue, max: usize) -> Vec<Token> {
    queue.lease(MAIL, "w", max, LEASE, NOW).await.unwrap().iter().map(|job| job.token).collect()
}

#[test]
fn fr01_flushall_begins_a_new_epoch_and_old_tokens_are_stale() {
    with_server(&[], async |queue, server| {
        let old = job(0);
        queue.push(MAIL, vec![old.clone()], NOW).await.unwrap();
        let epoch = queue.epoch(MAIL).await.unwrap();
        let token = lease(&queue, 1).await[0];
        redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
        assert_eq!(queue.push(MAIL, vec![old], NOW).await.unwrap(), 1, "no longer known");
        let again = lease(&queue, 1).await;
        assert_eq!((again.len(), again[0].id), (1, token.id));
        assert_eq!(queue.settle(MAIL, "w", &[(token, Verdict::Ack)], NOW).await.unwrap(), [token]);
        assert_eq!(queue.extend(MAIL, "w", &[token, again[0]], LEASE, NOW).await.unwrap(), [token]);
        let (new, same) = tokio::join!(queue.epoch(MAIL), queue.epoch(MAIL));
        let (new, same) = (new.unwrap(), same.unwrap());
        assert!(new > epoch && new == same, "one new epoch for all: {epoch}, {new}, {same}");
    });
}

#[test]
fn fr02_a_killed_server_fails_calls_and_an_empty_one_is_used_without_help() {
    with_server(&[], async |queue, mut server| {
        queue.push(MAIL, vec![job(0)], NOW).await.unwrap();
        let epoch = queue.epoch(MAIL).await.unwrap();
        server.kill();
        for _ in 0..3 {
            let error = queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap_err();
            assert!(matches!(error, Error::RedisUnavailable(_)) && error.is_transient(), "{error}");
        }
        server.start_again();
        assert!(lease(&queue, 1).await.is_empty(), "it kept nothing, and knows no script");
        assert_ne!(queue.epoch(MAIL).await.unwrap(), epoch);
        assert_eq!(queue.push(MAIL, vec![job(0)], NOW).await.unwrap(), 1);
    });
}

#[test]
fn fr04_scripts_that_the_server_forgot_are_sent_again() {
    with_server(&[], async |queue, server| {
        queue.push(MAIL, vec![job(0)], NOW).await.unwrap();
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.connection()).unwrap();
        assert_eq!(queue.push(MAIL, vec![job(0)], NOW).await.unwrap(), 1);
        assert_eq!(lease(&queue, 2).await.len(), 2);
    });
}

#[test]
fn fr04_a_replica_refuses_and_the_queue_goes_on_when_it_is_the_master_again() {
    with_server(&[], async |queue, server| {
        let mut admin = server.connection();
        queue.push(MAIL, vec![job(0)], NOW).await.unwrap();
        // A port on which nobody listens: it stays a replica without a master.
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut admin).unwrap();
        let error = queue.push(MAIL, vec![job(0)], NOW).await.unwrap_err();
        assert!(error.to_string().contains("READONLY") && error.is_transient(), "{error}");
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut admin).unwrap();
        assert_eq!(lease(&queue, 2).await.len(), 1, "no job was dropped");
    });
}

#[test]
fn fr04_a_busy_server_is_asked_again_later() {
    with_server(&["--busy-reply-threshold", "20"], async |queue, server| {
        queue.push(MAIL, vec![job(0)], NOW).await.unwrap();
        let mut stuck = server.connection();
        let endless = std::thread::spawn(move || {
            redis::cmd("EVAL").arg("while true do end").arg(0).query::<redis::Value>(&mut stuck).unwrap_err()
        });
        server.wait_for("Slow script detected");
        let error = queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap_err();
        assert!(error.to_string().contains("BUSY") && error.is_transient(), "{error}");
        redis::cmd("SCRIPT").arg("KILL").exec(&mut server.connection()).unwrap();
        endless.join().unwrap();
        assert_eq!(lease(&queue, 1).await.len(), 1);
    });
}

#[test]
fn fr09_a_lease_that_is_sent_twice_takes_its_jobs_once() {
    let script = include_str!("../../../src/queue/redis/lease.lua");
    with_server(&[], async |queue, server| {
        // Some from the list, some that came again.
        queue.push(MAIL, (0..8).map(|_| job(0)).collect(), NOW).await.unwrap();
        let again: Vec<_> = lease(&queue, 4).await.into_iter().map(|token| (token, Verdict::RetryAt(NOW))).collect();
        queue.settle(MAIL, "w", &again, NOW).await.unwrap();
        let key = |name: &str| format!("{{queue:email-sending}}:{name}");
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(6).arg("queue:email-sending").arg(key("delayed")).arg(key("leases:x")).arg(key("ends:x"));
        call.arg(key("owners")).arg(key("known")).arg(6).arg(77).arg("x").arg(NOW.micros() + 1).arg(NOW.micros());
        call.arg(0).arg(1000).arg(100).arg(key("leases:"));
        let mut sender = server.connection();
        let first: redis::Value = call.query(&mut sender).unwrap();
        let second: redis::Value = call.query(&mut sender).unwrap();
        assert_eq!(first, second);
        assert!(matches!(&first, redis::Value::Array(values) if values.len() == 7), "{first:?}");
        assert_eq!(queue.depth(MAIL, Lane::Base, NOW).await.unwrap().ready, 2, "the others are still there");
    });
}

#[test]
fn fr05_a_full_server_takes_no_jobs_and_drains_to_empty() {
    with_server(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"], async |queue, server| {
        let mut pushed = 0;
        let full = loop {
            match queue.push(MAIL, (0..100).map(|_| job(500)).collect(), NOW).await {
                Ok(count) => pushed += count,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Error::RedisFull(_)) && full.is_transient(), "{full}");
        // Below what it uses already: from now on every write that may need memory is refused.
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").exec(&mut server.connection()).unwrap();
        assert!(queue.push(MAIL, vec![job(0)], NOW).await.is_err(), "still full");
        let first = lease(&queue, 50).await;
        assert_eq!(first.len(), 50);
        assert!(queue.extend(MAIL, "w", &first, 2 * LEASE, NOW).await.unwrap().is_empty());
        assert_eq!(queue.reap(MAIL, &["w".into()], NOW).await.unwrap(), 50);
        let handed_back = lease(&queue, 50).await;
        let again: Vec<_> = handed_back.iter().map(|token| (*token, Verdict::RetryAt(NOW))).collect();
        assert!(queue.settle(MAIL, "w", &again, NOW).await.unwrap().is_empty());
        let mut drained = 0;
        loop {
            let acks: Vec<_> = lease(&queue, 100).await.into_iter().map(|token| (token, Verdict::Ack)).collect();
            if acks.is_empty() {
                break;
            }
            drained += acks.len() as u64;
            assert!(queue.settle(MAIL, "w", &acks, NOW).await.unwrap().is_empty());
        }
        assert_eq!(drained, pushed);
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("8mb").exec(&mut server.connection()).unwrap();
        assert_eq!(queue.push(MAIL, vec![job(500)], NOW).await.unwrap(), 1, "there is room again");
    });
}

#[test]
fn fr09_a_server_that_stands_still_costs_a_time_limit_and_nothing_else() {
    let Some(server) = Server::start(&[]) else { return };
    // Time of its own, which goes on only when everybody waits: limits pass at once, but they do pass.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let queue = RedisQueue::connect(&server.url()).await.unwrap();
        assert_eq!(queue.push(MAIL, vec![job(0)], NOW).await.unwrap(), 1);
        server.signal("-STOP");
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        for _ in 0..2 {
            // The second one finds no connection any more and cannot open another.
            let calls = tokio::join!(queue.ping(), queue.epoch(MAIL), queue.lease(MAIL, "w", 1, LEASE, NOW));
            let errors = [calls.0.err(), calls.1.err(), calls.2.err()];
            assert!(errors.iter().flatten().filter(|error| error.is_transient()).count() == 3, "{errors:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(20), "together, not one after the other");
        server.signal("-CONT");
        tokio::time::resume();
        queue.reap(MAIL, &["w".into()], NOW).await.unwrap();
        assert_eq!(lease(&queue, 1).await.len(), 1, "also when the call that nobody waited for took it");
    });
}
