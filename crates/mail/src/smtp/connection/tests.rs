//! Dialogues against a scripted server over a pipe, with the clock paused: limits cost no time.

mod hand_over;
mod tls;

use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream};

use super::*;

/// One turn of the script: wait for a line that begins so, then write this.
type Turn = (&'static str, &'static str);

/// Plays a script; after it the server stays silent until the client hangs up. All lines that came.
async fn play(stream: DuplexStream, script: Vec<Turn>, close: bool) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut seen = Vec::new();
    for (expected, answer) in script {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return seen;
            }
            let line = line.trim_end().to_owned();
            let found = line.starts_with(expected);
            seen.push(line);
            if found {
                break;
            }
        }
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
    if !close {
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
            seen.push(std::mem::take(&mut line).trim_end().to_owned());
        }
    }
    seen
}

fn over(stream: DuplexStream) -> Connection {
    Connection::new(Box::new(stream), Timeouts::default())
}

fn envelope() -> Envelope {
    Envelope { from: "ana@acme.test".into(), to: "bo@example.com".into(), needs_smtputf8: false }
}

struct Outcome {
    report: Report,
    usable: bool,
    seen: Vec<String>,
}

/// Delivers one message to a server that plays `script`.
async fn deliver(pipelining: bool, script: Vec<Turn>, close: bool, grant: bool) -> Outcome {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(play(theirs, script, close));
    let mut connection = over(ours);
    connection.capabilities.pipelining = pipelining;
    let report = connection.deliver(&envelope(), b"Subject: x\r\n\r\n.hidden\r\n", async { grant }).await;
    let usable = connection.is_usable();
    drop(connection);
    Outcome { report, usable, seen: server.await.unwrap() }
}

const OK: &str = "250 2.1.0 Ok\r\n";
const GO: &str = "354 go\r\n";

fn accepted(outcome: &Outcome) -> bool {
    matches!(&outcome.report.delivery, Delivery::Accepted(reply) if reply.code == 250)
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_with_and_without_pipelining() {
    let pipelined =
        deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "250 queued as X\r\n")], false, true).await;
    assert!(accepted(&pipelined) && pipelined.usable && pipelined.report.gate_opened);
    let single = deliver(false, vec![("MAIL", OK), ("RCPT", OK), ("DATA", GO), (".", "250\r\n")], false, true).await;
    assert!(accepted(&single), "fs24: a 250 without text");
    assert_eq!(
        single.seen,
        ["MAIL FROM:<ana@acme.test>", "RCPT TO:<bo@example.com>", "DATA", "Subject: x", "", "..hidden", "."]
    );
    assert_eq!(single.report.transcript, "mail: 250 2.1.0\nrcpt: 250 2.1.0\ndata: 354\ndot: 250\n");
}

#[tokio::test(start_paused = true)]
async fn each_step_says_how_long_it_took_and_what_came() {
    let script = vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "")];
    let silent = deliver(true, script, false, true).await;
    let steps: Vec<_> = silent.report.steps.iter().map(|step| (step.stage, step.code)).collect();
    let expected = [Some(250), Some(250), Some(354), None, None];
    let stages = [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Body, Stage::Dot];
    assert_eq!(steps, stages.into_iter().zip(expected).collect::<Vec<_>>());
    let last = silent.report.steps.last().unwrap();
    assert_eq!(last.took.as_secs(), 600, "the clock is paused: the wait is the stage's limit");
}

#[tokio::test(start_paused = true)]
async fn no_dot_is_written_while_the_gate_is_closed() {
    let pipelined = deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n")], false, false).await;
    assert_eq!(pipelined.report.delivery, Delivery::NotGranted);
    assert!(!pipelined.usable, "only closing ends DATA without a dot");
    assert_eq!(pipelined.seen.last().unwrap(), "DATA");
    let single = deliver(false, vec![("MAIL", OK), ("RCPT", OK)], false, false).await;
    assert_eq!(single.report.delivery, Delivery::NotGranted);
    assert!(single.usable && !single.seen.iter().any(|line| line == "DATA"));
}

#[tokio::test(start_paused = true)]
async fn fs31_a_refused_recipient_gets_a_lone_dot() {
    let outcome = deliver(
        true,
        vec![("DATA", "250 a\r\n550 5.1.1 no\r\n354 c\r\n"), (".", "554 no valid recipients\r\n")],
        false,
        true,
    )
    .await;
    assert!(matches!(&outcome.report.delivery, Delivery::Refused(Stage::Rcpt, reply) if reply.code == 550));
    assert_eq!(outcome.seen.last().unwrap(), ".", "nothing but the dot followed");
    assert!(outcome.usable);
}

#[tokio::test(start_paused = true)]
async fn fs13_fs15_fs16_answers_keep_their_stage() {
    let cases: [(Vec<Turn>, Stage, u16); 4] = [
        (vec![("DATA", "451 4.7.1 grey\r\n503 a\r\n503 b\r\n")], Stage::Mail, 451),
        (vec![("DATA", "250 a\r\n450 4.2.0 grey\r\n503 b\r\n")], Stage::Rcpt, 450),
        (vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "552 5.2.2 full\r\n")], Stage::Dot, 552),
        (vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "451 4.3.0 later\r\n")], Stage::Dot, 451),
    ];
    for (script, stage, code) in cases {
        let outcome = deliver(true, script, false, true).await;
        assert!(
            matches!(&outcome.report.delivery, Delivery::Refused(s, r) if (*s, r.code) == (stage, code)),
            "{:?}",
            outcome.report
        );
        assert!(outcome.usable);
    }
}

#[tokio::test(start_paused = true)]
async fn fs12_fs26_a_421_retires_the_connection() {
    let outcome = deliver(true, vec![("DATA", "421 4.3.2 bye\r\n")], true, true).await;
    assert!(matches!(&outcome.report.delivery, Delivery::Refused(Stage::Mail, reply) if reply.code == 421));
    assert!(!outcome.usable);
    let twice =
        deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "250 ok\r\n421 bye\r\n")], true, true).await;
    assert!(accepted(&twice) && !twice.usable, "two replies in one segment");
}

#[tokio::test(start_paused = true)]
async fn fs17_fs18_cuts_before_and_after_the_dot() {
    let before = deliver(true, vec![("DATA", "250 a\r\n250 b\r\n")], true, true).await;
    assert_eq!(before.report.delivery, Delivery::Failed(Stage::Data, Trouble::Closed));
    assert!(before.report.gate_opened, "the intent is recorded, and provably nothing was sent");
    let after = deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "")], true, true).await;
    assert_eq!(after.report.delivery, Delivery::Unknown(Trouble::Closed));
    assert!(!after.usable);
}

#[tokio::test(start_paused = true)]
async fn fs20_fs21_every_stage_has_its_limit() {
    let tarpit = deliver(true, vec![("DATA", "")], false, true).await;
    assert_eq!(tarpit.report.delivery, Delivery::Failed(Stage::Mail, Trouble::Timeout(Duration::from_secs(60))));
    let silent = deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "")], false, true).await;
    assert_eq!(silent.report.delivery, Delivery::Unknown(Trouble::Timeout(Duration::from_secs(600))));
}

#[tokio::test(start_paused = true)]
async fn fs27_fs35_nonsense_is_trouble_before_the_dot_and_unknown_after() {
    for answer in [
        "HTTP/1.1 400 Bad Request\r\n",
        "250-a\r\n251 b\r\n",
        "250 a\r\n250 b\r\n250 c\r\n",
        "354 a\r\n354 b\r\n354 c\r\n",
        "250 a\r\n334 b\r\n503 c\r\n",
        "550 a\r\n250 b\r\n354 c\r\n",
    ] {
        let outcome = deliver(true, vec![("DATA", answer)], false, true).await;
        assert!(
            matches!(&outcome.report.delivery, Delivery::Failed(_, Trouble::Protocol(_))),
            "{answer} {:?}",
            outcome.report
        );
        assert!(!outcome.usable);
        assert_eq!(outcome.seen.last().unwrap(), "DATA", "nothing was written after it");
    }
    for answer in ["HTTP/1.1 200 OK\r\n", "354 more?\r\n"] {
        let outcome = deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", answer)], false, true).await;
        assert!(matches!(&outcome.report.delivery, Delivery::Unknown(Trouble::Protocol(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn fs32_fs33_a_reused_connection_is_reset_and_a_dead_one_is_stale() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let script = vec![
        ("DATA", "250 a\r\n550 no\r\n503 b\r\n"),
        ("RSET", OK),
        ("DATA", "250 a\r\n250 b\r\n354 c\r\n"),
        (".", OK),
    ];
    let server = tokio::spawn(play(theirs, script, true));
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    let refused = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(matches!(refused.delivery, Delivery::Refused(Stage::Rcpt, _)));
    let second = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(matches!(second.delivery, Delivery::Accepted(_)));
    let seen = server.await.unwrap();
    assert!(seen.iter().any(|line| line == "RSET"));
    let third = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(third.stale && matches!(third.delivery, Delivery::Failed(Stage::Mail, Trouble::Closed)));
}

#[tokio::test(start_paused = true)]
async fn fs32_a_421_is_stale_on_a_reused_connection_alone() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let script = vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", OK), ("DATA", "421 4.4.2 idle too long\r\n")];
    let server = tokio::spawn(play(theirs, script, true));
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    let first = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(matches!(first.delivery, Delivery::Accepted(_)) && !first.stale);
    let second = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(matches!(&second.delivery, Delivery::Refused(Stage::Mail, reply) if reply.code == 421));
    assert!(second.stale && second.gate_opened && !connection.is_usable());
    server.await.unwrap();
    let fresh = deliver(true, vec![("DATA", "421 4.3.2 closing\r\n")], true, true).await;
    assert!(!fresh.report.stale, "the first message of a connection: the account waits");
}

#[tokio::test(start_paused = true)]
async fn fs32_no_answer_to_rset_is_stale() {
    for answer in ["", "421 4.4.2 idle too long\r\n", "554 no\r\n"] {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let _server =
            tokio::spawn(play(theirs, vec![("RCPT", "250 a\r\n550 no\r\n503 b\r\n"), ("RSET", answer)], true));
        let mut connection = over(ours);
        connection.capabilities.pipelining = true;
        connection.deliver(&envelope(), b"x\r\n", async { true }).await;
        let asked = std::sync::atomic::AtomicBool::new(false);
        let gate = async { asked.fetch_or(true, std::sync::atomic::Ordering::Relaxed) };
        let second = connection.deliver(&envelope(), b"x\r\n", gate).await;
        assert!(second.stale && matches!(second.delivery, Delivery::Failed(Stage::Rset, _)), "{second:?}");
        assert!(!asked.into_inner() && !second.gate_opened, "nobody was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_usable_connection_says_goodbye() {
    for (answer, usable) in [("250 a\r\n550 no\r\n503 b\r\n", true), ("250 a\r\n250 b\r\n354 c\r\n", false)] {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(play(theirs, vec![("DATA", answer)], false));
        let mut connection = over(ours);
        connection.capabilities.pipelining = true;
        connection.deliver(&envelope(), b"x\r\n", async { false }).await;
        assert_eq!(connection.is_usable(), usable);
        connection.quit().await;
        let said = server.await.unwrap().last().is_some_and(|line| line == "QUIT");
        assert_eq!(said, usable, "within DATA a QUIT would be part of a message");
    }
}

#[tokio::test(start_paused = true)]
async fn fs06_a_server_of_old_is_greeted_with_helo() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(play(theirs, vec![("EHLO", "502 what?\r\n"), ("HELO", "250 hello\r\n")], true));
    let mut connection = over(ours);
    connection.greet("client.example").await.unwrap();
    assert_eq!(connection.capabilities, Capabilities::default());
    assert_eq!(server.await.unwrap(), ["EHLO client.example", "HELO client.example"]);
}

#[tokio::test(start_paused = true)]
async fn fs02_fs03_fs04_greetings_that_are_none() {
    let limit = Duration::from_secs(60);
    let endless = "x".repeat(9 << 10);
    for (greeting, close, expected) in [
        ("", false, Delivery::Failed(Stage::Banner, Trouble::Timeout(limit))),
        ("", true, Delivery::Failed(Stage::Banner, Trouble::Closed)),
        (&endless, false, Delivery::Failed(Stage::Banner, Trouble::Protocol("a line without end"))),
        ("354 go\r\n", false, Delivery::Failed(Stage::Banner, Trouble::Protocol("3xx where 2xx belongs"))),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(greeting.as_bytes()).await.unwrap();
        let _kept = (!close).then_some(theirs);
        assert_eq!(over(ours).banner().await, Err(expected));
    }
    for code in [421, 554] {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(format!("{code} no service\r\n").as_bytes()).await.unwrap();
        assert!(
            matches!(over(ours).banner().await, Err(Delivery::Refused(Stage::Banner, reply)) if reply.code == code)
        );
    }
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    theirs.write_all(b"220 ****************\r\n").await.unwrap();
    assert_eq!(over(ours).banner().await, Ok(()), "fs06: a greeting that a firewall has blotted out");
}

#[tokio::test(start_paused = true)]
async fn fs09_fs11_log_ins_are_bounded_and_never_shown() {
    let credentials = Credentials { user: "ana".into(), password: "secret".into() };
    let run = async |script: Vec<Turn>, plain: bool, login: bool| {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(play(theirs, script, true));
        let mut connection = over(ours);
        connection.capabilities.auth_plain = plain;
        connection.capabilities.auth_login = login;
        let result = connection.log_in(&credentials).await;
        assert!(!connection.record.transcript.contains("c2VjcmV0") && !connection.record.transcript.contains("secret"));
        drop(connection);
        (result, server.await.unwrap())
    };
    let (good, seen) = run(vec![("AUTH PLAIN AGFuYQBzZWNyZXQ=", "235 2.7.0 ok\r\n")], true, false).await;
    assert!(good.is_ok() && seen.len() == 1);
    let (refused, _) = run(vec![("AUTH", "535 5.7.8 no\r\n")], true, false).await;
    assert!(matches!(refused, Err(Delivery::Refused(Stage::Auth, reply)) if reply.code == 535));
    let (looping, seen) =
        run(vec![("AUTH LOGIN", "334 a\r\n"), ("YW5h", "334 b\r\n"), ("c2VjcmV0", "334 c\r\n")], false, true).await;
    assert_eq!(looping, Err(Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH went astray"))));
    assert_eq!(seen.len(), 3);
    let (none, _) = run(vec![], false, false).await;
    assert_eq!(none, Err(Delivery::Failed(Stage::Auth, Trouble::NoMechanism)));
}

#[tokio::test(start_paused = true)]
async fn fs07_fs08_tls_is_not_faked() {
    for (script, expected) in [
        (vec![("STARTTLS", "220 go\r\n250 injected\r\n")], "plain text behind"),
        (vec![("STARTTLS", "454 not now\r\n")], "454"),
    ] {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let _server = tokio::spawn(play(theirs, script, false));
        let mut connection = over(ours);
        connection.capabilities.starttls = true;
        let found = format!("{:?}", connection.start_tls().await.unwrap_err());
        assert!(found.contains(expected), "{found}");
    }
    let (ours, _theirs) = tokio::io::duplex(64);
    let mut connection = over(ours);
    assert_eq!(connection.start_tls().await, Err(Delivery::Failed(Stage::StartTls, Trouble::NoStartTls)));
}
