//! Handles of metrics: made at start and kept, so that counting is an atomic add, at most behind a look-up.
//!
//! `prometheus-client` locks in `Family::get_or_create` and in its histogram; hot paths must not. Not responsible for
//! names and meanings (`parts`). To add a kind of metric: its type here and a method of `Names`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry, Unit};

/// A gauge that may hold any number, NaN for one that is not known now.
pub(super) type Level = Gauge<f64, AtomicU64>;

type Labels = Vec<(&'static str, &'static str)>;

/// Upper bounds in seconds: from a reply on loopback to the ten minutes that a server has for its last answer.
const BOUNDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// How long something took, in buckets; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// One more than bounds: what took longer than all of them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Enough for 584 years.
    nanos: AtomicU64,
}

impl Latency {
    /// Counts one that took so long.
    pub(crate) fn observe(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(&self.0.counts).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        let seconds = Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed)).as_secs_f64();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Metrics of one name, told apart by words of closed sets.
pub(crate) struct Kept<M, const N: usize> {
    names: [&'static str; N],
    family: Family<Labels, M>,
    /// Made at start and never changed: nobody waits for anybody.
    kept: HashMap<[&'static str; N], M>,
}

impl<M: Clone + Default, const N: usize> Kept<M, N> {
    fn new(names: [&'static str; N], members: impl IntoIterator<Item = [&'static str; N]>) -> Self {
        let family = Family::<Labels, M>::default();
        let make = |words| (words, family.get_or_create_owned(&labels(names, words)));
        Self { names, kept: members.into_iter().map(make).collect(), family }
    }

    /// One that was not foreseen is made now: a count is never lost.
    fn with(&self, words: [&'static str; N], act: impl FnOnce(&M)) {
        match self.kept.get(&words) {
            Some(metric) => act(metric),
            None => act(&self.family.get_or_create(&labels(self.names, words))),
        }
    }
}

fn labels<const N: usize>(names: [&'static str; N], words: [&'static str; N]) -> Labels {
    names.into_iter().zip(words).collect()
}

impl<const N: usize> Kept<Counter, N> {
    /// Counts one more.
    pub(crate) fn inc(&self, words: [&'static str; N]) {
        self.add(words, 1);
    }

    /// Counts so many more.
    pub(crate) fn add(&self, words: [&'static str; N], many: u64) {
        self.with(words, |counter| {
            counter.inc_by(many);
        });
    }
}

impl<const N: usize> Kept<Latency, N> {
    /// Counts one that took so long.
    pub(crate) fn observe(&self, words: [&'static str; N], took: Duration) {
        self.with(words, |latency| latency.observe(took));
    }
}

impl<const N: usize> Kept<Level, N> {
    /// Says how it stands now.
    pub(super) fn set(&self, words: [&'static str; N], value: f64) {
        self.with(words, |level| {
            level.set(value);
        });
    }
}

/// Where names are registered; a full stop is set behind each meaning.
pub(super) struct Names<'a>(&'a mut Registry);

impl<'a> Names<'a> {
    pub(super) fn new(registry: &'a mut Registry) -> Self {
        Self(registry)
    }

    /// One handle of a metric that has no labels. Counters get `_total` behind their name.
    pub(super) fn one<M: Metric + Clone + Default>(&mut self, name: &str, meaning: &str) -> M {
        let metric = M::default();
        self.0.register(name, meaning, metric.clone());
        metric
    }

    /// The same with a unit, which stands behind its name.
    pub(super) fn one_in<M: Metric + Clone + Default>(&mut self, name: &str, unit: Unit, meaning: &str) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, meaning, unit, metric.clone());
        metric
    }

    /// Handles of a metric with labels, one for each of `members`.
    pub(super) fn many<M, const N: usize>(
        &mut self,
        name: &str,
        names: [&'static str; N],
        members: impl IntoIterator<Item = [&'static str; N]>,
        meaning: &str,
    ) -> Kept<M, N>
    where
        M: Metric + TypedMetric + Clone + Default,
        Family<Labels, M>: Metric,
    {
        let kept = Kept::new(names, members);
        self.0.register(name, meaning, kept.family.clone());
        kept
    }

    /// The same with a unit, which stands behind its name.
    pub(super) fn many_in<M, const N: usize>(
        &mut self,
        name: &str,
        unit: Unit,
        names: [&'static str; N],
        members: impl IntoIterator<Item = [&'static str; N]>,
        meaning: &str,
    ) -> Kept<M, N>
    where
        M: Metric + TypedMetric + Clone + Default,
        Family<Labels, M>: Metric,
    {
        let kept = Kept::new(names, members);
        self.0.register_with_unit(name, meaning, unit, kept.family.clone());
        kept
    }

    /// The program's version, as a label of a gauge that is always 1.
    pub(super) fn build_info(&mut self) {
        let info: Kept<Level, 1> =
            self.many("build_info", ["version"], [[env!("CARGO_PKG_VERSION")]], "Always 1; its label is the version");
        info.set([env!("CARGO_PKG_VERSION")], 1.0);
    }
}
