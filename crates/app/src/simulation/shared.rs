//! Two campaigns of one tenant that share an account and a rate: limits hold over both, and what is foreseen of each is what
//! happens to it, also where one starts while the other is under way.
//!
//! Who is first at a moment at which both may take the slot is drawn by a hash of campaign and second
//! (`domain::page::turn_rank`), so a forecast knows it too. Not responsible for what one campaign does alone (`forecast`). To add
//! something that campaigns share: its line in `write`, and its rule.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::time::Timestamp;

use super::engine::Engine;
use super::forecast::foreseen;
use super::plans::Account;
use super::rules::Rules;
use super::{Mail, Simulation, are_the_same};

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);
const RATE: f64 = 0.05;

fn account(name: &str, daily_limit: u64, gap: u64) -> Account {
    let (email, zone) = (format!("{name}@acme.test"), "Europe/Madrid");
    Account { email, zone, daily_limit, gap, warms_up: false }
}

/// A campaign from these accounts to leads of its own, and to five that both have.
fn write(folder: &Path, name: &str, accounts: &[&Account], settings: &str) -> PathBuf {
    let mut text = format!(
        "[tenant]\nname = \"Acme\"\nmax_per_second = {RATE}\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n"
    );
    text.extend(accounts.iter().map(|account| account.text()));
    writeln!(text, "[campaign]\nname = \"{name}\"\nleads = \"{name}.csv\"\n{settings}").unwrap();
    for (subject, hours) in [("One", 0), ("Two", 20)] {
        writeln!(text, "[[step]]\nwait_hours = {hours}\nsubject = \"{subject} {name}\"\nhtml = \"hello.html\"")
            .unwrap();
    }
    let own = (0..25).map(|n| format!("{name}{n}@example.test\n"));
    let both = (0..5).map(|n| format!("both{n}@example.test\n"));
    let list: String = own.chain(both).collect();
    std::fs::write(folder.join(format!("{name}.csv")), format!("email\n{list}")).unwrap();
    std::fs::write(folder.join("hello.html"), "<p>Hello</p>").unwrap();
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file
}

async fn compare(engine: Engine, later: Duration) {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let Some(simulation) = Simulation::begin_on(engine, origin).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let [ana, ben, cleo] = [account("ana", 18, 70), account("ben", 9, 90), account("cleo", 30, 0)];
    let hours = "send_time_start = \"08:00\"\nsend_time_end = \"19:00\"\ntimezone = \"Europe/Madrid\"";
    let first = write(folder.path(), "first", &[&ana, &ben], hours);
    let second = write(folder.path(), "second", &[&ana, &cleo], "daily_limit = 14");
    let (tenant_id, first) = simulation.start(&first).await;
    simulation.live_until(origin + later).await;
    let (_, second) = simulation.start(&second).await;
    let before = simulation.accepted().len();
    let mut both: Vec<Mail> = foreseen(&simulation, tenant_id, first).await;
    both.extend(foreseen(&simulation, tenant_id, second).await);
    simulation.live(origin + LONG).await;
    let happened = simulation.accepted().split_off(before);
    are_the_same(&both, &happened, &format!("where the second starts {later:?} later"));
    assert_eq!(before + happened.len(), 120);
    let letters = simulation.letters();
    let rules = Rules::of(&letters);
    rules.judge_accounts(&[ana.clone(), ben, cleo]);
    rules.judge_rate(Some(RATE));
    let from_ana = |campaign: &str| letters.iter().any(|l| l.from == ana.email && l.subject.ends_with(campaign));
    assert!(from_ana("first") && from_ana("second"), "both send from the account that they share");
    simulation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_campaigns_share_an_account_and_a_rate_as_foreseen() {
    for later in [Duration::ZERO, HOUR, HOUR * 21] {
        compare(Engine::Sqlite, later).await;
    }
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_campaigns_share_an_account_and_a_rate_as_foreseen() {
        compare(Engine::Postgres, HOUR).await;
    }
}
