//! What lies ahead, for `campaign forecast`, `campaign calendar` and `explain`, on the command line and over the API.
//!
//! Here: the ledger as a forecast begins with it. `outlook` and `explained` hold the answers. Not responsible for foreseeing
//! (`domain::forecast`) or for texts on a terminal (`cli`). To add something that has to be known before: a field of
//! `Foresight`.

pub(crate) mod explained;
pub(crate) mod outlook;

use std::time::Duration;

use anyhow::Context as _;
use domain::campaign::{CampaignSettings, CampaignStatus};
use domain::email_account::AccountStatus;
use domain::first_step::FirstStep;
use domain::forecast::World;
use domain::ids::{CampaignId, TenantId};
use domain::rounds::Rounds;
use domain::time::Timestamp;
use engines::store::outlook::Prospects;

use crate::context::Context;
use crate::scheduler;

/// How far a slot is looked for: ten years.
const FAR: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How far a forecast looks where the campaign comes back: a quarter, since rounds may come for ever.
const FAR_WITH_ROUNDS: Duration = Duration::from_secs(92 * 24 * 3600);

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

/// Does what `campaign resume` would do to a campaign that does not send (`setup::start`, `engines/store/campaigns.rs`).
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
    if was == CampaignStatus::Draft {
        let from = asked.starts_at.map_or(now, |at| at.max(now));
        let first = FirstStep::of_draft(&asked.plan, from);
        for candidate in asked.waiting.iter_mut() {
            if let Some(first) = first.filter(|first| first.due.step_order == candidate.due.step_order) {
                candidate.due = first.due_of(candidate.lead_id);
            }
        }
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

/// Computes on a thread of its own: it may take minutes. A runtime that ends would wait for one of its own threads; this one
/// ends with the process. It goes on where nobody waits for it any more.
///
/// # Errors
/// There is no thread to be had, or the computation ended by a fault of ours.
async fn aside<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let work = move || {
        // Whoever asked may have gone.
        let _nobody_waits = sender.send(compute());
    };
    std::thread::Builder::new().name("foresight".into()).spawn(work).context("there is no thread to foresee on")?;
    receiver.await.context("the forecast ended by a fault of ours")
}
