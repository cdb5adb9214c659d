//! People and leads act at any moment of a campaign: pause, resume, cancel, an edit of its file, an account stopped and
//! started, leads who open, reply, bounce or unsubscribe, addresses that another program suppresses. Between two acts exactly those mails leave that
//! were foreseen right after the first of them, and every lead who waits is told a reason that stands in the ledger, and the slot that it then gets.
//!
//! From this follows that none leaves that should not; that none is missing or double is counted at the end. Not responsible
//! for what an edit changes (`edits`). To add an act: a variant of `Act`, its arm in `choose` and in `act`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::email_account::AccountStatus;
use domain::event::{EventType, Verdict};
use domain::ids::{CampaignId, EmailAccountId, EventId, LeadId, StepId, TenantId};
use domain::reason::Reason;
use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::store::events::StoredEvent;
use engines::value::Row;
use engines::values;

use super::edits::{Author, Edit};
use super::engine::Engine;
use super::explain::{explain_all, judge};
use super::forecast::foreseen;
use super::plans::{Chance, name};
use super::{HORIZON, Mail, NEXT_DUE, Simulation, are_the_same, is_only_one, seeds};
use crate::scheduler;

const ORIGIN: &str = "2026-03-20T10:00:00Z";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(500 * 24 * 3600);
/// What comes due later is not waited for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const LEADS: usize = 40;
const ACTS: usize = 14;

static ACCOUNTS: Statement = Statement::new("ACCOUNTS", "SELECT id, email FROM email_accounts ORDER BY id");
static LEADS_OF: Statement = Statement::new(
    "LEADS_OF",
    "SELECT l.id, l.email, st.id AS step_id FROM leads l, campaign_sequence_steps st WHERE st.step_order = 1 ORDER BY l.id",
);
/// Also those without an account: nothing hides.
static LEFT: Statement = Statement::new(
    "LEFT",
    "SELECT c.status, (SELECT COUNT(*) FROM sends s WHERE s.open) AS open,
            (SELECT COUNT(*) FROM campaign_leads e WHERE e.status = 'active') AS active
        FROM campaigns c WHERE c.id = $1",
);
static COPIES: Statement =
    Statement::new("COPIES", "SELECT COUNT(*) AS n FROM sends s WHERE s.status = 'sent' AND s.campaign_id = $1");
/// As another program writes it, who finds a row of its own.
static SUPPRESS: Statement = Statement::new(
    "SUPPRESS",
    "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, expires_at, created_at, updated_at)
        VALUES ($1, $2, $3, 'manual', 'crm', $4, $5, $4, $4) ON CONFLICT DO NOTHING RETURNING id",
);
/// As another program writes what it read in an inbox.
static MARK: Statement = Statement::new(
    "MARK",
    "UPDATE leads SET status = $2, updated_at = $3 WHERE email = $1 AND status = 'active' RETURNING id",
);
/// Whose mail has its slot and leaves next.
static NEXT_PLANNED: Statement = Statement::new(
    "NEXT_PLANNED",
    "SELECT l.email FROM sends s JOIN leads l ON l.id = s.lead_id
        WHERE s.open AND s.email_account_id IS NOT NULL ORDER BY s.not_before, s.id LIMIT 1",
);
/// Whose sequence was ended, or whose mail was left out, by the suppression list.
static EXCLUDED: Statement = Statement::new(
    "EXCLUDED",
    "SELECT l.email FROM campaign_leads e JOIN leads l ON l.id = e.lead_id WHERE e.stop_reason = 'suppressed'
        OR EXISTS (SELECT 1 FROM sends s WHERE s.enrollment_id = e.id AND s.reason = 'suppressed')",
);

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Pause,
    Resume,
    Stop(usize),
    Start(usize),
    Unsubscribe(usize),
    Suppress(usize, Listing),
    Mark(usize, Mark),
    Open(usize),
    Edit(Edit),
    Cancel,
}

impl Act {
    /// What it is, whomever it is about.
    fn kind(self) -> String {
        format!("{self:?}").replace(|c: char| c.is_ascii_digit(), "")
    }

    /// Whether it comes when the next mail is planned and has not left, if it can.
    fn meets_planned(self) -> bool {
        match self {
            Self::Edit(edit) => !edit.needs_quiet(),
            Self::Suppress(n, _) => Listing::is_of_next(n),
            Self::Mark(n, _) => Mark::is_of_next(n),
            _ => false,
        }
    }
}

/// What another program finds that a lead did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Replied,
    Bounced,
}

impl Mark {
    fn status(self) -> &'static str {
        match self {
            Self::Replied => "replied",
            Self::Bounced => "bounced",
        }
    }

    /// Whether it is whoever is mailed next instead.
    fn is_of_next(n: usize) -> bool {
        n.is_multiple_of(2)
    }
}

/// Whose mail to an address may not leave any more, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Tenant,
    Everybody,
    Hours(u32),
}

impl Listing {
    /// By the lead's number, so that it takes nothing from the chance of the acts behind it.
    fn of(n: usize) -> Self {
        match n % 4 {
            0 => Self::Tenant,
            1..=2 => Self::Everybody,
            _ => Self::Hours(u32::try_from(n).unwrap()),
        }
    }

    /// Whether it is about whoever is mailed next instead. Never for some hours: whose mail was left out by the list goes on behind it
    /// once the list has forgotten it, which a forecast does not know.
    fn is_of_next(n: usize) -> bool {
        n % 4 < 2
    }
}

/// The campaign, and who is stopped.
struct Scene {
    simulation: Simulation,
    author: Author,
    tenant_id: TenantId,
    campaign_id: CampaignId,
    accounts: Vec<(EmailAccountId, String)>,
    leads: Vec<(LeadId, String, StepId)>,
    paused: bool,
    cancelled: bool,
    stopped: BTreeSet<usize>,
    /// Who gets no mail, and until when.
    gone: BTreeMap<String, Timestamp>,
}

impl Scene {
    /// None where the engine is missing.
    async fn begin(engine: Engine, seed: u64, origin: Timestamp) -> Option<Self> {
        let simulation = Simulation::begin_on(engine, origin).await?;
        let author = Author::new(seed, LEADS, origin);
        let (tenant_id, campaign_id) = simulation.start(author.file()).await;
        let db = simulation.ctx.store.db();
        let rows = db.read(&ACCOUNTS, vec![]).await.unwrap();
        let accounts = rows.iter().map(|row| (row.get("id").unwrap(), row.get("email").unwrap())).collect();
        let leads = Self::leads_of(&simulation).await;
        Some(Self {
            simulation,
            author,
            tenant_id,
            campaign_id,
            accounts,
            leads,
            paused: false,
            cancelled: false,
            stopped: BTreeSet::new(),
            gone: BTreeMap::new(),
        })
    }

    async fn leads_of(simulation: &Simulation) -> Vec<(LeadId, String, StepId)> {
        let rows = simulation.ctx.store.db().read(&LEADS_OF, vec![]).await.unwrap();
        let lead = |row: &Row| (row.get("id").unwrap(), row.get("email").unwrap(), row.get("step_id").unwrap());
        rows.iter().map(lead).collect()
    }

    /// Some hours later; of what `meets_planned` also a moment at which the next mail is planned and has not left.
    async fn moment_of(&self, act: Act, chance: &mut Chance) -> Timestamp {
        let now = self.simulation.clock.now();
        let some = Duration::from_secs(300 + chance.below(14 * 3600));
        let before = Duration::from_secs(1 + chance.below(HORIZON.as_secs() - 1));
        let due = self.simulation.moment(&NEXT_DUE, now + HORIZON).await;
        match due.map(|due| Duration::from_secs(due.since(now).as_secs())).filter(|due| *due <= LONGEST) {
            Some(due) if act.meets_planned() => now + due - before,
            _ => now + some,
        }
    }

    fn choose(&self, chance: &mut Chance, is_last: bool) -> Act {
        let mut pick = |many: usize| usize::try_from(chance.below(many as u64)).unwrap();
        match pick(22) {
            0..=2 if is_last => Act::Cancel,
            0..=2 if self.paused => Act::Resume,
            0..=2 => Act::Pause,
            3..=4 => Act::Stop(pick(self.accounts.len())),
            5..=6 => Act::Start(pick(self.accounts.len())),
            7 => Act::Unsubscribe(pick(self.leads.len())),
            8..=9 => {
                let n = pick(self.leads.len());
                Act::Suppress(n, Listing::of(n))
            }
            10..=11 => Act::Mark(pick(self.leads.len()), [Mark::Replied, Mark::Bounced][pick(2)]),
            12..=13 => Act::Open(pick(self.leads.len())),
            _ => Act::Edit(self.author.choose(&mut pick)),
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
            Act::Edit(edit) => {
                self.author.edit(edit, &self.simulation).await;
                self.leads = Self::leads_of(&self.simulation).await;
            }
            Act::Unsubscribe(n) => {
                let event = self.event(n, EventType::Unsubscribe);
                tenant.unsubscribe(&event, ctx.clock.uuid_v7(), now).await.unwrap();
                self.gone.insert(self.leads[n].1.clone(), Timestamp::MAX);
            }
            Act::Open(n) => {
                let report = ctx.store.system().store_events(&[self.event(n, EventType::Open)], now).await.unwrap();
                assert_eq!(report.stored, 1);
                self.author.open(&self.leads[n].1, &self.simulation).await;
            }
            Act::Suppress(n, listing) => self.suppress(n, listing).await,
            Act::Mark(n, mark) => {
                let email = self.next_or(n, Mark::is_of_next(n)).await;
                let rows = ctx.store.db().write(&MARK, values![&email, mark.status(), now]).await.unwrap();
                if !rows.is_empty() {
                    self.gone.insert(email, Timestamp::MAX);
                }
            }
        }
    }

    /// What a lead does now about its first mail.
    fn event(&self, n: usize, event_type: EventType) -> StoredEvent {
        let (lead_id, _, step_id) = self.leads[n];
        StoredEvent {
            id: EventId::from_uuid(self.simulation.clock.uuid_v7()),
            event_type,
            tenant_id: self.tenant_id,
            lead_id,
            campaign_id: self.campaign_id,
            step_id,
            url: None,
            occurred_at: self.simulation.clock.now(),
            ip: None,
            user_agent: None,
            method: None,
            verdict: Verdict::Human,
        }
    }

    /// The address of a lead, or of whoever is mailed next instead, if anybody is.
    async fn next_or(&self, n: usize, is_next: bool) -> String {
        let next = self.simulation.ctx.store.db().read(&NEXT_PLANNED, vec![]).await.unwrap();
        let next = next.first().filter(|_| is_next).map(|row| row.get("email").unwrap());
        next.unwrap_or_else(|| self.leads[n].1.clone())
    }

    /// Writes an address on the list, and nothing else: no send and no enrollment knows of it yet.
    async fn suppress(&mut self, n: usize, listing: Listing) {
        let (ctx, now) = (&self.simulation.ctx, self.simulation.clock.now());
        let email = self.next_or(n, Listing::is_of_next(n)).await;
        let (tenant_id, ends) = match listing {
            Listing::Tenant => (Some(self.tenant_id), None),
            Listing::Everybody => (None, None),
            Listing::Hours(hours) => (Some(self.tenant_id), Some(now + HOUR * hours)),
        };
        let params = values![ctx.clock.uuid_v7(), tenant_id, &email, now, ends];
        let rows = ctx.store.db().write(&SUPPRESS, params).await.unwrap();
        // Where one was there it stays as it is.
        if !rows.is_empty() {
            let until = self.gone.entry(email).or_insert(now);
            *until = ends.unwrap_or(Timestamp::MAX).max(*until);
        }
    }

    /// When the first suppression ends before `until`: what may leave from then on is foreseen no sooner.
    fn next_end(&self, until: Timestamp) -> Option<Timestamp> {
        let now = self.simulation.clock.now();
        self.gone.values().copied().filter(|end| *end > now && *end < until).min()
    }

    /// Lives until `until`: what leaves is what was foreseen, and nothing that an act forbids.
    async fn live(&self, seed: u64, acts: &[Act], until: Timestamp, reasons: &mut BTreeSet<Reason>) {
        let before = self.simulation.accepted().len();
        let said = explain_all(&self.simulation, self.tenant_id, self.campaign_id).await;
        reasons.extend(said.iter().flat_map(|said| [said.told.reason, said.told.left_out]).flatten());
        let mut foreseen = foreseen(&self.simulation, self.tenant_id, self.campaign_id).await;
        foreseen.retain(|mail| mail.0 < until);
        self.simulation.live_until(until).await;
        let happened = self.simulation.accepted().split_off(before);
        for mail in &happened {
            assert!(self.is_allowed(mail), "seed {seed} after {acts:?}: {mail:?}");
        }
        let letters = self.simulation.letters();
        self.author.judge(&letters, before, self.simulation.clock.now());
        for n in before..letters.len() {
            let is_said = self.author.says(&letters[..=n], self.simulation.origin);
            assert!(is_said, "seed {seed} after {acts:?}: {:?}", letters[n]);
        }
        are_the_same(&foreseen, &happened, &format!("seed {seed} after {acts:?}"));
        let accepted = self.simulation.accepted();
        for said in &said {
            judge(&accepted, said, until, &format!("seed {seed} after {acts:?}"));
        }
    }

    fn is_allowed(&self, (at, to, from): &Mail) -> bool {
        let is_stopped = self.stopped.iter().any(|n| self.accounts[*n].1 == *from);
        let is_gone = self.gone.get(to).is_some_and(|until| at < until);
        !self.paused && !self.cancelled && !is_stopped && !is_gone
    }

    /// Lets everything go on that was stopped, to the end.
    async fn finish(&mut self, seed: u64, acts: &[Act]) {
        for n in std::mem::take(&mut self.stopped) {
            self.act(Act::Start(n)).await;
        }
        if self.paused {
            self.act(Act::Resume).await;
        }
        let before = self.simulation.accepted().len();
        self.simulation.live(self.simulation.clock.now() + LONG).await;
        for mail in &self.simulation.accepted()[before..] {
            assert!(self.is_allowed(mail), "seed {seed} after {acts:?}: {mail:?}");
        }
        let letters = self.simulation.letters();
        let excluded = self.excluded().await;
        assert!(excluded.iter().all(|email| self.gone.contains_key(email)), "seed {seed} after {acts:?}: {excluded:?}");
        let is_gone = |email: &String| self.gone.get(email) == Some(&Timestamp::MAX) || excluded.contains(email);
        let stay = self.leads.iter().filter(|(_, email, _)| !is_gone(email));
        for (_, email, _) in stay.filter(|_| !self.cancelled) {
            let is_complete = self.author.is_complete(email, &letters);
            let own: Vec<_> = letters.iter().filter(|letter| letter.to == *email).collect();
            assert!(is_complete, "seed {seed} after {acts:?}: {email} has all mails, each once: {own:?}");
        }
        let left = self.simulation.ctx.store.db().read(&LEFT, values![self.campaign_id]).await.unwrap().remove(0);
        let status: String = left.get("status").unwrap();
        let rest: (u64, u64) = (left.get("open").unwrap(), left.get("active").unwrap());
        let ends_as = if self.cancelled { "cancelled" } else { "completed" };
        assert_eq!((status.as_str(), rest), (ends_as, (0, 0)), "seed {seed} after {acts:?}");
        let copies: BTreeSet<(&str, &str)> =
            letters.iter().map(|letter| (letter.to.as_str(), name(&letter.subject))).collect();
        assert_eq!(copies.len(), letters.len(), "seed {seed} after {acts:?}: none is double");
        let ledger: u64 =
            self.simulation.ctx.store.db().read(&COPIES, values![self.campaign_id]).await.unwrap()[0].get("n").unwrap();
        assert_eq!(ledger, letters.len() as u64, "ledger and receiver agree");
    }

    /// To whom the suppression list has left out anything, whether it still stands there or not.
    async fn excluded(&self) -> BTreeSet<String> {
        let rows = self.simulation.ctx.store.db().read(&EXCLUDED, vec![]).await.unwrap();
        rows.iter().map(|row| row.get("email").unwrap()).collect()
    }
}

/// A campaign of this seed, steered to its end; what was done, and which reasons were said.
async fn steer(engine: Engine, seed: u64, seen: &mut BTreeSet<String>, reasons: &mut BTreeSet<Reason>) {
    let mut chance = Chance::new(seed * 7_919);
    let Some(mut scene) = Scene::begin(engine, seed, ORIGIN.parse().unwrap()).await else { return };
    let mut acts = Vec::new();
    for n in 0..ACTS {
        let mut act = scene.choose(&mut chance, n + 1 == ACTS);
        let until = scene.moment_of(act, &mut chance).await;
        while let Some(end) = scene.next_end(until) {
            scene.live(seed, &acts, end, reasons).await;
        }
        scene.live(seed, &acts, until, reasons).await;
        if matches!(act, Act::Edit(edit) if edit.needs_quiet()) && !Author::is_quiet(&scene.simulation).await {
            act = Act::Edit(Edit::Text(0));
        }
        scene.act(act).await;
        acts.push(act);
        seen.insert(act.kind());
    }
    scene.finish(seed, &acts).await;
    scene.simulation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_people_do_the_right_mails_leave_once() {
    let (mut seen, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    for seed in seeds(21, 14) {
        steer(Engine::Sqlite, seed, &mut seen, &mut reasons).await;
    }
    if is_only_one() {
        return;
    }
    assert_eq!(seen.len(), 26, "every kind of act was tried: {seen:?}");
    for reason in [
        Reason::CampaignPaused,
        Reason::AccountInactive,
        Reason::WindowClosed,
        Reason::NotDue,
        Reason::AccountCap,
        Reason::AccountGap,
        Reason::CampaignCap,
        Reason::Suppressed,
        Reason::LeadReplied,
        Reason::LeadBounced,
    ] {
        assert!(reasons.contains(&reason), "{reason} was never said: {reasons:?}");
    }
}

mod postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_people_do_the_right_mails_leave_once() {
        steer(Engine::Postgres, 21, &mut BTreeSet::new(), &mut BTreeSet::new()).await;
    }
}

/// The account's day is full, and the campaign rests until tomorrow; what the turn ends makes room for who waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_of_a_suppressed_mail_is_used_in_the_turn_that_ends_it() {
    let origin: Timestamp = ORIGIN.parse().unwrap();
    let simulation = Simulation::begin(origin).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.toml");
    std::fs::write(&file, FULL).unwrap();
    std::fs::write(folder.path().join("hello.html"), "<p>Hello</p>").unwrap();
    std::fs::write(folder.path().join("leads.csv"), "email\na@example.test\nb@example.test\nc@example.test\n").unwrap();
    let (tenant_id, _) = simulation.start(&file).await;
    let (ctx, db) = (&simulation.ctx, simulation.ctx.store.db());
    assert_eq!(scheduler::enqueue_due_campaigns(ctx, &|| true).await.unwrap().planned, 2);
    simulation.settle().await;
    assert_eq!(simulation.accepted().len(), 1, "the other one keeps the gap");
    let email: String = db.read(&NEXT_PLANNED, vec![]).await.unwrap()[0].get("email").unwrap();
    let ends: Option<Timestamp> = None;
    let params = values![ctx.clock.uuid_v7(), tenant_id, &email, simulation.clock.now(), ends];
    db.write(&SUPPRESS, params).await.unwrap();
    simulation.clock.advance(HORIZON);
    assert_eq!(scheduler::enqueue_due_campaigns(ctx, &|| true).await.unwrap().planned, 1);
    simulation.live(origin + LONG).await;
    let accepted = simulation.accepted();
    assert!(accepted.len() == 2 && accepted.iter().all(|(_, to, _)| *to != email), "{accepted:?}");
    simulation.end().await;
}

/// An account that may send two mails a day, half a minute apart, and one mail for each lead.
pub(super) const FULL: &str = r#"
[tenant]
name = "Acme"
[company]
name = "Acme Ltd"
address = "1 Main Street"
[[email_account]]
email = "ana@acme.test"
smtp = "smtp://mail.acme.test"
daily_limit = 2
min_gap_seconds = 30
[campaign]
name = "C"
leads = "leads.csv"
[[step]]
subject = "One"
html = "hello.html"
"#;
