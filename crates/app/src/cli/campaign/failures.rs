//! `penguinmails campaign failures`: every send of a campaign that failed, bounced or is held.
//!
//! Read and printed page by page, so that a million of them need no more memory than one. Ids alone, no addresses.
//! To add a column: `store::sends::Failure`, and here in both forms.

use std::fmt::Write as _;

use domain::reason::Reason;
use engines::store::sends::Failure as Row;
use serde_json::{Value, json};

use super::super::{Global, Outcome, block_on, output};
use super::{CampaignArgs, find};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::telemetry;

/// Sends in one read.
const PAGE: u32 = 500;

pub(super) fn run(args: &CampaignArgs, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
        let tenant = ctx.store.tenant(campaign.tenant_id);
        let mut page = tenant.list_failures(campaign.id, None, PAGE).await?;
        let mut count = 0_u64;
        if global.json {
            output::print(format_args!("{{\n\"campaignId\": \"{}\",\n\"failures\": [", campaign.id));
        }
        while let Some(after) = page.last().map(|row| row.send_id) {
            for row in &page {
                if global.json {
                    output::print(format_args!("{}{}", if count == 0 { "" } else { "," }, object(row)));
                } else {
                    output::print(line(row));
                }
                count += 1;
            }
            page = tenant.list_failures(campaign.id, Some(after), PAGE).await?;
        }
        if global.json {
            output::print("]\n}");
        } else if count == 0 {
            output::print(format_args!("{}: nothing failed, bounced or is held", campaign.name));
        }
        Ok(Exit::Done)
    })?
}

/// What a reason's word means; empty for a word of another program.
fn words(reason: &str) -> &'static str {
    reason.parse::<Reason>().map_or("", Reason::for_people)
}

fn object(row: &Row) -> Value {
    json!({
        "sendId": row.send_id, "leadId": row.lead_id, "step": row.step_order, "state": row.status,
        "reason": row.reason, "why": words(&row.reason), "code": row.code, "enhanced": row.enhanced,
        "attempts": row.attempts, "unknowns": row.unknowns, "at": row.settled_at,
    })
}

fn line(row: &Row) -> String {
    let mut text = row.settled_at.map_or(String::new(), |at| format!("{at} "));
    let (status, why) = (row.status, words(&row.reason));
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "send {} lead {} step {}: {status}, {why} ({})",
        row.send_id, row.lead_id, row.step_order, row.reason
    );
    if let Some(code) = row.code {
        let _ = write!(text, ", last reply {code}{}", row.enhanced.as_ref().map_or(String::new(), |e| format!(" {e}")));
    }
    let _ = write!(text, ", {} attempt{}", row.attempts, if row.attempts == 1 { "" } else { "s" });
    if row.unknowns > 0 {
        let _ = write!(text, ", {} cut after the dot", row.unknowns);
    }
    text
}
