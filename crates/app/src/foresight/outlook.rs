//! A campaign's forecast with the addresses that it is shown with, and its JSON object.
//!
//! Not responsible for foreseeing (`domain::forecast`). To add a figure: `domain::forecast::Outlook`, and here and in
//! `cli/campaign/forecast.rs`.

use std::collections::HashMap;

use domain::forecast::{Outlook, Sent};
use domain::ids::{EmailAccountId, LeadId};
use domain::time::{Timestamp, Zone};
use engines::store::campaigns::CampaignName;
use serde_json::{Value, json};

use super::{FAR, FAR_WITH_ROUNDS, Idle, aside, foresee};
use crate::context::Context;
use crate::exit::Failure;

/// A forecast with what it takes to show it.
pub(crate) struct Shown {
    /// Whose forecast it is.
    pub(crate) campaign: CampaignName,
    /// The campaign's zone, by which its days are counted.
    pub(crate) zone: Zone,
    /// What is foreseen.
    pub(crate) outlook: Outlook,
    /// Up to when it was looked.
    pub(crate) until: Timestamp,
    leads: HashMap<LeadId, String>,
    accounts: HashMap<EmailAccountId, String>,
}

impl Shown {
    /// Foresees a campaign, no further than its next `most` mails; a draft or paused one as if it went on now.
    ///
    /// # Errors
    /// The database, or a fault of ours.
    pub(crate) async fn foresee(ctx: &Context, campaign: CampaignName, most: usize) -> Result<Self, Failure> {
        let foresight = foresee(ctx, campaign.tenant_id, campaign.id, Idle::AsIfItWentOn).await?;
        let zone = foresight.settings.timezone.clone();
        let of_days = zone.clone();
        let far = if foresight.settings.repeat.is_some() { FAR_WITH_ROUNDS } else { FAR };
        let until = foresight.now + far;
        let outlook = aside(move || foresight.world.outlook_of(foresight.campaign, &of_days, until, most)).await?;
        let tenant = ctx.store.tenant(campaign.tenant_id);
        let leads = tenant.lead_addresses(outlook.slots.iter().map(|sent| sent.lead_id)).await?;
        let mut ids: Vec<EmailAccountId> = outlook.slots.iter().map(|sent| sent.account).collect();
        ids.sort_unstable();
        ids.dedup();
        let accounts = tenant.account_addresses(ids).await?;
        Ok(Self { campaign, zone, outlook, until, leads, accounts })
    }

    /// The addresses of lead and account.
    pub(crate) fn addresses(&self, sent: &Sent) -> (&str, &str) {
        let lead = self.leads.get(&sent.lead_id).map_or("", String::as_str);
        (lead, self.accounts.get(&sent.account).map_or("", String::as_str))
    }

    /// Up to when mails are foreseen, where more of them come behind it.
    pub(crate) fn bound(&self) -> Option<Timestamp> {
        self.outlook.goes_on.then_some(self.until)
    }

    fn slots(&self) -> Vec<Value> {
        let slot = |sent: &Sent| {
            let (lead, account) = self.addresses(sent);
            json!({ "lead": lead, "step": sent.step_order, "account": account, "at": sent.at })
        };
        self.outlook.slots.iter().map(slot).collect()
    }

    /// The object of `campaign forecast --json`.
    pub(crate) fn forecast(&self) -> Value {
        let days = self.outlook.days.iter().map(|(date, sends)| json!({ "date": date, "sends": sends }));
        let limits = self.outlook.limits.iter().map(|(reason, share)| json!({ "reason": reason, "share": share }));
        json!({
            "campaignId": self.campaign.id,
            "finish": self.outlook.finish,
            "until": self.bound(),
            "nextRoundAt": self.outlook.next_round,
            "days": days.collect::<Vec<_>>(),
            "limits": limits.collect::<Vec<_>>(),
            "slots": self.slots(),
        })
    }

    /// The object of `campaign calendar --json`.
    pub(crate) fn calendar(&self) -> Value {
        json!({ "campaignId": self.campaign.id, "slots": self.slots() })
    }
}
