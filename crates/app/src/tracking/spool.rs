//! The spool: a file of events that neither queue nor database took, one JSON object a line, synced before an answer.
//!
//! Its unsubscribes go to the ledger as soon as that answers, the rest into the queue when that does; an event's id makes a
//! second delivery harmless. Each process writes files of its own. Files that end in `.unreadable` or `.refused` are a
//! person's. To add a kind of entry: it must be an `Event`.

use std::collections::HashSet;
use std::io::{self, Write as _};
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
        Ok(write_whole(&folder.join(format!("{name}.part")), &folder.join(format!("{name}.events")), &text)?)
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
    let mut committed = Committed::default();
    while !shutdown.is_stopping() {
        pulse.works();
        match drain_once(&ctx, &mut committed).await {
            Ok(_) => {}
            Err(e) if is_away(&e) => tracing::debug!(error = %e, "the spool waits"),
            Err(e) => tracing::warn!(error = %e, "a file of the spool waits, and holds up no other"),
        }
        pulse.waits();
        shutdown.unless_stopping(tokio::time::sleep(LOOK)).await;
    }
}

/// Files whose unsubscribes the ledger has, while the queue has not taken the rest of them.
#[derive(Default)]
pub(super) struct Committed(HashSet<PathBuf>);

/// Commits the unsubscribes of every spooled file, which waits for no queue, then pushes the files; how many events. What
/// is wrong with one file holds up no other.
///
/// # Errors
/// A service that is away, or the folder cannot be read: what is left waits for the next look.
pub(super) async fn drain_once(ctx: &Context, committed: &mut Committed) -> anyhow::Result<usize> {
    let files = spooled(&folder(ctx))?;
    committed.0.retain(|path| files.binary_search(path).is_ok());
    let mut failure = None;
    for path in &files {
        if committed.0.contains(path) {
            continue;
        }
        match commit(ctx, path).await {
            Ok(()) => {
                committed.0.insert(path.clone());
            }
            Err(e) => {
                failure = Some(e);
                if failure.as_ref().is_some_and(is_away) {
                    break;
                }
            }
        }
    }
    let mut drained = 0;
    for path in files.iter().filter(|path| committed.0.contains(*path)) {
        match hand_on(ctx, path).await {
            Ok(events) => drained += events,
            Err(e) => {
                let ends = is_away(&e);
                failure = failure.or(Some(e));
                if ends {
                    break;
                }
            }
        }
    }
    if drained > 0 {
        tracing::info!(events = drained, "the spool was drained");
    }
    failure.map_or(Ok(drained), Err)
}

/// Whether a service is away: what follows would wait for it as well.
fn is_away(e: &anyhow::Error) -> bool {
    e.downcast_ref::<engines::Error>().is_some_and(engines::Error::is_transient)
}

/// The files that wait, oldest first.
fn spooled(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|kind| kind == "events"));
    files.sort_unstable();
    Ok(files)
}

/// Commits the unsubscribes of one file. Those that the ledger refuses for a reason of its own, and a file that cannot be
/// read, are set aside for a person.
async fn commit(ctx: &Context, path: &Path) -> anyhow::Result<()> {
    let Some(lines) = read_or_set_aside(ctx, path)? else { return Ok(()) };
    let (mut rest, mut refused) = (Vec::new(), Vec::new());
    for event in lines.events {
        match super::unsubscribe::commit_spooled(ctx, &event).await {
            Ok(()) => rest.push(event),
            Err(e) if e.is_transient() => return Err(e.into()),
            Err(e) => {
                tracing::error!(error = %e, file = %path.display(), "an unsubscribe of the spool is refused: it is kept beside it");
                refused.push(event);
            }
        }
    }
    if refused.is_empty() && lines.unreadable.is_empty() {
        return Ok(());
    }
    ctx.metrics.tracking.set_aside.inc_by((refused.len() + lines.unreadable.len()) as u64);
    if !lines.unreadable.is_empty() {
        let unreadable = lines.unreadable.len();
        tracing::error!(unreadable, file = %path.display(), "lines of the spool are no events: they are kept beside it");
        keep_beside(path, "unreadable", &lines.unreadable)?;
    }
    if !refused.is_empty() {
        keep_beside(path, "refused", &to_lines(&refused)?)?;
    }
    // Last: until then the next look finds all of it again.
    replace(path, &to_lines(&rest)?)
}

/// Pushes what a file holds and removes it; how many events.
async fn hand_on(ctx: &Context, path: &Path) -> anyhow::Result<usize> {
    let Some(Lines { events, .. }) = read_or_set_aside(ctx, path)? else { return Ok(0) };
    if !events.is_empty() {
        push(ctx, &events).await?;
    }
    std::fs::remove_file(path)?;
    Ok(events.len())
}

/// What stands in a file.
struct Lines {
    events: Vec<Event>,
    /// Lines that are no events.
    unreadable: Vec<String>,
}

/// The lines of a file; none where another process has drained it, or where it cannot be read and has been set aside.
fn read_or_set_aside(ctx: &Context, path: &Path) -> io::Result<Option<Lines>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            ctx.metrics.tracking.set_aside.inc();
            tracing::error!(error = %e, file = %path.display(), "a file of the spool cannot be read: it is renamed to end in .unreadable");
            return std::fs::rename(path, path.with_extension("unreadable")).map(|()| None);
        }
    };
    let mut lines = Lines { events: Vec::new(), unreadable: Vec::new() };
    for line in String::from_utf8_lossy(&bytes).lines() {
        match serde_json::from_str(line) {
            Ok(event) => lines.events.push(event),
            Err(_) => lines.unreadable.push(line.to_owned()),
        }
    }
    Ok(Some(lines))
}

fn to_lines(events: &[Event]) -> serde_json::Result<Vec<String>> {
    events.iter().map(serde_json::to_string).collect()
}

/// Keeps lines in a file of the same name that is never drained.
fn keep_beside(path: &Path, kind: &str, lines: &[String]) -> anyhow::Result<()> {
    write_whole(&path.with_extension(format!("{kind}.part")), &path.with_extension(kind), &text_of(lines))?;
    Ok(())
}

fn replace(path: &Path, lines: &[String]) -> anyhow::Result<()> {
    write_whole(&path.with_extension("part"), path, &text_of(lines))?;
    Ok(())
}

fn text_of(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Writes a file that is durable and whole under its name, or not there.
fn write_whole(part: &Path, whole: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create(part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(part, whole)?;
    // The new name is durable with its folder.
    whole.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}
