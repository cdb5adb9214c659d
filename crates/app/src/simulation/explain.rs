//! `explain` is true: its slot is when and from where the lead's next mail then leaves, and what it names is seen in the
//! ledger at that moment.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::email_account::AccountStatus;
use domain::forecast::Explanation;
use domain::ids::{CampaignId, EnrollmentId, TenantId};
use domain::lead::LeadStatus;
use domain::pace::AccountBook;
use domain::reason::Reason;
use domain::schedule::WarmupTable;
use domain::time::Timestamp;
use domain::trial::PARKED;
use engines::dialect::Statement;
use engines::values;

use super::plans::{Plan, Use};
use super::steering::FULL;
use super::{HORIZON, Mail, Simulation, is_only_one, seeds};
use crate::foresight::explained::Explained;
use crate::foresight::{Idle, foresee};
use crate::scheduler;

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);

static ACTIVE: Statement = Statement::new(
    "ACTIVE",
    "SELECT e.id, l.email, l.status, l.timezone, e.due_at, st.step_type, st.is_trial,
            EXISTS (SELECT 1 FROM suppression_list x WHERE x.email = l.email AND (x.expires_at IS NULL OR x.expires_at > $2)) AS suppressed
        FROM campaign_leads e JOIN leads l ON l.id = e.lead_id
        LEFT JOIN campaign_sequence_steps st ON st.campaign_id = e.campaign_id AND st.step_order = e.next_step_order
        WHERE e.campaign_id = $1 AND e.status = 'active'",
);
static STATUS: Statement = Statement::new(
    "STATUS",
    "SELECT c.status, t.max_per_second FROM campaigns c JOIN tenants t ON t.id = c.tenant_id WHERE c.id = $1",
);
static CAMPAIGN_DAY: Statement =
    Statement::new("CAMPAIGN_DAY", "SELECT reserved, used FROM pace_days WHERE scope = 'campaign' AND day = $1");

static AHEAD: Statement = Statement::new(
    "AHEAD",
    "SELECT COUNT(*) AS n FROM campaign_leads WHERE campaign_id = $1 AND status = 'active' AND (due_at, id) < ($2, $3)",
);
static OF_PROVIDERS: Statement = Statement::new(
    "OF_PROVIDERS",
    "SELECT COUNT(*) AS n FROM sends WHERE provider IS NOT NULL AND (not_before <= $1 OR last_attempt_at <= $1)",
);

/// What was said of a lead.
pub(super) struct Said {
    at: Timestamp,
    /// How many mails had been accepted by then.
    accepted: usize,
    email: String,
    /// Whether its window stays closed behind its due time.
    is_outlasted: bool,
    pub(super) told: Explanation,
}

/// Explains every lead that is not at its end, and looks whether the reason is there.
pub(super) async fn explain_all(simulation: &Simulation, tenant_id: TenantId, id: CampaignId) -> Vec<Said> {
    let ctx = &simulation.ctx;
    let foresight = foresee(ctx, tenant_id, id, Idle::AsItStands).await.unwrap();
    let rows = ctx.store.db().read(&ACTIVE, values![id, foresight.now]).await.unwrap();
    let accepted = simulation.accepted().len();
    let campaign = ctx.store.db().read(&STATUS, values![id]).await.unwrap().remove(0);
    let status: String = campaign.get("status").unwrap();
    let rate: Option<f64> = campaign.get("max_per_second").unwrap();
    let mut all = Vec::new();
    for row in rows {
        let enrollment: EnrollmentId = row.get("id").unwrap();
        let told = foresight.world.clone().explain(foresight.campaign, enrollment, foresight.now + LONG);
        let zone: Option<String> = row.get("timezone").unwrap();
        let due: Option<Timestamp> = row.get("due_at").unwrap();
        let window = foresight.settings.window(zone.and_then(|zone| zone.parse().ok()).as_ref()).unwrap();
        let is_suppressed: bool = row.get("suppressed").unwrap();
        let lead: LeadStatus = row.get("status").unwrap();
        let against = match lead {
            LeadStatus::Replied => Some(Reason::LeadReplied),
            LeadStatus::Bounced => Some(Reason::LeadBounced),
            _ => is_suppressed.then_some(Reason::Suppressed),
        };
        let says_so = told.reason == against || told.left_out.is_some();
        let is_unsubscribed = lead == LeadStatus::Unsubscribed;
        let is_told = told.slot.is_none() && (says_so || is_unsubscribed);
        assert!(against.is_none() || is_told, "{told:?} at {}", foresight.now);
        let is_there = match told.reason {
            None => told.slot.is_some() || told.left_out.is_some(),
            Some(Reason::Suppressed) => is_suppressed,
            Some(Reason::LeadReplied) => lead == LeadStatus::Replied && told.slot.is_none(),
            Some(Reason::LeadBounced) => lead == LeadStatus::Bounced && told.slot.is_none(),
            Some(Reason::CampaignPaused) => status == "paused" && told.slot.is_none(),
            Some(Reason::TenantRate) => rate.is_some(),
            Some(Reason::TooLate) => foresight.settings.max_lateness.is_some(),
            // What the lead does until a condition is due counts, so it is not asked ahead; nor is who may wait for a winner.
            Some(Reason::NotDue) => {
                let is_condition = row.get::<Option<String>>("step_type").unwrap().as_deref() == Some("condition");
                let is_trial = row.get::<Option<bool>>("is_trial").unwrap() == Some(true);
                let ahead = if is_condition || is_trial { Duration::ZERO } else { HORIZON };
                due.is_some_and(|due| due > foresight.now + ahead)
            }
            // Whose it is says the ledger; that it has room then is seen by the slot.
            Some(Reason::ProviderCap) => simulation.number(&OF_PROVIDERS).await > 0,
            Some(Reason::AbWinner) => due.is_some_and(|due| due == PARKED || due <= foresight.now),
            // One that has its slot was moved; another would leave within the horizon.
            Some(Reason::WindowClosed) => !window.is_open(due.map_or(foresight.now, |_| foresight.now + HORIZON)),
            Some(Reason::CampaignCap) => {
                let day = foresight.settings.timezone.day(foresight.now + HORIZON);
                let days = ctx.store.db().read(&CAMPAIGN_DAY, values![day]).await.unwrap();
                let taken: u64 =
                    days.iter().map(|row| row.get::<u64>("reserved").unwrap() + row.get::<u64>("used").unwrap()).sum();
                // Who came due before it is served first, in the turn to come. More than it may be where the limit was lowered.
                let ahead = due.map_or(foresight.now + HORIZON, |due| due.min(foresight.now + HORIZON));
                let ahead = ctx.store.db().read(&AHEAD, values![id, ahead, enrollment]).await.unwrap();
                let ahead: u64 = ahead[0].get("n").unwrap();
                foresight.settings.daily_limit.is_some_and(|most| u64::from(most) <= taken + ahead)
            }
            Some(reason) => told.account.as_ref().is_some_and(|book| is_at_its_limit(book, reason, foresight.now)),
        };
        assert!(is_there, "{told:?} at {}", foresight.now);
        let is_mail = row.get::<Option<String>>("step_type").unwrap().as_deref() == Some("email");
        let is_outlasted = is_mail && due.is_some_and(|due| window.next_open(foresight.now + HORIZON) >= Some(due));
        all.push(Said { at: foresight.now, accepted, email: row.get("email").unwrap(), is_outlasted, told });
    }
    all
}

/// Whether the account's limit is reached that is named.
fn is_at_its_limit(book: &AccountBook, reason: Reason, now: Timestamp) -> bool {
    match reason {
        Reason::AccountInactive => book.status == AccountStatus::Paused,
        // On the day of the next slot, which may be one behind the gap or the wait.
        Reason::AccountCap => {
            let behind = [book.pace.last_slot_at.map(|last| last + book.pace.min_gap), book.pace.backoff_until];
            let mut moments = behind.into_iter().flatten().filter(|at| *at > now).chain([now + HORIZON]);
            moments.any(|at| book.remaining(at, &WarmupTable::default()) == 0)
        }
        Reason::AccountGap => {
            let pace = &book.pace;
            pace.last_slot_at.is_some_and(|last| last + pace.min_gap + pace.min_gap / 2 > now + HORIZON)
        }
        _ => false,
    }
}

/// The slot that was told is when the first mail came that this lead got afterwards; `until` then nobody acted, and what either
/// says of later is left alone.
pub(super) fn judge(accepted: &[Mail], said: &Said, until: Timestamp, when: &str) {
    let slot = said.told.slot.as_ref().map(|sent| sent.at).filter(|at| *at < until);
    let next = accepted[said.accepted..].iter().filter(|(_, to, _)| *to == said.email).min();
    let next = next.map(|mail| mail.0).filter(|at| *at < until);
    assert_eq!(slot, next, "{when}: {} at {}, {:?}", said.email, said.at, said.told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_are_what_then_happens() {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let (mut reasons, mut outlasted) = (BTreeMap::<Option<Reason>, usize>::new(), 0);
    for seed in seeds(8, 9) {
        let simulation = Simulation::begin(origin).await;
        let folder = tempfile::tempdir().unwrap();
        let (tenant_id, id) = simulation.start(&Plan::write(seed, 60, Use::Foreseen, folder.path()).file).await;
        let mut said = Vec::new();
        for hours in [0, 1, 7, 25, 60, 100] {
            simulation.live_until(origin + HOUR * hours).await;
            said.extend(explain_all(&simulation, tenant_id, id).await);
        }
        simulation.live(origin + LONG).await;
        let accepted = simulation.accepted();
        for said in said {
            *reasons.entry(said.told.reason).or_default() += 1;
            judge(&accepted, &said, Timestamp::MAX, &format!("seed {seed}"));
            let waits = said.told.reason == Some(Reason::NotDue);
            assert!(!waits || !said.is_outlasted, "seed {seed}: {} at {}, {:?}", said.email, said.at, said.told);
            outlasted += usize::from(said.is_outlasted);
        }
        simulation.end().await;
    }
    if is_only_one() {
        return;
    }
    assert!(outlasted > 0, "planning put somebody off");
    // What else holds mail up is said in the lives of others (`steering`, `late`, `trials`, `providers`). A ramp's cap is told as its
    // account's.
    for reason in [
        None,
        Some(Reason::NotDue),
        Some(Reason::WindowClosed),
        Some(Reason::AccountCap),
        Some(Reason::AccountGap),
        Some(Reason::CampaignCap),
        Some(Reason::TenantRate),
    ] {
        assert!(reasons.contains_key(&reason), "{reason:?} was never said: {reasons:?}");
    }
}

static LOWER: Statement = Statement::new("LOWER", "UPDATE email_accounts SET daily_limit = 1");

/// The sentences that people read, word by word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_what_holds_a_lead_and_its_next_slot() {
    let simulation = Simulation::begin(ORIGIN.parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.toml");
    let local = "timezone = \"Europe/Madrid\"\n[campaign]\ntimezone = \"Europe/Madrid\"\n";
    std::fs::write(&file, FULL.replace("min_gap_seconds = 30\n[campaign]\n", local)).unwrap();
    std::fs::write(folder.path().join("hello.html"), "<p>Hello</p>").unwrap();
    std::fs::write(folder.path().join("leads.csv"), "email\na@example.test\nb@example.test\nc@example.test\n").unwrap();
    let (tenant_id, _) = simulation.start(&file).await;
    let ctx = &simulation.ctx;
    let campaign = ctx.store.tenant(tenant_id).find_campaign("C").await.unwrap().unwrap();
    let told = async |lead: &str| {
        Explained::of(ctx, &campaign, lead).await.unwrap().map(|explained| explained.text().to_owned())
    };
    scheduler::enqueue_due_campaigns(ctx, &|| true).await.unwrap();
    simulation.settle().await;
    assert_eq!(
        told("a@example.test").await.unwrap(),
        "the sequence is over, the last mail left on Fri 2026-03-20 10:00 UTC"
    );
    let full = told("c@example.test").await.unwrap();
    assert_eq!(
        full,
        "ana@acme.test is at 2 of 2 today; next slot Sat 2026-03-21 00:00 Europe/Madrid from ana@acme.test"
    );
    ctx.store.db().write(&LOWER, values![]).await.unwrap();
    let lowered = told("c@example.test").await.unwrap();
    assert!(lowered.starts_with("ana@acme.test is at 2 of 1 today; next slot "), "{lowered}");
    assert_eq!(told("nobody@example.test").await, None);
    simulation.end().await;
}
