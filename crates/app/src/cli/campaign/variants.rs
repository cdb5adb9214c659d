//! `penguinmails campaign variants`: the steps that have variants, how each of them did, and who has won.
//!
//! Not responsible for choosing (`winner`). To add a number: `store::trials::VariantReport`, and here in both forms.

use engines::store::trials::{TrialReport, VariantReport};
use serde_json::{Value, json};

use super::super::{Global, Outcome, block_on, output};
use super::{CampaignArgs, find};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::telemetry;

pub(super) fn run(args: &CampaignArgs, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let campaign = find(&ctx, &args.campaign, args.tenant.as_deref()).await?;
        let trials = ctx.store.tenant(campaign.tenant_id).list_trials(campaign.id).await?;
        if global.json {
            let steps: Vec<Value> = trials.iter().map(object).collect();
            output::print_json(&json!({ "campaignId": campaign.id, "steps": steps }));
        } else if trials.is_empty() {
            output::print(format_args!("{}: no step has variants", campaign.name));
        } else {
            trials.iter().for_each(|trial| output::print(text(trial)));
        }
        Ok(Exit::Done)
    })?
}

/// The part of those who were sent a variant; 0 where nobody was.
fn rate(some: u64, sent: u64) -> f64 {
    if sent == 0 { 0.0 } else { (some as f64 / sent as f64 * 10_000.0).round() / 10_000.0 }
}

fn object(trial: &TrialReport) -> Value {
    let rule = trial.rule.map(|rule| {
        json!({
            "by": rule.by, "afterHours": rule.after.as_secs_f64() / 3600.0, "samplePercent": rule.sample_percent,
        })
    });
    let (winner, at, by) = match &trial.winner {
        Some((winner, at, by)) => (Some(winner), *at, by.as_ref()),
        None => (None, None, None),
    };
    let variants = trial.variants.iter().map(|report| {
        let VariantReport { variant, is_removed, sent, opens, clicks } = report;
        json!({
            "key": variant.key, "weight": variant.weight, "leftOut": is_removed, "sent": sent, "opens": opens,
            "clicks": clicks, "openRate": rate(*opens, *sent), "clickRate": rate(*clicks, *sent),
        })
    });
    json!({
        "step": trial.step_order, "rule": rule, "winner": winner, "decidedAt": at, "decidedBy": by,
        "waiting": trial.waiting, "variants": variants.collect::<Vec<_>>(),
    })
}

fn text(trial: &TrialReport) -> String {
    let mut lines = vec![format!("step {}: {}", trial.step_order, standing(trial))];
    for VariantReport { variant, is_removed, sent, opens, clicks } in &trial.variants {
        let percent = |some| format!("{:.1} %", rate(some, *sent) * 100.0);
        let has_won = trial.winner.as_ref().is_some_and(|(winner, ..)| *winner == variant.key);
        let note = if *is_removed {
            ", left out"
        } else if has_won {
            ", the winner"
        } else {
            ""
        };
        lines.push(format!(
            "  {}: {sent} sent, opened by {opens} ({}), clicked by {clicks} ({}), weight {}{note}",
            variant.key,
            percent(*opens),
            percent(*clicks),
            variant.weight
        ));
    }
    lines.join("\n")
}

fn standing(trial: &TrialReport) -> String {
    match (&trial.winner, trial.rule) {
        (Some((winner, at, by)), _) => {
            let by = if by.as_deref() == Some("rule") { "its rule" } else { "a person" };
            let at = at.map_or(String::new(), |at| format!(" on {at}"));
            format!("`{winner}` has won, chosen by {by}{at}")
        }
        (None, Some(rule)) => format!(
            "tried with {} % of the leads; {} wait for the winner, by {}, {} h after the last mail of the sample",
            rule.sample_percent,
            trial.waiting,
            rule.by,
            rule.after.as_secs_f64() / 3600.0
        ),
        (None, None) => "all leads are split; a person decides (`campaign winner`)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_four_digits_and_nobody_sent_is_none() {
        assert_eq!((rate(1, 3), rate(0, 0), rate(2, 2)), (0.3333, 0.0, 1.0));
    }
}
