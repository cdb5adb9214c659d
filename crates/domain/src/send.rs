//! A send: one message to one lead for one step; its row in the ledger is the truth.
//!
//! Not responsible for how a state is left (`settle`).
//! To add a status: a word here, its exit by time in `settle`, and the CHECK in a migration.

use crate::words::words;

words! {
    /// Where a send stands (PROTOCOL 2). There is no *leased*: leases belong to the queue.
    SendStatus, "send status", {
        /// Recorded with its slot; the row is the outbox.
        Planned = "planned",
        /// Waits for its time again: deferred, given back or an unknown that is sent once more.
        Queued = "queued",
        /// The intent to write the final dot is recorded; from here only a reply, or a person, tells.
        Dot = "dot",
        /// Accepted by the server (250 after DATA).
        Sent = "sent",
        /// Refused for good because of the recipient.
        Bounced = "bounced",
        /// Refused for good for another reason, or expired.
        Failed = "failed",
        /// A person decides.
        Held = "held",
        /// Ended before it was sent: unsubscribed, suppressed, campaign cancelled.
        Cancelled = "cancelled",
        /// Left out, with the reason.
        Skipped = "skipped",
    }
}

impl SendStatus {
    /// Whether nothing more happens to the send by itself and no person is waited for.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Sent | Self::Bounced | Self::Failed | Self::Cancelled | Self::Skipped)
    }

    /// Whether the send is still under way: the column `open`.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Planned | Self::Queued | Self::Dot)
    }
}
