//! Pools that `plans` does not make: many email accounts for few leads, and steps that name their account. What is foreseen is what
//! happens.
//!
//! Not responsible for limits and windows in all their variety (`forecast`). To add a pool: its steps and leads, and what must
//! have come from where.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use domain::time::Timestamp;

use super::engine::Engine;
use super::forecast::foreseen;
use super::plans::Account;
use super::rules::{Letter, Rules};
use super::{Simulation, are_the_same};

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);

/// The `n`th account: the first ones have most room.
fn account(n: u64, gap: u64) -> Account {
    Account { email: format!("a{n}@acme.test"), zone: "Europe/Madrid", daily_limit: 40 - 3 * n, gap, warms_up: false }
}

/// Lives a campaign of these steps (subject, hours, account) as it was foreseen; the mails.
async fn live(
    engine: Engine,
    accounts: &[Account],
    steps: &[(&str, u32, Option<&Account>)],
    leads: usize,
) -> Option<Vec<Letter>> {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let simulation = Simulation::begin_on(engine, origin).await?;
    let folder = tempfile::tempdir().unwrap();
    let mut text =
        "[tenant]\nname = \"Acme\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n".to_owned();
    text.extend(accounts.iter().map(Account::text));
    text.push_str("[campaign]\nname = \"C\"\nleads = \"leads.csv\"\n");
    for (subject, hours, named) in steps {
        let named = named.map_or(String::new(), |account| format!("email_account = \"{}\"\n", account.email));
        write!(text, "[[step]]\nwait_hours = {hours}\nsubject = \"{subject}\"\nhtml = \"hello.html\"\n{named}")
            .unwrap();
    }
    let list: String = (0..leads).map(|n| format!("lead{n}@example.test\n")).collect();
    std::fs::write(folder.path().join("leads.csv"), format!("email\n{list}")).unwrap();
    std::fs::write(folder.path().join("hello.html"), "<p>Hello</p>").unwrap();
    let file = folder.path().join("campaign.toml");
    std::fs::write(&file, text).unwrap();
    let (tenant_id, id) = simulation.start(&file).await;
    let foreseen = foreseen(&simulation, tenant_id, id).await;
    simulation.live(origin + LONG).await;
    let happened = simulation.accepted();
    are_the_same(&foreseen, &happened, &format!("{} accounts, {leads} leads", accounts.len()));
    assert_eq!(happened.len(), leads * steps.len(), "every mail leaves");
    let letters = simulation.letters();
    Rules::of(&letters).judge_accounts(accounts);
    simulation.end().await;
    Some(letters)
}

async fn few_leads_of_many_accounts(engine: Engine) {
    let accounts: Vec<Account> = (0..9).map(|n| account(n, 3_600)).collect();
    let Some(letters) = live(engine, &accounts, &[("One", 0, None)], 12).await else { return };
    let at_once: BTreeSet<&str> =
        letters.iter().filter(|letter| letter.at.to_string() == ORIGIN).map(|letter| letter.from.as_str()).collect();
    assert_eq!(at_once.len(), 9, "each account has a mail for which it waits for nobody: {letters:?}");
}

async fn steps_that_name_their_account(engine: Engine) {
    let accounts: Vec<Account> = (8..11).map(|n| account(n, 90)).collect();
    let named = &accounts[1];
    let steps = [("One", 0, None), ("Two", 5, Some(named)), ("Three", 30, None)];
    let Some(letters) = live(engine, &accounts, &steps, 40).await else { return };
    for letter in &letters {
        assert!(letter.subject != "Two" || letter.from == named.email, "{letter:?}");
    }
    let first: BTreeSet<&str> =
        letters.iter().filter(|letter| letter.subject == "One").map(|letter| letter.from.as_str()).collect();
    assert_eq!(first.len(), accounts.len(), "the first mails are spread over all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_one_mail_uses_each_of_many_accounts_as_foreseen() {
    few_leads_of_many_accounts(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_name_their_account_go_from_there_as_foreseen() {
    steps_that_name_their_account(Engine::Sqlite).await;
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn steps_that_name_their_account_go_from_there_as_foreseen() {
        steps_that_name_their_account(Engine::Postgres).await;
    }
}
