//! The hot statements stay on their indexes in a ledger of 100,000 due leads (FAULTS FD08).
//!
//! Right after their import, so before autovacuum came: with dead rows, without statistics, beside a transaction that was open
//! before; then with the statistics of one table and none of the other, as autovacuum leaves them between two tables; then with all. What they take is printed and not judged, since machines differ. To add a statement: its name, parameters and index in `hot`.
#![expect(clippy::print_stdout, reason = "how long the statements take stands beside the result")]

use std::time::Instant;

use domain::time::Timestamp;
use engines::dialect::{BULK, Dialect, Statement};
use engines::migrate::all_statements;
use engines::store::leads::NewLead;
use engines::value::{Row, Rows, Value};
use engines::{Access, Store, values};
use uuid::Uuid;

use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;
use crate::store::scene::{HOUR, Scene};

const LEADS: usize = 100_000;

/// A transaction that stands idle for long is ended by the server.
static STILL_HERE: Statement = Statement::new("STILL_HERE", "SELECT COUNT(*) AS n FROM tenants");

/// What PostgreSQL learns of its tables one after the other, as autovacuum comes to them; nothing at first.
static LEARNT: [Statement; 3] = [
    Statement::new("NOTHING", "SELECT 1"),
    Statement::new("OF_ENROLLMENTS", "ANALYZE campaign_leads"),
    Statement::new("OF_ALL", "ANALYZE"),
];

/// A hot statement: its name, its table's index, the tables that it must not read whole, and its parameters.
type Hot = (&'static str, &'static str, &'static [&'static str], Vec<Value>, Option<Rows>);

fn hot(f: &Scene, send: Uuid) -> [Hot; 3] {
    let (tenant, campaign) = (f.tenant_id, f.campaign_id);
    let start = Timestamp::from_micros(0);
    let rows: Rows = [values![send, tenant]].into_iter().collect();
    let lines: Rows = [values![Uuid::nil(), 0], values![send, 1]].into_iter().collect();
    [
        (
            "DUE",
            "campaign_leads_due",
            &["campaign_leads", "leads"],
            values![tenant, campaign, NOW + HOUR, NOW, start, Uuid::nil(), 500],
            None,
        ),
        (
            "DUE_OF_LINES",
            "campaign_leads_line",
            &["campaign_leads", "leads"],
            values![tenant, campaign, NOW + HOUR, NOW, start, Uuid::nil(), 500],
            Some(lines),
        ),
        ("FETCH", "sends", &["sends", "campaign_leads", "leads"], values![NOW], Some(rows)),
    ]
}

fn named(dialect: Dialect, name: &str) -> &'static Statement {
    let found: Vec<_> = all_statements(dialect).into_iter().filter(|statement| statement.name == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0]
}

/// The plan of a statement, a line for each step.
async fn explain(store: &Store, statement: &Statement, params: Vec<Value>, rows: Option<Rows>) -> String {
    let (word, column) = match store.db().dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
        Dialect::Postgres => ("EXPLAIN", "QUERY PLAN"),
    };
    let text: &'static str = Box::leak(format!("{word} {}", statement.text).into_boxed_str());
    let explaining: &'static Statement = Box::leak(Box::new(Statement::new("EXPLAIN", text)));
    let lines = run(store, explaining, params, rows).await;
    lines.iter().map(|row| row.get::<String>(column).unwrap() + "\n").collect()
}

async fn run(store: &Store, statement: &'static Statement, params: Vec<Value>, rows: Option<Rows>) -> Vec<Row> {
    let mut tx = store.db().begin(Access::Write).await.unwrap();
    match rows {
        Some(rows) => tx.query_rows(statement, rows, params).await.unwrap(),
        None => tx.query(statement, params).await.unwrap(),
    }
}

fn fd08_the_hot_statements_stay_on_their_indexes(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 0, |_| {}).await;
        let mut old_reader = f.store.db().begin(Access::Read).await.unwrap();
        for chunk in 0..LEADS / 5_000 {
            let lead =
                |n: usize| NewLead { email: format!("many{}@example.test", chunk * 5_000 + n), ..NewLead::default() };
            f.import((0..5_000).map(lead).collect(), NOW).await;
            old_reader.query(&STILL_HERE, vec![]).await.unwrap();
        }
        // Each planned lead leaves a dead row behind on PostgreSQL.
        for _ in 0..10 {
            assert_eq!(f.plan(NOW).await.planned.len(), 100);
        }
        let sends: Vec<Uuid> = f.column("SELECT id AS x FROM sends ORDER BY id").await;
        assert_eq!(sends.len(), 1_000);
        let dialect = f.store.db().dialect();
        for known in &LEARNT {
            if dialect == Dialect::Postgres {
                f.store.db().write(known, vec![]).await.unwrap();
            }
            for (name, index, tables, params, rows) in hot(&f, sends[0]) {
                let plan = explain(&f.store, named(dialect, name), params, rows).await;
                let whole = |table: &&&str| match dialect {
                    Dialect::Postgres => {
                        plan.contains(&format!("Seq Scan on {table} ")) || plan.contains("leads_tenant_address")
                    }
                    Dialect::Sqlite => plan.contains(&format!("SCAN {}\n", &table[..1])),
                };
                assert!(plan.contains(index), "{name}, {}:\n{plan}", known.text);
                assert_eq!(tables.iter().find(whole), None, "{name}, {}:\n{plan}", known.text);
            }
        }
        for (name, _, _, params, rows) in hot(&f, sends[0]) {
            let statement = named(dialect, name);
            let mut took: Vec<_> = Vec::new();
            for _ in 0..100 {
                old_reader.query(&STILL_HERE, vec![]).await.unwrap();
                let began = Instant::now();
                run(&f.store, statement, params.clone(), rows.clone()).await;
                took.push(began.elapsed());
            }
            took.sort_unstable();
            println!("{name}: median {:?}, p99 {:?} of {LEADS} leads", took[50], took[98]);
        }
        old_reader.commit().await.unwrap();
    });
}

on_every_engine! { fd08_the_hot_statements_stay_on_their_indexes }

/// SQLite takes bulk input many rows at a time; without statistics it might take a few rows of input for more than a table has, and read
/// that whole for each part.
#[test]
fn many_rows_of_bulk_input_go_the_same_way_as_one() {
    with_store(Engine::Sqlite, async |store: Store| {
        let plan = async |statement, rows| {
            let lines = explain(&store, statement, vec![], Some(vec![vec![]; rows].into_iter().collect())).await;
            let of_tables = lines.lines().filter(|line| line.contains(" USING ") || line.starts_with("SCAN "));
            let of_input = ["CONSTANT ROW", "VALUES CLAUSE", "SCAN r", "SEARCH r "];
            let of_tables = of_tables.filter(|line| !of_input.iter().any(|words| line.contains(words)));
            of_tables.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        let (mut bulk, mut differing) = (0, Vec::new());
        for statement in all_statements(Dialect::Sqlite) {
            if statement.text.contains("{rows ") {
                bulk += 1;
                let one = plan(statement, 1).await;
                for many in BULK {
                    let other = plan(statement, many).await;
                    if one != other {
                        differing.push(format!("{}: {one:#?}\n{many}: {other:#?}", statement.name));
                    }
                }
            }
        }
        assert!(bulk > 40, "{bulk}");
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    });
}
