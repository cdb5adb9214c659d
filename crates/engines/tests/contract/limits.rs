//! How long PostgreSQL may keep us, and we it: limits of statements, of idle transactions, of waits for a connection; and
//! what becomes of calls that a limit or a server ends.
//!
//! Redis's own stand in `redis/faults`. To add a limit: how a server tells it, or what a call answers that meets it.

use domain::ids::TenantId;
use engines::db::LockKind;
use engines::dialect::Statement;
use engines::{Access, Db, Error, values};
use uuid::Uuid;

use crate::engine::connect;
use crate::on_postgres_alone;

static STATEMENT_LIMIT: Statement =
    Statement::new("STATEMENT_LIMIT", "SELECT current_setting('statement_timeout') AS x");
static IDLE_LIMIT: Statement =
    Statement::new("IDLE_LIMIT", "SELECT current_setting('idle_in_transaction_session_timeout') AS x");
static SHORT_STATEMENTS: Statement = Statement::new("SHORT_STATEMENTS", "SET LOCAL statement_timeout = 20");
static SHORT_IDLING: Statement = Statement::new("SHORT_IDLING", "SET LOCAL idle_in_transaction_session_timeout = 20");
static PORT: Statement = Statement::new("PORT", "SELECT inet_client_port() AS x");
static NOTHING: Statement = Statement::new("NOTHING", "SELECT 1 AS x");
static INSERT: Statement = Statement::new("INSERT", "INSERT INTO last_words (x) VALUES (1)");

async fn setting(db: &Db, statement: &'static Statement) -> String {
    db.read(statement, vec![]).await.unwrap()[0].get("x").unwrap()
}

async fn every_transaction_over_rows_has_an_end_and_leaves_none_behind(url: String) {
    let login = Db::open_postgres(&url, 2).unwrap();
    for db in [login.of_system(), login.of_tenant(TenantId::from_uuid(Uuid::nil()))] {
        assert_eq!(
            (setting(&db, &STATEMENT_LIMIT).await, setting(&db, &IDLE_LIMIT).await),
            ("1min".into(), "30s".into())
        );
        let mut tx = db.begin(Access::Write).await.unwrap();
        assert_eq!(tx.query(&STATEMENT_LIMIT, vec![]).await.unwrap()[0].get::<String>("x").unwrap(), "1min");
        tx.commit().await.unwrap();
    }
    // Migrations take as long as they take, on the same connections.
    assert_eq!((setting(&login, &STATEMENT_LIMIT).await, setting(&login, &IDLE_LIMIT).await), ("0".into(), "0".into()));
}

async fn a_statement_that_waits_too_long_for_a_lock_is_tried_again_later(url: String) {
    let db = Db::open_postgres(&url, 4).unwrap().of_system();
    let (held, mut late) = (Uuid::max(), db.begin(Access::Write).await.unwrap());
    let mut holder = db.begin(Access::Write).await.unwrap();
    holder.lock(LockKind::Campaign, true, [held]).await.unwrap();
    late.execute(&SHORT_STATEMENTS, vec![]).await.unwrap();
    let error = late.lock(LockKind::Campaign, true, [held]).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(why) if why.contains("57014")) && error.is_transient(), "{error}");
}

async fn a_transaction_that_the_server_ended_for_idling_is_tried_again(url: String) {
    let db = Db::open_postgres(&url, 2).unwrap().of_system();
    let other = connect(&url).await;
    let mut idle = db.begin(Access::Write).await.unwrap();
    let port: i64 = idle.query(&PORT, vec![]).await.unwrap()[0].get("x").unwrap();
    idle.execute(&SHORT_IDLING, vec![]).await.unwrap();
    let there = format!("SELECT 1 FROM pg_stat_activity WHERE client_port = {port}");
    while !other.query(&there, &[]).await.unwrap().is_empty() {}
    let error = idle.query(&NOTHING, vec![]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.is_transient(), "{error}");
    drop(idle);
    db.read(&NOTHING, vec![]).await.unwrap();
}

/// A server that ends the connection in the middle of COMMIT says so, and not whether it happened: PostgreSQL's answer
/// to the COMMIT itself is a fatal error here.
async fn fd01_a_commit_that_the_server_breaks_off_is_in_doubt(url: String) {
    let other = connect(&url).await;
    let traps = "CREATE TABLE last_words (x int);
        CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON last_words DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION end_it()";
    other.batch_execute(traps).await.unwrap();
    let db = Db::open_postgres(&url, 2).unwrap();
    let mut tx = db.begin(Access::Write).await.unwrap();
    assert_eq!(tx.execute(&INSERT, values![]).await.unwrap(), 1);
    let error = tx.commit().await.unwrap_err();
    assert!(error.is_commit_in_doubt(), "{error}");
    db.read(&NOTHING, vec![]).await.unwrap();
}

/// The server ends one of two that wait for each other.
async fn fd03_of_two_who_lock_in_opposite_order_one_is_told_to_try_again(url: String) {
    let db = Db::open_postgres(&url, 4).unwrap().of_system();
    let (one, two) = (Uuid::max(), Uuid::from_u128(1));
    let mut first = db.begin(Access::Write).await.unwrap();
    let mut second = db.begin(Access::Write).await.unwrap();
    first.lock(LockKind::Campaign, true, [one]).await.unwrap();
    second.lock(LockKind::Campaign, true, [two]).await.unwrap();
    let locks =
        tokio::join!(first.lock(LockKind::Campaign, true, [two]), second.lock(LockKind::Campaign, true, [one]),);
    let (won, lost) = if locks.0.is_ok() { (locks.0, locks.1) } else { (locks.1, locks.0) };
    let error = lost.unwrap_err();
    assert!(won.is_ok() && matches!(&error, Error::Conflict { code, .. } if code == "40P01"), "{error}");
    assert!(error.is_transient());
}

/// Linux shows when the next probe of a connection that says nothing goes out, in hundredths of a second.
async fn a_connection_that_says_nothing_is_probed_within_ten_seconds(url: String) {
    let db = Db::open_postgres(&url, 2).unwrap();
    let port: i64 = db.read(&PORT, vec![]).await.unwrap()[0].get("x").unwrap();
    let local = format!("0100007F:{port:04X}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // An ended connection of another test may have had the same port: 01 is one that stands.
    let stands = |line: &&str| line.split_whitespace().skip(1).step_by(2).take(2).eq([local.as_str(), "01"]);
    let ours = sockets.lines().find(stands).unwrap();
    let (timer, when) = ours.split_whitespace().nth(5).unwrap().split_once(':').unwrap();
    let hundredths = u32::from_str_radix(when, 16).unwrap();
    assert!(timer == "02" && hundredths <= 1_000, "{ours}");
}

async fn who_waits_for_a_connection_is_told_after_half_a_minute(url: String) {
    let case = async move {
        let db = Db::open_postgres(&url, 2).unwrap();
        let both = (db.begin(Access::Write).await.unwrap(), db.begin(Access::Write).await.unwrap());
        // From here on time passes as soon as nothing else can.
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let error = db.begin(Access::Write).await.err().unwrap();
        assert!(error.is_transient() && began.elapsed().as_secs() == 30, "{error} after {:?}", began.elapsed());
        tokio::time::resume();
        both.0.commit().await.unwrap();
        db.read(&NOTHING, vec![]).await.unwrap();
    };
    let alone = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
    std::thread::spawn(alone).join().unwrap();
}

on_postgres_alone! {
    every_transaction_over_rows_has_an_end_and_leaves_none_behind
    a_statement_that_waits_too_long_for_a_lock_is_tried_again_later
    a_transaction_that_the_server_ended_for_idling_is_tried_again
    fd01_a_commit_that_the_server_breaks_off_is_in_doubt
    fd03_of_two_who_lock_in_opposite_order_one_is_told_to_try_again
    a_connection_that_says_nothing_is_probed_within_ten_seconds
    who_waits_for_a_connection_is_told_after_half_a_minute
}
