//! A held send that is decided about: by a person (`send resolve`), or by proof that it has arrived.
//!
//! Not responsible for the rules (`domain::settle::resolve`) or for writing them down (`engines::store::resolve`).
//! To add a kind of proof: `proof!` of `engines::store::recover`.

use domain::ids::{SendId, TenantId};
use domain::lost_time::LostTime;
use domain::plan::exclusion;
use domain::reason::Reason;
use domain::settle::{Decision, Held, Unresolvable, resolve};
use domain::time::Timestamp;
use engines::error::Result;
use engines::store::apply::{Applied, OutboundMessage, Settled};
use engines::store::campaigns::CampaignBundle;
use engines::store::sends::SendDetail;
use mail::template::{Kind, Template};

use crate::context::Context;

/// Sends in one read.
const PAGE: u32 = 100;

/// Settles held sends as sent that somebody opened, or followed a link of: of those behind `after` one page, so that many
/// that cannot be settled hold up nobody. Where the next page begins; none behind the last.
///
/// # Errors
/// The database is away.
pub(crate) async fn settle_proven(ctx: &Context, after: Option<SendId>) -> Result<Option<SendId>> {
    let page = ctx.store.system().list_proven(after, PAGE).await?;
    let mut settled = 0_u64;
    for (tenant_id, id) in &page {
        match settle_one(ctx, *tenant_id, *id).await {
            Ok(applied) => settled += u64::from(applied == Applied::Done),
            Err(NotDecided::Database(e)) if e.is_transient() => return Err(e),
            Err(why) => tracing::debug!(send_id = %id, error = %why, "a send has arrived and stays held"),
        }
    }
    if settled > 0 {
        tracing::info!(settled, "held sends have arrived: somebody opened them");
    }
    Ok(page.last().filter(|_| page.len() == PAGE as usize).map(|(_, id)| *id))
}

async fn settle_one(ctx: &Context, tenant_id: TenantId, id: SendId) -> std::result::Result<Applied, NotDecided> {
    let (tenant, now) = (ctx.store.tenant(tenant_id), ctx.clock.now());
    let send = tenant.get_send(id, now).await?;
    let campaign = tenant.get_campaign(send.campaign_id).await?;
    let proven = decide(&send, &campaign, Decision::Sent, None, now)?;
    Ok(tenant.resolve_send(&proven, &|| ctx.clock.uuid_v7(), now).await?)
}

/// Why a decision changes nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDecided {
    /// The send is not one to be decided about, or may not go.
    #[error(transparent)]
    Unresolvable(#[from] Unresolvable),
    /// It could not be asked.
    #[error(transparent)]
    Database(#[from] engines::error::Error),
}

/// What is to be written of a held send by this decision.
///
/// # Errors
/// `NotDecided`; nothing is to be written then.
pub(crate) fn decide(
    send: &SendDetail,
    campaign: &CampaignBundle,
    decision: Decision,
    lost_time: Option<LostTime>,
    now: Timestamp,
) -> std::result::Result<Settled, NotDecided> {
    let held = Held {
        status: send.status,
        campaign: campaign.plan.status,
        exclusion: exclusion(send.lead.status, send.suppressed, campaign.plan.settings.stop_on_reply),
        last_dot_at: send.last_attempt_at,
        steps: &campaign.plan.steps,
        step_order: send.step_order,
        not_before: send.not_before,
        lost_time: lost_time.filter(|_| send.reason.as_deref() == Some(Reason::Restored.as_str())),
    };
    let transition = resolve(decision, &held, now)?;
    Ok(Settled {
        send_id: send.send_id,
        tenant_id: send.lead.tenant_id,
        campaign_id: send.campaign_id,
        lead_id: send.lead.id,
        step_id: send.step_id,
        step_order: send.step_order,
        enrollment_id: send.enrollment_id,
        email_account_id: send.email_account_id,
        fence: send.fence,
        account_day: None,
        campaign_day: None,
        was_dot: false,
        sequence_seen: campaign.sequence_seen,
        transition,
        attempt: None,
        message: message(send, campaign),
    })
}

/// What is kept of the message, as its result would have told; none where no dot of it was ever granted.
fn message(send: &SendDetail, campaign: &CampaignBundle) -> Option<OutboundMessage> {
    let template = send.subject.as_deref().and_then(|source| Template::parse(source, Kind::Header).ok());
    let (company, address) = (&campaign.company_name, &campaign.company_address);
    let thread = send.thread_subject.as_deref();
    let subject = template.and_then(|t| mail::assemble::subject(&t, &send.lead, company, address, thread).ok());
    Some(OutboundMessage {
        message_id: send.message_id.clone()?,
        from: send.account_email.clone()?,
        to: send.lead.email.clone(),
        // A template that was changed since, and renders no more, takes nothing else from the record.
        subject: subject.unwrap_or_default(),
    })
}
