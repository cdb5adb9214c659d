//! Caps of recipients' providers: what is foreseen, and told of each lead, is what happens, and no hour and no day has more than it may.
//!
//! Whose a domain is stands in the ledger before, as a look-up leaves it. Not responsible for asking name servers
//! (`tests/e2e/provider_caps.rs`). To add something that meets a cap: its line in `CAMPAIGN`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::ids::{CampaignId, TenantId};
use domain::reason::Reason;
use domain::time::Timestamp;
use engines::store::dot::providers::LookedUp;

use super::engine::Engine;
use super::explain::{explain_all, judge};
use super::forecast::foreseen;
use super::{Mail, Simulation, are_the_same};

const ORIGIN: &str = "2026-03-20T10:20:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);
const GOOGLE: &str = "google.com";
const DOMAINS: [(&str, &str); 3] =
    [("one.example", GOOGLE), ("two.example", GOOGLE), ("other.example", "other.example")];
const PER_HOUR: usize = 4;
const PER_DAY: usize = 22;

const CAMPAIGN: &str = r#"
[tenant]
name = "Acme"
[[tenant.provider_limits]]
provider = "google.com"
per_hour = 4
per_day = 22
[company]
name = "Acme Ltd"
address = "1 Main Street"
[[email_account]]
email = "ana@acme.test"
smtp = "smtp://mail.acme.test"
min_gap_seconds = 200
[[email_account]]
email = "ben@acme.test"
smtp = "smtp://mail.acme.test"
daily_limit = 25
[campaign]
name = "C"
leads = "leads.csv"
timezone = "Europe/Madrid"
send_time_start = "07:00"
send_time_end = "21:00"
[[step]]
subject = "One"
html = "hello.html"
[[step]]
wait_hours = 20
subject = "Two"
html = "hello.html"
"#;

/// Most mails to the limited provider in so many hours (UTC).
fn most_in(accepted: &[Mail], hours: i64) -> usize {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    let is_limited = |to: &str| DOMAINS.iter().any(|(domain, whose)| *whose == GOOGLE && to.ends_with(domain));
    for (at, ..) in accepted.iter().filter(|(_, to, _)| is_limited(to)) {
        *counts.entry(at.unix_seconds().div_euclid(3600 * hours)).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Starts this campaign to so many leads at each domain, all of which are known.
async fn start(engine: Engine, campaign: &str, leads: usize) -> Option<(Simulation, TenantId, CampaignId)> {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let simulation = Simulation::begin_on(engine, origin).await?;
    let whose = DOMAINS.map(|(domain, provider)| LookedUp {
        domain: domain.to_owned(),
        provider: Some(provider.to_owned()),
        stale_at: origin + LONG,
    });
    simulation.ctx.store.system().save_recipient_domains(&whose, origin).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let leads: String = (0..leads).flat_map(|n| DOMAINS.map(|(domain, _)| format!("lead{n}@{domain}\n"))).collect();
    std::fs::write(folder.path().join("leads.csv"), format!("email\n{leads}")).unwrap();
    std::fs::write(folder.path().join("hello.html"), "<p>Hello</p>").unwrap();
    let file = folder.path().join("campaign.toml");
    std::fs::write(&file, campaign).unwrap();
    let (tenant_id, id) = simulation.start(&file).await;
    Some((simulation, tenant_id, id))
}

/// Who has finished comes back: the caps hold in the next round as well, and are foreseen there.
async fn compare_rounds(engine: Engine) {
    let rounds = format!("leads = \"leads.csv\"\nscheduled_at = {ORIGIN}\nrepeat = \"daily\"\nrepeat_count = 2\n");
    let (one_mail, _) = CAMPAIGN.rsplit_once("[[step]]").unwrap();
    let campaign = one_mail.replace("leads = \"leads.csv\"\n", &rounds);
    let Some((simulation, tenant_id, id)) = start(engine, &campaign, 6).await else { return };
    simulation.live_until(simulation.origin + 10 * HOUR).await;
    let before = simulation.accepted().len();
    assert_eq!(before, 18, "the first round is over");
    let foreseen = foreseen(&simulation, tenant_id, id).await;
    simulation.live(simulation.origin + LONG).await;
    let accepted = simulation.accepted();
    are_the_same(&foreseen, &accepted[before..], "in the second round");
    assert_eq!((accepted.len(), most_in(&accepted, 1)), (36, PER_HOUR));
    simulation.end().await;
}

async fn compare(engine: Engine) {
    let Some((simulation, tenant_id, id)) = start(engine, CAMPAIGN, 20).await else { return };
    let origin = simulation.origin;
    let (mut told, mut then) = (Vec::new(), Vec::new());
    for hours in [0, 1, 5, 12, 30] {
        simulation.live_until(origin + HOUR * hours).await;
        told.extend(explain_all(&simulation, tenant_id, id).await);
        then.push((hours, simulation.accepted().len(), foreseen(&simulation, tenant_id, id).await));
    }
    simulation.live(origin + LONG).await;
    let accepted = simulation.accepted();
    for (hours, before, foreseen) in then {
        are_the_same(&foreseen, &accepted[before..], &format!("after {hours} hours"));
    }
    told.iter().for_each(|said| judge(&accepted, said, Timestamp::MAX, "a provider's cap"));
    let reasons: BTreeSet<_> = told.iter().filter_map(|said| said.told.reason).collect();
    assert!(reasons.contains(&Reason::ProviderCap), "{reasons:?}");
    assert_eq!(accepted.len(), 120);
    assert_eq!((most_in(&accepted, 1), most_in(&accepted, 24)), (PER_HOUR, PER_DAY));
    simulation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_caps_are_lived_as_foreseen() {
    compare(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_caps_hold_in_rounds_to_come_as_foreseen() {
    compare_rounds(Engine::Sqlite).await;
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_providers_caps_are_lived_as_foreseen() {
        compare(Engine::Postgres).await;
    }
}
