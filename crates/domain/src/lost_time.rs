//! The time of which a ledger knows nothing, since it was restored from an older backup.
//!
//! Not responsible for finding out that it was. Whatever could have left in it may have been sent: `plan` holds it for a
//! person, and `settle::resolve` what follows on it. To let another decision ask: `holds`.

use crate::time::Timestamp;

/// From the backup to the moment at which the restored ledger came into use, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostTime {
    /// What had not been sent by then could leave from then on.
    pub since: Timestamp,
    /// From then on the ledger knows again.
    pub until: Timestamp,
}

impl LostTime {
    /// Whether what was due at `at` may have been sent without the ledger knowing.
    pub fn holds(self, at: Timestamp) -> bool {
        self.since <= at && at <= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_belong_to_it() {
        let at = Timestamp::from_unix_seconds;
        let lost = LostTime { since: at(10), until: at(20) };
        assert_eq!([9, 10, 20, 21].map(|second| lost.holds(at(second))), [false, true, true, false]);
    }
}
