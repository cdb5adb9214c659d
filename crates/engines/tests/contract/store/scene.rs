//! A tenant with a campaign of two mails, as every case of the ledger finds it, and the moves of its life.
//!
//! Not responsible for judging: cases read the ledger with `column`. To add a move: a method of `Scene`.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::campaign::CampaignSettings;
use domain::email_account::{LogInMethod, SmtpSettings, TlsMode};
use domain::first_step::FirstStep;
use domain::ids::{CampaignId, EmailAccountId, EventId, SendId, TenantId};
use domain::schedule::WarmupTable;
use domain::settle::{Attempted, EnrollmentEffect, Outcome, RetryPolicy, settle};
use domain::step::{ConditionType, Due, StepType};
use domain::time::{Timestamp, Zone};
use engines::Store;
use engines::dialect::{Dialect, Statement};
use engines::store::apply::{Applied, AttemptRecord, OutboundMessage, Settled};
use engines::store::dot::{DotAnswer, DotRequest};
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;
use engines::store::leads::{Imported, NewLead};
use engines::store::plan::{Hint, PlanPage, PlanRequest};
use engines::store::setup::{AccountSetup, Setup, SetupError, SetupReport, StepSetup, TemplateSetup, TenantRate};
use engines::value::{FromValue, Value};

use crate::engine::{NOW, new_id};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
/// How far ahead slots are granted where a case does not say.
const HORIZON: Duration = Duration::from_secs(600);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// Who writes the dots of every case.
pub const OWNER: &str = "worker-1";

/// A set-up with one account without limits and two mails, the second 48 hours after the first.
pub fn acme() -> Setup {
    Setup {
        tenant: "Acme".into(),
        tenant_rate: TenantRate::Keep,
        provider_limits: None,
        company: "Acme Ltd".into(),
        company_address: "1 Main Street".into(),
        accounts: vec![account("ana@acme.test")],
        campaign: "Welcome".into(),
        description: None,
        scheduled_at: None,
        settings: CampaignSettings::default(),
        steps: vec![email_step("Hello", 0.0), email_step("Following up", 48.0)],
        update: false,
        reopen: false,
    }
}

pub fn account(email: &str) -> AccountSetup {
    AccountSetup {
        email: email.into(),
        domain: email.split_once('@').unwrap().1.into(),
        from_name: None,
        reply_to: None,
        daily_limit: None,
        min_gap_seconds: 0,
        warmup_started_at: None,
        timezone: Zone::UTC,
        keeps: BTreeSet::new(),
    }
}

pub fn email_step(subject: &str, wait_hours: f64) -> StepSetup {
    let template = TemplateSetup { subject: subject.into(), html: "<p>Hi</p>".into(), text: None };
    StepSetup {
        key: None,
        is_active: true,
        step_type: StepType::Email,
        wait_hours,
        wait_until: None,
        condition: ConditionType::Always.into(),
        stop_if_false: false,
        account: None,
        template: Some(template),
        trial: None,
    }
}

pub async fn apply_setup(store: &Store, setup: &Setup) -> Result<SetupReport, SetupError> {
    apply_setup_at(store, setup, NOW).await
}

pub async fn apply_setup_at(store: &Store, setup: &Setup, now: Timestamp) -> Result<SetupReport, SetupError> {
    let smtp = |_, _, _| SmtpSettings {
        host: "mail.test".into(),
        port: 25,
        tls: TlsMode::None,
        user: None,
        auth: LogInMethod::Password,
        password: None,
    };
    store.apply_setup(setup, &smtp, &new_id, now).await
}

pub struct Scene {
    pub store: Store,
    pub setup: Setup,
    pub tenant_id: TenantId,
    pub campaign_id: CampaignId,
}

impl Scene {
    /// A draft without leads.
    pub async fn draft(store: Store, edit: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = acme();
        edit(&mut setup);
        let report = apply_setup(&store, &setup).await.unwrap();
        Self { store, setup, tenant_id: report.tenant_id, campaign_id: report.campaign_id }
    }

    /// A campaign under way with so many leads.
    pub async fn started(store: Store, leads: usize, edit: impl FnOnce(&mut Setup)) -> Self {
        let scene = Self::draft(store, edit).await;
        assert_eq!(scene.enroll(0..leads).await, leads as u64);
        assert!(scene.tenant().start_campaign(scene.campaign_id, NOW).await.unwrap());
        scene
    }

    /// One send that may go, as a worker read it.
    pub async fn one_job(store: Store, edit: impl FnOnce(&mut Setup)) -> (Self, SendJob) {
        let scene = Self::started(store, 1, edit).await;
        let job = scene.jobs(NOW).await.remove(0);
        (scene, job)
    }

    /// One send whose dot was granted: the job, and the fence that is now ours.
    pub async fn one_dot(store: Store, edit: impl FnOnce(&mut Setup)) -> (Self, SendJob, i64) {
        let (scene, job) = Self::one_job(store, edit).await;
        let fence = scene.granted(&job, NOW).await;
        (scene, job, fence)
    }

    pub fn tenant(&self) -> engines::store::TenantStore {
        self.store.tenant(self.tenant_id)
    }

    /// Another tenant's view of the same database.
    pub async fn stranger(&self) -> engines::store::TenantStore {
        self.store.tenant(self.stranger_id().await)
    }

    /// Another tenant of the same database, with a campaign of its own.
    pub async fn stranger_id(&self) -> TenantId {
        let other = Setup { tenant: "Other".into(), ..acme() };
        apply_setup(&self.store, &other).await.unwrap().tenant_id
    }

    /// Enrolls leads `lead0@example.test` and so on; how many are new.
    pub async fn enroll(&self, numbers: std::ops::Range<usize>) -> u64 {
        let leads = numbers.map(|n| NewLead { email: format!("lead{n}@example.test"), ..NewLead::default() }).collect();
        self.import(leads, NOW).await.enrolled
    }

    /// Imports leads into the campaign at `now`.
    pub async fn import(&self, leads: Vec<NewLead>, now: Timestamp) -> Imported {
        self.tenant().import_leads(Some(&self.first_step(now).await), leads, &new_id, now).await.unwrap()
    }

    /// Where leads start who are enrolled at `now`.
    pub async fn first_step(&self, now: Timestamp) -> FirstStep {
        FirstStep::of(&self.tenant().get_campaign(self.campaign_id).await.unwrap().plan, now).unwrap()
    }

    pub async fn plan(&self, now: Timestamp) -> PlanPage {
        self.plan_within(HORIZON, now).await
    }

    /// The campaigns that a turn plans, with the same horizon.
    pub async fn due_campaigns(&self, now: Timestamp) -> Vec<(TenantId, CampaignId)> {
        self.store.system().due_campaigns(now, HORIZON).await.unwrap()
    }

    pub async fn plan_within(&self, horizon: Duration, now: Timestamp) -> PlanPage {
        self.plan_page(self.plan_request(horizon, now)).await
    }

    pub fn plan_request(&self, horizon: Duration, now: Timestamp) -> PlanRequest {
        let (tenant_id, campaign_id) = (self.tenant_id, self.campaign_id);
        PlanRequest { tenant_id, campaign_id, now, horizon, limit: 100, epoch: 1, behind: None }
    }

    pub async fn plan_page(&self, request: PlanRequest) -> PlanPage {
        self.store.system().plan_page(&request, &WarmupTable::default(), &new_id).await.unwrap()
    }

    /// Plans what is due and reads what of it may go.
    pub async fn jobs(&self, now: Timestamp) -> Vec<SendJob> {
        let page = self.plan(now).await;
        self.fetch(&page.planned, now).await
    }

    pub async fn fetch(&self, hints: &[Hint], now: Timestamp) -> Vec<SendJob> {
        let hints: Vec<(TenantId, SendId)> = hints.iter().map(|h| (h.tenant_id, h.send_id)).collect();
        self.store.system().fetch(&hints, now).await.unwrap()
    }

    /// Reads a send anew, as the next worker does; none where it may not go.
    pub async fn refetch(&self, job: &SendJob, now: Timestamp) -> Option<SendJob> {
        self.store.system().fetch(&[(job.tenant_id, job.send_id)], now).await.unwrap().pop()
    }

    pub async fn intend(&self, requests: &[DotRequest], now: Timestamp) -> Vec<DotAnswer> {
        self.store.system().dot_intent(requests, OWNER, &WarmupTable::default(), &[], now).await.unwrap()
    }

    pub async fn dot(&self, job: &SendJob, now: Timestamp) -> DotAnswer {
        self.intend(&[self.request(job, now)], now).await[0]
    }

    /// What a connection asks the gate for this send, with its campaign's limit.
    pub fn request(&self, job: &SendJob, now: Timestamp) -> DotRequest {
        let campaign_limit = self.setup.settings.daily_limit;
        DotRequest { campaign_limit, stop_on_reply: self.setup.settings.stop_on_reply, ..request(job, now) }
    }

    /// The fence of a dot that must be granted; what was edited meanwhile is read anew, as a worker does.
    pub async fn granted(&self, job: &SendJob, now: Timestamp) -> i64 {
        let answer = match self.dot(job, now).await {
            DotAnswer::Outdated => self.dot(&self.refetch(job, now).await.unwrap(), now).await,
            answer => answer,
        };
        match answer {
            DotAnswer::Granted { fence } => fence,
            other => panic!("the dot was not granted: {other:?}"),
        }
    }

    pub async fn apply(&self, results: &[Settled], now: Timestamp) -> Vec<Applied> {
        self.store.system().apply(results, OWNER, &new_id, now).await.unwrap().applied
    }

    /// Writes the outcome of a dot down; it must be taken.
    pub async fn settled(&self, job: &SendJob, fence: i64, outcome: Outcome, now: Timestamp) {
        assert_eq!(self.apply(&[result(job, fence, outcome, now)], now).await, [Applied::Done]);
    }

    pub fn account_of(&self, job: &SendJob) -> EmailAccountId {
        job.account.0
    }

    /// The column `x` of every row of a query.
    pub async fn column<T: FromValue>(&self, sql: &'static str) -> Vec<T> {
        let statement: &'static Statement = Box::leak(Box::new(Statement::new("column", sql)));
        let rows = self.store.db().read(statement, vec![]).await.unwrap();
        rows.iter().map(|row| row.get("x").unwrap()).collect()
    }

    /// The column `x` of the only row of a query.
    pub async fn one<T: FromValue>(&self, sql: &'static str) -> T {
        let mut found = self.column(sql).await;
        assert_eq!(found.len(), 1, "{sql}");
        found.remove(0)
    }

    /// Status of every send, in order of planning.
    pub async fn sends(&self) -> Vec<String> {
        self.column("SELECT status AS x FROM sends ORDER BY id").await
    }

    /// Reserved and used slots of all days of accounts.
    pub async fn account_days(&self) -> (i64, i64) {
        self.days("SELECT CAST(COALESCE(SUM(reserved), 0) AS bigint) AS reserved, CAST(COALESCE(SUM(used), 0) AS bigint) AS used FROM pace_days WHERE scope = 'account'").await
    }

    /// Reserved and used slots of all days of campaigns.
    pub async fn campaign_days(&self) -> (i64, i64) {
        self.days("SELECT CAST(COALESCE(SUM(reserved), 0) AS bigint) AS reserved, CAST(COALESCE(SUM(used), 0) AS bigint) AS used FROM pace_days WHERE scope = 'campaign'").await
    }

    async fn days(&self, sql: &'static str) -> (i64, i64) {
        let statement: &'static Statement = Box::leak(Box::new(Statement::new("days", sql)));
        let rows = self.store.db().read(statement, vec![]).await.unwrap();
        (rows[0].get("reserved").unwrap(), rows[0].get("used").unwrap())
    }

    /// Every row of every table, as text; there must be leads.
    pub async fn dump(&self) -> Vec<(String, Vec<String>)> {
        let dialect = self.store.db().dialect();
        let tables = match dialect {
            Dialect::Sqlite => "SELECT name AS x FROM sqlite_master WHERE type = 'table' ORDER BY name",
            Dialect::Postgres => {
                "SELECT relname AS x FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY 1"
            }
        };
        let mut found = Vec::new();
        for table in self.column::<String>(tables).await {
            let row = match dialect {
                Dialect::Postgres => format!("{table}::text"),
                Dialect::Sqlite => {
                    let columns = format!("SELECT 'quote(' || name || ')' AS x FROM pragma_table_info('{table}')");
                    self.column::<String>(columns.leak()).await.join(" || ',' || ")
                }
            };
            let rows = self.column(format!("SELECT {row} AS x FROM {table} ORDER BY 1").leak()).await;
            found.push((table, rows));
        }
        let leads = found.iter().find(|(table, _)| table == "leads");
        assert!(leads.is_some_and(|(_, rows)| !rows.is_empty()), "the tables were read");
        found
    }

    /// Changes rows as another program does.
    pub async fn write(&self, sql: &'static str, params: Vec<Value>) {
        let statement: &'static Statement = Box::leak(Box::new(Statement::new("write", sql)));
        let mut tx = self.store.db().begin(engines::Access::Write).await.unwrap();
        assert!(tx.execute(statement, params).await.unwrap() > 0, "nothing was changed by {sql}");
        tx.commit().await.unwrap();
    }

    /// An event of the lead and mail of a send.
    pub fn event(&self, job: &SendJob, kind: domain::event::EventType) -> StoredEvent {
        StoredEvent {
            id: EventId::from_uuid(new_id()),
            event_type: kind,
            tenant_id: job.tenant_id,
            lead_id: job.lead.id,
            campaign_id: job.campaign.0,
            step_id: job.step_id,
            url: None,
            occurred_at: NOW,
            ip: None,
            user_agent: None,
            method: None,
            verdict: domain::event::Verdict::Human,
        }
    }

    pub async fn unsubscribe(&self, job: &SendJob, now: Timestamp) {
        let event = self.event(job, domain::event::EventType::Unsubscribe);
        self.tenant().unsubscribe(&event, new_id(), now).await.unwrap();
    }
}

/// What a connection asks the gate for this send, of a campaign without a limit.
pub fn request(job: &SendJob, now: Timestamp) -> DotRequest {
    DotRequest {
        send_id: job.send_id,
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        email_account_id: job.account.0,
        fence: job.fence,
        account_failures: job.account_failures,
        reserved_day: job.account_day.clone(),
        campaign_day: job.campaign_day.clone(),
        account_zone: Zone::UTC,
        campaign_zone: Zone::UTC,
        campaign_limit: None,
        stop_on_reply: true,
        message_id: message_id(job),
        dated_at: now,
        seen: job.seen(),
    }
}

pub fn message_id(job: &SendJob) -> String {
    format!("<{}@acme.test>", job.send_id)
}

/// An accepted mail behind which the sequence is over.
pub fn last_result(job: &SendJob, fence: i64, now: Timestamp) -> Settled {
    let mut last = result(job, fence, Outcome::Accepted, now);
    last.transition.enrollment = EnrollmentEffect::MoveOn(None);
    last
}

/// What `settle` has to know of a send of a lead with so many soft bounces.
pub fn attempted(job: &SendJob, now: Timestamp, soft_bounces: u32) -> Attempted {
    Attempted {
        attempts: job.attempts,
        unknowns: job.unknowns,
        budget_began_at: job.budget_began_at,
        max_attempts: job.max_attempts,
        on_unknown: domain::campaign::OnUnknown::Resend,
        account_failures: job.account_failures,
        account_zone: Zone::UTC,
        soft_bounces,
        next: (job.step_order == 1).then_some(Due { step_order: 2, at: now + 48 * HOUR }),
    }
}

/// What `settle` makes of an outcome after the dot; the second mail follows 48 hours after the first.
pub fn result(job: &SendJob, fence: i64, outcome: Outcome, now: Timestamp) -> Settled {
    let attempted = attempted(job, now, 0);
    let attempt = AttemptRecord {
        started_at: now,
        finished_at: now,
        stage: "dot".into(),
        outcome: "tried".into(),
        code: Some(250),
        enhanced: None,
        reply: Some("2.0.0 queued".into()),
        transcript: None,
    };
    let message = OutboundMessage {
        message_id: message_id(job),
        from: "ana@acme.test".into(),
        to: job.lead.email.clone(),
        subject: "Hello".into(),
    };
    Settled {
        send_id: job.send_id,
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        lead_id: job.lead.id,
        step_id: job.step_id,
        step_order: job.step_order,
        enrollment_id: job.enrollment_id,
        email_account_id: Some(job.account.0),
        fence,
        account_day: Some(Zone::UTC.day(now)),
        campaign_day: Some(Zone::UTC.day(now)),
        was_dot: true,
        sequence_seen: job.sequence_seen,
        transition: settle(outcome, &attempted, &RetryPolicy::default(), now, 0.5),
        attempt: Some(attempt),
        message: Some(message),
    }
}
