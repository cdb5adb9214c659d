//! Every route, asked with authentic tokens and keys whose ids mix two tenants: nothing of either changes, and nothing shows
//! but a tenant's own to whoever has its key.
//!
//! The routes are the table that the listeners answer from (`penguinmails schema routes`): one without a case fails
//! here. Tried with both guards, with the statements' predicates alone (SQLite; PostgreSQL without row-level security)
//! and with PostgreSQL's policies alone. To add a route: its arm in `purpose`. The store's functions have a test of
//! their own (`engines/tests/contract/store/foreign_ids.rs`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::ids::{CampaignId, LeadId, StepId, TenantId};
use domain::time::Timestamp;
use engines::Db;
use engines::dialect::{Dialect, Statement};
use engines::queue::table::TableQueue;
use engines::queue::{Job, List, Queue as _};
use engines::value::FromValue;
use mail::token::{Claims, Purpose, TokenIds, TokenKeys};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Engine, Reading, SECRET, Sink, number};
use crate::http::until;
use crate::tracker::{Answer, Client};

const CRON: &str = "Authorization: Bearer let-me-in\r\n";
const URL: &str = "https://shop.example/x";
/// Of the leads of both tenants.
const DOMAINS: [&str; 2] = ["one.example", "two.example"];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Kept by the system for operators: no tenant reads them, and they change by themselves.
const SYSTEM: [&str; 4] = ["deployment", "queue_jobs", "workers", "dead_letters"];

/// What the token of a route is for; none where a route takes no ids.
fn purpose(path: &str) -> Option<Purpose> {
    match path {
        "/api/track/open" => Some(Purpose::Open),
        "/api/track/click" => Some(Purpose::Click),
        "/unsubscribe" => Some(Purpose::Unsubscribe),
        "/api/cron/scheduler" | "/health" | "/ready" | "/metrics" => None,
        "/api/v1/campaigns"
        | "/api/v1/campaigns/{id}"
        | "/api/v1/campaigns/{id}/forecast"
        | "/api/v1/campaigns/{id}/calendar"
        | "/api/v1/campaigns/{id}/explain" => None,
        other => panic!("`{other}` has no case in this test"),
    }
}

/// A tenant's mail that was sent, and whose lead has more to come.
#[derive(Clone, Copy)]
struct Ids {
    tenant: Uuid,
    lead: Uuid,
    campaign: Uuid,
    step: Uuid,
}

/// Another one each time.
fn new_id() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u64_pair(0, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// All sixteen mixes of two tenants' ids; the first is all of `a`, the last all of `b`.
fn mixes(a: Ids, b: Ids) -> Vec<Ids> {
    let pick = |mix: u8, bit: u8, a: Uuid, b: Uuid| if mix & bit == 0 { a } else { b };
    let of = |mix| Ids {
        tenant: pick(mix, 1, a.tenant, b.tenant),
        lead: pick(mix, 2, a.lead, b.lead),
        campaign: pick(mix, 4, a.campaign, b.campaign),
        step: pick(mix, 8, a.step, b.step),
    };
    (0..16).map(of).collect()
}

impl Ids {
    /// A token as our own mails carry it.
    fn token(self, purpose: Purpose) -> String {
        let ids = TokenIds {
            tenant_id: TenantId::from_uuid(self.tenant),
            lead_id: LeadId::from_uuid(self.lead),
            campaign_id: CampaignId::from_uuid(self.campaign),
            step_id: StepId::from_uuid(self.step),
        };
        let url = (purpose == Purpose::Click).then(|| URL.to_owned());
        let exp = (purpose != Purpose::Unsubscribe).then_some(4_000_000_000);
        TokenKeys::new(SECRET.as_bytes(), &[]).unwrap().sign(&Claims { ids, purpose, exp, url })
    }

    /// An event as another program writes it.
    fn event(self, kind: &str) -> Value {
        json!({
            "type": kind, "tenantId": self.tenant, "leadId": self.lead, "campaignId": self.campaign,
            "stepId": self.step, "url": (kind == "click").then_some(URL), "occurredAt": "2026-03-02T12:00:00Z",
        })
    }
}

struct Scene {
    app: App,
    _sink: Sink,
    runtime: tokio::runtime::Runtime,
    db: Db,
    /// Addresses by the variable that names the listener.
    listeners: Vec<(&'static str, String)>,
    processes: Vec<Reading>,
    a: Ids,
    b: Ids,
    /// What must never stand in an answer.
    secrets: Vec<String>,
    /// A key of the API and what nobody else may see, of each tenant.
    own: [(Uuid, String, Vec<String>); 2],
}

impl Scene {
    /// Two tenants, each with a campaign that was sent and one with sends that wait, and all parts running.
    fn new(engine: Engine) -> Option<Self> {
        let mut app = App::new(engine)?;
        for (name, value) in [("CRON_SECRET", "let-me-in"), ("HEALTH_LISTEN", "127.0.0.1:0"), ("LOG_LEVEL", "info")] {
            app.set(name, value);
        }
        let sink = Sink::start(&app, &[]);
        // `run` goes on with whatever is due: both are sent before anything else is there to send.
        for name in ["Welcome", "Second"] {
            for domain in DOMAINS {
                let file = app.campaign(domain, ["ana", "bo"].map(str::to_owned), 1, "");
                let text = std::fs::read_to_string(&file).unwrap().replace("\"Welcome\"", &format!("\"{name}\""));
                std::fs::write(&file, text).unwrap();
                let file = file.to_str().unwrap();
                let start = ["campaign", "import", file, "--start", "--smtp", &sink.url];
                let arguments = if name == "Welcome" { &["run", file, "--smtp", &sink.url][..] } else { &start };
                assert_eq!(app.json(arguments).0, 0);
            }
        }
        let mut process = app.spawn(&["serve", "--only", "track,api"]);
        let said = [("TRACK_LISTEN", "tracking API"), ("API_LISTEN", "cron API"), ("HEALTH_LISTEN", "health")];
        let listeners =
            said.map(|(variable, what)| (variable, process.value_after(&format!("{what} listens address="))));
        let db = match app.database_url() {
            Some(url) => Db::open_postgres(&url, 2).unwrap(),
            None => Db::open_sqlite(&app.path("data").join("penguinmails.db"), 1).unwrap(),
        };
        let mut scene = Self {
            app,
            _sink: sink,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
            db,
            listeners: listeners.into(),
            processes: vec![process.read_on()],
            a: Ids { tenant: Uuid::nil(), lead: Uuid::nil(), campaign: Uuid::nil(), step: Uuid::nil() },
            b: Ids { tenant: Uuid::nil(), lead: Uuid::nil(), campaign: Uuid::nil(), step: Uuid::nil() },
            secrets: Vec::new(),
            own: Default::default(),
        };
        (scene.a, scene.b) = (scene.ids(DOMAINS[0]), scene.ids(DOMAINS[1]));
        scene.secrets = scene.known_secrets();
        scene.own = DOMAINS.map(|domain| scene.own(domain));
        scene.plan_by_cron();
        scene.processes.push(scene.app.spawn(&["worker"]).read_on());
        Some(scene)
    }

    /// The cron route plans for everybody, whatever ids it is given. What it planned then waits in a paused campaign,
    /// so that no worker sends it.
    fn plan_by_cron(&self) {
        let path = format!("/api/cron/scheduler?tenantId={}&campaignId={}", self.a.tenant, self.b.campaign);
        let answer = Client::connect(self.address("API_LISTEN")).send("POST", &path, CRON, "");
        self.check_shows_nothing(&answer);
        let turn: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(number(&turn, "enqueued"), 4, "both tenants: {turn}");
        for domain in DOMAINS {
            let paused = self.app.json(&["campaign", "pause", "Second", "--tenant", &format!("Acme {domain}")]);
            assert_eq!(paused.0, 0, "{paused:?}");
        }
    }

    fn ids(&self, domain: &str) -> Ids {
        let one = |what: &str| {
            let x = self.column::<Uuid>(&format!(
                "SELECT {what} JOIN tenants t ON t.id = x.tenant_id WHERE t.name = 'Acme {domain}'"
            ));
            x[0]
        };
        Ids {
            tenant: one("t.id AS x FROM campaigns x"),
            lead: one("x.lead_id AS x FROM inbox_message_refs x"),
            campaign: one("x.campaign_id AS x FROM inbox_message_refs x"),
            step: one("x.step_id AS x FROM inbox_message_refs x"),
        }
    }

    /// Ids, addresses and names of both tenants.
    fn known_secrets(&self) -> Vec<String> {
        let tables = ["tenants", "campaigns", "leads", "campaign_sequence_steps", "email_accounts", "sends"];
        let ids = tables.iter().flat_map(|table| self.column::<Uuid>(&format!("SELECT id AS x FROM {table}")));
        let text = DOMAINS.into_iter().chain(["acme.test", "Acme", "Welcome", "Second"]).map(str::to_owned);
        ids.map(|id| id.to_string()).chain(text).collect()
    }

    /// A tenant, a key of its own whose use has been noted, and its ids and addresses.
    fn own(&self, domain: &str) -> (Uuid, String, Vec<String>) {
        let arguments = ["api-key", "create", "--name", "test", "--tenant", &format!("Acme {domain}")];
        let key = self.app.json(&arguments).1["key"].as_str().unwrap().to_owned();
        assert_eq!(self.ask_with(&key, "GET", "/api/v1/campaigns").status, 200);
        let tables = ["campaigns", "leads", "campaign_sequence_steps", "email_accounts", "sends"];
        let ids = tables.iter().flat_map(|table| {
            self.column::<Uuid>(&format!(
                "SELECT x.id AS x FROM {table} x JOIN tenants t ON t.id = x.tenant_id WHERE t.name = 'Acme {domain}'"
            ))
        });
        let tenant = self.ids(domain).tenant;
        let secrets = ids.chain([tenant]).map(|id| id.to_string()).chain([domain.to_owned()]).collect();
        (tenant, key, secrets)
    }

    /// Asks the API with a key.
    fn ask_with(&self, key: &str, method: &str, path: &str) -> Answer {
        let head = format!("Authorization: Bearer {key}\r\n");
        Client::connect(self.address("API_LISTEN")).send(method, path, &head, "")
    }

    /// One route of tenants: with the key of the one, and the campaign and lead of whoever.
    fn ask_as_tenant(&self, method: &str, path: &str, allowed: bool, ids: Ids) {
        let (mine, other) = if ids.tenant == self.a.tenant { (0, 1) } else { (1, 0) };
        let own = [self.a, self.b][mine];
        let (_, key, _) = &self.own[mine];
        let lead = if path.ends_with("/explain") { format!("?lead={}", ids.lead) } else { String::new() };
        let target = path.replace("{id}", &ids.campaign.to_string()) + &lead;
        let is_own = (!path.contains("{id}") || ids.campaign == own.campaign)
            && (!path.ends_with("/explain") || ids.lead == own.lead);
        let answer = self.ask_with(key, method, &target);
        let expected = match (allowed, is_own) {
            (false, _) => 405,
            (true, true) => 200,
            (true, false) => 404,
        };
        assert_eq!(answer.status, expected, "{method} {target}: {answer:?}");
        if expected != 200 {
            return self.check_shows_nothing(&answer);
        }
        let text = format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body));
        assert!(method == "HEAD" || text.contains(&own.campaign.to_string()), "its own: {method} {target}: {text}");
        let shown: Vec<&String> = self.own[other].2.iter().filter(|secret| text.contains(secret.as_str())).collect();
        assert!(shown.is_empty(), "{method} {target}: {shown:?} in {text}");
        let without = self.ask_with("", method, &target);
        assert_eq!(without.status, 401);
        self.check_shows_nothing(&without);
    }

    fn address(&self, variable: &str) -> &str {
        &self.listeners.iter().find(|(name, _)| *name == variable).unwrap().1
    }

    /// The column `x` of every row.
    fn column<T: FromValue>(&self, sql: &str) -> Vec<T> {
        let statement: &'static Statement = Box::leak(Box::new(Statement::new("column", sql.to_owned().leak())));
        let rows = self.runtime.block_on(self.db.read(statement, vec![])).unwrap();
        rows.iter().map(|row| row.get("x").unwrap()).collect()
    }

    fn count(&self, what: &str) -> i64 {
        self.column(&format!("SELECT COUNT(*) AS x FROM {what}"))[0]
    }

    /// Every row of every table that tenants have a part in, as text, with its table's name before it.
    fn dump(&self) -> BTreeSet<String> {
        let tables = match self.db.dialect() {
            Dialect::Sqlite => "SELECT name AS x FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            Dialect::Postgres => {
                "SELECT relname AS x FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
            }
        };
        let tables: Vec<String> = self.column(tables);
        assert!(SYSTEM.iter().all(|name| tables.iter().any(|table| table == name)), "{tables:?}");
        let shown = tables.iter().filter(|table| !SYSTEM.contains(&table.as_str()));
        shown.flat_map(|table| self.rows(table).into_iter().map(move |row| format!("{table}: {row}"))).collect()
    }

    fn rows(&self, table: &str) -> Vec<String> {
        let row = match self.db.dialect() {
            Dialect::Postgres => format!("{table}::text"),
            Dialect::Sqlite => self
                .column::<String>(&format!("SELECT 'quote(' || name || ')' AS x FROM pragma_table_info('{table}')"))
                .join(" || ',' || "),
        };
        self.column(&format!("SELECT {row} AS x FROM {table}"))
    }

    /// Those rows of a dump that name a tenant.
    fn of_tenant(&self, dump: &BTreeSet<String>, tenant: Uuid) -> BTreeSet<String> {
        let id = match self.db.dialect() {
            Dialect::Postgres => tenant.to_string(),
            Dialect::Sqlite => tenant.simple().to_string().to_uppercase(),
        };
        dump.iter().filter(|row| row.contains(&id)).cloned().collect()
    }

    fn check_shows_nothing(&self, answer: &Answer) {
        let text = format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body));
        let shown: Vec<&String> = self.secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
        assert!(shown.is_empty(), "{shown:?} in {text}");
    }

    /// Asks every route of the table with these ids, by every method and on every listener; how many events it made.
    fn ask_all(&self, ids: Ids) -> usize {
        let (exit, table) = self.app.json(&["schema", "routes"]);
        assert_eq!(exit, 0);
        let mut events = 0;
        for route in table["routes"].as_array().unwrap() {
            let path = route["path"].as_str().unwrap();
            for listener in route["listeners"].as_array().unwrap() {
                let mut client = Client::connect(self.address(listener.as_str().unwrap()));
                for method in METHODS {
                    let allowed = route["methods"].as_array().unwrap().iter().any(|one| one == method);
                    events += self.ask(&mut client, method, path, allowed, ids);
                }
            }
        }
        events
    }

    /// One route by one method; how many events the analytics queue got by it.
    fn ask(&self, client: &mut Client, method: &str, path: &str, allowed: bool, ids: Ids) -> usize {
        if path.starts_with("/api/v1/") {
            self.ask_as_tenant(method, path, allowed, ids);
            return 0;
        }
        let purpose = purpose(path);
        let token = ids.token(purpose.unwrap_or(Purpose::Open));
        // Names and ids that no route may follow.
        let plain = ids.event("open");
        let target = format!("{path}?token={token}&tenantId={}&leadId={}", ids.tenant, ids.lead);
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let bodies =
            [(form, "List-Unsubscribe=One-Click".to_owned()), (form, String::new()), (CRON, plain.to_string())];
        let head_alone = [(CRON, String::new())];
        for (head, body) in if method == "POST" { &bodies[..] } else { &head_alone } {
            let head = if path.starts_with("/api/cron") { CRON } else { head };
            let answer = client.send(method, &target, head, body);
            let expected = match purpose {
                _ if !allowed => 405,
                Some(Purpose::Click) => 302,
                _ => 200,
            };
            assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
            self.check_shows_nothing(&answer);
        }
        usize::from(allowed && matches!(purpose, Some(Purpose::Open | Purpose::Click)))
    }

    /// Lays events on the analytics queue as another program does; how many.
    fn push_events(&self, all: &[Ids]) -> usize {
        let kinds = ["open", "click", "unsubscribe"];
        let events = all.iter().flat_map(|ids| kinds.map(|kind| ids.event(kind).to_string()));
        let past = Timestamp::from_unix_seconds(1_772_452_800);
        let job = |payload| Job { id: new_id(), payload, priority: 100, not_before: past };
        let jobs: Vec<Job> = events.map(job).collect();
        let count = jobs.len();
        let queue = TableQueue::new(self.db.clone());
        assert_eq!(self.runtime.block_on(queue.push(List::Analytics, jobs, past)).unwrap(), count as u64);
        count
    }

    /// Events that the worker has done something with.
    fn done(&self) -> i64 {
        self.count("dead_letters") + self.count("tracking_events")
    }

    /// Asks with every mix of ids, on the routes and on the queue behind them.
    fn mixed_ids_open_nothing(&self) {
        let (before, known, done) = (self.dump(), self.count("dead_letters"), self.done());
        let mixed = &mixes(self.a, self.b)[1..15];
        let asked: usize = mixed.iter().map(|ids| self.ask_all(*ids)).sum();
        assert_eq!(asked, mixed.len() * 4, "GET and HEAD of pixel and link");
        let events = i64::try_from(asked + self.push_events(mixed)).unwrap();
        until(|| (self.done() >= done + events).then_some(()));
        let after = self.dump();
        let changes: Vec<&String> = before.symmetric_difference(&after).collect();
        assert!(changes.is_empty(), "{changes:#?}");
        assert_eq!(self.count("dead_letters"), known + events, "each is told to the operator");
        assert_eq!(self.count("dead_letters WHERE tenant_id IS NOT NULL"), 0, "and to no tenant");
    }

    /// The same questions with the ids of one tenant: all of it works, so the test would see it; the other is untouched.
    fn own_ids_open_their_own(&self) {
        let (before, done) = (self.dump(), self.done());
        // The way out is an event as well.
        let events = i64::try_from(self.ask_all(self.a) + 1).unwrap();
        until(|| (self.done() >= done + events).then_some(()));
        let after = self.dump();
        assert_eq!(self.of_tenant(&before, self.b.tenant), self.of_tenant(&after, self.b.tenant), "the other's");
        let changed: BTreeSet<&str> = after.difference(&before).map(|row| row.split(": ").next().unwrap()).collect();
        let expected = [
            "campaign_leads",
            "event_counts",
            "inbox_message_refs",
            "leads",
            "pace_days",
            "sends",
            "suppression_list",
            "tracking_events",
        ];
        assert_eq!(changed, BTreeSet::from(expected));
        assert_eq!(self.count("sends WHERE status = 'cancelled'"), 1);
    }

    /// All of it; what is stored already must not open anything either.
    fn mixed_ids_open_nothing_before_and_after(&self) {
        self.mixed_ids_open_nothing();
        self.own_ids_open_their_own();
        self.mixed_ids_open_nothing();
    }

    /// Changes the policies of all tables that have one for tenants.
    fn alter_policies(&self, statement: &str) {
        let tables =
            self.app.column("SELECT polrelid::regclass::text FROM pg_policy WHERE polname = 'tenant_isolation'");
        assert!(tables.len() > 15);
        for table in tables {
            self.app.sql(&statement.replace("{table}", &table)).unwrap();
        }
    }
}

fn ids_of_two_tenants_open_nothing(engine: Engine) {
    let Some(scene) = Scene::new(engine) else { return };
    scene.mixed_ids_open_nothing_before_and_after();
    for process in scene.processes {
        assert!(process.stop().0.success());
    }
}

crate::on_every_database! { ids_of_two_tenants_open_nothing }

/// With both guards on PostgreSQL the case above cannot tell which one it was.
mod one_guard {
    use super::*;

    #[test]
    fn predicates_alone_open_nothing() {
        let Some(scene) = Scene::new(Engine::Postgres) else { return };
        scene.alter_policies("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY");
        scene.mixed_ids_open_nothing_before_and_after();
    }

    /// The way out acts for one tenant, and the API shows one its own: its token and its key meet every predicate, and only
    /// the policies keep them from the rows.
    #[test]
    fn policies_alone_open_nothing() {
        let Some(scene) = Scene::new(Engine::Postgres) else { return };
        scene.alter_policies("ALTER POLICY tenant_isolation ON {table} USING (false)");
        let before = scene.dump();
        let mut client = Client::connect(scene.address("TRACK_LISTEN"));
        for method in ["GET", "POST"] {
            assert_eq!(scene.ask(&mut client, method, "/unsubscribe", true, scene.a), 0);
        }
        let own = format!("/api/v1/campaigns/{}", scene.a.campaign);
        let all = "/api/v1/campaigns";
        let shown = |path: &str| {
            let answer = scene.ask_with(&scene.own[0].1, "GET", path);
            (answer.status, String::from_utf8(answer.body).unwrap())
        };
        assert_eq!(shown(all), (200, "{\"campaigns\":[],\"next\":null}".to_owned()));
        for question in ["", "/forecast", "/calendar", "/explain?lead=x"] {
            assert_eq!(shown(&format!("{own}{question}")).0, 404, "{question}");
        }
        assert_eq!(before, scene.dump());
        scene.alter_policies("ALTER POLICY tenant_isolation ON {table} USING (true)");
        assert_eq!(shown(&own).0, 200, "it was the policies");
        // The tracker keeps no connection that has been idle for so long.
        let mut client = Client::connect(scene.address("TRACK_LISTEN"));
        scene.ask(&mut client, "POST", "/unsubscribe", true, scene.a);
        assert_ne!(before, scene.dump(), "it was the policies");
    }
}
