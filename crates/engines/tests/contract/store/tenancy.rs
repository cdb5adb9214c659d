//! Another tenant's name in the batches of the scheduler and the worker: it gets nothing and changes nothing.
//!
//! The functions of `SystemStore` whose parameters hold a tenant's id, at whatever depth, are read from the sources: one
//! without an arm in `ask` fails here. They run as the system, past the policies: predicates alone keep tenants apart.
//! What a tenant asks itself stands in `foreign_ids`. To add a function: an arm in `ask`, and its state in `prepare`.

use domain::email_account::AccountStatus;
use domain::event::EventType;
use domain::ids::TenantId;
use domain::job::EmailJobPayload;
use domain::plan::Moment;
use domain::schedule::WarmupTable;
use domain::settle::Outcome;
use engines::Store;
use engines::store::adopt::{AdoptRequest, Adopted};
use engines::store::apply::Applied;
use engines::store::breaker::Probe;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;
use engines::store::plan::PlanRequest;
use engines::store::rounds::DueRound;
use engines::store::trials::OpenTrial;

use super::scene::{DAY, HOUR, MINUTE, OWNER, Scene, request, result};
use super::signatures::{functions_of, types_with_a_tenant};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

/// They take dead letters as an operator lists them, of all tenants; the tenant in a letter is shown, and asked nowhere.
const OF_OPERATORS: [&str; 3] = ["bury", "mark_replayed", "replay_sends"];

/// Calls one function about a send in the name of a tenant; whether anything came of it.
async fn ask(function: &str, f: &Scene, job: &SendJob, tenant_id: TenantId) -> bool {
    let job = SendJob { tenant_id, ..job.clone() };
    let (system, warmup) = (f.store.system(), WarmupTable::default());
    let hints = [(tenant_id, job.send_id)];
    match function {
        "adopt" => {
            let moment = Moment { now: NOW, horizon: MINUTE };
            let request = AdoptRequest { moment, epoch: 1, warmup: &warmup };
            let answers = system.adopt(&[payload(&job)], &request, &new_id).await.unwrap();
            !matches!(answers[..], [Adopted::Refused { .. }])
        }
        "apply" => {
            let settled = result(&job, job.fence + 1, Outcome::Accepted, NOW);
            f.apply(&[settled], NOW).await == [Applied::Done]
        }
        "begin_round" => {
            let due = DueRound { tenant_id, campaign_id: f.campaign_id, at: NOW };
            system.begin_round(&due, None, 10, NOW).await.is_ok_and(|page| page.began > 0)
        }
        "claim_probes" => !system.claim_probes(&[probe(&job)], NOW).await.unwrap().is_empty(),
        "dot_intent" => f.dot(&job, NOW).await != DotAnswer::Refused,
        "end_probes" => system.end_probes(&[probe(&job)], NOW).await.unwrap() > 0,
        "fetch" => !system.fetch(&hints, NOW).await.unwrap().is_empty(),
        "judge_trial" => {
            let (campaign_id, step_id) = (f.campaign_id, job.step_id);
            let trial = OpenTrial { tenant_id, campaign_id, step_id };
            system.judge_trial(&trial, NOW + DAY).await.unwrap().is_some()
        }
        "keep_probes" => !system.keep_probes(&[probe(&job)], NOW + HOUR).await.unwrap().is_empty(),
        "list_known" => !system.list_known(&hints).await.unwrap().is_empty(),
        "plan_page" => {
            let (campaign_id, horizon) = (f.campaign_id, HOUR);
            let request = PlanRequest { tenant_id, campaign_id, now: NOW, horizon, limit: 10, epoch: 1, behind: None };
            system.plan_page(&request, &warmup, &new_id).await.is_ok_and(|page| !page.planned.is_empty())
        }
        "store_events" => {
            let event = f.event(&job, EventType::Open);
            system.store_events(&[event], NOW).await.unwrap().stored > 0
        }
        "prospects" => system.prospects(tenant_id, f.campaign_id, NOW).await.is_ok(),
        "unknown_domains" => !system.unknown_domains(&[request(&job, NOW)], NOW).await.unwrap().is_empty(),
        "why_refused" => system.why_refused(&[request(&job, NOW)], NOW).await.unwrap() != [None],
        "withdraw" => system.withdraw(&[request(&job, NOW)], OWNER, NOW).await.unwrap() > 0,
        other => panic!("`SystemStore::{other}` has no arm in this test"),
    }
}

/// The claim of a probe that `prepare` has made.
fn probe(job: &SendJob) -> Probe {
    Probe { email_account_id: job.account.0, tenant_id: job.tenant_id, failures: 1, until: NOW + MINUTE }
}

/// A job of another program about the same mail.
fn payload(job: &SendJob) -> EmailJobPayload {
    EmailJobPayload {
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        lead_id: job.lead.id,
        step_id: job.step_id,
        email_account_id: job.account.0,
        send_id: None,
        priority: None,
        not_before: None,
        attempt: None,
        max_attempts: None,
        enqueued_at: None,
    }
}

/// A send in the state in which the function finds something to do.
async fn prepare(function: &str, store: Store) -> (Scene, SendJob) {
    let (f, job) = Scene::one_job(store, |_| {}).await;
    match function {
        "apply" | "withdraw" => drop(f.granted(&job, NOW).await),
        "begin_round" => {
            let ended = "UPDATE campaign_leads SET status = 'completed', due_at = NULL, finished_at = $1";
            f.write(ended, engines::values![NOW - HOUR]).await;
            f.write("UPDATE sends SET status = 'sent', open = false, settled_at = $1", engines::values![NOW - HOUR])
                .await;
            let settings = serde_json::json!({ "repeat": "daily" });
            let comes_back = "UPDATE campaigns SET settings = $1, scheduled_at = $2";
            f.write(comes_back, engines::values![settings, NOW - DAY]).await;
        }
        "claim_probes" => f.write("UPDATE email_accounts SET backoff_failures = 1", vec![]).await,
        "end_probes" | "keep_probes" => {
            let waits = "UPDATE email_accounts SET backoff_failures = 1, backoff_until = $1";
            f.write(waits, engines::values![NOW + MINUTE]).await;
        }
        "judge_trial" => {
            let rule = "UPDATE campaign_sequence_steps SET is_trial = $1, trial_by = 'opens', trial_after_hours = 1,
                trial_sample_percent = 1, trial_waited_for_since = $2 WHERE step_order = 1";
            f.write(rule, engines::values![true, NOW]).await;
            // Nobody is under way any more: the time of the rule has come.
            f.write("UPDATE campaign_leads SET status = 'stopped'", vec![]).await;
            let variant =
                "INSERT INTO campaign_step_variants (id, tenant_id, campaign_id, step_id, variant_key, variant_order,
                    weight, template_id, created_at, updated_at)
                SELECT $1, tenant_id, campaign_id, id, 'a', 1, 1, template_id, created_at, updated_at
                FROM campaign_sequence_steps WHERE step_order = 1 AND campaign_id = $2";
            f.write(variant, engines::values![new_id(), f.campaign_id]).await;
        }
        "plan_page" => assert_eq!(f.enroll(1..2).await, 1),
        "why_refused" => {
            f.tenant().set_account_status(f.account_of(&job), AccountStatus::Paused, None, NOW).await.unwrap();
        }
        _ => {}
    }
    (f, job)
}

/// Functions of `SystemStore` that are told a tenant.
fn functions() -> Vec<String> {
    let types = types_with_a_tenant();
    let (told, others): (Vec<_>, Vec<_>) =
        functions_of("SystemStore").into_iter().partition(|function| !function.parameters.is_disjoint(&types));
    let told: Vec<String> = told.into_iter().map(|function| function.name).collect();
    assert!(others.len() > 20 && told.len() > 10, "the sources were read: {told:?}");
    assert!(OF_OPERATORS.iter().all(|name| told.iter().any(|function| function == name)), "{told:?}");
    told.into_iter().filter(|name| !OF_OPERATORS.contains(&name.as_str())).collect()
}

fn another_tenants_name_opens_nothing(engine: Engine) {
    for function in functions() {
        with_store(engine, async |store: Store| {
            let (f, job) = prepare(&function, store).await;
            let stranger = f.stranger_id().await;
            let before = f.dump().await;
            for tenant in [stranger, TenantId::from_uuid(new_id())] {
                assert!(!ask(&function, &f, &job, tenant).await, "`{function}` answered");
                assert_eq!(before, f.dump().await, "`{function}` changed something");
            }
            assert!(ask(&function, &f, &job, f.tenant_id).await, "`{function}` did nothing for the owner");
        });
    }
}

/// What comes of a connection's answer must bear the fence that is the ledger's now, of whoever.
fn a_strangers_result_with_another_fence_is_stale(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let foreign = SendJob { tenant_id: TenantId::from_uuid(new_id()), ..job.clone() };
        assert_eq!(f.apply(&[result(&foreign, job.fence, Outcome::Accepted, NOW)], NOW).await, [Applied::Stale]);
        assert_eq!(f.sends().await, ["planned"]);
        assert_eq!(f.account_days().await, (1, 0));
    });
}

fn a_strangers_hint_beside_a_good_one_holds_nothing_up(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let foreign = TenantId::from_uuid(new_id());
        let found = f.store.system().fetch(&[(foreign, job.send_id), (f.tenant_id, job.send_id)], NOW).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tenant_id, f.tenant_id);
    });
}

fn a_stranger_enrolls_nobody_in_a_foreign_campaign(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let stranger = f.stranger().await;
        let lead = NewLead { email: "intruder@example.test".into(), ..NewLead::default() };
        let first = f.first_step(NOW).await;
        assert!(stranger.import_leads(Some(&first), vec![lead], &new_id, NOW).await.is_err());
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_leads").await, 1);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM leads").await, 1, "nothing of the batch is written");
    });
}

on_every_engine! {
    another_tenants_name_opens_nothing
    a_strangers_result_with_another_fence_is_stale
    a_strangers_hint_beside_a_good_one_holds_nothing_up
    a_stranger_enrolls_nobody_in_a_foreign_campaign
}
