//! How fast a lane works, and so when a job that found it full comes again: spread as the lane will have room for them, so
//! that it is neither idle while they wait nor asked again and again while it is slow.
//!
//! Not responsible for how much a lane may hold (`lane`) or for connections (`domain::concurrency`). To change how soon
//! jobs come again: the constants.

use std::time::Duration;

use tokio::time::Instant;

/// Between two ends of jobs, where nothing has been seen yet.
const GUESS: Duration = Duration::from_millis(4);
/// A new interval counts so much of what was seen before.
const SMOOTHING: u32 = 16;
/// No job comes again sooner: each costs a turn of the lease.
const LEAST: Duration = Duration::from_millis(5);
/// No job waits longer, since the server may have become fast; thousands that wait for a slow one then come spread over the
/// second half of it.
const MOST: Duration = Duration::from_secs(10);

/// One lane's pace; every call says what time it is.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two ends of jobs, smoothed.
    interval: Duration,
    /// When the last job ended, or the lane, empty until then, got its first.
    moved_at: Instant,
    /// When the last of the jobs that were sent away comes again.
    booked_until: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { interval: GUESS, moved_at: now, booked_until: now }
    }

    /// The lane was empty and has work again: the time before says nothing.
    pub(super) fn begins(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// A job ended.
    pub(super) fn ends_one(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.moved_at);
        self.interval = (self.interval * (SMOOTHING - 1) + since) / SMOOTHING;
        self.moved_at = now;
    }

    /// How long a job waits that finds the lane full; `chance` in 0..1.
    ///
    /// Each takes the next place in time, a quarter closer than jobs end, so that some find it full again and it is never
    /// empty. While nothing ends at all, none comes before half of that time has passed once more: a lane that is still
    /// connecting is looked at soon, one behind a tarpit seldom.
    pub(super) fn wait(&mut self, now: Instant, chance: f64) -> Duration {
        let stalled = now.saturating_duration_since(self.moved_at);
        let place = self.booked_until.max(now) + self.interval * 3 / 4;
        let wait = place.saturating_duration_since(now).max(stalled / 2).max(LEAST);
        if wait >= MOST {
            return MOST.mul_f64(0.5 + chance / 2.0);
        }
        self.booked_until = place;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A lane that holds sixteen jobs and whose server takes one each `interval`, and so many jobs for it: how long it was
    /// idle, and how often a job found it full.
    fn play(jobs: usize, first: Duration, interval: Duration) -> (Duration, usize) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut waiting = vec![start; jobs];
        let (mut held, mut ends_at, mut now) = (0, start + first, start);
        let (mut idle, mut full) = (Duration::ZERO, 0);
        while !waiting.is_empty() || held > 0 {
            if held == 0 {
                idle += MS;
                ends_at = ends_at.max(now + interval);
            } else if now >= ends_at {
                held -= 1;
                pace.ends_one(now);
                ends_at = now + interval;
            }
            for comes_at in waiting.iter_mut().filter(|comes_at| **comes_at <= now) {
                if held < 16 {
                    held += 1;
                    *comes_at = start + Duration::from_secs(1_000_000);
                } else {
                    full += 1;
                    *comes_at = now + pace.wait(now, 0.5);
                }
            }
            waiting.retain(|comes_at| *comes_at < start + Duration::from_secs(1_000_000));
            now += MS;
        }
        (idle, full)
    }

    #[test]
    fn a_lane_is_hardly_idle_while_its_jobs_wait() {
        for (jobs, first, interval) in [
            (40, 2 * MS, 2 * MS),
            (100, 500 * MS, 5 * MS),
            (100, 5 * MS, 5 * MS),
            (200, 20 * MS, 20 * MS),
            (100, 300 * MS, 300 * MS),
        ] {
            let (idle, _) = play(jobs, first, interval);
            let work = first + interval * u32::try_from(jobs).unwrap();
            assert!(
                idle <= first + work / 5 + 20 * MS,
                "{jobs} jobs of {interval:?}, the first {first:?}: idle for {idle:?}"
            );
        }
    }

    #[test]
    fn a_slow_lane_is_not_asked_again_and_again() {
        // A hundred jobs of a second each: asked a few times for each job.
        let (_, full) = play(100, 1_000 * MS, 1_000 * MS);
        assert!(full < 1_500, "{full}");
        // Ten thousand that wait for a server that never answers: none sooner than five seconds, once that is known.
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let later = start + Duration::from_secs(30);
        let waits: Vec<Duration> = (0..10_000).map(|n| pace.wait(later, f64::from(n) / 10_000.0)).collect();
        assert!(waits.iter().all(|wait| (MOST / 2..=MOST).contains(wait)));
    }

    #[test]
    fn a_time_without_work_says_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begins(start + 3_600_000 * MS);
        pace.ends_one(start + 3_600_001 * MS);
        assert!(pace.interval < GUESS);
    }
}
