//! Brings a checked campaign file into the ledger: everything but the leads in one transaction, then the leads in batches.
//!
//! Running it again doubles nothing. Not responsible for reading files (`campaign_file`, `leads_csv`).
//! To add a part of a campaign: there, and in `engines::store::setup`.

use domain::email_account::SmtpSettings;
use domain::step::next_due;
use engines::store::setup::{SetupError, SetupReport};
use secrecy::ExposeSecret as _;

use crate::campaign_file::CampaignSetup;
use crate::context::Context;
use crate::exit::Failure;
use crate::leads_csv::{LeadReader, RowError};
use crate::problem::{InputErrors, Problem};
use crate::secrets::Cell;

/// Leads in one transaction.
const BATCH: usize = 1000;

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
    import_leads(ctx, campaign, &report, progress).await?;
    Ok(report)
}

fn refused(error: SetupError) -> Failure {
    match error {
        SetupError::Database(e) if e.is_transient() => Failure::Unreachable(e.to_string()),
        SetupError::Database(e) => Failure::Internal(e.into()),
        other => InputErrors::from(Problem::new(other)).into(),
    }
}

async fn import_leads(
    ctx: &Context,
    campaign: &CampaignSetup,
    report: &SetupReport,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), Failure> {
    let tenant = ctx.store.tenant(report.tenant_id);
    let stored = tenant.get_campaign(report.campaign_id).await.map_err(anyhow::Error::from)?;
    let start = campaign.setup.scheduled_at.unwrap_or_else(|| ctx.clock.now());
    let Some(first) = next_due(&stored.plan.steps, 0, start) else { return Ok(()) };
    let mut reader = LeadReader::open(&campaign.leads.path).map_err(InputErrors::from)?;
    let mut imported = 0;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        for row in reader.by_ref() {
            match row {
                Ok(lead) => batch.push(lead),
                // The check before has told about it, and was asked to leave it out.
                Err(RowError::Bad(_)) => {}
                Err(RowError::Fatal(problem)) => return Err(InputErrors::from(problem).into()),
            }
            if batch.len() == BATCH {
                break;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        imported += batch.len() as u64;
        let new_id = || ctx.clock.uuid_v7();
        tenant
            .import_leads(report.campaign_id, batch, first, &new_id, ctx.clock.now())
            .await
            .map_err(anyhow::Error::from)?;
        progress(imported);
    }
}
