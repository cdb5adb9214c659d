//! The journal (P7): results on disk before the ledger has them, so that neither a killed process nor a database that is
//! away loses one.
//!
//! One process writes files of its own under `DIR/journal`, each locked while it lives. A file whose lock is free was
//! left by a dead process: whoever is started on the directory writes its results down before anybody takes that
//! process's dots for unknown (`abandoned`). A result that the ledger has already changes nothing there. The files survive
//! a killed process; a lost host may take the last ones along, whose sends are unknown then (PROTOCOL 1 promises no more).
//! Not responsible for what a result does. To keep more of a result: a field of `Settled`.

pub(super) mod abandoned;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::ids::SendId;
use engines::store::apply::Settled;

use crate::context::Context;
use crate::data_dir;

/// A file that has grown so long is followed by the next.
const SEGMENT_BYTES: u64 = 1 << 20;
const EXTENSION: &str = "journal";

/// Where a process's journals lie.
pub(super) fn folder(ctx: &Context) -> PathBuf {
    ctx.config.data.join("journal")
}

/// This process's journal.
pub(super) struct Journal {
    folder: PathBuf,
    owner: String,
    /// What its files' names have besides, where another journal of this owner lies beside them.
    mark: String,
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
        Self { folder, owner: owner.to_owned(), mark: String::new(), segments: Vec::new(), made: 0, is_broken: false }
    }

    /// An empty journal for one send's result, beside the owner's other one.
    pub(super) fn apart(folder: PathBuf, owner: &str, send_id: SendId) -> Self {
        Self { mark: format!("{send_id}-"), ..Self::new(folder, owner) }
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
        let name = format!("{}.{}{}", self.owner, self.mark, self.made);
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

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, StepId, TenantId};

    use super::abandoned::{abandoned, journals};
    use super::*;

    /// A result as a journal holds it.
    pub(in crate::worker) fn result(n: u128) -> Settled {
        use domain::settle::{Attempted, Outcome, RetryPolicy, settle};
        let id = uuid::Uuid::from_u128(n);
        let attempted = Attempted {
            attempts: 0,
            unknowns: 0,
            budget_began_at: None,
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
            email_account_id: Some(EmailAccountId::from_uuid(id)),
            fence: 1,
            account_day: Some("2023-11-14".into()),
            campaign_day: Some("2023-11-14".into()),
            was_dot: true,
            sequence_seen: None,
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

    /// A word that this version does not know: an older worker beside newer ones must not take it for nothing.
    #[test]
    fn fp19_a_newer_workers_result_that_is_not_understood_is_known_by_its_send() {
        let folder = tempfile::tempdir().unwrap();
        let mut line = serde_json::to_value(result(1)).unwrap();
        line["transition"]["status"] = "teleported".into();
        std::fs::write(folder.path().join("w.0.journal"), format!("{line}\n{{\"send_id\": \"cut o")).unwrap();
        let left = abandoned(journals(folder.path()));
        assert_eq!((left[0].results.len(), left[0].unreadable), (0, 2));
        assert!(left[0].newer.iter().eq(&[result(1).send_id]));
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
