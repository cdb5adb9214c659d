//! The data directory: ours, writable, closed to others, with room left.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::{Finding, Level, Scope};

const CHECK: &str = "data directory";
/// Bytes that should be free.
const LOW: u64 = 1 << 30;
/// Bytes that must be.
const FULL: u64 = 100 << 20;

pub(super) fn findings(scope: &Scope) -> Vec<Finding> {
    let dir = &scope.config.data;
    let shown = dir.display();
    let Ok(data) = std::fs::metadata(dir) else { return vec![not_there(dir)] };
    if !data.is_dir() {
        let text = format!("`{shown}` is no directory");
        return vec![Finding::new(CHECK, Level::Problem, text, "name another one with --data")];
    }
    let mut findings = Vec::new();
    let (owner, me) = (data.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        let text = format!(
            "`{shown}` belongs to user {owner}, and this is user {me}: files that one makes the other cannot use"
        );
        findings.push(Finding::new(
            CHECK,
            Level::Warning,
            text,
            "run every command as the user that the service runs as",
        ));
    }
    let mode = data.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("`{shown}` has mode {mode:04o}: others on this host can look in, and it holds addresses");
        findings.push(Finding::new(CHECK, Level::Warning, text, format!("chmod 700 {shown}")));
    }
    // Nameless: nothing of it is seen, or left.
    if let Err(error) = tempfile::tempfile_in(dir) {
        let text = format!("`{shown}` cannot be written: {error}");
        findings.push(Finding::new(
            CHECK,
            Level::Problem,
            text,
            format!("chown it to user {me}, or name another one with --data"),
        ));
    }
    findings.extend(space(dir));
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("`{shown}` is ours and writable, with {} GiB free", free(dir).unwrap_or(0) >> 30),
        ));
    }
    findings
}

fn not_there(dir: &Path) -> Finding {
    let shown = dir.display();
    let above = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let above = above.ancestors().find(|above| above.is_dir());
    match above.map(tempfile::tempfile_in) {
        Some(Ok(_)) => Finding::ok(CHECK, format!("`{shown}` is made on the first start")),
        _ => {
            let text = format!("`{shown}` is not there and cannot be made by this user");
            Finding::new(
                CHECK,
                Level::Problem,
                text,
                "make it for the user that the service runs as, mode 700, or name another one with --data",
            )
        }
    }
}

/// Bytes that this user may still write.
fn free(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn space(dir: &Path) -> Option<Finding> {
    let free = free(dir)?;
    let level = match free {
        0..FULL => Level::Problem,
        FULL..LOW => Level::Warning,
        _ => return None,
    };
    let text = format!("only {} MiB are free for `{}`", free >> 20, dir.display());
    Some(Finding::new(CHECK, level, text, "make room: a full disk stops sending and tracking"))
}
