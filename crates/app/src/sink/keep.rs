//! What becomes of an accepted message: a file, a line in the index, a line in the journal, a word to who listens.
//!
//! Files hold the bytes that came, nothing added: envelope and time stand in `index.jsonl` beside them. The journal's
//! lines are on the disk before the client hears 250: fault tests are judged by them.
//! To keep something more of a message: a field of `Entry`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use domain::time::Timestamp;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::journal::Journal;
use super::{Received, SinkOptions};

/// A message on its way into the sink.
pub(super) struct Message {
    /// Return path; empty for bounces.
    pub(super) from: String,
    /// Those whose RCPT was accepted.
    pub(super) recipients: Vec<String>,
    /// As it came, dots unstuffed.
    pub(super) bytes: Bytes,
}

/// A line of the index.
#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    at: Timestamp,
    #[serde(rename = "messageId")]
    message_id: &'a str,
    from: &'a str,
    to: &'a [String],
    size: usize,
}

/// Keeps messages, and counts them.
pub(super) struct Keeper {
    files: Option<Files>,
    journal: Option<Journal>,
    told: Option<mpsc::UnboundedSender<Received>>,
    received: AtomicU64,
}

struct Files {
    folder: PathBuf,
    index: Journal,
    last: AtomicU64,
}

impl Keeper {
    /// Opens folder and journal, made where they are missing.
    pub(super) fn open(options: &SinkOptions) -> io::Result<Self> {
        let journal = options.journal.as_deref().map(|path| Journal::open(path, true)).transpose()?;
        let files = options.folder.as_deref().map(Files::open).transpose()?;
        Ok(Self { files, journal, told: options.told.clone(), received: AtomicU64::new(0) })
    }

    /// Keeps one message.
    ///
    /// # Errors
    /// Then it must not be accepted, though a file or a line of the journal may be left of it.
    pub(super) async fn keep(&self, message: Message, at: Timestamp) -> io::Result<()> {
        let id =
            if self.files.is_some() || self.journal.is_some() { message_id(&message.bytes) } else { String::new() };
        if let Some(files) = &self.files {
            files.write(&message, &id, at).await?;
        }
        if let Some(journal) = &self.journal {
            let mut lines = String::new();
            for recipient in &message.recipients {
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "{id}\t{recipient}");
            }
            journal.append(lines.into_bytes()).await?;
        }
        self.received.fetch_add(message.recipients.len() as u64, Ordering::Relaxed);
        if let Some(told) = &self.told {
            for _recipient in message.recipients {
                // Whoever listened may have gone.
                let _ = told.send(Received { message: message.bytes.clone() });
            }
        }
        Ok(())
    }

    /// Messages so far; one to two recipients counts twice.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Files {
    fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let last = AtomicU64::new(last_number(folder)?);
        Ok(Self { folder: folder.to_owned(), index: Journal::open(&folder.join("index.jsonl"), false)?, last })
    }

    async fn write(&self, message: &Message, message_id: &str, at: Timestamp) -> io::Result<()> {
        let (name, mut file) = self.create().await?;
        file.write_all(&message.bytes).await?;
        file.flush().await?;
        let Message { from, recipients, bytes } = message;
        let entry = Entry { file: &name, at, message_id, from, to: recipients, size: bytes.len() };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.index.append(line).await
    }

    /// A new file under the next number that no other sink on this folder has taken.
    async fn create(&self) -> io::Result<(String, tokio::fs::File)> {
        loop {
            let name = format!("{:06}.eml", self.last.fetch_add(1, Ordering::Relaxed) + 1);
            match tokio::fs::File::create_new(self.folder.join(&name)).await {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.map(|file| (name, file)),
            }
        }
    }
}

/// The highest number of a file that is there already.
fn last_number(dir: &Path) -> io::Result<u64> {
    let mut last = 0;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".eml")).and_then(|stem| stem.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// The Message-ID as it stands in the header, unfolded; empty where there is none.
fn message_id(message: &[u8]) -> String {
    let mut id: Option<String> = None;
    for line in message.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_continued = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        match &mut id {
            Some(id) if is_continued => id.push_str(String::from_utf8_lossy(line).trim()),
            Some(_) => break,
            None if line.is_empty() => break,
            None => {
                const NAME: &[u8] = b"message-id:";
                if line.len() >= NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
                    id = Some(String::from_utf8_lossy(&line[NAME.len()..]).trim().to_owned());
                }
            }
        }
    }
    id.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found_in_headers_alone() {
        for (message, id) in [
            ("Subject: x\r\nMessage-ID: <a@b.test>\r\n\r\n", "<a@b.test>"),
            ("message-id:\r\n <a@b.test>\r\nTo: x\r\n", "<a@b.test>"),
            ("Subject: x\r\n\r\nMessage-ID: <a@b.test>\r\n", ""),
            ("X: y\r\n Message-ID: <a@b.test>\r\n\r\n", ""),
            ("", ""),
        ] {
            assert_eq!(message_id(message.as_bytes()), id, "{message:?}");
        }
    }

    #[tokio::test]
    async fn numbers_go_on_where_another_run_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        let folder = dir.path().join("mails");
        let journal = dir.path().join("journal");
        let options = SinkOptions {
            folder: Some(folder.clone()),
            journal: Some(journal.clone()),
            told: Some(told),
            ..SinkOptions::default()
        };
        for run in 1..=2 {
            let message = Message {
                from: String::new(),
                recipients: vec!["a@b.test".into(), "c@d.test".into()],
                bytes: Bytes::from(format!("Message-ID: <{run}@x>\r\n\r\n")),
            };
            let keeper = Keeper::open(&options).unwrap();
            keeper.keep(message, Timestamp::from_unix_seconds(1)).await.unwrap();
            assert_eq!(keeper.received(), 2);
            assert_eq!(heard.len(), 2, "one for each recipient");
            heard.recv_many(&mut Vec::new(), 2).await;
        }
        assert_eq!(std::fs::read_to_string(folder.join("000002.eml")).unwrap(), "Message-ID: <2@x>\r\n\r\n");
        let index = std::fs::read_to_string(folder.join("index.jsonl")).unwrap();
        let expected = r#"{"file":"000002.eml","at":"1970-01-01T00:00:01Z","messageId":"<2@x>","from":"","to":["a@b.test","c@d.test"],"size":21}"#;
        assert_eq!(index.lines().nth(1), Some(expected));
        let journal = std::fs::read_to_string(journal).unwrap();
        assert_eq!(journal.lines().nth(3), Some("<2@x>\tc@d.test"));
    }
}
