//! Ways to connect: TLS and log-in, Sentinel with a failover, what a server says of itself, whose it is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use engines::Error;
use engines::queue::redis::RedisQueue;
use engines::queue::{Job, List, Queue as _};

use super::server::Server;
use crate::engine::{NOW, new_id, runtime, service};
use crate::queue_engine::{Cluster, Database, run_redis};

const LEASE: Duration = Duration::from_secs(60);
const MAIL: List = List::EmailSending;

fn job() -> Job {
    Job { id: new_id(), payload: "{}".into(), priority: 100, not_before: NOW }
}

async fn works(queue: &RedisQueue) {
    assert_eq!(queue.push(MAIL, vec![job()], NOW).await.unwrap(), 1);
    assert_eq!(queue.lease(MAIL, "w", 1, LEASE, NOW).await.unwrap().len(), 1);
}

async fn refusal(url: &str) -> Error {
    RedisQueue::connect(url).await.err().unwrap()
}

/// A key and a certificate of its own for 127.0.0.1.
fn certificate(folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &certificate]);
    assert!(openssl.output().unwrap().status.success());
    (key, certificate)
}

#[test]
fn tls_and_password_are_used_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = certificate(folder.path());
    let tls = crate::port::free().to_string();
    let options = ["--tls-port", &tls, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let options = [&options[..], &["--tls-auth-clients", "no", "--requirepass", "p@ss/word"]].concat();
    let Some(server) = Server::start(&options) else { return };
    runtime().block_on(async {
        let url = |login: &str, options: &str| format!("rediss://{login}127.0.0.1:{tls}{options}");
        let trusted = format!("?ca={certificate}");
        works(&RedisQueue::connect(&url(":p%40ss%2Fword@", &trusted)).await.unwrap()).await;

        let unknown = refusal(&url(":p%40ss%2Fword@", "")).await;
        assert!(matches!(unknown, Error::RedisRefused { .. }), "{unknown}");
        assert!(unknown.to_string().contains("certificate"), "{unknown}");
        for login in ["", ":s3cret@", "nobody:s3cret@"] {
            let wrong = refusal(&url(login, &trusted)).await;
            assert!(matches!(wrong, Error::RedisRefused { .. }) && !wrong.is_transient(), "{wrong}");
            assert!(!wrong.to_string().contains("s3cret"), "{wrong}");
        }
        let missing = refusal(&url("", "?ca=/nowhere/ca.pem")).await;
        assert!(missing.to_string().contains("/nowhere/ca.pem") && !missing.is_transient(), "{missing}");
    });
    drop(server);
}

#[test]
fn nobody_there_is_said_and_may_be_tried_again() {
    let port = crate::port::free();
    runtime().block_on(async {
        for form in
            ["redis://:s3cret@127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/mail", "redis+cluster://127.0.0.1:{}"]
        {
            let error = refusal(&form.replace("{}", &port.to_string())).await;
            assert!(error.is_transient() && !error.to_string().contains("s3cret"), "{form}: {error}");
        }
    });
}

#[test]
fn the_shared_sentinel_leads_to_its_master() {
    let Some(url) = service("redis", "TEST_REDIS_SENTINEL_URL") else { return };
    run_redis(&url, async |queue| {
        works(&queue).await;
        let unknown = refusal(&url.replace("/mail", "/other")).await;
        assert!(unknown.is_transient(), "{unknown}");
    });
}

#[test]
fn fr07_after_a_failover_the_new_master_is_used_without_help() {
    let Some(mut master) = Server::start(&[]) else { return };
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", master.port)]).unwrap();
    replica.wait_for("MASTER <-> REPLICA sync: Finished with success");
    let sentinel = Server::sentinel(master.port);
    sentinel.wait_for("+slave slave");
    let url = format!("redis+sentinel://127.0.0.1:{}/mail", sentinel.port);
    run_redis(&url, async |queue| {
        works(&queue).await;
        master.kill();
        let error = queue.push(MAIL, vec![job()], NOW).await.unwrap_err();
        assert!(error.is_transient(), "the fault fired: {error}");
        sentinel.wait_for("+switch-master");
        works(&queue).await;
        let keys: u64 = redis::cmd("DBSIZE").query(&mut replica.connection()).unwrap();
        assert!(keys > 0, "the jobs lie on the new master");
    });
}

#[test]
fn servers_say_how_they_keep_what_they_hold() {
    let options = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes"];
    let Some(server) = Server::start(&options) else { return };
    run_redis(&server.url(), async |queue| {
        let found = queue.servers().await.unwrap().remove(0);
        assert!(found.may_evict() && !found.is_lossy() && found.major_version() >= 7, "{found:?}");
        assert_eq!((found.address, found.maxmemory_policy.as_str()), (None, "allkeys-lru"));
    });
}

#[test]
fn every_master_of_a_cluster_says_it() {
    let Some(cluster) = Cluster::take() else { return };
    run_redis(&cluster.url, async |queue| {
        let found = queue.servers().await.unwrap();
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|server| server.is_lossy() && !server.may_evict() && server.address.is_some()));
    });
}

#[test]
fn fr10_a_redis_that_serves_another_deployment_is_told_apart() {
    let Some(database) = Database::take() else { return };
    run_redis(&database.url, async |queue| {
        let (ours, theirs) = (new_id(), new_id());
        assert_eq!(queue.claim(ours).await.unwrap(), ours);
        assert_eq!(queue.claim(ours).await.unwrap(), ours, "at every start");
        assert_eq!(queue.claim(theirs).await.unwrap(), ours);
    });
}

/// Whoever comes first after FLUSHALL has it; the other one stops using it, and goes on when it is free again.
#[test]
fn fr10_an_emptied_redis_is_claimed_again_by_the_next_look_at_the_epoch() {
    let Some(database) = Database::take() else { return };
    runtime().block_on(async {
        let [first, second] =
            [RedisQueue::connect(&database.url).await.unwrap(), RedisQueue::connect(&database.url).await.unwrap()];
        let (ours, theirs) = (new_id(), new_id());
        assert_eq!(first.claim(ours).await.unwrap(), ours);
        redis::cmd("FLUSHDB").exec(&mut database.connection()).unwrap();
        first.epoch(MAIL).await.unwrap();
        assert_eq!(second.claim(theirs).await.unwrap(), ours, "claimed again");

        redis::cmd("FLUSHDB").exec(&mut database.connection()).unwrap();
        second.epoch(MAIL).await.unwrap();
        assert_eq!(second.claimed_by().await.unwrap(), Some(theirs));
        let is_taken = |error: &Error| matches!(error, Error::RedisTaken { holder } if *holder == theirs);
        let seen = first.epoch(MAIL).await.unwrap_err();
        assert!(is_taken(&seen) && !seen.is_transient(), "{seen}");
        works(&second).await;
        let calls = [
            first.push(MAIL, vec![job()], NOW).await.map(drop),
            first.lease(MAIL, "w", 1, LEASE, NOW).await.map(drop),
            first.reap(MAIL, &["w".into()], NOW).await.map(drop),
            first.show_dead_letters(&["{}".into()]).await,
        ];
        for call in calls {
            assert!(is_taken(&call.unwrap_err()), "it takes none of the other one's jobs");
        }

        redis::cmd("FLUSHDB").exec(&mut database.connection()).unwrap();
        first.epoch(MAIL).await.unwrap();
        works(&first).await;
    });
}
