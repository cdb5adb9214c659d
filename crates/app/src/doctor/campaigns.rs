//! Campaigns that are under way: whether a rule has paused them, and their settings, which other programs may write,
//! can be read.
//!
//! A zone that is none, or a word that is not one of ours, keeps a whole campaign from being planned.

use domain::reason::Reason;
use engines::Store;

use super::{Finding, Level};

const CHECK: &str = "campaigns";
/// Campaigns that are looked at.
const MOST: u32 = 1000;

pub(super) async fn findings(store: &Store) -> Vec<Finding> {
    let mend = "mend its row in campaigns, or run its campaign file again";
    let live = match store.system().list_live_campaigns(MOST).await {
        Ok(live) => live,
        Err(error) => return vec![Finding::of_error(CHECK, Level::Problem, error, mend)],
    };
    let mut findings = Vec::new();
    for (tenant_id, id, paused) in &live {
        if let Some(word) = paused {
            let why = word.parse::<Reason>().map_or("a rule stopped it", Reason::for_people);
            let text = format!("campaign `{id}` is paused: {why}");
            let mend =
                format!("look at `penguinmails campaign failures {id}`, then `penguinmails campaign resume {id}`");
            findings.push(Finding::new(CHECK, Level::Warning, text, mend));
        }
        if let Err(error) = store.tenant(*tenant_id).get_campaign(*id).await {
            let text = format!("campaign `{id}` is not sent: {error}");
            findings.push(Finding::of_error(CHECK, Level::Problem, text, mend));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("{} are under way, with settings and time zones that can be read", live.len()),
        ));
    }
    findings
}
