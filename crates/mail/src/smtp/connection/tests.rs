//! Dialogues against a scripted server over a pipe, with the clock paused: limits cost no time.

mod chunking;
mod fuzz;
mod hand_over;
mod log_in;
mod opening;
mod replies;
mod reuse;
mod tls;
mod transaction;

use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream};

use super::*;

/// One turn of the script: wait for a line that begins so (`.` is the dot alone), then write this.
type Turn = (&'static str, &'static str);

/// Plays a script to its end, so that its fault has fired; then the server closes, or stays silent until the client
/// hangs up. All lines that came.
async fn play(stream: DuplexStream, script: Vec<Turn>, close: bool) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut seen = Vec::new();
    for (expected, answer) in script {
        loop {
            let mut line = String::new();
            let length = stream.read_line(&mut line).await.unwrap_or(0);
            assert!(length > 0, "the client left before `{expected}`: the fault never fired; it said {seen:?}");
            let line = line.trim_end().to_owned();
            let found = if expected == "." { line == "." } else { line.starts_with(expected) };
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

/// Three good answers to pipelined commands, with 354.
const READY: &str = "250 a\r\n250 b\r\n354 c\r\n";

/// Accepts up to 354, and answers the dot so.
fn dot(answer: &'static str) -> Vec<Turn> {
    vec![("DATA", READY), (".", answer)]
}

fn accepted(outcome: &Outcome) -> bool {
    matches!(&outcome.report.delivery, Delivery::Accepted(reply) if reply.code == 250)
}

/// Whether it was refused there, with this code.
fn refused(delivery: &Delivery, stage: Stage, code: u16) -> bool {
    matches!(delivery, Delivery::Refused(s, reply) if (*s, reply.code) == (stage, code))
}

/// How many final dots a server got.
fn dots(seen: &[String]) -> usize {
    seen.iter().filter(|line| *line == ".").count()
}

fn is_protocol_trouble(delivery: &Delivery, stage: Stage) -> bool {
    matches!(delivery, Delivery::Failed(s, Trouble::Protocol(_)) if *s == stage)
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_with_and_without_pipelining() {
    let pipelined =
        deliver(true, vec![("DATA", "250 a\r\n250 b\r\n354 c\r\n"), (".", "250 queued as X\r\n")], false, true).await;
    assert!(accepted(&pipelined) && pipelined.usable && pipelined.report.gate_opened);
    let single = deliver(false, vec![("MAIL", OK), ("RCPT", OK), ("DATA", GO), (".", "250\r\n")], false, true).await;
    assert!(accepted(&single));
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
