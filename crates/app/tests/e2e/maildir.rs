//! What a receiver holds, read by Python's own `email` package: it was not written by us.
//!
//! To look at more of a message: the script below and a field of `Mail`.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

const SCRIPT: &str = r#"
import email, email.policy, json, os, re, sys
folder, domain = sys.argv[1], sys.argv[2]
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as f:
        m = email.message_from_binary_file(f, policy=email.policy.default)
    to = str(m["To"])
    if not to.endswith("@" + domain): continue
    parts = list(m.walk())
    html = m.get_body(("html",)).get_content()
    text = m.get_body(("plain",)).get_content()
    defects = [repr(d) for p in parts for d in p.defects]
    defects += [repr(d) for p in parts for v in p.values() for d in getattr(v, "defects", ())]
    print(json.dumps({
        "to": to, "message_id": str(m["Message-ID"]), "subject": str(m["Subject"]), "defects": defects,
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

/// The mails to addresses at `domain` in a folder of messages.
pub fn read(folder: &Path, domain: &str) -> Vec<Mail> {
    let output = Command::new("python3").args(["-c", SCRIPT]).arg(folder).arg(domain).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
