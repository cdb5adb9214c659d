//! What the process counts and measures, as handles that its parts hold, and as Prometheus text.
//!
//! Not responsible for what is worth counting: that is said where it happens. Nothing is labelled by tenant, campaign
//! or account, so the series are bounded. Every process has every metric; those of parts that do not run stay 0.
//! To add a metric: a field with its name and meaning in the group it belongs to, then `docs/metrics.md` anew.

mod handles;
mod parts;
mod process;
mod sample;
mod text;

use domain::time::Timestamp;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use handles::Names;
pub(crate) use parts::{Hit, Kind, PAYLOAD, word};
pub(crate) use text::{Described, page};

/// Everything that is counted, by the part that counts it.
pub(crate) struct Metrics {
    /// Names with our prefix.
    own: Registry,
    /// The names that every Prometheus client has for processes.
    process: Registry,
    /// The scheduler's turns.
    pub(crate) scheduler: parts::Scheduler,
    /// From a hint to its result.
    pub(crate) worker: parts::Worker,
    /// The public tracking API and the events behind it.
    pub(crate) tracking: parts::Tracking,
    /// The database, seen from here.
    pub(crate) database: parts::Database,
    /// The queue, seen from here.
    pub(crate) queue: parts::Queue,
    /// The cron route.
    pub(crate) cron: parts::Cron,
    /// What is read when somebody asks.
    sampled: sample::Sampled,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let (mut own, mut process) = (Registry::with_prefix("penguinmails"), Registry::default());
        let mut names = Names::new(&mut own);
        names.build_info();
        let (scheduler, worker) = (parts::Scheduler::new(&mut names), parts::Worker::new(&mut names));
        let (tracking, database) = (parts::Tracking::new(&mut names), parts::Database::new(&mut names));
        let (queue, cron) = (parts::Queue::new(&mut names), parts::Cron::new(&mut names));
        let sampled = sample::Sampled::new(&mut names, &mut Names::new(&mut process));
        Self { own, process, scheduler, worker, tracking, database, queue, cron, sampled }
    }

    /// Says when the process began.
    pub(crate) fn began(&self, at: Timestamp) {
        self.sampled.started_at.set(at.micros() as f64 / 1e6);
    }

    /// Prometheus text format 0.0.4.
    pub(crate) fn text(&self) -> String {
        text::to_prometheus(&self.open_metrics())
    }

    /// Name, type, unit, labels and meaning of each metric.
    pub(crate) fn describe(&self) -> Vec<Described> {
        text::describe(&self.open_metrics())
    }

    fn open_metrics(&self) -> String {
        let mut text = String::new();
        for registry in [&self.own, &self.process] {
            encode_registry(&mut text, registry).expect("writing into a string does not fail");
        }
        text
    }
}

#[cfg(test)]
mod tests;
