//! What a receiver holds, read by Python's own `email` package: it was not written by us.
//!
//! To look at more of a message: the script below and a field of `Mail`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

const SCRIPT: &str = r#"
import email, email.policy, json, re, sys
for name in sys.stdin.read().splitlines():
    with open(name, "rb") as f:
        m = email.message_from_binary_file(f, policy=email.policy.default)
    parts = list(m.walk())
    html = m.get_body(("html",)).get_content()
    text = m.get_body(("plain",)).get_content()
    defects = [repr(d) for p in parts for d in p.defects]
    defects += [repr(d) for p in parts for v in p.values() for d in getattr(v, "defects", ())]
    print(json.dumps({
        "to": str(m["To"]), "message_id": str(m["Message-ID"]), "subject": str(m["Subject"]), "defects": defects,
        "links": re.findall(r'(?:href|src)="([^"]*)"', html), "text": text,
        "references": str(m["References"] or ""), "unsubscribe": str(m["List-Unsubscribe"]),
    }))
"#;

#[derive(Debug, Deserialize)]
pub struct Mail {
    pub to: String,
    pub message_id: String,
    pub subject: String,
    pub defects: Vec<String>,
    pub links: Vec<String>,
    pub text: String,
    pub references: String,
    pub unsubscribe: String,
}

/// The mails to addresses at `domain` in a folder of messages; our sink keeps its index beside them.
pub fn read_folder(folder: &Path, domain: &str) -> Vec<Mail> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_none_or(|e| e != "jsonl"));
    let mut mails = read(&files);
    mails.retain(|mail| mail.to.ends_with(&format!("@{domain}")));
    mails
}

/// The mails in files.
pub fn read(files: &[PathBuf]) -> Vec<Mail> {
    let names: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
    let mut python =
        Command::new("python3").args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(names.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "python could not read a message");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
