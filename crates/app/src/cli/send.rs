//! `penguinmails send`: one send, what became of it, and what a person decides about it.
//!
//! Not responsible for many at once (`campaign failures`, `campaign resend-failed`). To add a verb: a variant of
//! `Command` and its file.

mod resolve;
mod show;

use clap::Args;
use domain::ids::{CampaignId, SendId};
use engines::store::TenantStore;

use super::campaign::find;
use super::{Global, Outcome};
use crate::context::Context;
use crate::exit::Failure;
use crate::problem::{InputErrors, Problem};

/// One send: what became of it, and what a person decides about it
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a send and every attempt: when, by whom, how far it came, what the server said
    ///
    /// Email addresses are shown on a terminal. In a pipe, a file or an object of --json, any of which may become a log,
    /// ids stand alone and addresses in replies are blacked out, unless --log-addresses is given.
    #[command(after_help = "\
Examples:
  penguinmails send show 018f3a5e-0000-7000-8000-000000000001
  penguinmails send show --campaign Welcome --lead ana@acme.test
  penguinmails send show --campaign Welcome --lead ana@acme.test --step 2 --json --log-addresses")]
    Show(Which),
    Resolve(resolve::ResolveArgs),
}

/// Which send.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Id of the send
    #[arg(value_name = "ID", required_unless_present = "campaign", conflicts_with_all = ["campaign", "lead"])]
    id: Option<SendId>,
    /// Instead of an id: name or id of the campaign, with --lead
    #[arg(long, value_name = "NAME|ID")]
    campaign: Option<String>,
    /// Address or id of the lead
    #[arg(long, value_name = "ADDRESS|ID", requires = "campaign")]
    lead: Option<String>,
    /// Number of the step; the last one that the lead came to where it is left out
    #[arg(long, value_name = "N", requires = "lead")]
    step: Option<u32>,
    /// Name of the tenant, where two have a campaign of this name
    #[arg(long, value_name = "NAME", requires = "campaign")]
    tenant: Option<String>,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self {
            Self::Show(which) => show::run(&which, global),
            Self::Resolve(args) => resolve::run(&args, global),
        }
    }
}

impl Which {
    /// The campaign alone, and its tenant's part of the ledger.
    ///
    /// # Errors
    /// `Input` where there is none, or more than one.
    async fn find_campaign(&self, ctx: &Context) -> Result<(TenantStore, CampaignId), Failure> {
        let campaign = find(ctx, self.campaign.as_deref().unwrap_or_default(), self.tenant.as_deref()).await?;
        Ok((ctx.store.tenant(campaign.tenant_id), campaign.id))
    }

    /// The send, and its tenant's part of the ledger.
    ///
    /// # Errors
    /// `Input` where there is none.
    async fn find(&self, ctx: &Context) -> Result<(TenantStore, SendId), Failure> {
        let refuse = |problem: Problem| Err(InputErrors::from(problem).into());
        if let Some(id) = self.id {
            return match ctx.store.system().find_tenant_of_send(id).await? {
                Some(tenant_id) => Ok((ctx.store.tenant(tenant_id), id)),
                None => refuse(Problem::new(format!("there is no send `{id}`")).hint("`campaign failures` lists ids")),
            };
        }
        let Some(lead) = self.lead.as_deref() else {
            return refuse(Problem::new("--campaign names no send by itself").hint("add --lead ADDRESS|ID"));
        };
        let name = self.campaign.as_deref().unwrap_or_default();
        let campaign = find(ctx, name, self.tenant.as_deref()).await?;
        let tenant = ctx.store.tenant(campaign.tenant_id);
        // The lead is not named: an error holds no address.
        let Some(lead) = tenant.find_enrolled_lead(campaign.id, lead).await? else {
            let problem = Problem::new(format!("the campaign `{}` has no such lead", campaign.name));
            return refuse(problem.field("--lead"));
        };
        match tenant.find_send_of_lead(campaign.id, lead, self.step).await? {
            Some(id) => Ok((tenant, id)),
            None => {
                let problem = Problem::new(format!("nothing is planned yet for the lead `{lead}`"));
                refuse(problem.hint("a send is planned when its step is due"))
            }
        }
    }
}
