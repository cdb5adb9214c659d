//! Journals that dead processes left in this directory: read, and written down in the ledger.
//!
//! One worker of a directory does it at a time, under a lock of the directory: so a file that is locked is its writer's,
//! who lives, and never one that somebody else is just reading. Not responsible for results that the ledger does not take
//! (`refused`). To read more of a result: a field of `Settled`.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::ids::SendId;
use engines::store::apply::{Applied, Settled};
use tokio::time::Instant;

use super::{EXTENSION, folder};
use crate::context::Context;
use crate::worker::refused::{self, Patience};
use crate::worker::results;

/// Most results in one transaction.
const BATCH: usize = 256;
/// The lock of the directory.
const LOCK: &str = "reading.lock";
/// How often, and at what distance, a lock that another worker holds is tried: it has it for a moment, mostly.
const TRIES: u32 = 25;
const BETWEEN: Duration = Duration::from_millis(10);

/// Whether what dead processes left was looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Replay {
    /// All of it.
    Done,
    /// Another worker of this directory is at it: what it has not written down yet must not become unknown.
    ByAnother,
}

/// What every version finds in a result.
#[derive(serde::Deserialize)]
struct Named {
    send_id: SendId,
}

/// A file that a dead process left; locked while it is held.
pub(in crate::worker) struct Abandoned {
    _lock: File,
    pub(in crate::worker) path: PathBuf,
    pub(in crate::worker) owner: String,
    pub(in crate::worker) results: Vec<Settled>,
    /// Lines that are no results: the last may be cut off by the kill.
    pub(in crate::worker) unreadable: usize,
    /// Sends of whole lines that are results to a newer version alone.
    pub(in crate::worker) newer: HashSet<SendId>,
}

/// Writes down what dead processes left in this directory.
///
/// A directory that cannot be read is logged: what lies in it becomes unknown, which is safe. A file stays, and is read
/// again later, where the ledger does not take its results or this version does not understand them.
///
/// # Errors
/// The ledger does not answer: try again, before anybody's dots are judged.
pub(in crate::worker) async fn replay(ctx: &Context, patience: &mut Patience) -> engines::error::Result<Replay> {
    let folder = folder(ctx);
    if !folder.exists() {
        return Ok(Replay::Done);
    }
    let own = folder.clone();
    let Some(_turn) = tokio::task::spawn_blocking(move || Turn::take(&own)).await.unwrap_or_default() else {
        return Ok(Replay::ByAnother);
    };
    patience.forget_gone();
    let mut paths = tokio::task::spawn_blocking(move || journals(&folder)).await.unwrap_or_default();
    paths.retain(|path| !patience.has_to_wait(path, Instant::now()));
    for file in tokio::task::spawn_blocking(move || abandoned(paths)).await.unwrap_or_default() {
        let (mut new, mut known) = (0, file.newer.clone());
        for results in file.results.chunks(BATCH) {
            let (written, refused) = write_down(ctx, results, &file.owner).await?;
            let aside: Vec<Settled> = refused.iter().map(refused::aside).collect();
            let (set_aside, refused) = write_down(ctx, &aside, &file.owner).await?;
            new += written + set_aside;
            known.extend(refused.iter().map(|result| result.send_id));
        }
        let is_refused = !known.is_empty();
        patience.learn(&file.path, &file.owner, known, Instant::now());
        file.tell(new, is_refused);
        ctx.metrics.worker.results_replayed.inc_by(new);
        if !is_refused && let Err(e) = std::fs::remove_file(&file.path) {
            tracing::warn!(error = %e, file = %file.path.display(), "a journal that was written down cannot be removed");
        }
    }
    Ok(Replay::Done)
}

/// This worker's turn to read; the lock of the directory is held with it.
struct Turn {
    _lock: Option<File>,
}

impl Turn {
    /// None where another worker has it. A directory that cannot be locked is read all the same: what two read at once
    /// is written down once.
    fn take(folder: &Path) -> Option<Self> {
        match lock(folder) {
            Ok(lock) => lock.map(|lock| Self { _lock: Some(lock) }),
            Err(e) => {
                tracing::warn!(error = %e, "the directory of journals cannot be locked");
                Some(Self { _lock: None })
            }
        }
    }
}

fn lock(folder: &Path) -> io::Result<Option<File>> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(folder.join(LOCK))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(None)
}

/// How many of them the ledger did not have, and those that it refuses.
async fn write_down(ctx: &Context, results: &[Settled], owner: &str) -> engines::error::Result<(u64, Vec<Settled>)> {
    if results.is_empty() {
        return Ok((0, Vec::new()));
    }
    let now = ctx.clock.now();
    let written = ctx.store.system().apply(results, owner, &|| ctx.clock.uuid_v7(), now).await?;
    results::warn_of(ctx, &written.paused);
    let mut new = 0;
    // One that the ledger had was counted by the process that is dead.
    for (result, applied) in results.iter().zip(&written.applied).filter(|(_, applied)| **applied == Applied::Done) {
        results::count(ctx, result, *applied);
        new += 1;
    }
    Ok((new, refused::among(results, &written.applied).cloned().collect()))
}

/// Every journal of the directory.
pub(in crate::worker) fn journals(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|e| e == EXTENSION)).collect()
}

/// Those whose writer is dead, their results read.
pub(in crate::worker) fn abandoned(journals: Vec<PathBuf>) -> Vec<Abandoned> {
    let read = |path: PathBuf| {
        Abandoned::open(&path).unwrap_or_else(|e| {
            tracing::error!(error = %e, file = %path.display(), "a dead worker's journal cannot be read: its results are unknown");
            None
        })
    };
    journals.into_iter().filter_map(read).collect()
}

impl Abandoned {
    /// None where its writer lives, or somebody else has written it down.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
            Ok(()) => {}
        }
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        let lines = text.lines().filter(|line| !line.is_empty());
        let (mut results, mut newer, mut unreadable) = (Vec::new(), HashSet::new(), 0);
        for line in lines {
            match serde_json::from_str::<Settled>(line) {
                Ok(result) => results.push(result),
                Err(_) => {
                    unreadable += 1;
                    newer.extend(serde_json::from_str::<Named>(line).ok().map(|named| named.send_id));
                }
            }
        }
        let owner = path.file_stem().and_then(|stem| Path::new(stem).file_stem()).unwrap_or_default();
        let owner = owner.to_string_lossy().into_owned();
        Ok(Some(Self { _lock: file, path: path.to_owned(), owner, results, unreadable, newer }))
    }

    /// Says what became of it.
    fn tell(&self, new: u64, is_refused: bool) {
        let (owner, results, unreadable) = (&self.owner, self.results.len(), self.unreadable);
        let file = self.path.display();
        if !self.newer.is_empty() {
            tracing::error!(owner, results, new, newer = self.newer.len(), %file, "the journal of a dead worker stays: a newer version wrote it (hint: start a worker of that version on this directory; without the file its sends would be unknown)");
        } else if is_refused {
            tracing::error!(owner, results, new, unreadable, %file, "the journal of a dead worker stays: the database takes a result of it in no form");
        } else {
            tracing::warn!(owner, results, new, unreadable, "the journal of a dead worker was written down");
        }
    }
}
