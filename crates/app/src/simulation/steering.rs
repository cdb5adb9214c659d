//! People and leads act at any moment of a campaign: pause, resume, cancel, an account stopped and started, leads who
//! unsubscribe. Between two acts exactly those mails leave that were foreseen right after the first of them, and every lead
//! who waits is told a reason that stands in the ledger.
//!
//! From this follows that none leaves that should not; that none is missing or double is counted at the end. To add an act:
//! a variant of `Act`, its arm in `choose` and in `act`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::email_account::AccountStatus;
use domain::event::{EventType, Verdict};
use domain::ids::{CampaignId, EmailAccountId, EventId, LeadId, TenantId};
use domain::reason::Reason;
use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::store::events::StoredEvent;
use engines::values;

use super::explain::explain_all;
use super::forecast::foreseen;
use super::plans::{Chance, Plan};
use super::{Mail, Simulation};

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);
const LEADS: usize = 40;
const ACTS: usize = 14;

static ACCOUNTS: Statement = Statement::new("ACCOUNTS", "SELECT id, email FROM email_accounts ORDER BY id");
static LEADS_OF: Statement = Statement::new(
    "LEADS_OF",
    "SELECT l.id, l.email, st.id AS step_id FROM leads l, campaign_sequence_steps st WHERE st.step_order = 1 ORDER BY l.id",
);
static COPIES: Statement =
    Statement::new("COPIES", "SELECT COUNT(*) AS n FROM sends s WHERE s.status = 'sent' AND s.campaign_id = $1");

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Pause,
    Resume,
    Stop(usize),
    Start(usize),
    Unsubscribe(usize),
    Cancel,
}

/// The campaign, and who is stopped.
struct Scene {
    simulation: Simulation,
    tenant_id: TenantId,
    campaign_id: CampaignId,
    accounts: Vec<(EmailAccountId, String)>,
    leads: Vec<(LeadId, String, domain::ids::StepId)>,
    paused: bool,
    cancelled: bool,
    stopped: BTreeSet<usize>,
    gone: BTreeMap<String, Timestamp>,
}

impl Scene {
    async fn begin(seed: u64, origin: Timestamp) -> Self {
        let simulation = Simulation::begin(origin).await;
        let folder = tempfile::tempdir().unwrap();
        let (tenant_id, campaign_id) = simulation.start(&Plan::write(seed, LEADS, folder.path())).await;
        let db = simulation.ctx.store.db();
        let rows = db.read(&ACCOUNTS, vec![]).await.unwrap();
        let accounts = rows.iter().map(|row| (row.get("id").unwrap(), row.get("email").unwrap())).collect();
        let rows = db.read(&LEADS_OF, vec![]).await.unwrap();
        let lead = |row: &engines::value::Row| {
            (row.get("id").unwrap(), row.get("email").unwrap(), row.get("step_id").unwrap())
        };
        let leads = rows.iter().map(lead).collect();
        Self {
            simulation,
            tenant_id,
            campaign_id,
            accounts,
            leads,
            paused: false,
            cancelled: false,
            stopped: BTreeSet::new(),
            gone: BTreeMap::new(),
        }
    }

    fn choose(&self, chance: &mut Chance, is_last: bool) -> Act {
        let mut pick = |many: usize| usize::try_from(chance.below(many as u64)).unwrap();
        match pick(10) {
            0 if is_last => Act::Cancel,
            0..=2 if self.paused => Act::Resume,
            0..=2 => Act::Pause,
            3..=4 => Act::Stop(pick(self.accounts.len())),
            5..=6 => Act::Start(pick(self.accounts.len())),
            _ => Act::Unsubscribe(pick(self.leads.len())),
        }
    }

    async fn act(&mut self, act: Act) {
        let (ctx, now) = (&self.simulation.ctx, self.simulation.clock.now());
        let tenant = ctx.store.tenant(self.tenant_id);
        match act {
            Act::Pause => self.paused = tenant.pause_campaign(self.campaign_id, now).await.unwrap(),
            Act::Resume => self.paused = !tenant.resume_campaign(self.campaign_id, now).await.unwrap(),
            Act::Cancel => self.cancelled = tenant.cancel_campaign(self.campaign_id, now).await.unwrap().is_some(),
            Act::Stop(n) => {
                tenant.set_account_status(self.accounts[n].0, AccountStatus::Paused, None, now).await.unwrap();
                self.stopped.insert(n);
            }
            Act::Start(n) => {
                tenant.set_account_status(self.accounts[n].0, AccountStatus::Active, None, now).await.unwrap();
                self.stopped.remove(&n);
            }
            Act::Unsubscribe(n) => {
                let (lead_id, email, step_id) = self.leads[n].clone();
                let event = StoredEvent {
                    id: EventId::from_uuid(ctx.clock.uuid_v7()),
                    event_type: EventType::Unsubscribe,
                    tenant_id: self.tenant_id,
                    lead_id,
                    campaign_id: self.campaign_id,
                    step_id,
                    url: None,
                    occurred_at: now,
                    ip: None,
                    user_agent: None,
                    method: None,
                    verdict: Verdict::Human,
                };
                tenant.unsubscribe(&event, ctx.clock.uuid_v7(), now).await.unwrap();
                self.gone.entry(email).or_insert(now);
            }
        }
    }

    /// Lives until `until`: what leaves is what was foreseen, and nothing that an act forbids.
    async fn live(&self, seed: u64, acts: &[Act], until: Timestamp, reasons: &mut BTreeSet<Reason>) {
        let before = self.simulation.accepted().len();
        let said = explain_all(&self.simulation, self.tenant_id, self.campaign_id).await;
        reasons.extend(said.iter().filter_map(|said| said.told.reason));
        let mut foreseen = foreseen(&self.simulation, self.tenant_id, self.campaign_id).await;
        foreseen.retain(|mail| mail.0 < until);
        self.simulation.live_until(until).await;
        let mut happened = self.simulation.accepted().split_off(before);
        for mail in &happened {
            assert!(self.is_allowed(mail), "seed {seed} after {acts:?}: {mail:?}");
        }
        foreseen.sort();
        happened.sort();
        for (foreseen, happened) in foreseen.iter().zip(&happened) {
            assert_eq!(foreseen, happened, "seed {seed} after {acts:?}");
        }
        assert_eq!(foreseen.len(), happened.len(), "seed {seed} after {acts:?}: {:?}", foreseen.last());
    }

    fn is_allowed(&self, (_, to, from): &Mail) -> bool {
        let is_stopped = self.stopped.iter().any(|n| self.accounts[*n].1 == *from);
        !self.paused && !self.cancelled && !is_stopped && !self.gone.contains_key(to)
    }

    /// Lets everything go on that was stopped, to the end.
    async fn finish(&mut self, seed: u64, acts: &[Act]) {
        for n in std::mem::take(&mut self.stopped) {
            self.act(Act::Start(n)).await;
        }
        if self.paused {
            self.act(Act::Resume).await;
        }
        self.simulation.live(self.simulation.clock.now() + LONG).await;
        let mut mails: BTreeMap<String, usize> = BTreeMap::new();
        for (_, to, _) in self.simulation.accepted() {
            *mails.entry(to).or_default() += 1;
        }
        let stay = self.leads.iter().filter(|(_, email, _)| !self.gone.contains_key(email));
        for (_, email, _) in stay.filter(|_| !self.cancelled) {
            assert_eq!(mails.get(email), Some(&3), "seed {seed} after {acts:?}: {email} has all mails, each once");
        }
        assert!(mails.values().all(|many| *many <= 3), "seed {seed} after {acts:?}");
        let ledger: u64 =
            self.simulation.ctx.store.db().read(&COPIES, values![self.campaign_id]).await.unwrap()[0].get("n").unwrap();
        assert_eq!(ledger, mails.values().sum::<usize>() as u64, "ledger and receiver agree");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_people_do_the_right_mails_leave_once() {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let (mut seen, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    // Without `max_lateness`: whoever is late is left out, which is counted elsewhere.
    for seed in [21, 22, 25, 28] {
        let mut chance = Chance::new(seed * 7_919);
        let mut scene = Scene::begin(seed, origin).await;
        let mut acts = Vec::new();
        for n in 0..ACTS {
            let pause = Duration::from_secs(300 + chance.below(14 * 3600));
            scene.live(seed, &acts, scene.simulation.clock.now() + pause, &mut reasons).await;
            let act = scene.choose(&mut chance, n + 1 == ACTS);
            scene.act(act).await;
            acts.push(act);
            seen.insert(format!("{act:?}").split('(').next().unwrap().to_owned());
        }
        scene.finish(seed, &acts).await;
        scene.simulation.end().await;
    }
    assert_eq!(seen.len(), 6, "every kind of act was tried: {seen:?}");
    for reason in [Reason::CampaignPaused, Reason::AccountInactive, Reason::WindowClosed, Reason::NotDue] {
        assert!(reasons.contains(&reason), "{reason} was never said: {reasons:?}");
    }
}
