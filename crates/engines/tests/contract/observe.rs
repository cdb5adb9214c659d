//! What an observer of the database is told, and what readiness asks of it.

use std::sync::{Arc, Mutex};

use engines::dialect::Statement;
use engines::migrate::versions;
use engines::{Access, Db, Error, Store, values};

use crate::engine::{Engine, run};
use crate::on_every_engine;

static VERSION: Statement = Statement::new("VERSION", "SELECT version FROM schema_migrations");
static FORGET: Statement = Statement::new("FORGET", "DELETE FROM schema_migrations WHERE version = $1");
static WRONG: Statement = Statement::new("WRONG", "SELECT no_such_column FROM schema_migrations");

fn each_transaction_is_told_of_once(engine: Engine) {
    run(engine, async |db: Db| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&told);
        let db = db.observed(Arc::new(move |seen| {
            notes.lock().unwrap().push((seen.access, seen.error.map(Error::kind)));
        }));
        db.read(&VERSION, vec![]).await.unwrap();
        assert!(db.read(&WRONG, vec![]).await.is_err());
        db.begin(Access::Write).await.unwrap().commit().await.unwrap();
        let mut failed = db.begin(Access::Write).await.unwrap();
        assert!(failed.query(&WRONG, vec![]).await.is_err());
        assert!(matches!(failed.commit().await, Err(Error::Aborted)));
        drop(db.begin(Access::Write).await.unwrap());
        let expected = [
            (Access::Read, None),
            (Access::Read, Some("statement")),
            (Access::Write, None),
            (Access::Write, Some("statement")),
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    });
}

fn a_schema_that_is_not_this_programs_is_seen(engine: Engine) {
    run(engine, async |db: Db| {
        let here = versions(&db).await.unwrap();
        assert!(here.found == here.known && here.fits());
        db.write(&FORGET, values![here.known]).await.unwrap();
        let older = versions(&db).await.unwrap();
        assert_eq!((older.found, older.known, older.fits()), (here.known - 1, here.known, false));
    });
}

fn no_account_has_no_password(engine: Engine) {
    run(engine, async |db: Db| {
        let store = Store::new(db);
        assert!(store.system().newest_passwords(20).await.unwrap().is_empty());
    });
}

on_every_engine! { each_transaction_is_told_of_once a_schema_that_is_not_this_programs_is_seen no_account_has_no_password }
