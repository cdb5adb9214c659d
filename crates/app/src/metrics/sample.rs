//! What is read when somebody asks: the queue, the spool, the loops, the process.
//!
//! Between two scrapes nobody pays for it. Not responsible for what is counted as it happens (`parts`).
//! To add one: a field, its line in `new` and in `sample`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engines::queue::{Depth, Lane, List};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Unit;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::handles::{Kept, Level, Names};
use super::{Metrics, process};
use crate::context::Context;
use crate::liveness::{Loop, State};
use crate::tracking;

/// How long queue and ledger may take to say how full they are.
const LIMIT: Duration = Duration::from_secs(2);
/// Whoever asks again within this time gets the same numbers: counting a long queue costs the database something.
const FRESH: Duration = Duration::from_secs(1);

const LISTS: [List; 2] = [List::EmailSending, List::Analytics];

pub(super) struct Sampled {
    /// When the last look ended; held while one goes on.
    looked: Mutex<Option<Instant>>,
    queue: Kept<Level, 3>,
    dead_letters: Level,
    spool: Level,
    loops: Kept<Level, 1>,
    resident: Level,
    virtual_memory: Level,
    cpu: Counter<f64, AtomicU64>,
    open_fds: Level,
    max_fds: Level,
    pub(super) started_at: Level,
}

const fn lane(lane: Lane) -> &'static str {
    match lane {
        Lane::High => "high",
        Lane::Base => "base",
        Lane::Low => "low",
    }
}

impl Sampled {
    pub(super) fn new(own: &mut Names<'_>, process: &mut Names<'_>) -> Self {
        let lanes = LISTS.iter().flat_map(|list| list.lanes().iter().map(|l| (list.name(), lane(*l))));
        let all = lanes.flat_map(|(list, lane)| ["ready", "delayed", "leased"].map(|state| [list, lane, state]));
        Self {
            looked: Mutex::new(None),
            queue: own.many(
                "queue_jobs",
                ["queue", "lane", "state"],
                all,
                "Jobs on the queue: visible now, visible later, or leased to somebody",
            ),
            dead_letters: own.one("dead_letters_waiting", "Dead letters that nobody has replayed"),
            spool: own.one("spool_files", "Files of events that wait for the queue in this process's data directory"),
            loops: own.many_in(
                "loop_busy",
                Unit::Seconds,
                ["loop"],
                Loop::ALL.map(|of| [of.as_str()]),
                "How long a loop has been at one thing; 0 while it waits or does not run, infinite after it ended",
            ),
            resident: process.one_in("process_resident_memory", Unit::Bytes, "Resident memory"),
            virtual_memory: process.one_in("process_virtual_memory", Unit::Bytes, "Virtual memory"),
            cpu: process.one_in(
                "process_cpu",
                Unit::Seconds,
                "Processor time, of the program and of the system for it",
            ),
            open_fds: process.one("process_open_fds", "Open file descriptors"),
            max_fds: process.one("process_max_fds", "Most file descriptors that it may open"),
            started_at: process.one_in("process_start_time", Unit::Seconds, "When it began, since 1970-01-01 UTC"),
        }
    }
}

impl Metrics {
    /// Looks again at what is only read when asked for, unless somebody has just done so.
    pub(crate) async fn sample(&self, ctx: &Context) {
        let mut looked = self.sampled.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        self.sample_queue(ctx).await;
        self.sample_process(ctx);
        *looked = Some(Instant::now());
    }

    async fn sample_queue(&self, ctx: &Context) {
        let now = ctx.clock.now();
        for list in LISTS {
            for of in list.lanes() {
                let depth = timeout(LIMIT, ctx.queue.depth(list, *of, now)).await.ok().and_then(Result::ok);
                let value = |read: fn(&Depth) -> u64| depth.as_ref().map_or(f64::NAN, |depth| read(depth) as f64);
                let set = |state, value| self.sampled.queue.set([list.name(), lane(*of), state], value);
                set("ready", value(|depth| depth.ready));
                set("delayed", value(|depth| depth.delayed));
                set("leased", value(|depth| depth.leased));
            }
        }
        let dead = timeout(LIMIT, ctx.store.system().count_dead_letters()).await.ok().and_then(Result::ok);
        self.sampled.dead_letters.set(dead.map_or(f64::NAN, |count| count as f64));
    }

    fn sample_process(&self, ctx: &Context) {
        let sampled = &self.sampled;
        sampled.spool.set(tracking::spooled_files(ctx) as f64);
        for of in Loop::ALL {
            let busy = match ctx.liveness.state(of) {
                State::Absent | State::Waiting => 0.0,
                State::Busy(since) => since.as_secs_f64(),
                State::Ended => f64::INFINITY,
            };
            sampled.loops.set([of.as_str()], busy);
        }
        let usage = process::read();
        sampled.resident.set(usage.resident_bytes);
        sampled.virtual_memory.set(usage.virtual_bytes);
        sampled.cpu.inner().store(usage.cpu_seconds.to_bits(), Ordering::Relaxed);
        sampled.open_fds.set(usage.open_fds);
        sampled.max_fds.set(usage.max_fds);
    }
}
