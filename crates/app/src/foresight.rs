//! The ledger as a forecast begins with it, for `campaign forecast`, `campaign calendar` and `explain`.
//!
//! Not responsible for foreseeing (`domain::forecast`) or for showing. To add something that has to be known before: a
//! field of `Foresight`.

use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::email_account::AccountStatus;
use domain::forecast::World;
use domain::ids::{CampaignId, TenantId};
use domain::rounds::Rounds;
use domain::time::Timestamp;
use engines::store::outlook::Prospects;

use crate::context::Context;
use crate::scheduler;

/// The world as it stands, and the campaign that was asked for in it.
pub(crate) struct Foresight {
    /// All campaigns that share accounts with it.
    pub(crate) world: World,
    /// Its index there.
    pub(crate) campaign: usize,
    /// Its settings.
    pub(crate) settings: CampaignSettings,
    /// The present.
    pub(crate) now: Timestamp,
}

/// Whether a campaign that does not send is taken as it stands, or as if it went on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    AsItStands,
    AsIfItWentOn,
}

/// Reads what is needed to foresee.
///
/// # Errors
/// The database.
pub(crate) async fn foresee(
    ctx: &Context,
    tenant_id: TenantId,
    id: CampaignId,
    idle: Idle,
) -> engines::error::Result<Foresight> {
    let now = ctx.clock.now();
    let mut prospects = ctx.store.system().prospects(tenant_id, id, now).await?;
    let settings = prospects.campaigns[prospects.asked].plan.settings.clone();
    if idle == Idle::AsIfItWentOn {
        go_on(&mut prospects, now);
    }
    let world = World::new(now, scheduler::rhythm(ctx), prospects.shared, prospects.campaigns);
    Ok(Foresight { world, campaign: prospects.asked, settings, now })
}

/// Does what `campaign start` or `campaign resume` would do to a campaign that does not send (`engines/store/campaigns.rs`).
fn go_on(prospects: &mut Prospects, now: Timestamp) {
    let asked = &mut prospects.campaigns[prospects.asked];
    let was = asked.plan.status;
    if !matches!(was, CampaignStatus::Draft | CampaignStatus::Paused) {
        return;
    }
    asked.plan.status = CampaignStatus::Sending;
    if asked.rounds.is_none() {
        // It would start now, and come back from then on.
        asked.rounds = Rounds::of(&asked.plan.settings, Some(now), None);
    }
    // Waiting for a person is no lateness, for leads and for what has its slot.
    asked.plan.seen_until = Some(now);
    asked.next_plan_at = None;
    if was == CampaignStatus::Paused {
        for send in asked.open.iter_mut().filter(|send| !send.is_dot) {
            send.at = send.at.max(now);
        }
        for account in &prospects.resumed {
            if let Some(book) = prospects.shared.accounts.get_mut(account) {
                book.status = AccountStatus::Active;
            }
        }
        for prospect in &mut prospects.campaigns {
            if prospect.senders().iter().any(|account| prospects.resumed.contains(account)) {
                prospect.next_plan_at = None;
            }
        }
    }
}
