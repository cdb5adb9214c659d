//! A whole transaction with a server that says anything: it ends, and the dot tells no lies.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Builder;
use tokio::time::Instant;

use super::*;
use crate::smtp::fuzz::{pieces, spell};

/// How the server and the gate are, from the first byte of an input.
#[derive(Clone, Copy, Debug)]
struct Setting {
    pipelining: bool,
    chunking: bool,
    grant: bool,
    closes: bool,
}

const BODY: &[u8] = b"Subject: x\r\n\r\n.hidden\r\n";

/// Says the first part at once and the second after a dot, both in pieces, and closes or listens on; what it heard.
async fn babble(stream: DuplexStream, parts: [Vec<u8>; 2], cuts: Vec<u8>, closes: bool) -> Vec<u8> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut heard = Vec::new();
    for part in parts {
        for piece in pieces(&part, &cuts) {
            if writing.write_all(piece).await.is_err() {
                break;
            }
        }
        let is_over = |heard: &[u8]| heard.ends_with(b"\r\n.\r\n") || heard.ends_with(b"\n.hidden\r\n");
        while !closes && !is_over(&heard) && reading.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {}
    }
    if !closes {
        let _cut = reading.read_to_end(&mut heard).await;
    }
    heard
}

/// How it ended, as a place in `ENDS`.
fn converse(setting: Setting, parts: [Vec<u8>; 2], cuts: &[u8]) -> usize {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(babble(theirs, parts, cuts.to_vec(), setting.closes));
        let mut connection = over(ours);
        connection.capabilities.pipelining = setting.pipelining;
        connection.capabilities.chunking = setting.chunking;
        let began = Instant::now();
        let report = connection.deliver(&envelope(), BODY, async { setting.grant }).await;
        let usable = connection.is_usable();
        drop(connection);
        assert!(began.elapsed() < Duration::from_secs(1200), "every stage has its limit");
        let heard = server.await.unwrap();
        let whole: &[u8] = match setting.chunking {
            true => b"BDAT 23 LAST\r\nSubject: x\r\n\r\n.hidden\r\n",
            false => b"Subject: x\r\n\r\n..hidden\r\n.\r\n",
        };
        let sent = heard.windows(whole.len()).any(|part| part == whole);
        let delivery = &report.delivery;
        let after_dot =
            matches!(delivery, Delivery::Accepted(_) | Delivery::Refused(Stage::Dot, _) | Delivery::Unknown(_));
        if after_dot {
            assert!(report.gate_opened, "no dot without leave: {delivery:?}");
        }
        if !setting.closes {
            assert_eq!(sent, after_dot, "the dot goes with the body: {delivery:?}");
            assert!(!sent || heard.ends_with(whole), "and nothing goes after it");
        }
        if matches!(delivery, Delivery::Failed(..) | Delivery::Unknown(_)) {
            assert!(!usable, "nobody knows where it stands: {delivery:?}");
        }
        match delivery {
            Delivery::Accepted(_) => 0,
            Delivery::Refused(..) => 1,
            Delivery::Failed(..) => 2,
            Delivery::Unknown(_) => 3,
            Delivery::NotGranted => 4,
        }
    })
}

#[test]
fn fuzz_dialogues() {
    static ENDS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
    const WORDS: &[&[u8]] = &[
        b"250 ok\r\n",
        b"250 ok\r\n250 ok\r\n354 go\r\n",
        b"354 go\r\n",
        b"550 5.1.1 no\r\n",
        b"451 later\r\n",
        b"421 bye\r\n",
        b"503 what\r\n",
        b"250-more\r\n",
        b"250",
        b" x\n",
        b"\r\n",
        b"HTTP/1.1\r\n",
        b"235 ok\r\n",
        b"\0",
    ];
    bolero::check!(name = "dialogues").with_iterations(1_500).for_each(|input: &[u8]| {
        let (flags, said) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
        let setting =
            Setting { pipelining: flags & 1 > 0, grant: flags & 2 > 0, closes: flags & 4 > 0, chunking: flags & 8 > 0 };
        let (before, after) = said.split_at(said.len().min(usize::from(flags >> 4) % 4 + 1));
        // A word or two answer the dot; the rest of a long input would only be surplus.
        let spelt = [before, &after[..after.len().min(2)]].map(|part| spell(part, WORDS));
        let dot = said.iter().position(|byte| *byte == b'|').unwrap_or(said.len());
        for parts in [spelt, [said[..dot].to_vec(), said[(dot + 1).min(said.len())..].to_vec()]] {
            ENDS[converse(setting, parts, said)].fetch_add(1, Ordering::Relaxed);
        }
    });
    let ends = ENDS.each_ref().map(|end| end.load(Ordering::Relaxed));
    assert!(ends.iter().all(|end| *end > 0), "every end is met: {ends:?}");
}
