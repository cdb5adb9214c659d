//! Imports that meet other transactions on PostgreSQL: accounts are locked as planning locks them, and a deadlock is no end.
//!
//! Not responsible for what an import writes (`setup`).

use engines::{Db, Store};
use uuid::Uuid;

use super::scene::{Scene, account, apply_setup};
use crate::engine::{NOW, connect};
use crate::on_postgres_alone;

/// Two accounts, those of the file in the other order than their ids; and the ids in order.
async fn two_accounts(url: &str) -> (Scene, [Uuid; 2]) {
    let store = Store::new(Db::open_postgres(url, 8).unwrap());
    let mut f = Scene::draft(store, |s| s.accounts.push(account("bob@acme.test"))).await;
    f.setup.accounts.reverse();
    let ids: Vec<Uuid> = f.column("SELECT id AS x FROM email_accounts ORDER BY id").await;
    (f, ids.try_into().unwrap())
}

async fn lock(client: &tokio_postgres::Client, id: Uuid, how: &str) {
    client.batch_execute(&format!("SELECT FROM email_accounts WHERE id = '{id}' FOR UPDATE {how}")).await.unwrap();
}

/// Until somebody waits for a row's lock.
async fn somebody_waits(f: &Scene) {
    const WAITING: &str = "SELECT COUNT(*) AS x FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE NOT l.granted AND a.datname = current_database()";
    while f.one::<i64>(WAITING).await == 0 {
        tokio::task::yield_now().await;
    }
}

async fn accounts_are_locked_in_order_of_their_ids(url: String) {
    let (f, [first, last]) = two_accounts(&url).await;
    let (planner, other) = (connect(&url).await, connect(&url).await);
    planner.batch_execute("BEGIN").await.unwrap();
    lock(&planner, first, "").await;
    let import = async { apply_setup(&f.store, &f.setup).await.unwrap() };
    let meanwhile = async {
        somebody_waits(&f).await;
        lock(&other, last, "NOWAIT").await;
        planner.batch_execute("COMMIT").await.unwrap();
    };
    tokio::join!(import, meanwhile);
}

async fn an_import_that_meets_another_transaction_in_a_deadlock_is_tried_again(url: String) {
    let (f, [first, last]) = two_accounts(&url).await;
    let other = connect(&url).await;
    // It never finds the deadlock itself.
    other.batch_execute("SET deadlock_timeout = '1h'; BEGIN").await.unwrap();
    lock(&other, last, "").await;
    let import = async { apply_setup(&f.store, &f.setup).await };
    let meanwhile = async {
        somebody_waits(&f).await;
        lock(&other, first, "").await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (imported, ()) = tokio::join!(import, meanwhile);
    assert_eq!(imported.unwrap().campaign_id, f.campaign_id);
}

/// The planner has read who is due, and writes that the campaign rests until tomorrow behind an import.
async fn leads_who_come_while_a_page_puts_their_campaign_to_rest_end_the_rest(url: String) {
    let store = Store::new(Db::open_postgres(&url, 8).unwrap());
    let f = Scene::started(store, 2, |s| s.accounts[0].daily_limit = Some(1)).await;
    assert_eq!(f.plan(NOW).await.planned.len(), 1);
    assert_eq!(f.due_campaigns(NOW).await, [], "the day is full");
    f.write("UPDATE campaigns SET next_plan_at = NULL", vec![]).await;
    let other = connect(&url).await;
    other.batch_execute("BEGIN; SELECT FROM pace_days FOR UPDATE").await.unwrap();
    let meanwhile = async {
        somebody_waits(&f).await;
        assert_eq!(f.enroll(2..3).await, 1);
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (page, ()) = tokio::join!(f.plan(NOW), meanwhile);
    assert!(page.planned.is_empty());
    assert_eq!(f.due_campaigns(NOW).await, [(f.tenant_id, f.campaign_id)]);
    assert!(f.plan(NOW).await.planned.is_empty());
    assert_eq!(f.due_campaigns(NOW).await, [], "nobody came meanwhile");
}

on_postgres_alone! {
    accounts_are_locked_in_order_of_their_ids
    an_import_that_meets_another_transaction_in_a_deadlock_is_tried_again
    leads_who_come_while_a_page_puts_their_campaign_to_rest_end_the_rest
}
