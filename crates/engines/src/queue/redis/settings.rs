//! What a server says of itself, as far as the queue depends on it: facts, no judgement in words.
//!
//! To add a fact: a field, and where `INFO` or `CONFIG GET` says it.

use redis::Value;

use super::answer::error;
use super::link::Link;
use super::read;
use crate::error::Result;

/// Settings of one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// `host:port` of a Cluster's node; none where there is one server.
    pub address: Option<String>,
    /// e.g. `7.0.15`.
    pub version: String,
    /// What happens at `maxmemory`, e.g. `noeviction`.
    pub maxmemory_policy: String,
    /// Whether every write goes to the append-only file.
    pub is_appendonly: bool,
}

impl ServerSettings {
    /// Whether jobs may vanish without an error when memory runs short.
    pub fn may_evict(&self) -> bool {
        self.maxmemory_policy != "noeviction"
    }

    /// Whether a server that is killed has lost all that it acknowledged since its last snapshot, or everything.
    pub fn is_lossy(&self) -> bool {
        !self.is_appendonly
    }

    /// The first number of the version; 7 is the oldest that the queue is tried with.
    pub fn major_version(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

pub(super) async fn read_all(link: &Link) -> Result<Vec<ServerSettings>> {
    let call = "info";
    let infos = link.query_every(&redis::cmd("INFO")).await.map_err(|e| error(call, &e))?;
    infos.into_iter().map(|(address, info)| settings(address, info)).collect()
}

fn settings(address: Option<String>, info: Value) -> Result<ServerSettings> {
    let info: String = read("info", info)?;
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(field, _)| *field == name).map_or("", |(_, value)| value.trim())
    };
    Ok(ServerSettings {
        address,
        version: field("redis_version").to_owned(),
        maxmemory_policy: field("maxmemory_policy").to_owned(),
        is_appendonly: field("aof_enabled") == "1",
    })
}
