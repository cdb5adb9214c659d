//! Rotation: which leads leave an account that may not send, and which wait for it.
//!
//! A lead keeps the account that wrote to it: its thread, its reputation and its replies are there. Nobody new needs it.
//! Not responsible for choosing the next account (`plan`) or for sends that are planned already (`engines/store/rotate.rs`,
//! by the same rule). To add a reason to leave an account: `leaves`.

use crate::campaign::FollowUps;
use crate::email_account::AccountStatus;
use crate::pace::AccountBook;
use crate::plan::{Books, CampaignPlan, Candidate};

/// Whether a candidate's next mail is to go from another account than its own, which may not send.
///
/// Only where another account of the pool may. A step's own account is not the candidate's: its mail waits for it.
pub fn leaves(campaign: &CampaignPlan, candidate: &Candidate, books: &Books) -> bool {
    let may_send = |book: &AccountBook| book.status == AccountStatus::Active;
    let Some(own) = candidate.email_account_id else { return false };
    let is_stopped = books.accounts.get(&own).is_some_and(|book| !may_send(book));
    let moves = candidate.is_new || campaign.settings.follow_ups == FollowUps::Move;
    is_stopped && moves && books.pool.iter().filter_map(|id| books.accounts.get(id)).any(may_send)
}
