//! Faults of the sink: chosen by the recipient's local part, each counted when it fires.
//!
//! A test that asserts the count knows that its fault really happened. To add one: a variant of `Fault`, its word in
//! `WORDS`, and its deed in `session`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This answer to RCPT.
    Rcpt(&'static str),
    /// This answer to RCPT the first time.
    RcptOnce(&'static str),
    /// This answer after the dot; the message is not kept.
    Dot(&'static str),
    /// The connection is closed before DATA is over.
    CloseInData,
    /// The message is kept, then the connection is closed without an answer.
    CloseAfterDot,
    /// As above, the first time only.
    CloseAfterDotOnce,
    /// The answer after the dot comes so much later.
    Delay(Duration),
}

/// The words, as they stand before a `+` in the local part.
pub(crate) const WORDS: &[(&str, Fault, &str)] = &[
    ("greylist", Fault::RcptOnce("451 4.7.1 Greylisted, try again later"), "451 at RCPT the first time"),
    ("unknown", Fault::Rcpt("550 5.1.1 No such user"), "550 at RCPT: bounces, the address is suppressed"),
    ("full", Fault::Dot("552 5.2.2 Mailbox full"), "552 after the dot: a soft bounce"),
    ("spam", Fault::Dot("554 5.7.1 Looks like spam"), "554 after the dot: fails, nobody is suppressed"),
    ("busy", Fault::Rcpt("421 4.3.2 Closing"), "421 at RCPT: the account backs off"),
    ("later", Fault::Dot("451 4.3.0 Later"), "451 after the dot: deferred"),
    ("cut", Fault::CloseInData, "the connection is closed during DATA"),
    ("silent", Fault::CloseAfterDot, "kept, then closed without an answer: unknown, every time"),
    ("silent-once", Fault::CloseAfterDotOnce, "the same, the first time only"),
    ("slow", Fault::Delay(Duration::from_secs(1)), "the answer after the dot takes a second"),
];

/// The faults of a sink and how often each fired; clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    enabled: bool,
    /// Every nth message is answered by 451 after the dot; 0 = none.
    fail_every: u64,
    /// Every answer after the dot waits so long.
    delay: Duration,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    fired: BTreeMap<String, u64>,
    seen: HashSet<String>,
    messages: u64,
}

impl Faults {
    /// Faults by local part, a temporary failure of every `fail_every`th message (0 = none), a delay of every answer.
    pub(crate) fn new(by_recipient: bool, fail_every: u64, delay: Duration) -> Self {
        Self { enabled: by_recipient, fail_every, delay, counts: Arc::default() }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of a recipient, by the word before `+`.
    pub(super) fn of(&self, recipient: &str) -> Option<Fault> {
        if !self.enabled {
            return None;
        }
        let (word, _) = recipient.split_once('+')?;
        let fault = WORDS.iter().find(|(known, _, _)| *known == word)?.1;
        let once = matches!(fault, Fault::RcptOnce(_) | Fault::CloseAfterDotOnce);
        if once && !self.counts().seen.insert(recipient.to_owned()) {
            return None;
        }
        Some(fault)
    }

    /// Counts a fault that happened.
    pub(super) fn fire(&self, word: &str) {
        *self.counts().fired.entry(word.to_owned()).or_default() += 1;
    }

    /// Whether this message fails by its number.
    pub(super) fn fails_by_number(&self) -> bool {
        if self.fail_every == 0 {
            return false;
        }
        let mut counts = self.counts();
        counts.messages += 1;
        counts.messages.is_multiple_of(self.fail_every)
    }

    /// How long every answer after the dot waits.
    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    /// How often each fault fired.
    pub(crate) fn fired(&self) -> Vec<(String, u64)> {
        self.counts().fired.iter().map(|(word, count)| (word.clone(), *count)).collect()
    }
}
