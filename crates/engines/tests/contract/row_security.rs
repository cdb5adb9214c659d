//! Row-level security of PostgreSQL alone: plain statements without predicates, as the role of tenants' transactions.
//!
//! The tables are read from the catalog and filled by the types of their columns, so a new table is tried without a
//! line here. Who may log in and migrate stands in `logins`. To add a statement: a line in `out_of_reach`.

mod logins;

use engines::Db;
use engines::migrate::migrate;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::engine::{NOW, connect, new_id};
use crate::on_postgres_alone;

/// What a statement came to: rows, or the code of the refusal.
type Found = Result<u64, String>;

/// `insufficient_privilege`: no right on the table, or a row that the policy does not let in.
fn refused() -> Found {
    Err("42501".into())
}

/// A table with a row of each of two tenants, and one without a tenant where there may be one.
struct Table {
    name: String,
    /// `tenant_id` may be NULL.
    optional: bool,
    columns: Vec<(String, String)>,
}

impl Table {
    /// Inserts a row of this tenant (an SQL expression).
    fn insert(&self, tenant: &str) -> String {
        let value = |(column, kind): &(String, String)| match (column.as_str(), kind.as_str()) {
            ("tenant_id", _) => tenant.to_owned(),
            (_, "uuid") => "gen_random_uuid()".into(),
            (_, "text") => "gen_random_uuid()::text".into(),
            (_, "bigint" | "double precision") => "1".into(),
            (_, "boolean") => "false".into(),
            (_, "jsonb") => "'{}'".into(),
            (_, "timestamp with time zone") => "now()".into(),
            (column, kind) => panic!("{}.{column}: a value of the type {kind} is missing here", self.name),
        };
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<String> = self.columns.iter().map(value).collect();
        format!("INSERT INTO {} ({}) VALUES ({})", self.name, names.join(", "), values.join(", "))
    }

    /// Rows without a tenant that a tenant may read.
    fn shared(&self) -> u64 {
        u64::from(self.name == "suppression_list")
    }
}

async fn read_tables(client: &Client) -> Vec<Table> {
    let columns = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL), a.attnotnull
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND EXISTS (SELECT 1 FROM pg_attribute t
            WHERE t.attrelid = c.oid AND t.attname = 'tenant_id') AND a.attgenerated = '' ORDER BY 1, a.attnum";
    let mut tables: Vec<Table> = Vec::new();
    for row in client.query(columns, &[]).await.unwrap() {
        let (name, column): (String, String) = (row.get(0), row.get(1));
        if tables.last().is_none_or(|table| table.name != name) {
            tables.push(Table { name, optional: false, columns: Vec::new() });
        }
        let table = tables.last_mut().unwrap();
        table.optional |= column == "tenant_id" && !row.get::<_, bool>(3);
        table.columns.push((column, row.get(2)));
    }
    assert!(tables.len() > 15);
    tables
}

/// References and checks say nothing about who may see a row, and would be in the way of filling tables by type; so would
/// the key of a table with one row for each tenant, of a second one.
const DROP_CONSTRAINTS: &str = "DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT conrelid::regclass AS t, conname AS n FROM pg_constraint
        WHERE (contype IN ('f', 'c') OR contype = 'p' AND conkey = (SELECT ARRAY[a.attnum] FROM pg_attribute a
                WHERE a.attrelid = conrelid AND a.attname = 'tenant_id')) AND connamespace = current_schema()::regnamespace
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.n); END LOOP; END $$";

async fn fill(client: &Client, tables: &[Table], tenants: [Uuid; 2]) {
    client.batch_execute(DROP_CONSTRAINTS).await.unwrap();
    for id in tenants {
        let tenant = format!("INSERT INTO tenants VALUES ('{id}', '{id}', now(), now())");
        client.batch_execute(&tenant).await.unwrap();
        for table in tables {
            client.batch_execute(&table.insert(&format!("'{id}'"))).await.unwrap();
        }
    }
    for table in tables.iter().filter(|table| table.optional) {
        client.batch_execute(&table.insert("NULL")).await.unwrap();
    }
}

/// Runs a statement as `role` with the setting (none: never set on this connection) and takes it back.
async fn run_as(client: &Client, role: &str, setting: Option<&str>, statement: &str) -> Found {
    client.batch_execute(&format!("BEGIN; SET LOCAL ROLE {role}")).await.unwrap();
    if let Some(setting) = setting {
        client.execute("SELECT set_config('app.current_tenant_id', $1, true)", &[&setting]).await.unwrap();
    }
    let found = client.execute(statement, &[]).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    found.map_err(|e| e.code().unwrap().code().to_owned())
}

/// Statements on a table, with what a tenant (or nobody) finds by them. `own` is 1 for the tenant, 0 for nobody.
fn out_of_reach(table: &Table, [a, b]: [Uuid; 2], own: u64) -> Vec<(String, Found)> {
    let name = &table.name;
    let or_refused = if own == 1 { Ok(1) } else { refused() };
    vec![
        (format!("SELECT 1 FROM {name} WHERE tenant_id = '{a}'"), Ok(own)),
        (format!("SELECT 1 FROM {name} WHERE tenant_id = '{b}'"), Ok(0)),
        (format!("SELECT 1 FROM {name}"), Ok(own + own * table.shared())),
        (format!("SELECT 1 FROM {name} FOR UPDATE"), Ok(own)),
        (format!("UPDATE {name} SET updated_at = updated_at"), Ok(own)),
        (format!("UPDATE {name} SET updated_at = updated_at WHERE tenant_id = '{b}'"), Ok(0)),
        (format!("UPDATE {name} SET tenant_id = '{b}'"), if own == 1 { refused() } else { Ok(0) }),
        (format!("UPDATE {name} SET tenant_id = NULL"), if own == 1 { refused() } else { Ok(0) }),
        (format!("DELETE FROM {name}"), Ok(own)),
        (format!("DELETE FROM {name} WHERE tenant_id = '{b}' OR tenant_id IS NULL"), Ok(0)),
        (table.insert(&format!("'{a}'")), or_refused),
        (table.insert(&format!("'{b}'")), refused()),
        (table.insert("NULL"), refused()),
        (format!("TRUNCATE {name}"), refused()),
    ]
}

async fn foreign_rows_are_out_of_reach(url: String) {
    let (client, unset) = (connect(&url).await, connect(&url).await);
    let tables = read_tables(&client).await;
    let tenants = [new_id(), new_id()];
    fill(&client, &tables, tenants).await;
    let a = tenants[0].to_string();
    for table in &tables {
        for (statement, expected) in out_of_reach(table, tenants, 1) {
            assert_eq!(run_as(&client, "penguinmails_app", Some(&a), &statement).await, expected, "{statement}");
        }
        for (statement, expected) in out_of_reach(table, tenants, 0) {
            let found = run_as(&unset, "penguinmails_app", None, &statement).await;
            assert_eq!(found, expected, "unset: {statement}");
            let found = run_as(&client, "penguinmails_app", Some(""), &statement).await;
            assert_eq!(found, expected, "empty: {statement}");
            let found = run_as(&client, "penguinmails_app", Some("' OR true --"), &statement).await;
            assert!(matches!(found, Err(_) | Ok(0)), "garbage: {statement}: {found:?}");
        }
        let all = format!("SELECT 1 FROM {}", table.name);
        let found = run_as(&client, "penguinmails_system", None, &all).await;
        assert_eq!(found, Ok(2 + u64::from(table.optional)), "the system sees all of {}", table.name);
    }
}

async fn what_belongs_to_no_tenant_is_closed_to_them(url: String) {
    let client = connect(&url).await;
    let tenants = [new_id(), new_id()];
    fill(&client, &read_tables(&client).await, tenants).await;
    let a = tenants[0].to_string();
    for (statement, expected) in [
        ("SELECT 1 FROM tenants", Ok(1)),
        ("UPDATE tenants SET name = 'mine'", refused()),
        ("DELETE FROM tenants", refused()),
        ("INSERT INTO tenants VALUES (gen_random_uuid(), 'new', now(), now())", refused()),
        ("SELECT 1 FROM workers", refused()),
        ("SELECT 1 FROM queue_jobs", refused()),
        ("DELETE FROM schema_migrations", refused()),
        ("SET ROLE penguinmails_system", Ok(0)),
    ] {
        assert_eq!(run_as(&client, "penguinmails_app", Some(&a), statement).await, expected, "{statement}");
    }
    assert_eq!(run_as(&client, "penguinmails_app", Some(""), "SELECT 1 FROM tenants").await, Ok(0));
    assert_eq!(run_as(&client, "penguinmails_system", None, "SELECT 1 FROM tenants").await, Ok(2));
}

/// Tables with a `tenant_id` that are not closed: without FORCE, without the tenants' policy, or with another open one.
async fn unprotected(client: &Client) -> Vec<String> {
    let statement = "SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
            AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
            AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polroles = '{0}'
                    AND pg_get_expr(p.polqual, c.oid) LIKE '(tenant_id = %current_setting(''app.current_tenant_id''%')
                AND NOT EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive
                    AND p.polroles <> ARRAY['penguinmails_system'::regrole::oid]
                    AND pg_get_expr(p.polqual, c.oid) NOT LIKE '%current_setting(''app.current_tenant_id''%'))
        ORDER BY 1";
    client.query(statement, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn every_table_of_tenants_is_protected(url: String) {
    let client = connect(&url).await;
    assert_eq!(unprotected(&client).await, Vec::<String>::new());
    client
        .batch_execute(
            "ALTER TABLE leads NO FORCE ROW LEVEL SECURITY; DROP POLICY tenant_isolation ON sends;
            CREATE POLICY everybody ON templates USING (true); CREATE TABLE stray (tenant_id uuid);
            REVOKE ALL ON campaigns FROM penguinmails_app, penguinmails_system",
        )
        .await
        .unwrap();
    assert_eq!(unprotected(&client).await, ["leads", "sends", "stray", "templates"], "this test can fail");
    let migrated = migrate(&Db::open_postgres(&url, 2).unwrap(), NOW).await.unwrap();
    assert!(migrated.applied.is_empty());
    assert_eq!(unprotected(&client).await, ["stray", "templates"], "what other programs made is theirs");
    for role in ["penguinmails_app", "penguinmails_system"] {
        let updated = run_as(&client, role, None, "UPDATE campaigns SET updated_at = updated_at").await;
        assert_eq!(updated, Ok(0), "{role} may work on campaigns again");
    }
}

on_postgres_alone! {
    foreign_rows_are_out_of_reach
    what_belongs_to_no_tenant_is_closed_to_them
    every_table_of_tenants_is_protected
}
