//! Every function of `TenantStore`, asked by another tenant with this one's ids: nothing is read, nothing changes.
//!
//! The functions are read from the sources, so that none can be forgotten: one without an arm in `ask` fails here.
//! Each is tried with both guards, with the statements' predicates alone (SQLite; PostgreSQL without row-level security)
//! and with PostgreSQL's policies alone. To add a function: an arm in `ask`, and its state in `prepare`.

use domain::email_account::AccountStatus;
use domain::event::EventType;
use domain::first_step::FirstStep;
use domain::send::SendStatus;
use domain::settle::Outcome;
use engines::store::TenantStore;
use engines::store::api_keys::{NewKey, WhichKey};
use engines::store::apply::Applied;
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;
use engines::store::leads::NewLead;
use engines::store::rounds::Again;
use engines::store::trials::Declared;
use engines::{Db, Store};

use super::scene::{DAY, Scene, result};
use super::signatures::functions_of;
use crate::engine::{Engine, NOW, connect, new_id, with_store};
use crate::on_every_engine;

/// They take nobody's id: what they make is of whoever asks.
const OF_NO_ID: [&str; 1] = ["create_api_key"];
/// Of the key that the target has.
const PREFIX: &str = "pm_0123456789ab";

/// What the functions are asked about.
struct Target {
    f: Scene,
    job: SendJob,
    first: FirstStep,
    key: uuid::Uuid,
    /// An event that is stored already: its id must not open anything either.
    open: StoredEvent,
}

impl Target {
    /// A campaign under way, with an event, a mail that bounced softly, and another tenant beside.
    async fn new(store: Store) -> (Self, TenantStore) {
        let f = Scene::started(store, 2, |s| {
            let trial = super::trials::trial(&["a", "b"], None);
            s.steps[0].template = Some(trial.variants[0].template.clone());
            s.steps[0].trial = Some(trial);
        })
        .await;
        let job = f.jobs(NOW).await.remove(0);
        let open = f.event(&job, EventType::Open);
        f.store.system().store_events(std::slice::from_ref(&open), NOW).await.unwrap();
        let tried = "INSERT INTO send_attempts (id, tenant_id, send_id, fence, owner, started_at, finished_at, stage,
                outcome, counted, created_at, updated_at)
            SELECT $1, tenant_id, id, 1, 'worker-1', $3, $3, 'rcpt', 'refused', true, $3, $3 FROM sends WHERE id = $2";
        f.write(tried, engines::values![new_id(), job.send_id, NOW]).await;
        let bounced = "UPDATE sends SET status = 'bounced', open = false, reason = 'recipient_refused', settled_at = $2
            WHERE id = $1";
        f.write(bounced, engines::values![job.send_id, NOW]).await;
        let stranger = f.stranger().await;
        let first = f.first_step(NOW).await;
        let key = NewKey { id: new_id(), name: "grafana".into(), prefix: PREFIX.into(), hash: "0".repeat(64) };
        assert!(f.tenant().create_api_key(&key, NOW).await.unwrap());
        (Self { f, job, first, key: key.id, open }, stranger)
    }

    /// Calls one function; whether it saw or changed anything.
    async fn ask(&self, function: &str, store: &TenantStore) -> bool {
        let (campaign, account) = (self.f.campaign_id, self.f.account_of(&self.job));
        match function {
            "campaign_report" => store.campaign_report(campaign).await.is_ok(),
            "cancel_campaign" => store.cancel_campaign(campaign, NOW).await.unwrap().is_some(),
            "count_soft_bounces" => store.count_soft_bounces(self.job.lead.id, NOW - DAY).await.unwrap() > 0,
            "list_email_accounts" => store.list_email_accounts(10).await.unwrap().iter().any(|a| a.id == account),
            "find_email_account" => {
                let address = "SELECT email AS x FROM email_accounts ORDER BY created_at, id LIMIT 1";
                let (id, address) = (account.to_string(), self.f.one::<String>(address).await);
                let mut found = Vec::new();
                for name in [&id, &address] {
                    found.extend(store.find_email_account(name).await.unwrap());
                }
                found.iter().any(|found| found.id == account)
            }
            "find_enrolled_lead" => {
                let (id, address) = (self.job.lead.id.to_string(), &self.job.lead.email);
                store.find_enrolled_lead(campaign, &id).await.unwrap().is_some()
                    || store.find_enrolled_lead(campaign, address).await.unwrap().is_some()
            }
            "get_account" => store.get_account(account).await.is_ok(),
            "get_campaign" => store.get_campaign(campaign).await.is_ok(),
            "find_campaign" => {
                store.find_campaign(&campaign.to_string()).await.unwrap().is_some()
                    || store.find_campaign(&self.f.setup.campaign).await.unwrap().is_some_and(|c| c.id == campaign)
            }
            "find_standing" => store.find_standing(campaign, &self.job.lead.email).await.unwrap().is_some(),
            "lead_addresses" => !store.lead_addresses([self.job.lead.id]).await.unwrap().is_empty(),
            "account_addresses" => !store.account_addresses([account]).await.unwrap().is_empty(),
            "find_send_of_lead" => store.find_send_of_lead(campaign, self.job.lead.id, None).await.unwrap().is_some(),
            "get_send" => store.get_send(self.job.send_id, NOW).await.is_ok(),
            "get_template" => store.get_template(self.job.template.0).await.is_ok(),
            "import_leads" => {
                let leads = vec![NewLead { email: self.job.lead.email.clone(), ..NewLead::default() }];
                store.import_leads(Some(&self.first), leads, &new_id, NOW).await.is_ok()
            }
            "list_api_keys" => !store.list_api_keys(10).await.unwrap().is_empty(),
            "list_campaigns" => store.list_campaigns(None, 10).await.unwrap().iter().any(|c| c.id == campaign),
            "note_api_key_used" => store.note_api_key_used(self.key, NOW, NOW).await.unwrap(),
            "revoke_api_key" => {
                let by_name = store.revoke_api_key(WhichKey::Name("grafana"), NOW).await.unwrap().is_some();
                by_name || store.revoke_api_key(WhichKey::Prefix(PREFIX), NOW).await.unwrap().is_some()
            }
            "list_attempts" => !store.list_attempts(self.job.send_id, 10).await.unwrap().is_empty(),
            "list_failures" => !store.list_failures(campaign, None, 10).await.unwrap().is_empty(),
            "declare_winner" => {
                matches!(store.declare_winner(campaign, 1, "b", NOW).await.unwrap(), Declared::Done(..))
            }
            "list_trials" => !store.list_trials(campaign).await.unwrap().is_empty(),
            "list_event_counts" => !store.list_event_counts(campaign).await.unwrap().is_empty(),
            "pause_campaign" => store.pause_campaign(campaign, NOW).await.unwrap(),
            "re_enroll" => {
                let lead = Again::Lead(self.job.lead.id);
                store.re_enroll(campaign, lead, NOW).await.is_ok_and(|page| page.began > 0)
            }
            "resolve_send" => {
                let mut cancelled = result(&self.job, self.job.fence, Outcome::Poison, NOW);
                cancelled.transition.status = SendStatus::Cancelled;
                store.resolve_send(&cancelled, &new_id, NOW).await.unwrap() == Applied::Done
            }
            "send_failed_again" => {
                store.send_failed_again(campaign, None, None, 10, NOW).await.unwrap().done.queued > 0
            }
            "resume_campaign" => store.resume_campaign(campaign, NOW).await.unwrap(),
            "set_account_status" => store.set_account_status(account, AccountStatus::Paused, None, NOW).await.is_ok(),
            "spread_first_steps" => store.spread_first_steps(&self.first, NOW + DAY).await.unwrap() > 0,
            "start_campaign" => store.start_campaign(campaign, NOW).await.unwrap(),
            "unsubscribe" => {
                let new = self.f.event(&self.job, EventType::Unsubscribe);
                let unknown = store.unsubscribe(&new, new_id(), NOW).await.is_ok();
                store.unsubscribe(&self.open, new_id(), NOW).await.is_ok() || unknown
            }
            other => panic!("`TenantStore::{other}` has no arm in this test"),
        }
    }

    /// Brings the campaigns into the state in which the function finds something to do.
    async fn prepare(&self, function: &str) {
        let status = match function {
            "spread_first_steps" | "start_campaign" => "UPDATE campaigns SET status = 'draft'",
            "resume_campaign" => "UPDATE campaigns SET status = 'paused'",
            _ => "UPDATE campaigns SET status = 'sending'",
        };
        self.f.write(status, vec![]).await;
        self.f.write("UPDATE api_keys SET revoked_at = NULL, last_used_at = NULL", vec![]).await;
        if function == "spread_first_steps" {
            self.f.write("UPDATE campaign_leads SET due_at = $1", engines::values![NOW]).await;
        }
        if function == "re_enroll" {
            self.f.write("UPDATE campaign_leads SET status = 'completed', due_at = NULL", vec![]).await;
        }
        let status = match function {
            "resolve_send" => "held",
            "send_failed_again" => "failed",
            _ => "bounced",
        };
        let ended = "UPDATE sends SET status = $2, open = false, reason = 'recipient_refused' WHERE id = $1";
        self.f.write(ended, engines::values![self.job.send_id, status]).await;
    }

    /// Asks every function as one who must neither see nor change anything.
    async fn gives_nothing_to(&self, who: &TenantStore) {
        for function in functions() {
            self.prepare(&function).await;
            let before = self.f.dump().await;
            assert!(!self.ask(&function, who).await, "`{function}` answered");
            assert_eq!(before, self.f.dump().await, "`{function}` changed something");
        }
    }

    /// Asks every function as the owner: each has something to see or to change here.
    async fn gives_all_to_its_owner(&self) {
        for function in functions() {
            self.prepare(&function).await;
            assert!(self.ask(&function, &self.f.tenant()).await, "`{function}` did nothing for the owner");
        }
    }
}

fn functions() -> Vec<String> {
    let mut found: Vec<String> = functions_of("TenantStore").into_iter().map(|function| function.name).collect();
    assert!(found.len() > 12, "the sources were read: {found:?}");
    assert!(OF_NO_ID.iter().all(|name| found.iter().any(|function| function == name)), "{found:?}");
    found.retain(|name| !OF_NO_ID.contains(&name.as_str()));
    found
}

/// Runs a statement on every table that has a policy for tenants.
async fn on_every_tenant_table(url: &str, statement: &str) {
    let client = connect(url).await;
    let tables = "SELECT polrelid::regclass::text FROM pg_policy WHERE polname = 'tenant_isolation'";
    let tables = client.query(tables, &[]).await.unwrap();
    assert!(tables.len() > 15);
    for table in tables {
        client.batch_execute(&statement.replace("{table}", table.get(0))).await.unwrap();
    }
}

fn foreign_ids_open_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (target, stranger) = Target::new(store).await;
        target.gives_nothing_to(&stranger).await;
        target.gives_all_to_its_owner().await;
    });
}

on_every_engine! { foreign_ids_open_nothing }

/// With both guards on PostgreSQL the case above cannot tell which one it was.
mod one_guard {
    use super::*;

    async fn predicates_alone_open_nothing(url: String) {
        on_every_tenant_table(&url, "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY").await;
        let (target, stranger) = Target::new(Store::new(Db::open_postgres(&url, 8).unwrap())).await;
        target.gives_nothing_to(&stranger).await;
        target.gives_all_to_its_owner().await;
    }

    /// The owner's own calls meet every predicate: what keeps them from the rows is that they run under the policies.
    async fn policies_alone_open_nothing(url: String) {
        let (target, _) = Target::new(Store::new(Db::open_postgres(&url, 8).unwrap())).await;
        on_every_tenant_table(&url, "ALTER POLICY tenant_isolation ON {table} USING (false)").await;
        target.gives_nothing_to(&target.f.tenant()).await;
    }

    crate::on_postgres_alone! { predicates_alone_open_nothing policies_alone_open_nothing }
}
