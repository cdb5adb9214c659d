//! Two more receivers that were not written by us: aiosmtpd (Python) and smtp-server (npm) with STARTTLS and log-in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::machine::{cache, run, step};
use crate::service::{Service, free_port};

/// Log-in of the npm receiver.
pub(crate) const USER: &str = "ana";
/// Its password.
pub(crate) const PASSWORD: &str = "correct horse";

/// A receiver and where its mail lies.
pub(crate) struct Receiver {
    _service: Service,
    /// Where it listens.
    pub(crate) address: String,
    /// Where mail arrives.
    pub(crate) folder: PathBuf,
}

/// Where this package lies. Asked for at run time: a build that was moved or shared would name another folder.
fn package() -> anyhow::Result<PathBuf> {
    std::env::var("CARGO_MANIFEST_DIR").map(PathBuf::from).context("`cargo xtask` sets CARGO_MANIFEST_DIR")
}

/// Starts aiosmtpd with a maildir; it refuses whom `scripts/refusing.py` says.
pub(crate) fn aiosmtpd(folder: &Path) -> anyhow::Result<Receiver> {
    step("starting aiosmtpd");
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let mail = folder.join("aiosmtpd");
    let mut server = Command::new("python3");
    server.env("PYTHONPATH", std::env::join_paths([cache().join("python"), package()?.join("scripts")])?);
    server.env("PYTHONDONTWRITEBYTECODE", "1");
    server.args(["-m", "aiosmtpd", "-n", "-l", &address, "-c", "refusing.Refusing"]).arg(&mail);
    let service = Service::start("aiosmtpd", &mut server, &folder.join("aiosmtpd.log"))?.wait_for_port(port)?;
    Ok(Receiver { _service: service, address, folder: mail })
}

/// Starts smtp-server with a certificate made now; the path of its authority.
pub(crate) fn smtp_server(folder: &Path) -> anyhow::Result<(Receiver, PathBuf)> {
    step("starting smtp-server");
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    // An authority's certificate may not stand as a server's.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    let port = free_port()?;
    let mail = folder.join("smtp-server");
    std::fs::create_dir_all(&mail)?;
    let mut server = Command::new("node");
    server.arg(package()?.join("scripts/smtp-server.cjs"));
    server.args([&key, &certificate, &mail]).arg(port.to_string()).args([USER, PASSWORD]);
    server.env("NODE_PATH", cache().join("node/node_modules"));
    let service = Service::start("smtp-server", &mut server, &folder.join("smtp-server.log"))?.wait_for_port(port)?;
    Ok((Receiver { _service: service, address: format!("localhost:{port}"), folder: mail }, certificate))
}
