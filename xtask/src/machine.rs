//! What the machine must have: finds programs, installs what is missing from Debian's, Python's and npm's packages.
//!
//! Nothing that is installed is started, and a second run finds all and asks no registry. Not responsible for running
//! anything. To add a program: a line in `DEBIAN`, `UNPACKED`, `PYTHON` or `NODE`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A program or file that shows that a package is there, and the package.
const DEBIAN: &[(&str, &str)] = &[
    ("/usr/lib/postgresql", "postgresql"),
    ("/usr/sbin/postfix", "postfix"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("chromium", "chromium"),
    ("redis-server", "redis-server"),
];
/// Packages that are only unpacked, since they would start a service of their own or lie elsewhere on each kind of
/// machine: the file of theirs that is kept in the cache.
const UNPACKED: &[(&str, &str)] = &[("promtool", "prometheus"), ("libfaketime.so.1", "libfaketime")];
const PYTHON: &[&str] = &["aiosmtpd"];
const NODE: &[&str] = &["smtp-server@3", "jsonwebtoken@9", "ioredis@5"];

/// Where downloaded packages lie.
pub(crate) fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::path::absolute(target.join("xtask")).unwrap_or_else(|_| PathBuf::from("target/xtask"))
}

/// Installs what is missing.
pub(crate) fn provision() -> anyhow::Result<()> {
    let missing: Vec<&str> = DEBIAN.iter().filter(|(sign, _)| !is_there(sign)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        install_debian(&missing)?;
    }
    for (program, package) in UNPACKED.iter().filter(|(program, _)| !unpacked(program).exists()) {
        unpack_debian(program, package)?;
    }
    let python = cache().join("python");
    if !python.join(PYTHON[0]).exists() {
        step("installing aiosmtpd");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
        run(pip.arg("--target").arg(&python).args(PYTHON))?;
    }
    let node = cache().join("node");
    let is_installed = |package: &&str| {
        let name = package.split('@').next().unwrap_or(package);
        node.join("node_modules").join(name).exists()
    };
    if !NODE.iter().all(is_installed) {
        step("installing smtp-server, jsonwebtoken and ioredis");
        std::fs::create_dir_all(&node)?;
        std::fs::write(node.join("package.json"), "{\"private\": true}\n")?;
        let mut npm = Command::new("npm");
        run(npm
            .args(["install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix"])
            .arg(&node)
            .args(NODE))?;
    }
    Ok(())
}

/// Where a file of `UNPACKED` lies: the machine's own where it has one.
pub(crate) fn unpacked(program: &str) -> PathBuf {
    let installed = Path::new("/usr/bin").join(program);
    if installed.is_file() { installed } else { cache().join(program) }
}

fn unpack_debian(program: &str, package: &str) -> anyhow::Result<()> {
    step(&format!("unpacking {program} of {package}"));
    let folder = tempfile::tempdir()?;
    let download = || run(Command::new("apt-get").args(["-qq", "download", package]).current_dir(folder.path()));
    if download().is_err() {
        run(as_root("apt-get").args(["-qq", "update"]))?;
        download()?;
    }
    let archive = std::fs::read_dir(folder.path())?.next().context("apt-get downloaded nothing")??.path();
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder.path()))?;
    std::fs::create_dir_all(cache())?;
    // Under another name first: a run that is cut leaves no half program behind.
    let (part, whole) = (cache().join(format!("{program}.part")), cache().join(program));
    let found = find(folder.path(), program).with_context(|| format!("`{package}` has no `{program}`"))?;
    std::fs::copy(found, &part)?;
    std::fs::rename(part, whole)?;
    Ok(())
}

/// The file of this name, however deep in a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let here = entries.iter().find(|path| path.is_file() && path.ends_with(name)).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|folder| find(folder, name)))
}

fn is_there(sign: &str) -> bool {
    if sign.starts_with('/') {
        return Path::new(sign).exists();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(sign).is_file())
}

fn install_debian(packages: &[&str]) -> anyhow::Result<()> {
    if !is_there("apt-get") {
        bail!("`{}` is missing and this is no Debian (hint: install it by hand)", packages.join("`, `"));
    }
    step(&format!("installing {}", packages.join(", ")));
    // Services that a package would start must stay off: the tests start private ones of their own.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let guard = !policy.exists();
    if guard {
        run(as_root("sh").args([
            "-c",
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d",
        ]))?;
    }
    let installed = (|| {
        let preseed = "echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections";
        run(as_root("sh").args(["-c", preseed]))?;
        run(as_root("apt-get").args(["-qq", "update"]))?;
        let mut apt = as_root("env");
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "--no-install-recommends", "install"]);
        run(apt.args(packages))
    })();
    if guard {
        run(as_root("rm").arg("-f").arg(policy))?;
    }
    installed.map(drop)
}

/// A command that runs as root.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// The folder of PostgreSQL's programs, the newest version.
pub(crate) fn postgres_programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    versions
        .filter_map(|entry| entry.ok().map(|e| e.path().join("bin")))
        .filter(|bin| bin.join("postgres").is_file())
        .max()
        .context("PostgreSQL's server is not installed (hint: the Debian package `postgresql`)")
}

/// Tells what happens now.
pub(crate) fn step(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs a command quietly; what it printed.
///
/// # Errors
/// With the end of what it printed, where it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("failed to start {command:?}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<&str> = text.lines().rev().take(15).collect();
    bail!("{command:?} failed:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
