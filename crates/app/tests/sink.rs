//! The sink as an outside user meets it: the real binary, spoken to by Python's own `smtplib`.
//!
//! Without Python the case is skipped, unless `REQUIRE_ENGINES` asks for a whole environment.
//! To add a thing to try: a line in `SCRIPT`, and what it leads to in the report.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// Prints the code of each try as one JSON list.
const SCRIPT: &str = r#"
import json, smtplib, ssl, sys
host, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
codes = []

def connect(password="secret"):
    client = smtplib.SMTP(host, port, timeout=20)
    client.starttls(context=ssl.create_default_context(cafile=ca))
    client.login("ana", password)
    return client

def attempt(recipient, body="x", **more):
    message = f"Message-ID: <{len(codes)}@python.test>\r\n\r\n{body}\r\n".encode()
    try:
        with connect() as client:
            client.sendmail("a@python.test", [recipient], message, **more)
        codes.append(250)
    except smtplib.SMTPRecipientsRefused as error:
        codes.append(error.recipients[recipient][0])
    except smtplib.SMTPServerDisconnected:
        codes.append(0)
    except smtplib.SMTPResponseException as error:
        codes.append(error.smtp_code)

attempt("plain@x.test", ".one\r\n..two\r\n.\r\n")
attempt("zo\u00eb@x.test", "caf\u00e9", mail_options=["SMTPUTF8", "BODY=8BITMIME"])
for word in ["greylist", "greylist", "550", "552-after-dot", "421-at-rcpt", "close-after-accept"]:
    attempt(word + "+a@x.test")
try:
    connect("wrong")
except smtplib.SMTPAuthenticationError as error:
    codes.append(error.smtp_code)
print(json.dumps(codes))
"#;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pythons_client_meets_tls_log_in_and_every_fault_asked_for() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("REQUIRE_ENGINES").is_none(), "python3 is missing (hint: run `cargo xtask test`)");
        eprintln!("SKIPPED: python3 is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Running(
        Command::new(env!("CARGO_BIN_EXE_penguinmails"))
            .current_dir(dir.path())
            .args(["sink", "--listen", "127.0.0.1:0", "--json", "--dir", "mails", "--journal", "journal", "--faults"])
            .args(["--tls", "starttls", "--user", "ana", "--password-env", "SINK_PASSWORD", "--ready-file", "ready"])
            .args(["--fail", "rcpt=450,nth=100", "--delay", "mail=1ms"])
            .env("SINK_PASSWORD", "secret")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(sink.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("ready: ") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the sink ended before it was ready");
    }
    let ready: Value = serde_json::from_slice(&std::fs::read(dir.path().join("ready")).unwrap()).unwrap();
    let (host, port) = ready["address"].as_str().unwrap().rsplit_once(':').unwrap();
    let python = Command::new("python3")
        .current_dir(dir.path())
        .args(["-c", SCRIPT, host, port, ready["caFile"].as_str().unwrap()])
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let codes: Value = serde_json::from_slice(&python.stdout).unwrap();
    assert_eq!(codes, json!([250, 250, 451, 250, 550, 552, 421, 0, 535]));

    assert!(Command::new("kill").arg(sink.0.id().to_string()).status().unwrap().success());
    let report: Value = serde_json::from_reader(sink.0.stdout.take().unwrap()).unwrap();
    assert!(sink.0.wait().unwrap().success());
    let fired = json!({
        "greylist": 1, "550": 1, "552-after-dot": 1, "421-at-rcpt": 1, "close-after-accept": 1,
        "mail 1ms": 8, "rcpt 450": 0,
    });
    assert_eq!(report, json!({ "received": 4, "fired": fired }));

    let journal = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    let accepted: Vec<&str> = journal.lines().collect();
    assert_eq!(
        accepted,
        [
            "<0@python.test>\tplain@x.test",
            "<1@python.test>\tzoë@x.test",
            "<3@python.test>\tgreylist+a@x.test",
            "<7@python.test>\tclose-after-accept+a@x.test",
        ]
    );
    let first = std::fs::read(dir.path().join("mails/000001.eml")).unwrap();
    assert_eq!(first, b"Message-ID: <0@python.test>\r\n\r\n.one\r\n..two\r\n.\r\n\r\n");
}
