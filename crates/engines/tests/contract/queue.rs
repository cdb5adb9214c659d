//! The queue's contract (`engines::queue`), case by case.

use std::time::Duration;

use domain::time::Timestamp;
use engines::Db;
use engines::queue::table::TableQueue;
use engines::queue::{Depth, Job, List, Queue, Token, Verdict};
use uuid::Uuid;

use crate::engine::{Engine, NOW, new_id, run};
use crate::on_every_engine;

const LEASE: Duration = Duration::from_secs(60);
const MAIL: List = List::EmailSending;

fn job(priority: u16, not_before: Timestamp) -> Job {
    Job { id: new_id(), payload: r#"{"some":"json"}"#.into(), priority, not_before }
}

async fn push(queue: &TableQueue, priority: u16, count: usize) -> Vec<Uuid> {
    let jobs: Vec<Job> = (0..count).map(|_| job(priority, NOW)).collect();
    let ids = jobs.iter().map(|job| job.id).collect();
    assert_eq!(queue.push(MAIL, jobs, NOW).await.unwrap(), count as u64);
    ids
}

async fn lease(queue: &TableQueue, max: usize, now: Timestamp) -> Vec<Token> {
    queue.lease(MAIL, "w", max, LEASE, now).await.unwrap().into_iter().map(|job| job.token).collect()
}

fn a_job_is_leased_once_and_gone_after_its_ack(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        let ids = push(&queue, 100, 3).await;
        let leased = queue.lease(MAIL, "a", 10, LEASE, NOW).await.unwrap();
        assert_eq!(leased.iter().map(|j| j.token.id).collect::<Vec<_>>(), ids);
        assert_eq!(leased[0].payload, r#"{"some":"json"}"#);
        assert!(queue.lease(MAIL, "b", 10, LEASE, NOW).await.unwrap().is_empty());
        let acks: Vec<_> = leased.iter().map(|j| (j.token, Verdict::Ack)).collect();
        assert!(queue.settle(MAIL, "a", &acks, NOW).await.unwrap().is_empty());
        assert_eq!(queue.depth(MAIL, NOW).await.unwrap(), vec![Depth::default(); 3]);
    });
}

fn a_known_id_is_not_pushed_twice(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        let one = job(100, NOW);
        assert_eq!(queue.push(MAIL, vec![one.clone()], NOW).await.unwrap(), 1);
        assert_eq!(queue.push(MAIL, vec![one.clone()], NOW).await.unwrap(), 0);
        let leased = lease(&queue, 10, NOW).await;
        assert_eq!(leased.len(), 1);
        assert_eq!(queue.push(MAIL, vec![one.clone()], NOW).await.unwrap(), 0, "known while leased");
        queue.settle(MAIL, "w", &[(leased[0], Verdict::Ack)], NOW).await.unwrap();
        assert_eq!(queue.push(MAIL, vec![one], NOW).await.unwrap(), 1, "unknown after its ack");
    });
}

fn a_job_is_not_visible_before_it_is_due(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        queue.push(MAIL, vec![job(100, NOW + LEASE)], NOW).await.unwrap();
        assert!(lease(&queue, 10, NOW).await.is_empty());
        assert_eq!(queue.depth(MAIL, NOW).await.unwrap()[1], Depth { ready: 0, delayed: 1, leased: 0 });
        assert_eq!(lease(&queue, 10, NOW + LEASE).await.len(), 1);
    });
}

fn a_stale_token_changes_nothing_and_says_so(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        push(&queue, 100, 1).await;
        let old = lease(&queue, 1, NOW).await[0];
        let later = NOW + LEASE;
        assert_eq!(queue.reap(MAIL, &[], later).await.unwrap(), 1);
        let new = queue.lease(MAIL, "w", 1, LEASE, later).await.unwrap()[0].token;
        assert_ne!(old, new);
        assert_eq!(queue.settle(MAIL, "w", &[(old, Verdict::Ack)], later).await.unwrap(), [old]);
        assert_eq!(queue.extend(MAIL, "w", &[old, new], LEASE, later).await.unwrap(), [old]);
        assert_eq!(queue.settle(MAIL, "other", &[(new, Verdict::Ack)], later).await.unwrap(), [new]);
        assert!(queue.settle(MAIL, "w", &[(new, Verdict::Ack)], later).await.unwrap().is_empty());
    });
}

fn an_extended_lease_is_not_reaped(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        push(&queue, 100, 1).await;
        let token = lease(&queue, 1, NOW).await[0];
        assert!(queue.extend(MAIL, "w", &[token], 2 * LEASE, NOW).await.unwrap().is_empty());
        assert_eq!(queue.reap(MAIL, &[], NOW + LEASE).await.unwrap(), 0);
        assert_eq!(queue.reap(MAIL, &[], NOW + 2 * LEASE).await.unwrap(), 1);
    });
}

fn a_dead_owners_leases_end_at_once_and_count(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        push(&queue, 100, 2).await;
        queue.lease(MAIL, "dead", 1, LEASE, NOW).await.unwrap();
        queue.lease(MAIL, "alive", 1, LEASE, NOW).await.unwrap();
        assert_eq!(queue.reap(MAIL, &["dead".into()], NOW).await.unwrap(), 1);
        let again = queue.lease(MAIL, "w", 10, LEASE, NOW).await.unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].expirations, 1);
    });
}

fn what_is_handed_back_comes_later_and_is_not_counted(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        push(&queue, 100, 1).await;
        let token = lease(&queue, 1, NOW).await[0];
        let at = NOW + Duration::from_secs(3);
        assert!(queue.settle(MAIL, "w", &[(token, Verdict::RetryAt(at))], NOW).await.unwrap().is_empty());
        assert!(lease(&queue, 1, NOW).await.is_empty());
        let again = queue.lease(MAIL, "w", 1, LEASE, at).await.unwrap();
        assert_eq!(again[0].expirations, 0);
    });
}

fn lanes_are_drawn_by_weight_and_none_starves(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        for priority in [10, 100, 500] {
            push(&queue, priority, 40).await;
        }
        let mut drawn = [0; 3];
        for _ in 0..24 {
            let jobs = queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap();
            drawn[match jobs[0].priority {
                10 => 0,
                100 => 1,
                _ => 2,
            }] += 1;
        }
        assert_eq!(drawn, [16, 6, 2]);
    });
}

fn an_empty_lanes_share_goes_to_the_others(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        push(&queue, 500, 30).await;
        assert_eq!(lease(&queue, 24, NOW).await.len(), 24);
        push(&queue, 1, 1).await;
        assert_eq!(queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap()[0].priority, 1, "urgent overtakes");
    });
}

fn within_a_lane_the_oldest_due_comes_first(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        let late = job(100, NOW);
        let early = job(100, NOW - Duration::from_secs(5));
        queue.push(MAIL, vec![late.clone(), early.clone()], NOW).await.unwrap();
        let order: Vec<Uuid> = lease(&queue, 2, NOW).await.iter().map(|t| t.id).collect();
        assert_eq!(order, [early.id, late.id]);
    });
}

fn two_lessees_at_once_share_without_overlap(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        push(&queue, 100, 100).await;
        let (a, b) = tokio::join!(queue.lease(MAIL, "a", 60, LEASE, NOW), queue.lease(MAIL, "b", 60, LEASE, NOW));
        let (a, b) = (a.unwrap(), b.unwrap());
        let mut ids: Vec<Uuid> = a.iter().chain(&b).map(|j| j.token.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), a.len() + b.len(), "no job has two holders");
        assert!(ids.len() >= 60);
    });
}

fn lists_do_not_mix(engine: Engine) {
    run(engine, async |db: Db| {
        let queue = TableQueue::new(db);
        queue.push(List::Analytics, vec![job(1, NOW), job(1000, NOW)], NOW).await.unwrap();
        assert!(lease(&queue, 10, NOW).await.is_empty());
        assert_eq!(queue.lease(List::Analytics, "w", 10, LEASE, NOW).await.unwrap().len(), 2);
        assert_eq!(queue.depth(List::Analytics, NOW).await.unwrap(), [Depth { ready: 0, delayed: 0, leased: 2 }]);
    });
}

on_every_engine! {
    a_job_is_leased_once_and_gone_after_its_ack
    a_known_id_is_not_pushed_twice
    a_job_is_not_visible_before_it_is_due
    a_stale_token_changes_nothing_and_says_so
    an_extended_lease_is_not_reaped
    a_dead_owners_leases_end_at_once_and_count
    what_is_handed_back_comes_later_and_is_not_counted
    lanes_are_drawn_by_weight_and_none_starves
    an_empty_lanes_share_goes_to_the_others
    within_a_lane_the_oldest_due_comes_first
    two_lessees_at_once_share_without_overlap
    lists_do_not_mix
}
