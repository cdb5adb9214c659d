//! A private PostgreSQL in a temporary folder.
//!
//! What was committed survives every kill, its own too: only a host that loses power would miss it without `fsync`, and
//! with it each of the hundreds of databases that tests make waits for the disk. It refuses root, so root starts it as
//! `postgres`.

use std::path::Path;
use std::process::Command;

use crate::machine::{as_root, is_root, postgres_programs, run, step};
use crate::service::{Service, free_port};

/// Whether what is committed waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Disk {
    /// As a deployment does.
    Awaited,
    /// As tests do.
    Unawaited,
}

/// Starts it; the URL of its superuser.
pub(crate) fn start(folder: &Path, disk: Disk) -> anyhow::Result<(Service, String)> {
    step("starting PostgreSQL");
    let programs = postgres_programs()?;
    let home = folder.join("postgres");
    std::fs::create_dir_all(&home)?;
    if is_root() {
        run(as_root("chown").arg("postgres").arg(&home))?;
    }
    let data = home.join("data");
    let unprivileged = |program: &str| {
        let program = programs.join(program);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    };
    run(unprivileged("initdb")
        .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
        .arg(&data))?;
    let port = free_port()?;
    let mut server = unprivileged("postgres");
    server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(&home);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-c", "shared_buffers=256MB"]);
    if disk == Disk::Unawaited {
        server.args(["-c", "fsync=off"]);
    }
    let service = Service::start("PostgreSQL", &mut server, &folder.join("postgres.log"))?.wait_for_port(port)?;
    Ok((service, format!("postgres://postgres@127.0.0.1:{port}/postgres")))
}
