//! `penguinmails campaign forecast` and `campaign calendar`: what a campaign will do, by days or mail by mail.
//!
//! Here for people; the JSON form, which the API has too, is `foresight/outlook.rs`. Not responsible for foreseeing
//! (`domain::forecast`). To add a figure: `domain::forecast::Outlook`, and both forms.

use std::fmt::Write as _;

use clap::Args;
use domain::forecast::{Outlook, Sent};

use super::super::{Global, Outcome, block_on, output};
use super::{CampaignArgs, find};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::foresight::outlook::Shown;
use crate::telemetry;

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

pub(super) fn run(args: &CampaignArgs, global: &Global) -> Outcome {
    let shown = block_on(read(args, global, usize::MAX))??;
    if global.json {
        output::print_json(&shown.forecast());
    } else {
        output::print(text(&shown));
    }
    Ok(Exit::Done)
}

pub(super) fn calendar(args: &CalendarArgs, global: &Global) -> Outcome {
    let shown = block_on(read(&args.campaign, global, args.limit))??;
    if global.json {
        output::print_json(&shown.calendar());
    } else {
        output::print(lines(&shown));
    }
    Ok(Exit::Done)
}

/// Foresees a campaign, no further than its next `most` mails.
async fn read(args: &CampaignArgs, global: &Global, most: usize) -> Result<Shown, Failure> {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    let ctx = Context::open(config, 1.0).await?;
    let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
    Shown::foresee(&ctx, campaign, most).await
}

fn text(shown: &Shown) -> String {
    let outlook = &shown.outlook;
    let Outlook { slots, finish, days, limits, skipped, .. } = outlook;
    let many = |n: u64| if n == 1 { "1 mail".to_owned() } else { format!("{n} mails") };
    let mut text = format!("{}: {} to come", shown.campaign.name, many(slots.len() as u64));
    // Writing to a string cannot fail.
    let _ = match (finish, slots.last()) {
        (Some(at), _) => write!(text, ", the last one on {}", shown.zone.for_people(*at)),
        (None, _) if shown.bound().is_some() => {
            let more = if outlook.next_round.is_some() { "more rounds" } else { "more" };
            write!(text, " until {}, and {more} behind it", shown.zone.for_people(shown.until))
        }
        (None, Some(last)) => write!(
            text,
            ", the last one that is foreseen on {}; others wait for a person (see `penguinmails explain`)",
            shown.zone.for_people(last.at)
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

fn lines(shown: &Shown) -> String {
    if shown.outlook.slots.is_empty() {
        return format!("{}: no mail is foreseen", shown.campaign.name);
    }
    let line = |sent: &Sent| {
        let (lead, account) = shown.addresses(sent);
        format!("{}  step {}  {lead}  from {account}", shown.zone.local(sent.at), sent.step_order)
    };
    shown.outlook.slots.iter().map(line).collect::<Vec<_>>().join("\n")
}
