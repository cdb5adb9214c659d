//! Elements that other programs LPUSH: complete jobs, garbage, and keys of the wrong type.

use std::collections::HashSet;
use std::time::Duration;

use domain::payload::{LIMIT, PayloadError};
use engines::queue::redis::RedisQueue;
use engines::queue::{Depth, Job, Lane, Leased, List, Queue as _, Verdict};

use crate::engine::{NOW, new_id};
use crate::queue_engine::{Cluster, Database, depths, run_redis};

const LEASE: Duration = Duration::from_secs(60);
const MAIL: List = List::EmailSending;
const BASE: &str = "queue:email-sending";

/// Runs a case on a database of its own, with the connection of a stranger.
fn with_stranger<F: Future<Output = ()>>(case: impl FnOnce(RedisQueue, redis::Connection) -> F) {
    let Some(database) = Database::take() else { return };
    let stranger = database.connection();
    run_redis(&database.url, |queue| case(queue, stranger));
}

fn lpush(stranger: &mut redis::Connection, list: &str, element: &[u8]) {
    redis::cmd("LPUSH").arg(list).arg(element).exec(stranger).unwrap();
}

async fn lease(queue: &RedisQueue, max: usize) -> Vec<Leased> {
    queue.lease(MAIL, "w", max, LEASE, NOW).await.unwrap()
}

fn bare(n: u32) -> String {
    let id = |kind: u32| format!("018f3a5e-0000-7000-8000-{kind:04}{n:08}");
    format!(
        r#"{{"tenantId":"{}","campaignId":"{}","leadId":"{}","stepId":"{}","emailAccountId":"{}"}}"#,
        id(1),
        id(2),
        id(3),
        id(4),
        id(5)
    )
}

#[test]
fn bare_jobs_are_leased_oldest_first_and_settled_like_any_other() {
    with_stranger(async |queue, mut stranger| {
        let payloads: Vec<String> = (0..1000).map(bare).collect();
        for payload in &payloads {
            lpush(&mut stranger, BASE, payload.as_bytes());
        }
        let mut taken = Vec::new();
        while taken.len() < payloads.len() {
            let jobs = lease(&queue, 7).await;
            assert!(jobs.iter().all(|job| job.priority == 100 && job.expirations == 0) && !jobs.is_empty());
            taken.extend(jobs);
        }
        assert_eq!(taken.iter().map(|job| job.payload.as_str()).collect::<Vec<_>>(), payloads, "as they came");
        let acks: Vec<_> = taken.iter().map(|job| (job.token, Verdict::Ack)).collect();
        assert!(queue.settle(MAIL, "w", &acks, NOW).await.unwrap().is_empty());
        assert_eq!(queue.settle(MAIL, "w", &acks, NOW).await.unwrap().len(), 1000, "settled once");
        assert_eq!(depths(&queue, MAIL, NOW).await, [Depth::default(); 3]);
    });
}

#[test]
fn equal_elements_are_jobs_of_their_own_through_lease_retry_and_reaping() {
    with_stranger(async |queue, mut stranger| {
        let payload = bare(1);
        for _ in 0..3 {
            lpush(&mut stranger, BASE, payload.as_bytes());
        }
        let first = lease(&queue, 3).await;
        assert_eq!(first.iter().map(|job| job.token.id).collect::<HashSet<_>>().len(), 3);
        let verdicts: Vec<_> = first.iter().map(|job| (job.token, Verdict::RetryAt(NOW))).collect();
        assert!(queue.settle(MAIL, "w", &verdicts, NOW).await.unwrap().is_empty());
        let second = lease(&queue, 3).await;
        assert_eq!(second.len(), 3);
        assert!(second.iter().all(|job| job.payload == payload && job.expirations == 0));
        assert_eq!(queue.reap(MAIL, &["w".into()], NOW).await.unwrap(), 3);
        let third = lease(&queue, 3).await;
        assert_eq!(third.len(), 3);
        assert!(third.iter().all(|job| job.payload == payload && job.expirations == 1));
        let ids: HashSet<_> = first.iter().chain(&second).chain(&third).map(|job| job.token.id).collect();
        assert_eq!(ids.len(), 3, "each keeps its id through retry and reaping: an event is counted once");
    });
}

#[test]
fn ids_in_the_payload_are_the_jobs_ids() {
    with_stranger(async |queue, mut stranger| {
        let (send, event) = (new_id(), new_id());
        lpush(&mut stranger, "queue:email-sending:low", format!(r#"{{ "sendId": "{send}" }}"#).as_bytes());
        lpush(&mut stranger, "queue:analytics-processing", format!(r#"{{"eventId":"{event}"}}"#).as_bytes());
        let job = lease(&queue, 1).await.remove(0);
        assert_eq!((job.token.id, job.priority), (send, 151));
        let events = queue.lease(List::Analytics, "w", 1, LEASE, NOW).await.unwrap();
        assert_eq!(events[0].token.id, event);
    });
}

#[test]
fn garbage_is_handed_out_so_that_it_can_be_buried() {
    with_stranger(async |queue, mut stranger| {
        let huge = vec![b'x'; 64 * 1024 * 1024];
        let elements: [&[u8]; 6] = [b"not json", b"", b"\xff\xfe{\0}", b"[1,2]", b"two\nlines", &huge];
        for element in elements {
            lpush(&mut stranger, BASE, element);
        }
        let jobs = lease(&queue, 10).await;
        let texts: Vec<&str> = jobs.iter().map(|job| job.payload.as_str()).collect();
        assert_eq!(texts[..5], ["not json", "", "\u{FFFD}\u{FFFD}{\u{FFFD}}", "[1,2]", "two\nlines"]);
        assert_eq!((texts[5].len(), jobs[5].cut_from), (4 * 1024, Some(huge.len())), "cut, and the length is known");
        assert!(jobs[..5].iter().all(|job| job.cut_from.is_none()));
        // Handed back and leased again they are the same.
        let again: Vec<_> = jobs.iter().map(|job| (job.token, Verdict::RetryAt(NOW))).collect();
        assert!(queue.settle(MAIL, "w", &again, NOW).await.unwrap().is_empty());
        let second = lease(&queue, 10).await;
        assert_eq!(second.len(), 6);
        let seen = |jobs: &[Leased]| -> HashSet<_> {
            jobs.iter().map(|job| (job.token.id, job.payload.clone(), job.cut_from)).collect()
        };
        assert_eq!(seen(&second), seen(&jobs));
        let acks: Vec<_> = second.iter().map(|job| (job.token, Verdict::Ack)).collect();
        assert!(queue.settle(MAIL, "w", &acks, NOW).await.unwrap().is_empty());
        assert_eq!(depths(&queue, MAIL, NOW).await, [Depth::default(); 3]);
    });
}

#[test]
fn a_payload_is_whole_up_to_its_limit_in_every_delivery() {
    with_stranger(async |queue, mut stranger| {
        let job = r#"{"sendId":"018f3a5e-0000-7000-8000-000000000001"}"#;
        let padded = |length: usize| job.to_owned() + &" ".repeat(length - job.len());
        for length in [LIMIT, LIMIT + 1] {
            lpush(&mut stranger, BASE, padded(length).as_bytes());
        }
        for delivery in 1..=3 {
            let jobs = lease(&queue, 10).await;
            let whole: Vec<_> = jobs.iter().filter_map(|job| job.whole().ok()).collect();
            assert_eq!(whole, [padded(LIMIT)], "delivery {delivery}");
            let cut = jobs.iter().find(|job| job.cut_from.is_some()).unwrap();
            assert_eq!(cut.whole(), Err(PayloadError::TooLong { bytes: LIMIT + 1 }), "though its beginning is a job");
            let again: Vec<_> = jobs.iter().map(|job| (job.token, Verdict::RetryAt(NOW))).collect();
            assert!(queue.settle(MAIL, "w", &again, NOW).await.unwrap().is_empty());
        }
    });
}

/// Asks again and again, as a worker does, until a job of the base lane comes.
async fn base_lane_lives(queue: &RedisQueue) {
    let began = std::time::Instant::now();
    while !lease(queue, 10).await.iter().any(|job| Lane::of(job.priority) == Lane::Base) {
        assert!(began.elapsed() < Duration::from_secs(60), "no job of the base lane comes");
    }
}

#[test]
fn fr08_a_key_of_another_type_is_named_and_the_other_lanes_go_on() {
    with_stranger(async |queue, mut stranger| {
        redis::cmd("SET").arg(BASE).arg("text").exec(&mut stranger).unwrap();
        assert!(lease(&queue, 10).await.is_empty(), "the other lanes are empty, which is no error");
        let job = |priority| Job { id: new_id(), payload: "{}".into(), priority, not_before: NOW };
        for error in [
            queue.push(MAIL, vec![job(100)], NOW).await.unwrap_err(),
            queue.depth(MAIL, Lane::Base, NOW).await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("`queue:email-sending`") && text.contains("string"), "{text}");
            assert!(!error.is_transient());
        }
        for priority in [1, 1000] {
            queue.push(MAIL, vec![job(priority)], NOW).await.unwrap();
            assert_eq!(queue.depth(MAIL, Lane::of(priority), NOW).await.unwrap().ready, 1);
            assert_eq!(lease(&queue, 10).await.len(), 1, "the lane lives");
        }
        redis::cmd("DEL").arg(BASE).exec(&mut stranger).unwrap();
        queue.push(MAIL, vec![job(100)], NOW).await.unwrap();
        base_lane_lives(&queue).await;
    });
}

#[test]
fn a_lease_that_cannot_be_recorded_takes_nothing() {
    let list = List::Analytics;
    with_stranger(async |queue, mut stranger| {
        lpush(&mut stranger, list.name(), bare(1).as_bytes());
        for name in ["leases:w", "ends:w", "owners", "known", "delayed"] {
            let key = format!("{{{}}}:{name}", list.name());
            redis::cmd("SET").arg(&key).arg("text").exec(&mut stranger).unwrap();
            let error = queue.lease(list, "w", 10, LEASE, NOW).await.unwrap_err().to_string();
            assert!(error.contains(&key), "{error}");
            redis::cmd("DEL").arg(&key).exec(&mut stranger).unwrap();
        }
        assert_eq!(queue.lease(list, "w", 10, LEASE, NOW).await.unwrap().len(), 1, "its only lane is asked at once");
    });
}

#[test]
fn what_others_took_from_the_list_can_be_pushed_again_once_it_ran_empty() {
    with_stranger(async |queue, mut stranger| {
        let id = new_id();
        let job = Job { id, payload: format!(r#"{{"sendId":"{id}"}}"#), priority: 100, not_before: NOW };
        assert_eq!(queue.push(MAIL, vec![job.clone()], NOW).await.unwrap(), 1);
        redis::cmd("DEL").arg(BASE).exec(&mut stranger).unwrap();
        assert_eq!(queue.push(MAIL, vec![job.clone()], NOW).await.unwrap(), 0, "nobody has seen yet that it is gone");
        assert!(lease(&queue, 10).await.is_empty());
        assert_eq!(queue.push(MAIL, vec![job.clone()], NOW).await.unwrap(), 1);
        assert_eq!(lease(&queue, 10).await.len(), 1);
        assert!(lease(&queue, 10).await.is_empty());
        assert_eq!(queue.push(MAIL, vec![job], NOW).await.unwrap(), 0, "known while leased");
    });
}

#[test]
fn our_jobs_lie_on_the_list_as_other_programs_expect_them() {
    with_stranger(async |queue, mut stranger| {
        let mut payloads = Vec::new();
        for _ in 0..3 {
            let id = new_id();
            let payload = format!(r#"{{"sendId":"{id}","priority":20}}"#);
            payloads.push(payload.clone());
            queue.push(MAIL, vec![Job { id, payload, priority: 20, not_before: NOW }], NOW).await.unwrap();
        }
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(redis::cmd("RPOP").arg("queue:email-sending:high").query::<String>(&mut stranger).unwrap());
        }
        assert_eq!(taken, payloads);
    });
}

#[test]
fn jobs_that_come_again_and_new_ones_share_a_lane() {
    with_stranger(async |queue, mut stranger| {
        let list = List::Analytics;
        for n in 0..80 {
            lpush(&mut stranger, list.name(), bare(n).as_bytes());
        }
        let first = queue.lease(list, "w", 40, LEASE, NOW).await.unwrap();
        let again: Vec<_> = first.iter().map(|job| (job.token, Verdict::RetryAt(NOW))).collect();
        queue.settle(list, "w", &again, NOW).await.unwrap();
        let is_new = |job: &&Leased| first.iter().all(|old| old.payload != job.payload);
        let batch = queue.lease(list, "w", 10, LEASE, NOW).await.unwrap();
        assert_eq!(batch.iter().filter(is_new).count(), 5);
        let mut singles = Vec::new();
        for _ in 0..30 {
            singles.extend(queue.lease(list, "w", 1, LEASE, NOW).await.unwrap());
        }
        let new = singles.iter().filter(is_new).count();
        assert!(new > 0 && new < 30, "neither waits for the other: {new}");
    });
}

#[test]
fn dead_letters_are_shown_and_their_number_is_bounded() {
    with_stranger(async |queue, mut stranger| {
        let copies: Vec<String> = (0..10_001).map(|n| format!(r#"{{"id":"{n}"}}"#)).collect();
        queue.show_dead_letters(&copies).await.unwrap();
        let shown: Vec<String> =
            redis::cmd("LRANGE").arg("deadletter:queue").arg(0).arg(-1).query(&mut stranger).unwrap();
        assert_eq!(shown.len(), 10_000);
        assert_eq!(shown[0], r#"{"id":"10000"}"#, "the newest first");
    });
}

#[test]
fn on_a_cluster_the_lanes_lie_on_several_nodes() {
    let Some(cluster) = Cluster::take() else { return };
    let mut nodes = cluster.nodes();
    run_redis(&cluster.url, async |queue| {
        let job = |priority| Job { id: new_id(), payload: "{}".into(), priority, not_before: NOW };
        queue.push(MAIL, vec![job(10), job(100), job(500)], NOW).await.unwrap();
        let sizes: Vec<u64> = nodes.iter_mut().map(|node| redis::cmd("DBSIZE").query(node).unwrap()).collect();
        assert!(sizes.iter().filter(|size| **size > 0).count() >= 2, "{sizes:?}");
    });
}

/// A node that stands still, as one whose host is gone does, costs the lanes of the other nodes one time limit.
#[test]
fn on_a_cluster_a_node_that_stands_still_does_not_hold_up_the_lanes_of_the_others() {
    let Some(cluster) = Cluster::take() else { return };
    run_redis(&cluster.url, async |queue| {
        let job = |priority| Job { id: new_id(), payload: "{}".into(), priority, not_before: NOW };
        let mut on_base = cluster
            .nodes()
            .into_iter()
            .find_map(|mut node| redis::cmd("LLEN").arg(BASE).query::<u64>(&mut node).is_ok().then_some(node));
        let info: String = redis::cmd("INFO").arg("server").query(on_base.as_mut().unwrap()).unwrap();
        let id = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().to_owned();
        let signal = |signal: &str| {
            let sent = std::process::Command::new("kill").args([signal, &id]).status().unwrap();
            assert!(sent.success());
        };
        queue.push(MAIL, vec![job(100)], NOW).await.unwrap();
        let well: Vec<u16> = healthy(&cluster);
        signal("-STOP");
        let standing = Standing(&signal);
        assert!(lease(&queue, 10).await.is_empty(), "the others are empty, which is no error");
        let began = std::time::Instant::now();
        for priority in well.iter().cycle().take(20) {
            queue.push(MAIL, vec![job(*priority)], NOW).await.unwrap();
            let mut leased = lease(&queue, 10).await;
            assert_eq!(leased.len(), 1);
            assert_eq!(Lane::of(leased.remove(0).priority), Lane::of(*priority));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        drop(standing);
        // The call that nobody waited for any more may have taken it.
        while queue.reap(MAIL, &["w".into()], NOW).await.is_err() {}
        base_lane_lives(&queue).await;
    });
}

/// Gives a node back, also where the case fails.
struct Standing<'a>(&'a dyn Fn(&str));

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        (self.0)("-CONT");
    }
}

/// A priority for each lane that lies on another node than the base lane.
fn healthy(cluster: &Cluster) -> Vec<u16> {
    let mut nodes = cluster.nodes();
    let mut node_of =
        |list: &str| nodes.iter_mut().position(|node| redis::cmd("LLEN").arg(list).query::<u64>(node).is_ok()).unwrap();
    let base = node_of(BASE);
    let lanes = [(10, format!("{BASE}:high")), (500, format!("{BASE}:low"))];
    let well: Vec<u16> = lanes.into_iter().filter(|(_, list)| node_of(list) != base).map(|(p, _)| p).collect();
    assert!(!well.is_empty(), "a lane lies on another node");
    well
}
