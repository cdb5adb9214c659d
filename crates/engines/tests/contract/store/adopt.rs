//! P11: other programs' jobs get their ledger row by the rules of any send, or are refused by field.

use domain::campaign::CampaignSettings;
use domain::ids::{CampaignId, EmailAccountId, LeadId, SendId, StepId, TenantId};
use domain::job::EmailJobPayload;
use domain::plan::Moment;
use domain::schedule::WarmupTable;
use domain::send::SendStatus;
use domain::settle::Outcome;
use domain::step::StepType;
use domain::time::Timestamp;
use engines::Store;
use engines::queue::Lane;
use engines::store::adopt::{AdoptRequest, Adopted};
use engines::store::fetch::SendJob;
use engines::store::setup::{Setup, StepSetup};
use engines::values;

use super::scene::{DAY, HOUR, MINUTE, Scene, apply_setup, email_step, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

/// The ids that another program knows.
struct Ids {
    leads: Vec<LeadId>,
    steps: Vec<StepId>,
    account: EmailAccountId,
}

async fn ids(f: &Scene) -> Ids {
    Ids {
        leads: f.column("SELECT id AS x FROM leads ORDER BY email").await,
        steps: f.column("SELECT id AS x FROM campaign_sequence_steps ORDER BY step_order").await,
        account: f.column("SELECT id AS x FROM email_accounts").await.remove(0),
    }
}

impl Ids {
    fn job(&self, f: &Scene, lead: usize, step: usize) -> EmailJobPayload {
        EmailJobPayload {
            tenant_id: f.tenant_id,
            campaign_id: f.campaign_id,
            lead_id: self.leads[lead],
            step_id: self.steps[step],
            email_account_id: self.account,
            send_id: None,
            priority: None,
            not_before: None,
            attempt: None,
            max_attempts: None,
            enqueued_at: None,
        }
    }
}

async fn adopt(f: &Scene, jobs: &[EmailJobPayload], now: Timestamp) -> Vec<Adopted> {
    let warmup = WarmupTable::default();
    let request = AdoptRequest { moment: Moment { now, horizon: MINUTE }, epoch: 1, warmup: &warmup };
    f.store.system().adopt(jobs, &request, &new_id).await.unwrap()
}

fn open(answer: Adopted) -> SendId {
    match answer {
        Adopted::Open(id) => id,
        other => panic!("{other:?}"),
    }
}

async fn fetch_one(f: &Scene, id: SendId, now: Timestamp) -> Option<SendJob> {
    f.store.system().fetch(&[(f.tenant_id, id)], now).await.unwrap().pop()
}

fn five_ids_become_one_send_and_progress_when_it_was_sent(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 0, |_| {}).await;
        let other = Scene::draft(f.store.clone(), |s| s.campaign = "Other".into()).await;
        other.enroll(0..1).await;
        let ids = Ids {
            steps: f.column("SELECT s.id AS x FROM campaign_sequence_steps s JOIN campaigns c ON c.id = s.campaign_id WHERE c.name = 'Welcome' ORDER BY step_order").await,
            ..ids(&f).await
        };
        let job = ids.job(&f, 0, 0);
        let answers = adopt(&f, &[job.clone(), job.clone()], NOW).await;
        assert_eq!(answers[0], answers[1], "the same job twice is one send");
        let id = open(answers[0]);
        assert_eq!(open(adopt(&f, std::slice::from_ref(&job), NOW).await[0]), id);
        assert_eq!(f.sends().await, ["planned"]);
        assert_eq!(f.account_days().await, (1, 0));
        assert!(f.plan(NOW).await.planned.is_empty(), "the new enrollment waits for the job");
        let send = fetch_one(&f, id, NOW).await.unwrap();
        let fence = f.granted(&send, NOW).await;
        f.settled(&send, fence, Outcome::Accepted, NOW).await;
        assert_eq!(adopt(&f, &[job], NOW).await, [Adopted::Settled(id, SendStatus::Sent)]);
        assert_eq!(
            f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads WHERE highest_sent_step = 1").await,
            2
        );
        assert_eq!(f.plan(NOW + 48 * HOUR).await.planned.len(), 1, "the sequence goes on behind it");
    });
}

fn a_step_behind_the_enrollments_place_moves_nothing_back(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |s| s.steps.push(email_step("Last", 0.0))).await;
        let ids = ids(&f).await;
        let second = open(adopt(&f, &[ids.job(&f, 0, 1)], NOW).await[0]);
        assert!(f.plan(NOW).await.planned.is_empty(), "the sequence waits for the later step");
        let send = fetch_one(&f, second, NOW).await.unwrap();
        let fence = f.granted(&send, NOW).await;
        let mut sent = result(&send, fence, Outcome::Accepted, NOW);
        let third = domain::step::Due { step_order: 3, at: NOW + DAY };
        sent.transition.enrollment = domain::settle::EnrollmentEffect::MoveOn(Some(third));
        f.apply(&[sent], NOW).await;
        let first = open(adopt(&f, &[ids.job(&f, 0, 0)], NOW).await[0]);
        let send = fetch_one(&f, first, NOW).await.unwrap();
        let fence = f.granted(&send, NOW).await;
        f.settled(&send, fence, Outcome::Accepted, NOW).await;
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 3);
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, NOW + DAY);
        assert_eq!(f.one::<i64>("SELECT highest_sent_step AS x FROM campaign_leads").await, 2);
    });
}

fn what_does_not_belong_together_is_refused_by_field(engine: Engine) {
    with_store(engine, async |store: Store| {
        let wait = |s: &mut engines::store::setup::Setup| {
            s.steps[1].step_type = StepType::Wait;
            s.steps[1].template = None;
        };
        let f = Scene::started(store, 1, wait).await;
        let foreign = {
            let setup = engines::store::setup::Setup { tenant: "Other".into(), ..super::scene::acme() };
            let report = apply_setup(&f.store, &setup).await.unwrap();
            Scene { store: f.store.clone(), setup, tenant_id: report.tenant_id, campaign_id: report.campaign_id }
        };
        foreign.enroll(7..8).await;
        let own = Ids {
            leads: f.column("SELECT l.id AS x FROM leads l JOIN tenants t ON t.id = l.tenant_id WHERE t.name = 'Acme'").await,
            steps: f.column("SELECT s.id AS x FROM campaign_sequence_steps s JOIN tenants t ON t.id = s.tenant_id WHERE t.name = 'Acme' ORDER BY step_order").await,
            account: f.one("SELECT a.id AS x FROM email_accounts a JOIN tenants t ON t.id = a.tenant_id WHERE t.name = 'Acme'").await,
        };
        let others = Ids {
            leads: f.column("SELECT l.id AS x FROM leads l JOIN tenants t ON t.id = l.tenant_id WHERE t.name = 'Other'").await,
            steps: f.column("SELECT s.id AS x FROM campaign_sequence_steps s JOIN tenants t ON t.id = s.tenant_id WHERE t.name = 'Other'").await,
            account: f.one("SELECT a.id AS x FROM email_accounts a JOIN tenants t ON t.id = a.tenant_id WHERE t.name = 'Other'").await,
        };
        let good = own.job(&f, 0, 0);
        let jobs = [
            EmailJobPayload { tenant_id: foreign.tenant_id, ..good.clone() },
            EmailJobPayload { tenant_id: TenantId::from_uuid(new_id()), ..good.clone() },
            EmailJobPayload { campaign_id: foreign.campaign_id, ..good.clone() },
            EmailJobPayload { campaign_id: CampaignId::from_uuid(new_id()), ..good.clone() },
            EmailJobPayload { lead_id: others.leads[0], ..good.clone() },
            EmailJobPayload { step_id: others.steps[0], ..good.clone() },
            EmailJobPayload { step_id: own.steps[1], ..good.clone() },
            EmailJobPayload { email_account_id: others.account, ..good.clone() },
            others.job(&foreign, 0, 0),
        ];
        let field = |answer: &Adopted| match answer {
            Adopted::Refused { field, .. } => *field,
            other => panic!("{other:?}"),
        };
        let fields: Vec<&str> = adopt(&f, &jobs, NOW).await.iter().map(field).collect();
        let expected = [
            "campaignId",
            "campaignId",
            "campaignId",
            "campaignId",
            "leadId",
            "stepId",
            "stepId",
            "emailAccountId",
            // A draft of its own tenant.
            "campaignId",
        ];
        assert_eq!(fields, expected);
        assert!(f.sends().await.is_empty() && f.account_days().await == (0, 0), "nothing was written");
        foreign.write("UPDATE campaigns SET settings = '{\"send_days\": 7}' WHERE status = 'draft'", vec![]).await;
        assert_eq!(field(&adopt(&f, &[others.job(&foreign, 0, 0)], NOW).await[0]), "campaignId", "unreadable settings");
        assert!(f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap().is_some());
        assert_eq!(field(&adopt(&f, &[good], NOW).await[0]), "campaignId", "a cancelled campaign");
    });
}

fn a_job_for_a_paused_campaign_goes_after_it_is_resumed(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let ids = ids(&f).await;
        assert!(f.tenant().pause_campaign(f.campaign_id, NOW).await.unwrap());
        let id = open(adopt(&f, &[ids.job(&f, 0, 0)], NOW).await[0]);
        assert!(fetch_one(&f, id, NOW + MINUTE).await.is_none());
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "campaign_paused");
        assert!(f.tenant().resume_campaign(f.campaign_id, NOW + HOUR).await.unwrap());
        let brought = f.store.system().reconcile(Lane::Base, 1, NOW, 10, NOW + HOUR).await.unwrap();
        assert_eq!(brought.iter().map(|hint| hint.send_id).collect::<Vec<_>>(), [id]);
        assert!(fetch_one(&f, id, NOW + HOUR).await.is_some());
    });
}

fn limits_times_and_exclusions_hold(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |s| s.accounts[0].daily_limit = Some(1)).await;
        let ids = ids(&f).await;
        f.write("UPDATE leads SET status = 'unsubscribed' WHERE email = 'lead3@example.test'", vec![]).await;
        let urgent = EmailJobPayload { priority: Some(10), max_attempts: Some(2), ..ids.job(&f, 0, 0) };
        let later = EmailJobPayload { not_before: Some(NOW + 30 * DAY), ..ids.job(&f, 2, 0) };
        let jobs = [urgent, ids.job(&f, 1, 0), later, ids.job(&f, 3, 0)];
        let answers = adopt(&f, &jobs, NOW).await;
        assert!(matches!(answers[3], Adopted::Skipped(_)));
        assert_eq!(f.column::<String>("SELECT reason AS x FROM sends WHERE NOT open").await, ["lead_unsubscribed"]);
        let first = fetch_one(&f, open(answers[0]), NOW).await.unwrap();
        assert_eq!(first.max_attempts, Some(2));
        assert_eq!(f.column::<i64>("SELECT priority AS x FROM sends WHERE max_attempts = 2").await, [10]);
        let second = open(answers[1]);
        assert!(fetch_one(&f, second, NOW).await.is_none(), "the day's one slot is taken");
        let tomorrow = NOW + DAY;
        f.granted(&first, NOW).await;
        f.granted(&fetch_one(&f, second, tomorrow).await.unwrap(), tomorrow).await;
        let third = open(answers[2]);
        assert!(fetch_one(&f, third, NOW + 29 * DAY).await.is_none());
        assert!(fetch_one(&f, third, NOW + 30 * DAY).await.is_some());
    });
}

fn a_planner_and_another_program_make_one_send(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let ids = ids(&f).await;
        let planned = f.plan(NOW).await.planned.remove(0).send_id;
        assert_eq!(open(adopt(&f, &[ids.job(&f, 0, 0)], NOW).await[0]), planned);
        assert_eq!(f.account_days().await, (1, 0));
        let unheard = SendId::from_uuid(new_id());
        let known = f.store.system().list_known(&[(f.tenant_id, planned), (f.tenant_id, unheard)]).await.unwrap();
        assert_eq!(known, [planned].into());
    });
}

/// Nothing was sent: what the lead waits for is still to come.
fn a_job_that_is_left_out_moves_nobody_past_mails_of_its_own(engine: Engine) {
    with_store(engine, async |store: Store| {
        let unused = |s: &mut Setup| s.steps.push(StepSetup { is_active: false, ..email_step("Last", 0.0) });
        let f = Scene::started(store, 1, unused).await;
        let ids = ids(&f).await;
        assert!(matches!(adopt(&f, &[ids.job(&f, 0, 2)], NOW).await[0], Adopted::Skipped(_)));
        assert_eq!(f.column::<String>("SELECT reason AS x FROM sends").await, ["step_inactive"]);
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaign_leads").await, "active");
        for (step, hours) in [(0, 0), (1, 48)] {
            let planned = f.jobs(NOW + hours * HOUR).await.remove(0);
            assert_eq!(planned.step_id, ids.steps[step]);
            f.send(&planned, NOW + hours * HOUR).await;
        }
    });
}

/// Who is enrolled by them ends: nobody waits for what never comes.
fn several_jobs_of_a_lead_who_gets_no_mail_leave_nothing_behind(engine: Engine) {
    with_store(engine, async |store: Store| {
        for (n, order) in [[0, 1], [1, 0]].into_iter().enumerate() {
            let name = format!("C{n}");
            let f = Scene::started(store.clone(), 0, |s| s.campaign = name).await;
            let other = Scene::draft(store.clone(), |s| s.campaign = "Other".into()).await;
            other.enroll(n..n + 1).await;
            f.write("UPDATE leads SET status = 'unsubscribed'", vec![]).await;
            let plan = f.tenant().get_campaign(f.campaign_id).await.unwrap().plan;
            let steps = plan.steps.iter().map(|step| step.id).collect();
            let ids = Ids { steps, ..ids(&f).await };
            let answers = adopt(&f, &order.map(|step| ids.job(&f, n, step)), NOW).await;
            assert!(answers.iter().all(|answer| matches!(answer, Adopted::Skipped(_))), "{answers:?}");
            f.plan(NOW + 49 * HOUR).await;
            let standing = "SELECT status AS x FROM campaign_leads WHERE campaign_id IN (SELECT id FROM campaigns WHERE status <> 'draft')";
            let standing = f.column::<String>(standing).await;
            assert!(standing.len() == n + 1 && standing.iter().all(|status| status != "active"), "{standing:?}");
        }
    });
}

/// Waiting for the start is no lateness, and a pause before it does not bring it forward.
fn a_job_for_a_campaign_that_has_not_begun_waits_for_its_start(engine: Engine) {
    with_store(engine, async |store: Store| {
        let starts = NOW + 3 * DAY;
        let later = |s: &mut Setup| {
            s.scheduled_at = Some(starts);
            s.settings.max_lateness = Some(24.0);
        };
        let f = Scene::draft(store, later).await;
        f.enroll(0..1).await;
        assert!(f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap());
        let id = open(adopt(&f, &[ids(&f).await.job(&f, 0, 0)], NOW).await[0]);
        assert!(f.tenant().pause_campaign(f.campaign_id, NOW + HOUR).await.unwrap());
        assert!(f.tenant().resume_campaign(f.campaign_id, NOW + 2 * HOUR).await.unwrap());
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "scheduled");
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "campaign_not_started");
        assert!(fetch_one(&f, id, NOW + DAY).await.is_none());
        f.plan(starts).await;
        assert_eq!(f.one::<Timestamp>("SELECT not_before AS x FROM sends").await, starts);
        f.send(&fetch_one(&f, id, starts).await.unwrap(), starts).await;
        // A start that is moved behind its first mail is none.
        f.write("UPDATE campaigns SET scheduled_at = $1", values![starts + 9 * DAY]).await;
        assert!(f.tenant().pause_campaign(f.campaign_id, starts).await.unwrap());
        assert!(f.tenant().resume_campaign(f.campaign_id, starts).await.unwrap());
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending");
    });
}

/// What follows counts from when it was sent.
fn what_follows_waits_for_another_programs_mail(engine: Engine) {
    with_store(engine, async |store: Store| {
        let three = |s: &mut Setup| {
            s.steps[1].wait_hours = 24.0;
            s.steps.push(email_step("Last", 24.0));
        };
        let f = Scene::started(store, 1, three).await;
        let ids = ids(&f).await;
        let later = EmailJobPayload { not_before: Some(NOW + 5 * DAY), ..ids.job(&f, 0, 1) };
        let answers = adopt(&f, &[ids.job(&f, 0, 0), later], NOW).await;
        f.send(&fetch_one(&f, open(answers[0]), NOW).await.unwrap(), NOW).await;
        for days in 1..5 {
            assert!(f.plan(NOW + DAY * days).await.planned.is_empty(), "after {days} days");
        }
        assert_eq!(f.account_days().await, (0, 1), "nothing is reserved for it");
        let now = NOW + 5 * DAY;
        f.send(&fetch_one(&f, open(answers[1]), now).await.unwrap(), now).await;
        assert!(f.plan(now + HOUR).await.planned.is_empty());
        assert_eq!(f.jobs(now + DAY).await[0].step_id, ids.steps[2]);
    });
}

/// It waits for its window without a slot; else all that its account sends would keep the gap to tomorrow's.
fn a_job_outside_of_its_window_holds_up_no_other_campaign(engine: Engine) {
    with_store(engine, async |store: Store| {
        let in_the_morning = |s: &mut Setup| {
            s.accounts[0].min_gap_seconds = 120;
            s.settings.send_time_start = "09:00".parse().unwrap();
            s.settings.send_time_end = "10:00".parse().unwrap();
        };
        let f = Scene::started(store, 1, in_the_morning).await;
        let id = open(adopt(&f, &[ids(&f).await.job(&f, 0, 0)], NOW).await[0]);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "window_closed");
        let setup = Setup { campaign: "Other".into(), settings: CampaignSettings::default(), ..f.setup.clone() };
        let report = apply_setup(&f.store, &setup).await.unwrap();
        let other = Scene { store: f.store.clone(), setup, tenant_id: f.tenant_id, campaign_id: report.campaign_id };
        other.enroll(7..8).await;
        assert!(other.tenant().start_campaign(other.campaign_id, NOW).await.unwrap());
        let planned = other.plan_within(MINUTE, NOW).await.planned;
        assert_eq!(planned.iter().map(|hint| hint.not_before).collect::<Vec<_>>(), [NOW]);
        let opens = NOW + 21 * HOUR;
        assert!(fetch_one(&f, id, opens - MINUTE).await.is_none());
        f.granted(&fetch_one(&f, id, opens).await.unwrap(), opens).await;
    });
}

/// Rows that other programs wrote wrongly touch their own jobs alone, and never move one job's answer to another.
fn a_row_that_makes_no_sense_holds_up_no_other_job(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |_| {}).await;
        let ids = ids(&f).await;
        let setup = engines::store::setup::Setup { tenant: "Other".into(), ..super::scene::acme() };
        let foreign = apply_setup(&f.store, &setup).await.unwrap().tenant_id;
        f.write("UPDATE email_accounts SET timezone = 'Mars/Olympus' WHERE tenant_id = $1", values![f.tenant_id]).await;
        f.write("UPDATE campaign_leads SET tenant_id = $1 WHERE lead_id = $2", values![foreign, ids.leads[1]]).await;
        let answers = adopt(&f, &[ids.job(&f, 0, 0), ids.job(&f, 1, 0), ids.job(&f, 2, 0)], NOW).await;
        assert!(matches!(answers[1], Adopted::Refused { field: "leadId", .. }), "{answers:?}");
        for (place, lead) in [(0, 0), (2, 2)] {
            let send = fetch_one(&f, open(answers[place]), NOW).await.unwrap();
            assert_eq!(send.lead.id, ids.leads[lead]);
            f.granted(&send, NOW).await;
        }
        assert!(f.tenant().get_account(ids.account).await.is_err(), "the worker pauses such an account");
    });
}

fn what_was_sent_stays_so_when_its_account_is_deleted(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, send, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&send, fence, Outcome::Accepted, NOW).await;
        let ids = ids(&f).await;
        f.write("UPDATE email_accounts SET status = 'deleted' WHERE tenant_id = $1", values![f.tenant_id]).await;
        let answers = adopt(&f, &[ids.job(&f, 0, 0), ids.job(&f, 0, 1)], NOW).await;
        assert_eq!(answers[0], Adopted::Settled(send.send_id, SendStatus::Sent));
        assert!(matches!(answers[1], Adopted::Refused { field: "emailAccountId", .. }), "{answers:?}");
    });
}

on_every_engine! {
    a_job_for_a_campaign_that_has_not_begun_waits_for_its_start
    what_follows_waits_for_another_programs_mail
    several_jobs_of_a_lead_who_gets_no_mail_leave_nothing_behind
    a_job_that_is_left_out_moves_nobody_past_mails_of_its_own
    a_job_outside_of_its_window_holds_up_no_other_campaign
    a_row_that_makes_no_sense_holds_up_no_other_job
    what_was_sent_stays_so_when_its_account_is_deleted
    five_ids_become_one_send_and_progress_when_it_was_sent
    a_step_behind_the_enrollments_place_moves_nothing_back
    what_does_not_belong_together_is_refused_by_field
    a_job_for_a_paused_campaign_goes_after_it_is_resumed
    limits_times_and_exclusions_hold
    a_planner_and_another_program_make_one_send
}
