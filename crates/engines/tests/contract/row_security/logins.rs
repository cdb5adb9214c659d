//! Who logs in: the owner of the tables, one who owns nothing, one who lacks a right; and that no transaction leaves
//! its role or tenant behind. To add a login: a case here.

use domain::ids::TenantId;
use engines::dialect::Statement;
use engines::migrate::migrate;
use engines::{Access, Db, Error, Store};

use crate::engine::template::{empty_postgres, login_of, new_login};
use crate::engine::{NOW, connect, new_id};
use crate::on_postgres_alone;
use crate::store::scene::Scene;

const LEADS: &str = "SELECT email FROM leads";

async fn count(url: &str, statement: &str) -> usize {
    connect(url).await.query(statement, &[]).await.unwrap().len()
}

/// FORCE: the owner of the tables is under the policies as everybody else.
async fn an_owner_who_sets_nothing_sees_nothing(url: String) {
    let owner = empty_postgres(&url, "NOINHERIT CREATEROLE").await;
    let db = Db::open_postgres(&owner, 4).unwrap();
    assert!(migrate(&db, NOW).await.unwrap().applied.len() >= 5);
    let (f, _) = Scene::one_job(Store::new(db), |_| {}).await;
    assert!(f.tenant().get_campaign(f.campaign_id).await.is_ok());
    assert!(f.stranger().await.get_campaign(f.campaign_id).await.is_err());
    assert_eq!(count(&owner, LEADS).await, 0);
    let superuser = crate::engine::with_database(&url, login_of(&owner));
    assert_eq!(count(&superuser, LEADS).await, 1, "there was something to see");
}

async fn a_login_that_owns_nothing_is_enough_once_migrated(url: String) {
    let member = new_login(&url, "NOINHERIT IN ROLE penguinmails_app, penguinmails_system").await;
    let db = Db::open_postgres(&member, 4).unwrap();
    assert!(migrate(&db, NOW).await.unwrap().applied.is_empty());
    let (f, job) = Scene::one_job(Store::new(db), |_| {}).await;
    f.granted(&job, NOW).await;
    assert!(f.tenant().get_campaign(f.campaign_id).await.is_ok());
}

async fn a_login_that_may_not_take_the_roles_is_told_what_to_do(url: String) {
    let owner = empty_postgres(&url, "NOINHERIT").await;
    let refused = migrate(&Db::open_postgres(&owner, 2).unwrap(), NOW).await.unwrap_err();
    let Error::Schema(text) = &refused else { panic!("{refused:?}") };
    assert!(text.contains("GRANT penguinmails_app, penguinmails_system TO"), "{text}");
    let login = login_of(&owner);
    let roles = "penguinmails_app, penguinmails_system";
    connect(&url).await.batch_execute(&format!("GRANT {roles} TO {login}")).await.unwrap();
    migrate(&Db::open_postgres(&owner, 2).unwrap(), NOW).await.unwrap();
}

/// `"$user"` in the search path, the default, names another schema once the role is taken.
async fn a_schema_named_for_the_login_is_told_of(url: String) {
    let owner = empty_postgres(&url, "NOINHERIT CREATEROLE").await;
    let login = login_of(&owner);
    connect(&owner).await.batch_execute(&format!("CREATE SCHEMA {login}")).await.unwrap();
    let refused = migrate(&Db::open_postgres(&owner, 2).unwrap(), NOW).await.unwrap_err();
    assert!(matches!(&refused, Error::Schema(text) if text.contains("search_path")), "{refused:?}");
    connect(&url).await.batch_execute(&format!("ALTER ROLE {login} SET search_path = {login}")).await.unwrap();
    migrate(&Db::open_postgres(&owner, 2).unwrap(), NOW).await.unwrap();
}

static WHO: Statement = Statement::new(
    "WHO",
    "SELECT current_user AS role, COALESCE(current_setting('app.current_tenant_id', true), '') AS tenant",
);

async fn who(db: &Db) -> (String, String) {
    let row = db.read(&WHO, vec![]).await.unwrap().remove(0);
    (row.get("role").unwrap(), row.get("tenant").unwrap())
}

async fn a_transaction_leaves_neither_role_nor_tenant_behind(url: String) {
    // Two connections: each is used by turns of all kinds.
    let db = Db::open_postgres(&url, 2).unwrap();
    let tenants = [new_id(), new_id()].map(TenantId::from_uuid);
    for tenant in tenants.iter().cycle().take(6) {
        let (app, id) = ("penguinmails_app".to_owned(), tenant.to_string());
        assert_eq!(who(&db.of_tenant(*tenant)).await, (app.clone(), id.clone()));
        let mut tx = db.of_tenant(*tenant).begin(Access::Write).await.unwrap();
        let row = tx.query_opt(&WHO, vec![]).await.unwrap().unwrap();
        assert_eq!((row.get("role").unwrap(), row.get("tenant").unwrap()), (app, id));
        let other = who(&db.of_system()).await;
        assert_eq!(other, ("penguinmails_system".to_owned(), String::new()), "beside an open transaction");
        tx.commit().await.unwrap();
        assert_eq!(who(&db).await, (login_of(&url).to_owned(), String::new()));
    }
}

on_postgres_alone! {
    an_owner_who_sets_nothing_sees_nothing
    a_login_that_owns_nothing_is_enough_once_migrated
    a_login_that_may_not_take_the_roles_is_told_what_to_do
    a_schema_named_for_the_login_is_told_of
    a_transaction_leaves_neither_role_nor_tenant_behind
}
