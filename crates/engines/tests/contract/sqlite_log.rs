//! SQLite's write-ahead log stays short although somebody is always reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engines::store::dead_letters::DeadLetter;
use engines::{Db, Store};

use crate::engine::{NOW, new_id, runtime, template};

fn letter() -> DeadLetter {
    DeadLetter {
        id: new_id(),
        tenant_id: None,
        send_id: None,
        queue_name: "queue:email-sending".into(),
        payload: "x".repeat(256 << 10),
        error: "too long".into(),
        failed_at: NOW,
        attempt_count: 0,
        original_priority: 100,
    }
}

mod sqlite {
    use super::*;

    #[test]
    fn a_reader_at_all_times_does_not_let_the_log_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        template::copy_sqlite(&path);
        runtime().block_on(async {
            let store = Store::new(Db::open_sqlite(&path, 2).unwrap());
            let readers = Store::new(Db::open_sqlite(&path, 4).unwrap());
            let done = Arc::new(AtomicBool::new(false));
            let reading: Vec<_> = (0..8)
                .map(|_| {
                    let (readers, done) = (readers.clone(), Arc::clone(&done));
                    tokio::spawn(async move {
                        while !done.load(Ordering::Relaxed) {
                            readers.system().list_dead_letters(Default::default(), 20).await.unwrap();
                        }
                    })
                })
                .collect();
            let (mut written, mut longest, mut shrank) = (0_u64, 0, false);
            // Long enough for several looks at the log, whatever the disk can do; bounded, or it has failed.
            while !shrank && written < 4 << 30 {
                store.system().bury(&[letter()]).await.unwrap();
                written += 256 << 10;
                let length = std::fs::metadata(dir.path().join("test.db-wal")).unwrap().len();
                shrank = longest > 64 << 20 && length < longest / 2;
                longest = longest.max(length);
            }
            done.store(true, Ordering::Relaxed);
            for task in reading {
                task.await.unwrap();
            }
            assert!(shrank, "{longest} bytes after {written} written");
        });
    }
}
