//! The queue's contract (`engines::queue`), case by case.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use domain::time::Timestamp;
use engines::queue::{Depth, Job, Leased, List, Queue, Token, Verdict};
use uuid::Uuid;

use crate::engine::{NOW, new_id};
use crate::on_every_queue;
use crate::queue_engine::{QueueEngine, depths, with_queue};

const LEASE: Duration = Duration::from_secs(60);
const MAIL: List = List::EmailSending;

/// A job whose payload says its id and priority, as a send's does.
fn job(priority: u16, not_before: Timestamp) -> Job {
    let id = new_id();
    Job { id, payload: format!(r#"{{"sendId":"{id}","priority":{priority}}}"#), priority, not_before }
}

async fn push(queue: &Arc<dyn Queue>, priority: u16, count: usize) -> Vec<Uuid> {
    let jobs: Vec<Job> = (0..count).map(|_| job(priority, NOW)).collect();
    let ids = jobs.iter().map(|job| job.id).collect();
    assert_eq!(queue.push(MAIL, jobs, NOW).await.unwrap(), count as u64);
    ids
}

async fn lease(queue: &Arc<dyn Queue>, max: usize, now: Timestamp) -> Vec<Token> {
    queue.lease(MAIL, "w", max, LEASE, now).await.unwrap().into_iter().map(|job| job.token).collect()
}

fn a_job_is_leased_once_and_gone_after_its_ack(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        let ids = push(&queue, 100, 3).await;
        let leased = queue.lease(MAIL, "a", 10, LEASE, NOW).await.unwrap();
        assert_eq!(leased.iter().map(|j| j.token.id).collect::<Vec<_>>(), ids);
        assert_eq!(leased[0].payload, format!(r#"{{"sendId":"{}","priority":100}}"#, ids[0]));
        assert!(queue.lease(MAIL, "b", 10, LEASE, NOW).await.unwrap().is_empty());
        let acks: Vec<_> = leased.iter().map(|j| (j.token, Verdict::Ack)).collect();
        assert!(queue.settle(MAIL, "a", &acks, NOW).await.unwrap().is_empty());
        assert_eq!(depths(&*queue, MAIL, NOW).await, vec![Depth::default(); 3]);
    });
}

fn a_known_id_is_not_pushed_twice(engine: QueueEngine) {
    with_queue(engine, async |queue| {
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

fn a_payload_that_does_not_say_its_id_is_kept_as_it_is(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        let bare = || Job { id: new_id(), payload: r#"{"some":"json"}"#.into(), priority: 700, not_before: NOW };
        let (a, b) = (bare(), bare());
        assert_eq!(queue.push(MAIL, vec![a.clone(), b.clone()], NOW).await.unwrap(), 2, "equal, and two jobs");
        assert_eq!(queue.push(MAIL, vec![b.clone()], NOW).await.unwrap(), 0);
        let leased = queue.lease(MAIL, "w", 10, LEASE, NOW).await.unwrap();
        let found: Vec<_> = leased.iter().map(|j| (j.token.id, j.payload.as_str(), j.priority)).collect();
        assert_eq!(found, [(a.id, a.payload.as_str(), 700), (b.id, b.payload.as_str(), 700)]);
    });
}

fn one_push_and_one_lease_may_be_large(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        let mut ids = push(&queue, 100, 2500).await;
        let mut taken = Vec::new();
        while taken.len() < ids.len() {
            let tokens = lease(&queue, 5000, NOW).await;
            assert!(!tokens.is_empty());
            taken.extend(tokens);
        }
        assert!(queue.extend(MAIL, "w", &taken, 2 * LEASE, NOW).await.unwrap().is_empty());
        assert_eq!(queue.reap(MAIL, &["w".into()], NOW).await.unwrap(), 2500);
        let (mut again, mut taken) = (Vec::new(), Vec::new());
        while again.len() < ids.len() {
            let jobs = queue.lease(MAIL, "w", 5000, LEASE, NOW).await.unwrap();
            assert!(jobs.iter().all(|job| job.expirations == 1) && !jobs.is_empty());
            again.extend(jobs.iter().map(|job| (job.token, Verdict::Ack)));
            taken.extend(jobs.iter().map(|job| job.token.id));
        }
        taken.sort_unstable();
        ids.sort_unstable();
        assert_eq!(taken, ids);
        assert!(queue.settle(MAIL, "w", &again, NOW).await.unwrap().is_empty());
        assert_eq!(depths(&*queue, MAIL, NOW).await, vec![Depth::default(); 3]);
    });
}

fn deliveries_without_a_result_are_counted_whatever_comes_between(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        let id = push(&queue, 100, 1).await[0];
        for expected in 0..3 {
            let job = queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap().remove(0);
            assert_eq!((job.token.id, job.priority, job.expirations), (id, 100, expected));
            queue.settle(MAIL, "w", &[(job.token, Verdict::RetryAt(NOW))], NOW).await.unwrap();
            assert_eq!(queue.push(MAIL, vec![Job { id, ..job_of(&job) }], NOW).await.unwrap(), 0, "still known");
            assert_eq!(lease(&queue, 1, NOW).await.len(), 1);
            assert_eq!(queue.reap(MAIL, &["w".into()], NOW).await.unwrap(), 1);
        }
    });
}

fn job_of(leased: &Leased) -> Job {
    Job { id: leased.token.id, payload: leased.payload.clone(), priority: leased.priority, not_before: NOW }
}

fn a_mixed_batch_is_settled_job_by_job(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        for priority in [10, 100, 500] {
            push(&queue, priority, 2).await;
        }
        let tokens = lease(&queue, 6, NOW).await;
        let verdict = |i: usize| if i.is_multiple_of(2) { Verdict::Ack } else { Verdict::RetryAt(NOW + LEASE) };
        let verdicts: Vec<_> = tokens.iter().enumerate().map(|(i, token)| (*token, verdict(i))).collect();
        assert!(queue.settle(MAIL, "w", &verdicts, NOW).await.unwrap().is_empty());
        let stale: HashSet<Token> = queue.settle(MAIL, "w", &verdicts, NOW).await.unwrap().into_iter().collect();
        assert_eq!(stale, tokens.into_iter().collect(), "all of them are settled");
        assert_eq!(depths(&*queue, MAIL, NOW).await.iter().map(|lane| lane.delayed).sum::<u64>(), 3);
    });
}

fn a_reaped_job_goes_to_its_own_lane(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        for priority in [10, 100, 500] {
            push(&queue, priority, 1).await;
        }
        assert_eq!(lease(&queue, 3, NOW).await.len(), 3);
        assert_eq!(queue.reap(MAIL, &[], NOW + LEASE).await.unwrap(), 3);
        let one = Depth { ready: 1, delayed: 0, leased: 0 };
        assert_eq!(depths(&*queue, MAIL, NOW + LEASE).await, [one, one, one]);
    });
}

fn the_epoch_stays_while_nothing_is_lost(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        let epoch = queue.epoch(MAIL).await.unwrap();
        push(&queue, 100, 1).await;
        lease(&queue, 1, NOW).await;
        assert_eq!(queue.epoch(MAIL).await.unwrap(), epoch);
    });
}

fn a_job_is_not_visible_before_it_is_due(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        queue.push(MAIL, vec![job(100, NOW + LEASE)], NOW).await.unwrap();
        assert!(lease(&queue, 10, NOW).await.is_empty());
        assert_eq!(depths(&*queue, MAIL, NOW).await[1], Depth { ready: 0, delayed: 1, leased: 0 });
        assert_eq!(lease(&queue, 10, NOW + LEASE).await.len(), 1);
    });
}

fn a_stale_token_changes_nothing_and_says_so(engine: QueueEngine) {
    with_queue(engine, async |queue| {
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

fn an_extended_lease_is_not_reaped(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        push(&queue, 100, 1).await;
        let token = lease(&queue, 1, NOW).await[0];
        assert!(queue.extend(MAIL, "w", &[token], 2 * LEASE, NOW).await.unwrap().is_empty());
        assert_eq!(queue.reap(MAIL, &[], NOW + LEASE).await.unwrap(), 0);
        assert_eq!(queue.reap(MAIL, &[], NOW + 2 * LEASE).await.unwrap(), 1);
    });
}

fn a_dead_owners_leases_end_at_once_and_count(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        push(&queue, 100, 2).await;
        queue.lease(MAIL, "dead", 1, LEASE, NOW).await.unwrap();
        queue.lease(MAIL, "alive", 1, LEASE, NOW).await.unwrap();
        assert_eq!(queue.reap(MAIL, &["dead".into()], NOW).await.unwrap(), 1);
        let again = queue.lease(MAIL, "w", 10, LEASE, NOW).await.unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].expirations, 1);
    });
}

fn what_is_handed_back_comes_later_and_is_not_counted(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        push(&queue, 100, 1).await;
        let token = lease(&queue, 1, NOW).await[0];
        let at = NOW + Duration::from_secs(3);
        assert!(queue.settle(MAIL, "w", &[(token, Verdict::RetryAt(at))], NOW).await.unwrap().is_empty());
        assert!(lease(&queue, 1, NOW).await.is_empty());
        let again = queue.lease(MAIL, "w", 1, LEASE, at).await.unwrap();
        assert_eq!(again[0].expirations, 0);
    });
}

fn lanes_are_drawn_by_weight_and_none_starves(engine: QueueEngine) {
    with_queue(engine, async |queue| {
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

fn an_empty_lanes_share_goes_to_the_others(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        push(&queue, 500, 30).await;
        assert_eq!(lease(&queue, 24, NOW).await.len(), 24);
        push(&queue, 1, 1).await;
        assert_eq!(queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap()[0].priority, 1, "urgent overtakes");
    });
}

fn within_a_lane_the_oldest_due_comes_first(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        let late = job(100, NOW);
        let early = job(100, NOW - Duration::from_secs(5));
        queue.push(MAIL, vec![late.clone(), early.clone()], NOW).await.unwrap();
        let order: Vec<Uuid> = lease(&queue, 2, NOW).await.iter().map(|t| t.id).collect();
        assert_eq!(order, [early.id, late.id]);
    });
}

fn two_lessees_at_once_share_without_overlap(engine: QueueEngine) {
    with_queue(engine, async |queue| {
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

fn lists_do_not_mix(engine: QueueEngine) {
    with_queue(engine, async |queue| {
        queue.push(List::Analytics, vec![job(1, NOW), job(1000, NOW)], NOW).await.unwrap();
        assert!(lease(&queue, 10, NOW).await.is_empty());
        assert_eq!(queue.lease(List::Analytics, "w", 10, LEASE, NOW).await.unwrap().len(), 2);
        assert_eq!(depths(&*queue, List::Analytics, NOW).await, [Depth { ready: 0, delayed: 0, leased: 2 }]);
    });
}

on_every_queue! {
    a_job_is_leased_once_and_gone_after_its_ack
    a_known_id_is_not_pushed_twice
    a_payload_that_does_not_say_its_id_is_kept_as_it_is
    one_push_and_one_lease_may_be_large
    deliveries_without_a_result_are_counted_whatever_comes_between
    a_mixed_batch_is_settled_job_by_job
    a_reaped_job_goes_to_its_own_lane
    the_epoch_stays_while_nothing_is_lost
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
