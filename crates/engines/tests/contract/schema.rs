//! Both schemas are equal, every statement can be prepared, migrations are idempotent.

use std::collections::BTreeMap;

use domain::settle::Outcome;
use engines::dialect::{Dialect, Statement};
use engines::migrate::{all_statements, migrate, versions};
use engines::{Access, Db, Error, Store};

use crate::engine::{Engine, NOW, run};
use crate::on_every_engine;
use crate::store::scene::Scene;

fn every_statement_is_prepared(engine: Engine) {
    run(engine, async |db: Db| {
        let statements = all_statements(db.dialect());
        assert!(statements.len() > 60, "the registry lost statements: {}", statements.len());
        let mut refused = Vec::new();
        for statement in statements {
            if let Err(e) = db.check(statement).await {
                refused.push(e.to_string());
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    });
}

fn fd07_migrating_again_or_by_two_at_once_changes_nothing(engine: Engine) {
    run(engine, async |db: Db| {
        let again = migrate(&db, NOW).await.unwrap();
        assert!(again.applied.is_empty() && again.version >= 5);
        let (one, two) = tokio::join!(migrate(&db, NOW), migrate(&db, NOW));
        assert_eq!(one.unwrap(), two.unwrap());
    });
}

/// As the worker of the version before finds its ledger while the next version is put in its place.
fn fp19_a_newer_schema_that_only_adds_is_used_as_ever(engine: Engine) {
    run(engine, async |db: Db| {
        let known = versions(&db).await.unwrap().known;
        let newer = |n: i64, name: &str| {
            format!("INSERT INTO schema_migrations VALUES ({}, '{name}', 'x', {NOW_SQL}, {NOW_SQL})", known + n)
        };
        for table in ["sends", "campaigns", "campaign_leads", "email_accounts", "leads", "send_attempts", "workers"] {
            write(&db, &format!("ALTER TABLE {table} ADD COLUMN colour text NOT NULL DEFAULT 'red'")).await;
        }
        write(&db, &newer(1, "0998_colours")).await;
        let here = migrate(&db, NOW).await.unwrap();
        assert_eq!((here.applied, here.version, here.is_newer), (vec![], known + 1, true));
        for statement in all_statements(db.dialect()) {
            db.check(statement).await.unwrap();
        }
        let (f, job, fence) = Scene::one_dot(Store::new(db.clone()), |_| {}).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        assert_eq!(f.sends().await, ["sent"]);
        // What is taken away later says who has lived without it.
        write(&db, &newer(2, &format!("0999_fewer_needs_{known}"))).await;
        assert!(migrate(&db, NOW).await.is_ok() && versions(&db).await.unwrap().fits());
        write(&db, &newer(3, &format!("1000_fewer_needs_{}", known + 1))).await;
        assert!(matches!(migrate(&db, NOW).await, Err(Error::Schema(text)) if text.contains("newer version")));
        assert!(!versions(&db).await.unwrap().fits());
    });
}

/// A statement of nobody's, as the login itself.
async fn write(db: &Db, sql: &str) {
    let sql = match db.dialect() {
        Dialect::Sqlite => sql.replace(NOW_SQL, "0"),
        Dialect::Postgres => sql.to_owned(),
    };
    let statement: &'static Statement = Box::leak(Box::new(Statement::new("write", sql.leak())));
    let mut tx = db.begin(Access::Write).await.unwrap();
    tx.execute(statement, vec![]).await.unwrap();
    tx.commit().await.unwrap();
}

/// A time that PostgreSQL reads.
const NOW_SQL: &str = "'2026-03-02T12:00:00Z'";

fn an_open_transaction_is_never_handed_on(engine: Engine) {
    run(engine, async |db: Db| {
        for _ in 0..20 {
            // Given up half way, as a cancelled task does.
            let mut tx = db.begin(Access::Write).await.unwrap();
            tx.lock(engines::db::LockKind::Campaign, false, [uuid::Uuid::nil()]).await.unwrap();
            drop(tx);
        }
        let tx = db.begin(Access::Write).await.unwrap();
        tx.commit().await.unwrap();
    });
}

on_every_engine! {
    every_statement_is_prepared
    fd07_migrating_again_or_by_two_at_once_changes_nothing
    fp19_a_newer_schema_that_only_adds_is_used_as_ever
    an_open_transaction_is_never_handed_on
}

/// Columns of every table as `table.column -> (type class, nullable)`, read from the migration files of each dialect.
fn columns(dialect: engines::dialect::Dialect) -> BTreeMap<String, (String, bool)> {
    let mut found = BTreeMap::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "sql")) {
        let text = engines::dialect::translate(&std::fs::read_to_string(file).unwrap(), dialect);
        for table in text.split("CREATE TABLE ").skip(1) {
            let (name, body) = table.split_once(" (").unwrap();
            for line in body.lines().skip(1).take_while(|l| !l.starts_with(')')) {
                let mut words = line.trim().trim_end_matches(',').split_whitespace();
                let (Some(column), Some(kind)) = (words.next(), words.next()) else { continue };
                if column.chars().next().is_some_and(char::is_lowercase) {
                    let class = match kind.to_lowercase().as_str() {
                        "uuid" | "blob" => "id",
                        "double" | "real" => "float",
                        "bigint" | "integer" | "boolean" | "timestamptz" => "number or time",
                        "text" | "jsonb" => "text or json",
                        other => panic!("{column} has the type {other}"),
                    };
                    let nullable = !line.contains("NOT NULL") && !line.contains("PRIMARY KEY");
                    found.insert(format!("{name}.{column}"), (class.to_owned(), nullable));
                }
            }
        }
    }
    found
}

#[test]
fn both_schemas_have_the_same_columns() {
    let sqlite = columns(engines::dialect::Dialect::Sqlite);
    let postgres = columns(engines::dialect::Dialect::Postgres);
    assert!(sqlite.len() > 150, "{}", sqlite.len());
    assert_eq!(sqlite, postgres);
}
