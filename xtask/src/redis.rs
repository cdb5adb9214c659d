//! Private Redis in a temporary folder: a plain server, a Cluster of three masters, and a pair that a Sentinel watches.
//!
//! They keep nothing on disk. Tests that damage a server start one of their own. To add an arrangement: a function
//! here that returns its services and its address.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::machine::{run, step};
use crate::service::{Service, free_port};

/// Databases of the plain server: every case of a test takes one.
const DATABASES: &str = "4096";
/// Slots of a Cluster.
const SLOTS: u32 = 16384;
/// How long a Cluster may take to agree.
const PATIENCE: Duration = Duration::from_secs(30);

/// Running services and the address under which the product reaches them.
pub(crate) struct Redis {
    _services: Vec<Service>,
    /// As `REDIS_URL` takes it.
    pub(crate) url: String,
}

/// Starts one server.
pub(crate) fn plain(folder: &Path) -> anyhow::Result<Redis> {
    step("starting Redis");
    let port = free_port()?;
    let service = server(folder, port, &["--databases", DATABASES])?;
    Ok(Redis { _services: vec![service], url: format!("redis://127.0.0.1:{port}") })
}

/// Starts three masters that share the slots.
pub(crate) fn cluster(folder: &Path) -> anyhow::Result<Redis> {
    step("starting a Redis Cluster");
    let (mut services, mut nodes) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (port, bus) = (free_port()?, free_port()?);
        let bus_text = bus.to_string();
        services.push(server(folder, port, &["--cluster-enabled", "yes", "--cluster-port", &bus_text])?);
        nodes.push((port, bus));
    }
    for (index, (port, _)) in (0..).zip(&nodes) {
        let (first, last) = (SLOTS * index / 3, SLOTS * (index + 1) / 3 - 1);
        ask(*port, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
        // Different from the start, so that nobody has to give way.
        ask(*port, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
    }
    for (port, bus) in &nodes[1..] {
        ask(nodes[0].0, &["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()])?;
    }
    let started = Instant::now();
    for (port, _) in &nodes {
        while !ask(*port, &["CLUSTER", "INFO"])?.contains("cluster_state:ok") {
            if started.elapsed() > PATIENCE {
                bail!("the Redis Cluster does not agree");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let hosts: Vec<String> = nodes.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
    Ok(Redis { _services: services, url: format!("redis+cluster://{}", hosts.join(",")) })
}

/// Starts a master, its replica and a Sentinel.
pub(crate) fn sentinel(folder: &Path) -> anyhow::Result<Redis> {
    step("starting Redis with a Sentinel");
    let (master, replica, watcher) = (free_port()?, free_port()?, free_port()?);
    let replica_of = format!("127.0.0.1 {master}");
    let mut services = vec![server(folder, master, &[])?, server(folder, replica, &["--replicaof", &replica_of])?];
    let home = folder.join("redis-sentinel");
    std::fs::create_dir_all(&home)?;
    let config = home.join("sentinel.conf");
    std::fs::write(
        &config,
        format!(
            "port {watcher}\nbind 127.0.0.1\nsentinel monitor mail 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds mail 1000\nsentinel failover-timeout mail 5000\n"
        ),
    )?;
    let mut sentinel = Command::new("redis-server");
    sentinel.arg(&config).args(["--sentinel", "--dir"]).arg(&home);
    let log = folder.join("redis-sentinel.log");
    services.push(Service::start("Redis Sentinel", &mut sentinel, &log)?.wait_for_port(watcher)?);
    Ok(Redis { _services: services, url: format!("redis+sentinel://127.0.0.1:{watcher}/mail") })
}

fn server(folder: &Path, port: u16, options: &[&str]) -> anyhow::Result<Service> {
    let home = folder.join(format!("redis-{port}"));
    std::fs::create_dir_all(&home)?;
    let mut server = Command::new("redis-server");
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&home);
    server.args(options);
    Service::start("Redis", &mut server, &folder.join(format!("redis-{port}.log")))?.wait_for_port(port)
}

/// Asks a server.
fn ask(port: u16, command: &[&str]) -> anyhow::Result<String> {
    let port = port.to_string();
    let mut client = Command::new("redis-cli");
    // `-e` makes an error of Redis one of the client.
    run(client.args(["-e", "-p", &port]).args(command))
}
