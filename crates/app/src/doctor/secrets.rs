//! The process's own secrets: there, hard to guess, and readable to nobody else.
//!
//! A secret that is missing where it is needed, or too short, is `configuration`'s: nothing starts then.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Finding, Level, Scope};
use crate::secrets::{decode_key, file};

const CHECK: &str = "secrets";
const MAKE: &str = "openssl rand -base64 32 makes a good one";

/// Words that stand in examples and in nothing random.
const EXAMPLES: &[&str] = &["secret", "change", "example", "password", "openssl", "default", "12345", "abcde"];
/// Fewer different bytes than this are no 32 random ones: written as hexadecimal digits these show about 14.
const LEAST_VARIETY: usize = 10;

pub(super) fn findings(scope: &Scope) -> Vec<Finding> {
    let given = &scope.config.secrets;
    let mut findings = Vec::new();
    let weak = |name: &str, why: &str, mend: &str| {
        Finding::new(CHECK, Level::Problem, format!("`{name}` {why}: whoever guesses it can use it"), mend)
    };
    let rotate = format!("{MAKE}; the old one goes into JWT_SECRETS_OLD, so that links in sent mails keep working");
    for (name, secret, mend) in [("JWT_SECRET", &given.jwt, &*rotate), ("CRON_SECRET", &given.cron, MAKE)] {
        if let Some(why) = secret.as_ref().and_then(|secret| guessable(secret.expose_secret().as_bytes())) {
            findings.push(weak(name, why, mend));
        }
    }
    let key = given.encryption.as_ref().and_then(|key: &SecretString| decode_key(key.expose_secret()));
    if let Some(why) = key.and_then(|key| if key.is_ascii() { Some("is text, not random") } else { guessable(&key) }) {
        let mend = format!("{MAKE}; passwords of accounts must then be given anew (run the campaign file again)");
        findings.push(weak("ENCRYPTION_KEY", why, &mend));
    }
    if given.cron.is_none() && !scope.config.is_embedded() {
        let text = "`CRON_SECRET` is not set: /api/cron/scheduler refuses every call";
        findings.push(Finding::new(CHECK, Level::Warning, text, format!("set it where that route is used; {MAKE}")));
    }
    findings.extend(mode(&file(&scope.config.data)));
    if findings.is_empty() && given.is_complete() {
        findings.push(Finding::ok(CHECK, "there, long enough and random"));
    } else if findings.is_empty() && scope.config.is_embedded() {
        findings.push(Finding::ok(CHECK, "made on the first start"));
    }
    findings
}

/// Why a secret looks as if a person had made it up; the text never shows it.
fn guessable(secret: &[u8]) -> Option<&'static str> {
    let mut seen = [false; 256];
    secret.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let text = String::from_utf8_lossy(secret).to_lowercase();
    if EXAMPLES.iter().any(|word| text.contains(word)) {
        return Some("looks like an example");
    }
    // Repeated: the same as itself, moved by its period.
    if (1..=secret.len() / 2).any(|period| secret[period..] == secret[..secret.len() - period]) {
        return Some("repeats itself");
    }
    (seen.iter().filter(|is_seen| **is_seen).count() < LEAST_VARIETY).then_some("has hardly any variety")
}

fn mode(path: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let shown = path.display();
    (mode & 0o077 != 0).then(|| {
        let text = format!("`{shown}` has mode {mode:04o}: others on this host can read it");
        Finding::new(CHECK, Level::Problem, text, format!("chmod 600 {shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_made_up_is_told_from_what_is_random() {
        for made_up in [
            "at-least-32-bytes-made-by-openssl-rand-base64-32",
            "MySuperSecretValueForProduction1",
            "aaaaaaaabbbbbbbbaaaaaaaabbbbbbbc",
            "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0",
        ] {
            assert!(guessable(made_up.as_bytes()).is_some(), "{made_up}");
        }
        for _ in 0..200 {
            let bytes: [u8; 32] = crate::clock::random_bytes();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(
                (guessable(&bytes), guessable(hex.replace("12345", "").replace("abcde", "").as_bytes())),
                (None, None)
            );
        }
    }
}
