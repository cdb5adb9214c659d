//! `penguinmails campaign forecast` and `campaign calendar`: what a campaign will do, by days or mail by mail.
//!
//! Not responsible for foreseeing (`domain::forecast`). To add a figure: `domain::forecast::Outlook`, and here in both forms.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use domain::forecast::{Outlook, Sent};
use domain::ids::{EmailAccountId, LeadId};
use domain::time::{Timestamp, Zone};
use engines::store::campaigns::CampaignName;
use serde_json::{Value, json};

use super::super::{Global, Outcome, block_on, output};
use super::{CampaignArgs, find};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::foresight::{Idle, foresee};
use crate::telemetry;

/// How far a forecast looks: ten years.
const FAR: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How far it looks where the campaign comes back: a quarter, since rounds may come for ever.
const FAR_WITH_ROUNDS: Duration = Duration::from_secs(92 * 24 * 3600);
/// The longest bar of a day.
const BAR: u64 = 40;

/// Show the next mails in the order in which they leave: when, to whom, from where
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  penguinmails campaign calendar Welcome --limit 50")]
pub(crate) struct CalendarArgs {
    #[command(flatten)]
    campaign: CampaignArgs,
    /// How many mails at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// A forecast with what it takes to show it.
struct Shown {
    campaign: CampaignName,
    zone: Zone,
    outlook: Outlook,
    /// Up to when it was looked.
    until: Timestamp,
    leads: HashMap<LeadId, String>,
    accounts: HashMap<EmailAccountId, String>,
}

pub(super) fn run(args: &CampaignArgs, global: &Global) -> Outcome {
    let shown = block_on(read(args, global, usize::MAX))??;
    if global.json {
        output::print_json(&shown.object());
    } else {
        output::print(shown.text());
    }
    Ok(Exit::Done)
}

pub(super) fn calendar(args: &CalendarArgs, global: &Global) -> Outcome {
    let shown = block_on(read(&args.campaign, global, args.limit))??;
    if global.json {
        output::print_json(&json!({ "campaignId": shown.campaign.id, "slots": shown.slots() }));
    } else {
        output::print(shown.lines());
    }
    Ok(Exit::Done)
}

/// Foresees a campaign, no further than its next `most` mails.
async fn read(args: &CampaignArgs, global: &Global, most: usize) -> Result<Shown, Failure> {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    let ctx = Context::open(config, 1.0).await?;
    let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
    let foresight = foresee(&ctx, campaign.tenant_id, campaign.id, Idle::AsIfItWentOn).await?;
    let zone = foresight.settings.timezone;
    let far = if foresight.settings.repeat.is_some() { FAR_WITH_ROUNDS } else { FAR };
    let until = foresight.now + far;
    let outlook = foresight.world.outlook_of(foresight.campaign, &zone, until, most);
    let tenant = ctx.store.tenant(campaign.tenant_id);
    let leads = tenant.lead_addresses(outlook.slots.iter().map(|sent| sent.lead_id)).await?;
    let mut ids: Vec<EmailAccountId> = outlook.slots.iter().map(|sent| sent.account).collect();
    ids.sort_unstable();
    ids.dedup();
    let accounts = tenant.account_addresses(ids).await?;
    Ok(Shown { campaign, zone, outlook, until, leads, accounts })
}

impl Shown {
    fn addresses(&self, sent: &Sent) -> (&str, &str) {
        let lead = self.leads.get(&sent.lead_id).map_or("", String::as_str);
        (lead, self.accounts.get(&sent.account).map_or("", String::as_str))
    }

    fn slots(&self) -> Vec<Value> {
        let slot = |sent: &Sent| {
            let (lead, account) = self.addresses(sent);
            json!({ "lead": lead, "step": sent.step_order, "account": account, "at": sent.at })
        };
        self.outlook.slots.iter().map(slot).collect()
    }

    fn object(&self) -> Value {
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

    /// Up to when mails are foreseen, where more of them come behind it.
    fn bound(&self) -> Option<Timestamp> {
        self.outlook.next_round.filter(|at| *at >= self.until).map(|_| self.until)
    }

    fn text(&self) -> String {
        let outlook = &self.outlook;
        let Outlook { slots, finish, days, limits, skipped, .. } = outlook;
        let many = |n: u64| if n == 1 { "1 mail".to_owned() } else { format!("{n} mails") };
        let mut text = format!("{}: {} to come", self.campaign.name, many(slots.len() as u64));
        // Writing to a string cannot fail.
        let _ = match (finish, slots.last()) {
            (Some(at), _) => write!(text, ", the last one on {}", self.zone.for_people(*at)),
            (None, _) if self.bound().is_some() => {
                write!(text, " until {}, and more rounds behind it", self.zone.for_people(self.until))
            }
            (None, Some(last)) => write!(
                text,
                ", the last one that is foreseen on {}; others wait for a person (see `penguinmails explain`)",
                self.zone.for_people(last.at)
            ),
            (None, None) if outlook.is_done => write!(text, ": nothing is left"),
            (None, None) => write!(text, ": what is left waits for a person (see `penguinmails explain`)"),
        };
        if *skipped > 0 {
            let _ = write!(text, "; {} left out", many(*skipped));
        }
        if !limits.is_empty() {
            let part = |(reason, share): &(domain::reason::Reason, f64)| {
                format!("{:.0} % {} ({reason})", share * 100.0, reason.for_people())
            };
            let parts: Vec<String> = limits.iter().filter(|(_, share)| *share >= 0.005).map(part).collect();
            let _ = write!(text, "\nwhat leads wait for: {}", parts.join(", "));
        }
        let most = days.values().max().copied().unwrap_or(1);
        let width = most.to_string().len();
        for (date, sends) in days {
            let bar = "█".repeat(usize::try_from((sends * BAR).div_ceil(most)).unwrap_or(0));
            let _ = write!(text, "\n{date}  {sends:>width$}  {bar}");
        }
        text
    }

    fn lines(&self) -> String {
        if self.outlook.slots.is_empty() {
            return format!("{}: no mail is foreseen", self.campaign.name);
        }
        let line = |sent: &Sent| {
            let (lead, account) = self.addresses(sent);
            format!("{}  step {}  {lead}  from {account}", self.zone.local(sent.at), sent.step_order)
        };
        self.outlook.slots.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
