//! Appends lines to a file for all connections at once; on demand each is on the disk before its writer goes on.
//!
//! Lines that wait while a sync is under way share the next one, so the cost of a sync is spread over all connections.
//! Not responsible for what the lines say.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

/// Most lines written in one go.
const GROUP: usize = 1024;

struct Entry {
    line: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
}

/// A file that is appended to; the thread behind it ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Journal(Sender<Entry>);

impl Journal {
    /// Opens `path`, made where it is missing. `is_synced`: on the disk before `append` returns.
    pub(super) fn open(path: &Path, is_synced: bool) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let (sender, receiver) = channel();
        std::thread::Builder::new().name("sink-journal".into()).spawn(move || write_all(file, is_synced, &receiver))?;
        Ok(Self(sender))
    }

    /// Appends `line` with its line break.
    pub(super) async fn append(&self, line: Vec<u8>) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let gone = || io::Error::other("the journal's thread has ended");
        self.0.send(Entry { line, done }).map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

fn write_all(mut file: File, is_synced: bool, entries: &Receiver<Entry>) {
    while let Ok(first) = entries.recv() {
        let group: Vec<Entry> = std::iter::once(first).chain(entries.try_iter().take(GROUP - 1)).collect();
        let bytes: Vec<u8> = group.iter().flat_map(|entry| entry.line.iter().copied()).collect();
        let written = file.write_all(&bytes).and_then(|()| if is_synced { file.sync_data() } else { Ok(()) });
        for entry in group {
            let result = written.as_ref().copied().map_err(|e| io::Error::new(e.kind(), e.to_string()));
            // A connection that was cut meanwhile no longer waits.
            let _ = entry.done.send(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_many_writers_are_whole_and_behind_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "old\n").unwrap();
        let journal = Journal::open(&path, true).unwrap();
        let writers: Vec<_> = (0..100)
            .map(|n| {
                let journal = journal.clone();
                tokio::spawn(async move { journal.append(format!("{n}\n").into_bytes()).await.unwrap() })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut numbers: Vec<u32> = text.strip_prefix("old\n").unwrap().lines().map(|n| n.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..100));
    }
}
