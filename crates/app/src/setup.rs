//! Brings a checked campaign file into the ledger: everything but the leads in one transaction, then the leads; and starts it.
//!
//! Running it again doubles nothing. Not responsible for reading files (`campaign_file`) or for
//! the leads (`lead_import`).
//! To add a part of a campaign: `campaign_file` and `engines::store::setup`.

use domain::email_account::SmtpSettings;
use domain::first_step::FirstStep;
use domain::ids::CampaignId;
use domain::time::Timestamp;
use engines::store::TenantStore;
use engines::store::setup::{SetupError, SetupReport};
use secrecy::ExposeSecret as _;

use crate::campaign_file::CampaignSetup;
use crate::context::Context;
use crate::exit::Failure;
use crate::lead_import;
use crate::problem::{InputErrors, Problem};
use crate::secrets::Cell;

/// Sets a campaign up; `progress` is told how many leads have been read.
///
/// # Errors
/// `Input` where the campaign cannot take the file; nothing was written then.
pub(crate) async fn set_up(
    ctx: &Context,
    campaign: &CampaignSetup,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<SetupReport, Failure> {
    let seal = |tenant: domain::ids::TenantId, account: domain::ids::EmailAccountId, index: usize| {
        let server = &campaign.servers[index];
        let cell = Cell::smtp_password(tenant.uuid(), account.uuid());
        let sealed = server.password.as_ref().map(|plain| ctx.sealing.seal(cell, plain.expose_secret()));
        SmtpSettings { password: sealed, ..server.settings.clone() }
    };
    let new_id = || ctx.clock.uuid_v7();
    let report = ctx.store.apply_setup(&campaign.setup, &seal, &new_id, ctx.clock.now()).await.map_err(refused)?;
    enroll(ctx, campaign, &report, progress).await?;
    Ok(report)
}

/// Starts a draft now, whose leads may have been waiting since their import; false where it is none.
///
/// # Errors
/// The database; called again, it goes on.
pub(crate) async fn start(
    tenant: &TenantStore,
    id: CampaignId,
    scheduled_at: Option<Timestamp>,
    now: Timestamp,
) -> engines::error::Result<bool> {
    let stored = tenant.get_campaign(id).await?;
    let from = scheduled_at.map_or(now, |at| at.max(now));
    if let Some(first) = FirstStep::of_draft(&stored.plan, from) {
        tenant.spread_first_steps(&first, now).await?;
    }
    tenant.start_campaign(id, now).await
}

fn refused(error: SetupError) -> Failure {
    match error {
        SetupError::Database(e) if e.is_transient() => Failure::Unreachable(e.to_string()),
        SetupError::Database(e) => Failure::Internal(e.into()),
        other => InputErrors::from(Problem::new(other)).into(),
    }
}

async fn enroll(
    ctx: &Context,
    campaign: &CampaignSetup,
    report: &SetupReport,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), Failure> {
    let tenant = ctx.store.tenant(report.tenant_id);
    let stored = tenant.get_campaign(report.campaign_id).await?;
    // Of a campaign that has begun, new leads begin now.
    let now = ctx.clock.now();
    let start = report.scheduled_at.map_or(now, |at| at.max(now));
    let Some(first) = FirstStep::of(&stored.plan, start) else { return Ok(()) };
    lead_import::import(ctx, &tenant, Some(first), &campaign.leads, progress).await.map(drop)
}
