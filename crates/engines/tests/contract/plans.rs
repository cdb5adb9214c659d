//! The hot statements stay on their indexes in a ledger that grows to 100,000 due leads (FAULTS FD08).
//!
//! While they are imported and planned, so before autovacuum came: with dead rows, without statistics, where PostgreSQL goes by the
//! heights of indexes, beside a transaction that was open before; what planning runs, by plans that were made when there was nothing.
//! Then with the statistics of one table and none of the other, as autovacuum leaves them between two tables; then with all.
//! What they take is printed and not judged, since machines differ. To add a statement: its name, parameters and indexes in `hot`.
#![expect(clippy::print_stdout, reason = "how long the statements take stands beside the result")]

use std::time::Instant;

use domain::time::Timestamp;
use engines::dialect::{BULK, Dialect, Statement};
use engines::migrate::all_statements;
use engines::store::leads::NewLead;
use engines::value::{Row, Rows, Value};
use engines::{Access, Db, Store, Tx, values};
use uuid::Uuid;

use crate::engine::{Engine, NOW, run as in_database, with_store};
use crate::on_every_engine;
use crate::store::scene::{HOUR, Scene};

const LEADS: usize = 100_000;
/// So many are imported before the plans are looked at again.
const CHUNK: usize = 5_000;

/// A transaction that stands idle for long is ended by the server.
static STILL_HERE: Statement = Statement::new("STILL_HERE", "SELECT COUNT(*) AS n FROM tenants");

/// What PostgreSQL learns of its tables one after the other, as autovacuum comes to them.
static LEARNT: [Statement; 2] =
    [Statement::new("OF_ENROLLMENTS", "ANALYZE campaign_leads"), Statement::new("OF_ALL", "ANALYZE")];
/// Else autovacuum might come to them during the case.
static UNATTENDED: [Statement; 3] = [
    Statement::new("SENDS_ALONE", "ALTER TABLE sends SET (autovacuum_enabled = false)"),
    Statement::new("LEADS_ALONE", "ALTER TABLE leads SET (autovacuum_enabled = false)"),
    Statement::new("ENROLLMENTS_ALONE", "ALTER TABLE campaign_leads SET (autovacuum_enabled = false)"),
];
/// Only who owns a table has it analyzed; anybody else is told so and nothing more.
static KNOWN: Statement = Statement::new(
    "KNOWN",
    "SELECT COUNT(*) AS n FROM pg_class WHERE relname IN ('campaign_leads', 'leads', 'sends') AND relkind = 'r' AND reltuples >= 0",
);

/// PostgreSQL's look-up of a lead in what planning runs, and SQLite's.
const LEAD: &str = "Index Cond: (id = e.lead_id)";
const OF_LEAD: &str = "SEARCH l USING INDEX sqlite_autoindex_leads_1";

/// Those that find the first one by the order of an index.
const BY_ORDER: [&str; 2] = ["SWEPT", "SENDERS"];

/// What planning runs, by the plans that PostgreSQL has for all parameters (`Tx::plan_once`).
const PLANNING: [&str; 5] = ["DUE", "DUE_OF_LINES", "INSERT_SENDS", "MOVE_ENROLLMENTS", "SENDERS"];

/// A hot statement: its name, the indexes that it goes by, and its parameters.
type Hot = (&'static str, &'static [&'static str], Vec<Value>, Option<Rows>);

fn hot(f: &Scene, send: Uuid) -> [Hot; 9] {
    let (tenant, campaign) = (f.tenant_id, f.campaign_id);
    let start = Timestamp::from_micros(0);
    let rows: Rows = [values![send, tenant]].into_iter().collect();
    let lines: Rows = [values![Uuid::nil(), 0], values![send, 1]].into_iter().collect();
    let (at, none) = (Some(NOW), None::<i64>);
    let slot = values![100, none, at, at, none, none, none, none];
    let sent: Rows =
        [[values![send, send, send, send, None::<Uuid>, 1, true, none], slot].concat()].into_iter().collect();
    let moved: Rows = [values![send, 1, at, None::<Uuid>, "active", none]].into_iter().collect();
    let due = values![tenant, campaign, NOW + HOUR, NOW, start, Uuid::nil(), 500];
    let of_dialect = |postgres: &'static [&'static str], sqlite: &'static [&'static str]| match f.store.db().dialect() {
        Dialect::Postgres => postgres,
        Dialect::Sqlite => sqlite,
    };
    [
        ("DUE", of_dialect(&["campaign_leads_due", LEAD], &["campaign_leads_due", OF_LEAD]), due.clone(), None),
        (
            "DUE_OF_LINES",
            of_dialect(
                &["campaign_leads_lines", "campaign_leads_pkey", "Index Cond: (id = y.id)", LEAD],
                &["campaign_leads_lines", OF_LEAD],
            ),
            due,
            Some(lines),
        ),
        (
            "FETCH",
            of_dialect(
                &["sends_pkey", "campaign_leads_pkey", "using leads_pkey"],
                &["sqlite_autoindex_sends_1", OF_LEAD],
            ),
            values![NOW],
            Some(rows),
        ),
        (
            "INSERT_SENDS",
            of_dialect(
                &["campaign_leads_pkey", "Index Cond: (id = r.enrollment_id)"],
                &["sqlite_autoindex_campaign_leads_1"],
            ),
            values![tenant, campaign, 0, NOW],
            Some(sent),
        ),
        (
            "MOVE_ENROLLMENTS",
            of_dialect(&["campaign_leads_pkey", "Index Cond: (id = r.id)"], &["sqlite_autoindex_campaign_leads_1"]),
            values![tenant, NOW],
            Some(moved),
        ),
        (
            "SENDERS",
            of_dialect(
                &[
                    "campaign_leads_lines",
                    "(COALESCE(email_account_id, '00000000-0000-0000-0000-000000000000'::uuid) >= a.id))",
                ],
                &["campaign_leads_lines (campaign_id=? AND <expr>>?)"],
            ),
            values![tenant, campaign],
            None,
        ),
        ("COMPLETABLE", &["campaign_leads_lines", "sends_open_campaign"], values![Vec::<Uuid>::new()], None),
        ("DUE_CAMPAIGNS", &["campaign_leads_due"], values![NOW, NOW, NOW + HOUR], None),
        ("SWEPT", &["sends_open_lead"], values![], None),
    ]
}

fn named(dialect: Dialect, name: &str) -> &'static Statement {
    let found: Vec<_> = all_statements(dialect).into_iter().filter(|statement| statement.name == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0]
}

fn leaked(text: String) -> &'static Statement {
    Box::leak(Box::new(Statement::new("EXPLAIN", Box::leak(text.into_boxed_str()))))
}

/// The plan of a statement for these parameters, a line for each step.
async fn explain(store: &Store, statement: &Statement, params: Vec<Value>, rows: Option<Rows>) -> String {
    let (word, column) = match store.db().dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
        Dialect::Postgres => ("EXPLAIN", "QUERY PLAN"),
    };
    lines(&run(store, leaked(format!("{word} {}", statement.text)), params, rows).await, column)
}

/// Has PostgreSQL make the general plans of what planning runs, while there is next to nothing in its tables.
async fn prepare_early(early: &mut Tx) {
    early.plan_once().await.unwrap();
    for name in PLANNING {
        let text = named(Dialect::Postgres, name).postgres();
        early.execute(leaked(format!("PREPARE {name} AS {text}")), vec![]).await.unwrap();
        kept_plan(early, name).await;
    }
}

async fn kept_plan(early: &mut Tx, name: &str) -> String {
    let text = named(Dialect::Postgres, name).postgres();
    let count = (1..).take_while(|n| text.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; count].join(", ");
    lines(&early.query(leaked(format!("EXPLAIN EXECUTE {name}({nulls})")), vec![]).await.unwrap(), "QUERY PLAN")
}

fn lines(rows: &[Row], column: &str) -> String {
    rows.iter().map(|row| row.get::<String>(column).unwrap() + "\n").collect()
}

async fn run(store: &Store, statement: &'static Statement, params: Vec<Value>, rows: Option<Rows>) -> Vec<Row> {
    let mut tx = store.db().begin(Access::Write).await.unwrap();
    match rows {
        Some(rows) => tx.query_rows(statement, rows, params).await.unwrap(),
        None => tx.query(statement, params).await.unwrap(),
    }
}

fn fd08_the_hot_statements_stay_on_their_indexes(engine: Engine) {
    in_database(engine, async |db: Db| {
        let f = Scene::started(Store::new(db.clone()), 0, |_| {}).await;
        let dialect = db.dialect();
        if dialect == Dialect::Postgres {
            for alone in &UNATTENDED {
                db.write(alone, vec![]).await.unwrap();
            }
        }
        let mut old_reader = db.begin(Access::Read).await.unwrap();
        if dialect == Dialect::Postgres {
            prepare_early(&mut old_reader).await;
        }
        for chunk in 0..LEADS / CHUNK {
            let lead =
                |n: usize| NewLead { email: format!("many{}@example.test", chunk * CHUNK + n), ..NewLead::default() };
            f.import((0..CHUNK).map(lead).collect(), NOW).await;
            // Each planned lead leaves a dead row behind on PostgreSQL.
            assert_eq!(f.plan(NOW).await.planned.len(), 100);
            stay_on_their_indexes(&f, &mut old_reader, &format!("{} leads", (chunk + 1) * CHUNK)).await;
            assert!(dialect == Dialect::Sqlite || known(&db).await == 0, "statistics came by themselves");
            old_reader.query(&STILL_HERE, vec![]).await.unwrap();
        }
        if dialect == Dialect::Postgres {
            for (tables, learnt) in [1, 3].into_iter().zip(&LEARNT) {
                db.write(learnt, vec![]).await.unwrap();
                assert_eq!(known(&db).await, tables, "{}", learnt.text);
                stay_on_their_indexes(&f, &mut old_reader, learnt.text).await;
            }
        }
        for (name, _, params, rows) in hot(&f, first_send(&f).await) {
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

async fn stay_on_their_indexes(f: &Scene, early: &mut Tx, when: &str) {
    let dialect = f.store.db().dialect();
    for (name, indexes, params, rows) in hot(f, first_send(f).await) {
        let is_kept = dialect == Dialect::Postgres && PLANNING.contains(&name);
        let plan = if is_kept {
            kept_plan(early, name).await
        } else {
            explain(&f.store, named(dialect, name), params, rows).await
        };
        let missing: Vec<_> = indexes.iter().filter(|index| !plan.contains(**index)).collect();
        assert!(missing.is_empty(), "{name}, {when}, {missing:?}:\n{plan}");
        for whole in
            ["Seq Scan on sends", "Seq Scan on leads", "Seq Scan on campaign_leads", "Heap Scan on campaign_leads"]
        {
            assert!(!plan.contains(whole), "{name}, {when}, {whole}:\n{plan}");
        }
        let sorts = ["Sort", "TEMP B-TREE"].iter().any(|word| plan.contains(word));
        assert!(!sorts || !BY_ORDER.contains(&name), "{name}, {when}:\n{plan}");
    }
}

async fn first_send(f: &Scene) -> Uuid {
    f.column("SELECT id AS x FROM sends ORDER BY id LIMIT 1").await[0]
}

/// Of how many of these tables the server has statistics.
async fn known(db: &Db) -> u64 {
    db.read(&KNOWN, vec![]).await.unwrap()[0].get("n").unwrap()
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
                for many in &BULK[..2] {
                    let other = plan(statement, *many).await;
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
