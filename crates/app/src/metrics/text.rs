//! The metrics as text: Prometheus 0.0.4 for scrapes, and the page that documents them, both from one encoding.
//!
//! `prometheus-client` writes OpenMetrics, whose counters are declared without `_total`; to the older format, which
//! every scraper and `promtool` reads, such a name is another metric. Not responsible for names or values.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// The same metrics in Prometheus text format 0.0.4.
pub(super) fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(meaning) = line.strip_prefix("# HELP ") {
            // Its type stands in the next line and decides its name.
            help = meaning.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, meaning)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {meaning}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# UNIT ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// What is known of a metric.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    /// As a query names it.
    name: String,
    /// `counter`, `gauge` or `histogram`.
    #[serde(rename = "type")]
    kind: String,
    /// `seconds`, `bytes` or nothing.
    unit: Option<String>,
    /// Each label with the words that it has.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// What it tells.
    meaning: String,
}

/// Reads what a process would serve.
pub(super) fn describe(open_metrics: &str) -> Vec<Described> {
    let mut found: Vec<Described> = Vec::new();
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some((_, meaning)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = meaning;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            found.push(Described {
                name: format!("{name}{suffix}"),
                kind: kind.to_owned(),
                unit: None,
                labels: BTreeMap::new(),
                meaning: help.to_owned(),
            });
        } else if let Some(metric) = found.last_mut() {
            if let Some((_, unit)) = line.strip_prefix("# UNIT ").and_then(|rest| rest.split_once(' ')) {
                metric.unit = Some(unit.to_owned());
            } else if let Some((_, rest)) = line.split_once('{') {
                note_labels(&mut metric.labels, rest);
            }
        }
    }
    found
}

/// Our labels hold plain words: nothing is escaped.
fn note_labels(labels: &mut BTreeMap<String, BTreeSet<String>>, text: &str) {
    let inside = text.split_once('}').map_or("", |(inside, _)| inside);
    for (name, value) in inside.split(',').filter_map(|pair| pair.split_once('=')) {
        if name != "le" {
            labels.entry(name.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
}

const HEAD: &str = "\
# Metrics

Every process that listens (`API_LISTEN`, `HEALTH_LISTEN`) answers `GET /metrics` in Prometheus text format 0.0.4.
Every process has every metric; those of parts that do not run in it stay at 0. Nothing is labelled by tenant, campaign
or account. Gauges of the queue and the ledger are the same in every process that shares them: take `max`, not `sum`;
one that cannot be read now is `NaN`. Histograms have buckets from 1 ms to 10 min.

This page is made by `penguinmails schema metrics`; a test keeps it in step.

| name | type | unit | labels | meaning |
|---|---|---|---|---|
";

/// The page, in Markdown.
pub(crate) fn page(metrics: &[Described]) -> String {
    let mut text = HEAD.to_owned();
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|(name, words)| label(name, words)).collect();
        let (name, kind, unit) = (&metric.name, &metric.kind, metric.unit.as_deref().unwrap_or(""));
        text.push_str(&format!("| `{name}` | {kind} | {unit} | {} | {} |\n", labels.join("; "), metric.meaning));
    }
    text
}

fn label(name: &str, words: &BTreeSet<String>) -> String {
    if name == "version" {
        return format!("`{name}`");
    }
    let words: Vec<&str> = words.iter().map(|word| if word.is_empty() { "(none)" } else { word }).collect();
    format!("`{name}`: {}", words.join(", "))
}
