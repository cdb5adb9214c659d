//! A tenant with one account, a campaign of two mails a day apart, and some leads; and short ways to act on it.

use std::time::Duration;

use domain::campaign::CampaignSettings;
use domain::email_account::{SmtpSettings, TlsMode};
use domain::ids::{CampaignId, TenantId};
use domain::schedule::WarmupTable;
use domain::settle::{Attempted, Outcome, RetryPolicy, Transition, settle};
use domain::step::{ConditionType, Due, StepType};
use domain::time::{Timestamp, Zone};
use engines::Store;
use engines::store::apply::{Applied, AttemptRecord, OutboundMessage, Settled};
use engines::store::dot::{DotAnswer, DotRequest};
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;
use engines::store::plan::{Hint, PlanPage, PlanRequest};
use engines::store::setup::{AccountSetup, Setup, SetupError, SetupReport, StepSetup, TemplateSetup};

use crate::engine::{NOW, new_id};

pub const DAY: Duration = Duration::from_secs(86_400);

pub fn setup(tenant: &str, steps: usize, daily_limit: Option<u32>) -> Setup {
    let step = |n: usize| StepSetup {
        step_type: StepType::Email,
        wait_hours: if n == 0 { 0.0 } else { 24.0 },
        wait_until: None,
        condition: ConditionType::Always,
        stop_if_false: false,
        account: None,
        template: Some(TemplateSetup { subject: format!("Mail {n}"), html: "<p>Hi</p>".into(), text: None }),
    };
    Setup {
        tenant: tenant.into(),
        company: "Acme Ltd".into(),
        company_address: "1 Main Street".into(),
        accounts: vec![AccountSetup {
            email: "Ana@acme.test".into(),
            domain: "acme.test".into(),
            from_name: None,
            reply_to: None,
            daily_limit,
            min_gap_seconds: 0,
            warmup_started_at: None,
            timezone: Zone::UTC,
        }],
        campaign: "Welcome".into(),
        description: None,
        scheduled_at: None,
        settings: CampaignSettings::default(),
        steps: (0..steps).map(step).collect(),
        update: false,
    }
}

pub async fn apply_setup(store: &Store, setup: &Setup) -> Result<SetupReport, SetupError> {
    let seal = |_: TenantId, _: domain::ids::EmailAccountId, _: usize| SmtpSettings {
        host: "127.0.0.1".into(),
        port: 25,
        tls: TlsMode::None,
        user: None,
        password: None,
    };
    store.apply_setup(setup, &seal, &new_id, NOW).await
}

pub struct Fixture {
    pub store: Store,
    pub tenant_id: TenantId,
    pub campaign_id: CampaignId,
}

impl Fixture {
    pub async fn new(store: Store, leads: usize, daily_limit: Option<u32>) -> Self {
        let report = apply_setup(&store, &setup("Acme", 2, daily_limit)).await.unwrap();
        let fixture = Self { store, tenant_id: report.tenant_id, campaign_id: report.campaign_id };
        fixture.import(leads).await;
        let tenant = fixture.store.tenant(fixture.tenant_id);
        assert!(tenant.start_campaign(fixture.campaign_id, NOW).await.unwrap());
        fixture
    }

    pub async fn import(&self, leads: usize) -> u64 {
        let list = (0..leads).map(|n| NewLead { email: format!("L{n}@x.test"), ..NewLead::default() }).collect();
        let first = Due { step_order: 1, at: NOW };
        self.store.tenant(self.tenant_id).import_leads(self.campaign_id, list, first, &new_id, NOW).await.unwrap()
    }

    pub async fn plan(&self, now: Timestamp) -> PlanPage {
        let request = PlanRequest {
            tenant_id: self.tenant_id,
            campaign_id: self.campaign_id,
            now,
            horizon: Duration::from_secs(60),
            limit: 500,
            epoch: 1,
            after: None,
        };
        self.store.system().plan_page(&request, &WarmupTable::default(), &new_id).await.unwrap()
    }

    pub async fn fetch(&self, hints: &[Hint], now: Timestamp) -> Vec<SendJob> {
        let hints: Vec<_> = hints.iter().map(|hint| (hint.tenant_id, hint.send_id)).collect();
        self.store.system().fetch(&hints, now).await.unwrap()
    }

    /// Plans and fetches all that is due.
    pub async fn jobs(&self, now: Timestamp) -> Vec<SendJob> {
        let hints = self.plan(now).await.planned;
        self.fetch(&hints, now).await
    }

    pub async fn intend(&self, jobs: &[SendJob], owner: &str, now: Timestamp) -> Vec<DotAnswer> {
        let requests: Vec<DotRequest> = jobs.iter().map(|job| dot_request(job, now)).collect();
        self.store.system().dot_intent(&requests, owner, &WarmupTable::default(), now).await.unwrap()
    }

    pub async fn apply(&self, results: &[Settled], now: Timestamp) -> Vec<Applied> {
        self.store.system().apply(results, "w", &new_id, now).await.unwrap()
    }

    /// Takes a job through its dot to an outcome.
    pub async fn finish(&self, job: &SendJob, outcome: Outcome, now: Timestamp) -> Applied {
        let DotAnswer::Granted { fence } = self.intend(std::slice::from_ref(job), "w", now).await[0] else {
            panic!("the gate is closed");
        };
        self.apply(&[settled(job, fence, outcome, now)], now).await[0]
    }

    pub async fn report(&self) -> engines::store::status::CampaignReport {
        self.store.tenant(self.tenant_id).campaign_report(self.campaign_id).await.unwrap()
    }
}

pub fn dot_request(job: &SendJob, now: Timestamp) -> DotRequest {
    DotRequest {
        send_id: job.send_id,
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        email_account_id: job.account.0,
        fence: job.fence,
        reserved_day: job.account_day.clone(),
        campaign_day: job.campaign_day.clone(),
        dot_day: Zone::UTC.day(now),
        message_id: format!("<{}@acme.test>", job.send_id),
    }
}

fn transition(job: &SendJob, outcome: Outcome, now: Timestamp) -> Transition {
    let next = (job.step_order == 1).then_some(Due { step_order: 2, at: now + DAY });
    let attempted = Attempted {
        attempts: job.attempts,
        unknowns: job.unknowns,
        first_attempt_at: job.first_attempt_at,
        max_attempts: None,
        on_unknown: domain::campaign::OnUnknown::Resend,
        account_failures: job.account_failures,
        account_zone: Zone::UTC,
        soft_bounces: 0,
        next,
    };
    settle(outcome, &attempted, &RetryPolicy::default(), now, 0.5)
}

pub fn settled(job: &SendJob, fence: i64, outcome: Outcome, now: Timestamp) -> Settled {
    Settled {
        send_id: job.send_id,
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        lead_id: job.lead.id,
        step_id: job.step_id,
        step_order: job.step_order,
        enrollment_id: job.enrollment_id,
        email_account_id: job.account.0,
        fence,
        account_day: Some(Zone::UTC.day(now)),
        was_dot: fence > job.fence,
        transition: transition(job, outcome, now),
        attempt: Some(AttemptRecord {
            started_at: now,
            finished_at: now,
            stage: "dot",
            outcome: "accepted",
            code: Some(250),
            enhanced: None,
            reply: Some("queued".into()),
            transcript: None,
        }),
        message: Some(OutboundMessage {
            message_id: format!("<{}@acme.test>", job.send_id),
            from: "ana@acme.test".into(),
            to: job.lead.email.clone(),
            subject: "Mail".into(),
        }),
    }
}
