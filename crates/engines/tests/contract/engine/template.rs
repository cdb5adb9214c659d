//! Migrated databases to copy: made once per process, since migrating takes longer than most cases.
//!
//! SQLite: the bytes of a file. PostgreSQL: a template, copied under names that begin with `pm_test_` and the process's
//! id. Dropping a database waits for a checkpoint, so no case does it: a second process, the janitor, drops them all
//! when this one has ended, however it ended; and the logins that cases made. To add an engine: a function that gives a case its copy.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use engines::Db;
use engines::migrate::migrate;

use super::{NOW, block_on, connect, new_id, service, with_database};

/// Writes a migrated file to `path`.
pub fn copy_sqlite(path: &Path) {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (original, whole) = (dir.path().join("original.db"), dir.path().join("whole.db"));
        let db = Db::open_sqlite(&original, 1).unwrap();
        block_on(migrate(&db, NOW)).unwrap();
        // One file without a log beside it.
        let connection = rusqlite::Connection::open(&original).unwrap();
        connection.execute("VACUUM INTO ?1", [whole.to_str().unwrap()]).unwrap();
        std::fs::read(whole).unwrap()
    });
    std::fs::write(path, bytes).unwrap();
}

/// Makes a migrated database on `server`; its URL.
pub fn copy_postgres(server: &str) -> String {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        static JANITOR: OnceLock<Child> = OnceLock::new();
        JANITOR.get_or_init(|| janitor(&prefix()));
        let name = format!("{}template", prefix());
        block_on(run(server, &format!("CREATE DATABASE {name}")));
        // Its connections end with the runtime: a template that is in use cannot be copied.
        block_on(async {
            let db = Db::open_postgres(&with_database(server, &name), 2).unwrap();
            migrate(&db, NOW).await.unwrap();
        });
        name
    });
    let name = format!("{}{}", prefix(), new_id().simple());
    block_on(run(server, &format!("CREATE DATABASE {name} TEMPLATE {template}")));
    with_database(server, &name)
}

/// Makes a login with these attributes beside the database `url`; its URL of it.
pub async fn new_login(url: &str, attributes: &str) -> String {
    let login = format!("{}{}", prefix(), new_id().simple());
    run(url, &format!("CREATE ROLE {login} LOGIN {attributes}")).await;
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{login}@{}", rest.rsplit_once('@').unwrap().1)
}

/// The name of the login in a URL.
pub fn login_of(url: &str) -> &str {
    url.split_once("://").unwrap().1.split(['@', ':']).next().unwrap()
}

/// Makes an empty database that a new login with these attributes owns; the login's URL of it.
pub async fn empty_postgres(url: &str, attributes: &str) -> String {
    let owner = new_login(url, attributes).await;
    let login = login_of(&owner);
    run(url, &format!("CREATE DATABASE {login} OWNER {login}")).await;
    run(&with_database(url, login), &format!("ALTER SCHEMA public OWNER TO {login}")).await;
    with_database(&owner, login)
}

async fn run(server: &str, statement: &str) {
    connect(server).await.batch_execute(statement).await.unwrap();
}

fn prefix() -> String {
    format!("pm_test_{}_", std::process::id())
}

/// Tells the process that it is a janitor, and of which databases.
const JANITOR_OF: &str = "TEST_JANITOR_OF";

/// This program once more, running the case below alone. It ends when the other end of its input is closed, which the
/// kernel does for a process that ends; in a group of its own, so that Ctrl-C does not end it before its work.
fn janitor(prefix: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::template::databases_end_with_their_process"])
        .env(JANITOR_OF, prefix)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

const DATABASES: &str = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)";
const LOGINS: &str = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)";

async fn names(client: &tokio_postgres::Client, statement: &str, prefix: &str) -> Vec<String> {
    client.query(statement, &[&prefix]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn databases_end_with_their_process() {
    let Some(server) = service("postgres", "TEST_POSTGRES_URL") else { return };
    if let Ok(prefix) = std::env::var(JANITOR_OF) {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
        return block_on(async {
            let client = connect(&server).await;
            for name in names(&client, DATABASES, &prefix).await {
                client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
            }
            for name in names(&client, LOGINS, &prefix).await {
                client.batch_execute(&format!("DROP ROLE {name}")).await.unwrap();
            }
        });
    }
    let prefix = format!("pm_janitor_{}_", std::process::id());
    block_on(run(&server, &format!("CREATE DATABASE {prefix}a")));
    block_on(run(&server, &format!("CREATE ROLE {prefix}a")));
    let mut janitor = janitor(&prefix);
    assert!(janitor.try_wait().unwrap().is_none(), "it waits for the end of its process");
    drop(janitor.stdin.take());
    assert!(janitor.wait().unwrap().success());
    block_on(async {
        let client = connect(&server).await;
        assert_eq!(names(&client, DATABASES, &prefix).await, Vec::<String>::new());
        assert_eq!(names(&client, LOGINS, &prefix).await, Vec::<String>::new());
    });
}
