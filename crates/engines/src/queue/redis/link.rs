//! The connection to Redis: opened when it is needed, shared by all calls, given up and opened anew when it breaks.
//!
//! A broken connection fails the calls on it and nothing else: the next call asks again where the master is. Not
//! responsible for what a call means (`script`, `answer`). To add a way to connect: an arm in `connect`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{AsyncConnectionConfig, Cmd, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use super::address::Opener;
use super::answer::is_connection_lost;

/// How long connecting to one server may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take. No call blocks in Redis, so only a slow or lost server takes longer.
pub(super) const RESPONSE_LIMIT: Duration = Duration::from_secs(10);

/// A connection, cheap to clone: all clones share one socket per server.
#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

struct State {
    opener: Opener,
    open: Option<Connection>,
    /// Counts connections, so that a late failure on an old one does not close its successor.
    generation: u64,
    /// How the last attempt failed.
    failure: Option<RedisError>,
}

/// The shared connection.
pub(super) struct Link {
    state: Mutex<State>,
    /// Counts attempts that failed: who waited for one shares its failure instead of making another.
    failures: AtomicU64,
}

impl Link {
    pub(super) fn new(opener: Opener) -> Self {
        let state = Mutex::new(State { opener, open: None, generation: 0, failure: None });
        Self { state, failures: AtomicU64::new(0) }
    }

    /// Sends a command.
    pub(super) async fn query(&self, command: &Cmd) -> RedisResult<Value> {
        let (connection, generation) = self.connection().await?;
        let result = match connection {
            Connection::Single(mut connection) => command.query_async(&mut connection).await,
            Connection::Cluster(mut connection) => command.query_async(&mut connection).await,
        };
        self.watch(result, generation).await
    }

    /// Sends a command to every master; the answers with the address of each where there may be several.
    pub(super) async fn query_every(&self, command: &Cmd) -> RedisResult<Vec<(Option<String>, Value)>> {
        let (connection, generation) = self.connection().await?;
        let Connection::Cluster(mut connection) = connection else {
            return Ok(vec![(None, self.query(command).await?)]);
        };
        let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answers = self.watch(connection.route_command(command.clone(), everywhere).await, generation).await?;
        let answers: Vec<(String, Value)> = redis::from_redis_value(answers)?;
        Ok(answers.into_iter().map(|(address, answer)| (Some(address), answer)).collect())
    }

    async fn watch<T>(&self, result: RedisResult<T>, generation: u64) -> RedisResult<T> {
        if result.as_ref().is_err_and(is_connection_lost) {
            let mut state = self.state.lock().await;
            let knows_by_itself = |open: &Connection| match open {
                Connection::Single(_) => false,
                // It reconnects to the node that is away, and the other nodes' lanes need not wait for that.
                Connection::Cluster(_) => true,
            };
            if state.generation == generation && !state.open.as_ref().is_some_and(knows_by_itself) {
                state.open = None;
            }
        }
        result
    }

    async fn connection(&self) -> RedisResult<(Connection, u64)> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(open) = &state.open {
            return Ok((open.clone(), state.generation));
        }
        if let Some(failure) = state.failure.as_ref().filter(|_| self.failures.load(Ordering::Acquire) != failures) {
            return Err(failure.clone());
        }
        // Sentinels and nodes of a Cluster are asked one after the other.
        let opened = match tokio::time::timeout(2 * CONNECT_LIMIT, connect(&mut state.opener)).await {
            Ok(opened) => opened,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        };
        match opened {
            Ok(open) => {
                state.generation += 1;
                state.open = Some(open.clone());
                Ok((open, state.generation))
            }
            Err(e) => {
                state.failure = Some(e.clone());
                self.failures.fetch_add(1, Ordering::Release);
                Err(e)
            }
        }
    }
}

async fn connect(opener: &mut Opener) -> RedisResult<Connection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_LIMIT))
        .set_response_timeout(Some(RESPONSE_LIMIT));
    Ok(match opener {
        Opener::Single(client) => {
            Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?)
        }
        Opener::Sentinel(client) => Connection::Single(client.get_async_connection_with_config(&config).await?),
        Opener::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
    })
}
