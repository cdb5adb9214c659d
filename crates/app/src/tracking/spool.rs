//! The spool: a file of events that neither queue nor database took, one JSON object a line, synced before an answer.
//!
//! Drained into the queue when that answers again; an event's id makes a second delivery harmless. Each process writes
//! files of its own. To add a kind of entry: it must be an `Event`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::event::Event;

use super::events::push;
use crate::context::Context;
use crate::lifecycle::Shutdown;
use crate::liveness::Loop;

/// Real time between two looks into the spool.
const LOOK: Duration = Duration::from_secs(2);

fn folder(ctx: &Context) -> PathBuf {
    ctx.config.data.join("spool")
}

/// Appends events and syncs them; each call makes a file, so that draining never meets a file being written.
pub(super) async fn append(ctx: &Context, events: &[Event]) -> anyhow::Result<()> {
    let folder = folder(ctx);
    let name = ctx.clock.uuid_v7().to_string();
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event)?);
        text.push('\n');
    }
    write(folder, name, text).await?;
    ctx.metrics.tracking.spooled.inc_by(events.len() as u64);
    Ok(())
}

async fn write(folder: PathBuf, name: String, text: String) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let (part, whole) = (folder.join(format!("{name}.part")), folder.join(format!("{name}.events")));
        let mut file = std::fs::File::create(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, &whole)?;
        // The new name is durable with its folder.
        std::fs::File::open(&folder)?.sync_all()?;
        Ok(())
    })
    .await?
}

/// How many files wait.
pub(super) fn count(ctx: &Context) -> usize {
    let Ok(files) = std::fs::read_dir(folder(ctx)) else { return 0 };
    files.filter(|file| file.as_ref().is_ok_and(|f| f.path().extension().is_some_and(|e| e == "events"))).count()
}

/// Writes a file and removes it again.
///
/// # Errors
/// The folder cannot be made or written.
pub(super) async fn check(ctx: &Context) -> anyhow::Result<()> {
    let (folder, name) = (folder(ctx), format!("{}.check", ctx.clock.uuid_v7()));
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        std::fs::write(&path, b"x")?;
        std::fs::remove_file(path)?;
        Ok(())
    })
    .await?
}

/// Drains the spool until stopping is asked for.
pub(super) async fn drain(ctx: Arc<Context>, shutdown: Shutdown) {
    let pulse = ctx.liveness.pulse(Loop::Spool);
    while !shutdown.is_stopping() {
        pulse.works();
        if let Err(e) = drain_once(&ctx).await {
            tracing::debug!(error = %e, "the spool waits");
        }
        pulse.waits();
        shutdown.unless_stopping(tokio::time::sleep(LOOK)).await;
    }
}

/// Pushes every spooled file; how many events.
pub(super) async fn drain_once(ctx: &Context) -> anyhow::Result<usize> {
    let mut drained = 0;
    let Ok(files) = std::fs::read_dir(folder(ctx)) else { return Ok(0) };
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "events") {
            let (events, unreadable) = read(&path)?;
            if unreadable > 0 {
                tracing::error!(unreadable, file = %path.display(), "lines of the spool are no events: they are kept beside it");
                std::fs::copy(&path, path.with_extension("unreadable"))?;
            }
            super::unsubscribe::commit_spooled(ctx, &events).await?;
            push(ctx, &events).await?;
            std::fs::remove_file(&path)?;
            drained += events.len();
        }
    }
    if drained > 0 {
        tracing::info!(events = drained, "the spool was drained");
    }
    Ok(drained)
}

/// The events of a file, and how many of its lines are none.
fn read(path: &Path) -> anyhow::Result<(Vec<Event>, usize)> {
    let text = std::fs::read_to_string(path)?;
    let events: Vec<Event> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let unreadable = text.lines().count() - events.len();
    Ok((events, unreadable))
}
