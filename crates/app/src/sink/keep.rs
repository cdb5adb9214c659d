//! Keeps accepted messages: .eml files, and a journal that is synced before an answer, many lines with one sync.
//!
//! Not responsible for the dialogue. To add a form of keeping: a field of `Keeper` and its line in `keep`.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::SinkOptions;

type Line = (String, oneshot::Sender<bool>);

/// Where messages go.
pub(super) struct Keeper {
    folder: Option<PathBuf>,
    journal: Option<mpsc::Sender<Line>>,
    /// Numbers the files of this run; the process id tells runs apart.
    next: AtomicU64,
}

impl Keeper {
    pub(super) fn open(options: &SinkOptions) -> anyhow::Result<Self> {
        if let Some(folder) = &options.folder {
            std::fs::create_dir_all(folder)
                .map_err(|e| anyhow::anyhow!("failed to make the folder `{}`: {e}", folder.display()))?;
        }
        let journal = match &options.journal {
            Some(path) => {
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|e| anyhow::anyhow!("failed to open the journal `{}`: {e}", path.display()))?;
                let (sender, queue) = mpsc::channel(1024);
                std::thread::Builder::new().name("journal".into()).spawn(move || write_journal(file, queue))?;
                Some(sender)
            }
            None => None,
        };
        Ok(Self { folder: options.folder.clone(), journal, next: AtomicU64::new(1) })
    }

    /// Keeps one message; false where that failed, so that it must not be accepted.
    pub(super) async fn keep(&self, recipient: &str, message: &[u8]) -> bool {
        if let Some(folder) = &self.folder {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{number:06}.eml", std::process::id()));
            if let Err(e) = tokio::fs::write(path, message).await {
                tracing::warn!(error = %e, "a message cannot be kept");
                return false;
            }
        }
        let Some(journal) = &self.journal else { return true };
        let (done, written) = oneshot::channel();
        let line = format!("{}\t{recipient}\n", message_id(message));
        journal.send((line, done)).await.is_ok() && written.await.unwrap_or(false)
    }
}

/// One sync for all lines that wait.
fn write_journal(mut file: std::fs::File, mut queue: mpsc::Receiver<Line>) {
    let mut lines = Vec::new();
    while queue.blocking_recv_many(&mut lines, 1024) > 0 {
        let text: String = lines.iter().map(|(line, _)| line.as_str()).collect();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).is_ok();
        for (_, done) in lines.drain(..) {
            let _session_gone = done.send(written);
        }
    }
}

/// The Message-ID header's value; empty where there is none.
fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let head = text.split("\r\n\r\n").next().unwrap_or("");
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:"));
    line.map_or(String::new(), |line| line["message-id:".len()..].trim().to_owned())
}
