//! Faults that a receiver plays which was not written by us: Postfix's `smtp-sink` with its flags, one at a time.
//!
//! It counts for the basic rows of the faults; our own scripted server plays them all (`mail/smtp/connection/tests`).
//! To add a fault: a case in the test of its row.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::app::{App, Engine, number};

const PROGRAM: &str = "/usr/sbin/smtp-sink";
const LEADS: u64 = 3;

/// A running `smtp-sink`; ended when dropped.
struct Witness {
    child: Child,
    url: String,
    mails: PathBuf,
}

impl Witness {
    fn start(app: &App, flags: &[&str]) -> Self {
        let port = crate::port::free();
        let mails = app.path("witness");
        std::fs::create_dir_all(&mails).unwrap();
        let mut command = Command::new(PROGRAM);
        // It lets nobody in as root, and says so.
        if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
            command.args(["-u", "postfix"]);
            for folder in [mails.parent().unwrap(), &mails] {
                std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            }
        }
        command.args(flags).args(["-d", &format!("{}/mail.", mails.display())]);
        command.args([&format!("127.0.0.1:{port}"), "100"]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let mut witness = Self { child, url: format!("smtp://127.0.0.1:{port}?tls=none"), mails };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(witness.child.try_wait().unwrap().is_none(), "smtp-sink ended");
            std::thread::yield_now();
        }
        witness
    }

    /// How many whole messages it has captured: one that was cut has no end.
    fn captured(&self) -> u64 {
        let whole = |path: &Path| std::fs::read_to_string(path).unwrap().contains("</html>");
        let files = std::fs::read_dir(&self.mails).unwrap();
        files.filter(|file| whole(&file.as_ref().unwrap().path())).count().try_into().unwrap()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What becomes of three leads that are sent to `smtp-sink` with these flags; none where it is not installed.
fn run(flags: &[&str], seconds: &str) -> Option<(Value, u64)> {
    if !Path::new(PROGRAM).exists() {
        crate::app::service("TEST_POSTFIX_ADDR")?;
    }
    let app = App::new(Engine::Sqlite)?;
    let witness = Witness::start(&app, flags);
    let leads = (0..LEADS).map(|n| format!("l{n}"));
    let file = app.campaign("witness.example", leads, 1, "on_unknown = \"hold\"");
    let (_, report) = app.json(&["run", file.to_str().unwrap(), "--smtp", &witness.url, "--for", seconds]);
    Some((report, witness.captured()))
}

/// Each ends with all three leads in one state for one reason, and so many messages captured.
fn each_ends(state: &str, reason: &str, cases: &[&[&str]], captured: Option<u64>) {
    for flags in cases {
        let Some((report, found)) = run(flags, "4s") else { return };
        assert_eq!(number(&report, state), LEADS, "{flags:?}: {report}");
        let reasons: Vec<&str> =
            report["reasons"].as_array().unwrap().iter().map(|r| r["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons.concat(), reason, "{flags:?}: {report}");
        assert_eq!(number(&report, "unknown"), if state == "held" { LEADS } else { 0 }, "{flags:?}: {report}");
        assert!(captured.is_none_or(|captured| captured == found), "{flags:?}: {found} messages captured");
    }
}

/// Nobody's attempt is counted, and nobody gets anything; those who had not begun are not even deferred.
#[test]
fn fs03_and_fs12_a_goodbye_at_any_command_makes_the_account_wait() {
    for flags in [["-Q", "CONNECT"], ["-Q", "MAIL"], ["-Q", "RCPT"], ["-q", "MAIL"]] {
        let Some((report, captured)) = run(&flags, "4s") else { return };
        assert_eq!(number(&report, "pending") + number(&report, "deferred"), LEADS, "{flags:?}: {report}");
        assert!(number(&report, "deferred") > 0, "{flags:?}: it fired: {report}");
        for reason in report["reasons"].as_array().unwrap() {
            assert_eq!(reason["reason"], "account_backoff", "{flags:?}: {report}");
        }
        assert_eq!(captured, 0);
    }
}

#[test]
fn fs06_and_fs28_old_servers_get_their_mail() {
    each_ends("sent", "", &[&["-P"], &["-e"], &["-8"], &["-p"], &[]], Some(LEADS));
}

#[test]
fn fs13_and_fs17_refused_for_now_or_cut_before_the_dot_is_tried_again() {
    each_ends("deferred", "temporary_refusal", &[&["-r", "RCPT"], &["-q", "DATA"]], Some(0));
}

/// It captures what it refuses then: the bodies show that the dots had come.
#[test]
fn fs15_and_fs16_a_refusal_after_the_dot_is_an_answer() {
    each_ends("deferred", "temporary_refusal", &[&["-r", "."]], Some(LEADS));
    each_ends("failed", "policy_refusal", &[&["-f", ".", "-B", "554 5.7.1 spam"]], Some(LEADS));
}

#[test]
fn fs14_an_unknown_recipient_bounces() {
    each_ends("bounced", "unknown_recipient", &[&["-f", "RCPT", "-B", "550 5.1.1 unknown"]], Some(0));
}

#[test]
fn fs18_no_answer_to_the_dot_is_unknown() {
    each_ends("held", "unknown", &[&["-q", "."]], None);
}

/// 550 right behind 354, and not a byte read of what follows.
#[test]
fn fs19_a_refusal_in_the_middle_of_the_message_is_heard() {
    each_ends("failed", "refused", &[&["-A", "0"]], Some(0));
}

#[test]
fn fs20_a_late_answer_is_waited_for() {
    each_ends("sent", "", &[&["-W", ".:1"]], Some(LEADS));
}
