//! Logs: one line an event on stderr, message first, fields behind it; or one JSON object a line.
//!
//! Not responsible for what is logged: that is decided where something is handled. Per-job lines have the target
//! `jobs` and can be silenced (`log.jobs = false`). Never pass an address, token or body as a field.
//! To add a format: a word in `config::LogFormat` and an arm in `init`.

use std::fmt;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::Clock;
use crate::config::{Config, LogFormat};

/// Target of the lines that are written for every job and event.
pub(crate) const JOBS: &str = "jobs";

/// The clock of the log lines: process time, so that they agree with the ledger.
struct ProcessTime(Clock);

impl FormatTime for ProcessTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", self.0.now())
    }
}

/// What the first `init` chose.
static STARTED: OnceLock<LogFormat> = OnceLock::new();

/// Whether stderr holds JSON: as logging was started, or else as it was asked for.
pub(crate) fn is_json(asked: Option<LogFormat>) -> bool {
    STARTED.get().copied().or(asked) == Some(LogFormat::Json)
}

/// Starts logging for this process; a second call changes nothing.
pub(crate) fn init(config: &Config, clock: &Clock) {
    let mut directives = config.log_level.clone();
    if !config.settings.log.jobs {
        directives = format!("{directives},{JOBS}=warn");
    }
    // Checked when the configuration was read.
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(ProcessTime(clock.clone()))
        // A reader of stderr that went away must not bring the process down, least of all while it stops.
        .log_internal_errors(false)
        .with_target(false);
    let started = match config.settings.log.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_current_span(false).try_init(),
    };
    if started.is_ok() {
        let format = *STARTED.get_or_init(|| config.settings.log.format);
        if format == LogFormat::Json {
            // Whoever reads objects must be able to read this one too.
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        }
    }
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}

/// Whether `text` is what `LOG_LEVEL` may hold: a level, or `target=level` pairs with a level among them.
pub(crate) fn is_filter(text: &str) -> bool {
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.trim());
    text.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => !target.trim().is_empty() && is_level(level),
        None => is_level(part),
    }) && EnvFilter::try_new(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_filter;

    #[test]
    fn a_misspelt_level_is_no_filter() {
        for good in ["info", "warn,jobs=off", "debug,penguinmails=trace"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["verbose", "info,loud", "=info", "", "jobs=all"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
