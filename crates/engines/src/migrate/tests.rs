//! What a migration does to rows that are there already, where it makes a table anew.

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_366_400);

static SENDS: Statement =
    Statement::new("SENDS", "SELECT COUNT(*) AS n FROM sends WHERE status = 'sent' AND round = 1 AND retry_since = 7");
static INDEXES: Statement =
    Statement::new("INDEXES", "SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sends'");
static LOOSE: Statement = Statement::new("LOOSE", "SELECT COUNT(*) AS n FROM pragma_foreign_key_check");
static DELETE: Statement = Statement::new("DELETE", "DELETE FROM sends");

/// A send that a try and a dead letter point to.
const ROWS: &str = "
    INSERT INTO tenants (id, name, created_at, updated_at) VALUES (x'01', 't', 1, 1);
    INSERT INTO companies (id, tenant_id, name, address, created_at, updated_at) VALUES (x'02', x'01', 'c', 'a', 1, 1);
    INSERT INTO campaigns (id, tenant_id, company_id, name, created_at, updated_at) VALUES (x'03', x'01', x'02', 'c', 1, 1);
    INSERT INTO campaign_sequence_steps (id, tenant_id, campaign_id, step_order, step_type, created_at, updated_at)
        VALUES (x'04', x'01', x'03', 1, 'email', 1, 1);
    INSERT INTO leads (id, tenant_id, email, created_at, updated_at) VALUES (x'05', x'01', 'a@b.test', 1, 1);
    INSERT INTO campaign_leads (id, tenant_id, campaign_id, lead_id, next_step_order, created_at, updated_at)
        VALUES (x'06', x'01', x'03', x'05', 1, 1, 1);
    INSERT INTO sends (id, tenant_id, campaign_id, lead_id, step_id, enrollment_id, step_order, status, open, not_before,
        created_at, updated_at, retry_since) VALUES (x'07', x'01', x'03', x'05', x'04', x'06', 1, 'sent', 0, 1, 1, 1, 7);
    INSERT INTO send_attempts (id, tenant_id, send_id, fence, owner, started_at, finished_at, stage, outcome, counted,
        created_at, updated_at) VALUES (x'08', x'01', x'07', 1, 'o', 1, 1, 's', 'o', 1, 1, 1);
    INSERT INTO dead_letters (id, tenant_id, send_id, queue_name, payload, error, failed_at, attempt_count,
        original_priority, created_at, updated_at) VALUES (x'09', x'01', x'07', 'q', 'p', 'e', 1, 1, 1, 1, 1)";

async fn number(db: &Db, statement: &'static Statement) -> i64 {
    db.read(statement, vec![]).await.unwrap()[0].get("n").unwrap()
}

#[tokio::test]
async fn sqlite_keeps_every_send_and_what_points_to_it_when_rounds_come() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&folder.path().join("old.db"), 1).unwrap();
    for migration in MIGRATIONS.iter().take_while(|migration| migration.version < 19) {
        assert!(apply(&db, migration, NOW).await.unwrap());
    }
    let mut tx = db.begin(Access::Write).await.unwrap();
    tx.script(ROWS).await.unwrap();
    tx.commit().await.unwrap();
    let indexes = number(&db, &INDEXES).await;
    let rounds = MIGRATIONS.iter().find(|migration| migration.version == 19).unwrap();
    assert!(apply(&db, rounds, NOW + Duration::from_secs(1)).await.unwrap());
    assert_eq!((number(&db, &SENDS).await, number(&db, &LOOSE).await), (1, 0));
    assert_eq!(number(&db, &INDEXES).await, indexes, "one for each that there was");
    assert!(db.write(&DELETE, vec![]).await.is_err(), "what points to it still holds it");
}
