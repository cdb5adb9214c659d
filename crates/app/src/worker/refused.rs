//! Results that the ledger does not take, for a reason of its own and in no form: another program's rule or trigger. Their
//! sends are held for a person; where not even that is taken they are kept, in memory and in the journal, and tried again.
//!
//! A result is known, so its send must neither go again nor stay in `dot` for ever. Not responsible for writing
//! (`results`, and `journal` for a dead worker's). To change how soon they are tried again: `Refused::keep`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::settle::{own_error_delay, set_aside};
use engines::store::apply::{Applied, Settled};
use tokio::time::Instant;

use super::journal::Kept;

/// Real time after which a dead worker's journal is read again whose results are not taken.
const READ_AGAIN: Duration = Duration::from_secs(15);

/// The same result as its send is held with it.
pub(super) fn aside(result: &Settled) -> Settled {
    Settled { transition: set_aside(&result.transition), ..result.clone() }
}

/// Those that were refused.
pub(super) fn among<'a>(results: &'a [Settled], applied: &'a [Applied]) -> impl Iterator<Item = &'a Settled> {
    results.iter().zip(applied).filter(|(_, applied)| **applied == Applied::Refused).map(|(result, _)| result)
}

/// This worker's refused results.
#[derive(Default)]
pub(super) struct Refused {
    results: Vec<Settled>,
    kept: Vec<Kept>,
    tries: u32,
    again_at: Option<Instant>,
}

impl Refused {
    /// When they are tried again; none where there are none.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.results.len()
    }

    /// Takes them out where it is time to try them again.
    pub(super) fn take_due(&mut self, now: Instant) -> (Vec<Settled>, Vec<Kept>) {
        if self.again_at.is_none_or(|at| now < at) {
            return Default::default();
        }
        self.again_at = None;
        self.tries = self.tries.saturating_add(1);
        (std::mem::take(&mut self.results), std::mem::take(&mut self.kept))
    }

    /// Keeps those of a turn that were refused, and what its journal holds of them; without any the journal is done with.
    pub(super) fn keep(&mut self, results: Vec<Settled>, kept: Vec<Kept>, now: Instant, chance: f64) {
        if results.is_empty() {
            kept.into_iter().for_each(Kept::are_written);
            if self.results.is_empty() {
                self.tries = 0;
            }
            return;
        }
        self.results.extend(results);
        self.kept.extend(kept);
        // Those that come later wait no longer than the first, and do not put it off.
        self.again_at.get_or_insert_with(|| now + own_error_delay(self.tries, chance));
    }
}

/// Dead workers' journals whose results are refused, and when they are read again.
#[derive(Default)]
pub(super) struct Patience(HashMap<PathBuf, (String, Instant)>);

impl Patience {
    /// Whether a journal is left alone for now.
    pub(super) fn has_to_wait(&self, path: &Path, now: Instant) -> bool {
        self.0.get(path).is_some_and(|(_, again_at)| now < *again_at)
    }

    /// Whether this owner left results that are refused: what is known of its dots must not be forgotten.
    pub(super) fn holds(&self, owner: &str) -> bool {
        self.0.values().any(|(of, _)| of == owner)
    }

    /// A journal of this owner was read: whether any of its results was refused.
    pub(super) fn learn(&mut self, path: &Path, owner: &str, is_refused: bool, now: Instant) {
        if is_refused {
            self.0.insert(path.to_owned(), (owner.to_owned(), now + READ_AGAIN));
        } else {
            self.0.remove(path);
        }
    }

    /// Forgets journals that somebody else has done with.
    pub(super) fn forget_gone(&mut self) {
        self.0.retain(|path, _| path.exists());
    }
}
