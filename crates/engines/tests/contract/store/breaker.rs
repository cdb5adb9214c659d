//! An account's breaker in the ledger: of all who could send its probe one does, and what comes of it decides.

use std::time::Duration;

use domain::email_account::{AccountStatus, Breaker};
use domain::reason::Reason;
use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::Store;
use engines::queue::Lane;
use engines::store::apply::Applied;
use engines::store::breaker::Probe;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;

use super::scene::{MINUTE, Scene, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

const LEASE: Duration = Duration::from_secs(60);
/// The first wait is over.
const OVER: Timestamp = Timestamp::from_micros(NOW.micros() + 60_000_000);

/// An account with three due sends whose first could not be handed over; the sends as P3 read them before.
async fn backed_off(store: Store) -> (Scene, Vec<SendJob>) {
    let f = Scene::started(store, 3, |_| {}).await;
    let jobs = f.jobs(NOW).await;
    assert!(jobs.iter().all(|job| job.breaker == Breaker::Closed));
    fails(&f, &jobs[0], NOW).await;
    (f, jobs)
}

/// Its server cannot be reached for this send.
async fn fails(f: &Scene, job: &SendJob, now: Timestamp) {
    let mut unreachable = result(job, job.fence, Outcome::Refused(ReplyAction::BackOffAccount), now);
    unreachable.was_dot = false;
    assert_eq!(f.apply(&[unreachable], now).await, [Applied::Done]);
}

async fn breaker(f: &Scene, job: &SendJob, now: Timestamp) -> (Breaker, u32) {
    let pace = f.tenant().get_account(f.account_of(job)).await.unwrap().pace;
    (Breaker::of(pace.backoff_failures, pace.backoff_until, now), pace.backoff_failures)
}

/// The probe that this send would be.
fn probe_of(job: &SendJob, now: Timestamp) -> Probe {
    Probe::needed_by(job, now + LEASE).unwrap()
}

async fn is_claimed(f: &Scene, job: &SendJob, now: Timestamp) -> bool {
    !f.store.system().claim_probes(&[probe_of(job, now)], now).await.unwrap().is_empty()
}

fn one_of_many_claims_the_probe_and_a_lost_claim_ends_by_itself(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, jobs) = backed_off(store).await;
        for job in &jobs {
            assert!(f.refetch(job, OVER - MINUTE / 60).await.is_none(), "its wait is not over");
        }
        let mut seen = Vec::new();
        for job in &jobs {
            seen.push(f.refetch(job, OVER).await.unwrap());
        }
        assert!(seen.iter().all(|job| job.breaker == Breaker::HalfOpen && job.account_failures == 1));
        let (a, b, c) = tokio::join!(
            is_claimed(&f, &seen[0], OVER),
            is_claimed(&f, &seen[1], OVER),
            is_claimed(&f, &seen[2], OVER)
        );
        assert_eq!(usize::from(a) + usize::from(b) + usize::from(c), 1, "one probe");
        for job in &jobs {
            assert!(f.refetch(job, OVER + LEASE / 2).await.is_none(), "nobody else begins");
        }
        let later = OVER + LEASE;
        let next = f.refetch(&jobs[1], later).await.unwrap();
        assert!(is_claimed(&f, &next, later).await, "its owner died");
        assert!(!is_claimed(&f, &seen[0], later).await);
    });
}

fn only_the_probe_gets_a_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, jobs) = backed_off(store).await;
        let before = jobs[1].clone();
        let why = async |now| f.store.system().why_refused(&[f.request(&before, now)], now).await.unwrap();
        assert_eq!(f.dot(&before, NOW).await, DotAnswer::Refused, "it was read before the wait began");
        assert_eq!(why(NOW).await, [Some(Reason::AccountBackoff)]);
        let probe = f.refetch(&jobs[2], OVER).await.unwrap();
        assert!(is_claimed(&f, &probe, OVER).await);
        assert_eq!(f.dot(&before, OVER).await, DotAnswer::Refused, "its wait is over, and it is not the probe");
        assert_eq!(why(OVER).await, [Some(Reason::AccountBackoff)]);
        let fence = f.granted(&probe, OVER).await;
        f.settled(&probe, fence, Outcome::Accepted, OVER).await;
        assert_eq!(breaker(&f, &probe, OVER).await, (Breaker::Closed, 0));
        f.granted(&before, OVER).await;
    });
}

fn a_probe_that_fails_waits_for_the_next_rung_and_an_older_failure_lowers_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, jobs) = backed_off(store).await;
        let probe = f.refetch(&jobs[0], OVER).await.unwrap();
        assert!(is_claimed(&f, &probe, OVER).await);
        fails(&f, &probe, OVER).await;
        assert_eq!(breaker(&f, &probe, OVER).await, (Breaker::Open(OVER + 2 * MINUTE), 2));
        // A connection that had begun before the first wait ends late.
        fails(&f, &jobs[1], OVER).await;
        assert_eq!(breaker(&f, &probe, OVER).await.1, 2);
        let next = f.refetch(&jobs[2], OVER + 2 * MINUTE).await.unwrap();
        assert_eq!((next.breaker, next.account_failures), (Breaker::HalfOpen, 2));
        let ended = f.store.system().end_probes(&[probe_of(&probe, OVER)], OVER).await.unwrap();
        assert_eq!(ended, 0, "its result stands");
    });
}

fn a_probe_that_shows_nothing_is_given_back_or_kept(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, jobs) = backed_off(store).await;
        let job = f.refetch(&jobs[0], OVER).await.unwrap();
        let claim = probe_of(&job, OVER);
        assert!(is_claimed(&f, &job, OVER).await);
        let kept = f.store.system().keep_probes(&[claim], OVER + 2 * LEASE).await.unwrap();
        assert_eq!(kept, [f.account_of(&job)]);
        assert!(f.refetch(&job, OVER + LEASE).await.is_none(), "a long dialogue keeps its claim");
        assert!(f.store.system().keep_probes(&[claim], OVER + 3 * LEASE).await.unwrap().is_empty(), "an old one");
        let claim = Probe { until: OVER + 2 * LEASE, ..claim };
        assert_eq!(f.store.system().end_probes(&[claim], OVER + MINUTE).await.unwrap(), 1);
        assert_eq!(breaker(&f, &job, OVER + MINUTE).await, (Breaker::HalfOpen, 1));
        let next = f.refetch(&job, OVER + MINUTE).await.unwrap();
        assert!(is_claimed(&f, &next, OVER + MINUTE).await, "the next probe");
    });
}

fn what_waited_for_the_probe_gets_hints_at_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, jobs) = backed_off(store).await;
        let system = f.store.system();
        let hints = async |now: Timestamp| system.reconcile(Lane::Base, 1, now - MINUTE, 10, now).await.unwrap().len();
        // Hints of all three are dropped by workers that lost the race for the probe.
        let over = OVER + 2 * MINUTE;
        assert_eq!(hints(over).await, 3);
        let probe = f.refetch(&jobs[0], over).await.unwrap();
        assert!(is_claimed(&f, &probe, over).await);
        assert_eq!(hints(over).await, 0);
        let fence = f.granted(&probe, over).await;
        f.settled(&probe, fence, Outcome::Accepted, over).await;
        assert_eq!(hints(over).await, 2, "without waiting until the old ones count as lost");
    });
}

/// Two connections of one account, told different things at once.
fn what_needs_a_person_is_undone_by_no_other_result_of_the_batch(engine: Engine) {
    for order in [[0, 1], [1, 0]] {
        with_store(engine, async |store: Store| {
            let f = Scene::started(store, 2, |_| {}).await;
            let jobs = f.jobs(NOW).await;
            let ends = order.map(|n| {
                let action = [ReplyAction::AuthFailed, ReplyAction::BackOffAccount][n];
                let mut end = result(&jobs[n], jobs[n].fence, Outcome::Refused(action), NOW);
                end.was_dot = false;
                end
            });
            assert_eq!(f.apply(&ends, NOW).await, [Applied::Done; 2]);
            let account = f.tenant().get_account(f.account_of(&jobs[0])).await.unwrap();
            assert_eq!(account.status, AccountStatus::AuthenticationFailed, "{order:?}");
        });
    }
}

fn a_day_without_quota_is_shortened_by_no_failure(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        let mut quota = result(&jobs[0], jobs[0].fence, Outcome::Refused(ReplyAction::PauseUntilWindow), NOW);
        quota.was_dot = false;
        assert_eq!(f.apply(&[quota], NOW).await, [Applied::Done]);
        let until = async || f.tenant().get_account(f.account_of(&jobs[0])).await.unwrap().pace.backoff_until.unwrap();
        let tomorrow = until().await;
        assert!(tomorrow > NOW + 2 * MINUTE);
        fails(&f, &jobs[1], NOW).await;
        assert_eq!(until().await, tomorrow);
    });
}

on_every_engine! {
    what_needs_a_person_is_undone_by_no_other_result_of_the_batch
    a_day_without_quota_is_shortened_by_no_failure
    one_of_many_claims_the_probe_and_a_lost_claim_ends_by_itself
    only_the_probe_gets_a_dot
    a_probe_that_fails_waits_for_the_next_rung_and_an_older_failure_lowers_nothing
    a_probe_that_shows_nothing_is_given_back_or_kept
    what_waited_for_the_probe_gets_hints_at_once
}
