//! The journal (P7): results on disk before the ledger has them, so that neither a killed process nor a database that is
//! away loses one.
//!
//! One process writes files of its own under `DIR/journal`, each locked while it lives. A file whose lock is free was
//! left by a dead process: whoever is started on the directory writes its results down before anybody takes that
//! process's dots for unknown. A result that the ledger has already changes nothing there. The files survive a killed
//! process; a lost host may take the last ones along, whose sends are unknown then (PROTOCOL 1 promises no more).
//! Not responsible for what a result does. To keep more of a result: a field of `Settled`.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engines::store::apply::{Applied, Settled};

use tokio::time::Instant;

use super::refused::{self, Patience};
use crate::context::Context;
use crate::data_dir;

/// A file that has grown so long is followed by the next.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Most results in one transaction of a replay.
const REPLAY: usize = 256;
const EXTENSION: &str = "journal";

/// Where a process's journals lie.
pub(super) fn folder(ctx: &Context) -> PathBuf {
    ctx.config.data.join("journal")
}

/// This process's journal.
pub(super) struct Journal {
    folder: PathBuf,
    owner: String,
    segments: Vec<Arc<Segment>>,
    made: u64,
    /// The last results could not be written.
    is_broken: bool,
}

/// One file.
struct Segment {
    file: File,
    path: PathBuf,
    /// Results in it that the ledger does not have yet.
    open: AtomicUsize,
}

/// Where a batch of results is kept until the ledger has it.
pub(super) struct Kept {
    segment: Arc<Segment>,
    count: usize,
}

impl Kept {
    /// The ledger has them.
    pub(super) fn are_written(self) {
        self.segment.open.fetch_sub(self.count, Ordering::AcqRel);
    }

    /// Makes them outlive the host: the ledger may be away for long.
    pub(super) async fn sync(&self) {
        let segment = Arc::clone(&self.segment);
        let synced = tokio::task::spawn_blocking(move || segment.file.sync_data()).await;
        if !matches!(synced, Ok(Ok(()))) {
            tracing::warn!("the journal cannot be synced: results outlive this process, but not this host");
        }
    }
}

impl Journal {
    /// An empty journal; nothing is written until the first result.
    pub(super) fn new(folder: PathBuf, owner: &str) -> Self {
        Self { folder, owner: owner.to_owned(), segments: Vec::new(), made: 0, is_broken: false }
    }

    /// Writes results behind the others.
    ///
    /// # Errors
    /// The file system takes them not, or not whole; what was written of them is cut off again.
    pub(super) fn append(&mut self, results: &[Settled]) -> io::Result<Kept> {
        let kept = self.write(results);
        self.is_broken = kept.is_err();
        kept
    }

    fn write(&mut self, results: &[Settled]) -> io::Result<Kept> {
        let mut text = Vec::new();
        for result in results {
            serde_json::to_writer(&mut text, result)?;
            text.push(b'\n');
        }
        let segment = self.current()?;
        let length = segment.file.metadata()?.len();
        if let Err(e) = (&segment.file).write_all(&text) {
            segment.file.set_len(length)?;
            return Err(e);
        }
        segment.open.fetch_add(results.len(), Ordering::AcqRel);
        Ok(Kept { segment, count: results.len() })
    }

    /// The file to write into.
    fn current(&mut self) -> io::Result<Arc<Segment>> {
        if let Some(last) = self.segments.last()
            && last.file.metadata()?.len() < SEGMENT_BYTES
        {
            return Ok(Arc::clone(last));
        }
        self.tidy();
        data_dir::create(&self.folder)?;
        let name = format!("{}.{}", self.owner, self.made);
        let (hidden, path) = (self.folder.join(&name), self.folder.join(format!("{name}.{EXTENSION}")));
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&hidden)?;
        // Under its name it is seen by others: locked before, or one of them would take it for a dead process's.
        file.lock()?;
        std::fs::rename(&hidden, &path)?;
        self.made += 1;
        let segment = Arc::new(Segment { file, path, open: AtomicUsize::new(0) });
        self.segments.push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Nothing has come for a while: clears what is not needed, and finds out whether a broken journal is whole again.
    ///
    /// # Errors
    /// It is still broken.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        self.tidy();
        if self.is_broken {
            let segment = self.current()?;
            (&segment.file).write_all(b"\n")?;
            self.is_broken = false;
        }
        Ok(())
    }

    /// Removes files whose every result the ledger has.
    fn tidy(&mut self) {
        self.segments.retain(|segment| {
            let is_needed = segment.open.load(Ordering::Acquire) > 0;
            if !is_needed && let Err(e) = std::fs::remove_file(&segment.path) {
                tracing::warn!(error = %e, "a journal that is no longer needed cannot be removed");
            }
            is_needed
        });
    }
}

/// A file that a dead process left; locked while it is held.
struct Abandoned {
    _lock: File,
    path: PathBuf,
    owner: String,
    results: Vec<Settled>,
    /// Lines that are no results: the last may be cut off by the kill.
    unreadable: usize,
}

/// Writes down what dead processes left in this directory; how many results the ledger learned by it.
///
/// A directory that cannot be read is logged: what lies in it becomes unknown, which is safe. A file whose results the
/// ledger does not take stays, and is read again later.
///
/// # Errors
/// The ledger does not answer: try again, before anybody's dots are judged.
pub(super) async fn replay(ctx: &Context, patience: &mut Patience) -> engines::error::Result<u64> {
    let folder = folder(ctx);
    let mut learned = 0;
    patience.forget_gone();
    let mut paths = tokio::task::spawn_blocking(move || journals(&folder)).await.unwrap_or_default();
    paths.retain(|path| !patience.has_to_wait(path, Instant::now()));
    for file in tokio::task::spawn_blocking(move || abandoned(paths)).await.unwrap_or_default() {
        let (mut new, mut is_refused) = (0, false);
        for results in file.results.chunks(REPLAY) {
            let (written, refused) = write_down(ctx, results, &file.owner).await?;
            let aside: Vec<Settled> = refused.iter().map(refused::aside).collect();
            let (set_aside, refused) = write_down(ctx, &aside, &file.owner).await?;
            new += written + set_aside;
            is_refused |= !refused.is_empty();
        }
        patience.learn(&file.path, &file.owner, is_refused, Instant::now());
        file.tell(new, is_refused);
        ctx.metrics.worker.results_replayed.inc_by(new);
        learned += new;
        if !is_refused && let Err(e) = std::fs::remove_file(&file.path) {
            tracing::warn!(error = %e, file = %file.path.display(), "a journal that was written down cannot be removed");
        }
    }
    Ok(learned)
}

/// How many of them the ledger did not have, and those that it refuses.
async fn write_down(ctx: &Context, results: &[Settled], owner: &str) -> engines::error::Result<(u64, Vec<Settled>)> {
    if results.is_empty() {
        return Ok((0, Vec::new()));
    }
    let now = ctx.clock.now();
    let written = ctx.store.system().apply(results, owner, &|| ctx.clock.uuid_v7(), now).await?;
    super::results::warn_of(ctx, &written.paused);
    let mut new = 0;
    // One that the ledger had was counted by the process that is dead.
    for (result, applied) in results.iter().zip(&written.applied).filter(|(_, applied)| **applied == Applied::Done) {
        super::results::count(ctx, result, *applied);
        new += 1;
    }
    Ok((new, refused::among(results, &written.applied).cloned().collect()))
}

/// Every journal of the directory.
fn journals(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|e| e == EXTENSION)).collect()
}

/// Those whose writer is dead, their results read.
fn abandoned(journals: Vec<PathBuf>) -> Vec<Abandoned> {
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
        let results: Vec<Settled> = lines.clone().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let unreadable = lines.count() - results.len();
        let owner = path.file_stem().and_then(|stem| Path::new(stem).file_stem()).unwrap_or_default();
        let owner = owner.to_string_lossy().into_owned();
        Ok(Some(Self { _lock: file, path: path.to_owned(), owner, results, unreadable }))
    }

    /// Says what became of it.
    fn tell(&self, new: u64, is_refused: bool) {
        let (owner, results, unreadable) = (&self.owner, self.results.len(), self.unreadable);
        if is_refused {
            let file = self.path.display();
            tracing::error!(owner, results, new, unreadable, %file, "the journal of a dead worker stays: the database takes a result of it in no form");
        } else {
            tracing::warn!(owner, results, new, unreadable, "the journal of a dead worker was written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, SendId, StepId, TenantId};

    use super::*;

    fn result(n: u128) -> Settled {
        use domain::settle::{Attempted, Outcome, RetryPolicy, settle};
        let id = uuid::Uuid::from_u128(n);
        let attempted = Attempted {
            attempts: 0,
            unknowns: 0,
            first_attempt_at: None,
            max_attempts: None,
            on_unknown: domain::campaign::OnUnknown::Resend,
            account_failures: 0,
            account_zone: domain::time::Zone::UTC,
            soft_bounces: 0,
            next: None,
        };
        let now = domain::time::Timestamp::from_micros(1_700_000_000_123_456);
        Settled {
            send_id: SendId::from_uuid(id),
            tenant_id: TenantId::from_uuid(id),
            campaign_id: CampaignId::from_uuid(id),
            lead_id: LeadId::from_uuid(id),
            step_id: StepId::from_uuid(id),
            step_order: 1,
            enrollment_id: EnrollmentId::from_uuid(id),
            email_account_id: EmailAccountId::from_uuid(id),
            fence: 1,
            account_day: Some("2023-11-14".into()),
            campaign_day: Some("2023-11-14".into()),
            was_dot: true,
            transition: settle(Outcome::Accepted, &attempted, &RetryPolicy::default(), now, 0.5),
            attempt: Some(engines::store::apply::AttemptRecord {
                started_at: now,
                finished_at: now,
                stage: "dot".into(),
                outcome: "accepted".into(),
                code: Some(250),
                enhanced: None,
                reply: Some("2.0.0 ok\nand \"more\" ü".into()),
                transcript: None,
            }),
            message: None,
        }
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    #[test]
    fn a_living_process_keeps_its_file_and_a_dead_one_leaves_its_results() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().into(), "worker-a-1.b");
        let kept = journal.append(&[result(1), result(2)]).unwrap();
        assert_eq!(abandoned(journals(folder.path())).len(), 0, "locked");
        // As a kill leaves it: the lock ends with the process, nothing is removed.
        drop((journal, kept));
        let left = abandoned(journals(folder.path()));
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].owner.as_str(), left[0].unreadable), ("worker-a-1.b", 0));
        let (written, read) = (format!("{:?}", [result(1), result(2)]), format!("{:?}", left[0].results));
        assert_eq!(written, read);
        assert_eq!(abandoned(journals(folder.path())).len(), 0, "one at a time writes it down");
    }

    #[test]
    fn a_line_that_a_kill_cut_off_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().into(), "w");
        drop(journal.append(&[result(1), result(2)]).unwrap());
        drop(journal);
        let path = folder.path().join("w.0.journal");
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let left = abandoned(journals(folder.path()));
        assert_eq!((left[0].results.len(), left[0].unreadable), (1, 1));
    }

    #[test]
    fn fp19_a_newer_workers_line_is_read_without_what_is_new_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut line = serde_json::to_value(result(1)).unwrap();
        for field in ["/colour", "/transition/colour", "/attempt/colour"] {
            let (parent, name) = field.rsplit_once('/').unwrap();
            line.pointer_mut(parent).unwrap()[name] = "red".into();
        }
        std::fs::write(folder.path().join("w.0.journal"), format!("{line}\n")).unwrap();
        let left = abandoned(journals(folder.path()));
        assert_eq!((left[0].results.len(), left[0].unreadable), (1, 0));
        assert_eq!(format!("{:?}", left[0].results[0]), format!("{:?}", result(1)));
    }

    #[test]
    fn files_go_when_the_ledger_has_all_of_them_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().into(), "w");
        let many: Vec<Settled> = (0..100).map(result).collect();
        let mut kept = Vec::new();
        while journal.segments.len() < 3 {
            kept.push(journal.append(&many).unwrap());
        }
        assert_eq!(files(folder.path()), 3);
        journal.tidy();
        assert_eq!(files(folder.path()), 3);
        let last = kept.pop().unwrap();
        kept.into_iter().for_each(Kept::are_written);
        journal.tidy();
        assert_eq!(files(folder.path()), 1);
        last.are_written();
        journal.tidy();
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    #[cfg(unix)]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().join("journal"), "w");
        journal.append(&[result(1)]).unwrap();
        let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("journal"), mode("journal/w.0.journal")), (0o700, 0o600));
    }
}
