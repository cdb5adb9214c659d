//! The scripts: each is one indivisible step on the keys of one lane, all of which lie in one slot of a Cluster.
//!
//! Not responsible for what goes in or comes out (`super`). To add a script: its file, its line here.

use std::sync::LazyLock;

use redis::{Cmd, RedisResult, Value};

use super::answer::is_unknown_script;
use super::link::Link;

/// A script and the hash by which a server knows it.
pub(super) struct Script {
    pub(super) name: &'static str,
    text: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($constant:ident = $name:literal, $($file:literal)+;)*) => {
        $(pub(super) static $constant: Script = Script {
            name: $name,
            text: concat!($(include_str!($file)),+),
            hash: LazyLock::new(|| redis::Script::new(concat!($(include_str!($file)),+)).get_hash().to_owned()),
        };)*
    };
}

scripts! {
    PUSH = "push", "push.lua";
    LEASE = "lease", "lease.lua";
    SETTLE = "settle", "record.lua" "settle.lua";
    EXTEND = "extend", "extend.lua";
    REAP = "reap", "record.lua" "reap.lua";
    DEPTH = "depth", "depth.lua";
    EPOCH = "epoch", "epoch.lua";
}

impl Script {
    /// Runs it by its hash, and with its text where the server does not know it (yet, or since a restart).
    pub(super) async fn run(&self, link: &Link, keys: &[&str], arguments: impl Fn(&mut Cmd)) -> RedisResult<Value> {
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(keys.len()).arg(keys);
            arguments(&mut command);
            command
        };
        match link.query(&command("EVALSHA", &self.hash)).await {
            Err(e) if is_unknown_script(&e) => link.query(&command("EVAL", self.text)).await,
            answer => answer,
        }
    }
}
