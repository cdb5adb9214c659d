//! Engines of the queue under test: an empty queue for each case, on every engine that is there.
//!
//! Redis is found by `TEST_REDIS_URL` (each case takes a database of its own) and a Cluster, which has but one, by
//! `TEST_REDIS_CLUSTER_URL`: its cases run one after another. Skipped and required as in `engine`. To add an engine:
//! a variant, an arm in `with_queue`, a module in `on_every_queue!`.

use std::fs::File;
use std::future::Future;
use std::sync::Arc;

use domain::time::Timestamp;
use engines::queue::redis::RedisQueue;
use engines::queue::table::TableQueue;
use engines::queue::{Depth, List, Queue};

use crate::engine::{self, Engine, service};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QueueEngine {
    Sqlite,
    Postgres,
    Redis,
    RedisCluster,
}

/// Runs a case on an empty queue.
pub fn with_queue<F: Future<Output = ()>>(engine: QueueEngine, case: impl FnOnce(Arc<dyn Queue>) -> F) {
    match engine {
        QueueEngine::Sqlite => engine::run(Engine::Sqlite, |db| case(Arc::new(TableQueue::new(db)))),
        QueueEngine::Postgres => engine::run(Engine::Postgres, |db| case(Arc::new(TableQueue::new(db)))),
        QueueEngine::Redis => {
            if let Some(database) = Database::take() {
                run_redis(&database.url, |queue| case(Arc::new(queue)));
            }
        }
        QueueEngine::RedisCluster => {
            if let Some(cluster) = Cluster::take() {
                run_redis(&cluster.url, |queue| case(Arc::new(queue)));
            }
        }
    }
}

/// Runs a case on the queue at `url`.
pub fn run_redis<F: Future<Output = ()>>(url: &str, case: impl FnOnce(RedisQueue) -> F) {
    engine::runtime().block_on(async { case(RedisQueue::connect(url).await.unwrap()).await });
}

/// How full every lane of a list is.
pub async fn depths(queue: &dyn Queue, list: List, now: Timestamp) -> Vec<Depth> {
    let mut depths = Vec::new();
    for lane in list.lanes() {
        depths.push(queue.depth(list, *lane, now).await.unwrap());
    }
    depths
}

/// A database of the shared server that nobody else uses; emptied again when it is dropped.
pub struct Database {
    /// Its address.
    pub url: String,
}

impl Database {
    /// The next one: the server itself counts, since several processes may run tests at once.
    pub fn take() -> Option<Self> {
        let server = service("redis", "TEST_REDIS_URL")?;
        let mut connection = redis::Client::open(server.as_str()).unwrap().get_connection().unwrap();
        let taken: u64 = redis::cmd("INCR").arg("test:databases").query(&mut connection).unwrap();
        let database = Self { url: format!("{server}/{}", 1 + taken % 4000) };
        redis::cmd("FLUSHDB").exec(&mut database.connection()).unwrap();
        Some(database)
    }

    /// A connection of another program.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url.as_str()).unwrap().get_connection().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // To give memory back; whoever takes it next empties it anyway.
        let _server_gone = redis::Client::open(self.url.as_str())
            .and_then(|client| client.get_connection())
            .and_then(|mut connection| redis::cmd("FLUSHDB").exec(&mut connection));
    }
}

/// The shared Cluster, emptied, and nobody else's until it is dropped.
pub struct Cluster {
    /// Its address.
    pub url: String,
    _lock: File,
}

impl Cluster {
    pub fn take() -> Option<Self> {
        let url = service("redis-cluster", "TEST_REDIS_CLUSTER_URL")?;
        let name: String = url.chars().filter(char::is_ascii_digit).collect();
        let lock = File::create(std::env::temp_dir().join(format!("penguinmails-test-cluster-{name}.lock"))).unwrap();
        lock.lock().unwrap();
        let cluster = Self { url, _lock: lock };
        for mut node in cluster.nodes() {
            redis::cmd("FLUSHALL").exec(&mut node).unwrap();
        }
        Some(cluster)
    }

    /// A connection to each of its masters.
    pub fn nodes(&self) -> Vec<redis::Connection> {
        let (_, hosts) = self.url.split_once("://").unwrap();
        let connect = |host| redis::Client::open(format!("redis://{host}")).unwrap().get_connection().unwrap();
        hosts.split(',').map(connect).collect()
    }
}

/// Makes a module per engine with one test per case, so that test paths name the engine.
#[macro_export]
macro_rules! on_every_queue {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case($crate::queue_engine::QueueEngine::Sqlite); })*
        }
        mod postgres {
            $(#[test] fn $case() { super::$case($crate::queue_engine::QueueEngine::Postgres); })*
        }
        mod redis {
            $(#[test] fn $case() { super::$case($crate::queue_engine::QueueEngine::Redis); })*
        }
        mod redis_cluster {
            $(#[test] fn $case() { super::$case($crate::queue_engine::QueueEngine::RedisCluster); })*
        }
    };
}
