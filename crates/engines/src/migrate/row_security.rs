//! Row-level security on PostgreSQL: two roles without log-in, and policies on every table that belongs to tenants.
//!
//! Runs after the migrations at every start, looks first and changes only what is missing: so a table of a new
//! migration, a restore without privileges and a role that was dropped need nobody's care. A login that owns nothing is
//! enough where nothing is missing. To add a table: nothing but its migration, with a `tenant_id`; one that tenants
//! share in another way: an arm in `Kind::of`.

use crate::db::{Access, Db, LockKind, Tx};
use crate::dialect::{APP_ROLE, Dialect, SYSTEM_ROLE, TENANT_SETTING};
use crate::error::{Error, Result};
use crate::value::Row;
use crate::{statements, values};

statements! {
    IS_READABLE = "SELECT COALESCE(has_table_privilege(to_regclass('schema_migrations'), 'SELECT'), false) AS readable";
    // Before PostgreSQL 16 every member may take the role; since then that is a privilege of its own.
    ROLES = "SELECT r.name, p.oid IS NOT NULL AS made, COALESCE(p.rolsuper OR p.rolbypassrls, false) AS unbound,
            COALESCE(has_schema_privilege(p.oid, current_schema(), 'USAGE'), false) AS enters,
            COALESCE(pg_has_role(current_user, p.oid, CASE WHEN current_setting('server_version_num')::bigint >= 160000
                THEN 'SET' ELSE 'MEMBER' END), false) AS takable
        FROM (VALUES ($1::text), ($2::text)) r(name) LEFT JOIN pg_roles p ON p.rolname = r.name ORDER BY r.name";
    TABLES = "SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
            EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS has_tenant,
            (SELECT COUNT(*) FROM pg_policy p WHERE p.polrelid = c.oid
                AND p.polname IN ('tenant_isolation', 'platform_wide', 'system_access')) AS policies,
            (SELECT COUNT(*) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) w
                WHERE has_table_privilege($2::text, c.oid, w)) AS app,
            (SELECT COUNT(*) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) w
                WHERE has_table_privilege($3::text, c.oid, w)) AS system,
            has_table_privilege('public', c.oid, 'SELECT') AS public
        FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
            AND (c.relname = 'schema_migrations' OR c.relname IN (SELECT jsonb_array_elements_text($1::jsonb)))
        ORDER BY c.relname";
    FINDS_TABLES = "SELECT to_regclass('tenants') IS NOT NULL AS found";
}

/// Whether the record of migrations is there and may be read; a login that owns nothing cannot make it.
pub(super) async fn is_readable(tx: &mut Tx, dialect: Dialect) -> Result<bool> {
    match dialect {
        Dialect::Sqlite => Ok(false),
        Dialect::Postgres => tx.query_opt(&IS_READABLE, vec![]).await?.map_or(Ok(false), |row| row.get("readable")),
    }
}

/// Brings roles, policies and privileges of `tables` up to date; nothing to do on SQLite.
///
/// # Errors
/// `Schema` where the login may not do what is missing.
pub(super) async fn secure(db: &Db, tables: &[&str]) -> Result<()> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let mut tx = db.begin(Access::Write).await?;
    tx.lock(LockKind::Schema, true, [uuid::Uuid::nil()]).await?;
    for row in tx.query(&ROLES, values![APP_ROLE, SYSTEM_ROLE]).await? {
        make_role(&mut tx, &row).await?;
    }
    for row in tx.query(&TABLES, values![serde_json::json!(tables), APP_ROLE, SYSTEM_ROLE]).await? {
        secure_table(&mut tx, &row).await?;
    }
    tx.commit().await?;
    let found = db.of_system().read(&FINDS_TABLES, vec![]).await?;
    if found.first().map_or(Ok(false), |row| row.get("found"))? {
        return Ok(());
    }
    Err(Error::Schema(format!(
        "role `{SYSTEM_ROLE}` does not find the tables (hint: `search_path` names a schema after the login; write it out, e.g. ALTER ROLE … SET search_path = …)"
    )))
}

async fn make_role(tx: &mut Tx, row: &Row) -> Result<()> {
    let name: String = row.get("name")?;
    if row.get("unbound")? {
        return Err(Error::Schema(format!(
            "role `{name}` passes over row-level security (hint: ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS)"
        )));
    }
    let mut script = String::new();
    // Roles belong to all databases of the server: another one may be making them now.
    let unless_made = |script: &str| {
        format!("DO $$ BEGIN {script}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;")
    };
    if !row.get::<bool>("made")? {
        script += &unless_made(&format!("CREATE ROLE {name} NOLOGIN NOINHERIT"));
    }
    if !row.get::<bool>("takable")? {
        // Where the server can say so (16), the login may take the role and has nothing of it otherwise.
        script += &format!(
            "DO $$ BEGIN EXECUTE 'GRANT {name} TO CURRENT_USER' || CASE
                WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT FALSE, SET TRUE' ELSE '' END;
            EXCEPTION WHEN unique_violation THEN NULL; END $$;"
        );
    }
    if !row.get::<bool>("enters")? {
        script += &format!(
            "DO $$ BEGIN EXECUTE 'GRANT USAGE ON SCHEMA ' || quote_ident(current_schema()) || ' TO {name}'; END $$;"
        );
    }
    let administrator = || {
        let make = [APP_ROLE, SYSTEM_ROLE].map(|role| format!("CREATE ROLE {role} NOLOGIN NOINHERIT; ")).concat();
        format!(
            "an administrator runs: {make}GRANT {APP_ROLE}, {SYSTEM_ROLE} TO … (the login of DATABASE_URL); GRANT USAGE ON SCHEMA … TO both"
        )
    };
    change(tx, &script, administrator).await
}

/// Whose the rows of a table are.
enum Kind {
    /// The tenant's that stands in `tenant_id`.
    Tenants,
    /// The same, and those without a tenant are everybody's to read.
    TenantsAndShared,
    /// The table of tenants: each sees itself.
    TenantsThemselves,
    /// The machinery's.
    System,
    /// Anybody may read.
    Public,
}

impl Kind {
    fn of(table: &str, has_tenant: bool) -> Self {
        match table {
            "suppression_list" => Self::TenantsAndShared,
            "tenants" => Self::TenantsThemselves,
            "schema_migrations" => Self::Public,
            _ if has_tenant => Self::Tenants,
            _ => Self::System,
        }
    }

    /// Policies, and how many of the four privileges a tenant's transactions have.
    const fn wanted(&self) -> (i64, i64) {
        match self {
            Self::Tenants => (2, 4),
            Self::TenantsAndShared => (3, 4),
            Self::TenantsThemselves => (2, 1),
            Self::System | Self::Public => (0, 0),
        }
    }
}

async fn secure_table(tx: &mut Tx, row: &Row) -> Result<()> {
    let name: String = row.get("name")?;
    let kind = Kind::of(&name, row.get("has_tenant")?);
    let (policies, app) = kind.wanted();
    let granted = match kind {
        Kind::Public => row.get("public")?,
        _ => row.get::<i64>("app")? >= app && row.get::<i64>("system")? == 4,
    };
    let protected = policies == 0 || row.get("forced")? && row.get::<i64>("policies")? >= policies;
    if granted && protected {
        return Ok(());
    }
    let owner = || "the owner of the tables runs `penguinmails migrate`".to_owned();
    change(tx, &table_script(&name, &kind), owner).await
}

/// The setting is read once per statement, not once per row. It is NULL or empty where no transaction set it, and NULL
/// equals nothing.
fn table_script(table: &str, kind: &Kind) -> String {
    let tenant = format!("(SELECT NULLIF(current_setting('{TENANT_SETTING}', true), '')::uuid)");
    let policy = |name: &str, rule: &str| {
        format!("DROP POLICY IF EXISTS {name} ON {table}; CREATE POLICY {name} ON {table} {rule};")
    };
    let rights = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO");
    let rules = match kind {
        Kind::Public => return format!("GRANT SELECT ON {table} TO PUBLIC"),
        Kind::System => return format!("{rights} {SYSTEM_ROLE}"),
        Kind::TenantsThemselves => {
            policy("tenant_isolation", &format!("FOR SELECT USING (id = {tenant})"))
                + &format!("GRANT SELECT ON {table} TO {APP_ROLE}; {rights} {SYSTEM_ROLE};")
        }
        Kind::Tenants | Kind::TenantsAndShared => {
            policy("tenant_isolation", &format!("USING (tenant_id = {tenant})"))
                + &format!("{rights} {APP_ROLE}, {SYSTEM_ROLE};")
        }
    };
    let shared = match kind {
        Kind::TenantsAndShared => {
            policy("platform_wide", &format!("FOR SELECT USING (tenant_id IS NULL AND {tenant} IS NOT NULL)"))
        }
        _ => String::new(),
    };
    let system = policy("system_access", &format!("TO {SYSTEM_ROLE} USING (true)"));
    format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; {rules}{shared}{system}")
}

async fn change(tx: &mut Tx, script: &str, hint: impl FnOnce() -> String) -> Result<()> {
    if script.is_empty() {
        return Ok(());
    }
    // Of what is not there yet nobody needs to hear.
    tx.script(&format!("SET LOCAL client_min_messages = warning; {script}")).await.map_err(|e| {
        if e.is_transient() { e } else { Error::Schema(format!("row-level security: {e} (hint: {})", hint())) }
    })
}
